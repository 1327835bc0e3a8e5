"""Surface distances weighted by area (surfels): HD, HD95, ASSD and NSD from lines in a slice and surfels in a volume.

Definition of Nikolov et al. 2021 (J Med Internet Res 23:e26151) and of their package surface-distance (Apache-2.0):
one element at every corner of the voxel grid whose 2 x 2 (x 2) neighbours are not all equal, with the length or area of
the marching-squares line or marching-cubes patch between them. Lengths and areas are computed for the given spacing.
"""

from functools import lru_cache
from itertools import product

import numpy as np
import numpy.typing as npt

from sam2ft.core.prompts import Mask
from sam2ft.metrics.masks.surface import Distances, SurfaceDistances, check_not_empty, distances_to, surface_metrics

Codes = npt.NDArray[np.uint8]
_EDGES_OF_A_SQUARE = (((0, 0), (0, 1)), ((0, 0), (1, 0)), ((0, 1), (1, 1)), ((1, 0), (1, 1)))


class SurfelDistances(SurfaceDistances):
    """Distances between the elements of two surfaces; their sizes are lengths in mm (2-D) or areas in mm2 (3-D)."""

    @property
    def hd95_mm(self) -> float:
        """Larger of the two directed distances that 95 % of the surface does not exceed."""
        return max(
            _weighted_percentile(self.to_reference, self.sizes_of_prediction, 0.95),
            _weighted_percentile(self.to_prediction, self.sizes_of_reference, 0.95),
        )


def surfel_distances(prediction: Mask, reference: Mask, spacing_mm: tuple[float, ...]) -> SurfelDistances:
    """Surfel distances of two non-empty masks of the same shape, 2-D or 3-D, with one spacing per axis.

    Raises:
        ValueError: A mask is empty and has no surface.
    """
    check_not_empty(prediction, reference)
    sizes = contour_lengths(spacing_mm) if prediction.ndim == 2 else surface_areas(spacing_mm)
    of_prediction, of_reference = neighbour_codes(prediction), neighbour_codes(reference)
    elements, reference_elements = (sizes > 0)[of_prediction], (sizes > 0)[of_reference]
    return SurfelDistances(
        distances_to(reference_elements, elements, spacing_mm),
        distances_to(elements, reference_elements, spacing_mm),
        sizes[of_prediction[elements]],
        sizes[of_reference[reference_elements]],
    )


def neighbour_codes(mask: Mask) -> Codes:
    """Neighbourhood code of every grid corner: which of the voxels around it are set, as bits.

    The voxel at offset (z, y, x) of 0 or 1 is bit 4 z + 2 y + x (2 y + x in a slice). Voxels beyond the array count as
    outside.

    Returns:
        One code per corner; each axis has one corner more than voxels.
    """
    codes: Codes = np.pad(mask, 1).astype(np.uint8)
    for step, axis in enumerate(reversed(range(mask.ndim))):
        every = (slice(None),) * axis
        codes = codes[(*every, slice(0, -1))] | (codes[(*every, slice(1, None))] << np.uint8(1 << step))
    return codes


@lru_cache(maxsize=64)
def contour_lengths(spacing_yx: tuple[float, ...]) -> Distances:
    """(16,) length in mm of the marching-squares lines of each code; lines cross square edges at midpoints."""
    lengths = np.zeros(16)
    for code in range(16):
        crossed = [
            np.add(one, other) / 2 * spacing_yx
            for one, other in _EDGES_OF_A_SQUARE
            if _is_inside(code, one) != _is_inside(code, other)
        ]
        # Four crossings (two opposite corners set): one line around each corner, each half a diagonal long.
        ends = crossed if len(crossed) == 2 else [np.zeros(2), np.asarray(spacing_yx) * (len(crossed) == 4)]
        lengths[code] = np.linalg.norm(ends[0] - ends[1])
    return lengths


@lru_cache(maxsize=64)
def surface_areas(spacing_zyx: tuple[float, ...]) -> Distances:
    """(256,) area in mm2 of the marching-cubes patches of each code."""
    areas = np.zeros(256)
    for code, triangles in enumerate(_patches()):
        corners = triangles * np.asarray(spacing_zyx)
        sides = corners[:, 1:] - corners[:, :1]
        areas[code] = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1).sum() / 2
    return areas


@lru_cache(maxsize=1)
def _patches() -> tuple[npt.NDArray[np.float64], ...]:
    """Triangles (n, 3, zyx) of each of the 256 codes, in a cube of unit spacing."""
    from skimage.measure import marching_cubes

    patches = [np.zeros((0, 3, 3))] * 256
    for code in range(1, 255):
        # Lorensen and Cline: a cube and its complement have the same patches; the code with fewer corners is used.
        fewer = code if code.bit_count() <= 4 else 255 - code
        cube = np.zeros((2, 2, 2))
        for corner in product((0, 1), repeat=3):
            cube[corner] = _is_inside(fewer, corner)
        vertices, faces, _, _ = marching_cubes(cube, 0.5, method="lorensen")
        patches[code] = vertices[faces].astype(np.float64)
    return tuple(patches)


def _is_inside(code: int, corner: tuple[int, ...]) -> bool:
    bit = sum(offset << step for step, offset in enumerate(reversed(corner)))
    return bool(code >> bit & 1)


def _weighted_percentile(distances: Distances, sizes: Distances, share: float) -> float:
    """Smallest distance that the given share of the surface does not exceed."""
    order = np.lexsort((sizes, distances))
    reached = np.cumsum(sizes[order]) / sizes[order].sum()
    return float(distances[order[min(int(np.searchsorted(reached, share)), len(order) - 1)]])


_METRICS = surface_metrics("_surfel", surfel_distances)
hd_surfel, hd95_surfel, assd_surfel, nsd_surfel = (_METRICS[name] for name in ("hd", "hd95", "assd", "nsd"))
