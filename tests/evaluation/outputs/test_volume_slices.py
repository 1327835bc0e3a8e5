"""Slices to scroll: which volumes and slices, and that the files are those of the list."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam2ft.core.files import read_json, sha256_file
from sam2ft.core.keys import VolumeKey
from sam2ft.core.tables.rows import TABLES, read_csv
from sam2ft.evaluation.outputs.picture_choice import Chosen, slice_key
from sam2ft.evaluation.outputs.volume_slices import LONGEST_SIDE_PX, MOST_VOLUMES, jpeg, volumes_to_scroll


def chosen(why: str, *subjects: str) -> list[Chosen]:
    return [Chosen(VolumeKey("d", subject, "v").slice(3), 0.5, why) for subject in subjects]


def test_the_worst_two_volumes_the_median_subject_and_the_best_are_scrolled_then_others() -> None:
    picked = [*chosen("worst", "a", "a", "b", "c"), *chosen("median subject", "d"), *chosen("best", "e", "f")]
    assert [key.subject for key in volumes_to_scroll(picked)] == ["a", "b", "d", "f"]
    few = [*chosen("worst", "a", "a"), *chosen("best", "a", "b", "a")]
    assert [key.subject for key in volumes_to_scroll(few)] == ["a", "b"]
    worst = chosen("worst", *"abcdef")
    assert [key.subject for key in volumes_to_scroll(worst)] == ["a", "b", "c", "d"][:MOST_VOLUMES]


@pytest.mark.parametrize(
    ("shape", "spacing", "size"),
    [((20, 30), (1.0, 1.0), (30, 20)), ((20, 30), (1.0, 0.5), (30, 40)), ((100, 2000), (0.5, 0.5), (512, 26))],
)
def test_a_picture_has_square_pixels_and_a_bounded_size(
    shape: tuple[int, int], spacing: tuple[float, float], size: tuple[int, int]
) -> None:
    opened = Image.open(BytesIO(jpeg(np.linspace(0, 1, shape[0] * shape[1]).reshape(shape), spacing)))
    assert (opened.size, opened.mode) == (size, "L")
    assert max(opened.size) <= LONGEST_SIDE_PX
    assert np.asarray(opened)[0, 0] < 10 < 240 < np.asarray(opened)[-1, -1]


@pytest.mark.sam2
def test_an_evaluation_lists_every_chosen_slice_with_the_numbers_of_its_table(finished: Any) -> None:
    qc = finished.evaluation.qc
    volumes = read_json(finished.evaluation.qc_volumes)
    drawn = {one["key"]: one for volume in volumes for one in volume["slices"]}
    pictures = [entry for entry in read_json(qc / "index.json") if "slice" in entry]
    assert pictures
    assert {entry["slice"] for entry in pictures} <= set(drawn)
    rows = read_csv(finished.evaluation.table("slice"), TABLES["slice"])
    for key, one in drawn.items():
        own = [row for row in rows if str(slice_key(row)) == key and row["status"] != "absent"]
        assert one["dice"] == {
            str(row["label"]): row["dice"] if row["status"] == "ok" else row["status"] for row in own
        }
        for kind in ("image", "overlay"):
            assert sha256_file(qc / one[kind]) == one[f"{kind}_sha256"]
    for volume in volumes:
        indices = [one["slice"] for one in volume["slices"]]
        assert indices == sorted(set(indices))
