"""Writing a phantom as DICOM MR series with the difficulties of real series.

SliceThickness is not the slice distance, InstanceNumber does not follow position, intensities may be rescaled, and the
header contains a fictitious patient. They test that a reader gets the grid right and does not keep patient data.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

from sam2ft.core.geometry import Geometry
from sam2ft.data.images.grids import LPS_TO_RAS

# Slice thickness as a fraction of the slice distance; the rest is a gap.
_THICKNESS = 0.75
_LARGEST = 65535


@dataclass(frozen=True)
class DicomSeries:
    """Header values of one series, except pixels and positions."""

    subject: str
    number: int
    description: str
    seed: int
    """With subject and number, determines all UIDs, the fictitious patient and the order of instances."""
    field_strength: float = 3.0
    rescale: tuple[float, float] = (1.0, 0.0)
    """(slope, intercept); for (1, 0) the attributes are omitted."""
    frames: tuple[dict[str, Any], ...] = ({"EchoTime": 20.0},)
    """Attributes of each repetition of the volume: its echo time, or the number of its spin lock."""

    def uid(self, *parts: object) -> str:
        """Reproducible DICOM UID of an object of the series."""
        return str(generate_uid(entropy_srcs=["sam2ft phantom", self.subject, str(self.seed), *map(str, parts)]))


def write_series(folder: Path, frames_tzyx: npt.NDArray[np.float32], geometry: Geometry, series: DicomSeries) -> None:
    """Write one file per slice and repetition to `folder`: 16 bits per pixel, numbered in random order."""
    folder.mkdir(parents=True, exist_ok=True)
    slope, intercept = series.rescale
    stored = np.rint((frames_tzyx - intercept) / slope)
    pixels = np.clip(stored, 0, _LARGEST).astype("<u2")
    repetitions, slices = frames_tzyx.shape[:2]
    order = np.random.default_rng([series.seed, series.number]).permutation(repetitions * slices)
    affine_lps = LPS_TO_RAS @ geometry.affine
    header = _header(series, geometry, affine_lps)
    for instance, place in enumerate(order, start=1):
        repetition, index = divmod(int(place), slices)
        position = affine_lps[:3, 3] + affine_lps[:3, 2] * index
        normal = affine_lps[:3, 2] / geometry.spacing_zyx_mm[0]
        _set(header, series.frames[repetition])
        header.InstanceNumber = instance
        header.SOPInstanceUID = series.uid(series.number, instance)
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
        header.ImagePositionPatient = _decimals(position)
        header.SliceLocation = _decimals([position @ normal])[0]
        header.PixelData = pixels[repetition, index].tobytes()
        header.save_as(folder / f"IM{instance:04d}.dcm", enforce_file_format=True)


def _set(header: Dataset, values: dict[str, Any]) -> None:
    for keyword, value in values.items():
        setattr(header, keyword, value)


def _header(series: DicomSeries, geometry: Geometry, affine_lps: npt.NDArray[np.float64]) -> FileDataset:
    """Header values that are common to all files of a series."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = series.uid("implementation")
    header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dz, row_distance, column_distance = geometry.spacing_zyx_mm
    cosines = affine_lps[:3, :2] / np.array([column_distance, row_distance])
    values: dict[str, Any] = {
        "SOPClassUID": MRImageStorage,
        "Modality": "MR",
        "Manufacturer": "sam2ft phantom",
        "StudyInstanceUID": series.uid("study"),
        "SeriesInstanceUID": series.uid("series", series.number),
        "FrameOfReferenceUID": series.uid("frame"),
        "SeriesNumber": series.number,
        "SeriesDescription": series.description,
        "StudyDate": "20240229",
        "SeriesDate": "20240229",
        "MRAcquisitionType": "2D",
        "ScanningSequence": "SE",
        "SequenceVariant": "NONE",
        "ScanOptions": "",
        "ImageType": ["ORIGINAL", "PRIMARY", "M"],
        "RepetitionTime": 2800.0,
        "FlipAngle": 90.0,
        "MagneticFieldStrength": series.field_strength,
        "Rows": geometry.shape_zyx[1],
        "Columns": geometry.shape_zyx[2],
        "PixelSpacing": _decimals([row_distance, column_distance]),
        "SliceThickness": _decimals([_THICKNESS * dz])[0],
        "SpacingBetweenSlices": _decimals([dz])[0],
        "ImageOrientationPatient": _decimals([*cosines[:, 0], *cosines[:, 1]]),
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        **_patient(series),
    }
    if series.rescale != (1.0, 0.0):
        values |= {"RescaleSlope": series.rescale[0], "RescaleIntercept": series.rescale[1], "RescaleType": "US"}
    _set(header, values)
    return header


def _patient(series: DicomSeries) -> dict[str, str]:
    """Fictitious patient, to test that patient data of a header are not stored."""
    rng = np.random.default_rng([series.seed, *series.subject.encode()])
    age, woman = int(rng.integers(25, 80)), bool(rng.integers(2))
    return {
        "PatientName": f"Invented^{'Paula' if woman else 'Paul'} {series.subject}",
        "PatientID": f"MRN{int(rng.integers(10**7, 10**8))}",
        "PatientBirthDate": f"{2024 - age}{int(rng.integers(1, 13)):02d}{int(rng.integers(1, 29)):02d}",
        "PatientSex": "F" if woman else "M",
        "PatientAge": f"{age:03d}Y",
        "PatientWeight": f"{rng.uniform(50, 110):.1f}",
        "ReferringPhysicianName": "Nobody^Dr",
        "StudyDescription": "made by sam2ft, not a person",
    }


def _decimals(values: Any) -> list[str]:
    """Numbers as DICOM decimal strings, which have at most 16 characters."""
    return [format_number_as_ds(float(value)) for value in values]
