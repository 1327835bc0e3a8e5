"""The phantoms: what is drawn agrees with what is said to be true, and the same seed draws the same."""

from functools import cache

import numpy as np
import pytest
from skimage.morphology import skeletonize

from sam2ft.core.geometry import Geometry
from sam2ft.core.labels import LabelTable
from sam2ft.phantom.knee import KNEE_LABELS, KNEE_TISSUES, paint_knee
from sam2ft.phantom.knee_subject import KNEE_SEQUENCES, draw_knee, knee_signal
from sam2ft.phantom.orientation import anatomy_frame
from sam2ft.phantom.phantom import (
    ECHO_TIMES_MS,
    SPIN_LOCK_TIMES_MS,
    PhantomVolume,
    echo_series,
    knee_subject,
    spin_lock_series,
    spine_subject,
)
from sam2ft.phantom.render import PhantomScene, render_scene
from sam2ft.phantom.spine import SPINE_LABELS

CARTILAGES = (1, 2, 3, 4)
# Three planes per slice against the integral of the anatomy: flat ends of a plate fall between planes.
IN_VIEW_TOLERANCE = 0.06


@cache
def knee(index: int) -> PhantomVolume:
    return knee_subject(11, index)


@cache
def spine(index: int) -> PhantomVolume:
    return spine_subject(11, index)


def _share_at_256(volume: PhantomVolume) -> float:
    """Pixels of a slice resized to 256 x 256 per pixel of the slice, the smaller of both axes."""
    return 256 / max(volume.geometry.shape_zyx[1:])


def test_the_same_seed_and_index_give_the_same_subject_and_others_differ() -> None:
    again = knee_subject(11, 1)
    assert np.array_equal(knee(1).image_zyx, again.image_zyx)
    assert np.array_equal(knee(1).mask_zyx, again.mask_zyx)
    assert knee(1).truth == again.truth
    assert knee(0).truth["tissues"] != knee(1).truth["tissues"]
    assert spine_subject(12, 0).truth["discs"] != spine(0).truth["discs"]


def test_a_given_sequence_changes_the_look_and_not_the_anatomy() -> None:
    other = next(name for name in KNEE_SEQUENCES if name != knee(0).truth["sequence"])
    seen = knee_subject(11, 0, sequence=other)
    assert np.array_equal(seen.mask_zyx, knee(0).mask_zyx)
    assert not np.allclose(seen.image_zyx, knee(0).image_zyx)


@pytest.mark.parametrize("kind", ["knee", "spine"])
def test_spacings_and_shapes_differ_between_subjects_and_between_axes(kind: str) -> None:
    volumes = [knee(i) if kind == "knee" else spine(i) for i in range(3)]
    assert len({volume.geometry.spacing_zyx_mm for volume in volumes}) == 3
    assert len({volume.geometry.shape_zyx for volume in volumes}) == 3
    for volume in volumes:
        dz, dy, dx = volume.geometry.spacing_zyx_mm
        assert dy != dx
        assert 2.0 <= dz <= 4.7
        assert dz > 3 * max(dy, dx)


@pytest.mark.parametrize("kind", ["knee", "spine"])
def test_every_label_is_in_every_subject_and_missing_from_some_slice(kind: str) -> None:
    for index in range(3):
        volume = knee(index) if kind == "knee" else spine(index)
        assert set(np.unique(volume.mask_zyx)) == {0, *volume.labels.ids}
        present = np.stack([(volume.mask_zyx == label).any(axis=(1, 2)) for label in volume.labels.ids])
        assert not present.all()


def test_medial_and_lateral_tibial_cartilage_share_no_slice() -> None:
    for index in range(3):
        medial, lateral = ((knee(index).mask_zyx == label).any(axis=(1, 2)) for label in (2, 3))
        assert not (medial & lateral).any()


def test_left_and_right_knees_have_their_medial_plates_on_other_sides() -> None:
    sides: dict[str, set[bool]] = {}
    for index in range(3):
        volume = knee(index)
        medial, lateral = (np.argwhere(volume.mask_zyx == label)[:, 0].mean() for label in (2, 3))
        # Slices run from left to right: medial of a right knee is to the left, so it comes first.
        sides.setdefault(volume.truth["side"], set()).add(bool(medial < lateral))
    assert sides == {"right": {True}, "left": {False}}


@pytest.mark.parametrize("label", CARTILAGES)
def test_plates_are_at_least_five_pixels_thick_at_256(label: int) -> None:
    widths = []
    for index in range(3):
        volume = knee(index)
        plate = volume.truth["tissues"][volume.labels[label].name]
        spacing = max(volume.geometry.spacing_zyx_mm[1:])
        assert plate["thickness_mean_mm"] / spacing * _share_at_256(volume) >= 5.0
        mask = volume.mask_zyx == label
        # Independently of what is said: area over the length of the centre line, per slice.
        for plane in mask[mask.any(axis=(1, 2))]:
            length = skeletonize(plane).sum() * 1.15  # a slanted line has fewer pixels than its length
            widths.append(plane.sum() / length * _share_at_256(volume))
    assert np.median(widths) >= 5.0


@pytest.mark.parametrize("index", range(3))
def test_cartilage_fills_the_volume_that_its_thickness_integrates_to(index: int) -> None:
    for label in CARTILAGES:
        truth = knee(index).truth["tissues"][knee(index).labels[label].name]
        assert truth["volume_in_view_mm3"] == pytest.approx(truth["volume_mm3"], rel=IN_VIEW_TOLERANCE)
        # On a convex bone a plate holds a little more than area x thickness, on a plane exactly that.
        flat = truth["area_mm2"] * truth["thickness_mean_mm"]
        assert truth["volume_mm3"] == pytest.approx(flat) if label > 1 else 1.02 < truth["volume_mm3"] / flat < 1.10


@pytest.mark.parametrize("index", range(3))
def test_the_mask_holds_the_volume_within_the_last_slice_of_each_end(index: int) -> None:
    volume = knee(index)
    for label in CARTILAGES:
        mask = volume.mask_zyx == label
        slices = mask.any(axis=(1, 2)).sum()
        measured = mask.sum() * volume.geometry.voxel_volume_mm3
        # A plate ends bluntly across the slices: up to half a slice at each of its ends is counted or missed.
        ends = 4 if label == 1 else 2
        expected = volume.truth["tissues"][volume.labels[label].name]["volume_mm3"]
        assert measured == pytest.approx(expected, rel=0.02 + 0.5 * ends / slices)


def test_on_thin_slices_the_voxels_hold_the_analytic_volume() -> None:
    rng = np.random.default_rng(5)
    anatomy = draw_knee(rng, thinnest_mm=2.4)
    geometry = Geometry.axis_aligned((80, 128, 128), (0.85, 0.9, 0.9))
    frame = anatomy_frame(rng, geometry, (5.0, -8.0, 0.0), mirrored=False)
    signal = knee_signal(rng, "pd")
    scene = PhantomScene(
        lambda canvas, a, s, m: paint_knee(anatomy, canvas, a, s, m), KNEE_TISSUES, signal, 0.2, 0.02, 1.0, 1.0, frame
    )
    drawn = render_scene(scene, geometry, rng)
    for plate in anatomy.plates:
        number = [tissue.name for tissue in KNEE_TISSUES].index(plate.tissue)
        voxels = (drawn.tissue == number).sum() * geometry.voxel_volume_mm3
        assert voxels == pytest.approx(plate.truth()["volume_mm3"], rel=0.02)


@pytest.mark.parametrize("index", range(3))
def test_mean_relaxation_of_the_voxels_is_the_integral_over_the_plate(index: int) -> None:
    volume = knee(index)
    assert volume.t2_ms_zyx is not None
    assert volume.t1rho_ms_zyx is not None
    for label in CARTILAGES:
        truth = volume.truth["tissues"][volume.labels[label].name]
        mask = volume.mask_zyx == label
        assert volume.t2_ms_zyx[mask].mean() == pytest.approx(truth["t2_mean_ms"], rel=0.005)
        assert volume.t1rho_ms_zyx[mask].mean() == pytest.approx(truth["t1rho_mean_ms"], rel=0.005)
        assert truth["t2_mean_deep_ms"] < truth["t2_mean_ms"] < truth["t2_mean_superficial_ms"]
        assert 28 < volume.t2_ms_zyx[mask].min() < volume.t2_ms_zyx[mask].max() < 60
        assert 34 < volume.t1rho_ms_zyx[mask].min() < volume.t1rho_ms_zyx[mask].max() < 72
    cartilage = np.isin(volume.mask_zyx, CARTILAGES)
    assert np.array_equal(np.isfinite(volume.t2_ms_zyx), cartilage)


def test_noise_free_echoes_decay_with_the_map_in_every_voxel() -> None:
    volume = knee(0)
    where = np.isin(volume.mask_zyx, CARTILAGES)
    assert volume.t2_ms_zyx is not None
    assert volume.t1rho_ms_zyx is not None
    echoes = echo_series(volume)[:, where].astype(np.float64)
    slope = np.polyfit(ECHO_TIMES_MS, np.log(echoes), 1)[0]
    assert -1 / slope == pytest.approx(volume.t2_ms_zyx[where], rel=1e-4)
    locked = spin_lock_series(volume)[:, where].astype(np.float64)
    slope = np.polyfit(SPIN_LOCK_TIMES_MS, np.log(locked), 1)[0]
    assert -1 / slope == pytest.approx(volume.t1rho_ms_zyx[where], rel=1e-4)


def test_noisy_echoes_are_rician_and_seeded() -> None:
    first, again = (echo_series(knee(0), noise=0.01, seed=4)[:1] for _ in range(2))
    assert np.array_equal(first, again)
    air = first[0][knee(0).proton_zyx == 0]
    sigma = 0.01 * float(knee(0).proton_zyx.max())
    # The mean of Rayleigh noise is sigma sqrt(pi / 2).
    assert air.mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.02)


@pytest.mark.parametrize("index", range(3))
def test_vertebrae_and_discs_fill_their_analytic_volumes(index: int) -> None:
    volume = spine(index)
    for label in volume.labels:
        truth = volume.truth["tissues"][label.name]
        voxels = (volume.mask_zyx == label.id).sum() * volume.geometry.voxel_volume_mm3
        assert voxels == pytest.approx(truth["volume_mm3"], rel=0.03)
        assert truth["volume_in_view_mm3"] == pytest.approx(truth["volume_mm3"], rel=0.02)


def test_a_disc_s_height_is_its_area_over_its_length_and_opens_forwards() -> None:
    discs = spine(0).truth["discs"]
    assert [disc["level"] for disc in discs] == ["L1/L2", "L2/L3", "L3/L4", "L4/L5", "L5/S1"]
    for disc in discs:
        assert disc["height_mean_mm"] == pytest.approx(disc["area_mm2"] / disc["length_mm"])
        thirds = [disc[f"height_{third}_mm"] for third in ("anterior", "middle", "posterior")]
        assert disc["height_mean_mm"] == pytest.approx(np.mean(thirds))
        assert thirds[0] > thirds[2]


@pytest.mark.parametrize("index", range(3))
def test_the_middle_slice_shows_five_discs_of_the_stated_height(index: int) -> None:
    from sam2ft.core.components import components

    volume = spine(index)
    areas = [(plane == 2).sum() for plane in volume.mask_zyx]
    numbered, count = components(volume.mask_zyx[int(np.argmax(areas))] == 2)
    assert count == 5
    for number, disc in enumerate(volume.truth["discs"], start=1):
        area = (numbered == number).sum() * volume.geometry.pixel_area_mm2
        # An oblique slice cuts a disc a little longer or off its middle.
        assert area == pytest.approx(disc["area_mm2"], rel=0.06)


def test_discs_are_at_least_five_pixels_high() -> None:
    for index in range(3):
        volume = spine(index)
        lowest = min(disc["height_mean_mm"] for disc in volume.truth["discs"])
        assert lowest / max(volume.geometry.spacing_zyx_mm[1:]) * _share_at_256(volume) >= 5.0


def test_tables_name_interfaces_that_exist() -> None:
    knee_table, spine_table = KNEE_LABELS, SPINE_LABELS
    bones = [knee_table.interface_of(label) for label in CARTILAGES]
    assert [bone.name for bone in bones if bone is not None] == ["femur", "tibia", "tibia", "patella"]
    assert isinstance(spine_table, LabelTable)
    assert spine_table.describe() == "1 vertebra, 2 disc"
