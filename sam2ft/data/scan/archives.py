"""Zip archives: their contents without unpacking, and unpacking that neither leaves its folder nor fills a volume."""

import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from sam2ft.core.errors import DataError

_CHUNK = 1 << 20
_MARGIN = 0.9
"""Share of the free space that unpacked files may take."""
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeError)


@dataclass(frozen=True)
class ZipArchive:
    """A zip archive by its table of contents."""

    path: Path
    num_files: int
    num_bytes: int
    """Of the unpacked files, as the archive declares."""


def is_archive(path: Path) -> bool:
    """Whether a file is a zip archive by name and first bytes (an .npz or .xlsx is none)."""
    if path.suffix.lower() != ".zip":
        return False
    with path.open("rb") as stream:
        return stream.read(2) == b"PK"


def listed_archive(path: Path) -> ZipArchive:
    """The contents of an archive, by its table alone.

    Raises:
        DataError: it is damaged, or holds what cannot be unpacked safely.
    """
    with _opened_zip(path) as archive:
        members = _members(path, archive)
        return ZipArchive(path, len(members), sum(member.file_size for member in members))


def unpack_zip(archive: ZipArchive, root: Path, into: Path) -> Path:
    """The folder with the files of an archive, below `into` at its place below `root`; what is there stays.

    Raises:
        DataError: a member would lie elsewhere, is a link or encrypted, holds more than it declares, there is not
            enough space (nothing of the archive is left then), or its folder is there with other contents.
    """
    target = into / archive.path.relative_to(root).with_suffix("")
    if target.exists():
        _refuse_other_contents(archive.path, target)
        return target
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        free = shutil.disk_usage(partial).free
        if archive.num_bytes > _MARGIN * free:
            raise DataError(
                f"{archive.path}: holds {archive.num_bytes / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free in {into}; "
                "give a folder with more space to --unpack"
            )
        with _opened_zip(archive.path) as opened:
            for member in _members(archive.path, opened):
                _write(archive.path, opened, member, partial)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _refuse_other_contents(path: Path, folder: Path) -> None:
    """DataError unless `folder` holds what an archive does: it may be that of another archive of this name."""
    with _opened_zip(path) as archive:
        members = _members(path, archive)
    other = [member.filename for member in members if _crc32(folder / member.filename) != member.CRC]
    if other:
        raise DataError(
            f"{path}: {len(other)} of its {len(members)} files are not in {folder} as in the archive, e.g. "
            f"{other[0]!r}; scan that folder itself, or give another one to --unpack"
        )


def _crc32(path: Path) -> int | None:
    """The checksum that zip archives hold; None: there is no such file."""
    if not path.is_file():
        return None
    found = 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            found = zlib.crc32(chunk, found)
    return found


@contextmanager
def _opened_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _DAMAGE as error:
        raise DataError(f"{path}: a zip archive that cannot be read ({type(error).__name__}); copy it again") from None


def _members(path: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files in an archive.

    Raises:
        DataError: one lies outside of the archive's folder, twice at one place, is a link or encrypted.
    """
    found: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        if member.is_dir() or "__MACOSX" in member.filename:
            continue
        name = member.filename
        kind = stat.S_IFMT(member.external_attr >> 16)
        reason = (
            "leads out of its folder" if _leads_out(name)
            else "is a link" if kind == stat.S_IFLNK
            else "is no plain file" if kind not in (0, stat.S_IFREG)
            else "is encrypted" if member.flag_bits & 1
            else "is there twice" if name.casefold() in found
            else ""
        )  # fmt: skip
        if reason:
            raise DataError(f"{path}: {name!r} {reason}; unpack the archive by hand and scan its folder")
        found[name.casefold()] = member
    return list(found.values())


def _leads_out(name: str) -> bool:
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    return (
        posix.is_absolute()
        or bool(windows.drive or windows.root)
        or ".." in {*posix.parts, *windows.parts}
        or "\0" in name
    )


def _write(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    """Write a member; never more bytes than it declares."""
    target = folder / member.filename
    target.parent.mkdir(parents=True, exist_ok=True)
    left = member.file_size
    with archive.open(member) as source, target.open("xb") as out:
        while chunk := source.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise DataError(
                    f"{path}: {member.filename!r} holds more than the {member.file_size} bytes that it declares; it is "
                    "damaged or made to fill a file system; copy it again"
                )
            out.write(chunk)
