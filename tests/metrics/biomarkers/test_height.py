import math

import numpy as np
import pytest

from sam2ft.core.geometry import Geometry
from sam2ft.core.labels import Label, LabelTable
from sam2ft.metrics.biomarkers.height import (
    TissueHeightMetric,
    anterior_direction,
    disc_heights,
    sagittal_axis,
    vertebra_height,
)
from sam2ft.metrics.measurement import MaskPair


def sagittal(shape: tuple[int, ...], dz: float = 4.0, pixel: float = 0.5) -> Geometry:
    """Slices to the right, rows downwards (inferior), columns towards posterior."""
    affine = [[0, 0, dz, 0], [-pixel, 0, 0, 0], [0, -pixel, 0, 0], [0, 0, 0, 1]]
    return Geometry.from_affine(tuple(shape), affine)  # type: ignore[arg-type]


@pytest.fixture
def score(score):
    return lambda prediction, reference, **given: score(
        prediction, reference, **({"geometry": sagittal(reference.shape)} | given)
    )


def discs(count: int, *, num_slices: int = 5) -> np.ndarray:
    """Sagittal discs 10 px (5 mm) high and 60 px (30 mm) long, one above the other."""
    mask = np.zeros((num_slices, 20 * count + 10, 80), np.uint8)
    for number in range(count):
        mask[1:-1, 20 * number + 5 : 20 * number + 15, 10:70] = 1
    return mask


def heights(rows, definition="height"):
    return [one for one in rows if one["label"] == 1 and one["definition"] == definition]


def test_five_discs_of_5_mm_are_5_mm_each(score):
    """The predecessor measured the label as one thing: 29.5 mm."""
    rows = heights(score(discs(5), discs(5), names=("tissueheight",))["biomarker_volume"])
    assert [(one["instance"], one["reference"], one["prediction"]) for one in rows] == [
        *((number, pytest.approx(5.0), pytest.approx(5.0)) for number in (1, 2, 3, 4, 5)),
        (None, pytest.approx(5.0), pytest.approx(5.0)),
    ]
    assert rows[-1]["n_reference"] == 5


def test_an_empty_prediction_has_no_height_and_says_missed(score):
    """The predecessor wrote 0.0 mm."""
    found = heights(score(0 * discs(1), discs(1), names=("tissueheight",))["biomarker_volume"])
    assert [one["status"] for one in found] == ["missed", "missed"]
    assert all(math.isnan(one["prediction"]) and one["reference"] == pytest.approx(5.0) for one in found)


def test_one_missed_disc_of_two_is_missed_and_the_other_is_not(score):
    prediction = discs(2)
    prediction[:, 20:] = 0
    first, second, whole = heights(score(prediction, discs(2), names=("tissueheight",))["biomarker_volume"])
    assert (first["status"], second["status"], whole["status"]) == ("ok", "missed", "ok")
    assert (whole["n_reference"], whole["n_prediction"]) == (2, 1)


def test_a_predicted_disc_in_two_pieces_is_one_instance_and_a_made_up_one_is_spurious():
    reference, prediction = discs(2) > 0, discs(2) > 0
    prediction[:, :, 40] = False
    prediction[:, 45:, 70:] = True
    metric = TissueHeightMetric()
    pair = MaskPair(prediction, reference, sagittal(reference.shape))
    found = {one.instance: one.status for one in metric.measure(pair) if one.definition == "height"}
    assert found == {1: "ok", 2: "ok", 3: "spurious", None: None}


@pytest.mark.parametrize("degrees", [0, 10, 30, 43, 75, 90])
def test_a_tilted_disc_keeps_its_height_within_half_a_pixel(degrees):
    angle = np.deg2rad(degrees)
    y, x = np.mgrid[:400, :400] * 0.1
    u = (y - 20.03) * np.sin(angle) + (x - 19.97) * np.cos(angle)
    v = (y - 20.03) * np.cos(angle) - (x - 19.97) * np.sin(angle)
    found = disc_heights((abs(u) < 15) & (abs(v) < 2.5), (0.1, 0.1), (0.0, 1.0))
    assert found["height"] == pytest.approx(5.0, abs=0.05)
    assert found["area"] == pytest.approx(150, rel=0.01)


def test_a_wedge_is_higher_in_front_and_front_is_where_the_affine_says():
    """A disc 60 px long whose height falls from 20 px on the left to 8 px on the right, 0.5 mm pixels."""
    y, x = np.mgrid[:40, :80]
    wedge = (x >= 10) & (x < 70) & (abs(y - 20) < (20 - 12 * (x - 10) / 60) / 2)
    left = disc_heights(wedge, (0.5, 0.5), (0.0, -1.0))
    right = disc_heights(wedge, (0.5, 0.5), (0.0, 1.0))
    assert left["height_anterior"] == pytest.approx(9.0, abs=0.5)
    assert left["height_middle"] == pytest.approx(7.0, abs=0.5)
    assert left["height_posterior"] == pytest.approx(5.0, abs=0.5)
    assert right["height_posterior"] == pytest.approx(left["height_anterior"])


def test_the_anterior_direction_is_that_of_the_affine():
    assert anterior_direction(sagittal((5, 40, 80))) == (0.0, -1.0)


def test_the_height_is_the_median_of_the_three_most_central_slices(score):
    mask = discs(1, num_slices=7)
    mask[1, :10] = mask[5, :10] = 0  # the outermost slices of the disc are half as high
    found = heights(score(mask, mask, names=("tissueheight",))["biomarker_volume"])
    assert found[0]["reference"] == pytest.approx(5.0)


SPINE = LabelTable((Label(1, "disc", vertebra="vertebra"), Label(2, "vertebra")))


def spine(count: int = 3) -> np.ndarray:
    """Discs of 10 x 60 px between vertebrae of 40 x 60 px (20 mm high), each with an arch behind it."""
    mask = np.zeros((5, 50 * count + 50, 100), np.uint8)
    for number in range(count + 1):
        mask[1:-1, 50 * number + 5 : 50 * number + 45, 10:70] = 2
        mask[1:-1, 50 * number + 20 : 50 * number + 24, 70:95] = 2
    for number in range(count):
        mask[1:-1, 50 * number + 45 : 50 * number + 55, 10:70] = 1
    return mask


def test_the_height_index_is_the_height_over_that_of_the_vertebrae_beside(score):
    rows = score(spine(), spine(), names=("tissueheight",), labels=SPINE)["biomarker_volume"]
    found = heights(rows, "DHI")
    assert [one["reference"] for one in found] == pytest.approx([0.25] * 4)
    assert {one["unit"] for one in found} == {"1"}
    assert not [one for one in rows if one["definition"] == "DHI" and one["tissue"] == "vertebra"]


def test_the_prediction_is_held_against_the_vertebrae_of_the_reference(score):
    prediction = np.where(spine() == 1, 1, 0).astype(np.uint8)
    prediction[:, 50:55] = 0  # half of the first disc
    found = heights(score(prediction, spine(), names=("tissueheight",), labels=SPINE)["biomarker_volume"], "DHI")
    assert [one["prediction"] for one in found[:3]] == pytest.approx([0.125, 0.25, 0.25])


def test_at_the_end_of_the_picture_one_vertebra_stands_for_both_and_without_any_there_is_no_index(score):
    mask = spine(1)
    mask[:, 55:] = 0
    (one, whole) = heights(score(mask, mask, names=("tissueheight",), labels=SPINE)["biomarker_volume"], "DHI")
    assert one["reference"] == whole["reference"] == pytest.approx(0.25)
    mask[mask == 2] = 0
    rows = score(mask, mask, names=("tissueheight",), labels=SPINE)["biomarker_volume"]
    assert all(math.isnan(one["reference"]) for one in heights(rows, "DHI"))
    assert heights(rows)[0]["reference"] == pytest.approx(5.0)


@pytest.mark.parametrize("degrees", [0, 25, 60, 140])
def test_a_tilted_disc_has_the_same_index(degrees):
    angle = np.deg2rad(degrees)
    y, x = np.mgrid[:700, :700] * 0.1 - 35.03
    u, v = y * np.sin(angle) + x * np.cos(angle), y * np.cos(angle) - x * np.sin(angle)
    vertebrae = np.where(abs(u) < 15, 1 * ((v > 2.5) & (v < 22.5)) + 2 * ((v < -2.5) & (v > -22.5)), 0)
    height = vertebra_height((abs(u) < 15) & (abs(v) < 2.5), vertebrae.astype(np.int32), (0.1, 0.1))
    assert height == pytest.approx(20.0, rel=0.01)


def boxes(size_asr_mm: tuple[float, float, float], affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Mask of an upright box of so many mm towards anterior, superior and right, around the centre of the grid."""
    z, y, x = np.indices(shape)
    centre = affine @ np.array([*(np.array(shape[::-1]) - 1) / 2, 1])
    ras = np.einsum("ij,jzyx->izyx", affine[:3], np.stack([x, y, z, np.ones(shape)])) - centre[:3, None, None, None]
    anterior, superior, right = size_asr_mm
    # Voxel centres within the box; the small number keeps rounding out.
    halves = np.array([right, anterior, superior])[:, None, None, None] / 2 - 1e-6
    return (abs(ras) < halves).all(axis=0)


def grid(order: str, spacing: tuple[float, float, float], flips: tuple[int, int, int] = (1, 1, 1)) -> np.ndarray:
    """Affine whose axes x, y, z run along R, A, S in the order of the letters, e.g. `ASR`: slices left to right."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, (letter, step, sign) in enumerate(zip(order, spacing, flips, strict=True)):
        affine["RAS".index(letter), column] = sign * step
    return affine


ORDERS = ["RAS", "RSA", "ARS", "ASR", "SRA", "SAR"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1), (1, -1, -1)])
@pytest.mark.parametrize("odd", [1.0, 0.9, 1.1, 4.0])
def test_the_height_is_that_of_sagittal_planes_whatever_the_order_of_the_axes(score, order, flips, odd):
    """A disc 8 mm high, 30 mm A-P, 40 mm R-L; the image's own slices gave 22.8 mm on isotropic RAS."""
    steps = {"R": odd, "A": 1.0, "S": 1.0}
    spacing = tuple(steps[letter] for letter in order)
    affine = grid(order, spacing, flips)  # type: ignore[arg-type]
    shape = tuple(int({"R": 60 / odd, "A": 40, "S": 20}[letter]) for letter in order)[::-1]
    mask = boxes((30, 8, 40), affine, shape).astype(np.uint8)  # type: ignore[arg-type]
    geometry = Geometry.from_affine(mask.shape, affine)
    rows = score(mask, mask, names=("tissueheight",), geometry=geometry)["biomarker_volume"]
    for definition in ("height", "height_anterior", "height_middle", "height_posterior"):
        assert [one["reference"] for one in heights(rows, definition)] == pytest.approx([8.0, 8.0])
    assert heights(rows, "area")[0]["prediction"] == pytest.approx(240)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("front", [1, -1])
def test_anterior_is_that_of_the_affine_in_every_order(score, order, front):
    """A wedge of 12 voxels in front and 4 behind."""
    flips = tuple(front if letter == "A" else 1 for letter in order)
    affine = grid(order, (1.0, 1.0, 1.0), flips)  # type: ignore[arg-type]
    ras = np.zeros((9, 60, 20), bool)
    for step in range(40):
        ras[2:7, 10 + step, 2 : 2 + 4 + round(8 * step / 39)] = True
    if front < 0:
        ras = ras[:, ::-1]
    mask = np.transpose(ras, ["RAS".index(letter) for letter in order[::-1]]).astype(np.uint8)
    rows = score(mask, mask, names=("tissueheight",), geometry=Geometry.from_affine(mask.shape, affine))
    found = {
        name: heights(rows["biomarker_volume"], f"height_{name}")[0]["reference"] for name in ("anterior", "posterior")
    }
    assert found["anterior"] > found["posterior"] + 4


@pytest.mark.parametrize("order", ["RAS", "SAR", "ARS"])
def test_the_height_index_is_the_same_in_every_order(score, order):
    asr = np.moveaxis(spine(), 0, 2)[::-1]  # S, A, R
    mask = np.transpose(asr, ["SAR".index(letter) for letter in order[::-1]])
    spacing = tuple({"R": 4.0, "A": 0.5, "S": 0.5}[letter] for letter in order)
    geometry = Geometry.from_affine(mask.shape, grid(order, spacing))  # type: ignore[arg-type]
    rows = score(mask, mask, names=("tissueheight",), geometry=geometry, labels=SPINE)["biomarker_volume"]
    assert [one["reference"] for one in heights(rows, "DHI")] == pytest.approx([0.25] * 4)


def turned(axis: int, degrees: float) -> np.ndarray:
    """Sagittal affine (columns x, y, z) turned about an axis of RAS."""
    angle, (first, second) = np.deg2rad(degrees), [(1, 2), (2, 0), (0, 1)][axis]
    turn = np.eye(3)
    turn[first, first] = turn[second, second] = np.cos(angle)
    turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array([[0, 0, 4], [-0.5, 0, 0], [0, -0.5, 0]])
    return affine


@pytest.mark.parametrize(
    ("affine", "axis"),
    [
        (turned(2, 30), 0),
        (turned(2, 44), 0),
        (turned(2, 45), 0),  # of two equally near, the slice axis
        (turned(2, 46), 2),
        (turned(1, -60), 1),
        (turned(0, 80), 0),
        (np.diag([1.0, 1.0, 1.0, 1.0]), 2),
        (np.diag([-1.0, 1.0, 5.0, 1.0]), 2),
    ],
)
def test_planes_are_sagittal_when_their_normal_is_nearest_to_left_right(affine, axis):
    assert sagittal_axis(Geometry.from_affine((5, 6, 7), affine)) == axis


def oblique() -> np.ndarray:
    """All three axes 54.7 degrees from left-right."""
    first = np.array([1, 1, 1]) / 3**0.5
    second = np.array([1, -1, 0]) / 2**0.5
    basis = np.stack([first, second, np.cross(first, second)])  # rows R, A, S
    affine = np.eye(4)
    affine[:3, :3] = basis
    return affine


def test_a_grid_without_sagittal_planes_has_no_height_instead_of_a_wrong_one(score):
    geometry = Geometry.from_affine((5, 50, 80), oblique())
    assert sagittal_axis(geometry) is None
    for labels, mask in ((None, discs(1)), (SPINE, spine())):
        known = {} if labels is None else {"labels": labels}
        grid_of = Geometry.from_affine(mask.shape, oblique())
        rows = score(mask, mask, names=("tissueheight", "tissuevolume"), geometry=grid_of, **known)["biomarker_volume"]
        of_height = [one for one in rows if one["biomarker"] == "tissueheight" and one["label"] == 1]
        assert of_height
        assert all(math.isnan(one["reference"]) and math.isnan(one["prediction"]) for one in of_height)
        assert {one["status"] for one in of_height} == {"ok"}
        assert next(one for one in rows if one["definition"] == "volume")["reference"] > 0


@pytest.mark.parametrize("specks", [[(1, 2, 2)], [(1, 2, 2), (2, 2, 76), (3, 46, 40)], [(1, 45, 70)]])
def test_specks_are_not_averaged_into_a_height_and_are_no_instance(score, specks):
    """A vertebra of 15.5 mm with three specks of 3 voxels came out as 4.6 mm."""
    mask = np.zeros((5, 50, 80), np.uint8)
    mask[1:4, 8:39, 10:70] = 1
    with_specks = mask.copy()
    for z, y, x in specks:
        with_specks[z, y, x : x + 3] = 1
    for prediction, reference in ((with_specks, with_specks), (with_specks, mask), (mask, with_specks)):
        rows = score(prediction, reference, names=("tissueheight",))
        found = heights(rows["biomarker_volume"])
        assert [(one["instance"], one["reference"], one["prediction"]) for one in found] == [
            (1, pytest.approx(15.5), pytest.approx(15.5)),
            (None, pytest.approx(15.5), pytest.approx(15.5)),
        ]
        assert rows["volume"][0]["num_specks"] == len(specks)
        assert (rows["volume"][1]["num_specks"], rows["volume"][1]["status"]) == (0, "absent")


def test_a_predicted_speck_in_the_reach_of_a_disc_neither_stands_for_it_nor_shrinks_it(score):
    """Disc 1 ends 10 px early and has a speck at its end (together 10 x 50 / 58 px high); disc 2 is only a speck."""
    prediction = discs(2)
    prediction[:, :, 60:] = prediction[:, 25:] = 0
    prediction[2, 10, 65:68] = prediction[2, 30, 20:23] = 1
    rows = score(prediction, discs(2), names=("tissueheight",))
    found = heights(rows["biomarker_volume"])
    assert [one["status"] for one in found] == ["ok", "missed", "ok"]
    assert found[0]["prediction"] == found[2]["prediction"] == pytest.approx(5.0)
    assert (found[2]["n_reference"], found[2]["n_prediction"], rows["volume"][0]["num_specks"]) == (2, 1, 2)


def test_a_disc_in_two_large_pieces_stays_two_instances(score):
    mask = discs(1)
    mask[:, :, 40:44] = 0
    found = heights(score(mask, mask, names=("tissueheight",))["biomarker_volume"])
    assert [one["instance"] for one in found] == [1, 2, None]


def test_specks_of_vertebrae_are_not_taken_for_vertebrae(score):
    mask = spine()
    mask[1:4, 49, 30:33] = 0
    mask[2, 48, 40] = 2
    rows = score(mask, mask, names=("tissueheight",), labels=SPINE)["biomarker_volume"]
    assert [one["reference"] for one in heights(rows, "DHI")] == pytest.approx([0.25] * 4, rel=0.01)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_touching_discs_with_ids_are_measured_one_by_one(score, count):
    """Discs of 5 mm that touch: one of 5 * count mm without ids."""
    ids = np.zeros((5, 10 * count + 10, 80), np.int32)
    for number in range(count):
        ids[1:-1, 10 * number + 5 : 10 * number + 15, 10:70] = number + 1
    mask = (ids > 0).astype(np.uint8)
    rows = score(mask, mask, names=("tissueheight",), reference_instances_zyx=ids)["biomarker_volume"]
    found = heights(rows)
    assert [one["instance"] for one in found] == [*range(1, count + 1), None]
    assert [(one["reference"], one["prediction"]) for one in found] == [(pytest.approx(5.0), pytest.approx(5.0))] * (
        count + 1
    )
    (merged, _) = heights(score(mask, mask, names=("tissueheight",))["biomarker_volume"])
    assert merged["reference"] == pytest.approx(5.0 * count)


def test_ids_go_with_the_outline_of_the_sensitivity(score):
    ids = np.zeros((5, 40, 80), np.int32)
    for number in range(2):
        ids[1:-1, 10 * number + 5 : 10 * number + 15, 10:70] = number + 1
    mask = (ids > 0).astype(np.uint8)
    rows = score(mask, mask, names=("tissueheight",), sensitivity=True, reference_instances_zyx=ids)
    (whole,) = [one for one in heights(rows["biomarker_volume"]) if one["instance"] is None]
    # The outer face of both discs moves by half a pixel of 0.5 mm outwards and inwards, the shared one does not.
    assert whole["sensitivity"] == pytest.approx(0.5, rel=0.1)
