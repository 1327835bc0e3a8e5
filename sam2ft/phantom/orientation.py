"""Position and orientation of a phantom: an oblique sagittal grid, and the anatomy frame rotated slightly in it."""

import numpy as np
import numpy.typing as npt

from sam2ft.core.geometry import Geometry


def sagittal_grid(
    rng: np.random.Generator, shape_zyx: tuple[int, int, int], spacing_zyx_mm: tuple[float, float, float]
) -> Geometry:
    """Slightly oblique grid: slices left to right, rows superior to inferior, columns anterior to posterior."""
    dz, dy, dx = spacing_zyx_mm
    sagittal = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], dtype=np.float64)  # columns: x, y, z of the grid in RAS
    turned = _rotation(np.radians(rng.uniform(-6, 6, size=3))) @ sagittal
    affine = np.eye(4)
    affine[:3, :3] = turned * np.array([dx, dy, dz])
    middle = (np.array(shape_zyx[::-1]) - 1) / 2
    affine[:3, 3] = rng.uniform(-30, 30, size=3) - affine[:3, :3] @ middle
    return Geometry.from_affine(shape_zyx, affine)


def anatomy_frame(
    rng: np.random.Generator,
    geometry: Geometry,
    centre_asm: tuple[float, float, float],
    mirrored: bool,
    turn_degrees: float = 9.0,
) -> npt.NDArray[np.float64]:
    """4 x 4 matrix, RAS mm -> (a, s, m, 1): the anatomy rotated by a few degrees, `centre_asm` at the grid centre.

    Args:
        centre_asm: point of the anatomy frame (a, s, m) in mm.
        mirrored: m points to the right (medial in a left knee) instead of to the left (medial in a right knee).
        turn_degrees: limit of the rotation in the sagittal plane.
    """
    affine = geometry.affine
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    across = -1.0 if not mirrored else 1.0
    to_grid = np.stack([-axes[:, 0], -axes[:, 1], across * axes[:, 2]])
    angles = np.radians([rng.uniform(-2.5, 2.5), rng.uniform(-2.5, 2.5), rng.uniform(-1, 1) * turn_degrees])
    rotation = _rotation(angles) @ to_grid
    middle = (np.array(geometry.shape_zyx[::-1]) - 1) / 2
    result = np.eye(4)
    result[:3, :3] = rotation
    result[:3, 3] = np.array(centre_asm) - rotation @ (affine @ np.array([*middle, 1.0]))[:3]
    return result


def _rotation(angles_rad: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rotation about the first, then the second, then the third axis."""
    result = np.eye(3)
    for axis, angle in enumerate(angles_rad):
        i, j = ((1, 2), (2, 0), (0, 1))[axis]
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        result = turn @ result
    return result
