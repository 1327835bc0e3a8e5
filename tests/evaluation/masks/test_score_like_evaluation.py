"""Predictions that an evaluation wrote, scored as masks made elsewhere, give the evaluation's numbers."""

import pytest

from sam2ft.core.tables.rows import TABLES, read_csv
from sam2ft.evaluation.checkpoints import CheckpointRequest, evaluate_checkpoint
from sam2ft.evaluation.masks.score import score_store
from sam2ft.evaluation.masks.settings import scoring_of

pytestmark = pytest.mark.sam2

METRICS = "{dice: true, iou: true, hd95: true, nsd: true, tissuevolume: true, tissueheight: true}"
SETTINGS = (f"datamodule.metric.func={METRICS}", "eval.missed_distance=9", "eval.qc_slices=0")
STAMP = ("run", "eval", "protocol")


def without_stamp(folder, name):
    rows = read_csv(folder / f"{name}.csv", TABLES[name])
    return [{column: repr(value) for column, value in row.items() if column not in STAMP} for row in rows]


@pytest.mark.parametrize("more", [(), ("eval.include_empty_slices=false",)], ids=["all slices", "nonempty"])
def test_every_number_is_the_same(finished, toy, more):
    request = CheckpointRequest(finished.layout.best, overrides=(*SETTINGS, *more), out=toy.folder / "evaluated")
    evaluated = evaluate_checkpoint(request).folder
    scored = score_store(
        evaluated / "predictions", toy.store, out=toy.folder / "scored", scoring=scoring_of((*SETTINGS, *more))
    )
    names = ("slice", "volume", "global", "biomarker_slice", "biomarker_volume", "biomarker_global")
    for name in names:
        found = without_stamp(scored.evaluation.folder, name)
        assert found
        assert found == without_stamp(evaluated, name)
    wide = {path.name: path.read_bytes() for path in (evaluated / "wide").iterdir()}
    assert wide.keys() == {path.name for path in scored.evaluation.wide.iterdir()}
    assert len(wide) > 12


def test_several_processes_write_the_same_tables(finished, toy):
    request = CheckpointRequest(finished.layout.best, overrides=SETTINGS, out=toy.folder / "evaluated")
    predictions = evaluate_checkpoint(request).folder / "predictions"
    found = [
        score_store(
            predictions, toy.store, out=toy.folder / f"by {n}", scoring=scoring_of(SETTINGS), workers=n, split="test"
        ).evaluation.folder
        for n in (1, 2)
    ]
    tables = [{path.name: path.read_bytes() for path in folder.rglob("*.csv")} for folder in found]
    assert tables[0] == tables[1]
    assert len(tables[0]) > 12
