"""What lies in a DICOM folder: its images, and what is left out because it is no image of a series or a copy."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.core.errors import DataError, listed
from sam2ft.core.given.wrong_kind import Wanted, wrong_kind
from sam2ft.data.dicom.file import DicomImage, NoImageError, is_dicom
from sam2ft.data.dicom.frames import images_of
from sam2ft.data.dicom.header import guarded, text

# What a file that is no DICOM is judged by: text, or something damaged.
_BEGINNING = 4096
_DIRECTORY = "DICOMDIR"
_ADVICE = (
    "; it holds NIfTI files: an image or mask is the path of one file; echoes of a map need their times, EchoTime of "
    "the .json file (BIDS) beside each"
)


@dataclass(frozen=True)
class Contents:
    """The images in a folder or file."""

    images: tuple[DicomImage, ...]
    notes: tuple[str, ...] = ()
    """What was left out, one sentence each."""


def images_in(path: Path, reading: Reading = AS_IS) -> Contents:
    """The images in a folder, or in one file, by their headers.

    Hidden files are ignored, and so are subfolders of a folder that holds DICOM files. Without `folders: strict` a
    folder may hold other files, DICOM objects that are no images of a series, and copies, and without any DICOM file
    of its own stands for its subfolders.

    Raises:
        DataError: naming the file; when one is damaged, or there is no image.
    """
    if path.is_file():
        found = images_of(path, reading)
        if found[0].part is None:
            raise DataError(f"{path}: is a single DICOM file; give the folder that holds all slices of its series")
        return Contents(tuple(found))
    if reading.folders == "strict":
        return Contents(tuple(image for file in dicom_files(path) for image in images_of(file, reading)))
    files, others = _tolerated(path)
    images: list[DicomImage] = []
    no_images: dict[str, NoImageError] = {}
    for file in files:
        try:
            images += images_of(file, reading)
        except NoImageError as error:
            no_images[file.name] = error
    series = {text(image.header, "SeriesInstanceUID") for image in images} - {""}
    for no_image in no_images.values():
        # An object in the series of the images may be one of its slices.
        if not images or no_image.series in series:
            raise no_image
    left_out = [*(other.name for other in others), *no_images]
    single, copies = _without_copies(images)
    notes = [f"left out, because they are no images of a series: {listed(left_out, 3)}"] if left_out else []
    notes += [f"left out, because they are copies: {listed(copies, 3)}"] if copies else []
    return Contents(tuple(single), tuple(notes))


def dicom_files(folder: Path) -> list[Path]:
    """Sorted DICOM files of the folder; hidden files and subfolders are ignored.

    Raises:
        DataError: when there is no such folder, it has no DICOM file, or it contains other files.
    """
    files = _files(folder)
    foreign = [path.name for path in files if not is_dicom(path)]
    if len(foreign) == len(files):
        raise _no_dicom(folder, files)
    if foreign:
        raise DataError(
            f"{folder}: not DICOM: {listed(foreign, 5)}; a folder holds the files of one series and no others "
            "(folders: tolerant leaves them out)"
        )
    return files


def _files(folder: Path, *, deep: bool = False) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    with guarded(folder):
        found = folder.rglob("*") if deep else folder.iterdir()
        return sorted(path for path in found if path.is_file() and not _is_hidden(path.relative_to(folder)))


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _no_dicom(folder: Path, files: Sequence[Path]) -> DataError:
    nifti = any(path.name.lower().endswith((".nii", ".nii.gz")) for path in files)
    problem = None if nifti else wrong_kind(folder, Wanted.MASK)
    return DataError(problem or f"{folder}: no DICOM file among {len(files)} files{_ADVICE if nifti else ''}")


def _tolerated(folder: Path) -> tuple[list[Path], list[Path]]:
    """(the DICOM files of a folder or, if it has none, below it; other files there).

    Raises:
        DataError: there is none, or a file that is none is named as the DICOM files are and is no text: one of them
            that is damaged would be left out.
    """
    own = _files(folder)
    for files in (own, _files(folder, deep=True)):
        found = [path for path in files if is_dicom(path)]
        # A disc has its table of contents beside the folders with the images.
        if any(path.name.upper() != _DIRECTORY for path in found):
            others = [path for path in files if path not in set(found)]
            endings = {path.suffix.lower() for path in found}
            for path in others:
                if path.suffix.lower() in endings and not _is_text(path):
                    raise DataError(
                        f"{path}: not DICOM, though it is named as the DICOM files beside it are; export it again if "
                        "it is one of them, else move it elsewhere"
                    )
            return found, others
    if own and any(is_dicom(path) for path in own):
        return own, []
    raise _no_dicom(folder, own)


def _is_text(path: Path) -> bool:
    with guarded(path), path.open("rb") as stream:
        start = stream.read(_BEGINNING)
    return bool(start) and all(byte in b"\t\r\n\f" or byte >= ord(" ") for byte in start)


def _without_copies(images: Sequence[DicomImage]) -> tuple[list[DicomImage], list[str]]:
    """(each image once, names of the files that are copies): of one SOPInstanceUID and place, with equal pixels."""
    known: dict[tuple[str, str, int, bytes], DicomImage] = {}
    found, copies = [], []
    for image in images:
        uids = text(image.header, "SeriesInstanceUID"), text(image.header, "SOPInstanceUID")
        first = known.setdefault((*uids, image.key[1], image.position_mm.tobytes()), image)
        if first is image or not uids[1] or not _same_pixels(first, image):
            found.append(image)
        else:
            copies.append(image.path.name)
    return found, list(dict.fromkeys(copies))


def _same_pixels(first: DicomImage, second: DicomImage) -> bool:
    one, other = ((image.part.whole if image.part else image.header) for image in (first, second))
    same: bool = one is not other and one.PixelData == other.PixelData
    return same
