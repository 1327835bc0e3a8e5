"""Pixel values of DICOM images as signals: the one place in which stored values become numbers of the image.

Order (PS3.3 C.11.1, C.7.6.3, C.7.5.1.1.2): padding is no signal (NaN); the Modality LUT, or slope and intercept, gives
the values; MONOCHROME1 is turned round; Philips' private scale is undone where it differs between the images.
"""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.pixels import apply_modality_lut

from sam2ft.core.errors import DataError, naming
from sam2ft.data.dicom.decoding import stored_integers
from sam2ft.data.dicom.file import TO_NIFTI, DicomImage, uid_name
from sam2ft.data.dicom.header import DAMAGE, guarded, number, reason_of, text

# Scale slope of Philips MR: true signal = (stored * RescaleSlope + RescaleIntercept) / (RescaleSlope * scale slope)
# (Chenevert et al., "Errors in quantitative image analysis due to platform-dependent image scaling", 2014).
_PHILIPS = "Philips MR Imaging DD 001"
_PHILIPS_GROUP, _SCALE_SLOPE = 0x2005, 0x0E
# Scales that differ by less than this are equal: the private value is a float32.
_EQUAL_SCALE = 1e-6
# Units of relaxation maps in a mapping of real world values (UCUM).
_MAPPINGS, _TIMES = "RealWorldValueMappingSequence", ("ms", "s", "1/s", "/s", "s-1", "Hz")
_RESCALE_SLOPE, _RESCALE_INTERCEPT = (0x0028, 0x1053), (0x0028, 0x1052)
# Modalities whose values have a unit of their own (HU, Bq/mL), whatever is shown bright.
_WITH_UNIT = ("CT", "PT")

Signals = npt.NDArray[np.float32]
Padding = npt.NDArray[np.bool_]
Scales = Mapping[tuple[Path, int], float]


def signals(image: DicomImage, scales: Scales, *, labels: bool = False) -> tuple[Signals, Padding | None]:
    """(the values of one image, float32 yx; where they are padding and no signal, None: nowhere).

    Args:
        scales: see `common_scale`.
        labels: the image is a mask: its integers are kept, whatever is shown bright or is padding.

    Raises:
        DataError: naming the file; when pixels cannot be decoded, or a value of the header that they depend on is
            wrong.
    """
    with naming(image.path), guarded(image.path):
        stored = _stored(image)
        values = _modality_values(image, stored)
        if labels:
            return values.astype(np.float32), None
        shown = text(image.header, "PhotometricInterpretation")
        if shown == "PALETTE COLOR":
            raise DataError(
                f"PhotometricInterpretation is {shown}: its values are indices of colours and no signals; allowed: "
                "MONOCHROME1, MONOCHROME2; give the images from which it was made"
            )
        if shown == "MONOCHROME1":
            values = _turned_round(image, values)
        if image.key in scales:
            values = values / scales[image.key]
        return values.astype(np.float32), _padding(image.header, stored)


def stacked_signals(
    images: Sequence[DicomImage], scales: Scales, *, labels: bool = False, padding_zyx: Padding | None = None
) -> Signals:
    """The values of several images, float32 zyx; NaN: padding. The headers lose their pixel data, to save memory.

    Args:
        padding_zyx: stays True where the images are padding and becomes False elsewhere; padding keeps its values
            then. In a decay only voxels that are padding in all its images have no signal: the last images of a fast
            decay may be 0 too.

    Raises:
        DataError: as `signals`.
    """
    stack = np.empty((len(images), *images[0].size), dtype=np.float32)
    for index, image in enumerate(images):
        stack[index], padding = signals(image, scales, labels=labels)
        if padding_zyx is not None:
            padding_zyx[index] &= False if padding is None else padding
        elif padding is not None:
            stack[index, padding] = np.nan
        _forget_pixels(image)
    return stack


def _forget_pixels(image: DicomImage) -> None:
    """Without the pixel data of all images in their headers, which were read from the file already."""
    if image.part is None and image.header.get_item("PixelData", keep_deferred=True).value is not None:
        del image.header.PixelData


def series_values(images: Sequence[DicomImage], scales: Scales) -> npt.NDArray[np.int16] | Signals:
    """The values of the images of a series, zyx: int16 where all are such whole numbers and none is padding, else as
    `stacked_signals`. The values are the same; whole numbers need half of the memory and a fifth of the time.

    Raises:
        DataError: as `signals`.
    """
    if scales:
        return stacked_signals(images, scales)
    stack = np.empty((len(images), *images[0].size), dtype=np.int16)
    for index, image in enumerate(images):
        with naming(image.path), guarded(image.path):
            values = _whole_values(image)
        if values is None:
            signals_zyx = np.empty(stack.shape, dtype=np.float32)
            signals_zyx[:index] = stack[:index]
            del stack
            signals_zyx[index:] = stacked_signals(images[index:], scales)
            return signals_zyx
        stack[index] = values
        _forget_pixels(image)
    return stack


def _whole_values(image: DicomImage) -> npt.NDArray[Any] | None:
    """The values of an image if they are its stored integers plus a whole intercept, all fit in int16, and none is
    padding; else None."""
    header = image.header
    slope, intercept = _rescale(header)
    shown = text(header, "PhotometricInterpretation")
    if slope != 1 or intercept != int(intercept) or shown != "MONOCHROME2" or header.get("ModalityLUTSequence"):
        return None
    stored = _stored(image)
    if stored.dtype.kind not in "iu" or not stored.size:
        return None
    low, high, ends = int(stored.min()) + int(intercept), int(stored.max()) + int(intercept), np.iinfo(np.int16)
    padding = _padding(header, stored)
    if low < ends.min or high > ends.max or (padding is not None and padding.any()):
        return None
    return stored if intercept == 0 else stored.astype(np.int64) + int(intercept)


def _stored(image: DicomImage) -> npt.NDArray[Any]:
    try:
        stored = stored_integers(image.header, image.part)
    except DAMAGE as error:
        uid = image.header.file_meta.get("TransferSyntaxUID")
        raise DataError(
            f"{image.path}: pixel data ({uid_name(uid)}) cannot be decoded: {reason_of(error)}; if the file is not "
            "damaged, export the series uncompressed (dcmdjpeg, gdcmconv --raw), or convert it to NIfTI with "
            "dcm2niix"
        ) from None
    used, highest = number(image.header, "BitsStored"), number(image.header, "HighBit")
    if used is not None and highest is not None and highest > used - 1:
        raise DataError(
            f"{image.path}: HighBit is {highest:g} and BitsStored {used:g}, so that its values may not lie in the "
            f"lowest bits, and programs read it differently; allowed: HighBit {used - 1:g}; {TO_NIFTI}"
        )
    if stored.shape != image.size:
        raise DataError(f"{image.path}: pixel data of shape {stored.shape}; its Rows and Columns are {image.size}")
    return stored


def _modality_values(image: DicomImage, stored: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    header = image.header
    if header.get("ModalityLUTSequence"):
        try:
            table = apply_modality_lut(stored, header)
        except DAMAGE as error:
            raise DataError(f"ModalityLUTSequence cannot be applied ({reason_of(error)})") from None
        return np.asarray(table, dtype=np.float64)
    slope, intercept = _rescale(header)
    return stored.astype(np.float64) * slope + intercept


def _rescale(header: pydicom.Dataset) -> tuple[float, float]:
    """(RescaleSlope, RescaleIntercept); absent or empty: 1 and 0."""
    slope, intercept = number(header, "RescaleSlope"), number(header, "RescaleIntercept")
    if slope == 0:
        raise DataError("RescaleSlope is 0, so that every value is the same; allowed: any other number")
    return 1.0 if slope is None else slope, 0.0 if intercept is None else intercept


def mapped_unit(image: DicomImage) -> str:
    """The unit that the header gives to the values of a map, as it writes it; empty: it gives none.

    Where a real world value mapping gives it, slope and intercept of the header become those of the mapping.

    Raises:
        DataError: naming the file, when it has several mappings to times or rates, or one without numbers.
    """
    with naming(image.path):
        found = [(unit, item) for item in image.header.get(_MAPPINGS) or () if (unit := _unit_code(item)) in _TIMES]
        if len(found) > 1:
            raise DataError(f"{_MAPPINGS} has {len(found)} items with a unit of time or rate; allowed: one")
        if not found:
            return text(image.header, "RescaleType")
        unit, item = found[0]
        slope, intercept = number(item, "RealWorldValueSlope"), number(item, "RealWorldValueIntercept")
        if slope is None or intercept is None or slope == 0:
            raise DataError(
                f"{_MAPPINGS} has a unit, but no slope and intercept; allowed: a linear mapping; export the map again "
                "as NIfTI"
            )
        # As FD: a decimal string (DS) has 16 characters at most.
        image.header.add_new(_RESCALE_SLOPE, "FD", slope)
        image.header.add_new(_RESCALE_INTERCEPT, "FD", intercept)
        if "ModalityLUTSequence" in image.header:
            del image.header.ModalityLUTSequence
        return unit


def _unit_code(item: pydicom.Dataset) -> str:
    codes: Any = item.get("MeasurementUnitsCodeSequence") or ()
    return text(codes[0], "CodeValue") if len(codes) else ""


def _turned_round(image: DicomImage, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """MONOCHROME1 shows low values bright. Turned round within the range of stored values, so alike in all slices."""
    modality = text(image.header, "Modality")
    if modality in _WITH_UNIT or image.header.get("ModalityLUTSequence"):
        reason = "a Modality LUT" if image.header.get("ModalityLUTSequence") else f"Modality {modality}"
        raise DataError(
            f"PhotometricInterpretation MONOCHROME1 with {reason}: whether its values are turned round is unknown; "
            "allowed: MONOCHROME2; convert the series to NIfTI with dcm2niix, check its values, and give the .nii.gz"
        )
    bits, signed = number(image.header, "BitsStored") or 16, number(image.header, "PixelRepresentation")
    slope, intercept = _rescale(image.header)
    lowest_and_highest = -1.0 if signed else 2.0**bits - 1
    return slope * lowest_and_highest + 2 * intercept - values


def _padding(header: pydicom.Dataset, stored: npt.NDArray[Any]) -> Padding | None:
    first = _padding_value(header, "PixelPaddingValue")
    if first is None:
        return None
    last = _padding_value(header, "PixelPaddingRangeLimit")
    low, high = (first, first) if last is None else (min(first, last), max(first, last))
    return (stored >= low) & (stored <= high)


def _padding_value(header: pydicom.Dataset, attribute: str) -> float | None:
    """The value as a stored value: its VR may be US though pixels are signed, and the other way round."""
    value = number(header, attribute)
    if value is None:
        return None
    allocated, signed = number(header, "BitsAllocated") or 16, number(header, "PixelRepresentation")
    if signed and value >= 2 ** (allocated - 1):
        return value - 2.0**allocated
    return value + 2.0**allocated if not signed and value < 0 else value


def common_scale(folder: Path, images: Sequence[DicomImage], *, decay: bool = False) -> tuple[Scales, str]:
    """(image -> divisor that gives its values the scale of all images, a note); empty where all have one scale.

    Args:
        decay: the images belong to a decay, whose signals are compared with each other.

    Raises:
        DataError: naming the folder; when only some images have the scale, it is not above 0, or it is needed and
            missing; and when a decay is MONOCHROME1.
    """
    with guarded(folder):
        if decay:
            _refuse_decay_turned_round(images)
        slopes = [_scale_slope(image) for image in images]
        rescales = [_rescale_of(image) for image in images]
        missing = [image for image, slope in zip(images, slopes, strict=True) if slope is None]
        if len(missing) == len(images):
            return {}, _note_without_scales(folder, images, rescales) if decay else ""
        if missing:
            raise DataError(
                f"{folder}: Philips' scale slope (2005,100E) is missing in {len(missing)} of {len(images)} images "
                f"({missing[0].name}); allowed: in all or in none; export the series again with its private "
                "attributes"
            )
        divisors = [rescale * slope for rescale, slope in zip(rescales, slopes, strict=True) if slope is not None]
    if not _differ(divisors):
        return {}, ""
    note = (
        f"Philips scale slopes differ between images (divisors {min(divisors):.4g} to {max(divisors):.4g}); "
        "values are divided by RescaleSlope x scale slope"
    )
    return dict(zip((image.key for image in images), divisors, strict=True)), note


def _note_without_scales(folder: Path, images: Sequence[DicomImage], rescales: Sequence[float]) -> str:
    """A note on a decay of Philips, or of an unknown maker, whose images have no scale slope; DataError if needed."""
    makers = {text(image.header, "Manufacturer").lower() for image in images}
    philips = any(maker.startswith("philips") for maker in makers)
    if not philips and "" not in makers:
        return ""
    if _differ(rescales):
        who = "" if philips else ", of images without Manufacturer,"
        raise DataError(
            f"{folder}: RescaleSlope{who} takes {len(set(rescales))} values, and Philips' scale slope "
            "(2005,100E), which relates them, is in no image; allowed in a decay: one RescaleSlope, the scale slope in "
            "every image, or a Manufacturer other than Philips; export the series again with its private attributes"
        )
    if not philips:
        return ""
    return "Philips' scale slope (2005,100E) is in no image of the decay; one scale of all its images is assumed"


def _refuse_decay_turned_round(images: Sequence[DicomImage]) -> None:
    for image in images:
        if text(image.header, "PhotometricInterpretation") == "MONOCHROME1":
            raise DataError(
                f"{image.path}: PhotometricInterpretation is MONOCHROME1, so that its signal is not known up to an "
                "offset; allowed in a decay: MONOCHROME2"
            )


def _differ(values: Sequence[float]) -> bool:
    return max(values) - min(values) > _EQUAL_SCALE * max(abs(value) for value in values)


def _rescale_of(image: DicomImage) -> float:
    with naming(image.path):
        return _rescale(image.header)[0]


def _scale_slope(image: DicomImage) -> float | None:
    """Philips' private scale slope; None where the header has none."""
    tag = _private_tag(image.header)
    if tag is None:
        return None
    # The element as it is in the file: where its type is unknown, pydicom would take it for a float32 in any case.
    element = image.header.get_item(tag)
    value = _as_number(element.VR, element.value, little=bool(image.header.original_encoding[1]))
    if value is None:
        return None
    if not (np.isfinite(value) and value > 0):
        raise DataError(f"{image.path}: Philips' scale slope (2005,100E) is {value:g}; allowed: a number above 0")
    return value


def _private_tag(header: pydicom.Dataset) -> Any:
    """Tag of the element, by its private creator; without any creator at its usual place, for Philips alone."""
    try:
        tag = header.private_block(_PHILIPS_GROUP, _PHILIPS).get_tag(_SCALE_SLOPE)
    except KeyError:
        tags = list(header.keys())  # iterating over the header itself converts every value
        creators = [tag for tag in tags if tag.group == _PHILIPS_GROUP and 0x10 <= tag.element <= 0xFF]
        if creators or not text(header, "Manufacturer").lower().startswith("philips"):
            return None
        tag = pydicom.tag.Tag(_PHILIPS_GROUP, 0x1000 + _SCALE_SLOPE)
    return tag if tag in header else None


def _as_number(vr: str | None, value: Any, *, little: bool) -> float | None:
    """The number of a private element: of type FL or FD, text, or of unknown type (then a float32 or text)."""
    if isinstance(value, bytes):
        if vr in ("FL", "FD") or (len(value) == 4 and not _is_decimal(value)):
            size = {4: "f", 8: "d"}.get(len(value))
            if size is None:
                return None if not value else float("nan")
            return float(struct.unpack(("<" if little else ">") + size, value)[0])
        value = value.decode("latin-1").strip(" \0")
    if value is None or value == "":
        return None
    try:
        return float(value)
    except DAMAGE:
        raise DataError(f"Philips' scale slope (2005,100E) is {str(value)[:40]!r}; allowed: a number above 0") from None


def _is_decimal(value: bytes) -> bool:
    return all(one in b"0123456789.+-eE \0" for one in value) and any(one in b"0123456789" for one in value)
