"""Placing DICOM images in space: slices sorted along the normal, their grid, and what is refused as no regular stack.

The slice distance is the mean step between the positions, in the spacing and in the affine alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.core.errors import DataError, number_of
from sam2ft.core.geometry import Geometry
from sam2ft.data.dicom.file import DicomImage, joined_values
from sam2ft.data.dicom.header import optional, raw_value
from sam2ft.data.images.grids import LPS_TO_RAS

# Slice distances that vary by less than this fraction of their median are one distance; above it they are named.
DISTANCE_TOLERANCE = 0.1
NAMED_DISTANCES = 0.01
# Direction cosines of slices with the same orientation differ only by rounding.
COSINE_TOLERANCE = 1e-3
# Two images closer than this are at the same position.
SAME_POSITION_MM = 0.01
# SpacingBetweenSlices and positions that differ by less than this fraction, and half the last digit of a value that is
# written with at least two decimals, are equal.
SPACING_TOLERANCE = 1e-3
_MOST_ROUNDING_MM = 0.005


Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Stack:
    """The images of one stack of parallel planes, sorted along the normal, on their grid."""

    images: tuple[DicomImage, ...]
    geometry: Geometry
    offsets_mm: npt.NDArray[np.float64]
    """Position of each image along the normal."""
    irregular: bool
    """Whether the distances vary by more than `DISTANCE_TOLERANCE`: the images do not lie on the grid."""
    notes: tuple[str, ...]


def place(folder: Path, images: Sequence[DicomImage], reading: Reading = AS_IS, *, median_dz: bool = False) -> Stack:
    """The images of one stack of parallel planes, sorted along the normal, and its grid.

    Args:
        reading: `believe: positions` or `spacing` where SpacingBetweenSlices contradicts the positions;
            `irregular: resample` lets a stack with uneven distances through, for the caller to resample.
        median_dz: the spacing (not the affine) has the median distance, as in stores of version 1.

    Raises:
        DataError: when positions repeat, slices are missing or unevenly spaced, the stack is sheared (tilted gantry),
            SpacingBetweenSlices contradicts the positions, or the slice distance is unknown.
    """
    normal = images[0].normal / np.linalg.norm(images[0].normal)
    images = sorted(images, key=lambda image: float(image.position_mm @ normal))
    offsets = np.array([image.position_mm @ normal for image in images])
    _refuse_repeated_positions(folder, images, offsets)
    irregular = _is_irregular(offsets)
    if irregular and reading.irregular != "resample":
        raise DataError(_uneven(folder, images, offsets))
    _refuse_tilt(folder, images, normal)
    if len(images) == 1:
        dz, source, notes = _depth_of_one(folder, images[0])
        step = normal * dz
    else:
        step = (images[-1].position_mm - images[0].position_mm) / (len(images) - 1)
        dz, source, notes = _slice_distance(folder, images, offsets, float(np.linalg.norm(step)), reading)
        step = step if source == "positions" else step * (dz / np.linalg.norm(step))
        if median_dz and source == "positions":
            dz = float(np.median(np.diff(offsets)))
    geometry = _geometry(images[0], len(images), step, (dz, source), as_written=median_dz)
    return Stack(tuple(images), geometry, offsets, irregular, (*notes, *_uneven_note(offsets)))


def evened(
    values_zyx: npt.NDArray[np.float32], offsets_mm: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float32], tuple[int, ...]]:
    """(the slices at even positions, linear between the given ones; index of the given slice nearest to each).

    Number of slices, first and last position stay. NaN: where the nearest slice is NaN; of a NaN neighbour that is not
    the nearest, nothing is taken.

    Args:
        offsets_mm: increasing position of each given slice, of which there are two or more.
    """
    last = len(offsets_mm) - 1
    even = np.linspace(offsets_mm[0], offsets_mm[-1], last + 1)
    upper = np.clip(np.searchsorted(offsets_mm, even, side="right"), 1, last)
    weight = (even - offsets_mm[upper - 1]) / (offsets_mm[upper] - offsets_mm[upper - 1])
    nearest = np.where(weight <= 0.5, upper - 1, upper)
    result = np.empty_like(values_zyx)
    for index, (above, share) in enumerate(zip(upper, weight, strict=True)):
        mixed = (1 - share) * values_zyx[above - 1].astype(np.float64) + share * values_zyx[above]
        result[index] = np.where(np.isfinite(mixed), mixed, values_zyx[nearest[index]])
    return result, tuple(int(index) for index in nearest)


def offsets_of(images: Sequence[DicomImage]) -> list[float]:
    """Position of each image along the common normal, mm."""
    normal = images[0].normal / np.linalg.norm(images[0].normal)
    return [float(image.position_mm @ normal) for image in images]


def positions_of(offsets: Sequence[float]) -> list[float]:
    """Distinct positions, increasing."""
    found: list[float] = []
    for offset in sorted(offsets):
        if not found or offset - found[-1] >= SAME_POSITION_MM:
            found.append(offset)
    return found


def refuse_mixed_planes(folder: Path, images: Sequence[DicomImage]) -> None:
    """Check that all images have the same orientation, size and pixel spacing.

    Raises:
        DataError: naming one file of each kind.
    """
    first = images[0]
    for image in images[1:]:
        if np.abs(image.cosines - first.cosines).max() > COSINE_TOLERANCE:
            raise DataError(
                f"{folder}: mixed orientations, {joined_values(first.cosines)} in {first.name} "
                f"and {joined_values(image.cosines)} in {image.name}; a localizer does not belong in this folder"
            )
        if image.size != first.size:
            raise DataError(
                f"{folder}: mixed sizes, {first.size[0]} x {first.size[1]} pixels in {first.name} "
                f"and {image.size[0]} x {image.size[1]} in {image.name}"
            )
        if not np.allclose(image.spacing, first.spacing, rtol=1e-3):
            raise DataError(
                f"{folder}: mixed pixel spacings, {joined_values(first.spacing)} mm in {first.name} "
                f"and {joined_values(image.spacing)} mm in {image.name}"
            )


def _refuse_repeated_positions(folder: Path, images: Sequence[DicomImage], offsets: npt.NDArray[np.float64]) -> None:
    repeated = np.flatnonzero(np.diff(offsets) < SAME_POSITION_MM)
    if not len(repeated):
        return
    positions = 1 + int((np.diff(offsets) >= SAME_POSITION_MM).sum())
    first = int(repeated[0])
    message = (
        f"{folder}: {len(images)} images at {positions} positions; {images[first].name} and "
        f"{images[first + 1].name} are both at {offsets[first]:.2f} mm along the normal"
    )
    for attribute, what in (("EchoTime", "echoes"), ("AcquisitionNumber", "acquisitions"), ("TriggerTime", "phases")):
        found, _ = optional(images, attribute)
        values = sorted({value for value in found if value is not None})
        if len(values) > 1:
            raise DataError(
                f"{message}; {attribute} takes {len(values)} values ({joined_values(values)}), so these are {what}: "
                "keep one of them per folder"
            )
    raise DataError(f"{message}; an image is duplicated, or two acquisitions are mixed")


def _variation(offsets: npt.NDArray[np.float64]) -> float:
    """Largest minus smallest slice distance, as a fraction of the median."""
    gaps = np.diff(offsets)
    return float((gaps.max() - gaps.min()) / np.median(gaps)) if len(gaps) > 1 else 0.0


def _is_irregular(offsets: npt.NDArray[np.float64]) -> bool:
    return _variation(offsets) > DISTANCE_TOLERANCE


def _uneven_note(offsets: npt.NDArray[np.float64]) -> tuple[str, ...]:
    if _variation(offsets) <= NAMED_DISTANCES:
        return ()
    gaps = np.diff(offsets)
    return (
        f"slice distances vary from {gaps.min():.4g} to {gaps.max():.4g} mm ({100 * _variation(offsets):.2g} %); "
        f"their mean, {gaps.mean():.4g} mm, is used",
    )


def _uneven(folder: Path, images: Sequence[DicomImage], offsets: npt.NDArray[np.float64]) -> str:
    gaps = np.diff(offsets)
    i = int(gaps.argmax())
    instances, _ = optional(images[i : i + 2], "InstanceNumber")
    shown = ["none" if value is None else f"{value:g}" for value in instances]
    usual = float(np.median(gaps)) if np.median(gaps) < 0.75 * gaps[i] else float(gaps.min())
    missing = round(float(gaps[i]) / usual) - 1
    where = (
        f"between positions {offsets[i]:.2f} and {offsets[i + 1]:.2f} mm (slices {i + 1} and {i + 2} of {len(images)}, "
        f"InstanceNumber {shown[0]} and {shown[1]}) are {gaps[i]:.3g} mm, elsewhere {usual:.3g} mm"
    )
    way_out = (
        f"allowed: distances within {100 * DISTANCE_TOLERANCE:g} %, or irregular: resample (even slices by "
        "interpolation) in the dataset file of launch/prepare.py"
    )
    if missing >= 1 and abs(gaps[i] / usual - missing - 1) <= 2 * DISTANCE_TOLERANCE:
        return f"{folder}: {number_of(missing, 'missing slice')}: {where}; {way_out}"
    return f"{folder}: slice distances vary from {gaps.min():.3g} to {gaps.max():.3g} mm: {where}; {way_out}"


def _refuse_tilt(folder: Path, images: Sequence[DicomImage], normal: npt.NDArray[np.float64]) -> None:
    """Positions must lie along the normal: spacings have no meaning in the sheared volume of a tilted gantry.

    Every one of them on the same line: slices of two stacks side by side may have even distances along the normal.
    """
    step = images[-1].position_mm - images[0].position_mm
    sideways = float(np.linalg.norm(step - (step @ normal) * normal))
    if sideways > max(0.01 * float(np.linalg.norm(step)), 0.5 * min(images[0].spacing)):
        raise DataError(
            f"{folder}: slices shift sideways by {sideways:.3g} mm over {np.linalg.norm(step):.3g} mm "
            "(tilted gantry); resample the series to an orthogonal grid"
        )
    for image in images[1:-1]:
        offset = image.position_mm - images[0].position_mm
        beside = float(np.linalg.norm(offset - (offset @ normal) / (step @ normal) * step))
        if beside > 0.5 * min(image.spacing):
            raise DataError(
                f"{folder}: {image.name} lies {beside:.3g} mm beside the line from the first slice to the last; "
                f"allowed: half a pixel ({0.5 * min(image.spacing):.3g} mm); if slices of two stacks are mixed, put "
                "each stack into a folder of its own"
            )


def _depth_of_one(folder: Path, image: DicomImage) -> tuple[float, str, tuple[str, ...]]:
    """(dz, its source, notes): SliceThickness is not a distance and is used only as the last resort."""
    for attribute, source in (("SpacingBetweenSlices", "slice_spacing"), ("SliceThickness", "slice_thickness")):
        (value,), note = optional([image], attribute)
        if value is not None and value > 0:
            return value, source, (note,) if note else ()
    raise DataError(
        f"{folder}: one slice without SpacingBetweenSlices and SliceThickness; its depth is unknown; export the "
        "series again with one of them"
    )


def _slice_distance(
    folder: Path, images: Sequence[DicomImage], offsets: npt.NDArray[np.float64], mean: float, reading: Reading
) -> tuple[float, str, tuple[str, ...]]:
    """(dz, its source, notes): the mean step, unless SpacingBetweenSlices contradicts it and is believed."""
    written, note = optional(images, "SpacingBetweenSlices")
    notes = (note,) if note else ()
    found = [value for value in written if value is not None and value > 0]
    gaps = np.diff(offsets)
    wrong = [
        (value, image)
        for image, value in zip(images, written, strict=True)
        if value is not None and value > 0 and not _agrees(value, gaps, mean, _rounding_mm(image))
    ]
    if not wrong:
        return mean, "positions", notes
    spacing, image = wrong[0]
    contradiction = (
        f"SpacingBetweenSlices is {spacing:.6g} mm in {image.name}, the distance of positions is {mean:.6g} mm"
    )
    if reading.believe == "positions":
        return mean, "positions", (*notes, f"{contradiction}; the positions are believed")
    if reading.believe == "spacing" and max(found) - min(found) <= SPACING_TOLERANCE * spacing:
        return spacing, "slice_spacing", (*notes, f"{contradiction}; SpacingBetweenSlices is believed")
    raise DataError(
        f"{folder}: {contradiction}; allowed: within {100 * SPACING_TOLERANCE:g} %, or believe: positions, or believe: "
        "spacing (one value in all images; masks are then expected at this spacing too)"
    )


def _agrees(spacing: float, gaps: npt.NDArray[np.float64], mean: float, rounding_mm: float) -> bool:
    """Whether a spacing is the mean distance, or, where distances vary, one of them."""
    low, high = min(float(gaps.min()), mean), max(float(gaps.max()), mean)
    if high - low <= NAMED_DISTANCES * mean:
        low = high = mean
    slack = SPACING_TOLERANCE * mean + rounding_mm
    return low - slack <= spacing <= high + slack


def _rounding_mm(image: DicomImage) -> float:
    """Half the last digit that SpacingBetweenSlices is written with, mm."""
    value = raw_value(image.header, "SpacingBetweenSlices")
    text = str(getattr(value, "original_string", value))
    decimals = len(text.partition(".")[2]) if "e" not in text.lower() else 0
    return min(0.5 * 10.0**-decimals, _MOST_ROUNDING_MM)


def affine_of_slices(
    cosines: Sequence[Vector] | Vector, spacing: tuple[float, float], step_lps: Vector, first_lps: Vector
) -> npt.NDArray[np.float64]:
    """4 x 4, voxel index (column, row, slice) -> RAS mm.

    Args:
        cosines: the directions of increasing column and row, LPS.
        spacing: distances of rows and of columns, mm (PixelSpacing).
        step_lps: from one slice to the next, mm.
        first_lps: place of the first voxel of the first slice, mm.
    """
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = cosines[0] * spacing[1], cosines[1] * spacing[0]
    affine[:3, 2], affine[:3, 3] = step_lps, first_lps
    return LPS_TO_RAS @ affine


def _geometry(
    first: DicomImage,
    count: int,
    step_lps: npt.NDArray[np.float64],
    distance: tuple[float, str],
    *,
    as_written: bool,
) -> Geometry:
    """Grid of a stack.

    Args:
        step_lps: mean step between slices, exact at the last slice.
        distance: dz with its source.
        as_written: the directions are used with their rounded lengths, as in stores of version 1.
    """
    across, down = first.cosines[:3], first.cosines[3:]
    if not as_written:
        across, down = across / np.linalg.norm(across), down / np.linalg.norm(down)
    affine = affine_of_slices((across, down), first.spacing, step_lps, first.position_mm)
    dz, dz_source = distance
    geometry = Geometry.from_affine((count, *first.size), affine, dz_source)
    return replace(geometry, spacing_zyx_mm=(dz, *first.spacing), exact=not as_written)
