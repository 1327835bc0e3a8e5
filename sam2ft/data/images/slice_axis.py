"""Which axis of an image is cut into slices: the plane of acquisition, an anatomical plane, or an axis by its index."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import DataError

# Spacings whose relative difference is smaller than this are equal: headers store them as float32.
EQUAL_SPACING = 1e-3
# The odd spacing must differ from the other two at least this many times as much as these from each other (as logs).
CLEARLY_ODD = 2.0
NORMAL_OF = {"sagittal": 0, "coronal": 1, "axial": 2}
"""Plane -> axis of the RAS frame that is normal to it."""
# An axis belongs to a plane when it lies within 45 degrees of the plane's normal.
NEAREST = float(np.cos(np.pi / 4))


@dataclass(frozen=True)
class SliceAxis:
    """The axis along which an image is cut into slices, and how it was found."""

    index: int
    """Index of an axis of the file (of a DICOM series: 0 columns, 1 rows, 2 slices)."""
    reason: str
    """single slice | dim_info | odd spacing | third axis | largest spacing | acquisition | slices | given"""
    plane: str | None
    """sagittal, coronal or axial: the plane nearest to the slices; None when the file does not say how it lies."""

    def fact(self, chosen: str) -> dict[str, Any]:
        """The record of the choice in a store: key of the dataset file, how the axis was found, plane."""
        return {"chosen": chosen, "axis": self.reason, "plane": self.plane}


def acquisition_axis(
    shape: tuple[int, ...], spacing_mm: npt.NDArray[np.float64], dim_info: int | None
) -> tuple[int, str]:
    """(axis, reason) of `slice_axis: auto`: the first of these rules that applies.

    1. single slice: the only axis with one voxel. 2. dim_info: the slice dimension that a NIfTI header names.
    3. odd spacing: the spacings sorted, a <= b <= c, the odd one is c if c/b > b/a, else a; it must differ by more
    than 1e-3, and its ratio to its neighbour must be at least the square of the ratio of the other two (0.5, 0.5, 3:
    the axis of 3 mm; 1, 1, 0.9: that of 0.9 mm). 4. third axis.
    """
    ones = [axis for axis in range(3) if shape[axis] == 1]
    if len(ones) == 1:
        return ones[0], "single slice"
    if dim_info is not None:
        return dim_info, "dim_info"
    order = np.argsort(spacing_mm, kind="stable")
    low, high = np.diff(np.log(spacing_mm[order])).tolist()
    apart, pair, odd = (high, low, order[2]) if high > low else (low, high, order[0])
    if apart > np.log1p(EQUAL_SPACING) and apart >= CLEARLY_ODD * pair:
        return int(odd), "odd spacing"
    return 2, "third axis"


def largest_spacing_axis(spacing_mm: npt.NDArray[np.float64]) -> int:
    """Index of the largest spacing, of equal ones the last: the rule of stores of version 1."""
    largest = np.flatnonzero(spacing_mm >= spacing_mm.max() * (1 - EQUAL_SPACING))
    return int(largest[-1])


def anatomical_axis(plane: str, affine: npt.NDArray[np.float64]) -> int:
    """The axis of an image (columns of its RAS affine) that runs along the normal of an anatomical plane.

    Raises:
        DataError: every axis is more than 45 degrees from this normal.
    """
    cosines = np.abs(_directions(affine)[NORMAL_OF[plane]])
    if cosines.max() < NEAREST:
        angle = float(np.degrees(np.arccos(cosines.max())))
        raise DataError(
            f"slice_axis: {plane}: the nearest axis is {angle:.0f} degrees from the normal of this plane, over 45; "
            "give the index of an axis, slice_axis: 0, 1 or 2"
        )
    return int(cosines.argmax())


def plane_of(axis: int, affine: npt.NDArray[np.float64]) -> str:
    """The anatomical plane nearest to slices across an axis of an image with this RAS affine."""
    nearest = int(np.abs(_directions(affine)[:, axis]).argmax())
    return next(plane for plane, normal in NORMAL_OF.items() if normal == nearest)


def _directions(affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    directions: npt.NDArray[np.float64] = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return directions
