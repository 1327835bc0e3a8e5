"""Pages of generated sweeps."""

import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sam2ft.core.tables.rows import TABLES
from sam2ft.evaluation.outputs.volume_slices import jpeg
from sam2ft.pictures.overlay import overlay_svg
from sam2ft.pictures.palette import colour_of
from sam2ft.report.comparison.compare import ComparedEvaluation, PointRun, compare
from sam2ft.report.comparison.improvement import Improvement
from sam2ft.report.comparison.misses import Failures, LabelFailures, Misses, NewMisses
from sam2ft.report.comparison.point_tests import PointValues, point_test_rows
from sam2ft.report.comparison.rank_study import rank_study
from sam2ft.report.page.content import (
    AgreementSection,
    CaseLabel,
    DataLine,
    Facts,
    Picture,
    ReportData,
    SliceCase,
    SubjectScores,
    SubjectSummary,
    agreement_sections,
    label_scores,
    label_sections,
    statistics_section,
)
from sam2ft.report.page.first_screen import first_screen
from sam2ft.report.page.html import render_page, render_subject
from sam2ft.report.page.point_facts import Cost, SettingDifference, SettingDifferences
from sam2ft.report.page.subjects import SubjectCell, SubjectLine, SubjectPage
from sam2ft.report.page.volumes import ShownLabel, ShownSlice, ShownVolume
from sam2ft.report.plots.agreement_plots import agreement_plots
from sam2ft.report.plots.files import plot_files
from sam2ft.report.plots.page_plots import PlotInput, page_plots
from sam2ft.report.tables.coverage import Coverage, CoveredRun
from sam2ft.runs.states import FailureClass, State
from sam2ft.statistics.agreement import agreement

LABELS = ("femoral cartilage", "medial tibial cartilage", "lateral tibial cartilage", "patellar cartilage", "meniscus")
MEASURES = ("dice_slice_mean", "dice", "iou_slice_mean", "iou")
STAMP = {"eval": "e" * 12, "dataset": "knee", "split": "test", "protocol": "box"}
SUBJECTS = 24
MOST_TESTED = 20
"""Of so many points each test is computed; of a larger sweep there are ranks alone."""
FAILED = {7: (3, "spurious"), 9: (3, "missed"), 11: (5, "missed")}
"""Number of a picture -> the label that failed on its slice, and how."""


@pytest.fixture(scope="module", name="sweep")
def sweep_of(chromium: Any) -> Any:
    """`write_sweep`, where there is a browser to open its pages in."""
    return write_sweep


def write_sweep(folder: Path, points: int, *, hostile: str = "") -> Path:
    """Write the page of a generated sweep with everything that lies beside it; `hostile` is put into every name."""
    draw = random.Random(points)
    runs = [_point(index, hostile, draw) for index in range(points)]
    baseline = PointRun(None, "baseline", "base")
    rows = [row for run in [baseline, *runs] for row in _global_rows(run, hostile, draw)]
    comparison = compare([baseline, *runs], rows)
    best = comparison.best or "base"
    improved = _improvements(rows, best, hostile)
    misses = _misses(best, hostile)
    name = next(run.name for run in runs if run.run == best)
    sections = label_sections(name, best, rows, "base", misses, improved)
    names = {run.run: run.name for run in (baseline, *runs)}
    roles = {"base": "baseline", best: "best"}
    histories = {run.name: _history(draw) for run in runs if run.state == "done"}
    cases = _cases(folder, [next(run for run in runs if run.run == best), baseline, *runs], hostile, draw)
    values = _point_values([baseline, *runs], draw)
    tests = point_test_rows(comparison, values) if points <= MOST_TESTED else []
    pages = [_subject_page(number, runs, cases, hostile, draw) for number in range(3)]
    labels = label_scores(names, roles, rows, sections[0].evaluation)
    subjects = [*_subjects(best, "best", hostile, draw), *_subjects("base", "baseline", hostile, draw)]
    data = ReportData(
        experiment=f"knee_sweep{hostile}",
        description=f"learning rates, weight decays and what trains{hostile}",
        generated="2026-01-02 03:04 UTC",
        coverage=Coverage(tuple(_planned(run) for run in (baseline, *runs))),
        comparison=comparison,
        first=replace(
            first_screen(comparison, best, None, cases, misses, improved),
            data=(DataLine(f"knee{hostile}", f"knee phantom{hostile}", (("train", 12, 70), ("test", 24, 24))),),
        ),
        misses=misses,
        improvements=improved,
        facts=_facts(hostile),
        labels=sections,
        plots_of=page_plots(
            PlotInput(
                comparison, tests, labels, subjects, histories, ranks=rank_study(values), slices=_slices(hostile, draw)
            )
        ),
        statistics=statistics_section(comparison, tests),
        agreement=(_agreement(best, hostile, draw),),
        cases=cases,
        volumes=_volumes(folder, hostile),
        failures=tuple(_failed(run, hostile) for run in runs if run.state == "failed"),
        problems=(f"point {hostile}: volume.csv is cut off; not counted",) if hostile else (),
        costs={run.run: Cost(40.0 * run.index, 20, 0.3) for run in runs if run.index and run.state == "done"},
        differences=SettingDifferences(points, (), tuple(_differences(hostile))),
        subjects=tuple(
            SubjectSummary(one.subject, one.path, 0.8, 0.85, one.failed("best"), len(one.cases)) for one in pages
        ),
        methods=f"SAM 2 was fine-tuned [@ravi2024].{hostile}\n\nA second paragraph.",
        files=(("compare.csv", "one line per point"), ("global.csv", "per label and measure, over subjects")),
    )  # fmt: skip
    (folder / "subjects").mkdir()
    for one in pages:
        (folder / one.path).write_text(render_subject(one, data.generated, pages[0], pages[-1]), encoding="utf-8")
    for name, _ in data.files:
        (folder / name).write_text("a,b\n")
    (folder / "figures").mkdir()
    for plot in data.plots:
        for suffix, content in plot_files(plot).items():
            (folder / "figures" / f"{plot.name}.{suffix}").write_bytes(content)
    page = folder / "index.html"
    page.write_text(render_page(data), encoding="utf-8")
    return page


def _point(index: int, hostile: str, draw: random.Random) -> PointRun:
    overrides = (
        ("module.optimizer.lr", 10 ** draw.uniform(-5, -2)),
        ("module.optimizer.weight_decay", (0.0, 0.01, 0.1)[index % 3]),
        ("module.trainable.image_encoder", index % 2 == 0),
        (f"datamodule.augmentation{hostile}", (f"none{hostile}", f"flip{hostile}")[index // 2 % 2]),
    )
    failed = index % 17 == 11
    return PointRun(
        index,
        f"lr={overrides[0][1]:.3g},decay={overrides[1][1]},encoder={overrides[2][1]}{hostile}",
        f"knee_sweep-{index:016x}",
        overrides,
        state=State.FAILED if failed else State.DONE,
        reason=f"FloatingPointError: loss was not finite{hostile}" if failed else "",
        best_epoch=None if failed else draw.randrange(60),
        validation=None if failed else draw.uniform(0.12, 0.4),
    )


def _planned(run: PointRun) -> CoveredRun:
    failure_class = FailureClass.ERROR if run.state == State.FAILED else None
    return CoveredRun(run.name, run.run, run.state, run.reason, failure_class, 2.0, 1.3)


def _failed(run: PointRun, hostile: str) -> Any:
    """What the page shows of the state of a failed run."""
    planned = SimpleNamespace(name=run.name, run_id=run.run)
    log = ("Traceback (most recent call last):", f"  {hostile}nan")
    return SimpleNamespace(planned=planned, reason=run.reason, log=log, failure_class="error")


def _global_rows(run: PointRun, hostile: str, draw: random.Random) -> list[dict[str, Any]]:
    if run.state != "done":
        return []
    level = 0.95 - (run.validation or 0.6) + draw.gauss(0, 0.02)
    made = []
    for measure in MEASURES:
        for label, name in [(None, "mean_of_labels"), *enumerate(LABELS, start=1)]:
            mean = min(0.99, max(0.05, level - 0.02 * (label or 0) + draw.gauss(0, 0.01)))
            numbers = {"mean": mean, "sd": 0.08, "median": mean, "q25": mean - 0.05, "q75": mean + 0.05}
            ends = {"ci_low": mean - 0.03, "ci_high": mean + 0.03}
            counts = {"n": SUBJECTS, "n_absent": 0, "n_missed": int(label == 4), "n_spurious": 0}
            shown = name if label is None else f"{name}{hostile}"
            key = {"run": run.run, **STAMP, "label": label, "label_name": shown, "measure": measure}
            made.append({**key, **counts, **numbers, **ends})
    return made


def _improvements(rows: list[dict[str, Any]], best: str, hostile: str) -> tuple[Improvement, ...]:
    of = {(row["run"], row["label"], row["measure"]): row["mean"] for row in rows}
    made = []
    for label, name in [(None, "mean_of_labels"), *((at, f"{name}{hostile}") for at, name in enumerate(LABELS, 1))]:
        difference = of[best, label, "dice_slice_mean"] - of["base", label, "dice_slice_mean"]
        ends = (difference - 0.02, difference + 0.02)
        evaluation = ComparedEvaluation(**STAMP)
        made.append(Improvement(evaluation, label, name, "dice_slice_mean", SUBJECTS, difference, ends, 1.0, 0.0004))
    return tuple(made)


def _misses(best: str, hostile: str) -> Misses:
    evaluation = ComparedEvaluation(**STAMP)
    labels = {}
    for label, name in enumerate(LABELS, start=1):
        found = [what for of, what in FAILED.values() if of == label]
        slices = Failures(found.count("missed"), found.count("spurious"), 0, 200)
        labels[label, f"{name}{hostile}"] = LabelFailures(slices, Failures(present=24))
    new = NewMisses({f"{LABELS[2]}{hostile}": [("knee", f"subject-09{hostile}", "t2", 9, 3)]})
    return Misses({(best, evaluation): labels}, {evaluation: new})


def _subjects(run: str, role: str, hostile: str, draw: random.Random) -> list[SubjectScores]:
    middle = 0.6 if role == "baseline" else 0.8
    made = []
    for measure in MEASURES:
        for label, name in enumerate(LABELS, start=1):
            values = {
                f"subject-{number:02d}{hostile}": min(1.0, draw.gauss(middle, 0.06)) for number in range(SUBJECTS)
            }
            made.append(SubjectScores(label, f"{name}{hostile}", run, run, role, measure, values))
    return made


def _point_values(runs: list[PointRun], draw: random.Random) -> list[PointValues]:
    """A value per subject of every evaluated run: harder subjects are harder for all."""
    evaluation = ComparedEvaluation(**STAMP)
    hard = [draw.gauss(0, 0.05) for _ in range(SUBJECTS)]
    made = []
    for run in runs:
        if run.state == "done":
            level = 0.95 - (run.validation or 0.6)
            values = tuple(((f"knee{n}", f"s{n}"), level + hard[n] + draw.gauss(0, 0.04)) for n in range(SUBJECTS))
            made.append(PointValues(run.run, evaluation, "dice_slice_mean", values))
    return made


def _slices(hostile: str, draw: random.Random) -> list[dict[str, Any]]:
    """Rows of slice.csv of the chosen point."""
    made = []
    for label, name in enumerate(LABELS, start=1):
        for number in range(200):
            pixels = int(10 ** draw.uniform(1, 3.5))
            missed = number == 7
            tp = 0 if missed else int(pixels * draw.uniform(0.6, 0.95))
            row = {"subject": f"subject-{number % SUBJECTS:02d}{hostile}", "volume": "t2", "slice": number}
            row |= {"label": label, "label_name": f"{name}{hostile}", "tp": tp, "fn": pixels - tp}
            made.append(row | {"dice": tp / pixels, "area_reference_mm2": 0.25 * pixels})
    return made


def _differences(hostile: str) -> list[SettingDifference]:
    return [
        SettingDifference("module.optimizer.lr", (("0.001", 4), ("0.0001", 3)), 9),
        SettingDifference(f"datamodule.augmentation{hostile}", ((f"none{hostile}", 5), (f"flip{hostile}", 5)), 2),
    ]


def _subject_page(
    number: int, runs: list[PointRun], cases: tuple[SliceCase, ...], hostile: str, draw: random.Random
) -> SubjectPage:
    subject = f"subject-{number:02d}{hostile}"
    labels = tuple(f"{name}{hostile}" for name in LABELS)
    lines = tuple(
        SubjectLine(
            run.name, run.run, "best" if run.index == 0 else "other", "t2", "test, prompt box",
            {label: SubjectCell(draw.uniform(0.5, 1), draw.uniform(0.5, 1), "ok") for label in labels[1:]}
            | {labels[0]: SubjectCell(0.0, 0.0, "missed")},
            "box",
        )
        for run in runs[:30]
    )  # fmt: skip
    own = tuple(case for case in cases if case.subject == subject)
    path, volumes = f"subjects/subject-{number + 1:03d}.html", ((f"knee/{subject}/t2", number + 1),)
    return SubjectPage("knee_sweep", "knee", subject, path, labels, lines, own, volumes=volumes)


def _history(draw: random.Random) -> list[dict[str, float]]:
    end, speed = draw.uniform(0.1, 0.4), draw.uniform(0.03, 0.2)
    return [
        {
            "epoch": epoch, "step": epoch * 10, "improved": 1, "seconds": 3.0,
            "train_loss": end * 0.8 + 0.7 * 2.718 ** (-speed * epoch) + draw.gauss(0, 0.01),
            "val_loss": end + 0.6 * 2.718 ** (-speed * epoch) + draw.gauss(0, 0.01),
            "val_dice": 1 - end - 0.6 * 2.718 ** (-speed * epoch) + draw.gauss(0, 0.01),
        }
        for epoch in range(draw.randrange(40, 100))
    ]  # fmt: skip


def _agreement(run: str, hostile: str, draw: random.Random) -> AgreementSection:
    rows, plots = [], []
    for number, tissue in enumerate(LABELS[:4], start=1):
        references = [draw.gauss(2.2, 0.3) for _ in range(SUBJECTS)]
        predictions = [value + draw.gauss(0.04, 0.1) for value in references]
        found = agreement(references, predictions, yardstick_percent=1.1, resamples=200)
        kind = {"tissue": f"{tissue}{hostile}", "biomarker": "cartilagethickness", "definition": "ThCcAB", "unit": "mm"}
        row = dict.fromkeys(TABLES["biomarker_global"].column_names())
        row |= {"run": run, **STAMP, **kind, **found.columns(), "n_missed": 0, "n_spurious": 0}
        subjects = {
            f"subject-{place:02d}{hostile}": pair
            for place, pair in enumerate(zip(references, predictions, strict=True))
        }
        rows.append(row)
        plots.append(agreement_plots(f"agreement-1-{number}", subjects, row))
    (section,) = agreement_sections("best", run, rows)
    return AgreementSection(section.point, section.evaluation, section.rows, tuple(plots))


def _cases(
    folder: Path, runs: list[PointRun], hostile: str, draw: random.Random
) -> tuple[SliceCase, ...]:  # fmt: skip
    (folder / "assets").mkdir()
    made = []
    for place, run in enumerate(dict.fromkeys(run for run in runs if run.state == "done")):
        for number in range(24 if place == 0 else 1):
            path = f"assets/{run.run}-{number:03d}.png"
            size = _write_picture(folder / path, place * 24 + number)
            labels = tuple(
                CaseLabel(label, f"{name}{hostile}", draw.uniform(0.3, 0.95), "ok")
                if FAILED.get(number, (0, ""))[0] != label
                else CaseLabel(label, f"{name}{hostile}", 0.0, FAILED[number][1])
                for label, name in enumerate(LABELS, start=1)
            )
            subject = f"subject-{number:02d}{hostile}"
            where = f"knee/{subject}/t2 slice {number}"
            dice = sum(label.dice or 0 for label in labels) / len(labels)
            picture = Picture(path, f"{where}: worst", size=size)
            why = "median subject" if number == 20 else "worst"
            made.append(SliceCase(picture, run.name, run.run, where, subject, why, dice, labels, eval=STAMP["eval"]))
    return tuple(made)


def _volumes(folder: Path, hostile: str) -> tuple[ShownVolume, ...]:
    """Two volumes of 12 slices, which hold the first two slices with pictures, and one with a single slice."""
    import numpy as np

    labels = tuple(ShownLabel(at, f"{name}{hostile}", colour_of(at - 1)) for at, name in enumerate(LABELS, start=1))
    made = []
    for number, size in enumerate((12, 12, 1)):
        slices = []
        for index in range(size):
            reference, prediction = np.zeros((40, 60), np.uint8), np.zeros((40, 60), np.uint8)
            reference[10 : 20 + index, 20:40] = prediction[12 : 20 + index, 22:44] = 1
            stem = f"assets/volume-{number}-{index:04d}"
            image = np.full((40, 60), (index + 1) / 16)
            (folder / f"{stem}.jpg").write_bytes(jpeg(image, (1.0, 1.0)))
            svg = overlay_svg(reference, prediction, {label.label: label.colour for label in labels})
            (folder / f"{stem}.svg").write_text(svg)
            key = f"knee/subject-{number:02d}{hostile}/t2 slice {index}"
            dice: dict[str, float | str] = {"1": 0.9 - index / 100, "2": "missed"} if index != 3 else {"1": 0.9}
            slices.append(ShownSlice(index, key, f"{stem}.jpg", f"{stem}.svg", dice))
        name, marks = f"knee/subject-{number:02d}{hostile}/t2", ("A", "P", "S", "I") if number < 2 else ()
        made.append(ShownVolume(STAMP["eval"], name, ("worst",), 20, marks, labels, tuple(slices), (60, 40)))
    return tuple(made)


def _write_picture(path: Path, seed: int) -> tuple[int, int]:
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(seed).integers(0, 120, (45, 100), dtype=np.uint8)
    picture = Image.fromarray(noise)
    picture.save(path)
    return picture.size


def _facts(hostile: str) -> tuple[Facts, ...]:
    return (
        Facts("Data", (("knee", f"data/knee{hostile}"), ("subjects", "train 70, val 15, test 24"))),
        Facts("Settings", (("model", "sam2_nano, 256 px"), ("epochs", "at most 100"))),
        Facts("Code and packages", (("commit", "0123456789ab"), ("torch", "2.14.1"))),
        Facts("GPU-hours", (("planned", "400, asked for by 200 runs"), ("used", "261 by 200 runs, after sacct"))),
    )
