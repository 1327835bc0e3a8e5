"""One missed slice and one spurious label, planted in a run: nothing of the report hides them."""

import csv
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sam2ft.core.digests.verified_files import write_sealed_json
from sam2ft.core.files import read_json, sha256_file, write_json
from sam2ft.core.tables.rows import TABLES, read_csv, write_csv
from sam2ft.data.store.store import Store
from sam2ft.evaluation.outputs.picture_choice import slice_key
from sam2ft.evaluation.outputs.pictures import draw_pictures
from sam2ft.metrics.counts import Overlap, total
from sam2ft.report import report as report_module
from sam2ft.report.layout import ReportLayout
from sam2ft.report.request import ReportRequest, RunState
from sam2ft.runs.attempt.status import read_status
from sam2ft.runs.layout import EvalLayout, ExperimentLayout
from sam2ft.runs.plan_file import PlannedPoint
from sam2ft.runs.states import State
from sam2ft.statistics.cohort import global_rows

pytestmark = pytest.mark.sam2
LAYOUT = ExperimentLayout.of("toy")
TUNED = "toy-0000000000000001"


def overlap_of(row: Any) -> Overlap:
    return Overlap(*(int(row[name]) for name in ("tp", "fp", "fn", "tn")))


def without_failure(counts: Overlap) -> Overlap:
    """The counts, or those of a right prediction where they have no hit."""
    return counts if counts.tp else Overlap(counts.fn, 0, 0, counts.tn + counts.fp)


def with_counts(row: Any, counts: Overlap) -> dict[str, Any]:
    """A row of slice.csv or volume.csv whose numbers follow from other counts."""
    named = {name: getattr(counts, name) for name in ("tp", "fp", "fn", "tn", "dice", "iou", "status")}
    return {name: None if value != value else value for name, value in {**row, **named}.items()}


def recounted(volume: Any, slices: list[Any]) -> dict[str, Any]:
    """A row of volume.csv that is the sum of its slices."""
    own = [one for one in slices if all(one[name] == volume[name] for name in ("subject", "volume", "label"))]
    found = [one for one in own if one["status"] != "absent"]
    means = {f"{name}_slice_mean": sum(one[name] for one in found) / len(found) for name in ("dice", "iou")}
    return with_counts({**volume, **means}, total([overlap_of(one) for one in own]))


def plant(evaluation: EvalLayout, run: str) -> tuple[Any, Any]:
    """Plant both failures, and no other, in the tables of an evaluation, as of the run `run`; returns their rows."""
    rows = {name: read_csv(evaluation.table(name), TABLES[name]) for name in ("slice", "volume", "instance")}
    rows = {name: [{**row, "run": run} for row in found] for name, found in rows.items()}
    # Found by the initial weights, and the best of them, so that the mean over labels stays far from the worst.
    lost = max(range(len(rows["slice"])), key=lambda at: rows["slice"][at]["dice"] or 0)
    slices = rows["slice"] = [with_counts(one, without_failure(overlap_of(one))) for one in rows["slice"]]
    added = next(place for place, one in enumerate(slices) if one["status"] == "absent")
    counts = overlap_of(slices[lost])
    slices[lost] = with_counts(slices[lost], Overlap(0, 0, counts.tp + counts.fn, counts.tn + counts.fp))
    counts = overlap_of(slices[added])
    slices[added] = with_counts(slices[added], Overlap(0, 3, 0, counts.tn - 3))
    rows["volume"] = [recounted(one, slices) for one in rows["volume"]]
    rows["global"] = [dict(one) for one in global_rows(rows["volume"])]
    for name, found in rows.items():
        write_csv(evaluation.table(name), TABLES[name], found)
    return slices[lost], slices[added]


@pytest.fixture
def planted(finished: Any) -> tuple[list[RunState], Any, Any]:
    """(the initial weights and a trained run whose evaluation has both failures, the missed and the spurious row)."""
    (only,) = finished.planned.points
    baseline = replace(finished.planned, baseline=True, points=(PlannedPoint("baseline", (), only.eval_id),))
    tuned = replace(finished.planned, index=1, run_id=TUNED, points=(PlannedPoint("tuned", (), only.eval_id),))
    place = LAYOUT.run(TUNED)
    shutil.copytree(finished.layout.folder, place.folder)
    for path in (place.status, place.claim, place.provenance, place.identity):
        write_sealed_json(path, read_json(path) | {"run": TUNED})
    evaluation = place.evaluation(finished.eval_id)
    lost, added = plant(evaluation, TUNED)
    digests = {name: sha256_file(evaluation.table(name)) for name in ("slice", "instance", "volume", "global")}
    write_json(evaluation.success, read_json(evaluation.success) | {"run": TUNED, "tables": digests})
    shutil.rmtree(evaluation.qc)
    store = Store.open(Path("data/toy"))
    draw_pictures(evaluation, read_csv(evaluation.table("slice"), TABLES["slice"]), {store.name: store}, 8)
    states = [
        RunState(planned, layout, State.DONE, "", read_status(layout))
        for planned, layout in ((baseline, finished.layout), (tuned, place))
    ]
    return states, lost, added


def words_of(page: Path) -> str:
    text = re.sub(r"<(script|style)\b.*?</\1>", "", page.read_text(), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


def test_both_are_first_counted_and_said(planted: Any) -> None:
    states, lost, added = planted
    outcome = report_module.report(ReportRequest("toy", ReportLayout(LAYOUT.report), tuple(states)))
    assert outcome.problems == ()
    page = outcome.page.read_text()

    first, second = (
        re.search(rf'<li class="case" id="case-{n}".*?</li>', page, re.DOTALL)[0]
        for n in (1, 2)  # type: ignore[index]
    )
    assert f'data-where="{slice_key(lost)}"' in first
    assert re.search(rf'<tr data-label="{lost["label"]}"[^>]* data-status="missed"', first)
    assert f'data-where="{slice_key(added)}"' in second
    assert re.search(rf'<tr data-label="{added["label"]}"[^>]* data-status="spurious"', second)

    with (LAYOUT.report / "misses.csv").open(newline="") as stream:
        counted = [row for row in csv.DictReader(stream) if row["run"] == TUNED]
    for name, row in (("slices_missed", lost), ("slices_newly_missed", lost), ("slices_spurious", added)):
        assert {one["label"]: int(one[name]) for one in counted if int(one[name])} == {str(row["label"]): 1}

    words = words_of(outcome.page)
    new = (
        f"newly misses, or finds only beside the reference, 1 slice of 1 subject ({lost['label_name']} 1), found by the"
    )
    assert f"Fine-tuning {new} initial weights" in words
    assert re.search(r"Over all labels: missed in 1 of \d+ slices and 0 of \d+ volumes; spurious in 1 slice and", words)
    assert f'data-cases-of-label="{lost["label"]}" aria-label="1 missed slice of {lost["label_name"]}">1</a>' in page
    assert f"The worst slice {slice_key(lost)}" in words


def test_the_prompt_is_said_beside_every_number(planted: Any) -> None:
    states, _, _ = planted
    outcome = report_module.report(ReportRequest("toy", ReportLayout(LAYOUT.report), tuple(states)))
    sentence = "rompted with the reference&#39;s own box in every slice: an upper bound of what a user gets"
    page = outcome.page.read_text()
    assert page.index(sentence) < page.index('<dl class="tiles">')
    for caption in re.findall(r"<caption[^>]*>.*?</caption>", page, re.DOTALL)[:2]:
        assert sentence in caption
    assert "too small for a conclusion: with 2 subjects no p can be below 0.500" in words_of(outcome.page)
