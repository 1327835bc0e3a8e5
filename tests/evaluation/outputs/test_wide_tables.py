"""The known wide views of everything that was asked for."""

import csv
from pathlib import Path

import numpy as np
import pytest

from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.core.tables.rows import stamped
from sam2ft.evaluation.outputs.wide_tables import (
    save_custom_metric_scores,
    save_metric_scores_to_csv,
    wide_measures,
)
from sam2ft.metrics.factory import load_metrics
from sam2ft.metrics.measurement import Measurement, metric
from sam2ft.metrics.scoring import Scene, ScoreSettings, score_volume
from sam2ft.statistics.cohort import global_rows


@metric("of slices only")
def of_slices(pair):
    yield Measurement("slice", "rows_px", 2.0, slice=0)


def tables(names: tuple[str, ...], *more):
    """One volume of one slice; femur found with 1 of 2 pixels, tibia absent."""
    reference, prediction = np.zeros((1, 4, 4), np.uint8), np.zeros((1, 4, 4), np.uint8)
    reference[0, 1, 1:3], prediction[0, 1, 1] = 1, 1
    scene = Scene(Geometry.axis_aligned((1, 4, 4), (1.0, 0.5, 0.5)), LabelTable((Label(1, "femur"), Label(2, "tibia"))))
    metrics = (*load_metrics(dict.fromkeys(names, True)), *more)
    rows = score_volume(VolumeKey("d", "s", "v"), prediction, reference, scene, (), metrics, ScoreSettings())
    tidy = {name: stamped(found, run="r", eval="e", split="test", protocol="box") for name, found in rows.items()}
    return {**tidy, "global": global_rows(tidy["volume"])}


def test_every_measure_that_was_asked_for_has_its_wide_tables(tmp_path: Path):
    asked = tables(("dice", "precision", "hd95", "assd_surfel", "detection"), of_slices)
    measures = wide_measures(asked)
    assert measures[:3] == ["dice", "iou", "hd95_mm"]
    assert set(measures[3:]) == {
        *("precision", "assd_surfel_mm", "rows_px", "pq", "sq", "rq"),
        *("detection_tp", "detection_fp", "detection_fn"),
    }
    written = {path.name for one in measures for path in save_metric_scores_to_csv(tmp_path, one, asked)}
    levels = ("slice", "volume", "global")
    expected = {f"{level}_{one}.csv" for level in levels for one in measures}
    assert written == expected - {"volume_rows_px.csv", "global_rows_px.csv"}


def test_distances_that_nobody_asked_for_have_no_wide_tables():
    assert wide_measures(tables(("dice",))) == ["dice", "iou"]


def test_the_wide_table_of_the_cohort_has_a_column_per_label_and_the_overall_ones(tmp_path: Path):
    save_metric_scores_to_csv(tmp_path, "precision", tables(("precision",)))
    save_metric_scores_to_csv(tmp_path, "dice", tables(("precision",)))
    assert (tmp_path / "global_precision.csv").read_text() == (
        "run,eval,dataset,split,protocol,femur,tibia,mean_of_labels,pooled\nr,e,d,test,box,1.0,,1.0,1.0\n"
    )
    assert (tmp_path / "volume_dice.csv").read_text() == (
        "run,eval,dataset,subject,volume,split,protocol,femur,tibia\nr,e,d,s,v,test,box,0.6666666666666666,\n"
    )


EVIL = ("=cmd|' /C calc'!A0", "+49 171", "-3", "@SUM(A1)", "\tx", "＝1+1", "plain")


def evil_tables():
    """One subject per name of EVIL and a label of that name; the number of every row is negative."""
    rows = [
        {"run": "r", "eval": "e", "dataset": "d", "subject": name, "volume": name, "split": "test", "protocol": "box"}
        | {"label": number, "label_name": name, "score": -1.5}
        for number, name in enumerate(EVIL, start=1)
    ]
    biomarkers = [
        {**row, "tissue": row["label_name"], "instance": None, "biomarker": "t2", "definition": "mean", "unit": "ms"}
        | {"reference": -2.0, "prediction": None}
        for row in rows
    ]
    return {"volume": rows, "biomarker_volume": biomarkers}


@pytest.mark.parametrize("plain", [False, True])
def test_names_that_a_spreadsheet_would_run_are_marked_and_numbers_stay_numbers(tmp_path: Path, plain: bool):
    marked = [name if plain or name == "plain" else f"'{name}" for name in EVIL]
    (scores,) = save_metric_scores_to_csv(tmp_path, "score", evil_tables(), plain)
    (custom,) = save_custom_metric_scores(tmp_path, "t2", evil_tables(), plain)
    with scores.open(newline="") as stream:
        head, *lines = csv.reader(stream)
    assert head[-len(EVIL) :] == marked
    assert sorted(line[head.index("subject")] for line in lines) == sorted(marked)
    assert sorted({cell for line in lines for cell in line[-len(EVIL) :]}) == ["", "-1.5"]
    with custom.open(newline="") as stream:
        head, *lines = csv.reader(stream)
    assert [name for name in head if name.endswith(" reference")] == [f"{name} reference" for name in marked]
    assert {cell for line in lines for cell in line[-2 * len(EVIL) :]} == {"", "-2.0"}
