"""Cartilage thickness (ThCtAB, ThCcAB): length of cartilage along the normals of the bone (Eckstein et al. 2006)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam2ft.core.prompts import Mask
from sam2ft.metrics.biomarkers.both_masks import Side, on_both_masks
from sam2ft.metrics.biomarkers.coverage import Chosen, covered_vertices
from sam2ft.metrics.biomarkers.local_thickness import local_thickness_mm
from sam2ft.metrics.biomarkers.rays import Lengths, Numbers, Surface, blur_mm, lengths_along_normals, surface_of
from sam2ft.metrics.measurement import MaskPair, Measurement
from sam2ft.metrics.regions import Block, block_with_room

LOCAL = "local_thickness"
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
"""ThCcAB, ThCtAB: mean thickness over the covered and over the total bone area (bare bone counts as 0); cAB, tAB:
covered and total area of subchondral bone; dAB: bare (denuded) share of the total area; P5, P95: percentiles over the
covered area; valid_share: share of covered rays that do not leave the image inside cartilage. All but valid_share are
weighted by the bone area at each ray."""


@dataclass(frozen=True)
class CartilageThicknessMetric:
    """Thickness of one cartilage plate in mm, of reference and prediction, both from the REFERENCE's bone surface.

    The total area is the bone that the reference covers (masks do not show where cartilage was lost earlier), so that
    a missed part of a plate counts as 0 mm in ThCtAB of the prediction. A completely missed plate is NaN with status
    missed; for a spurious plate, values that depend on the total area are NaN. If the reference has no bone, all
    values are NaN with status absent. A tissue whose label names no bone has `local_thickness` instead.
    """

    name: str = "cartilagethickness"
    needs: tuple[str, ...] = ("bone",)
    biomarker: bool = True
    without_bone: bool = True

    def measure(self, pair: MaskPair) -> Iterator[Measurement]:
        if pair.bone_zyx is None:
            masks, spacing = (pair.reference_zyx, pair.prediction_zyx), pair.geometry.spacing_zyx_mm
            yield on_both_masks(self.name, LOCAL, "mm", *(local_thickness_mm(mask, spacing) for mask in masks))
            return
        reference = prediction = dict.fromkeys(UNITS, (math.nan, 0))
        status = pair.status if pair.bone_zyx.any() else "absent"
        if pair.status != "absent" and len((rays := bone_rays(pair)).surface):
            if pair.status != "spurious":
                reference = _values_of(rays, rays.reference)
            if pair.status != "missed":
                prediction = _values_of(rays, rays.prediction)
        for definition, unit in UNITS.items():
            sides = reference[definition], prediction[definition]
            yield on_both_masks(self.name, definition, unit, *sides, status=status)


@dataclass(frozen=True)
class Crossing:
    """Lengths of one mask along the rays of a bone, and coverage of the bone by the mask."""

    lengths: Lengths
    covered_n: Chosen


@dataclass(frozen=True)
class BoneRays:
    """Bone surface of the reference near the plates, and how its normals cross the plate of each mask."""

    surface: Surface
    """Without vertices if the reference has no bone near either plate."""
    reference: Crossing
    prediction: Crossing


def bone_rays(pair: MaskPair) -> BoneRays:
    """Bone rays of a pair with a bone mask; computed once, shared by thickness and the layers of T2 and T1rho."""
    return pair.once("bone_rays", _bone_rays)


def _bone_rays(pair: MaskPair) -> BoneRays:
    assert pair.bone_zyx is not None, "checked by the caller"
    spacing = pair.geometry.spacing_zyx_mm
    either = pair.reference_zyx | pair.prediction_zyx
    block = _around(either, spacing)
    surface = surface_of(pair.bone_zyx[block], spacing)
    surface = surface[_near(surface, either[block], spacing)]
    crossings = []
    for mask in (pair.reference_zyx, pair.prediction_zyx):
        lengths = lengths_along_normals(mask[block], surface, spacing)
        crossings.append(Crossing(lengths, covered_vertices(surface, lengths, spacing)))
    return BoneRays(surface.moved([part.start * step for part, step in zip(block, spacing, strict=True)]), *crossings)


def _around(mask: Mask, spacing_mm: tuple[float, float, float]) -> Block:
    """Bounding box of a non-empty mask, with a margin for rays (voxel diagonal) and the blur of the bone (4 sigma)."""
    room_mm = float(np.linalg.norm(spacing_mm)) + 4 * blur_mm(spacing_mm)
    return block_with_room(mask, (math.ceil(room_mm / spacing) + 1 for spacing in spacing_mm))


def _near(surface: Surface, mask: Mask, spacing_mm: tuple[float, float, float]) -> npt.NDArray[np.bool_]:
    """Vertices within about one voxel diagonal of a mask; rays from other vertices cannot meet the mask."""
    reach_mm = float(np.linalg.norm(spacing_mm))
    sizes = [2 * (math.ceil(reach_mm / spacing) + 1) + 1 for spacing in spacing_mm]
    grown = ndimage.maximum_filter(mask.astype(np.uint8), size=sizes, mode="constant")
    indices = np.rint(surface.vertices_n3 / np.asarray(spacing_mm)).astype(np.intp)
    near: npt.NDArray[np.bool_] = grown[tuple(indices.T)] > 0
    return near


def _values_of(rays: BoneRays, of: Crossing) -> dict[str, Side]:
    """Definition -> value from the rays of one mask, and their number; the total area is what the reference covers."""
    areas, lengths, total = rays.surface.areas_n, of.lengths.lengths_n, rays.reference.covered_n
    valid = np.isfinite(lengths)
    covered_valid = of.covered_n & valid
    total_area = float(areas[total].sum())
    p5, p95 = _weighted_quantiles(lengths[covered_valid], areas[covered_valid], (0.05, 0.95))
    num_covered, num_total = int(covered_valid.sum()), int((total & valid).sum())
    values = {
        "ThCcAB": _mean_over(areas, lengths, of.covered_n, of.lengths.met_n),
        "ThCtAB": _mean_over(areas, lengths, total, rays.reference.lengths.met_n),
        "cAB": float(areas[of.covered_n].sum()),
        "tAB": total_area if total_area else math.nan,
        "dAB": 100 * float(areas[total & ~of.covered_n].sum()) / total_area if total_area else math.nan,
        "P5": p5,
        "P95": p95,
        "valid_share": num_covered / int(of.covered_n.sum()) if of.covered_n.any() else math.nan,
    }
    return {
        definition: (value, num_total if definition in ("ThCtAB", "tAB", "dAB") else num_covered)
        for definition, value in values.items()
    }


def _mean_over(areas: Numbers, lengths: Numbers, covered_n: Chosen, met_n: Chosen) -> float:
    """Mean length over the covered area.

    Lengths of rays just outside the covered area are part of the plate too and are added to the sum, so that the mean
    equals volume / area, independent of how rim rays are classified. Rays that leave the image are excluded from both.
    """
    valid = np.isfinite(lengths)
    crossed, over = (covered_n | met_n) & valid, float(areas[covered_n & valid].sum())
    return float(areas[crossed] @ lengths[crossed]) / over if over else math.nan


def _weighted_quantiles(values: Numbers, weights: Numbers, shares: tuple[float, ...]) -> list[float]:
    """Weighted quantiles: for each share, the smallest value at or below which this share of the weight lies."""
    if not len(values):
        return [math.nan] * len(shares)
    order = np.argsort(values)
    weight = np.cumsum(weights[order])
    at = np.searchsorted(weight, np.multiply(shares, weight[-1]))
    return [float(values[order[min(int(index), len(order) - 1)]]) for index in at]
