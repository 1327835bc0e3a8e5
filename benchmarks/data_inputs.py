"""Inputs of bench_data.py: one phantom image with noise and its mask, written in every kind of file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import SimpleITK
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, JPEGLSLossless, MRImageStorage, generate_uid

SPACING_XYZ_MM = (0.36, 0.36, 0.7)
_NOISE = 12.0

Image = npt.NDArray[Any]


def phantom(shape_zyx: tuple[int, int, int], seed: int) -> tuple[Image, Image]:
    """(int16 magnitudes with Rician noise, uint8 mask of four labels): ellipsoids in air."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, size, dtype=np.float32) for size in shape_zyx), indexing="ij")
    signal, mask = np.zeros(shape_zyx, np.float32), np.zeros(shape_zyx, np.uint8)
    for label, (radius, value) in enumerate([(0.85, 300), (0.6, 620), (0.4, 450), (0.25, 900)]):
        shift = rng.uniform(-0.1, 0.1, 3)
        inside = (z - shift[0]) ** 2 + (y - shift[1]) ** 2 + (x - shift[2]) ** 2 < radius**2
        signal[inside] = value * (1 + 0.1 * x[inside])
        mask[inside] = label + 1
    noise = rng.standard_normal((2, *shape_zyx), dtype=np.float32) * _NOISE
    return np.hypot(signal + noise[0], noise[1]).astype(np.int16), mask


def _itk(array_zyx: Image) -> Any:
    image = SimpleITK.GetImageFromArray(array_zyx)
    image.SetSpacing(SPACING_XYZ_MM)
    return image


def _as_file(ending: str, dtype: str = "int16", *, compress: bool = False) -> Callable[[Path, str, Image], None]:
    def write(folder: Path, name: str, image: Image) -> None:
        SimpleITK.WriteImage(_itk(image.astype(dtype)), str(folder / f"{name}{ending}"), compress)

    return write


def _series(encode: Callable[[FileDataset], None]) -> Callable[[Path, str, Image], None]:
    def write(folder: Path, name: str, image: Image) -> None:
        (folder / name).mkdir()
        uid = generate_uid()
        for index, pixels in enumerate(image):
            header = _header(MRImageStorage, pixels)
            header.SeriesInstanceUID, header.InstanceNumber = uid, index + 1
            header.ImagePositionPatient = [0, 0, SPACING_XYZ_MM[2] * index]
            header.ImageOrientationPatient, header.PixelSpacing = [1, 0, 0, 0, 1, 0], list(SPACING_XYZ_MM[:2])
            header.SliceThickness = header.SpacingBetweenSlices = SPACING_XYZ_MM[2]
            header.RescaleSlope, header.RescaleIntercept = 1, 0
            encode(header)
            header.save_as(folder / name / f"{index:04d}.dcm", enforce_file_format=True)

    return write


def _header(kind: str, pixels: Image) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, kind
    header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID, header.SOPInstanceUID, header.Modality = kind, generate_uid(), "MR"
    header.StudyInstanceUID, header.FrameOfReferenceUID, header.Manufacturer = "1.2.3", "1.2.4", "Some Maker"
    header.ImageType, header.EchoTime, header.RepetitionTime = ["ORIGINAL", "PRIMARY", "M"], 10.0, 1000.0
    header.Rows, header.Columns = pixels.shape[-2:]
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit, header.PixelRepresentation = 15, 1
    header.PixelData = pixels.tobytes()
    header["PixelData"].VR = "OW"
    return header


def _plain(_: FileDataset) -> None: ...


def _jpeg_ls(header: FileDataset) -> None:
    header.compress(JPEGLSLossless, generate_instance_uid=False)


def _jpeg_lossless(header: FileDataset) -> None:
    """As GDCM encodes it; pydicom has no encoder."""
    writer, path = SimpleITK.ImageFileWriter(), Path(str(_SCRATCH)) / "encoded.dcm"
    writer.SetImageIO("GDCMImageIO")
    writer.SetUseCompression(True)
    writer.SetCompressor("JPEG")
    writer.SetFileName(str(path))
    writer.Execute(SimpleITK.GetImageFromArray(header.pixel_array[None]))
    made = pydicom.dcmread(path)
    path.unlink()
    header.PixelData, header.file_meta.TransferSyntaxUID = made.PixelData, made.file_meta.TransferSyntaxUID
    header["PixelData"].is_undefined_length = True


_SCRATCH = Path()


def _enhanced(folder: Path, name: str, image: Image) -> None:
    (folder / name).mkdir()
    header = _header(EnhancedMRImageStorage, image)
    header.SeriesInstanceUID, header.NumberOfFrames, header.InstanceNumber = generate_uid(), len(image), 1
    header.SharedFunctionalGroupsSequence = [Dataset()]
    frames = []
    for index in range(len(image)):
        frame = Dataset()
        frame.PlanePositionSequence = _item(ImagePositionPatient=[0, 0, SPACING_XYZ_MM[2] * index])
        frame.PlaneOrientationSequence = _item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
        frame.PixelMeasuresSequence = _item(
            PixelSpacing=list(SPACING_XYZ_MM[:2]), SliceThickness=SPACING_XYZ_MM[2], SpacingBetweenSlices=0.7
        )
        frame.PixelValueTransformationSequence = _item(RescaleSlope=1, RescaleIntercept=0, RescaleType="US")
        frame.FrameContentSequence = _item(StackID="1", InStackPositionNumber=index + 1)
        frames.append(frame)
    header.PerFrameFunctionalGroupsSequence = frames
    header.save_as(folder / name / "1.dcm", enforce_file_format=True)


def _item(**values: Any) -> list[Dataset]:
    one = Dataset()
    for keyword, value in values.items():
        setattr(one, keyword, value)
    return [one]


KINDS: dict[str, tuple[Callable[[Path, str, Image], None], str, str]] = {
    "DICOM": (_series(_plain), "", ".nii.gz"),
    "DICOM JPEG Lossless": (_series(_jpeg_lossless), "", ".nii.gz"),
    "DICOM JPEG-LS": (_series(_jpeg_ls), "", ".nii.gz"),
    "DICOM enhanced": (_enhanced, "", ".nii.gz"),
    ".nii int16": (_as_file(".nii"), ".nii", ".nii"),
    ".nii float32": (_as_file(".nii", "float32"), ".nii", ".nii"),
    ".nii.gz int16": (_as_file(".nii.gz", compress=True), ".nii.gz", ".nii.gz"),
    ".nii.gz float32": (_as_file(".nii.gz", "float32", compress=True), ".nii.gz", ".nii.gz"),
    ".nrrd gzip": (_as_file(".nrrd", compress=True), ".nrrd", ".nrrd"),
    ".mha": (_as_file(".mha"), ".mha", ".mha"),
    ".mha compressed": (_as_file(".mha", compress=True), ".mha", ".mha"),
}
"""Kind -> (writes an image, ending of images, ending of masks); no ending: a folder."""

DATASET = """\
dataset: {{name: speed, anatomy: knee, modality: MRI}}
sources: {{images: "images/{{subject}}{image}", masks: "masks/{{subject}}{mask}"}}
labels: {{1: {{name: one}}, 2: {{name: two}}, 3: {{name: three}}, 4: {{name: four}}}}
split: {{train: 1, val: 0, test: 0, seed: 1}}
"""


def write_inputs(folder: Path, kind: str, shape_zyx: tuple[int, int, int], subjects: int) -> Path:
    """Images, masks and the dataset file of one kind in a new folder; returns the dataset file."""
    global _SCRATCH  # noqa: PLW0603  # the encoder of SimpleITK writes files only
    write, image_ending, mask_ending = KINDS[kind]
    images, masks = folder / "images", folder / "masks"
    images.mkdir(parents=True)
    masks.mkdir()
    _SCRATCH = folder
    for number in range(subjects):
        image, mask = phantom(shape_zyx, number)
        write(images, f"s{number}", image)
        _as_file(mask_ending, "uint8", compress="nii.gz" in mask_ending or "gzip" in kind or "compressed" in kind)(
            masks, f"s{number}", mask
        )
    path = folder / "dataset.yaml"
    path.write_text(DATASET.format(image=image_ending, mask=mask_ending), encoding="utf-8")
    return path
