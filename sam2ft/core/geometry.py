"""Geometry of an image grid: shape, voxel spacing, affine matrix in RAS millimetres, and comparison of grids.

Arrays are `_zyx`: z counts slices along their normal, y rows, x columns. `affine_ras` maps a voxel index (x, y, z, 1)
of such an array to millimetres in the RAS frame of NIfTI (x to the right of the subject, y anterior, z superior).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import DataError

# Two grids are the same when their corners agree within this fraction of the smallest voxel edge: saving a header in
# float32 moves corners by about 1e-5 of a voxel, resampling by much more than 1 %.
SAME_GRID_TOLERANCE_VOXELS = 0.01

# spacing_zyx_mm and the columns of affine_ras are one truth: rounding in float64 stays far below this fraction.
SAME_SPACING = 1e-6

PLANES = ("sagittal", "coronal", "axial")
"""The anatomical plane across each axis of the RAS frame."""

DZ_SOURCES = ("positions", "slice_spacing", "slice_thickness")


@dataclass(frozen=True)
class Geometry:
    """Shape, spacing and position of one volume.

    Raises:
        DataError: a spacing is not finite or not above 0.
        ValueError: unknown `dz_source`, or (with `exact`) a spacing that is not the length of its column of the affine.
    """

    shape_zyx: tuple[int, int, int]
    spacing_zyx_mm: tuple[float, float, float]
    """(dz, row distance, column distance); dz: distance of slice centres; SliceThickness only with that dz_source."""
    affine_ras: tuple[tuple[float, float, float, float], ...]
    """4 x 4, voxel index (x, y, z, 1) -> RAS mm."""
    dz_source: str = "positions"
    """positions | slice_spacing | slice_thickness: the source of dz."""
    oriented: bool = True
    """False: the file does not say how its axes lie in the body; the directions and the origin of the affine mean
    nothing, its voxel edges are right."""
    exact: bool = field(default=True, repr=False, compare=False)
    """False: a record of a store, whose spacings may be other numbers than the affine's (version 1) and are kept."""

    def __post_init__(self) -> None:
        if min(self.spacing_zyx_mm) <= 0 or not all(np.isfinite(self.spacing_zyx_mm)):
            raise DataError(f"spacing {self.spacing_zyx_mm} mm (z, y, x): every spacing must be finite and > 0")
        columns = np.linalg.norm(self.affine[:3, :3], axis=0)[::-1]
        if self.exact and not np.allclose(columns, self.spacing_zyx_mm, rtol=SAME_SPACING, atol=0):
            raise ValueError(
                f"spacing {_short(self.spacing_zyx_mm)} mm (z, y, x), but the columns of the affine are "
                f"{_short(tuple(columns.tolist()))} mm long; both must be the same numbers"
            )
        if self.dz_source not in DZ_SOURCES:
            raise ValueError(f"dz_source {self.dz_source!r}; one of {', '.join(DZ_SOURCES)}")

    @classmethod
    def from_affine(
        cls,
        shape_zyx: tuple[int, int, int],
        affine: npt.ArrayLike,
        dz_source: str = "positions",
        *,
        oriented: bool = True,
    ) -> "Geometry":
        """Geometry of an array whose voxel (x, y, z) lies at `affine @ (x, y, z, 1)` RAS mm."""
        matrix = np.asarray(affine, dtype=np.float64)
        dx, dy, dz = np.linalg.norm(matrix[:3, :3], axis=0)
        rows = tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in matrix)
        return cls(shape_zyx, (float(dz), float(dy), float(dx)), rows, dz_source, oriented)

    @classmethod
    def axis_aligned(cls, shape_zyx: tuple[int, int, int], spacing_zyx_mm: tuple[float, float, float]) -> "Geometry":
        """A grid parallel to the axes of the RAS frame, with its first voxel at the origin."""
        return cls.from_affine(shape_zyx, np.diag([*spacing_zyx_mm[::-1], 1.0]))

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        return np.array(self.affine_ras, dtype=np.float64)

    @property
    def voxel_volume_mm3(self) -> float:
        dz, dy, dx = self.spacing_zyx_mm
        return dz * dy * dx

    @property
    def pixel_area_mm2(self) -> float:
        return self.spacing_zyx_mm[1] * self.spacing_zyx_mm[2]

    @property
    def diagonal_mm(self) -> float:
        """Length of the volume's diagonal, whole voxels included: the default distance of a missed tissue."""
        return float(np.linalg.norm(np.multiply(self.shape_zyx, self.spacing_zyx_mm)))

    def corner_distance_mm(self, other: "Geometry") -> float:
        """The largest coordinate difference between the corners of two grids of one shape."""
        nz, ny, nx = self.shape_zyx
        corners = np.array(
            [[x, y, z, 1] for x in (0, nx - 1) for y in (0, ny - 1) for z in (0, nz - 1)], dtype=np.float64
        )
        return float(np.abs(corners @ (self.affine - other.affine).T).max())

    def difference(self, other: "Geometry", tolerance_voxels: float = SAME_GRID_TOLERANCE_VOXELS) -> str | None:
        """Description of how `other` differs from this grid, with numbers, or None when both are the same grid.

        Args:
            tolerance_voxels: how far corners may lie apart, as a fraction of the smallest voxel edge.
        """
        if self.shape_zyx != other.shape_zyx:
            return f"shape (z, y, x) {self.shape_zyx} against {other.shape_zyx}"
        distance_mm = self.corner_distance_mm(other)
        if distance_mm > tolerance_voxels * min(self.spacing_zyx_mm):
            spacings = f"spacing {_short(self.spacing_zyx_mm)} against {_short(other.spacing_zyx_mm)} mm"
            return f"corners lie up to {distance_mm:.4g} mm apart ({spacings})"
        return None

    def describe(self) -> str:
        """Shape, spacing and position as text, for a message."""
        first, last = self.affine[:3, 3], self.affine @ (*(n - 1 for n in self.shape_zyx[::-1]), 1)
        corners = f"from {_short(tuple(first.tolist()))} to {_short(tuple(last[:3].tolist()))} mm (RAS)"
        return f"shape (z, y, x) {self.shape_zyx}, spacing {_short(self.spacing_zyx_mm)} mm, {corners}"

    def in_file_order(self) -> npt.NDArray[np.float64]:
        """The affine of an unoriented grid without what it only assumes: all axes run forwards, from the origin."""
        affine = np.abs(self.affine)
        affine[:3, 3] = 0
        return affine

    def to_json(self) -> dict[str, Any]:
        """The grid for a record; `oriented` is in it only where it is False."""
        grid = {
            "shape_zyx": list(self.shape_zyx),
            "spacing_zyx_mm": list(self.spacing_zyx_mm),
            "affine_ras": [list(row) for row in self.affine_ras],
            "dz_source": self.dz_source,
        }
        return grid if self.oriented else {**grid, "oriented": False}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Geometry":
        """The grid of a stored record, with the numbers that it was stored with."""
        shape, spacing = value["shape_zyx"], value["spacing_zyx_mm"]
        affine = tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in value["affine_ras"])
        return cls(
            (int(shape[0]), int(shape[1]), int(shape[2])),
            (float(spacing[0]), float(spacing[1]), float(spacing[2])),
            affine,
            value["dz_source"],
            value.get("oriented", True),
            exact=False,
        )


def _short(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ")"
