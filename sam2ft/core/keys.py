"""Keys of volumes and slices: dataset, subject, volume and slice index; and safe file names made from them.

A key is created when an image is read, is passed on with the image, and becomes columns of the CSV tables.
"""

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar
from urllib.parse import quote

from sam2ft.core.errors import DataError

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")
# Underscores that could be confused with the separator of a file stem: at an end of a name, or after another one.
_LONGEST_STEM = 180
_EDGE_OR_DOUBLE = re.compile(r"^_|_$|(?<=_)_")


def checked_name(kind: str, name: str) -> str:
    """Return `name` if it can be used as a name in tables, paths and pages.

    Raises:
        DataError: it cannot; the message states what is allowed.
    """
    if not name or name != name.strip() or len(name) > 128 or _UNPRINTABLE.search(name):
        raise DataError(f"{kind} {name!r}: a name is 1 to 128 printable characters without spaces at its ends")
    return name


def path_component(name: str) -> str:
    """`name` quoted as one component of a path: reversible, and never a path itself (`../x` becomes `..%2Fx`)."""
    quoted = quote(name, safe=" ")
    return quoted.replace(".", "%2E") if set(quoted) == {"."} else quoted


@dataclass(frozen=True, order=True)
class VolumeKey:
    """One 3-D image of a subject on one grid."""

    dataset: str
    subject: str
    volume: str

    COLUMNS: ClassVar[tuple[str, ...]] = ("dataset", "subject", "volume")

    def __post_init__(self) -> None:
        for kind in self.COLUMNS:
            checked_name(kind, getattr(self, kind))

    def __str__(self) -> str:
        return f"{self.dataset}/{self.subject}/{self.volume}"

    def slice(self, index: int) -> "SliceKey":
        """The key of slice `index`, 0-based along the slice normal."""
        return SliceKey(self.dataset, self.subject, self.volume, index)

    @property
    def file_stem(self) -> str:
        """A file name without suffix, unique within the dataset: `<subject>__<volume>`, each part quoted.

        A name too long for a file system (255 bytes, suffixes included) is shortened to its beginning and a digest.
        """
        stem = "__".join(_EDGE_OR_DOUBLE.sub("%5F", path_component(part)) for part in (self.subject, self.volume))
        return (
            stem if len(stem) <= _LONGEST_STEM else f"{stem[:_LONGEST_STEM]}~{sha256(stem.encode()).hexdigest()[:16]}"
        )


@dataclass(frozen=True, order=True)
class SliceKey:
    """One slice of a volume; `index` is 0-based along the slice normal."""

    dataset: str
    subject: str
    volume: str
    index: int

    COLUMNS: ClassVar[tuple[str, ...]] = ("dataset", "subject", "volume", "slice")

    def __str__(self) -> str:
        return f"{self.dataset}/{self.subject}/{self.volume} slice {self.index}"

    @property
    def volume_key(self) -> VolumeKey:
        return VolumeKey(self.dataset, self.subject, self.volume)

    @property
    def metadata_key(self) -> str:
        """Key of this slice in metadata_for_stats.json, which counts from 001."""
        return f"{self.index + 1:03d}"


_LEGACY_IMAGE_NAME = re.compile(r"(?P<subject>.+)-(?P<index>\d+)(?:\.[A-Za-z0-9.]+)?")


def parse_image_name(image_name: str) -> tuple[str, str]:
    """(subject, metadata slice key) of a legacy slice file name: `OAI_3454-006.npy` -> (`OAI_3454`, `007`).

    Legacy files count slices from 0, metadata files from 001. Only for reading such file names: sam2ft never parses
    the names of files that it wrote itself.

    Raises:
        DataError: the name does not have this form.
    """
    match = _LEGACY_IMAGE_NAME.fullmatch(image_name)
    if match is None:
        raise DataError(f"{image_name!r} is not a legacy slice name; expected <subject>-<slice number>[.npy]")
    return match["subject"], f"{int(match['index']) + 1:03d}"
