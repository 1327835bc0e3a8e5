"""Local thickness in mm of a plate without a bone: twice the distance from its 3-D medial surface to its boundary."""

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam2ft.core.prompts import Mask
from sam2ft.metrics.regions import bounding_block

Numbers = npt.NDArray[np.float64]
Spacing = tuple[float, float, float]

# Largest slope of the distance along the medial surface. At a square rim the medial surface splits into branches that
# run into the edges; along a branch the distance rises with slope 0.5 (after its part across the branch is removed).
# Such branches belong to the rim and not to the plate.
_MAX_SLOPE = 0.3
_BLUR_VOXELS = 0.7
_SAMPLES_PER_VOXEL = 4
_MIN_TISSUE, _HALF = 1e-6, 0.5


def local_thickness_mm(mask_zyx: Mask, spacing_mm: Spacing) -> tuple[float, int]:
    """Mean thickness of a mask over its medial surface.

    Thickness is measured as the length of the mask along the plate's normal through each voxel of the medial surface:
    distances between voxel centres are 8 to 12 % too short on tilted plates, because the nearest voxel outside is
    always one that protrudes into the plate. Outside the image there is no tissue. The mean is weighted by area: the
    longer a voxel is across the medial surface, the smaller is its area on it.

    Returns:
        (mean thickness in mm, number of voxels of the medial surface); (NaN, 0) for an empty mask.
    """
    if not mask_zyx.any():
        return math.nan, 0
    spacing = np.asarray(spacing_mm)
    room = [(math.ceil(2 * max(spacing_mm) / step) + 2,) * 2 for step in spacing_mm]
    mask = np.pad(mask_zyx[bounding_block(mask_zyx)], room)
    voxels, half_mm = _medial_voxels(mask, spacing)
    normals = _normals(mask, voxels, spacing, half_mm)
    lengths = _lengths_through(mask, voxels, normals / spacing)
    weights = 1 / np.linalg.norm(normals * spacing, axis=1)
    return float(np.average(lengths, weights=weights)), len(voxels)


def _medial_voxels(mask: Mask, spacing: Numbers) -> tuple[npt.NDArray[np.intp], float]:
    """(voxels of the medial surface, their median distance to the outside in mm).

    A voxel is medial if the distance to the boundary does not increase one voxel further inwards.
    """
    distance, nearest = ndimage.distance_transform_edt(mask, sampling=spacing, return_indices=True)
    voxels = np.argwhere(mask)
    at = tuple(voxels.T)
    depth = distance[at]
    inwards = (voxels - nearest[(slice(None), *at)].T) * spacing / depth[:, None]
    across = np.linalg.norm(inwards * spacing, axis=1)
    further_in = _sampled(distance, voxels + inwards * across[:, None] / spacing)
    gradient = np.stack([slope[at] for slope in np.gradient(distance, *spacing)], axis=1)
    along = gradient - (gradient * inwards).sum(axis=1, keepdims=True) * inwards
    top = further_in <= depth * (1 + 1e-9)
    flat = top & (np.linalg.norm(along, axis=1) <= _MAX_SLOPE)
    # A tissue that is not wider than thick consists of rim only.
    medial = flat if flat.any() else top
    return voxels[medial], float(np.median(depth[medial]))


def _normals(mask: Mask, voxels: npt.NDArray[np.intp], spacing: Numbers, half_mm: float) -> Numbers:
    """Unit normals of the plate at voxels: main direction of the boundary's normals near each voxel (structure tensor).

    The Gaussian window has a sigma of half the plate's thickness, and at least half of the largest spacing. The
    boundary is weighted by its area, independent of the spacing across it.
    """
    slopes = np.gradient(ndimage.gaussian_filter(mask.astype(np.float32), _BLUR_VOXELS), *spacing)
    root = np.sqrt(np.sqrt(sum(slope * slope for slope in slopes)) + 1e-12)
    window = max(half_mm, float(spacing.max()) / 2) / spacing
    tensors = np.empty((len(voxels), 3, 3))
    for row in range(3):
        for column in range(row + 1):
            product = ndimage.gaussian_filter(slopes[row] / root * (slopes[column] / root), window)
            tensors[:, row, column] = product[tuple(voxels.T)]
    return np.asarray(np.linalg.eigh(tensors)[1][:, :, 2], dtype=np.float64)


def _lengths_through(mask: Mask, voxels: npt.NDArray[np.intp], directions: Numbers) -> Numbers:
    """Length in mm of `mask` (linear interpolation) along lines through its voxels; directions in voxels per mm."""
    tissue = mask.astype(np.float32)
    steps = 1 / (_SAMPLES_PER_VOXEL * np.abs(directions).max(axis=1))
    lengths = steps.copy()
    for sign in (1, -1):
        moves = sign * steps[:, None] * directions
        positions, previous = voxels + moves, np.ones(len(voxels))
        active = np.arange(len(voxels))
        while len(active):
            value = _sampled(tissue, positions[active])
            # The sample is beyond the boundary, or another part of the mask begins.
            ended = (value <= _MIN_TISSUE) | ((value < _HALF) & (value > previous[active]))
            lengths[active] += np.where(ended, 0.0, value * steps[active])
            previous[active] = value
            positions[active] += moves[active]
            active = active[~ended]
    return np.asarray(lengths, dtype=np.float64)


def _sampled(values: npt.NDArray[np.floating], positions_n3: npt.NDArray[np.floating]) -> Numbers:
    found = ndimage.map_coordinates(values, positions_n3.T, order=1, mode="constant")
    return np.asarray(found, dtype=np.float64)
