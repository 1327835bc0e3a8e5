"""The affine of a NRRD file: space directions or spacings, units of length, and the frame of the space."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import DataError
from sam2ft.data.formats.description import MM_PER_UNIT, in_mm

SPACING_TOLERANCE = 1e-3
"""Relative difference between space directions and spacings beyond which they contradict each other."""
_TO_RAS = {
    "left-posterior-superior": (-1.0, -1.0, 1.0),
    "lps": (-1.0, -1.0, 1.0),
    "right-anterior-superior": (1.0, 1.0, 1.0),
    "ras": (1.0, 1.0, 1.0),
    "left-anterior-superior": (-1.0, 1.0, 1.0),
    "las": (-1.0, 1.0, 1.0),
}
_MM_PER_UNIT = {"": 1.0, **MM_PER_UNIT}


def affine_of(
    header: Mapping[str, Any], axes: Sequence[int], believe: str | None
) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """(RAS affine in mm of three axes of a file, notes).

    Args:
        axes: the axes of space among all axes of the file.
        believe: orientation (space directions) or spacing (spacings), where these contradict each other.

    Raises:
        DataError: voxel sizes, unit or frame are missing or unknown, or fields contradict each other.
    """
    notes: list[str] = []
    edges = _spacings(header, axes)
    if "space directions" in header:
        columns, found = _directions(header, axes, edges, believe)
        notes += found
    elif edges is not None:
        columns = np.diag(edges)
        notes.append(
            "its header has spacings but no space directions: its orientation is unknown, so that heights of discs are "
            "not measured"
        )
    else:
        raise DataError("neither 'space directions' nor 'spacings' in its header; voxel sizes are unknown")
    affine = np.eye(4)
    affine[:3, :3] = columns
    origin = np.asarray(header.get("space origin", (0, 0, 0)), dtype=np.float64)
    affine[:3, 3] = origin * _world_factors(header)
    if "space" not in header:
        notes.append("its header names no space; left-posterior-superior is assumed")
    space = str(header.get("space", "left-posterior-superior")).lower()
    if space not in _TO_RAS:
        raise DataError(f"space {space!r}; allowed: {', '.join(_TO_RAS)}")
    return np.diag([*_TO_RAS[space], 1.0]) @ affine, tuple(notes)


def _directions(
    header: Mapping[str, Any], axes: Sequence[int], edges: npt.NDArray[np.float64] | None, believe: str | None
) -> tuple[npt.NDArray[np.float64], list[str]]:
    """(columns: steps of the three axes in mm, in the frame of the file, notes)."""
    rows = np.asarray(header["space directions"], dtype=np.float64)[list(axes)]
    columns = (rows * _world_factors(header)).T
    lengths = np.linalg.norm(columns, axis=0)
    given = np.zeros(3, dtype=bool) if edges is None else np.isfinite(edges)
    if edges is None or np.allclose(lengths[given], edges[given], rtol=SPACING_TOLERANCE, atol=0):
        return columns, []
    problem = f"space directions and spacings contradict each other: {in_mm(lengths)} against {in_mm(edges)}"
    if believe == "orientation":
        return columns, [f"{problem}; the space directions are believed"]
    if believe == "spacing" and given.all() and lengths.min() > 0:
        return columns * (edges / lengths), [f"{problem}; the spacings are believed"]
    raise DataError(
        f"{problem}; say which is right: believe: orientation (space directions) or believe: spacing (spacings) in the "
        "dataset file, or eval --believe"
    )


def _spacings(header: Mapping[str, Any], axes: Sequence[int]) -> npt.NDArray[np.float64] | None:
    """`spacings` of the three axes in mm; NaN where an axis has none."""
    if "spacings" not in header:
        return None
    units = header.get("units")
    factors = [1.0] * 3 if units is None else [_factor("units", units[axis]) for axis in axes]
    if units is None and "space units" in header:
        factors = _world_factors(header).tolist()
    found: npt.NDArray[np.float64] = np.asarray(header["spacings"], dtype=np.float64)[list(axes)] * factors
    return found


def _world_factors(header: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """Millimetres per unit of the three axes of the space."""
    units = header.get("space units")
    if units is None:
        # Without a unit of the space, one unit of all axes is that of the space too.
        units = [unit for unit in header.get("units", ()) if unit and unit != "???"]
        units = units[-1:] * 3 if len(set(units)) == 1 else [""] * 3
    if len(units) != 3:
        raise DataError(f"has {len(units)} space units; expected three")
    return np.array([_factor("space units", unit) for unit in units])


def _factor(field: str, unit: str) -> float:
    name = unit.strip().lower()
    if name not in _MM_PER_UNIT:
        raise DataError(f"{field}: {unit!r} is an unknown unit; allowed: mm, um, cm, m (write it to the header)")
    return _MM_PER_UNIT[name]
