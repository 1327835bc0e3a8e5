"""Scoring of volumes in which not every label was drawn: the others keep their numbers, to the bit."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sam2ft.core.errors import DataError
from sam2ft.core.labels import Label, LabelTable
from sam2ft.core.prompts import Box
from sam2ft.metrics.factory import METRICS
from sam2ft.metrics.rows import PromptedMask

Score = Callable[..., Any]
LABELS = LabelTable(
    (Label(1, "plate", interface="bone"), Label(2, "bone"), Label(3, "disc", vertebra="vertebra"), Label(4, "vertebra"))
)
TABLES = ("slice", "instance", "volume", "biomarker_slice", "biomarker_volume")
EVERY = tuple(name for name in METRICS if name not in ("t1rho",))


def anatomy(shift: int = 0) -> np.ndarray:
    """A plate on a bone, and a disc between two vertebrae; in one slice of six nothing."""
    mask = np.zeros((6, 40, 24), np.uint8)
    mask[1:, 2:12, 2:18], mask[1:, 12 + shift : 16, 2:18] = 2, 1
    mask[1:, 20:26, 4:20], mask[1:, 26 + shift : 30, 4:20], mask[1:, 30:36, 4:20] = 4, 3, 4
    return mask


def prompts(reference: np.ndarray, prediction: np.ndarray) -> list[PromptedMask]:
    return [
        PromptedMask(z, label, 1, Box(0, 0, 23, 39), prediction[z] == label, reference[z] == label)
        for z in range(len(reference))
        for label in LABELS.ids
        if (reference[z] == label).any() or (prediction[z] == label).any()
    ]


def rows(score: Score, reference: np.ndarray, prediction: np.ndarray, **given: Any) -> dict[str, list[Any]]:
    maps = {"t2": np.full(reference.shape, 40, np.float32)}
    found = score(prediction, reference, EVERY, labels=LABELS, spacing=(3.0, 0.5, 0.5), maps=maps,
                  prompted=prompts(reference, prediction), **given)  # fmt: skip
    return dict(found)


def same(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)  # to the bit, NaN included


@pytest.mark.parametrize("labelled", [(1, 2), (2,), (3, 4), (4,), (2, 4), (1, 2, 3, 4)])
@pytest.mark.parametrize("slices", [None, (1, 2, 3), (0, 5)])
def test_the_labels_that_were_drawn_have_the_rows_that_they_had_and_the_others_none(
    score: Score, labelled: tuple[int, ...], slices: tuple[int, ...] | None
) -> None:
    reference, prediction = anatomy(), anatomy(2)
    whole = rows(score, reference, prediction, slices=slices)
    cut = np.where(np.isin(reference, labelled), reference, 0)
    # The prediction is that of the whole anatomy: labels that were not drawn may be predicted.
    partly = rows(score, cut, prediction, slices=slices, labelled=labelled)
    for table in TABLES:
        wanted = [row for row in whole[table] if row["label"] in labelled]
        assert same(partly[table], wanted), table
        assert wanted or table.startswith("biomarker")
    assert {row["label"] for row in partly["volume"]} == set(labelled)


@pytest.mark.parametrize(
    ("labelled", "lost"),
    [
        ((1,), {("cartilagethickness",), ("t2", "mean_deep"), ("t2", "sd_superficial")}),
        ((1, 3, 4), {("cartilagethickness",), ("t2", "median_deep")}),
        ((2, 3), {("tissueheight", "DHI")}),
    ],
)
def test_what_is_measured_from_a_label_that_was_not_drawn_is_not_measured(
    score: Score, labelled: tuple[int, ...], lost: set[tuple[str, ...]]
) -> None:
    whole = rows(score, anatomy(), anatomy(2))["biomarker_volume"]
    cut = np.where(np.isin(anatomy(), labelled), anatomy(), 0)
    partly = rows(score, cut, anatomy(2), labelled=labelled)["biomarker_volume"]

    def kinds(found: list[Any], label: int) -> set[tuple[str, str]]:
        return {(row["biomarker"], row["definition"]) for row in found if row["label"] == label}

    gone = {kind for label in labelled for kind in kinds(whole, label) - kinds(partly, label)}
    assert all(any(kind[: len(one)] == one for kind in gone) for one in lost)
    kept = [row for row in whole if row["label"] in labelled and (row["biomarker"], row["definition"]) not in gone]
    assert same(partly, kept)
    assert not any(row["definition"] == "local_thickness" for row in partly)


@pytest.mark.parametrize("labelled", [(1, 2), (4,), (2,)])
def test_a_label_that_is_absent_is_no_label_that_was_not_drawn(score: Score, labelled: tuple[int, ...]) -> None:
    nothing = np.zeros_like(anatomy())
    found = score(anatomy(), nothing, ("dice", "assd"), labels=LABELS, labelled=labelled)
    assert {(row["label"], row["status"]) for row in found["volume"]} == {(label, "spurious") for label in labelled}
    found = score(nothing, nothing, ("dice", "assd"), labels=LABELS, labelled=labelled)
    assert {(row["label"], row["status"]) for row in found["volume"]} == {(label, "absent") for label in labelled}


@pytest.mark.parametrize(("labelled", "name"), [((1, 2, 3), "4 vertebra"), ((2,), "1 plate"), ((3, 4), "1 plate")])
def test_a_reference_that_holds_what_was_not_drawn_is_refused(
    score: Score, labelled: tuple[int, ...], name: str
) -> None:
    with pytest.raises(DataError, match=f"phantom/anna/v1: reference holds label {name}, which is not among"):
        score(anatomy(), anatomy(), labels=LABELS, labelled=labelled)
