"""Digital solids with known biomarkers (shell, plate, disc, relaxation signals) on any grid, at sub-voxel positions.

The centre of a solid is a point inside the middle voxel of its grid. Increasing columns go to anterior and increasing
rows to inferior, as in a sagittal series.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sam2ft.config.schema.maps import MAP_BOUNDS_MS, MapSource
from sam2ft.core.geometry import Geometry
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.images.relaxometry import fit_decay
from sam2ft.phantom.render import rician

Truth = Mapping[tuple[str, str, str], float]
"""(biomarker, definition, unit) -> the true value."""
Offset = tuple[float, float, float]
"""Offset (z, y, x) of the centre of a solid from the centre of its voxel, in fractions of a voxel."""

THICKNESS_MM = 2.4
SIGNAL, NOISE_SHARE = 1000.0, 1 / 50
T2_MS, T1RHO_MS = 40.0, 45.0
ECHOES_MS, SPIN_LOCKS_MS = tuple(10.0 * number for number in range(1, 8)), (0.0, 10.0, 40.0, 80.0)
# Maximum size of a scene: solids on finer grids are smaller.
_MOST_VOXELS = 1_500_000
_LEAST_RADIUS_MM, _RADIUS_MM, _ROOM_MM = 5.0, 16.0, 5.0
_DISC_MM = (34.0, 8.0, 30.0)
"""Length (towards anterior, tilted), height and width of the disc."""
_TILT = math.radians(12)


@dataclass(frozen=True)
class Solid:
    """One scene with its true biomarker values."""

    name: str
    geometry: Geometry
    labels: LabelTable
    mask_zyx: npt.NDArray[np.uint8]
    truth: Truth
    maps: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)


def solids(spacing_zyx_mm: tuple[float, float, float], offset: Offset) -> list[Solid]:
    """All solids on a grid with this spacing, their centres shifted by `offset`."""
    return [_shell(spacing_zyx_mm, offset), _plate(spacing_zyx_mm, offset), _disc(spacing_zyx_mm, offset)]


Points = npt.NDArray[np.float64]


def _scene(spacing: tuple[float, float, float], size_mm: Offset, offset: Offset) -> tuple[Geometry, list[Points]]:
    """(grid that contains `size_mm` around the centre, its sparse coordinates z, y, x in mm from the centre)."""
    counts = [math.ceil(size / step) + 2 for size, step in zip(size_mm, spacing, strict=True)]
    dz, dy, dx = spacing
    affine = np.array([[0, 0, dz, 0], [dx, 0, 0, 0], [0, -dy, 0, 0], [0, 0, 0, 1]], dtype=np.float64)
    ticks = [
        (np.arange(count) - (count - 1) / 2 - shift) * step
        for count, step, shift in zip(counts, spacing, offset, strict=True)
    ]
    geometry = Geometry.from_affine((counts[0], counts[1], counts[2]), affine)
    return geometry, list(np.meshgrid(*ticks, indexing="ij", sparse=True))


def _radius_mm(spacing: tuple[float, float, float]) -> float:
    side = math.cbrt(_MOST_VOXELS * math.prod(spacing))
    return min(_RADIUS_MM, max(_LEAST_RADIUS_MM, side / 2 - _ROOM_MM))


def _disc_scale(spacing: tuple[float, float, float]) -> float:
    length, height, width = _DISC_MM
    room = length * (length * math.sin(_TILT) + height) * width
    return min(1.0, math.cbrt(_MOST_VOXELS * math.prod(spacing) / room))


def _shell(spacing: tuple[float, float, float], offset: Offset) -> Solid:
    """A ball of bone inside a shell of cartilage whose noisy signals decay with T2 and T1rho."""
    radius = _radius_mm(spacing)
    outer = radius + THICKNESS_MM
    side = 2 * (radius + _ROOM_MM)
    geometry, (z, y, x) = _scene(spacing, (side, side, side), offset)
    distance = np.sqrt(z**2 + y**2 + x**2)
    mask = np.where(distance < radius, 2, distance < outer).astype(np.uint8)
    volume = 4 / 3 * math.pi * (outer**3 - radius**3)
    area = 4 * math.pi * radius**2
    truth = _thickness(area) | _volume(volume) | _relaxation()
    labels = LabelTable((Label(1, "shell", "ball"), Label(2, "ball")))
    return Solid("shell", geometry, labels, mask, truth, _maps(mask == 1, offset))


def _plate(spacing: tuple[float, float, float], offset: Offset) -> Solid:
    """A flat round plate of cartilage on bone, tilted against all axes of the grid."""
    radius = min(12.0, _radius_mm(spacing))
    height = 6.0
    side = 2 * (radius + _ROOM_MM)
    geometry, (z, y, x) = _scene(spacing, (side, side, side), offset)
    normal = np.array([math.sin(_TILT), math.cos(_TILT), math.sin(_TILT) / 2])
    normal /= np.linalg.norm(normal)
    depth = normal[0] * z + normal[1] * y + normal[2] * x
    across = np.sqrt(np.maximum(z**2 + y**2 + x**2 - depth**2, 0))
    bone = (depth < 0) & (depth > -height) & (across < radius + 3)
    plate = (depth >= 0) & (depth < THICKNESS_MM) & (across < radius)
    mask = np.where(bone, 2, plate).astype(np.uint8)
    area = math.pi * radius**2
    labels = LabelTable((Label(1, "plate", "slab"), Label(2, "slab")))
    return Solid("plate", geometry, labels, mask, _thickness(area) | _volume(area * THICKNESS_MM))


def _disc(spacing: tuple[float, float, float], offset: Offset) -> Solid:
    """An upright block like an intervertebral disc, tilted in the plane of the slices."""
    length, height, width = (size * _disc_scale(spacing) for size in _DISC_MM)
    geometry, (z, y, x) = _scene(spacing, (width + 2, length * math.sin(_TILT) + height + 2, length + 2), offset)
    along, up = x * math.cos(_TILT) + y * math.sin(_TILT), y * math.cos(_TILT) - x * math.sin(_TILT)
    mask = (abs(along) < length / 2) & (abs(up) < height / 2) & (abs(z) < width / 2)
    heights = {
        ("tissueheight", name, "mm"): height
        for name in ("height", "height_anterior", "height_middle", "height_posterior")
    }
    truth = heights | {("tissueheight", "area", "mm2"): length * height} | _volume(length * height * width)
    return Solid("disc", geometry, LabelTable((Label(1, "disc"),)), mask.astype(np.uint8), truth)


def _thickness(area_mm2: float) -> dict[tuple[str, str, str], float]:
    """Truth of a plate of constant thickness that covers `area_mm2` of bone."""
    lengths = {("cartilagethickness", name, "mm"): THICKNESS_MM for name in ("ThCcAB", "ThCtAB", "P5", "P95")}
    return lengths | {("cartilagethickness", name, "mm2"): area_mm2 for name in ("cAB", "tAB")}


def _volume(volume_mm3: float) -> dict[tuple[str, str, str], float]:
    return {("tissuevolume", "volume", "mm3"): volume_mm3}


def _relaxation() -> dict[tuple[str, str, str], float]:
    true = {"t2": T2_MS, "t1rho": T1RHO_MS}
    return {(name, statistic, "ms"): value for name, value in true.items() for statistic in ("mean", "median")}


def _maps(tissue_zyx: npt.NDArray[np.bool_], offset: Offset) -> dict[str, npt.NDArray[np.float32]]:
    """Maps fitted to noisy signals of the tissue, NaN outside it."""
    rng = np.random.default_rng([round(1e6 * share) + 10**6 for share in offset])
    found = {}
    for name, true_ms, times in (("t2", T2_MS, ECHOES_MS), ("t1rho", T1RHO_MS, SPIN_LOCKS_MS)):
        decay = SIGNAL * np.exp(-np.array(times, dtype=np.float32) / np.float32(true_ms))
        clean = np.repeat(decay[:, None], int(tissue_zyx.sum()), axis=1).astype(np.float32)
        fit = fit_decay(rician(clean, SIGNAL * NOISE_SHARE, rng), times, MAP_BOUNDS_MS[name], MapSource())
        found[name] = np.full(tissue_zyx.shape, np.nan, dtype=np.float32)
        found[name][tissue_zyx] = fit.t_ms
    return found
