"""The DICOM files of one folder, by their headers: stacks of images, masks, and what is neither."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pydicom

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.core.errors import DataError
from sam2ft.core.files import sha256_text
from sam2ft.data.dicom.file import DicomImage, NoImageError, uid_name
from sam2ft.data.dicom.frames import images_of
from sam2ft.data.dicom.header import guarded, text
from sam2ft.data.dicom.placement import place
from sam2ft.data.dicom.read_segmentation import dicom_kind
from sam2ft.data.dicom.stacks import StackDescription, split_in_stacks
from sam2ft.data.scan.found import FoundImage, Grid

# Uneven distances are a problem to tell, and no reason to have no grid.
_ANY_DISTANCE = Reading(irregular="resample")
_MEDIA = "Media Storage Directory Storage"


@dataclass
class DicomFolder:
    """What the DICOM files of a folder hold."""

    images: list[FoundImage] = field(default_factory=list)
    masks: list[tuple[Path, str]] = field(default_factory=list)
    """(file, segmentation or structures)."""
    others: list[tuple[Path, str]] = field(default_factory=list)
    """(file, what it is), such as reports."""
    unreadable: list[tuple[Path, str]] = field(default_factory=list)
    copies: int = 0
    """Images with the SOPInstanceUID of another one in the folder."""


def described_folder(folder: Path, files: Sequence[Path], root: Path) -> DicomFolder:
    """The stacks of images and other objects in DICOM files of one folder.

    A file of several images stands for itself, all other images stand for their folder.
    """
    found = DicomFolder()
    single: dict[str, DicomImage] = {}
    for path in files:
        images = _images(path, found)
        if images and images[0].part is not None:
            found.images += _stacks(path, images, root)
            continue
        for image in images:
            uid = text(image.header, "SOPInstanceUID") or str(path)
            found.copies += uid in single
            single.setdefault(uid, image)
    if single:
        found.images += _stacks(folder, list(single.values()), root)
    return found


def _images(path: Path, found: DicomFolder) -> list[DicomImage]:
    try:
        return images_of(path, AS_IS)
    except NoImageError:
        _sort_other(path, found)
    except DataError as error:
        found.unreadable.append((path, without_path(error, path)))
    return []


def _sort_other(path: Path, found: DicomFolder) -> None:
    """Keep a DICOM object that is no image as a mask, or as something else of a name."""
    try:
        kind = dicom_kind(path)
        with guarded(path):
            header = pydicom.dcmread(path, force=True, stop_before_pixels=True)
            name = uid_name(header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID"))
    except DataError as error:
        found.unreadable.append((path, without_path(error, path)))
        return
    if kind is not None:
        found.masks.append((path, kind))
    else:
        found.others.append((path, "DICOMDIR" if name == _MEDIA else name.removesuffix(" Storage")))


def _stacks(at: Path, images: Sequence[DicomImage], root: Path) -> list[FoundImage]:
    try:
        with guarded(at):
            return [_image(at, stack, root) for stack in split_in_stacks(images)]
    except DataError as error:
        return [FoundImage(at, root, "DICOM", (0, 0, len(images)), problems=(without_path(error, at),))]


def _image(at: Path, stack: StackDescription, root: Path) -> FoundImage:
    first = stack.images[0]
    rows, columns = first.size
    grid: Grid | None = None
    problems: tuple[str, ...] = ()
    try:
        geometry = place(at, stack.images, _ANY_DISTANCE).geometry
        grid = Grid((columns, rows, geometry.shape_zyx[0]), geometry.affine)
        place(at, stack.images, AS_IS)
    except DataError as error:
        problems = (without_path(error, at),)
    if stack.localizer:
        problems = ()
    patient = text(first.header, "PatientID")
    return FoundImage(
        place=at,
        root=root,
        kind="DICOM",
        shape=(columns, rows, len(stack.images)),
        grid=grid,
        plane=stack.plane,
        description=stack.description,
        number=stack.number,
        part=stack.part,
        echo_ms=stack.echo_ms,
        phase=stack.phase,
        tags=dict(stack.tags),
        localizer=stack.localizer,
        uids=(
            text(first.header, "SeriesInstanceUID"),
            text(first.header, "StudyInstanceUID"),
            sha256_text(patient) if patient else "",
        ),
        problems=problems,
        num_files=len({image.path for image in stack.images}),
    )


def references_of(path: Path) -> tuple[tuple[str, ...], Mapping[int, str]]:
    """(SeriesInstanceUID that a segmentation or structure set was drawn on, its numbers and names of segments).

    Raises:
        DataError: naming the file, when it is damaged.
    """
    with guarded(path):
        header = pydicom.dcmread(path, force=True, stop_before_pixels=True)
        series = [
            text(item, "SeriesInstanceUID")
            for keyword in ("ReferencedSeriesSequence", "RTReferencedSeriesSequence")
            for item in _items_of(header, keyword)
        ]
        names: dict[int, str] = {}
        for sequence, number, name in (
            ("SegmentSequence", "SegmentNumber", "SegmentLabel"),
            ("StructureSetROISequence", "ROINumber", "ROIName"),
        ):
            for item in header.get(sequence) or ():
                names[int(item[number].value)] = text(item, name)
        return tuple(dict.fromkeys(uid for uid in series if uid)), names


def _items_of(header: pydicom.Dataset, keyword: str) -> list[pydicom.Dataset]:
    """Items of a sequence, wherever it is nested."""
    found: list[pydicom.Dataset] = []
    for element in header:
        if element.VR == "SQ":
            for item in element.value:
                found += [item] if element.keyword == keyword else _items_of(item, keyword)
    return found


def missing_of_dicomdir(path: Path) -> tuple[int, int]:
    """(files that a DICOMDIR lists, those of them that are not there).

    Raises:
        DataError: naming the file, when it is damaged.
    """
    with guarded(path):
        header = pydicom.dcmread(path, force=True)
        listed = []
        for record in header.get("DirectoryRecordSequence") or ():
            name = record.get("ReferencedFileID")
            if name:
                listed.append([name] if isinstance(name, str) else list(map(str, name)))
    return len(listed), sum(not path.parent.joinpath(*parts).is_file() for parts in listed)


def without_path(error: Exception, path: Path) -> str:
    """The message of an error without the path that it begins with."""
    message = str(error).removeprefix(f"{path}").removeprefix("/").removeprefix(path.name)
    return message.lstrip(": ").strip() or "cannot be read"
