"""Small stores made from arrays, small DICOM series."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.store import Store
from sam2ft.data.store_writer import PreparedVolume, StoreWriter

LABELS = LabelTable((Label(1, "cartilage", interface="bone"), Label(5, "bone")))


def _blocks(shape_zyx: tuple[int, int, int] = (4, 24, 32)) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Slice 0 empty; slices 1.. hold two 4x6 blocks of label 1 and one 3x3 block of label 5."""
    mask = np.zeros(shape_zyx, dtype=np.uint8)
    mask[1:, 2:6, 3:9] = 1
    mask[1:, 12:16, 20:26] = 1
    mask[1:, 18:21, 4:7] = 5
    return mask


def _prepared(subject: str, volume: str = "image", dataset: str = "toy", **changes: Any) -> PreparedVolume:
    mask = changes.pop("mask_zyx", _blocks())
    rng = np.random.default_rng(sum(subject.encode()))
    image = rng.integers(0, 65536, size=mask.shape).astype(np.uint16)
    slices: Mapping[str, list[Any]] = {
        "pixel_spacing": [[0.5, 0.5]] * len(mask),
        "slice_thickness": [4.0] * len(mask),
        "slice_spacing": [3.0] * len(mask),
        "rows": [mask.shape[1]] * len(mask),
        "columns": [mask.shape[2]] * len(mask),
        "TE": [10.0 + i for i in range(len(mask))],
    }
    values: dict[str, Any] = {
        "key": VolumeKey(dataset, subject, volume),
        "geometry": Geometry.axis_aligned(mask.shape, (3.0, 0.5, 0.5)),
        "image_zyx": image,
        "mask_zyx": mask,
        "maps": {"t2": np.full(mask.shape, 40, dtype=np.float32)},
        "window": (0.0, 100.0),
        "slices": slices,
        "subject_fields": {},
    }
    return PreparedVolume(**values | changes)


def _write_store(folder: Path, volumes: list[PreparedVolume], split_of: dict[str, str] | None = None) -> Store:
    """A store of `volumes`, all in train unless `split_of` says otherwise."""
    writer = StoreWriter(folder, volumes[0].key.dataset, "knee", LABELS, split_seed=7)
    for volume in volumes:
        writer.write(volume, source="test")
    splits = {volume.key.subject: "train" for volume in volumes} | (split_of or {})
    writer.finish([volume.key for volume in volumes], splits)
    return Store.open(folder)


@pytest.fixture(scope="session")
def six_subjects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store") / "six"
    _write_store(folder, [_prepared(name) for name in "abcdef"], {"d": "val", "e": "test", "f": "test"})
    return folder


@pytest.fixture
def store(tmp_path: Path, six_subjects: Path) -> Store:
    """Six subjects of one volume: a, b, c in train, d in val, e and f in test; a copy that a test may spoil."""
    return Store.open(Path(shutil.copytree(six_subjects, tmp_path / "store")))


@pytest.fixture
def prepared() -> Callable[..., PreparedVolume]:
    """prepared(subject, volume="image", dataset="toy", **changes): one volume as it is stored."""
    return _prepared


@pytest.fixture
def write_store() -> Callable[..., Store]:
    """write_store(folder, volumes, split_of=None): a store of prepared volumes, in train unless said otherwise."""
    return _write_store


@pytest.fixture
def write_series() -> Callable[..., Path]:
    """write_series(folder, count=5, dz=2.0, change=None, shape=(6, 8)): see _write_series."""
    return _write_series


@pytest.fixture
def edit() -> Callable[..., None]:
    """edit(path, **values): change attributes of one DICOM file."""
    return _edit


Change = Callable[[FileDataset, int], None]


def _write_series(
    folder: Path, count: int = 5, dz: float = 2.0, change: Change | None = None, shape: tuple[int, int] = (6, 8)
) -> Path:
    """`count` axial slices, `dz` mm apart while SliceThickness is 3; pixel (y, x) of slice z holds 100 z + 10 y + x.

    File names count down while positions count up, so that a reader that sorts by name gets it wrong.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series = generate_uid()
    for z in range(count):
        header = _image(series, z, dz, shape)
        if change is not None:
            change(header, z)
        header.save_as(folder / f"{count - z:03d}.dcm", enforce_file_format=True)
    return folder


def _image(series: str, z: int, dz: float, shape: tuple[int, int]) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    header.SeriesInstanceUID = series
    header.PatientName, header.PatientID, header.PatientBirthDate = "Doe^Jane", "PID-12345", "19700101"
    header.PatientAge, header.PatientSex = "053Y", "F"
    header.SeriesDescription, header.InstitutionName = "t2 sag Dr. Who", "Some Hospital"
    header.Modality, header.InstanceNumber = "MR", z + 1
    header.EchoTime, header.RepetitionTime, header.FlipAngle, header.MagneticFieldStrength = 10.0, 2000.0, 90, 3
    header.SliceThickness = 3
    header.ImagePositionPatient = [-10.0, -20.0, 5.0 + dz * z]
    header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    header.PixelSpacing = [0.5, 0.75]
    header.Rows, header.Columns = shape
    header.SamplesPerPixel, header.PhotometricInterpretation, header.PixelRepresentation = 1, "MONOCHROME2", 0
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    rows, columns = np.indices(shape)
    header.PixelData = (100 * z + 10 * rows + columns).astype("<u2").tobytes()
    return header


def _edit(path: Path, **values: object) -> None:
    """Change attributes of one file."""
    header = pydicom.dcmread(path)
    for name, value in values.items():
        setattr(header, name, value)
    header.save_as(path, enforce_file_format=True)
