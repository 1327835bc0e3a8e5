"""Bone surface as a triangle mesh (marching cubes), and lengths of a mask along the rays (normals) of the surface."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam2ft.core.prompts import Mask

Numbers = npt.NDArray[np.float64]

# Sigma of the blur of the bone before marching cubes: the larger of these shares of the largest and of the smallest
# spacing (the same in mm along every axis). The blur makes normals follow the bone and not the steps of its voxels. On
# cubic voxels, 0.7 leaves steps that make areas 1.3 % and thickness 1 % too large, 1.0 leaves 0.2 %; on voxels of
# 3 x 0.5 x 0.5 mm, 1.0 rounds the bones off.
BLUR_SHARE_OF_LARGEST, BLUR_SHARE_OF_SMALLEST = 0.7, 1.0
# Samples per voxel along a ray, counted along the axis on which the ray advances fastest, so that a slab of k voxels
# along an axis is exactly k voxels thick.
SAMPLES_PER_VOXEL = 4
# Share of tissue below which a sample lies outside the tissue.
_NOTHING = 1e-6
_HALF = 0.5


@dataclass(frozen=True)
class Surface:
    """Triangle mesh: vertices in mm along z, y, x (voxel 0 at 0), their outward unit normals and areas."""

    vertices_n3: Numbers
    normals_n3: Numbers
    areas_n: Numbers
    """Area of each vertex in mm2: one third of the area of every triangle at the vertex."""
    faces_m3: npt.NDArray[np.int64]
    """Triangles as vertex indices."""

    def __len__(self) -> int:
        return len(self.areas_n)

    def __getitem__(self, chosen: npt.NDArray[np.bool_]) -> "Surface":
        """Part of the surface: the chosen vertices, and the triangles whose corners are all chosen."""
        number = np.cumsum(chosen) - 1
        faces = number[self.faces_m3[chosen[self.faces_m3].all(axis=1)]]
        return Surface(self.vertices_n3[chosen], self.normals_n3[chosen], self.areas_n[chosen], faces)

    def moved(self, by_mm: npt.ArrayLike) -> "Surface":
        """The surface translated by (z, y, x) mm."""
        return replace(self, vertices_n3=self.vertices_n3 + np.asarray(by_mm, dtype=np.float64))


@dataclass(frozen=True)
class Lengths:
    """Length of a mask along each ray."""

    lengths_n: Numbers
    """Length in mm; 0 where the ray does not meet the mask, NaN where it leaves the image inside the mask."""
    middles_n: Numbers
    """Distance in mm along the ray from the surface to the middle of the crossed length; NaN if it crosses nothing."""
    largest_n: Numbers
    """Largest share of tissue along the ray (0 to 1); below one half the ray passes beside the mask."""

    @property
    def met_n(self) -> npt.NDArray[np.bool_]:
        """Whether each ray meets the mask; includes rays that leave the image inside the mask."""
        return ~(self.lengths_n <= 0)


def blur_mm(spacing_mm: tuple[float, float, float]) -> float:
    """Sigma in mm of the Gaussian blur in `surface_of`."""
    return max(BLUR_SHARE_OF_LARGEST * max(spacing_mm), BLUR_SHARE_OF_SMALLEST * min(spacing_mm))


def surface_of(mask: Mask, spacing_mm: tuple[float, float, float]) -> Surface:
    """Surface of a mask, which is continued beyond the image; no vertices if the mask is empty or fills the image."""
    from skimage import measure  # 0.3 s, and only thickness needs it

    sigma_px = [blur_mm(spacing_mm) / spacing for spacing in spacing_mm]
    field = ndimage.gaussian_filter(mask.astype(np.float32), sigma_px, mode="nearest")
    if min(field.shape) < 2 or not field.min() < _HALF < field.max():
        return Surface(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), np.zeros((0, 3), np.int64))
    vertices, faces, _, _ = measure.marching_cubes(field, _HALF, spacing=spacing_mm, gradient_direction="ascent")
    vertices = vertices.astype(np.float64)
    corners = vertices[faces]
    # The cross product is normal to a triangle, with twice its area as length: the sum over the triangles of a vertex
    # is the area-weighted normal. (The normals of skimage ignore the spacing.)
    products = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.stack([_sum_at(faces, products[:, axis], len(vertices)) for axis in range(3)], axis=1)
    areas = _sum_at(faces, np.linalg.norm(products, axis=1) / 6, len(vertices))
    lengths = np.linalg.norm(normals, axis=1)
    pointing = np.divide(normals, lengths[:, None], out=np.zeros_like(normals), where=lengths[:, None] > 0)
    return Surface(vertices, pointing, areas, faces.astype(np.int64))[lengths > 0]


def _sum_at(faces: npt.NDArray[np.integer], values: Numbers, num_vertices: int) -> Numbers:
    """Per vertex, the sum of a triangle value over all triangles at the vertex."""
    return np.bincount(faces.ravel(), weights=np.repeat(values, 3), minlength=num_vertices).astype(np.float64)


def lengths_along_normals(mask: Mask, surface: Surface, spacing_mm: tuple[float, float, float]) -> Lengths:
    """Length of the first part of `mask` along each outward normal, if it begins within one voxel diagonal.

    The length is the integral along the ray of the mask, interpolated linearly between voxel centres: summed over the
    surface it is the volume of the mask, for any position and tilt of the mask in the voxel grid. Rays start one voxel
    diagonal inside the surface, because a mask and its bone are segmented separately and may overlap.
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
        at, distance = positions[active], travelled[active]
        value = ndimage.map_coordinates(tissue, at.T, order=1, mode="nearest").astype(np.float64)
        outside = ((at < -_HALF) | (at > last)).any(axis=1)
        solid = largest[active] >= _HALF
        # A ray ends after the mask (or where another part begins), if no tissue is within reach, or at the image edge.
        passed = (largest[active] > 0) & (value <= _NOTHING)
        passed |= solid & (value < _HALF) & (value > previous[active])
        too_far = ~solid & (value < _HALF) & (distance > np.where(largest[active] > 0, 2 * reach, reach))
        crossed = np.where(passed, 0.0, value * steps[active])
        lengths[active] += crossed
        moments[active] += crossed * distance
        lengths[active[outside & solid & (value >= _HALF)]] = np.nan
        largest[active] = np.where(passed, largest[active], np.maximum(largest[active], value))
        previous[active] = value
        positions[active] += directions[active] * steps[active, None]
        travelled[active] += steps[active]
        active = active[~(passed | too_far | outside)]
    middles = np.divide(moments, lengths, out=np.full_like(moments, np.nan), where=lengths > 0)
    return Lengths(lengths, middles, largest)


def _first_samples(vertices_n3: Numbers, directions_n3: Numbers, reach_mm: float) -> tuple[Numbers, Numbers]:
    """(mm from the vertex to the first sample, mm between samples) of rays given in voxels and voxels per mm.

    Samples lie in the planes of voxel centres (and between them) of the axis on which the ray advances fastest, so that
    a plate of one voxel is sampled at its middle.
    """
    rays = np.arange(len(vertices_n3))
    fastest = np.abs(directions_n3).argmax(axis=1)
    speed = directions_n3[rays, fastest]
    first = (vertices_n3[rays, fastest] - reach_mm * speed) * SAMPLES_PER_VOXEL
    aligned = (np.rint(first) / SAMPLES_PER_VOXEL - vertices_n3[rays, fastest]) / speed
    return aligned, 1 / (SAMPLES_PER_VOXEL * np.abs(speed))
