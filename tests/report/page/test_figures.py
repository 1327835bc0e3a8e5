"""Files of plots are drawn once; pictures have names that no subject can choose."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sam2ft.core.files import read_json, sha256_file, sha256_text, write_json
from sam2ft.report.layout import ReportLayout
from sam2ft.report.page import figures
from sam2ft.report.page.cases import MOST_OF_ANOTHER, cases_of
from sam2ft.report.page.figures import cached_page_program, figure_files
from sam2ft.report.plots import files
from sam2ft.report.plots.files import PROGRAM_OF, PROGRAM_SHA256, page_program
from sam2ft.report.plots.results import learning_plot
from sam2ft.report.plots.vega import Plot
from sam2ft.report.request import RunState
from sam2ft.runs.layout import RunLayout
from sam2ft.runs.plan_file import PlannedPoint, PlannedRun, Resources
from sam2ft.runs.states import State

HOSTILE = "../../etc"


def plot_of(*losses: float) -> Plot:
    plot = learning_plot({"one": [{"epoch": at, "val_loss": loss} for at, loss in enumerate(losses)]})
    assert plot is not None
    return plot


def put(layout: ReportLayout, files: dict[str, bytes | Path]) -> None:
    for name, content in files.items():
        path = layout.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.read_bytes() if isinstance(content, Path) else content)


def test_a_plot_that_did_not_change_is_not_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout, drawn = ReportLayout(tmp_path), []
    draw = figures.plot_files
    monkeypatch.setattr(figures, "plot_files", lambda plot: (drawn.append(plot.name), draw(plot))[1])
    put(layout, figure_files([plot_of(1.0, 0.5)], layout))
    again = figure_files([plot_of(1.0, 0.5)], layout)
    assert drawn == ["learning"]
    assert again["figures/learning.svg"] == layout.figures / "learning.svg"
    figure_files([plot_of(1.0, 0.4)], layout)
    (layout.figures / "learning.pdf").unlink()
    figure_files([plot_of(1.0, 0.5)], layout)
    assert drawn == ["learning"] * 3


def pictures(found: dict[str, bytes | Path]) -> tuple[object, object]:
    """SVG and PNG; the PDF of equal plots has parts in the order of a random hash."""
    return found["figures/learning.svg"], found["figures/learning.png"]


def planted_script(folder: Path) -> None:
    """A script in the place of the picture, with everything that a copied digest can give it."""
    hostile = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    (folder / "learning.svg").write_bytes(hostile)


@pytest.mark.parametrize("suffix", ["svg", "pdf", "png"])
def test_a_figure_that_was_changed_is_drawn_again(tmp_path: Path, suffix: str) -> None:
    layout = ReportLayout(tmp_path)
    put(layout, first := figure_files([plot_of(1.0, 0.5)], layout))
    with (layout.figures / f"learning.{suffix}").open("ab") as stream:
        stream.write(b"<script>alert(1)</script>")
    assert pictures(figure_files([plot_of(1.0, 0.5)], layout)) == pictures(first)


@pytest.mark.parametrize("what", ["figures/learning.svg", "figures/digests.json", "figures"])
def test_a_figure_that_others_could_have_written_is_drawn_again(tmp_path: Path, what: str) -> None:
    """The digest fits: who can write the picture can write its digest."""
    layout = ReportLayout(tmp_path)
    put(layout, first := figure_files([plot_of(1.0, 0.5)], layout))
    planted_script(layout.figures)
    digests = read_json(layout.folder / figures.DIGESTS)
    digests["learning"]["svg"] = sha256_file(layout.figures / "learning.svg")
    write_json(layout.folder / figures.DIGESTS, digests)
    assert figure_files([plot_of(1.0, 0.5)], layout)["figures/learning.svg"] == layout.figures / "learning.svg"
    (layout.folder / what).chmod(0o777)
    assert pictures(figure_files([plot_of(1.0, 0.5)], layout)) == pictures(first)


@pytest.mark.parametrize("before", ['{"learning": "0123"}', "[]", '{"learning": {"plot": 3}}', "{", ""])
def test_digests_of_earlier_versions_and_damaged_ones_only_mean_that_figures_are_drawn(
    tmp_path: Path, before: str
) -> None:
    layout = ReportLayout(tmp_path)
    put(layout, first := figure_files([plot_of(1.0, 0.5)], layout))
    (layout.folder / figures.DIGESTS).write_text(before)
    assert pictures(figure_files([plot_of(1.0, 0.5)], layout)) == pictures(first)


def test_the_program_of_the_page_is_put_together_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vega-0123456789abcdef.js").write_text("of another version")
    first = cached_page_program(tmp_path)
    monkeypatch.setattr(figures, "page_program", lambda: pytest.fail("made again"))
    assert cached_page_program(tmp_path) == first
    assert "sam2ftEmbed" in first
    assert [path.name for path in tmp_path.iterdir()] == [f"vega-{PROGRAM_SHA256[:16]}.js"]


def test_the_digest_in_the_package_is_that_of_the_program() -> None:
    """After a change of the program, or of the pinned vl-convert, both constants have to follow."""
    assert (version("vl-convert-python"), sha256_text(page_program())) == (PROGRAM_OF, PROGRAM_SHA256)


PLANTED = {
    "another program": lambda _: b"alert(1)",
    "one that ends with the right one": lambda good: b"alert(1);\n" + good,
    "one bit": lambda good: good[:1000] + bytes([good[1000] ^ 1]) + good[1001:],
    "cut off": lambda good: good[:-1],
    "not text": lambda _: b"\xff\xfe",
    "empty": lambda _: b"",
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_script_never_gets_into_the_page(tmp_path: Path, kind: str) -> None:
    good = cached_page_program(tmp_path)
    (path,) = tmp_path.glob("vega-*.js")
    # Every name that a version of sam2ft ever looked for, and any other one.
    for name in (path.name, "vega-0123456789abcdef.js", "vega-.js", "vega.js"):
        (tmp_path / name).write_bytes(PLANTED[kind](good.encode()))
    assert cached_page_program(tmp_path) == good == page_program()
    assert path.read_text("utf-8") == good


def test_with_another_version_of_the_library_no_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "version", lambda _: "1.10.0")
    for name in (f"vega-{PROGRAM_SHA256[:16]}.js", "vega-None.js"):
        (tmp_path / name).write_text("alert(1)")
    assert cached_page_program(tmp_path) == page_program()


def state(folder: Path, index: int, pictures: int) -> RunState:
    """A run with QC pictures of a subject whose name is a path."""
    run_id = f"toy-{index:016x}"
    layout = RunLayout(folder / run_id)
    qc = layout.evaluation("e" * 12).qc
    qc.mkdir(parents=True)
    label = {"label": 1, "name": HOSTILE, "dice": 0.25, "status": "ok"}
    told = {"slice": f"knee/{HOSTILE}/v slice 3", "subject": HOSTILE, "why": "worst", "dice": 0.25, "labels": [label]}
    entries: list[dict[str, Any]] = [{"file": "label-1.png", "caption": "sheet"}]
    entries += [{"file": f"{number:03d}.png", "caption": HOSTILE, **told} for number in range(pictures)]
    write_json(qc / "index.json", entries)
    for entry in entries:
        Image.new("L", (30, 20)).save(qc / entry["file"])
    points = (PlannedPoint(f"point {index}", (), "e" * 12),)
    asked = Resources(nodes=1, tasks_per_node=1, gpus_per_node=0, cpus_per_task=1, mem_gb=1, hours=1)
    planned = PlannedRun(index, run_id, "train_eval", False, points, asked, asked)
    return RunState(planned, layout, State.DONE, "", None)


def test_the_shown_run_has_all_of_its_pictures_the_others_their_first(tmp_path: Path) -> None:
    states = [state(tmp_path, index, 20) for index in range(3)]
    assets: dict[str, bytes | Path] = {}
    cases, sheets = cases_of(states, states[1].planned.run_id, assets)
    runs = [case.run for case in cases]
    assert runs[:20] == [states[1].planned.run_id] * 20
    assert [runs.count(one.planned.run_id) for one in states] == [MOST_OF_ANOTHER, 20, MOST_OF_ANOTHER]
    assert (len(sheets), cases[0].subject, cases[0].labels[0].name) == (1, HOSTILE, HOSTILE)
    assert all(".." not in name and name.startswith("assets/toy-") for name in assets)


def test_a_picture_is_looked_for_in_its_evaluation_alone(tmp_path: Path) -> None:
    one = state(tmp_path, 0, 0)
    qc = one.layout.evaluation("e" * 12).qc
    write_json(qc / "index.json", [{"file": "../../../../secret.png", "caption": "x"}])
    Image.new("L", (30, 20)).save(qc / "secret.png")
    assets: dict[str, bytes | Path] = {}
    (case,), _ = cases_of([one], one.planned.run_id, assets)
    assert assets == {case.picture.path: qc / "secret.png"}
    assert (case.where, case.picture.size) == ("x", (30, 20))


def test_pictures_that_were_removed_or_are_damaged_are_left_out(tmp_path: Path) -> None:
    one = state(tmp_path, 0, 3)
    qc = one.layout.evaluation("e" * 12).qc
    (qc / "label-1.png").unlink()
    (qc / "000.png").unlink()
    (qc / "001.png").write_bytes(b"not a picture")
    assets: dict[str, bytes | Path] = {}
    cases, sheets = cases_of([one], one.planned.run_id, assets)
    assert ([case.picture.path for case in cases], sheets) == (list(assets), ())
    assert list(assets.values()) == [qc / "002.png"]


@pytest.mark.parametrize("name", ["000.html", "000.svg", "000.PNG", "000"])
def test_a_picture_with_the_name_of_a_page_is_left_out(tmp_path: Path, name: str) -> None:
    """The page links to it, and what follows the picture in the file would run."""
    one = state(tmp_path, 0, 1)
    qc = one.layout.evaluation("e" * 12).qc
    (qc / name).write_bytes((qc / "000.png").read_bytes() + b"<script>alert(1)</script>")
    write_json(qc / "index.json", [{"file": name, "caption": "x"}])
    assets: dict[str, bytes | Path] = {}
    assert cases_of([one], one.planned.run_id, assets) == ((), ())
    assert assets == {}
