"""Masks and maps beside the grid of their image: what `grid:` of a dataset file does to them, and which policy fits."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from sam2ft.config.schema.masks import GridPolicy, SnappedGrid
from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry
from sam2ft.data.images.grids import (
    PLACED_TOLERANCE_VOXELS,
    Volume,
    cropped_or_padded,
    on_axes_of,
    on_grid,
    refuse_unoriented_resampling,
    resampled_nearest,
    shifted_grid,
)

LEAST_INSIDE = 0.5
"""Share of the labelled voxels of a mask that must lie inside of the image: with less it is that of another image."""
# Beyond half a voxel, another voxel of the image is nearer: that is no rounding of a header.
_MOST_SNAP_VOXELS = 0.5
# Lengths that a user writes as they were shown are not smaller than themselves.
_ROUNDING = 2e-4
# A label whose size changes by a smaller part of it stays as it was.
_LEAST_CHANGE = 1e-3


@dataclass(frozen=True)
class Place:
    """Where a mask or map belongs, and what is done when it lies beside."""

    geometry: Geometry
    policy: GridPolicy = "exact"
    what: str = "mask"
    """Name in messages of what is placed."""
    image: str = "its image"
    """Name in messages of the image."""
    slice_axis: int = 2
    """Axis of the file of the image along which it is cut into slices, for trust-array."""
    outside: float = 0
    """Value of voxels without one: 0 is background, NaN no value."""


def placed_by_policy(volume: Volume, place: Place) -> Volume:
    """`volume` on the grid of its image, in its voxel order; `facts` has `grid` where the policy changed something.

    Whatever the policy, a volume on the grid of the image (`grids.on_grid`) is taken without a change.

    Raises:
        DataError: the policy does not allow it; the message has the numbers, and names the policies that would fit with
            what they would change.
    """
    try:
        return on_grid(volume, place.geometry, what=place.what, image=place.image)
    except DataError as error:
        if place.policy == "exact":
            raise DataError(f"{error}{_offers(volume, place)}") from None
        try:
            return _changed(volume, place)
        except DataError as of_policy:
            offers = _offers(volume, place)
            raise DataError(f"{of_policy} (grid: {_written(place.policy)}){offers}") from None


def _changed(volume: Volume, place: Place) -> Volume:
    if isinstance(place.policy, SnappedGrid):
        return _snapped(volume, place, place.policy.snap_mm)
    ways: Mapping[str, Callable[[Volume, Place], Volume]] = {
        "lattice": _on_lattice,
        "nearest": _nearest,
        "trust-array": _trusted,
    }
    return ways[cast(str, place.policy)](volume, place)


def _written(policy: GridPolicy) -> str:
    return f"{{snap_mm: {policy.snap_mm:g}}}" if isinstance(policy, SnappedGrid) else policy


def _noted(volume: Volume, place: Place, array: npt.NDArray[Any], note: str, facts: Mapping[str, Any]) -> Volume:
    grid = {"policy": dict(place.policy) if isinstance(place.policy, SnappedGrid) else place.policy, **facts}
    if sizes := _other_sizes(volume, place, array):
        note += f"; {sizes}"
        grid["sizes"] = sizes
    return replace(
        volume,
        array_zyx=array,
        geometry=place.geometry,
        notes=(*volume.notes, f"the {place.what} {note} (grid: {_written(place.policy)})"),
        facts={**volume.facts, "grid": grid},
    )


def _snapped(volume: Volume, place: Place, most_mm: float) -> Volume:
    edge = min(place.geometry.spacing_zyx_mm)
    most = min(most_mm / edge, _MOST_SNAP_VOXELS) * (1 + _ROUNDING)
    found = on_grid(volume, place.geometry, what=place.what, image=place.image, tolerance_voxels=most)
    shift = _lattice(volume, place)[2]
    given = replace(volume, notes=found.notes)
    return _noted(given, place, found.array_zyx, f"was shifted by {shift:.3g} mm", {"shift_mm": round(shift, 6)})


@dataclass(frozen=True)
class _Cut:
    """What becomes of a volume on the lattice of its image."""

    array_zyx: npt.NDArray[Any]
    cropped: int
    """Voxels of the volume outside of the image."""
    padded: int
    """Voxels of the image outside of the volume."""
    lost: int
    """Voxels with a value among the cropped ones."""
    valued: int
    """Voxels with a value."""
    shift_mm: float

    @property
    def lost_share(self) -> float:
        return self.lost / self.valued if self.valued else 0.0


def _other_sizes(volume: Volume, place: Place, array: npt.NDArray[Any]) -> str:
    """How the sizes of labels differ on the grid of the image, in words; empty for maps, and where none does."""
    if np.isnan(place.outside):
        return ""
    before, after = (
        {value: count * grid.voxel_volume_mm3 / 1000 for value, count in _counts(one).items()}
        for one, grid in ((volume.array_zyx, volume.geometry), (array, place.geometry))
    )
    changes = {value: after.get(value, 0.0) / ml - 1 for value, ml in before.items()}
    most = max(changes, key=lambda value: abs(changes[value]), default=0.0)
    if abs(changes.get(most, 0.0)) < _LEAST_CHANGE:
        return ""
    gone = sum(value not in after for value in before)
    every = f"{sum(before.values()):.4g} mL of labels become {sum(after.values()):.4g} mL"
    one = f"value {most:g} changes most, from {before[most]:.4g} to {after.get(most, 0.0):.4g} mL"
    return f"{every}; {one}" + (f"; {gone} values vanish" if gone else "")


def _counts(array: npt.NDArray[Any]) -> Mapping[float, int]:
    """Value above 0 -> its voxels."""
    found: Counter[float] = Counter()
    for plane in array:
        values, counts = np.unique(plane[plane != 0], return_counts=True)
        found.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    return found


def _on_lattice(volume: Volume, place: Place) -> Volume:
    cut = _cut(volume, place)
    _refuse_elsewhere(1 - cut.lost_share, place)
    note = f"is cropped by {cut.cropped} and padded by {cut.padded} voxels to the image"
    if cut.lost:
        note += f"; {cut.lost} of its {cut.valued} voxels with a value ({cut.lost_share:.2%}) are left out"
    facts = {"cropped": cut.cropped, "padded": cut.padded, "lost": cut.lost, "shift_mm": round(cut.shift_mm, 6)}
    return _noted(volume, place, cut.array_zyx, note, facts)


def _cut(volume: Volume, place: Place) -> _Cut:
    """Cropped and padded by whole voxels; DataError when the lattices differ by over 0.1 voxel."""
    refuse_unoriented_resampling(volume, place.geometry, what=place.what)
    array, start_xyz, shift = _lattice(volume, place)
    if shift > PLACED_TOLERANCE_VOXELS * min(place.geometry.spacing_zyx_mm):
        raise DataError(
            f"image and {place.what} are not on one lattice of voxels: corners lie up to {shift:.4g} mm beside "
            "those of voxels of the image"
        )
    cut, inside = cropped_or_padded(array, start_xyz[::-1], place.geometry.shape_zyx, place.outside)
    if not inside.size:
        _refuse_elsewhere(0.0, place)
    valued = _num_valued(array, place)
    return _Cut(
        cut, array.size - inside.size, cut.size - inside.size, valued - _num_valued(inside, place), valued, shift
    )


def _lattice(volume: Volume, place: Place) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64], float]:
    """(the array in the voxel order of the image, voxel xyz of the image nearest to its first, its distance in mm from
    a grid of voxels of the image that begins there)."""
    array_zyx, moved, start_xyz = on_axes_of(volume, place.geometry, f"image and {place.what}")
    shift = shifted_grid(place.geometry, start_xyz, moved.shape_zyx).corner_distance_mm(moved)
    return array_zyx, start_xyz, shift


def _valued(array: npt.NDArray[Any], outside: float) -> npt.NDArray[np.bool_]:
    """Where a mask has a label, or a map (outside is NaN) a number."""
    found: npt.NDArray[np.bool_] = np.isfinite(array) if np.isnan(outside) else array != 0
    return found


def _num_valued(array: npt.NDArray[Any], place: Place) -> int:
    return int(np.count_nonzero(_valued(array, place.outside)))


def _nearest(volume: Volume, place: Place) -> Volume:
    refuse_unoriented_resampling(volume, place.geometry, what=place.what)
    inside = share_inside(volume, place.geometry, place.outside)
    _refuse_elsewhere(inside, place)
    _refuse_apart(volume, place)
    note = f"was resampled to the nearest voxel of the image; {inside:.2%} of its voxels with a value lie inside of it"
    moved = resampled_nearest(volume, place.geometry, place.outside)
    return _noted(volume, place, moved, note, {"share_inside": round(inside, 6)})


def _refuse_elsewhere(inside: float, place: Place) -> None:
    """Refuse what belongs to another image. A map may reach far beyond its image; maps.py compares it with the mask."""
    if inside < LEAST_INSIDE and not (np.isnan(place.outside) and inside > 0):
        raise DataError(
            f"only {inside:.0%} of the voxels of the {place.what} with a value lie inside of {place.image}; allowed: "
            f"at least {LEAST_INSIDE:.0%}; it is that of another image, or its affine is wrong"
        )


def _refuse_apart(volume: Volume, place: Place) -> None:
    """Refuse a volume without a value that has no voxel in the image: it is that of another one."""
    if not _num_valued(volume.array_zyx, place):
        whole = replace(volume, array_zyx=np.ones(volume.array_zyx.shape, np.uint8))
        _refuse_elsewhere(1.0 if share_inside(whole, place.geometry) else 0.0, place)


def _trusted(volume: Volume, place: Place) -> Volume:
    array = _in_order_of(volume, place)
    if array.shape != place.geometry.shape_zyx:
        raise DataError(
            f"has shape (z, y, x) {array.shape} against {place.geometry.shape_zyx} of {place.image}; the order of the "
            "file can be trusted only where both have the same shape"
        )
    apart = _apart_mm(volume, place)
    note = f"is taken in the order of its file, whatever its header says ({_apart_text(apart)})"
    return _noted(volume, place, array, note, {"apart_mm": round(apart, 6)})


def _in_order_of(volume: Volume, place: Place) -> npt.NDArray[Any]:
    """The array in the order of its own file, cut as the image is."""
    array_xyz = volume.array_zyx.transpose(np.argsort(_zyx_of(volume.file_axis)))
    return array_xyz.transpose(_zyx_of(place.slice_axis))


def _zyx_of(axis: int) -> tuple[int, int, int]:
    """Axes of a file that become z, y and x when it is cut along `axis` (volumes.read_volume)."""
    x, y = (other for other in range(3) if other != axis)
    return axis, y, x


def _apart_mm(volume: Volume, place: Place) -> float:
    """How far the corners of the trusted array lie from those of the image by both headers, in mm."""
    of_file = volume.geometry.affine[:, [*np.argsort(_zyx_of(volume.file_axis)[::-1]), 3]]
    cut_alike = of_file[:, [*_zyx_of(place.slice_axis)[::-1], 3]]
    return place.geometry.corner_distance_mm(Geometry.from_affine(place.geometry.shape_zyx, cut_alike))


def _apart_text(apart_mm: float) -> str:
    return f"by the headers their corners lie up to {apart_mm:.4g} mm apart"


def share_inside(volume: Volume, geometry: Geometry, outside: float = 0) -> float:
    """Share of the voxels with a value whose centres lie inside a grid; 1 without such a voxel.

    Args:
        outside: what has no value: 0, the background of a mask, or NaN in a map.
    """
    steps = np.linalg.solve(geometry.affine, volume.geometry.affine)
    size_xyz = np.array(geometry.shape_zyx[::-1])
    labelled = inside = 0
    for index, slice_yx in enumerate(volume.array_zyx):
        y, x = np.nonzero(_valued(slice_yx, outside))
        places = steps[:3] @ np.stack([x, y, np.full_like(x, index), np.ones_like(x)])
        # A grid reaches half a voxel beyond the centres of its outermost voxels.
        inside += int(np.all((places >= -0.5) & (places <= size_xyz[:, None] - 0.5), axis=0).sum())
        labelled += len(x)
    return inside / labelled if labelled else 1.0


def _offers(volume: Volume, place: Place) -> str:
    """The policies that would fit, and what they would change, for a refusal; empty when none does."""
    found = list(_offered(volume, place))
    return f"; in the dataset file, {' or '.join(found)} would take it" if found else ""


def _offered(volume: Volume, place: Place) -> Iterator[str]:
    oriented = volume.geometry.oriented and place.geometry.oriented
    if oriented and (shift := _snap_mm(volume, place)):
        yield f"grid: {{snap_mm: {_rounded_up(shift):g}}} (shifted by up to {shift:.3g} mm)"
        return
    for policy in ("lattice", "nearest") if oriented else ():
        try:
            yield _what_changes(volume, replace(place, policy=cast(GridPolicy, policy)))
        except DataError:
            continue
        break
    if _in_order_of(volume, place).shape == place.geometry.shape_zyx:
        away = _apart_text(_apart_mm(volume, place)) if oriented else "its position is unknown"
        yield f"grid: trust-array (in the order of the file; {away})"


def _snap_mm(volume: Volume, place: Place) -> float | None:
    try:
        array, start, shift = _lattice(volume, place)
    except DataError:
        return None
    alike = array.shape == place.geometry.shape_zyx and not start.any()
    return shift if alike and shift <= _MOST_SNAP_VOXELS * min(place.geometry.spacing_zyx_mm) else None


def _rounded_up(length_mm: float) -> float:
    """The length with two digits, not shorter."""
    digit = 10 ** (math.floor(math.log10(length_mm)) - 1)
    return float(f"{math.ceil(length_mm / digit * (1 - _ROUNDING / 2)) * digit:.2g}")


def _what_changes(volume: Volume, place: Place) -> str:
    if place.policy == "nearest":
        facts = _nearest(volume, place).facts["grid"]
        sizes = f"; {facts['sizes']}" if "sizes" in facts else ""
        return f"grid: nearest (resampled; {1 - facts['share_inside']:.2%} of its voxels with a value lost{sizes})"
    cut = _cut(volume, place)
    _refuse_elsewhere(1 - cut.lost_share, place)
    return (
        f"grid: lattice (cropped by {cut.cropped} and padded by {cut.padded} voxels; {cut.lost_share:.2%} of its "
        "voxels with a value lost)"
    )
