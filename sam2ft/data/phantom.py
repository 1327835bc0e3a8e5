"""Phantoms: knees and lumbar spines whose every biomarker is known, drawn from (seed, index).

Subject `index` of a seed never depends on how many subjects are made. Arrays are zyx; the anatomy frame is
a = anterior, s = superior, m = medial (knee) or left (spine), in mm. docs/data.md describes the files made from these.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.geometry import Geometry
from sam2ft.core.labels import LabelTable
from sam2ft.data.phantom_knee import KNEE_LABELS, KNEE_TISSUES, paint_knee
from sam2ft.data.phantom_knee_subject import KNEE_SEQUENCES, draw_knee, knee_signal
from sam2ft.data.phantom_render import Rendered, Scene, render, rician
from sam2ft.data.phantom_shapes3d import Field

ECHO_TIMES_MS = (10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0)
SPIN_LOCK_TIMES_MS = (0.0, 10.0, 40.0, 80.0)

# The nano decodes masks on a grid four times coarser than 256 px, where plates under 5 px vanish.
_THINNEST_PX_AT_256 = 5.3


@dataclass(frozen=True)
class PhantomVolume:
    """One subject, with what is known about it."""

    subject: str
    image_zyx: Field
    """MR-like magnitude, arbitrary units, >= 0."""
    mask_zyx: npt.NDArray[np.uint8]
    geometry: Geometry
    t2_ms_zyx: Field | None
    """Knee: ms inside cartilage, NaN elsewhere. Spine: None."""
    t1rho_ms_zyx: Field | None
    truth: dict[str, Any]
    """JSON-able; see `knee_subject` and `spine_subject`."""
    labels: LabelTable
    tissue_t2_ms_zyx: Field
    """What every voxel decays with, cartilage or not."""
    tissue_t1rho_ms_zyx: Field
    proton_zyx: Field
    """Noise-free signal at echo time 0 of the relaxation series, 0 in air."""


def knee_subject(seed: int, index: int, sequence: str | None = None) -> PhantomVolume:
    """Knee `index` of cohort `seed`; `sequence` (a key of KNEE_SEQUENCES) is drawn when not given.

    `truth` holds `kind`, `sequence`, `side`, `spacing_zyx_mm` and, under `tissues`, for each cartilage the numbers of
    `phantom_plates.Plate.truth`.
    """
    rng = np.random.default_rng([seed, index, 1])
    drawn = tuple(KNEE_SEQUENCES)[int(rng.integers(len(KNEE_SEQUENCES)))]
    sequence = sequence or drawn
    rows, columns = int(rng.integers(248, 273)), int(rng.integers(240, 265))
    spacing_y = float(rng.uniform(0.425, 0.47))
    spacing_x = spacing_y * float(rng.uniform(0.97, 1.03))
    longest_px_mm = max(rows * spacing_y, columns * spacing_x) / 256
    knee = draw_knee(rng, thinnest_mm=_THINNEST_PX_AT_256 * longest_px_mm)
    num_slices = int(rng.integers(15, 21))
    spacing_z = float(np.clip(2 * (knee.half_width + rng.uniform(0, 3)) / num_slices, 2.0, 4.0))
    left_knee = bool(rng.integers(2))
    geometry = _sagittal_grid(rng, (num_slices, rows, columns), (spacing_z, spacing_y, spacing_x))
    centre = (rng.uniform(-2, 5) + knee.patella_origin[0] * 0.15, rng.uniform(-12, -6), 0.0)
    scene = Scene(
        lambda canvas, a, s, m: paint_knee(knee, canvas, a, s, m),
        KNEE_TISSUES,
        knee_signal(rng, sequence),
        bias=float(rng.uniform(0.15, 0.4)),
        noise=float(rng.uniform(0.02, 0.045)),
        texture_px=float(rng.uniform(0.9, 1.6)),
        gain=float(rng.uniform(300, 1500)),
        to_anatomy=_anatomy_frame(rng, geometry, centre, mirrored=left_knee),
    )
    rendered = render(scene, geometry, rng)
    truth: dict[str, Any] = {
        "kind": "knee",
        "sequence": sequence,
        "side": "left" if left_knee else "right",
        "spacing_zyx_mm": list(geometry.spacing_zyx_mm),
        "tissues": {plate.tissue: plate.truth() for plate in knee.plates},
    }
    return _volume(f"knee{index:03d}", rendered, scene, geometry, KNEE_LABELS, truth, with_maps=True)


def echo_series(volume: PhantomVolume, noise: float = 0.0, seed: int = 0) -> Field:
    """(echo, z, y, x) magnitudes at ECHO_TIMES_MS: S0 exp(-TE / T2), with Rician noise of `noise` times the largest S0."""
    return _decay(volume, volume.tissue_t2_ms_zyx, ECHO_TIMES_MS, noise, np.random.default_rng([seed, 2]))


def spin_lock_series(volume: PhantomVolume, noise: float = 0.0, seed: int = 0) -> Field:
    """(time, z, y, x) magnitudes at SPIN_LOCK_TIMES_MS: S0 exp(-TSL / T1rho)."""
    return _decay(volume, volume.tissue_t1rho_ms_zyx, SPIN_LOCK_TIMES_MS, noise, np.random.default_rng([seed, 3]))


def _decay(
    volume: PhantomVolume, times_ms: Field, at_ms: tuple[float, ...], noise: float, rng: np.random.Generator
) -> Field:
    start, rate = volume.proton_zyx, -1 / times_ms
    sigma = noise * float(start.max())
    return np.stack([rician(start * np.exp(rate * np.float32(time)), sigma, rng) for time in at_ms])


def _volume(
    subject: str,
    rendered: Rendered,
    scene: Scene,
    geometry: Geometry,
    labels: LabelTable,
    truth: dict[str, Any],
    with_maps: bool,
) -> PhantomVolume:
    def per_tissue(values: list[float]) -> Field:
        return np.array(values, dtype=np.float32)[rendered.tissue]

    mask = np.array([tissue.label for tissue in scene.tissues], dtype=np.uint8)[rendered.tissue]
    t2 = per_tissue([tissue.t2_ms for tissue in scene.tissues])
    t1rho = per_tissue([tissue.t1rho_ms for tissue in scene.tissues])
    # A bone painted over cartilage takes its relaxation times too.
    known = ~np.isnan(rendered.t2_ms) & (mask > 0) & np.isin(mask, _plate_labels(labels))
    t2_map, t1rho_map = (np.where(known, values, np.nan) for values in (rendered.t2_ms, rendered.t1rho_ms))
    proton = np.where(rendered.tissue == 0, np.float32(0), 1000 * rendered.signal)
    return PhantomVolume(
        subject, rendered.image, mask, geometry,
        t2_map if with_maps else None, t1rho_map if with_maps else None, truth, labels,
        np.where(known, t2_map, t2), np.where(known, t1rho_map, t1rho), proton,
    )  # fmt: skip


def _plate_labels(labels: LabelTable) -> list[int]:
    return [label.id for label in labels if label.interface is not None]


def _sagittal_grid(
    rng: np.random.Generator, shape_zyx: tuple[int, int, int], spacing_zyx_mm: tuple[float, float, float]
) -> Geometry:
    """Slices from left to right, rows from superior to inferior, columns from anterior to posterior; a little oblique."""
    dz, dy, dx = spacing_zyx_mm
    sagittal = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], dtype=np.float64)  # columns: x, y, z of the grid in RAS
    turned = _rotation(np.radians(rng.uniform(-6, 6, size=3))) @ sagittal
    affine = np.eye(4)
    affine[:3, :3] = turned * np.array([dx, dy, dz])
    middle = (np.array(shape_zyx[::-1]) - 1) / 2
    affine[:3, 3] = rng.uniform(-30, 30, size=3) - affine[:3, :3] @ middle
    return Geometry.from_affine(shape_zyx, affine)


def _anatomy_frame(
    rng: np.random.Generator, geometry: Geometry, centre_asm: tuple[float, float, float], mirrored: bool
) -> npt.NDArray[np.float64]:
    """4 x 4, RAS mm -> (a, s, m, 1): the anatomy lies in the grid a few degrees turned, `centre_asm` at its middle.

    In the scanner's right knee medial is to the left; `mirrored` is a left knee.
    """
    affine = geometry.affine
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    across = -1.0 if not mirrored else 1.0
    to_grid = np.stack([-axes[:, 0], -axes[:, 1], across * axes[:, 2]])
    angles = np.radians([rng.uniform(-2.5, 2.5), rng.uniform(-2.5, 2.5), rng.uniform(-9, 9)])
    rotation = _rotation(angles) @ to_grid
    middle = (np.array(geometry.shape_zyx[::-1]) - 1) / 2
    result = np.eye(4)
    result[:3, :3] = rotation
    result[:3, 3] = np.array(centre_asm) - rotation @ (affine @ np.array([*middle, 1.0]))[:3]
    return result


def _rotation(angles_rad: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rotation about the first, then the second, then the third axis."""
    result = np.eye(3)
    for axis, angle in enumerate(angles_rad):
        i, j = ((1, 2), (2, 0), (0, 1))[axis]
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        result = turn @ result
    return result


KINDS: Mapping[str, Any] = {"knee": knee_subject}
