"""The kinds of files that hold a volume: how each is recognised, described by its headers alone, and read."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sam2ft.config.schema.dataset import Reading
from sam2ft.data.formats import analyze_file, array_file, mgh_file, mha_file, nifti_file, nrrd_file, picture_stack
from sam2ft.data.formats.description import Description
from sam2ft.data.images.grids import FileImage


@dataclass(frozen=True)
class Reader:
    """One kind of file."""

    kind: str
    """Its name in messages."""
    endings: tuple[str, ...]
    """Endings of its names, in lower case."""
    sniff: Callable[[Path], bool]
    """Whether a path is of this kind, by its name and first bytes."""
    describe: Callable[[Path, Reading], Description]
    """What its headers say; DataError when they cannot be read."""
    read: Callable[[Path, Reading], FileImage]
    """Its voxels in the order of the file; DataError naming the file."""
    companions: Callable[[Path], tuple[Path, ...]] = lambda _: ()
    """Other files that belong to it, as far as they exist."""


def _of_pair(path: Path) -> tuple[Path, ...]:
    other = analyze_file.other_file(path)
    return () if other is None else (other,)


def _of_mhd(path: Path) -> tuple[Path, ...]:
    found = mha_file.voxel_file(path)
    return () if found is None else (found,)


def _of_nhdr(path: Path) -> tuple[Path, ...]:
    found = nrrd_file.detached_voxels(path) if path.name.lower().endswith(".nhdr") else None
    return () if found is None else (found,)


READERS = {
    "nifti": Reader(
        "NIfTI",
        nifti_file.ENDINGS,
        nifti_file.is_nifti,
        nifti_file.describe_nifti,
        nifti_file.read_nifti,
    ),
    "nrrd": Reader(
        "NRRD",
        nrrd_file.ENDINGS,
        nrrd_file.is_nrrd,
        nrrd_file.describe_nrrd,
        nrrd_file.read_nrrd,
        _of_nhdr,
    ),
    "mha": Reader("MetaImage", mha_file.ENDINGS, mha_file.is_mha, mha_file.describe_mha, mha_file.read_mha, _of_mhd),
    "mgh": Reader("MGH", mgh_file.ENDINGS, mgh_file.is_mgh, mgh_file.describe_mgh, mgh_file.read_mgh),
    "pair": Reader(
        "a NIfTI or ANALYZE pair",
        analyze_file.ENDINGS,
        analyze_file.is_pair,
        analyze_file.describe_pair,
        analyze_file.read_pair,
        _of_pair,
    ),
    "array": Reader("numpy", array_file.ENDINGS, array_file.is_array, array_file.describe_array, array_file.read_array),
    "stack": Reader(
        "pictures",
        picture_stack.ENDINGS,
        picture_stack.is_stack,
        picture_stack.describe_stack,
        picture_stack.read_stack,
    ),
}
"""Name -> reader; the first whose `sniff` holds reads a path."""


def reader_of(path: Path) -> Reader | None:
    """The reader of a file or folder; None: it is of no kind of these (a folder with DICOM files, for one)."""
    return next((reader for reader in READERS.values() if reader.sniff(path)), None)


def companions_of(path: Path) -> tuple[Path, ...]:
    """The files besides `path` that hold a part of its volume (.raw of .mhd and .nhdr, .img of .hdr)."""
    reader = reader_of(path)
    return () if reader is None else reader.companions(path)


@cache
def volume_endings() -> tuple[str, ...]:
    """The endings of all files that hold a volume, longest first."""
    endings = {ending for reader in READERS.values() for ending in reader.endings}
    return tuple(sorted(endings, key=lambda ending: (-len(ending), ending)))


def stem_of(name: str, more: Iterable[str] = ()) -> str:
    """The name of a volume file without its ending, in any case; a name that is an ending alone stays.

    Args:
        more: endings of other files that hold one, those that end in another before it.
    """
    endings = (*more, ".seg.nrrd", *volume_endings())
    ending = next((one for one in endings if name.lower().endswith(one)), "")
    return name[: len(name) - len(ending)] or name


FORMATS = (
    "; ".join(f"{reader.kind} ({', '.join(reader.endings)})" for reader in READERS.values())
    + " or a folder with one DICOM series or one picture per slice"
)
"""What can be read, for messages."""
