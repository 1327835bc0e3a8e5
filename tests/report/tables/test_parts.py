"""Reports of many runs: what counts, that a second call gives the same bytes, and that no moment leaves half a report.

The runs are tables in folders, made here; the page and the tables for papers are stood in for by a few bytes.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sam2ft.core import folders
from sam2ft.core.errors import DataError
from sam2ft.core.files import read_json, sha256_file, write_json
from sam2ft.core.tables.rows import TABLES, Row, read_csv, sort_key, write_csv
from sam2ft.report import report as report_module
from sam2ft.report.layout import ReportLayout
from sam2ft.report.request import ReportOutcome, ReportRequest, RunState
from sam2ft.report.tables import collate
from sam2ft.report.tables import folder as folder_module
from sam2ft.runs.layout import EvalLayout, RunLayout
from sam2ft.runs.plan_file import PlannedPoint, PlannedRun, Resources
from sam2ft.runs.states import State
from sam2ft.statistics.cohort import biomarker_global_rows, global_rows

EVAL = "e" * 12
REPORT = ReportLayout(Path("runs/made/report"))
RESOURCES = Resources(1, 1, 1, 8, 64.0, 2.0)
Files = dict[str, bytes]


@dataclass
class Made:
    """A run's evaluation: 2 subjects x 2 slices x 2 labels, written by `write`."""

    run: str
    seed: int = 1
    tables: dict[str, list[Row]] = field(default_factory=dict)
    folder: Path = Path("runs/made")
    dataset: str = "knee"
    subjects: tuple[str, ...] = ("A", "B")
    labels: tuple[str, ...] = ("femur", "tibia")

    def __post_init__(self) -> None:
        slices = [row for subject in self.subjects for index in (0, 1) for row in self._slice_rows(subject, index)]
        volumes = [
            self._volume(subject, label, [row for row in slices if (row["subject"], row["label"]) == (subject, label)])
            for subject in self.subjects
            for label in range(1, len(self.labels) + 1)
        ]
        self.tables = {"slice": slices, "instance": [], "volume": volumes, "global": global_rows(volumes)}

    @property
    def place(self) -> RunLayout:
        return RunLayout(self.folder / self.run)

    @property
    def evaluation(self) -> EvalLayout:
        return self.place.evaluation(EVAL)

    def write(self) -> "Made":
        """The tables and their end."""
        for name, rows in self.tables.items():
            write_csv(self.evaluation.table(name), TABLES[name], rows)
        return self.end()

    def end(self, **changes: Any) -> "Made":
        """`_SUCCESS` of the tables as they are on disk."""
        digests = {name: sha256_file(self.evaluation.table(name)) for name in self.tables}
        end = {"run": self.run, "eval": EVAL, "checkpoint_sha256": "0", "tables": digests}
        write_json(self.evaluation.success, end | changes)
        return self

    def state(self, **changes: Any) -> RunState:
        points = (PlannedPoint(f"point {self.run}", (("seed", self.seed),), EVAL),)
        planned = PlannedRun(self.seed, self.run, "train_eval", False, points, RESOURCES, RESOURCES)
        status: Any = SimpleNamespace(best_sha256="0", best_epoch=1, monitor="val_loss", mode="min", best_value=0.5)
        return replace(RunState(planned, self.place, State.DONE, "", status), **changes)

    def _stamp(self, subject: str) -> Row:
        key = {"dataset": self.dataset, "subject": subject, "volume": "t2", "split": "test", "protocol": "box"}
        return {"run": self.run, "eval": EVAL, **key}

    def _slice_rows(self, subject: str, index: int) -> Iterator[Row]:
        for label, name in enumerate(self.labels, start=1):
            tp, fp, fn = 10 * label + self.seed, index, len(subject)
            counts = {"tp": tp, "fp": fp, "fn": fn, "tn": 100 - tp - fp - fn}
            row = dict.fromkeys(TABLES["slice"].column_names()) | self._stamp(subject) | counts
            yield row | {
                "slice": index, "label": label, "label_name": name, "num_instances": 1, "status": "ok",
                "dice": 2 * tp / (2 * tp + fp + fn), "iou": tp / (tp + fp + fn),
            }  # fmt: skip

    def _volume(self, subject: str, label: int, slices: Sequence[Row]) -> Row:
        tp, fp, fn, tn = (sum(int(row[name]) for row in slices) for name in ("tp", "fp", "fn", "tn"))
        row = dict.fromkeys(TABLES["volume"].column_names()) | self._stamp(subject)
        return row | {
            "label": label, "label_name": self.labels[label - 1], "tp": tp, "fp": fp, "fn": fn, "tn": tn,
            "dice": 2 * tp / (2 * tp + fp + fn), "iou": tp / (tp + fp + fn), "num_slices": len(slices), "status": "ok",
            "dice_slice_mean": sum(row["dice"] for row in slices) / len(slices),
            "iou_slice_mean": sum(row["iou"] for row in slices) / len(slices),
        }  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and a page that costs nothing."""
    monkeypatch.chdir(tmp_path)
    page = (0, {"assets/a.svg": b"<svg>"})
    monkeypatch.setattr(report_module, "page_of", lambda gathered, papers: page)
    monkeypatch.setattr(report_module, "render_page", lambda data, program: "a page")
    monkeypatch.setattr(report_module, "PAPERS", (lambda gathered: {"methods.md": b"text"},))
    return tmp_path


def made(count: int, **changes: Any) -> list[Made]:
    return [Made(f"made-{number}", seed=number, **changes).write() for number in range(1, count + 1)]


def reported(runs: Sequence[Made | RunState], layout: ReportLayout = REPORT) -> ReportOutcome:
    states = tuple(run.state() if isinstance(run, Made) else run for run in runs)
    return report_module.report(ReportRequest("made", layout, states))


def files_of(folder: Path) -> Files:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def from_scratch(runs: Sequence[Made | RunState]) -> Files:
    layout = ReportLayout(Path("scratch/report"))
    reported(runs, layout)
    found = files_of(layout.folder)
    shutil.rmtree("scratch")
    return found


def rows(name: str) -> list[dict[str, Any]]:
    return list(read_csv(REPORT.table(name), TABLES[name]))


def runs_in(name: str) -> set[str]:
    return {row["run"] for row in rows(name)}


# A second call


def with_biomarkers(one: Made) -> Made:
    stamp = {name: one.tables["volume"][0][name] for name in ("run", "eval", "dataset", "split", "protocol")}
    kind = {"label": 1, "tissue": "femur", "instance": None, "biomarker": "t2", "definition": "mean", "unit": "ms"}
    one.tables["biomarker_volume"] = [
        {
            **stamp, **kind, "subject": subject, "volume": "t2", "reference": 40.0, "prediction": 41.0 + number,
            "difference": 1.0 + number, "n_reference": 9, "n_prediction": 9, "dz_source": "positions", "status": "ok",
        }
        for number, subject in enumerate("ABC")
    ]  # fmt: skip
    one.tables["biomarker_global"] = biomarker_global_rows(one.tables["biomarker_volume"])
    return one.write()


def with_another_column(one: Made) -> Made:
    for name in ("slice", "volume"):
        one.tables[name] = [{**row, "boundary": 0.25} for row in one.tables[name]]
    one.tables["global"] = global_rows(one.tables["volume"])
    return one.write()


def not_canonical(one: Made) -> Made:
    path = one.evaluation.table("slice")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    return one.end()


def better(one: Made) -> Made:
    return Made(one.run, seed=one.seed + 5).write()


CHANGES: dict[str, Callable[[list[Made]], list[Made]]] = {
    "nothing new": lambda runs: runs,
    "a run at the end": lambda runs: [*runs, Made("made-9", seed=9).write()],
    "a run at the beginning": lambda runs: [Made("made-0", seed=7).write(), *runs],
    "a run between others": lambda runs: [*runs, Made("made-25", seed=8).write()],
    "a run less": lambda runs: [runs[0], *runs[2:]],
    "another order": lambda runs: runs[::-1],
    "a run evaluated again": lambda runs: [runs[0], better(runs[1]), *runs[2:]],
    "a run with another column": lambda runs: [*runs[:-1], with_another_column(runs[-1])],
    "a run with biomarkers": lambda runs: [with_biomarkers(runs[0]), *runs[1:]],
    "a file with other line ends": lambda runs: [*runs[:2], not_canonical(runs[2]), *runs[3:]],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_second_call_gives_the_bytes_of_one_from_scratch(change: str) -> None:
    runs = made(4)
    reported(runs)
    runs = CHANGES[change](runs)
    reported(runs)
    found = files_of(REPORT.folder)
    assert found == from_scratch(runs)
    assert found["slice.csv"].count(b"\n") == 1 + 8 * len(runs)
    reported(made(4))
    assert files_of(REPORT.folder) == from_scratch(made(4)), "and back again"


def test_unchanged_evaluations_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    runs, read = made(4), []
    original = collate.make_part
    monkeypatch.setattr(collate, "make_part", lambda task: (read.append(task[0].run), original(task)))
    reported(runs)
    reported(runs)
    reported([*runs, Made("made-9").write()])
    reported([*runs[:3], better(runs[3])])
    assert read == ["made-1", "made-2", "made-3", "made-4", "made-9", "made-4"]


@pytest.mark.parametrize("spoil", ["other line ends", "unsorted", "longer numbers"])
def test_rows_that_a_file_holds_in_another_form_are_written_in_the_form_of_the_report(spoil: str) -> None:
    expected = from_scratch(runs := made(3))["slice.csv"]
    path = runs[1].evaluation.table("slice")
    header, *lines = path.read_bytes().splitlines(keepends=True)
    changed = {
        "other line ends": [line.replace(b"\n", b"\r\n") for line in lines],
        "unsorted": lines[::-1],
        "longer numbers": [line.replace(b",0.", b",00.") for line in lines],
    }
    path.write_bytes(header + b"".join(changed[spoil]))
    assert path.read_bytes() not in expected
    runs[1].end()
    for _ in range(2):
        reported(runs)
        assert REPORT.table("slice").read_bytes() == expected


def test_a_report_that_was_edited_is_not_copied_from() -> None:
    runs = made(3)
    reported(runs)
    whole = files_of(REPORT.folder)
    REPORT.table("slice").write_bytes(REPORT.table("slice").read_bytes().replace(b"femur", b"FEMUR"))
    reported(runs)
    assert files_of(REPORT.folder) == whole


@pytest.mark.parametrize("exchanged", [True, False])
def test_the_part_of_another_evaluation_is_not_taken_for_its_own(exchanged: bool, tmp_path: Path) -> None:
    reported(runs := made(3))
    before = files_of(REPORT.folder)
    one, other, third = sorted(REPORT.kept_parts.iterdir())
    if exchanged:
        one.rename(tmp_path / "one")
        other.rename(one)
        (tmp_path / "one").rename(other)
    else:
        shutil.rmtree(one)
        shutil.copytree(other, one)
    notes = reported(runs).problems
    assert [note for note in notes if note.startswith(f"{one}: damaged (part.json is of {other.name}")]
    assert not [note for note in notes if note.startswith(f"{third}: damaged")]
    reported(runs)
    assert files_of(REPORT.folder) == before


def test_many_evaluations_are_read_by_several_processes_and_give_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = made(4)
    expected = from_scratch(runs)
    monkeypatch.setattr(collate, "_PARTS_PER_WORKER", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    reported(runs)
    assert files_of(REPORT.folder) == expected


def cut(data: bytes) -> bytes:
    return data[:-1]


def flipped(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]


@pytest.mark.parametrize("name", ["part.json", "slice.parquet", "volume.parquet", "global.parquet"])
@pytest.mark.parametrize("damage", [lambda _: b"", cut, flipped, lambda _: b'{"tables": {}}'])
def test_a_damaged_part_is_made_again_with_a_note(name: str, damage: Callable[[bytes], bytes]) -> None:
    reported(runs := made(2))
    before = files_of(REPORT.folder)
    part = next(REPORT.kept_parts.iterdir())
    stamp = (part / name).stat()
    content = damage((part / name).read_bytes())
    (part / name).unlink()  # the report's own file is a link to it
    (part / name).write_bytes(content)
    os.utime(part / name, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    notes = reported(runs).problems
    assert [note for note in notes if note.startswith(f"{part}: damaged") and note.endswith("from the evaluation")]
    assert {n: c for n, c in files_of(REPORT.folder).items() if not n.startswith("coverage")}.items() <= before.items()
    assert not [note for note in reported(runs).problems if "damaged" in note]
    assert files_of(REPORT.folder) == before


@pytest.mark.parametrize("form", ["as the report writes it", "unsorted"])
@pytest.mark.parametrize("name", ["slice", "volume", "global"])
def test_a_table_that_changed_with_its_time_kept_is_refused(form: str, name: str) -> None:
    runs = made(2)
    path = runs[0].evaluation.table(name)
    if form == "unsorted":
        header, *lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(header + b"".join(lines[::-1]))
        runs[0].end()
    reported(runs)
    stamp = path.stat()
    data = path.read_bytes()
    place = max(data.rfind(digit) for digit in (b"1", b"3", b"5", b"7"))
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    outcome = reported(runs)
    (problem,) = [text for text in outcome.problems if str(path) in text]
    assert "was changed after the evaluation wrote it; not counted" in problem
    assert {row["run"] for row in rows("slice")} == {runs[1].run}


def test_parts_of_runs_that_went_are_removed() -> None:
    runs = made(3)
    reported(runs)
    reported(runs[:1])
    assert len(list(REPORT.kept_parts.iterdir())) == 1


def test_parquet_is_read_as_one_table_in_the_order_of_the_csv() -> None:
    import pandas
    import pyarrow.parquet

    runs = made(3)
    runs[2] = with_another_column(runs[2])
    reported(runs)
    for name in ("slice", "volume", "global", "instance"):
        table = pyarrow.parquet.read_table(REPORT.parquet(name))
        assert table.to_pylist() == rows(name), name
        assert list(pandas.read_parquet(REPORT.parquet(name)).columns) == table.column_names
    assert [row["boundary"] for row in rows("slice")] == [None] * 16 + [0.25] * 8


# Killed


class Moments:
    """The files of a folder at every moment at which a process could be killed."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.folder, self.states = folder, list[tuple[str, Files]]()
        fsync, exchange, rmtree, link = os.fsync, folders.exchange, shutil.rmtree, os.link
        patched: list[tuple[Any, str, Callable[..., Any]]] = [
            (Path, "replace", Path.replace), (Path, "rename", Path.rename), (Path, "unlink", Path.unlink),
            (Path, "mkdir", Path.mkdir), (folders, "exchange", exchange), (shutil, "rmtree", rmtree),
            (os, "link", link),
        ]  # fmt: skip
        for owner, name, original in patched:
            monkeypatch.setattr(owner, name, self._around(name, original))
        monkeypatch.setattr(os, "fsync", lambda descriptor: (self("before a sync"), fsync(descriptor)))

    def _around(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*arguments: Any, **options: Any) -> Any:
            self(f"before {name} of {arguments[0]}")
            result = original(*arguments, **options)
            self(f"after {name} of {arguments[0]}")
            return result

        return changed

    def __call__(self, moment: str) -> None:
        files = files_of(self.folder)
        if not self.states or self.states[-1][1] != files:
            self.states.append((moment, files))
            half = {name: data[: len(data) // 2] for name, data in files.items() if ".partial" in name}
            if half:
                self.states.append((f"half written, {moment}", files | half))


def put_back(files: Files, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


@pytest.mark.parametrize(
    ("can_exchange", "every"),
    [(True, 8), (False, 8), *(pytest.param(can, 1, marks=pytest.mark.slow) for can in (True, False))],
)
def test_a_report_is_whole_at_every_moment_at_which_its_aggregation_could_be_killed(
    monkeypatch: pytest.MonkeyPatch, can_exchange: bool, every: int
) -> None:
    """Also: from every such moment (or from every eighth) the next call ends with the same bytes."""
    runs = made(2)
    reported(runs)
    (REPORT.folder / "notes.txt").write_text("mine")
    old = files_of(REPORT.folder)
    runs.append(with_biomarkers(Made("made-15")))
    new = from_scratch(runs) | {"notes.txt": b"mine"}
    with pytest.MonkeyPatch.context() as patch:
        if not can_exchange:
            patch.setattr(folders, "exchange", lambda first, second: False)
        moments = Moments(Path("runs/made"), patch)
        reported(runs)
    assert files_of(REPORT.folder) == new
    assert len(moments.states) > 50
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    switched = 0
    for number, (moment, files) in enumerate(moments.states):
        there = {name.removeprefix("report/"): data for name, data in files.items() if name.startswith("report/")}
        if can_exchange:
            assert there in (old, new), moment
        else:
            assert there in (old, new, {}), moment
        switched += there == new
        if number % every:
            continue
        put_back(files, Path("runs/made"))
        reported(runs)
        assert files_of(REPORT.folder) == new, moment
        left = [path.name for path in REPORT.work.rglob("*") if "partial" in path.name or "new-" in path.name]
        assert not left, moment
    assert 0 < switched < len(moments.states)


def test_where_folders_cannot_be_exchanged_the_old_report_is_put_back_after_a_kill(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reported(runs := made(1))
    before = files_of(REPORT.folder)
    REPORT.folder.rename(REPORT.work / "old")
    folders.recover_folder(REPORT.folder, REPORT.work)
    assert files_of(REPORT.folder) == before
    assert runs


def test_an_error_while_the_page_is_made_leaves_the_report_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    reported(made(1))
    before = files_of(REPORT.folder)

    def fail(data: Any, program: Any) -> str:
        raise ValueError("no page")

    monkeypatch.setattr(report_module, "render_page", fail)
    with pytest.raises(ValueError, match="no page"):
        reported(made(2))
    assert files_of(REPORT.folder) == before
    assert {path.name for path in REPORT.work.iterdir()} <= {"lock", "parts"}


# Two at once


HOLD = """
import sys, time
from pathlib import Path
from sam2ft.report.layout import ReportLayout
from sam2ft.report.tables.folder import next_report
with next_report(ReportLayout(Path("runs/made/report"))) as new:
    (new.folder / "half.csv").write_text("half")
    print("held", flush=True)
    time.sleep(float(sys.argv[1]))
    (new.folder / "coverage.json").write_text("of the other")
"""


def holding(seconds: float) -> subprocess.Popen[str]:
    root = str(Path(folder_module.__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_aggregation_waits_for_the_first_and_wins(capsys: pytest.CaptureFixture[str]) -> None:
    first = holding(1.0)
    reported(made(1))
    assert first.wait(timeout=20) == 0
    assert "another aggregation is running; waiting" in capsys.readouterr().err
    assert read_json(REPORT.coverage)["planned"] == 1


def test_an_aggregation_that_was_killed_holds_up_nobody() -> None:
    first = holding(600.0)
    first.kill()
    first.wait()
    started = time.monotonic()
    reported(made(1))
    assert time.monotonic() - started < 60
    assert not (REPORT.folder / "half.csv").exists()
    assert not list(REPORT.work.glob("new-*"))


# What counts


def damaged(one: Made) -> None:
    path = one.evaluation.table("slice")
    path.write_bytes(path.read_bytes().replace(b",ok", b",ko", 1))


def without_table(one: Made) -> None:
    one.evaluation.table("volume").unlink()


def half_written_end(one: Made) -> None:
    one.evaluation.success.write_text('{"run": "made-2", "ev')


def end_of_something_else(one: Made) -> None:
    write_json(one.evaluation.success, ["not", "ours"])


def never_ended(one: Made) -> None:
    one.evaluation.success.unlink()


def copied_folder(one: Made) -> None:
    one.end(run="made-7")


def other_weights(one: Made) -> None:
    one.end(checkpoint_sha256="1")


def older_columns(one: Made) -> None:
    path = one.evaluation.table("volume")
    path.write_text(path.read_text().replace("num_slices", "slices"))
    one.end()


def unknown_columns(one: Made) -> None:
    rows = [{**row, "author": 1.0} for row in one.tables["global"]]
    write_csv(one.evaluation.table("global"), replace(TABLES["global"], extensible=True), rows)
    one.end()


def rows_of_another_run(one: Made) -> None:
    one.tables["slice"] = [{**row, "run": "made-1"} for row in one.tables["slice"]]
    one.write()


def a_row_twice(one: Made) -> None:
    path = one.evaluation.table("slice")
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")
    one.end()


def other_sums(one: Made) -> None:
    one.tables["volume"][0] = {**one.tables["volume"][0], "fp": 50}
    one.write()


def no_slices(one: Made) -> None:
    one.tables["slice"] = []
    one.write()


def words_for_numbers(one: Made) -> None:
    path = one.evaluation.table("slice")
    path.write_text(path.read_text().replace(",ok", ",fine", 1).replace(",0,1,", ",zero,1,", 1))
    one.end()


REFUSED: dict[str, tuple[Callable[[Made], None], str]] = {
    "a table was changed": (damaged, "slice.csv was changed after the evaluation wrote it"),
    "a table is missing": (without_table, "volume.csv is missing"),
    "_SUCCESS is half written": (half_written_end, "_SUCCESS: not a JSON file"),
    "_SUCCESS is not ours": (end_of_something_else, "was not written by an evaluation of sam2ft"),
    "no _SUCCESS": (never_ended, "did not finish"),
    "a copied folder": (copied_folder, "holds evaluation eeeeeeeeeeee of made-7, expected eeeeeeeeeeee of made-2"),
    "earlier weights": (other_weights, "was made with earlier weights"),
    "a column is missing": (older_columns, "volume.csv: no column num_slices; it was written by another version"),
    "a column too many": (unknown_columns, "column author is not allowed in global.csv"),
    "rows of another run": (rows_of_another_run, "holds rows of run made-1"),
    "a row twice": (a_row_twice, "slice.csv holds two rows for run made-2"),
    "sums that disagree": (other_sums, "fp is 50, its slice rows give 1"),
    "no slice rows": (no_slices, "has no rows in slice.csv"),
    "a word in a number's place": (words_for_numbers, "zero"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_evaluation_that_cannot_be_trusted_is_named_with_its_remedy_and_the_rest_is_reported(case: str) -> None:
    spoil, words = REFUSED[case]
    runs = made(3)
    spoil(runs[1])
    outcome = reported(runs)
    (problem,) = outcome.problems
    assert problem.startswith("point made-2: ")
    assert words in problem
    assert "not counted" in problem
    assert "run launch/sweep.py on the experiment again" in problem
    for name in ("slice", "volume", "global"):
        assert runs_in(name) == {"made-1", "made-3"}
    coverage = read_json(REPORT.coverage)
    assert (coverage["done"], coverage["missing"], coverage["complete"]) == (2, 1, False)
    assert [run["state"] for run in coverage["runs"]] == ["done", "uncounted", "done"]
    assert reported(runs).problems == outcome.problems, "also when it is remembered"
    runs[1] = Made("made-2", seed=2).write()
    assert reported(runs).problems == ()


def test_an_evaluation_that_is_made_anew_meanwhile_is_an_error_and_no_mixture(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = made(2)
    reported(runs)
    before = files_of(REPORT.folder)
    original = collate._write_csv

    def write_csv(name: str, *others: Any) -> None:
        if name == "slice":
            better(runs[1])
        original(name, *others)

    monkeypatch.setattr(collate, "_write_csv", write_csv)
    with pytest.raises(DataError, match=r"made-2/eval/eeeeeeeeeeee: changed while it was read; aggregate again"):
        reported(runs)
    assert files_of(REPORT.folder) == before
    monkeypatch.setattr(collate, "_write_csv", original)
    assert reported(runs).problems == ()
    assert files_of(REPORT.folder) != before


def test_two_runs_of_one_id_with_different_content_are_named_with_both_places_and_none_counts() -> None:
    runs = made(2)
    other = Made("made-2", seed=5, folder=Path("runs/copies")).write()
    (problem,) = reported([*runs, other]).problems
    assert "run made-2, evaluation eeeeeeeeeeee exists with different content" in problem
    assert f"{other.evaluation.folder} and {runs[1].evaluation.folder}; not counted" in problem
    assert len(read_json(REPORT.coverage)["runs"]) == 2
    assert runs_in("slice") == {"made-1"}


def test_a_run_that_is_there_twice_with_equal_content_counts_once() -> None:
    runs = made(2)
    shutil.copytree("runs/made/made-2", "runs/copies/made-2")
    twin = replace(runs[1], folder=Path("runs/copies"))
    (note,) = reported([*runs, twin]).problems
    assert "exists 2 times" in note
    assert len(rows("slice")) == 16


def test_numbers_over_subjects_that_are_not_those_of_the_volumes_are_computed_again() -> None:
    runs = made(2)
    runs[1].tables["global"] = [{**row, "mean": 0.99} for row in runs[1].tables["global"]]
    runs[1].write()
    (note,) = reported(runs).problems
    assert "global.csv does not match volume.csv; it was computed again" in note
    computed = sorted(global_rows(runs[1].tables["volume"]), key=lambda row: sort_key(TABLES["global"], row))
    assert [row for row in rows("global") if row["run"] == "made-2"] == computed


def test_a_run_without_any_value_is_named_and_there() -> None:
    runs = made(2)
    nothing = dict.fromkeys(("dice", "iou", "dice_slice_mean", "iou_slice_mean"))
    for name in ("slice", "volume"):
        runs[1].tables[name] = [
            {**row, **{key: None for key in nothing if key in row}, "tp": 0, "fp": 0, "fn": 0, "status": "absent"}
            | {"tn": 200 if name == "volume" else 100}
            for row in runs[1].tables[name]
        ]
    runs[1].tables["global"] = global_rows(runs[1].tables["volume"])
    runs[1].write()
    (note,) = reported(runs).problems
    assert "has no value of any label" in note
    assert runs_in("slice") == {"made-1", "made-2"}


def test_runs_of_different_data_or_labels_are_named_and_all_reported() -> None:
    runs = [
        Made("made-1").write(), Made("made-2", dataset="spine", labels=("L1", "L2")).write(),
        Made("made-3", labels=("tibia", "femur")).write(),
    ]  # fmt: skip
    data, labels = reported(runs).problems
    assert "different data" in data
    assert "point made-1, point made-3 on knee test; point made-2 on spine test" in data
    assert "knee: runs were evaluated with different label tables" in labels
    assert "point made-1 with 1 femur, 2 tibia; point made-3 with 1 tibia, 2 femur" in labels
    assert runs_in("slice") == {"made-1", "made-2", "made-3"}


def test_no_finished_run_gives_headers_and_says_so() -> None:
    waiting = [Made(f"made-{number}", seed=number).state(state=State.QUEUED, status=None) for number in (1, 2)]
    outcome = reported(waiting)
    assert outcome.coverage.sentence() == "2 planned: 2 missing"
    assert {name: rows(name) for name in ("slice", "volume", "global")} == {"slice": [], "volume": [], "global": []}
    with pytest.raises(DataError, match="no planned run"):
        reported([])


def test_coverage_says_how_runs_failed_and_what_they_cost() -> None:
    runs = made(4)
    states = [
        runs[0].state(gpu_hours_planned=2.0, gpu_hours_used=0.5),
        runs[1].state(state=State.FAILED, failure_class="oom", gpu_hours_planned=2.0, gpu_hours_used=0.25),
        runs[2].state(state=State.FAILED, failure_class="timeout", gpu_hours_planned=2.0),
        runs[3].state(state=State.TRAINING, gpu_hours_planned=2.0),
    ]
    reported(states)
    coverage = read_json(REPORT.coverage)
    assert coverage["failed_classes"] == {"oom": 1, "timeout": 1}
    assert (coverage["gpu_hours_planned"], coverage["gpu_hours_used"]) == (8.0, 0.75)
    assert [run["gpu_hours_used"] for run in coverage["runs"]] == [0.5, 0.25, None, None]
    assert [run["class"] for run in coverage["runs"]] == [None, "oom", "timeout", None]


# Folders and names


def test_what_people_put_into_the_report_stays_and_what_aggregation_put_there_does_not() -> None:
    reported(made(1))
    (REPORT.folder / "notes").mkdir()
    (REPORT.folder / "notes" / "talk.txt").write_text("mine")
    for name in ("biomarker_volume.csv", "assets/old.png"):
        (REPORT.folder / name).write_text("old")
    (REPORT.folder / "methods.md").write_text("an edited text is one of ours")
    reported(made(1))
    assert (REPORT.folder / "notes" / "talk.txt").read_text() == "mine"
    assert (REPORT.folder / "methods.md").read_text() == "text"
    assert not (REPORT.folder / "biomarker_volume.csv").exists()
    assert not (REPORT.folder / "assets" / "old.png").exists()


HOSTILE = "=cmd|' /C calc'!A0", "<img src=x onerror=alert(1)>", "../../etc", '"quoted", and\nbroken', "@SUM(1)"


def test_hostile_names_are_data_in_tables_and_no_part_of_a_path(here: Path) -> None:
    import pyarrow.parquet

    before = set(files_of(here))
    one = Made("made-1", subjects=HOSTILE[:3], labels=HOSTILE[3:]).write()
    reported([one])
    for name in ("slice", "volume"):
        assert {row["subject"] for row in rows(name)} == set(HOSTILE[:3])
        assert {row["label_name"] for row in rows(name)} == set(HOSTILE[3:])
        assert pyarrow.parquet.read_table(REPORT.parquet(name)).to_pylist() == rows(name)
    names = {name for name in files_of(here) if name not in before}
    assert all(name.startswith(("runs/made/report/", "runs/made/.report/", "runs/made/made-1/")) for name in names)
    assert not [name for name in names if "etc" in name or "cmd" in name]


@pytest.mark.parametrize("having", [(), (1,), (0, 2), (0, 1, 2)])
def test_evaluations_with_and_without_specks_are_reported_together(having: tuple[int, ...]) -> None:
    """volume.csv of 0.1.0 lacks num_specks: its cells are empty beside new ones, and nothing is averaged."""
    runs = made(3)
    for number in having:
        runs[number].tables["volume"] = [{**row, "num_specks": number} for row in runs[number].tables["volume"]]
        runs[number].write()
    assert reported(runs).problems == ()
    header = REPORT.table("volume").read_text().splitlines()[0]
    assert header.endswith(",num_specks") == bool(having)
    expected = {f"made-{number + 1}": number if number in having else None for number in range(3)}
    assert {row["run"]: row.get("num_specks") for row in rows("volume")} == expected
    assert "num_specks" not in {row["measure"] for row in rows("global")}
    assert files_of(REPORT.folder) == from_scratch(runs)


def with_biomarker(one: Made, biomarker: str, **end: Any) -> Made:
    rows = [
        dict.fromkeys(TABLES["biomarker_volume"].column_names())
        | one._stamp(subject)
        | {"label": 1, "tissue": "femur", "biomarker": biomarker, "definition": "height", "unit": "mm", "status": "ok"}
        | {"dz_source": "positions", "reference": 8.0, "prediction": 8.5, "difference": 0.5}
        for subject in one.subjects
    ]
    one.tables["biomarker_volume"] = rows
    one.tables["biomarker_global"] = biomarker_global_rows(rows)
    one.write()
    return one.end(**end)


@pytest.mark.parametrize("newest", [2, 3])
def test_two_definitions_of_a_metric_are_never_reported_together(newest: int) -> None:
    """The earlier one is named with its remedy; without a later one, old evaluations count as they did."""
    runs = [with_biomarker(Made("made-1", seed=1), "tissueheight"), Made("made-2", seed=2).write()]
    assert reported(runs).problems == ()
    runs.append(with_biomarker(Made("made-3", seed=3), "tissueheight", metric_versions={"tissueheight": newest}))
    (problem,) = reported(runs).problems
    assert problem.startswith("point made-1: tissueheight was measured by version 1 of its definition, by others by")
    assert f"by version {newest}: values are not comparable; not counted; remove" in problem
    assert runs_in("volume") == {"made-2", "made-3"}
    runs[0].end(metric_versions={"tissueheight": newest})
    assert reported(runs).problems == ()


def test_versions_of_metrics_that_were_not_measured_do_not_matter() -> None:
    runs = [with_biomarker(Made("made-1", seed=1), "tissuevolume"), Made("made-2", seed=2).write()]
    runs[1].end(metric_versions={"tissueheight": 2})
    assert reported(runs).problems == ()


def test_values_of_few_valid_voxels_are_a_notice() -> None:
    one = with_biomarker(Made("made-1", seed=1), "t2")
    shares = [
        {**row, "definition": "valid_share", "unit": "1", "reference": 0.95, "prediction": 0.5}
        for row in one.tables["biomarker_volume"]
    ]
    one.tables["biomarker_volume"] = [*one.tables["biomarker_volume"], *shares]
    one.tables["biomarker_global"] = biomarker_global_rows(one.tables["biomarker_volume"])
    text = "t2 of femur: valid_share below 0.9 in 2 of 2 volumes, lowest 0.50: values are of the valid rest"
    assert reported([one.write()]).problems == (f"point made-1: {text}",)
