"""The pictures that an evaluation draws, and their index."""

import json

import pytest

from sam2ft.core.tables.rows import TABLES, read_csv
from sam2ft.evaluation.outputs.picture_choice import slice_key

pytestmark = pytest.mark.sam2


def test_an_evaluation_draws_a_sheet_per_label_with_the_values_of_its_table(finished):
    index = json.loads((finished.evaluation.qc / "index.json").read_text())
    sheets = [entry for entry in index if entry["file"].startswith("label-")]
    assert sorted(entry["file"] for entry in sheets) == ["label-1.png", "label-2.png"]
    assert index[: len(sheets)] == sheets
    rows = read_csv(finished.evaluation.table("slice"), TABLES["slice"])
    count = sum(one["label_name"] == "disc" and one["dice"] is not None for one in rows)
    (disc,) = [entry for entry in sheets if entry["caption"].startswith("disc")]
    assert f"over {count} slices" in disc["caption"]
    assert all((finished.evaluation.qc / entry["file"]).stat().st_size > 5000 for entry in sheets)


def test_the_index_has_the_numbers_of_every_slice_beside_its_picture(finished):
    index = json.loads((finished.evaluation.qc / "index.json").read_text())
    rows = read_csv(finished.evaluation.table("slice"), TABLES["slice"])
    slices = [entry for entry in index if not entry["file"].startswith("label-")]
    assert slices[0]["why"] == "worst"
    for entry in slices:
        own = [one for one in rows if str(slice_key(one)) == entry["slice"] and one["status"] != "absent"]
        assert [one["dice"] for one in own] == [label["dice"] for label in entry["labels"]]
        assert {one["subject"] for one in own} == {entry["subject"]}
        assert entry["dice"] == pytest.approx(sum(one["dice"] for one in own) / len(own))
