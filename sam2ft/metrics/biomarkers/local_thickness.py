"""Thickness of a plate without a bone: twice the distance to its surface on its medial surface, in 3-D and in mm."""

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam2ft.core.prompts import Mask
from sam2ft.metrics.regions import block_of

Numbers = npt.NDArray[np.float64]
Spacing = tuple[float, float, float]

# How steeply the distance may rise along the medial surface. At a square rim the medial surface splits into branches
# that run into the edges, along which it rises by 0.5 (what is left when its part across the branch is taken off):
# these are of the rim and not of the plate.
_STEEPEST = 0.3
_BLUR_VOXELS = 0.7
_SAMPLES_PER_VOXEL = 4
_NOTHING, _HALF = 1e-6, 0.5


def local_thickness_mm(mask_zyx: Mask, spacing_mm: Spacing) -> tuple[float, int]:
    """(mean thickness over the medial surface in mm, number of its voxels); (NaN, 0) for an empty mask.

    Twice the distance is measured as the length of the mask along the plate's normal through each voxel of the medial
    surface: distances between voxel centres are 8 to 12 % too short on tilted plates, as the nearest of many voxels
    outside is always one that sticks out. Beyond the image there is no tissue. The mean is weighted by area, of which
    a voxel has the less the longer it is across the medial surface.
    """
    if not mask_zyx.any():
        return math.nan, 0
    spacing = np.asarray(spacing_mm)
    room = [(math.ceil(2 * max(spacing_mm) / step) + 2,) * 2 for step in spacing_mm]
    mask = np.pad(mask_zyx[block_of(mask_zyx)], room)
    voxels, half_mm = _medial_voxels(mask, spacing)
    normals = _normals(mask, voxels, spacing, half_mm)
    lengths = _lengths_through(mask, voxels, normals / spacing)
    weights = 1 / np.linalg.norm(normals * spacing, axis=1)
    return float(np.average(lengths, weights=weights)), len(voxels)


def _medial_voxels(mask: Mask, spacing: Numbers) -> tuple[npt.NDArray[np.intp], float]:
    """(voxels of the medial surface, their median distance to the outside in mm).

    A voxel is medial when one voxel farther from the surface the distance to it is no longer larger.
    """
    distance, nearest = ndimage.distance_transform_edt(mask, sampling=spacing, return_indices=True)
    voxels = np.argwhere(mask)
    at = tuple(voxels.T)
    here = distance[at]
    inwards = (voxels - nearest[(slice(None), *at)].T) * spacing / here[:, None]
    across = np.linalg.norm(inwards * spacing, axis=1)
    beyond = _sampled(distance, voxels + inwards * across[:, None] / spacing)
    gradient = np.stack([slope[at] for slope in np.gradient(distance, *spacing)], axis=1)
    along = gradient - (gradient * inwards).sum(axis=1, keepdims=True) * inwards
    top = beyond <= here * (1 + 1e-9)
    flat = top & (np.linalg.norm(along, axis=1) <= _STEEPEST)
    # A tissue no wider than thick is all rim.
    medial = flat if flat.any() else top
    return voxels[medial], float(np.median(here[medial]))


def _normals(mask: Mask, voxels: npt.NDArray[np.intp], spacing: Numbers, half_mm: float) -> Numbers:
    """Unit normals of the plate at voxels: the main direction of the surface's normals around each.

    Around: a Gaussian window of half the plate's thickness, and at least half of the largest spacing. A surface counts
    by its area, whatever the spacing across it.
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
    """mm of `mask`, interpolated linearly, along lines through voxels in it; directions in voxels per mm."""
    tissue = mask.astype(np.float32)
    steps = 1 / (_SAMPLES_PER_VOXEL * np.abs(directions).max(axis=1))
    lengths = steps.copy()
    for sign in (1, -1):
        moves = sign * steps[:, None] * directions
        positions, previous = voxels + moves, np.ones(len(voxels))
        active = np.arange(len(voxels))
        while len(active):
            here = _sampled(tissue, positions[active])
            # Behind the surface, or the next piece begins.
            behind = (here <= _NOTHING) | ((here < _HALF) & (here > previous[active]))
            lengths[active] += np.where(behind, 0.0, here * steps[active])
            previous[active] = here
            positions[active] += moves[active]
            active = active[~behind]
    return np.asarray(lengths, dtype=np.float64)


def _sampled(values: npt.NDArray[np.floating], positions_n3: npt.NDArray[np.floating]) -> Numbers:
    found = ndimage.map_coordinates(values, positions_n3.T, order=1, mode="constant")
    return np.asarray(found, dtype=np.float64)
