"""Cartilage thickness: the length of cartilage along the normals of the bone it covers (Eckstein et al. 2006)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam2ft.core.prompts import Mask
from sam2ft.metrics.measurement import MaskPair, Measurement
from sam2ft.metrics.rays import Lengths, Numbers, Surface, blur_mm, lengths_along_normals, surface_of

UNITS = {
    "ThCcAB": "mm",
    "ThCtAB": "mm",
    "cAB": "mm2",
    "tAB": "mm2",
    "dAB": "percent",
    "P5": "mm",
    "P95": "mm",
    "valid_share": "1",
}
"""ThCcAB, ThCtAB: mean thickness over the covered area and over the total one (bare bone counts 0); cAB, tAB: covered
and total area of subchondral bone; dAB: bare share of the total area; P5, P95: percentiles over the covered area;
valid_share: rays that did not leave the image inside cartilage. All weighted by the bone area at each ray."""


@dataclass(frozen=True)
class CartilageThicknessMetric:
    """Thickness of one cartilage plate in mm, of reference and prediction, both from the REFERENCE's bone surface.

    The total area is the bone that the reference covers (masks do not show where cartilage was lost before), so that a
    partly missed plate counts 0 mm there in ThCtAB of the prediction. A wholly missed plate is NaN, status missed; of a
    spurious one, what depends on the total area is NaN.
    """

    name: str = "cartilagethickness"
    needs: tuple[str, ...] = ("bone",)
    biomarker: bool = True

    def measure(self, pair: MaskPair) -> Iterator[Measurement]:
        reference, prediction = _nothing(), _nothing()
        if pair.status != "absent":
            surface, of_reference, of_prediction = _lengths_of_both(pair)
            total = of_reference.covered_n
            reference = _numbers(surface.areas_n, of_reference, total)
            prediction = _numbers(surface.areas_n, of_prediction, total)
            if pair.status == "missed":
                prediction = _nothing()
            if pair.status == "spurious":
                reference = _nothing()
        for definition, unit in UNITS.items():
            yield Measurement(
                "volume",
                self.name,
                reference=reference.values[definition],
                prediction=prediction.values[definition],
                definition=definition,
                unit=unit,
                n_reference=reference.rays(definition),
                n_prediction=prediction.rays(definition),
            )


@dataclass(frozen=True)
class _Numbers:
    values: dict[str, float]
    num_covered: int
    num_total: int

    def rays(self, definition: str) -> int:
        return self.num_total if definition in ("ThCtAB", "tAB", "dAB") else self.num_covered


def _nothing() -> _Numbers:
    return _Numbers(dict.fromkeys(UNITS, math.nan), 0, 0)


def _lengths_of_both(pair: MaskPair) -> tuple[Surface, Lengths, Lengths]:
    """(bone surface near either plate, rays of the reference, rays of the prediction)."""
    assert pair.bone_zyx is not None, "checked by needs"
    spacing = pair.geometry.spacing_zyx_mm
    either = pair.reference_zyx | pair.prediction_zyx
    block = _around(either, spacing)
    surface = surface_of(pair.bone_zyx[block], spacing)
    near = surface[_near(surface, either[block], spacing)]
    reference = lengths_along_normals(pair.reference_zyx[block], near, spacing)
    prediction = lengths_along_normals(pair.prediction_zyx[block], near, spacing)
    return near, reference, prediction


def _around(mask: Mask, spacing_mm: tuple[float, float, float]) -> tuple[slice, ...]:
    """The block of a non-empty mask, with room for rays (a voxel diagonal) and for the blur of the bone (4 sigma)."""
    room_mm = float(np.linalg.norm(spacing_mm)) + 4 * blur_mm(spacing_mm)
    block = []
    for axis, spacing in enumerate(spacing_mm):
        filled = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        room = math.ceil(room_mm / spacing) + 1
        block.append(slice(max(0, int(filled[0]) - room), int(filled[-1]) + 1 + room))
    return tuple(block)


def _near(surface: Surface, mask: Mask, spacing_mm: tuple[float, float, float]) -> npt.NDArray[np.bool_]:
    """Vertices that a mask may lie within one voxel diagonal of: rays from the others would meet nothing."""
    reach_mm = float(np.linalg.norm(spacing_mm))
    sizes = [2 * (math.ceil(reach_mm / spacing) + 1) + 1 for spacing in spacing_mm]
    grown = ndimage.maximum_filter(mask.astype(np.uint8), size=sizes, mode="constant")
    indices = np.rint(surface.vertices_n3 / np.asarray(spacing_mm)).astype(np.intp)
    near: npt.NDArray[np.bool_] = grown[tuple(indices.T)] > 0
    return near


def _numbers(areas: Numbers, rays: Lengths, total: npt.NDArray[np.bool_]) -> _Numbers:
    """Every definition from the rays of one mask; `total` are the rays of the reference's plate."""
    valid = np.isfinite(rays.lengths_n)
    covered, counted = rays.covered_n & valid, total & valid
    covered_area, total_area = float(areas[rays.covered_n].sum()), float(areas[total].sum())
    bare_area = float(areas[total & ~rays.covered_n].sum())
    p5, p95 = _weighted_quantiles(rays.lengths_n[covered], areas[covered], (0.05, 0.95))
    values = {
        "ThCcAB": _weighted_mean(rays.lengths_n[covered], areas[covered]),
        "ThCtAB": _weighted_mean(rays.lengths_n[counted], areas[counted]),
        "cAB": covered_area,
        "tAB": total_area if total_area else math.nan,
        "dAB": 100 * bare_area / total_area if total_area else math.nan,
        "P5": p5,
        "P95": p95,
        "valid_share": int(covered.sum()) / int(rays.covered_n.sum()) if rays.covered_n.any() else math.nan,
    }
    return _Numbers(values, int(covered.sum()), int(counted.sum()))


def _weighted_mean(values: Numbers, weights: Numbers) -> float:
    return float(np.average(values, weights=weights)) if weights.sum() > 0 else math.nan


def _weighted_quantiles(values: Numbers, weights: Numbers, shares: tuple[float, ...]) -> list[float]:
    """The smallest value below or at which lies each share of the weight."""
    if not len(values):
        return [math.nan] * len(shares)
    order = np.argsort(values)
    weight = np.cumsum(weights[order])
    at = np.searchsorted(weight, np.multiply(shares, weight[-1]))
    return [float(values[order[min(int(index), len(order) - 1)]]) for index in at]
