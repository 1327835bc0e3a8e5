"""Masks and maps beside the grid of their image: each policy does what it says, and a refusal names what would fit."""

import re
from pathlib import Path

import numpy as np
import pytest

from sam2ft.config.schema.dataset import Reading
from sam2ft.config.schema.maps import MapSource
from sam2ft.config.schema.masks import SnappedGrid
from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry
from sam2ft.data.images.grid_policy import Place, placed_by_policy, share_inside
from sam2ft.data.images.grids import Volume
from sam2ft.data.images.maps import read_map
from sam2ft.data.images.volumes import read_volume, write_nifti
from sam2ft.data.masks.read_masks import read_placed_mask

SHAPE, SPACING = (4, 6, 5), (3.0, 0.5, 1.0)
POLICIES = ["exact", SnappedGrid(snap_mm=0.2), "lattice", "nearest", "trust-array"]


def grid(shape=SHAPE, spacing=SPACING, origin_xyz=(0.0, 0.0, 0.0)) -> Geometry:
    affine = np.diag([*spacing[::-1], 1.0])
    affine[:3, 3] = origin_xyz
    return Geometry.from_affine(shape, affine)


def labels(shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4, size=shape).astype(np.uint8)


def centres(geometry: Geometry, array: np.ndarray) -> dict[tuple[float, ...], int]:
    """World position of every labelled voxel -> its label."""
    z, y, x = np.nonzero(array)
    places = (geometry.affine @ np.stack([x, y, z, np.ones_like(x)]))[:3].T
    return {
        tuple(np.round(place, 6).tolist()): int(array[k, j, i]) for place, k, j, i in zip(places, z, y, x, strict=True)
    }


def mostly_inside(geometry: Geometry) -> Volume:
    """Random labels on a grid; of those outside of `grid()` every ninth is left."""
    array, inside = labels(geometry.shape_zyx), np.zeros(geometry.shape_zyx, bool)
    for at in np.ndindex(array.shape):
        place = np.linalg.solve(grid().affine, geometry.affine @ [*at[::-1], 1])[:3]
        inside[at] = all(-0.5 <= one <= size - 0.5 for one, size in zip(place, SHAPE[::-1], strict=True))
    array[~inside] = np.where(np.arange((~inside).sum()) % 9 == 0, 3, 0)
    return Volume(array, geometry)


def number(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    assert found is not None, text
    return float(found[1])


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_what_is_on_the_grid_stays_as_it_is_whatever_the_policy(policy):
    found = placed_by_policy(Volume(labels(), grid()), Place(grid(), policy))
    assert np.array_equal(found.array_zyx, labels())
    assert "grid" not in found.facts
    assert found.notes == ()


@pytest.mark.parametrize("share", [0.11, 0.25, 0.49])
def test_a_small_shift_is_refused_with_the_snap_that_takes_it(share):
    volume = Volume(labels(), grid(origin_xyz=(0.5 * share, 0.0, 0.0)))
    with pytest.raises(DataError, match="different grids") as refused:
        placed_by_policy(volume, Place(grid()))
    offered = number(str(refused.value), r"grid: \{snap_mm: ([0-9.e-]+)\}")
    found = placed_by_policy(volume, Place(grid(), SnappedGrid(snap_mm=offered)))
    assert np.array_equal(found.array_zyx, labels())
    assert found.geometry == grid()
    assert found.facts["grid"] == {"policy": {"snap_mm": offered}, "shift_mm": pytest.approx(0.5 * share)}
    with pytest.raises(DataError, match="different grids"):
        placed_by_policy(volume, Place(grid(), SnappedGrid(snap_mm=0.5 * share * 0.9)))


@pytest.mark.parametrize("share", [0.55, 0.8, 1.0])
def test_nothing_is_snapped_beyond_half_a_voxel(share):
    volume = Volume(labels(), grid(origin_xyz=(0.5 * share, 0.0, 0.0)))
    with pytest.raises(DataError, match="different grids"):
        placed_by_policy(volume, Place(grid(), SnappedGrid(snap_mm=3.0)))


@pytest.mark.parametrize(
    ("shape", "start_xyz"),
    [((3, 4, 3), (1, 1, 1)), ((6, 9, 8), (-1, -2, -2)), ((4, 6, 5), (1, 0, 0)), ((2, 8, 4), (2, -1, 0))],
)
def test_lattice_keeps_every_label_at_its_place_and_counts_what_is_lost(shape, start_xyz):
    beside = grid(shape, origin_xyz=tuple(np.multiply(start_xyz, SPACING[::-1])))
    volume = mostly_inside(beside)
    with pytest.raises(DataError) as refused:
        placed_by_policy(volume, Place(grid()))
    assert "grid: lattice (cropped by" in str(refused.value)
    found = placed_by_policy(volume, Place(grid(), "lattice"))
    kept, given = centres(grid(), found.array_zyx), centres(beside, volume.array_zyx)
    assert kept.items() <= given.items()
    facts = found.facts["grid"]
    assert facts["lost"] == len(given) - len(kept)
    assert found.array_zyx.size - facts["padded"] == volume.array_zyx.size - facts["cropped"]
    assert number(str(refused.value), r"; ([0-9.]+)% of its voxels with a value lost") == pytest.approx(
        100 * facts["lost"] / len(given), abs=0.005
    )


def test_lattice_with_flipped_and_permuted_axes():
    affine = grid((6, 9, 8), origin_xyz=(-2.0, -1.0, -3.0)).affine
    affine[0, 0], affine[0, 3] = -1.0, 5.0
    turned = Geometry.from_affine((9, 6, 8), affine[:, [0, 2, 1, 3]])
    volume = mostly_inside(turned)
    found = placed_by_policy(volume, Place(grid(), "lattice"))
    assert centres(grid(), found.array_zyx).items() <= centres(turned, volume.array_zyx).items()
    assert found.array_zyx.any()


@pytest.mark.parametrize("share", [0.15, 0.3, 0.5])
def test_lattice_refuses_what_lies_between_voxels(share):
    beside = grid((6, 9, 8), origin_xyz=(-1.0, -1.0 + 0.5 * share, -3.0))
    with pytest.raises(DataError, match=r"not on one lattice.*grid: nearest"):
        placed_by_policy(mostly_inside(beside), Place(grid(), "lattice"))


def test_a_mask_of_another_place_is_refused_by_every_policy_but_trust():
    far = Volume(labels(), grid(origin_xyz=(400.0, 0.0, 0.0)))
    for policy in ("exact", "lattice", "nearest", SnappedGrid(snap_mm=0.1)):
        with pytest.raises(DataError, match=r"grid: trust-array .*400 mm apart"):
            placed_by_policy(far, Place(grid(), policy))
    assert np.array_equal(placed_by_policy(far, Place(grid(), "trust-array")).array_zyx, labels())


def test_nearest_resamples_and_says_the_share_inside():
    fine = Volume(np.repeat(labels(), 2, axis=2), grid((4, 6, 10), (3.0, 0.5, 0.5), (-0.25, 0.0, 0.0)))
    found = placed_by_policy(fine, Place(grid(), "nearest"))
    assert np.array_equal(found.array_zyx, labels())
    assert found.facts["grid"] == {"policy": "nearest", "share_inside": 1.0}
    map_ = placed_by_policy(
        Volume(np.ones((4, 6, 3), np.float32), grid((4, 6, 3))), Place(grid(), "nearest", "map t2", outside=np.nan)
    )
    assert np.isnan(map_.array_zyx[:, :, 3:]).all()
    assert (map_.array_zyx[:, :, :3] == 1).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("odd", [0, 1, 2])
def test_trust_array_pairs_voxels_of_two_files_by_their_indices(tmp_path: Path, axis, odd):
    """Whatever the headers say, and along whichever axis either file is cut."""
    import nibabel

    values = np.random.default_rng(1).integers(0, 200, size=(5, 6, 4)).astype(np.uint8)
    spacing = np.ones(3)
    spacing[odd] = 3.0
    nibabel.save(nibabel.Nifti1Image(values, np.diag([*spacing, 1.0])), tmp_path / "mask.nii.gz")
    edges = np.ones(3)
    edges[axis] = 5.0
    affine = np.diag([*edges, 1.0])
    affine[:3, 3] = 500.0
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "image.nii.gz")
    image = read_volume(tmp_path / "image.nii.gz")
    mask = read_placed_mask(tmp_path / "mask.nii.gz", image, Reading(grid="trust-array"))
    assert np.array_equal(mask.array_zyx, image.array_zyx)
    assert mask.geometry == image.geometry


def test_other_shapes_are_not_trusted():
    with pytest.raises(DataError, match="order of the file can be trusted only where"):
        placed_by_policy(
            Volume(labels((4, 6, 4)), grid((4, 6, 4), origin_xyz=(99, 0, 0))), Place(grid(), "trust-array")
        )


def test_unoriented_masks_are_refused_with_trust_array_and_taken_by_it():
    plain = Geometry.from_affine(SHAPE, grid().affine, oriented=False)
    volume = Volume(labels(), plain)
    with pytest.raises(DataError, match=r"CopyInformation.*grid: trust-array \(in the order of the file; its position"):
        placed_by_policy(volume, Place(grid()))
    assert np.array_equal(placed_by_policy(volume, Place(grid(), "trust-array")).array_zyx, labels())


def test_maps_follow_the_policy_and_must_contain_half_of_the_mask(tmp_path: Path):
    values = np.full((4, 6, 3), 40, np.float32)
    write_nifti(tmp_path / "t2.nii.gz", values, grid((4, 6, 3), origin_xyz=(1.0, 0.0, 0.0)))
    inside, outside = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    inside[:, :, 1:4], outside[:, :, [0, 4]] = 1, 1
    with pytest.raises(DataError, match="grid: lattice"):
        read_map(tmp_path / "t2.nii.gz", "t2", MapSource(), grid(), inside)
    made = read_map(tmp_path / "t2.nii.gz", "t2", MapSource(), grid(), inside, Reading(grid="lattice"))
    assert np.isfinite(made.values_zyx).sum() == values.size
    assert np.isfinite(made.values_zyx[:, :, 1:4]).all()
    assert made.facts["grid"]["policy"] == "lattice"
    with pytest.raises(DataError, match="map t2 contains 0 % of the labelled voxels"):
        read_map(tmp_path / "t2.nii.gz", "t2", MapSource(), grid(), outside, Reading(grid="lattice"))


def test_share_inside_counts_numbers_of_maps_and_labels_of_masks():
    floats = np.zeros(SHAPE, np.float32)
    floats[:, :, 0] = 1
    half = grid((4, 6, 2), origin_xyz=(0.0, 0.0, 0.0))
    assert share_inside(Volume(floats, grid()), half) == 1.0
    assert share_inside(Volume(floats, grid()), half, np.nan) == pytest.approx(2 / 5)


def blob(shape: tuple[int, int, int]) -> np.ndarray:
    z, y, x = np.indices(shape)
    inside = sum(((at - size / 2) / (size / 3)) ** 2 for at, size in zip((z, y, x), shape, strict=True)) < 1
    return np.where(inside, 1 + (z > shape[0] / 2), 0).astype(np.uint8)


def rotated(degrees: float) -> Geometry:
    angle = np.deg2rad(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return Geometry.from_affine((6, 14, 12), turn @ grid((6, 14, 12)).affine)


BESIDE = {
    "finer": (blob((6, 28, 24)), grid((6, 28, 24), (3.0, 0.25, 0.5), (-0.25, -0.125, 0.0))),
    "thinner slices": (blob((12, 14, 12)), grid((12, 14, 12), (1.5, 0.5, 1.0), (0.0, 0.0, -0.75))),
    "turned": (blob((6, 14, 12)), rotated(7)),
    "stretched": (blob((6, 14, 12)), grid((6, 14, 12), (3.0, 0.51, 1.0))),
    "cropped": (blob((6, 14, 12))[1:5, 2:12, 2:10], grid((4, 10, 8), origin_xyz=(2.0, 1.0, 3.0))),
    "padded": (np.pad(blob((6, 14, 12)), 2), grid((10, 18, 16), origin_xyz=(-2.0, -1.0, -6.0))),
    "shifted": (blob((6, 14, 12)), grid((6, 14, 12), origin_xyz=(0.2, 0.0, 0.0))),
}


@pytest.mark.parametrize("kind", BESIDE)
def test_every_policy_that_a_refusal_offers_works_and_says_what_becomes_of_the_volumes(kind):
    array, geometry = BESIDE[kind]
    image = grid((6, 14, 12))
    with pytest.raises(DataError) as refused:
        placed_by_policy(Volume(array, geometry), Place(image))
    offers = re.findall(r"grid: (\{snap_mm: [0-9.]+\}|lattice|nearest|trust-array)", str(refused.value))
    assert offers
    for offer in offers:
        policy = SnappedGrid(snap_mm=float(offer[10:-1])) if offer.startswith("{") else offer
        found = placed_by_policy(Volume(array, geometry), Place(image, policy))
        before, after = (np.bincount(one.ravel(), minlength=3)[1:] for one in (array, found.array_zyx))
        ml = before * geometry.voxel_volume_mm3 / 1000, after * image.voxel_volume_mm3 / 1000
        if np.abs(ml[1] / ml[0] - 1).max() < 1e-3:
            assert "sizes" not in found.facts["grid"]
            continue
        said = found.facts["grid"]["sizes"]
        assert said in found.notes[-1]
        assert number(said, r"^([0-9.]+) mL of labels") == pytest.approx(ml[0].sum(), rel=1e-3)
        assert number(said, r"become ([0-9.]+) mL") == pytest.approx(ml[1].sum(), rel=1e-3)
        worst = int(np.abs(ml[1] / ml[0] - 1).argmax())
        assert f"value {worst + 1} changes most" in said
        assert offer != "nearest" or said in str(refused.value)


@pytest.mark.parametrize("thick", [2, 3, 4])
def test_a_label_that_vanishes_between_voxels_is_said(thick):
    array = np.zeros((6, 14 * thick, 12), np.uint8)
    array[:, : 5 * thick], array[:, 8 * thick, :] = 1, 9
    fine = Volume(array, grid(array.shape, (3.0, 0.5 / thick, 1.0), (0.0, -0.5 * (0.5 - 0.5 / thick), 0.0)))
    found = placed_by_policy(fine, Place(grid((6, 14, 12)), "nearest"))
    assert set(np.unique(found.array_zyx)) == {0, 1}
    assert "value 9 changes most" in found.facts["grid"]["sizes"]
    assert found.facts["grid"]["sizes"].endswith("to 0 mL; 1 values vanish")


@pytest.mark.parametrize("policy", ["nearest", "lattice"])
@pytest.mark.parametrize(("value", "outside"), [(0, 0), (np.nan, np.nan)])
def test_a_volume_without_a_value_of_another_place_is_refused(policy, value, outside):
    """Nothing is lost of it, and it is that of another image all the same."""
    for distance, shape in ((400.0, SHAPE), (-60.0, (4, 9, 5)), (12.0, (2, 2, 2))):
        far = Volume(np.full(shape, value, np.float32), grid(shape, origin_xyz=(distance, 0.0, 0.0)))
        with pytest.raises(DataError, match="only 0% of the voxels"):
            placed_by_policy(far, Place(grid(), policy, outside=outside))
    near = Volume(np.full((4, 9, 5), value, np.float32), grid((4, 9, 5), origin_xyz=(1.0, 0.5, 0.0)))
    assert not np.nan_to_num(placed_by_policy(near, Place(grid(), policy, outside=outside)).array_zyx).any()
