"""Reading one DICOM series from a folder: slices on their grid, signals, and the allowed header fields per slice.

Only the header attributes of the allow-list below are kept: numbers that describe the grid and the sequence.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.core.errors import DataError
from sam2ft.core.files import sha256_text
from sam2ft.core.geometry import Geometry
from sam2ft.data.dicom.choice import chosen_stack
from sam2ft.data.dicom.file import DicomImage, Part
from sam2ft.data.dicom.header import guarded, image_kinds, optional, text
from sam2ft.data.dicom.modality import burned_in_fact, modality_fact
from sam2ft.data.dicom.pixels import common_scale, mapped_unit, series_values, stacked_signals
from sam2ft.data.dicom.placement import Stack, evened, place
from sam2ft.data.images.grids import Volume

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
_WHOLE_NUMBERS = ("InstanceNumber",)
# Kept only if the dataset file lists them: DICOM attribute -> field of the store.
SLICE_FIELDS_TO_KEEP = {"SeriesDescription": "series_desc"}
SUBJECT_FIELDS_TO_KEEP = {"PatientAge": "age", "PatientSex": "sex", "PatientWeight": "weight", "PatientSize": "size"}


def read_series(
    folder: Path,
    keep: Sequence[str] = (),
    reading: Reading = AS_IS,
    *,
    labels: bool = False,
    median_dz: bool = False,
    key: str = "series",
) -> Volume:
    """The series in `folder`, zyx, with its geometry and the allowed fields per slice.

    Its values are int16 or float32 with NaN for padding (pixels.series_values), those of a mask float32. `folder` may
    be a file of several images.

    Args:
        keep: DICOM attributes to keep in addition to the allow-list (SeriesDescription, PatientAge, PatientSex,
            PatientWeight, PatientSize).
        reading: the choices of the dataset file. With `irregular: resample` a series whose slice distances vary by
            over 10 % gets as many slices at even distances, by linear interpolation.
        labels: the series is a mask: its integers are kept as they are, and slices at uneven distances are not
            resampled (`nearest_slices` of the image says where they go).
        median_dz: see `placement.place`.
        key: the key of the dataset file that chooses among several stacks; empty: there is none.

    Raises:
        DataError: when the series is incomplete, mixed, unreadable or not on a regular grid, with the specific reason.
    """
    with guarded(folder):
        stack = _read_stack(folder, reading, median_dz=median_dz, key="" if labels else key)
        scales, scale_note = ({}, "") if labels else common_scale(folder, stack.images)
        array: Any = stacked_signals(stack.images, {}, labels=True) if labels else series_values(stack.images, scales)
        nearest: tuple[int, ...] | None = None
        if stack.irregular and not labels:
            array, nearest = evened(array.astype(np.float32), stack.offsets_mm)
        fields, notes = _slice_fields(stack, nearest, keep)
        found = (*stack.notes, *([scale_note] if scale_note else []), *notes)
        if nearest is not None:
            found += (f"resampled to {len(array)} slices at even distances; the slices of the mask are the nearest",)
        return Volume(
            array,
            stack.geometry,
            fields,
            _subject_fields(stack.images[0].header, keep),
            notes=found,
            facts={
                **modality_fact(text(image.header, "Modality") for image in stack.images),
                **burned_in_fact(text(image.header, "BurnedInAnnotation") for image in stack.images),
            },
            nearest_slices=nearest,
        )


def read_finished_map(path: Path, reading: Reading = AS_IS, key: str = "", *, told: bool = False) -> tuple[Volume, str]:
    """(the values of a map that a scanner or program made, float32 zyx; their unit as its headers say it, or empty).

    A real world value mapping with a unit of time or rate (PS3.3 C.7.6.16.2.11) goes before slope and intercept.

    Args:
        key: the key of the dataset file that chooses among several stacks.
        told: the user has given the unit of the values, and so has said that they are times or rates.

    Raises:
        DataError: as `read_series`; when the images are no map by their ImageType and `told` is False; when they differ
            in unit, or one has several mappings.
    """
    with guarded(path):
        stack = _read_stack(path, reading, median_dz=False, key=key)
        kinds = image_kinds(stack.images[0].header)
        if not told and "DERIVED" not in kinds and not any("MAP" in kind for kind in kinds):
            raise DataError(
                f"{path}: its ImageType names no values that were computed, so that these are images and no finished "
                "map; give sources.maps.<name>.series to fit a map to them, or, if they are times, "
                "sources.maps.<name>.unit (ms, s or 1/s)"
            )
        units = {mapped_unit(image) for image in stack.images}
        if len(units) > 1:
            shown = ", ".join(sorted(unit or "none" for unit in units))
            raise DataError(f"{path}: its images name several units ({shown}); allowed: one; export the map again")
        array = stacked_signals(stack.images, {})
        if stack.irregular:
            array, _ = evened(array, stack.offsets_mm)
        return Volume(array, stack.geometry, notes=stack.notes, name=str(path)), units.pop()


@dataclass(frozen=True)
class SourceImages:
    """The images of a series in the order of its slices, as what is drawn on them refers to them."""

    path: Path
    headers: Sequence[pydicom.Dataset]
    """Complete headers, a file for each slice, or of the only file with all slices; they identify the patient."""
    geometry: Geometry
    images: tuple[DicomImage, ...]
    """Position, directions and distances of each slice."""

    @property
    def frames(self) -> tuple[int, ...] | None:
        """Number, from 1, of the frame of each slice in the only file; None: each slice has a file."""
        numbers = [None if image.part is None else image.part.index + 1 for image in self.images]
        found = tuple(number for number in numbers if number is not None)
        return found or None


def read_source_images(folder: Path, reading: Reading = AS_IS) -> SourceImages:
    """The images of the series in the order of `read_series`, for a segmentation of them.

    Raises:
        DataError: as `read_series`; its slices were resampled to even distances, or are no images or frames of their
            own that a segmentation can refer to.
    """
    with guarded(folder):
        stack = _read_stack(folder, reading, median_dz=False)
        wholes = {id(image.part.whole): image.part for image in stack.images if image.part is not None}
        if problem := _not_referable(stack, list(wholes.values())):
            raise DataError(
                f"{folder}: {problem}; a DICOM segmentation needs slices as they were acquired, each a file or a frame "
                "of one enhanced file; set eval.dicom_seg: false"
            )
        headers = [part.whole for part in wholes.values()] or [image.header for image in stack.images]
        return SourceImages(folder, headers, stack.geometry, stack.images)


def _not_referable(stack: Stack, parts: Sequence[Part]) -> str:
    """Why a segmentation cannot refer to the images of a stack; empty: it can."""
    if stack.irregular:
        return "its slices were resampled to even distances"
    if any(part.tiles is not None for part in parts):
        return "its slices are tiles of mosaic images"
    if any("PerFrameFunctionalGroupsSequence" not in part.whole for part in parts):
        return "its frames have no positions of their own (no PerFrameFunctionalGroupsSequence)"
    if len(parts) > 1 or (parts and any(image.part is None for image in stack.images)):
        return "its slices are frames of several files"
    return ""


def read_slices(path: Path, reading: Reading = AS_IS) -> tuple[DicomImage, ...]:
    """The images of a series in the order of its slices as they were acquired, by their headers.

    Raises:
        DataError: as `read_series`.
    """
    with guarded(path):
        return _read_stack(path, reading, median_dz=False).images


def _read_stack(folder: Path, reading: Reading, *, median_dz: bool, key: str = "series") -> Stack:
    contents = chosen_stack(folder, reading, key)
    stack = place(folder, contents.images, reading, median_dz=median_dz)
    return replace(stack, notes=(*contents.notes, *stack.notes))


def _slice_fields(
    stack: Stack, nearest: Sequence[int] | None, keep: Sequence[str]
) -> tuple[dict[str, list[Any]], list[str]]:
    """(field -> one value per slice for the fields of the allow-list, notes about values that are left out).

    Args:
        nearest: index of the image whose header belongs to each slice; None: the images are the slices.
    """
    images = list(stack.images) if nearest is None else [stack.images[index] for index in nearest]
    fields: dict[str, list[Any]] = {
        "pixel_spacing": [list(image.spacing) for image in images],
        "slice_spacing": [stack.geometry.spacing_zyx_mm[0]] * len(images),
        "rows": [image.size[0] for image in images],
        "columns": [image.size[1] for image in images],
        "image_position_patient": _positions(stack, even=nearest is not None),
        "image_orientation_patient": [image.cosines.tolist() for image in images],
        "series_uid_sha256": [_hashed(text(image.header, "SeriesInstanceUID")) for image in images],
    }
    notes = []
    for name, attribute in NUMBER_FIELDS.items():
        whole = attribute in _WHOLE_NUMBERS
        found, note = optional(images, attribute, whole=whole)
        fields[name] = [int(value) if whole and value is not None else value for value in found]
        notes += [note] if note else []
    for attribute, name in SLICE_FIELDS_TO_KEEP.items():
        if attribute in keep:
            fields[name] = [text(image.header, attribute) or None for image in images]
    return {name: values for name, values in fields.items() if any(value is not None for value in values)}, notes


def _positions(stack: Stack, *, even: bool) -> list[list[float]]:
    """LPS position of the first voxel of each slice, mm; `even`: at even distances between the first and the last."""
    first, last = stack.images[0].position_mm, stack.images[-1].position_mm
    if not even:
        return [image.position_mm.tolist() for image in stack.images]
    found: list[list[float]] = np.linspace(first, last, len(stack.images)).tolist()
    return found


def _hashed(uid: str) -> str | None:
    return sha256_text(uid) if uid else None


def _subject_fields(header: pydicom.Dataset, keep: Sequence[str]) -> dict[str, Any]:
    wanted: Mapping[str, str] = {a: name for a, name in SUBJECT_FIELDS_TO_KEEP.items() if a in keep}
    return {name: found for attribute, name in wanted.items() if (found := text(header, attribute))}


def slices_by_file(series: Sequence[DicomImage]) -> dict[str, int]:
    """Name of a file without its ending -> its slice; none of names that several files have, in several folders."""
    if any(one.part is not None for one in series):
        return {}
    counts = Counter(one.path.stem for one in series)
    return {one.path.stem: index for index, one in enumerate(series) if counts[one.path.stem] == 1}
