"""Digital phantoms of knees and lumbar spines with known biomarkers, generated from (seed, index).

Subject `index` of a seed does not depend on the number of subjects. Arrays are zyx; the anatomy frame is a = anterior,
s = superior, m = medial (knee) or left (spine), in mm. cohort.py writes them as files.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.geometry import Geometry
from sam2ft.core.labels import LabelTable
from sam2ft.phantom.knee import KNEE_LABELS, KNEE_TISSUES, paint_knee
from sam2ft.phantom.knee_subject import KNEE_SEQUENCES, draw_knee, knee_signal
from sam2ft.phantom.orientation import anatomy_frame, sagittal_grid
from sam2ft.phantom.render import PhantomScene, render_scene, rician
from sam2ft.phantom.shapes import Field
from sam2ft.phantom.spine import SPINE_LABELS, SPINE_TISSUES, paint_spine
from sam2ft.phantom.spine_subject import SPINE_SEQUENCES, body_volume_mm3, draw_spine, spine_signal

ECHO_TIMES_MS = (10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0)
SPIN_LOCK_TIMES_MS = (0.0, 10.0, 40.0, 80.0)

# The nano model decodes masks on a grid four times coarser than 256 px, where plates thinner than 5 px vanish.
_THINNEST_PX_AT_256 = 5.3


@dataclass(frozen=True)
class PhantomVolume:
    """One subject with its true mask, maps and biomarkers."""

    subject: str
    image_zyx: Field
    """MR-like magnitude, arbitrary units, >= 0."""
    mask_zyx: npt.NDArray[np.uint8]
    geometry: Geometry
    t2_ms_zyx: Field | None
    """Knee: ms inside cartilage, NaN elsewhere. Spine: None."""
    t1rho_ms_zyx: Field | None
    truth: dict[str, Any]
    """JSON-serializable; see `knee_subject` and `spine_subject`."""
    labels: LabelTable
    tissue_t2_ms_zyx: Field
    """T2 of every voxel, of all tissues."""
    tissue_t1rho_ms_zyx: Field
    proton_zyx: Field
    """Noise-free signal at echo time 0 of the relaxation series, 0 in air."""


def knee_subject(seed: int, index: int, sequence: str | None = None) -> PhantomVolume:
    """Knee `index` of cohort `seed`; `sequence` (a key of KNEE_SEQUENCES) is drawn if not given.

    `truth` contains `kind`, `sequence`, `side`, `spacing_zyx_mm` and, under `tissues`, for each cartilage the values of
    `plates.Plate.truth`, and for every label `volume_in_view_mm3` (bones extend beyond the field of view), counted on
    three planes per slice.
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
    geometry = sagittal_grid(rng, (num_slices, rows, columns), (spacing_z, spacing_y, spacing_x))
    centre = (rng.uniform(-2, 5) + knee.patella_origin[0] * 0.15, rng.uniform(-12, -6), 0.0)
    scene = PhantomScene(
        lambda canvas, a, s, m: paint_knee(knee, canvas, a, s, m),
        KNEE_TISSUES,
        knee_signal(rng, sequence),
        bias=float(rng.uniform(0.15, 0.4)),
        noise=float(rng.uniform(0.02, 0.045)),
        texture_px=float(rng.uniform(0.9, 1.6)),
        gain=float(rng.uniform(300, 1500)),
        to_anatomy=anatomy_frame(rng, geometry, centre, mirrored=left_knee),
    )
    truth: dict[str, Any] = {
        "kind": "knee",
        "sequence": sequence,
        "side": "left" if left_knee else "right",
        "spacing_zyx_mm": list(geometry.spacing_zyx_mm),
        "tissues": {plate.tissue: plate.truth() for plate in knee.plates},
    }
    return _volume(f"knee{index:03d}", scene, geometry, rng, KNEE_LABELS, truth)


def spine_subject(seed: int, index: int, sequence: str | None = None) -> PhantomVolume:
    """Lumbar spine `index` of cohort `seed`; `sequence` (a key of SPINE_SEQUENCES) is drawn if not given.

    `truth` contains `kind`, `sequence`, `spacing_zyx_mm`, `discs` (top to bottom, each `spine.Disc.truth`) and,
    under `tissues`, `volume_mm3` of `vertebra` and `disc`, and their `volume_in_view_mm3` as for knees.
    """
    rng = np.random.default_rng([seed, index, 4])
    drawn = tuple(SPINE_SEQUENCES)[int(rng.integers(len(SPINE_SEQUENCES)))]
    sequence = sequence or drawn
    spine = draw_spine(rng)
    labelled = [body for body in spine.bodies if body.labelled]
    discs = [disc for disc in spine.discs if disc.labelled]
    rows, columns = int(rng.integers(252, 277)), int(rng.integers(236, 261))
    top, bottom = labelled[0].centre[1], discs[-1].centre[1]
    spacing_y = (top - bottom + float(rng.uniform(52, 66))) / rows
    num_slices = int(rng.integers(13, 18))
    spacing_z = 2 * (labelled[0].half_width + float(rng.uniform(1, 6))) / num_slices
    spacing_x = spacing_y * float(rng.uniform(0.97, 1.03))
    geometry = sagittal_grid(rng, (num_slices, rows, columns), (spacing_z, spacing_y, spacing_x))
    centre = (
        float(rng.uniform(-16, -4)),
        (top + bottom) / 2 + float(rng.uniform(-2, 4)),
        float(rng.uniform(-1.5, 1.5)),
    )
    scene = PhantomScene(
        lambda canvas, a, s, m: paint_spine(spine, canvas, a, s, m),
        SPINE_TISSUES,
        spine_signal(rng, sequence),
        bias=float(rng.uniform(0.2, 0.5)),
        noise=float(rng.uniform(0.02, 0.045)),
        texture_px=float(rng.uniform(0.9, 1.6)),
        gain=float(rng.uniform(300, 1500)),
        to_anatomy=anatomy_frame(rng, geometry, centre, mirrored=False, turn_degrees=4.0),
    )
    known = [disc.truth() for disc in discs]
    truth: dict[str, Any] = {
        "kind": "spine",
        "sequence": sequence,
        "spacing_zyx_mm": list(geometry.spacing_zyx_mm),
        "discs": known,
        "tissues": {
            "vertebra": {"volume_mm3": sum(body_volume_mm3(body) for body in labelled)},
            "disc": {"volume_mm3": sum(disc["volume_mm3"] for disc in known)},
        },
    }
    return _volume(f"spine{index:03d}", scene, geometry, rng, SPINE_LABELS, truth)


def echo_series(volume: PhantomVolume, noise: float = 0.0, seed: int = 0) -> Field:
    """(echo, z, y, x) magnitudes at ECHO_TIMES_MS: S0 exp(-TE / T2), Rician noise of `noise` times the largest S0."""
    return _decay(volume, volume.tissue_t2_ms_zyx, ECHO_TIMES_MS, noise, np.random.default_rng([seed, 2]))


def spin_lock_series(volume: PhantomVolume, noise: float = 0.0, seed: int = 0) -> Field:
    """(time, z, y, x) magnitudes at SPIN_LOCK_TIMES_MS: S0 exp(-TSL / T1rho), noise as in `echo_series`."""
    return _decay(volume, volume.tissue_t1rho_ms_zyx, SPIN_LOCK_TIMES_MS, noise, np.random.default_rng([seed, 3]))


def _decay(
    volume: PhantomVolume, times_ms: Field, at_ms: tuple[float, ...], noise: float, rng: np.random.Generator
) -> Field:
    start, rate = volume.proton_zyx, -1 / times_ms
    sigma = noise * float(start.max())
    return np.stack([rician(start * np.exp(rate * np.float32(time)), sigma, rng) for time in at_ms])


def _volume(
    subject: str,
    scene: PhantomScene,
    geometry: Geometry,
    rng: np.random.Generator,
    labels: LabelTable,
    truth: dict[str, Any],
) -> PhantomVolume:
    rendered = render_scene(scene, geometry, rng)

    def of_tissues(attribute: str, dtype: type) -> npt.NDArray[Any]:
        return np.array([getattr(tissue, attribute) for tissue in scene.tissues], dtype=dtype)[rendered.tissue]

    for label in labels:
        entry = truth["tissues"].setdefault(label.name, {})
        entry["volume_in_view_mm3"] = rendered.volumes_mm3.get(label.id, 0.0)
    mask = of_tissues("label", np.uint8)
    # Bone painted over cartilage replaces its relaxation times too.
    plates = [label.id for label in labels if label.interface is not None]
    known = ~np.isnan(rendered.t2_ms) & np.isin(mask, plates)
    t2_map, t1rho_map = (np.where(known, values, np.nan) for values in (rendered.t2_ms, rendered.t1rho_ms))
    t2, t1rho = of_tissues("t2_ms", np.float32), of_tissues("t1rho_ms", np.float32)
    proton = np.where(rendered.tissue == 0, np.float32(0), 1000 * rendered.signal)
    return PhantomVolume(
        subject, rendered.image, mask, geometry,
        t2_map if plates else None, t1rho_map if plates else None, truth, labels,
        np.where(known, t2_map, t2), np.where(known, t1rho_map, t1rho), proton,
    )  # fmt: skip
