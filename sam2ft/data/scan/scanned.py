"""Looking through folders: every file is an image, a mask, an archive, something known, or counted with a reason."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sam2ft.core.errors import DataError
from sam2ft.core.quiet import quiet_readers
from sam2ft.data.dicom.file import is_dicom
from sam2ft.data.formats.picture_stack import is_stack
from sam2ft.data.formats.readers import READERS, volume_endings
from sam2ft.data.scan.archives import ZipArchive, is_archive, listed_archive
from sam2ft.data.scan.dicom_folder import described_folder, missing_of_dicomdir, without_path
from sam2ft.data.scan.found import FoundImage, FoundMask
from sam2ft.data.scan.mask_contents import dicom_mask
from sam2ft.data.scan.volume_files import FileSorter, reader_at
from sam2ft.data.scan.walk import Walked, walked

Progress = Callable[[int, int, str], None]
"""(folders done, folders, where)."""
_PICTURES = (".png", ".tif", ".tiff")


@dataclass
class Scanned:
    """What lies in the scanned folders."""

    roots: tuple[Path, ...]
    images: list[FoundImage] = field(default_factory=list)
    masks: list[FoundMask] = field(default_factory=list)
    archives: list[tuple[ZipArchive, Path]] = field(default_factory=list)
    """(archive, the scanned folder that it lies in)."""
    others: Counter[str] = field(default_factory=Counter)
    """DICOM objects that are no images and no masks, by their kind."""
    stray: list[Path] = field(default_factory=list)
    """Files of no kind that is known."""
    unreadable: list[tuple[Path, str]] = field(default_factory=list)
    left_out: list[tuple[Path, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    num_files: int = 0
    hidden: int = 0
    copies: int = 0


@quiet_readers()
def scanned(roots: Sequence[Path], progress: Progress = lambda *_: None) -> Scanned:
    """Everything below `roots`: headers of images, voxels of masks.

    Raises:
        DataError: a root is no folder.
    """
    found = Scanned(tuple(roots))
    trees = [walked(_checked(root)) for root in roots]
    total, done = sum(len(tree.folders) for tree in trees), 0
    for tree in trees:
        files = FileSorter(tree.root)
        for folder, names in tree.folders.items():
            _sort_folder(folder, names, tree.root, files, found)
            done += 1
            progress(done, total, str(folder))
        _add(tree, found)
    found.images.sort(key=lambda image: image.order)
    found.masks.sort(key=lambda mask: mask.path)
    return found


def _checked(root: Path) -> Path:
    if not root.exists():
        raise DataError(f"{root}: no such folder; give the folder that holds the images")
    if not root.is_dir():
        raise DataError(f"{root}: is a file; give the folder that holds it")
    return root


def _add(tree: Walked, found: Scanned) -> None:
    found.unreadable += tree.unreadable
    found.left_out += tree.left_out
    found.num_files += tree.num_files
    found.hidden += tree.hidden


def _sort_folder(folder: Path, files: list[Path], root: Path, volumes: FileSorter, found: Scanned) -> None:
    pictures = [path for path in files if path.suffix.lower() in _PICTURES]
    if pictures and folder != root and is_stack(folder):
        _sort_volume(folder, volumes, found)
        files = [path for path in files if path not in set(pictures)]
    dicom: list[Path] = []
    companions: set[Path] = set()
    stray: list[Path] = []
    for path in files:
        try:
            kind = _sorted_file(path, volumes, found, companions)
        except (DataError, OSError) as error:
            reason = without_path(error, path) if isinstance(error, DataError) else error.strerror or "cannot be read"
            found.unreadable.append((path, reason))
            continue
        (dicom if kind == "dicom" else stray if kind == "stray" else []).append(path)
    found.stray += [path for path in stray if path not in companions]
    if dicom:
        _sort_dicom(folder, dicom, root, found)


def _sorted_file(path: Path, volumes: FileSorter, found: Scanned, companions: set[Path]) -> str:
    """dicom, stray, or empty for a file that is dealt with."""
    if is_archive(path):
        found.archives.append((listed_archive(path), volumes.root))
        return ""
    if path.name.lower().endswith(volume_endings()):
        reader = reader_at(path)
        if reader is not None:
            companions.update(reader.companions(path))
            if path not in companions or reader is not READERS["pair"]:
                _sort_volume(path, volumes, found)
            return ""
    with path.open("rb") as stream:
        if not stream.read(1):
            return "stray"
    return "dicom" if is_dicom(path) else "stray"


def _sort_volume(path: Path, volumes: FileSorter, found: Scanned) -> None:
    reader = reader_at(path)
    if reader is None:
        return
    try:
        one = volumes.sort(path, reader)
    except DataError as error:
        found.unreadable.append((path, without_path(error, path)))
        return
    if isinstance(one, FoundMask):
        found.masks.append(one)
    else:
        found.images.append(one)


def _sort_dicom(folder: Path, files: list[Path], root: Path, found: Scanned) -> None:
    here = described_folder(folder, files, root)
    found.images += here.images
    found.unreadable += here.unreadable
    found.copies += here.copies
    for path, kind in here.masks:
        try:
            found.masks.append(dicom_mask(path, root, kind))
        except DataError as error:
            found.unreadable.append((path, without_path(error, path)))
    for path, kind in here.others:
        found.others[kind] += 1
        if kind == "DICOMDIR":
            listed, missing = missing_of_dicomdir(path)
            if missing:
                found.notes.append(f"{path}: lists {listed} files, of which {missing} are not there; copy them again")
