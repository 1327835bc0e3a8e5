"""Cartilage layers: deep and superficial half of a plate, split at half of its local thickness."""

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from sam2ft.core.prompts import Mask
from sam2ft.metrics.biomarkers.thickness import BoneRays, Crossing, bone_rays
from sam2ft.metrics.measurement import MaskPair

LAYERS = ("deep", "superficial")

Halves = dict[str, npt.NDArray[np.bool_]]
"""Layer -> boolean per voxel of a mask, in the order of `mask[mask]`: whether the voxel is in the layer."""


def layers(pair: MaskPair) -> tuple[Halves, Halves]:
    """Layers of the reference and of the prediction, both from the reference's bone; computed once per pair.

    Relative depth is 0 at the bone and 1 at the articular surface, along the nearest normal of the bone; deep is 0 to
    0.5, superficial 0.5 to 1. If no ray meets the mask, no voxel is in a layer.

    Returns:
        (layers of the reference, layers of the prediction).
    """
    return pair.once("layers", _layers)


def _layers(pair: MaskPair) -> tuple[Halves, Halves]:
    if pair.status == "absent":
        empty: Halves = {layer: np.zeros(0, dtype=np.bool_) for layer in LAYERS}
        return empty, empty
    rays = bone_rays(pair)
    spacing = np.asarray(pair.geometry.spacing_zyx_mm)
    return (
        _halves(pair.reference_zyx, rays, rays.reference, spacing),
        _halves(pair.prediction_zyx, rays, rays.prediction, spacing),
    )


def _halves(mask: Mask, rays: BoneRays, of: Crossing, spacing: npt.NDArray[np.float64]) -> Halves:
    positions = np.argwhere(mask) * spacing
    known = np.isfinite(of.lengths.middles_n)
    if not known.any():
        return {layer: np.zeros(len(positions), dtype=np.bool_) for layer in LAYERS}
    crossing, middles = rays.surface[known], of.lengths.middles_n[known]
    _, nearest = cKDTree(crossing.vertices_n3).query(positions)
    away = ((positions - crossing.vertices_n3[nearest]) * crossing.normals_n3[nearest]).sum(axis=1)
    deep = away < middles[nearest]
    return {"deep": deep, "superficial": ~deep}
