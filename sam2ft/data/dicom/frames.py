"""The images in one DICOM file: a single one, the frames of an enhanced file, or the tiles of a Siemens mosaic.

A frame of an enhanced image (PS3.3 C.7.6.16) has its position, spacing, times and rescale in the functional groups.
They are brought into a header like that of a file per slice, so that everything that reads series reads frames too.
"""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.core.errors import DataError
from sam2ft.data.dicom.file import TO_NIFTI, DicomImage, Part, frames_of, image_of, read_header
from sam2ft.data.dicom.header import guarded, like, put, required, without_sequences
from sam2ft.data.dicom.mosaic import is_mosaic, tile_headers

# Functional groups whose attributes describe a frame as those of a file per slice do; others are not needed.
_GROUPS = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
    "FrameContentSequence",
    "MRImageFrameTypeSequence",
    "CTImageFrameTypeSequence",
    "PETFrameTypeSequence",
    "MRTimingAndRelatedParametersSequence",
    "MREchoSequence",
    "MRModifierSequence",
    "MRDiffusionSequence",
    "TemporalPositionSequence",
    "CardiacSynchronizationSequence",
)
# Attribute of a functional group -> that of a file per slice with the same meaning.
_NAMES = {
    "EffectiveEchoTime": "EchoTime",
    "FrameAcquisitionNumber": "AcquisitionNumber",
    "TemporalPositionIndex": "TemporalPositionIdentifier",
    "FrameType": "ImageType",
    "NominalCardiacTriggerDelayTime": "TriggerTime",
    "InversionTimes": "InversionTime",
}
_UNITS = "RealWorldValueMappingSequence"
_PHILIPS_GROUP = 0x2005


def images_of(path: Path, reading: Reading = AS_IS) -> list[DicomImage]:
    """The images in a file, in their order; pixels are read when they are asked for.

    Raises:
        NoImageError: the file holds no image of a series.
        DataError: naming the file (and the frame), when it is damaged, or the position of an image is unknown.
    """
    header = read_header(path)
    with guarded(path):
        frames = frames_of(path, header)
        if "PerFrameFunctionalGroupsSequence" in header:
            return [
                _of_part(path, flat, reading, Part(header, index), frames)
                for index, flat in enumerate(_frame_headers(path, header, frames))
            ]
        if is_mosaic(header):
            tiles, flats = tile_headers(path, header)
            return [
                _of_part(path, flat, reading, Part(header, index, tiles), len(flats))
                for index, flat in enumerate(flats)
            ]
        if frames > 1:
            return _evenly_spaced(path, header, frames, reading)
        return [image_of(path, header, reading)]


def _of_part(path: Path, header: Dataset, reading: Reading, part: Part, parts: int) -> DicomImage:
    try:
        return image_of(path, header, reading, part)
    except DataError as error:
        raise DataError(f"{error} (frame {part.index + 1} of {parts})") from None


def _frame_headers(path: Path, header: Dataset, frames: int) -> Iterator[Dataset]:
    """One header per frame, as if each frame were a file."""
    groups = header.PerFrameFunctionalGroupsSequence
    if len(groups) != frames:
        raise DataError(
            f"{path}: NumberOfFrames is {frames}, but PerFrameFunctionalGroupsSequence has {len(groups)} items; "
            "allowed: an item for each frame; export the series again"
        )
    shared = header.get("SharedFunctionalGroupsSequence") or [Dataset()]
    common = without_sequences(header)
    if _UNITS in header:
        common[_UNITS] = header[_UNITS]
    for number, group in zip(count(1), groups, strict=False):
        flat = like(common, header)
        _add_groups(flat, shared[0])
        _add_groups(flat, group)
        put(flat, "InstanceNumber", number)
        yield flat


def _add_groups(flat: Dataset, groups: Dataset) -> None:
    """Add the attributes of the functional groups to the header of a frame; later ones replace earlier ones."""
    for name in _GROUPS:
        for item in (groups.get(name) or ())[:1]:
            for element in item:
                if element.VR != "SQ":
                    flat.add(element)
                    if element.keyword in _NAMES:
                        put(flat, _NAMES[element.keyword], element.value)
    if _UNITS in groups:
        flat[_UNITS] = groups[_UNITS]
    # Philips keeps its scale slope in a private sequence of each frame, with the attributes of a file per slice.
    for element in groups:
        if element.tag.group == _PHILIPS_GROUP and element.VR == "SQ" and element.value:
            for inner in element.value[0]:
                if inner.tag.group == _PHILIPS_GROUP and inner.VR != "SQ":
                    flat.add(inner)


def _evenly_spaced(path: Path, header: Dataset, frames: int, reading: Reading) -> list[DicomImage]:
    """The frames of a file with one position: only if SpacingBetweenSlices is believed to lie between them.

    Raises:
        DataError: it is not.
    """
    if reading.believe != "spacing":
        raise DataError(
            f"{path}: holds {frames} frames, and the position of one of them at most (no "
            "PerFrameFunctionalGroupsSequence); allowed: believe: spacing (the frames lie SpacingBetweenSlices apart "
            f"along the normal, in their order), or {TO_NIFTI}"
        )
    (distance,) = required(path, header, "SpacingBetweenSlices", 1, "the distance of the frames is unknown")
    if distance <= 0:
        raise DataError(f"{path}: SpacingBetweenSlices is {distance:g}; allowed: a length above 0")
    first = image_of(path, header, reading)
    step, common, found = first.normal / np.linalg.norm(first.normal) * distance, without_sequences(header), []
    for index in range(frames):
        flat = like(common, header)
        put(flat, "ImagePositionPatient", [float(value) for value in first.position_mm + index * step])
        put(flat, "InstanceNumber", index + 1)
        found.append(image_of(path, flat, reading, Part(header, index)))
    return found
