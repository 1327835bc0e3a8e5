"""Contours become the voxels whose centres they contain: against a sphere and a box, with holes, and refused beside."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from sam2ft.config.schema.dataset import Reading
from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.images.grids import Volume
from sam2ft.data.images.volumes import read_volume
from sam2ft.data.masks.layers import Meaning
from sam2ft.data.masks.read_masks import MaskReader, read_placed_mask
from sam2ft.data.prepare.relabel import relabelled_volume
from tests.fixtures.dicom_files import write_contours

SHAPE = (20, 60, 50)
SPACING = (2.0, 0.5, 0.8)
TABLE = LabelTable((Label(4, "organ"), Label(6, "tumour")))
MEANING = Meaning(TABLE)


def geometries() -> dict[str, Geometry]:
    """Straight, turned about two axes, and mirrored with other axes."""
    straight = np.diag([0.8, 0.5, 2.0, 1.0])
    straight[:3, 3] = (-20, 7, 3)
    a, b = np.deg2rad([25.0, -40.0])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    turned = straight.copy()
    turned[:3, :3] = about_z @ about_x @ straight[:3, :3]
    mirrored = straight[[1, 2, 0, 3]] @ np.diag([-1, 1, -1, 1])
    affines = {"straight": straight, "turned": turned, "mirrored": mirrored}
    return {name: Geometry.from_affine(SHAPE, affine) for name, affine in affines.items()}


@pytest.fixture(params=["straight", "turned", "mirrored"])
def image(request: pytest.FixtureRequest) -> Volume:
    return Volume(np.zeros(SHAPE, np.uint16), geometries()[request.param])


Contours = list[Any]
"""Of one region: (n, 3) voxel indices x, y, z."""


def flat(outline: Any, z: float) -> Any:
    return [(x, y, z) for x, y in outline]


def box(x0: float, y0: float, x1: float, y1: float, z: float) -> Any:
    return flat([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], z)


def labels(path: Path, image: Volume) -> Any:
    return relabelled_volume(read_placed_mask(path, image, meaning=MEANING), TABLE, MEANING.known)[0]


def test_a_box_holds_the_voxels_whose_centres_lie_in_it(tmp_path: Path, image: Volume) -> None:
    regions = {"Organ": [box(9.5, 19.5, 29.5, 44.5, z) for z in range(4, 14)]}
    found = labels(write_contours(tmp_path / "rt.dcm", image.geometry, regions), image)
    expected = np.zeros(SHAPE, np.uint8)
    expected[4:14, 20:45, 10:30] = 4
    assert np.array_equal(found, expected)


def test_centres_on_the_outline_are_inside(tmp_path: Path, image: Volume) -> None:
    found = labels(write_contours(tmp_path / "rt.dcm", image.geometry, {"organ": [box(10, 20, 29, 44, 5)]}), image)
    expected = np.zeros(SHAPE, np.uint8)
    expected[5, 20:45, 10:30] = 4
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("radius_mm", [6.0, 9.3, 12.1])
def test_a_sphere_has_its_voxels_and_its_volume(tmp_path: Path, image: Volume, radius_mm: float) -> None:
    centre = np.array([24.3, 30.2, 9.6])  # voxels x, y, z
    edges = np.array(SPACING[::-1])
    contours = []
    for z in range(SHAPE[0]):
        rest = radius_mm**2 - ((z - centre[2]) * edges[2]) ** 2
        if rest > 0:
            angle = np.linspace(0, 2 * np.pi, 720, endpoint=False)
            ring = np.sqrt(rest) * np.stack([np.cos(angle), np.sin(angle)], axis=1) / edges[:2] + centre[:2]
            contours.append(flat(ring, z))
    found = labels(write_contours(tmp_path / "rt.dcm", image.geometry, {"tumour": contours}), image) == 6
    z, y, x = np.indices(SHAPE)
    distance = np.sqrt(
        sum(((index - at) * edge) ** 2 for index, at, edge in zip((x, y, z), centre, edges, strict=True))
    )
    # The polygon lies inside of the circle by less than radius * (1 - cos(pi / 720)); points move by 0.02 voxel.
    assert not (found & (distance > radius_mm + 0.02)).any()
    assert found[distance < radius_mm * np.cos(np.pi / 720) - 0.02].all()
    volume = float(found.sum() * np.prod(edges))
    assert volume == pytest.approx(4 / 3 * np.pi * radius_mm**3, rel=0.03)


def test_contours_in_each_other_are_holes_and_islands(tmp_path: Path, image: Volume) -> None:
    nested = [box(5.5, 5.5, 40.5, 40.5, 3), box(10.5, 10.5, 35.5, 35.5, 3), box(20.5, 20.5, 24.5, 24.5, 3)]
    beside = [box(42.5, 5.5, 46.5, 9.5, 3)]
    expected = np.zeros(SHAPE, np.uint8)
    expected[3, 6:41, 6:41], expected[3, 11:36, 11:36], expected[3, 21:25, 21:25] = 4, 0, 4
    expected[3, 6:10, 43:47] = 4
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        path = write_contours(tmp_path / "rt.dcm", image.geometry, {"organ": [*(nested[at] for at in order), *beside]})
        assert np.array_equal(labels(path, image), expected)


def test_a_keyhole_is_a_hole(tmp_path: Path, image: Volume) -> None:
    outer = [(5.5, 5.5), (40.5, 5.5), (40.5, 40.5), (5.5, 40.5)]
    inner = [(10.5, 10.5), (10.5, 35.5), (35.5, 35.5), (35.5, 10.5)]
    keyhole = flat([*outer, outer[0], *inner, inner[0]], 3)
    expected = np.zeros(SHAPE, np.uint8)
    expected[3, 6:41, 6:41], expected[3, 11:36, 11:36] = 4, 0
    found = labels(write_contours(tmp_path / "rt.dcm", image.geometry, {"organ": [keyhole]}), image)
    # The channel itself, of no width, may run through centres of voxels; these are in the region.
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("kind", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"])
def test_contours_that_cross_are_refused_unless_the_file_says_what_they_mean(
    tmp_path: Path, image: Volume, kind: str
) -> None:
    path = write_contours(
        tmp_path / "rt.dcm",
        image.geometry,
        {"organ": [box(5.5, 5.5, 20.5, 20.5, 3), box(10.5, 10.5, 30.5, 30.5, 3)]},
        kind,
    )
    if kind == "CLOSED_PLANAR":
        with pytest.raises(DataError, match=r"rt\.dcm: region 'organ', slice 3: two contours .* overlap in 100"):
            labels(path, image)
    else:
        assert (labels(path, image) == 4).sum() == 15 * 15 + 20 * 20 - 2 * 100


@pytest.mark.parametrize(
    ("contour", "message"),
    [
        (box(5, 5, 20, 20, 3.5), "1 mm beside the nearest slice"),
        (box(5, 5, 20, 20, 3.2), "0.4 mm beside the nearest slice"),
        (box(5, 5, 20, 20, 33), "outside of the slices"),
        ([(5, 5, 3), (20, 5, 4), (20, 20, 7)], "lies in no plane of voxels"),
        ([(5, 5, 3), (20, 5, 3)], "no ContourData of three or more points"),
    ],
)
def test_contours_beside_the_slices_are_refused(tmp_path: Path, image: Volume, contour: Any, message: str) -> None:
    with pytest.raises(DataError, match=rf"rt\.dcm: .*{message}"):
        labels(write_contours(tmp_path / "rt.dcm", image.geometry, {"organ": [contour]}), image)


def test_names_of_regions_are_labels_and_their_numbers_mean_nothing(tmp_path: Path, image: Volume) -> None:
    regions = {"Skin": [box(1, 1, 40, 40, 3)], "TUMOUR": [box(10, 10, 20, 20, 3)], "marker": []}
    path = write_contours(tmp_path / "rt.dcm", image.geometry, regions)
    with pytest.raises(DataError, match=r"'Skin' is no label.*labels_dropped: others"):
        labels(path, image)
    others = Meaning(TABLE, {**dict.fromkeys(range(1, 65536), 0), 4: 4, 6: 6})
    mask = read_placed_mask(path, image, meaning=others)
    assert (relabelled_volume(mask, TABLE, others.known)[0] == 6).sum() == 121


def test_without_an_image_contours_have_no_voxels(tmp_path: Path, image: Volume) -> None:
    path = write_contours(tmp_path / "rt.dcm", image.geometry, {"organ": [box(5, 5, 20, 20, 3)]})
    with pytest.raises(DataError, match="no grid of voxels of their own"):
        MaskReader().read(path)


UNEVEN = (0.0, 2.5, 5.0, 9.0, 12.5)


def uneven_series(folder: Path, write_series: Any, *, backwards: bool = False) -> tuple[Volume, Any]:
    """(an image whose slices were resampled to even distances, LPS places of its given slices)."""

    def place(header: Any, z: int) -> None:
        header.ImagePositionPatient = [-10.0, 4.0, 3.0 + UNEVEN[z] * (-1 if backwards else 1)]
        header.FrameOfReferenceUID = "1.2.3"

    write_series(folder, len(UNEVEN), change=place, shape=(12, 14))
    image = read_volume(folder, reading=Reading(irregular="resample"))
    assert image.nearest_slices is not None
    return image, [3.0 + at * (-1 if backwards else 1) for at in UNEVEN]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("drawn", [(0,), (1, 3), (4,), (0, 1, 2, 3, 4)])
def test_contours_of_a_series_that_was_resampled_follow_its_given_slices(
    tmp_path: Path, write_series: Any, backwards: bool, drawn: tuple[int, ...]
) -> None:
    image, heights = uneven_series(tmp_path / "s", write_series, backwards=backwards)
    dy, dx = image.geometry.spacing_zyx_mm[1:]
    outline = [(-10 + x * dx, 4 + y * dy) for x, y in ((2, 3), (7, 3), (7, 8), (2, 8))]
    to_voxels = np.linalg.inv(np.diag([-1, -1, 1, 1]) @ image.geometry.affine)
    contours = [[tuple((to_voxels @ [x, y, heights[z], 1])[:3]) for x, y in outline] for z in drawn]
    path = write_contours(tmp_path / "rt.dcm", image.geometry, {"organ": contours})
    mask = read_placed_mask(path, image, Reading(irregular="resample"), MEANING)
    given = np.sort(np.array(UNEVEN))
    even = np.linspace(0, UNEVEN[-1], len(UNEVEN))
    positions = np.array([heights[z] for z in drawn])
    up = (np.diag([-1, -1, 1, 1]) @ image.geometry.affine)[2, 3] + even * np.sign(image.geometry.affine[2, 2])
    for index, at in enumerate(up):
        nearest = min(heights, key=lambda height: (round(abs(height - at), 6), height))
        wanted = any(np.isclose(nearest, position) for position in positions)
        assert mask.array_zyx[index].any() == wanted, (index, at, nearest)
        assert mask.array_zyx[index].sum() in (0, 36)
    assert len(given) == mask.array_zyx.shape[0]


def test_a_contour_between_given_slices_is_refused(tmp_path: Path, write_series: Any) -> None:
    image, _ = uneven_series(tmp_path / "s", write_series)
    to_voxels = np.linalg.inv(np.diag([-1, -1, 1, 1]) @ image.geometry.affine)
    for height, word in ((10.0, "beside the nearest slice"), (3 - 2 * 3.125, "outside of the slices")):
        points = [tuple((to_voxels @ [x, y, height, 1])[:3]) for x, y in ((-9, 5), (-7, 5), (-7, 8))]
        path = write_contours(tmp_path / "rt.dcm", image.geometry, {"organ": [points]})
        with pytest.raises(DataError, match=word):
            read_placed_mask(path, image, Reading(irregular="resample"), MEANING)


@pytest.mark.parametrize("digits", [2, 3, 5])
def test_contours_through_centres_stay_so_whatever_their_digits(tmp_path: Path, image: Volume, digits: int) -> None:
    """As programs trace a mask along the centres of its outermost voxels and write millimetres with few digits."""
    path = write_contours(tmp_path / "rt.dcm", image.geometry, {"organ": [box(10, 20, 29, 44, z) for z in (4, 5, 6)]})
    header = pydicom.dcmread(path)
    for contour in header.ROIContourSequence[0].ContourSequence:
        contour.ContourData = [f"{float(value):.{digits}f}" for value in contour.ContourData]
    header.save_as(path)
    expected = np.zeros(SHAPE, np.uint8)
    expected[4:7, 20:45, 10:30] = 4
    assert np.array_equal(labels(path, image), expected)


@pytest.mark.parametrize("outline", [(-16, 1, -8, 4), (51, 1, 56, 4), (3, -9, 8, -2), (3, 61, 8, 70)])
def test_a_contour_beside_the_image_is_refused(tmp_path: Path, image: Volume, outline: Any) -> None:
    path = write_contours(tmp_path / "rt.dcm", image.geometry, {"organ": [box(5, 5, 9, 9, 3), box(*outline, 4)]})
    with pytest.raises(DataError, match="contour 2 of region 'organ' lies outside of the image"):
        labels(path, image)


@pytest.mark.parametrize(
    ("outline", "note"),
    [
        ((-6, 1, 4, 4), "1 contours reach up to 4.4 mm beyond the image"),
        ((3, 50, 8, 69.5), "1 contours reach up to 5 mm beyond the image"),
        ((1.2, 1.2, 1.6, 1.6), "no centre of a voxel lies in the contours of organ"),
        ((-0.5, -0.5, 49.5, 59.5), ""),
    ],
)
def test_what_contours_lose_is_noted(tmp_path: Path, image: Volume, outline: Any, note: str) -> None:
    path = write_contours(tmp_path / "rt.dcm", image.geometry, {"organ": [box(*outline, 4)]})
    notes = read_placed_mask(path, image, meaning=MEANING).notes
    assert [one for one in notes if note in one] if note else notes == ()
