"""Numbers of the integrity report against direct computation on the arrays."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from sam2ft.core.geometry import Geometry
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.store.store import Store
from sam2ft.report.integrity.measure import MeasuredVolume, intensities, labels_of_mask, measured_volume, sides_of
from sam2ft.report.integrity.out_of_line import INTENSITY, VOLUME, judged, judged_signed
from sam2ft.report.integrity.sides import body_middle, side_pairs, wrong_side


@pytest.mark.parametrize("seed", range(5))
def test_intensities_are_those_of_sorted_voxels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = (rng.gamma(1.5, 4000, (5, 30, 31)).clip(0, 65535)).astype(np.uint16)
    voxels = np.sort(image.ravel())
    body = voxels[voxels > voxels.mean()]
    expected = [np.quantile(one, q, method="inverted_cdf") for one, q in ((voxels, 0.01), (body, 0.5), (voxels, 0.99))]
    assert list(intensities(image)) == expected


def test_an_image_of_one_value_has_that_value_throughout() -> None:
    assert intensities(np.full((3, 4, 5), 17, np.uint16)) == (17, 17, 17)


@pytest.mark.parametrize("seed", range(5))
def test_voxels_centres_and_specks_are_those_of_the_whole_array(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(14, 40, 30)), 1.5)
    mask = np.digitize(noise, np.quantile(noise, [0.7, 0.9])).astype(np.uint8) * 3
    matrix = np.eye(4)
    matrix[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.5, 4, 3)
    matrix[:3, 3] = rng.normal(size=3) * 50
    geometry = Geometry.from_affine(mask.shape, matrix)
    found = labels_of_mask(mask, geometry)
    assert found.keys() == {3, 6}
    for label, one in found.items():
        places = np.argwhere(mask == label)
        parts, count = ndimage.label(mask == label, np.ones((3, 3, 3)))
        sizes = np.bincount(parts.ravel())[1:]
        assert (one.voxels, one.specks) == (len(places), int((sizes < 0.05 * sizes.max()).sum()))
        centre = matrix[:3, :3] @ places.mean(axis=0)[::-1] + matrix[:3, 3]
        np.testing.assert_allclose(one.centre_ras_mm, centre, atol=1e-9)
        assert count >= 1


def test_given_instances_decide_what_a_speck_is() -> None:
    mask = np.zeros((3, 20, 20), np.uint8)
    mask[:, 2:12, 2:12] = 1
    mask[1, 15:17, 15:17] = 1
    geometry = Geometry.axis_aligned((3, 20, 20), (1.0, 1.0, 1.0))
    ids = np.where(mask, 1, 0).astype(np.uint16)
    ids[:, 15:, 15:] *= 2
    assert labels_of_mask(mask, geometry)[1].specks == 1
    assert labels_of_mask(mask, geometry, None, ids)[1].specks == 0
    assert labels_of_mask(mask, geometry, 5.0)[1].specks == 1
    assert labels_of_mask(mask, geometry, 4.0)[1].specks == 0


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (np.s_[0:3, 4:9, 4:9], ("inferior",)),
        (np.s_[2:8, 4:9, 4:9], ("superior",)),
        (np.s_[2:5, 0:9, 4:9], ("anterior",)),
        (np.s_[2:5, 4:20, 4:9], ("posterior",)),
        (np.s_[2:5, 4:9, 0:9], ("right",)),
        (np.s_[2:5, 4:9, 4:24], ("left",)),
        (np.s_[2:5, 4:9, 4:9], ()),
    ],
)
def test_a_cut_is_named_by_the_side_of_the_body(box: tuple[slice, ...], expected: tuple[str, ...]) -> None:
    mask = np.zeros((8, 20, 24), np.uint8)
    mask[box] = 2
    # x to the left, y to the back, z to the head.
    geometry = Geometry.from_affine(mask.shape, np.diag([-1.0, -1.0, 2.0, 1.0]))
    assert labels_of_mask(mask, geometry)[2].cut_at == expected


def test_what_only_ends_at_the_border_is_not_cut() -> None:
    mask = np.zeros((8, 20, 20), np.uint8)
    mask[1:8, 5:15, 5:15] = 1
    mask[0, 9:11, 9:12] = 1
    geometry = Geometry.axis_aligned((8, 20, 20), (1.0, 1.0, 1.0))
    assert labels_of_mask(mask, geometry)[1].cut_at == ("superior",)


def test_sides_without_orientation_are_those_of_the_file() -> None:
    geometry = replace(Geometry.axis_aligned((3, 4, 5), (1.0, 1.0, 1.0)), oriented=False)
    assert sides_of(geometry)[0] == ("first slice", "last slice")


def test_measurements_survive_json(clean: Store) -> None:
    one = measured_volume(replace(clean, volumes=clean.volumes[:1]))
    assert MeasuredVolume.from_json(one.to_json()) == one


@pytest.mark.parametrize("factor", [1.5, 1.9, 2.2, 5.0])
def test_equal_values_leave_room_for_the_factor_alone(factor: float) -> None:
    assert judged([3.0] * 9 + [3.0 * factor], VOLUME).outside == ((9,) if factor > 2 else ())
    assert judged([3.0] * 9 + [3.0 / factor], VOLUME).outside == ((9,) if factor > 2 else ())


def test_the_deviation_of_a_spread_cohort_widens_the_room() -> None:
    spread = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]
    # Median 16, MAD log 4: 5 x 1.4826 x log 4 is a factor of 29068.
    assert judged([*spread, 16.0, 16 * 20000.0], VOLUME).outside == ()
    assert judged([*spread, 16.0, 16 * 40000.0], VOLUME).outside == (10,)


def test_two_kinds_of_values_are_mixed_and_not_outliers() -> None:
    assert judged([1.0] * 7 + [3.0] * 3, VOLUME).is_mixed
    assert not judged([1.0] * 9 + [3.0], VOLUME).is_mixed


@pytest.mark.parametrize("count", [0, 1, 2])
def test_one_or_two_values_are_not_judged(count: int) -> None:
    assert judged([1.0, 1000.0][:count], INTENSITY).outside == ()


def test_values_below_zero_are_judged_by_differences() -> None:
    assert judged_signed([-50.0, -40, -45, -42, -48, -44, -46, -43, 900], [1000.0] * 9).outside == (8,)
    assert judged_signed([-50.0, -40, -45, -42, -48, -44, -46, -43, 400], [1000.0] * 9).outside == ()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("kidney_left", "kidney_right"), [("kidney", 1, 2)]),
        (("L femur", "R femur"), [("femur", 1, 2)]),
        (("femurRight", "femurLeft"), [("femur", 2, 1)]),
        (("Femur-R", "Femur-L"), [("femur", 2, 1)]),
        (("vertebra_L5", "vertebra_R5"), []),
        (("vertebra L", "vertebra T"), []),
        (("left atrium", "spleen"), [("atrium", 1, None)]),
        (("left right mixture", "spleen"), []),
        (("cleft", "bright"), []),
    ],
)
def test_pairs_are_made_of_names(names: tuple[str, ...], expected: list[tuple[str, int | None, int | None]]) -> None:
    table = LabelTable(tuple(Label(number, name) for number, name in enumerate(names, start=1)))
    assert [tuple(pair) for pair in side_pairs(table)] == expected


@pytest.mark.parametrize(("x_mm", "expected"), [(-120.0, ""), (-10.0, ""), (10.0, ""), (120.0, "to the right of the")])
def test_a_single_label_is_compared_with_the_middle_of_a_wide_image(x_mm: float, expected: str) -> None:
    (pair,) = side_pairs(LabelTable((Label(1, "left thigh"),)))
    # Columns run to the left, from x = 200 to -196 mm; what is bright is in their middle.
    geometry = Geometry.from_affine((8, 80, 100), [[-4.0, 0, 0, 200], [0, -4, 0, 0], [0, 0, 5, 0], [0, 0, 0, 1]])
    means = np.zeros((8, 8, 8), int)
    means[:, :, 1:7] = 1000
    middle = body_middle(geometry, means.ravel().tolist())
    assert middle == pytest.approx(2.0)
    wrong = wrong_side(pair, {1: (x_mm, 0.0, 0.0)}, geometry, middle)
    assert (expected in wrong) if expected else wrong == ""


def test_a_narrow_image_tells_nothing_of_a_single_label() -> None:
    geometry = Geometry.from_affine((8, 80, 40), [[-4.0, 0, 0, 80], [0, -4, 0, 0], [0, 0, 5, 0], [0, 0, 0, 1]])
    assert body_middle(geometry, [0] * 511 + [9]) is None
