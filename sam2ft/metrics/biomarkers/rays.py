"""A bone's surface as a triangle mesh, and how much of a mask lies along the rays that leave it."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam2ft.core.prompts import Mask

Numbers = npt.NDArray[np.float64]

# The bone is blurred by this share of its largest spacing (the same in mm along every axis), and at least this share
# of its smallest, before marching cubes, so that normals follow the bone and not the stairs of its voxels: on cubic
# voxels 0.7 leaves so much of the stairs that areas come out 1.3 % and thickness 1 % too large, 1.0 leaves 0.2 %; on
# 3 x 0.5 x 0.5 mm 1.0 rounds bones off.
BLUR_SHARE_OF_LARGEST, BLUR_SHARE_OF_SMALLEST = 0.7, 1.0
# Samples per voxel along a ray. Counted in the voxels of the axis that the ray crosses fastest, so that a slab of k
# voxels along an axis is exactly k voxels thick.
SAMPLES_PER_VOXEL = 4
# Below this share of tissue a sample lies outside it.
_NOTHING = 1e-6
_HALF = 0.5


@dataclass(frozen=True)
class Surface:
    """Vertices of a surface in mm along z, y, x (voxel 0 at 0), their outward unit normals, their share of its area."""

    vertices_n3: Numbers
    normals_n3: Numbers
    areas_n: Numbers
    """mm2: a third of the area of each triangle that meets the vertex."""
    faces_m3: npt.NDArray[np.int64]
    """Triangles as indices of vertices."""

    def __len__(self) -> int:
        return len(self.areas_n)

    def __getitem__(self, chosen: npt.NDArray[np.bool_]) -> "Surface":
        """The vertices chosen, and the triangles all of whose corners are."""
        number = np.cumsum(chosen) - 1
        faces = number[self.faces_m3[chosen[self.faces_m3].all(axis=1)]]
        return Surface(self.vertices_n3[chosen], self.normals_n3[chosen], self.areas_n[chosen], faces)

    def moved(self, by_mm: npt.ArrayLike) -> "Surface":
        return replace(self, vertices_n3=self.vertices_n3 + np.asarray(by_mm, dtype=np.float64))


@dataclass(frozen=True)
class Lengths:
    """How much of a mask each ray crosses."""

    lengths_n: Numbers
    """mm; 0 where the ray meets nothing, NaN where it leaves the image inside the mask."""
    middles_n: Numbers
    """mm along the ray from the surface to the middle of what it crosses; NaN where that is nothing."""
    largest_n: Numbers
    """Largest share of tissue met (0 to 1): below one half the ray passes beside the mask."""

    @property
    def met_n(self) -> npt.NDArray[np.bool_]:
        """Rays that meet any of the mask, those included that leave the image in it."""
        return ~(self.lengths_n <= 0)


def blur_mm(spacing_mm: tuple[float, float, float]) -> float:
    """Sigma of the blur that `surface_of` applies."""
    return max(BLUR_SHARE_OF_LARGEST * max(spacing_mm), BLUR_SHARE_OF_SMALLEST * min(spacing_mm))


def surface_of(mask: Mask, spacing_mm: tuple[float, float, float]) -> Surface:
    """The surface of a mask, seen as continuing beyond the image; empty for a mask that is empty or fills the image."""
    from skimage import measure  # 0.3 s, and only thickness needs it

    sigma_px = [blur_mm(spacing_mm) / spacing for spacing in spacing_mm]
    field = ndimage.gaussian_filter(mask.astype(np.float32), sigma_px, mode="nearest")
    if min(field.shape) < 2 or not field.min() < _HALF < field.max():
        return Surface(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), np.zeros((0, 3), np.int64))
    vertices, faces, _, _ = measure.marching_cubes(field, _HALF, spacing=spacing_mm, gradient_direction="ascent")
    vertices = vertices.astype(np.float64)
    corners = vertices[faces]
    # The cross product is normal to a triangle and twice its area long: summed over a vertex's triangles it is the
    # area-weighted normal. (skimage's own normals do not know the spacing.)
    products = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.stack([_sum_at(faces, products[:, axis], len(vertices)) for axis in range(3)], axis=1)
    areas = _sum_at(faces, np.linalg.norm(products, axis=1) / 6, len(vertices))
    lengths = np.linalg.norm(normals, axis=1)
    pointing = np.divide(normals, lengths[:, None], out=np.zeros_like(normals), where=lengths[:, None] > 0)
    return Surface(vertices, pointing, areas, faces.astype(np.int64))[lengths > 0]


def _sum_at(faces: npt.NDArray[np.integer], values: Numbers, num_vertices: int) -> Numbers:
    """Sum over the triangles at each vertex of a value per triangle."""
    return np.bincount(faces.ravel(), weights=np.repeat(values, 3), minlength=num_vertices).astype(np.float64)


def lengths_along_normals(mask: Mask, surface: Surface, spacing_mm: tuple[float, float, float]) -> Lengths:
    """Length of the first stretch of `mask` along each outward normal, if it begins within one voxel diagonal.

    The length is the integral along the ray of the mask interpolated linearly between voxel centres: summed over the
    surface it is the volume of the mask, wherever the mask lies in its voxels and however it is tilted. Rays start one
    voxel diagonal inside the surface, because a mask and the bone it lies on are drawn apart and may overlap.
    """
    tissue = mask.astype(np.float32)
    spacing, reach = np.asarray(spacing_mm), float(np.linalg.norm(spacing_mm))
    last = np.array(mask.shape) - _HALF
    directions = surface.normals_n3 / spacing
    travelled, steps = _first_samples(surface.vertices_n3 / spacing, directions, reach)
    positions = surface.vertices_n3 / spacing + travelled[:, None] * directions
    lengths, moments, previous, largest = (np.zeros(len(surface)) for _ in range(4))
    active = np.arange(len(surface))
    while len(active):
        at, gone = positions[active], travelled[active]
        here = ndimage.map_coordinates(tissue, at.T, order=1, mode="nearest").astype(np.float64)
        outside = ((at < -_HALF) | (at > last)).any(axis=1)
        solid = largest[active] >= _HALF
        # Ended: the mask is behind (or the next piece begins), nothing solid began within reach, or the image ends.
        behind = (largest[active] > 0) & (here <= _NOTHING)
        behind |= solid & (here < _HALF) & (here > previous[active])
        too_far = ~solid & (here < _HALF) & (gone > np.where(largest[active] > 0, 2 * reach, reach))
        crossed = np.where(behind, 0.0, here * steps[active])
        lengths[active] += crossed
        moments[active] += crossed * gone
        lengths[active[outside & solid & (here >= _HALF)]] = np.nan
        largest[active] = np.where(behind, largest[active], np.maximum(largest[active], here))
        previous[active] = here
        positions[active] += directions[active] * steps[active, None]
        travelled[active] += steps[active]
        active = active[~(behind | too_far | outside)]
    middles = np.divide(moments, lengths, out=np.full_like(moments, np.nan), where=lengths > 0)
    return Lengths(lengths, middles, largest)


def _first_samples(vertices_n3: Numbers, directions_n3: Numbers, reach_mm: float) -> tuple[Numbers, Numbers]:
    """(mm from the vertex to the first sample, mm between samples) of rays given in voxels and voxels per mm.

    Samples lie in the planes of voxel centres (and between them) of the axis that the ray crosses fastest: so a plate
    one voxel thick is met at its middle.
    """
    rays = np.arange(len(vertices_n3))
    fastest = np.abs(directions_n3).argmax(axis=1)
    speed = directions_n3[rays, fastest]
    first = (vertices_n3[rays, fastest] - reach_mm * speed) * SAMPLES_PER_VOXEL
    aligned = (np.rint(first) / SAMPLES_PER_VOXEL - vertices_n3[rays, fastest]) / speed
    return aligned, 1 / (SAMPLES_PER_VOXEL * np.abs(speed))
