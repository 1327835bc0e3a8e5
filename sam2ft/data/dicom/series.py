"""Reading one DICOM series from a folder: slices sorted along the normal, dz from positions, intensities rescaled.

Only the header attributes of the allow-list below are kept: numbers that describe the grid and the sequence.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.core.errors import DataError
from sam2ft.core.files import sha256_text
from sam2ft.core.geometry import Geometry
from sam2ft.data.dicom.file import DicomImage, dicom_files, joined_values, read_image, rescaled_pixels
from sam2ft.data.images.grids import LPS_TO_RAS, Volume

# Positions are written with few digits: distances that differ by less than this fraction of the median are equal.
DISTANCE_TOLERANCE = 0.1
# Direction cosines of slices with the same orientation differ only by rounding.
COSINE_TOLERANCE = 1e-3
# Two images closer than this are at the same position.
SAME_POSITION_MM = 0.01

# Field of the store -> DICOM attribute (PS3.6), one number each.
NUMBER_FIELDS = {
    "slice_thickness": "SliceThickness",
    "spacing_between_slices": "SpacingBetweenSlices",
    "TE": "EchoTime",
    "TR": "RepetitionTime",
    "flip_angle": "FlipAngle",
    "field_strength": "MagneticFieldStrength",
    "instanceNumber": "InstanceNumber",
    "slice_location": "SliceLocation",
}
# Kept only if the dataset file lists them: DICOM attribute -> field of the store.
SLICE_FIELDS_TO_KEEP = {"SeriesDescription": "series_desc"}
SUBJECT_FIELDS_TO_KEEP = {"PatientAge": "age", "PatientSex": "sex", "PatientWeight": "weight", "PatientSize": "size"}


def read_series(folder: Path, keep: Sequence[str] = (), reading: Reading = AS_IS) -> Volume:
    """The series in `folder` as float32 zyx with its geometry and the allowed fields per slice.

    Args:
        keep: DICOM attributes to keep in addition to the allow-list (SeriesDescription, PatientAge, PatientSex,
            PatientWeight, PatientSize).
        reading: the choices of the dataset file.

    Raises:
        DataError: when the series is incomplete, mixed, unreadable or not on a regular grid, with the specific reason.
    """
    images, geometry = _placed_images(folder)
    array = np.stack([rescaled_pixels(image) for image in images])
    fields = _slice_fields(images, geometry.spacing_zyx_mm[0], keep)
    return Volume(array, geometry, fields, _subject_fields(images[0].header, keep))


def read_headers(folder: Path) -> tuple[list[pydicom.Dataset], Geometry]:
    """Complete headers of the series in the order of `read_series`; they identify the patient (see segmentation.py)."""
    images, geometry = _placed_images(folder)
    return [image.header for image in images], geometry


def _placed_images(folder: Path) -> tuple[list[DicomImage], Geometry]:
    images = [read_image(path) for path in dicom_files(folder)]
    series = Counter(str(image.header.get("SeriesInstanceUID", "none")) for image in images)
    if len(series) > 1:
        counts = ", ".join(f"{uid} ({count} file{'s' if count > 1 else ''})" for uid, count in sorted(series.items()))
        raise DataError(f"{folder}: holds {len(series)} series, expected one (SeriesInstanceUID {counts})")
    refuse_mixed_planes(folder, images)
    return place(folder, images)


def place(folder: Path, images: list[DicomImage]) -> tuple[list[DicomImage], Geometry]:
    """The images of one stack of parallel planes, sorted along the normal, and its grid.

    Raises:
        DataError: when positions repeat, slices are missing or unevenly spaced, the stack is sheared (tilted gantry),
            or the slice distance is unknown.
    """
    images = list(images)
    normal = images[0].normal / np.linalg.norm(images[0].normal)
    images.sort(key=lambda image: float(image.position_mm @ normal))
    offsets = np.array([image.position_mm @ normal for image in images])
    _refuse_repeated_positions(folder, images, offsets)
    _refuse_gaps(folder, images, offsets)
    _refuse_tilt(folder, images, normal)
    dz, dz_source = _slice_distance(folder, images, offsets)
    step = (images[-1].position_mm - images[0].position_mm) / (len(images) - 1) if len(images) > 1 else normal * dz
    return images, _geometry(images[0], len(images), step, (dz, dz_source))


def refuse_mixed_planes(folder: Path, images: Sequence[DicomImage]) -> None:
    """Check that all images have the same orientation, size and pixel spacing.

    Raises:
        DataError: naming one file of each kind.
    """
    first = images[0]
    for image in images[1:]:
        if np.abs(image.cosines - first.cosines).max() > COSINE_TOLERANCE:
            raise DataError(
                f"{folder}: mixed orientations, {joined_values(first.cosines)} in {first.path.name} "
                f"and {joined_values(image.cosines)} in {image.path.name}; a localizer does not belong in this folder"
            )
        if image.size != first.size:
            raise DataError(
                f"{folder}: mixed sizes, {first.size[0]} x {first.size[1]} pixels in {first.path.name} "
                f"and {image.size[0]} x {image.size[1]} in {image.path.name}"
            )
        if not np.allclose(image.spacing, first.spacing, rtol=1e-3):
            raise DataError(
                f"{folder}: mixed pixel spacings, {joined_values(first.spacing)} mm in {first.path.name} "
                f"and {joined_values(image.spacing)} mm in {image.path.name}"
            )


def _refuse_repeated_positions(folder: Path, images: Sequence[DicomImage], offsets: npt.NDArray[np.float64]) -> None:
    repeated = np.flatnonzero(np.diff(offsets) < SAME_POSITION_MM)
    if not len(repeated):
        return
    positions = 1 + int((np.diff(offsets) >= SAME_POSITION_MM).sum())
    first = int(repeated[0])
    message = (
        f"{folder}: {len(images)} images at {positions} positions; {images[first].path.name} and "
        f"{images[first + 1].path.name} are both at {offsets[first]:.2f} mm along the normal"
    )
    for attribute, what in (("EchoTime", "echoes"), ("AcquisitionNumber", "acquisitions"), ("TriggerTime", "phases")):
        values = sorted({float(image.header[attribute].value or 0) for image in images if attribute in image.header})
        if len(values) > 1:
            raise DataError(
                f"{message}; {attribute} takes {len(values)} values ({joined_values(values)}), so these are {what}: "
                "keep one of them per folder"
            )
    raise DataError(f"{message}; an image is duplicated, or two acquisitions are mixed")


def _refuse_gaps(folder: Path, images: Sequence[DicomImage], offsets: npt.NDArray[np.float64]) -> None:
    gaps = np.diff(offsets)
    if len(gaps) < 2 or gaps.max() - gaps.min() <= DISTANCE_TOLERANCE * np.median(gaps):
        return
    i = int(gaps.argmax())
    numbers = [image.header.get("InstanceNumber", "none") for image in images[i : i + 2]]
    usual = float(np.median(gaps)) if np.median(gaps) < 0.75 * gaps[i] else float(gaps.min())
    missing = round(float(gaps[i]) / usual) - 1
    where = (
        f"between positions {offsets[i]:.2f} and {offsets[i + 1]:.2f} mm (slices {i + 1} and {i + 2} of {len(images)}, "
        f"InstanceNumber {numbers[0]} and {numbers[1]}) are {gaps[i]:.3g} mm, elsewhere {usual:.3g} mm"
    )
    if missing >= 1 and abs(gaps[i] / usual - missing - 1) <= 2 * DISTANCE_TOLERANCE:
        raise DataError(f"{folder}: {missing} missing slice{'s' if missing > 1 else ''}: {where}")
    raise DataError(f"{folder}: slice distances vary from {gaps.min():.3g} to {gaps.max():.3g} mm: {where}")


def _refuse_tilt(folder: Path, images: Sequence[DicomImage], normal: npt.NDArray[np.float64]) -> None:
    """Positions must lie along the normal: spacings have no meaning in the sheared volume of a tilted gantry."""
    step = images[-1].position_mm - images[0].position_mm
    sideways = float(np.linalg.norm(step - (step @ normal) * normal))
    if sideways > max(0.01 * float(np.linalg.norm(step)), 0.5 * min(images[0].spacing)):
        raise DataError(
            f"{folder}: slices shift sideways by {sideways:.3g} mm over {np.linalg.norm(step):.3g} mm "
            "(tilted gantry); resample the series to an orthogonal grid"
        )


def _slice_distance(folder: Path, images: Sequence[DicomImage], offsets: npt.NDArray[np.float64]) -> tuple[float, str]:
    """(dz in mm, its source): from positions; SliceThickness is not a distance and is used only as the last resort."""
    if len(images) > 1:
        return float(np.median(np.diff(offsets))), "positions"
    for attribute, source in (("SpacingBetweenSlices", "slice_spacing"), ("SliceThickness", "slice_thickness")):
        value = images[0].header.get(attribute)
        if value is not None and float(value) > 0:
            return float(value), source
    raise DataError(f"{folder}: one slice without SpacingBetweenSlices and SliceThickness; its depth is unknown")


def _geometry(
    first: DicomImage, count: int, step_lps: npt.NDArray[np.float64], distance: tuple[float, str]
) -> Geometry:
    """`step_lps` is the mean step between slices, exact at the last slice; `distance` is dz with its source."""
    affine = np.eye(4)
    affine[:3, 0] = first.cosines[:3] * first.spacing[1]
    affine[:3, 1] = first.cosines[3:] * first.spacing[0]
    affine[:3, 2] = step_lps
    affine[:3, 3] = first.position_mm
    _, dz_source = distance
    return Geometry.from_affine((count, *first.size), LPS_TO_RAS @ affine, dz_source)


def _slice_fields(images: Sequence[DicomImage], dz: float, keep: Sequence[str]) -> dict[str, list[Any]]:
    """Field -> one value per slice, for the fields of the allow-list."""
    readers: dict[str, Callable[[DicomImage], Any]] = {
        "pixel_spacing": lambda image: list(image.spacing),
        "slice_spacing": lambda _image: dz,
        "rows": lambda image: image.size[0],
        "columns": lambda image: image.size[1],
        "image_position_patient": lambda image: image.position_mm.tolist(),
        "image_orientation_patient": lambda image: image.cosines.tolist(),
        "series_uid_sha256": lambda image: _hashed(image.header.get("SeriesInstanceUID")),
    }
    fields = {name: [read(image) for image in images] for name, read in readers.items()}
    for name, attribute in NUMBER_FIELDS.items():
        fields[name] = [_number(image.header, attribute) for image in images]
    for attribute, name in SLICE_FIELDS_TO_KEEP.items():
        if attribute in keep:
            fields[name] = [str(image.header.get(attribute, "")) or None for image in images]
    return {name: values for name, values in fields.items() if any(value is not None for value in values)}


def _hashed(uid: Any) -> str | None:
    return sha256_text(str(uid)) if uid else None


def _number(header: pydicom.Dataset, attribute: str) -> float | int | None:
    value = header.get(attribute)
    if value is None or value == "":
        return None
    number = float(value)
    return int(number) if attribute == "InstanceNumber" else number


def _subject_fields(header: pydicom.Dataset, keep: Sequence[str]) -> dict[str, Any]:
    wanted: Mapping[str, str] = {a: name for a, name in SUBJECT_FIELDS_TO_KEEP.items() if a in keep}
    return {name: str(header.get(attribute)) for attribute, name in wanted.items() if header.get(attribute)}
