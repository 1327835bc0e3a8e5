"""Index of a store (store.json): its paths, its content digests, and reading and writing it verified."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sam2ft.core.digests.verified_files import (
    digest_file,
    note_unverified,
    read_with_digest,
    write_sealed_json,
    write_with_digest,
)
from sam2ft.core.errors import DataError
from sam2ft.core.files import canonical_json, indented_json, sha256_text, verified_json
from sam2ft.core.geometry import Geometry
from sam2ft.core.labels import LabelTable

STORE_VERSION = 2
"""Version of new stores. In version 1, slices are cut along the axis of largest spacing, and the slice distance of a
DICOM series is the median of its gaps; a store keeps its version until `prepare --upgrade`."""
READABLE_VERSIONS = (1, 2)
NAMING = ("subject_id", "key_id")
"""Entries of `names` that say how subjects are named and UIDs hashed; also in every record, to make an index again."""
METADATA_FOR_ML = "metadata_for_ml.json"
METADATA_FOR_STATS = "metadata_for_stats.json"
REPORT_PAGE = "report.html"
"""The integrity report, which report/integrity writes."""
REPORT_KEPT = "report.json"
"""What it keeps for the next report."""


def index_path(folder: Path) -> Path:
    """Path of the index file store.json."""
    return folder / "store.json"


def array_path(folder: Path, stem: str, kind: str) -> Path:
    """Path of an array file; `kind` is image, mask, instances, map-<name> or r2-<name>."""
    return folder / "volumes" / f"{stem}.{kind}.npy"


def record_path(folder: Path, stem: str) -> Path:
    """Path of the record of a volume. It is written last: if it exists, the volume is complete."""
    return folder / "volumes" / f"{stem}.json"


def is_record(value: Any) -> bool:
    """Whether a record is complete; those of early versions do not contain the source of the image."""
    return isinstance(value, dict) and {"version", "source", "source_image", "bytes", "geometry"} <= value.keys()


def stem_of_file(path: Path) -> str:
    """Stem of a file of a volume: its name without the suffixes; the names in it may contain dots."""
    return path.stem if path.suffix == ".json" else path.stem.rpartition(".")[0]


_CHOSEN = ("instances_min_mm3", "labelled")
"""Entries of a volume that decide its numbers and are there where they were chosen."""


def content_digest(
    arrays: Mapping[str, str], geometry: Geometry, labels: LabelTable, chosen: Mapping[str, Any] = MappingProxyType({})
) -> str:
    """Digest of a volume: over the digests of its array files, its geometry, the label table and, where they were
    chosen, the size below which an instance is a speck and the labels that were drawn.
    """
    entry = {"arrays": dict(arrays), "geometry": geometry.to_json(), **chosen}
    return entry_digest(entry, canonical_json(labels.to_json()))


def entry_digest(entry: Mapping[str, Any], labels: str) -> str:
    """`content_digest` of an entry of the index or of a record, as it stands there; `labels` is canonical JSON."""
    chosen = {name: entry[name] for name in _CHOSEN if name in entry}
    content = canonical_json({"arrays": entry["arrays"], "geometry": entry["geometry"], **chosen})
    # "labels" sorts after the other keys, and is the same for all volumes of a store.
    return sha256_text(f'{content[:-1]},"labels":{labels}}}')


REMEDY = (
    "launch/prepare.py on the same dataset file makes it again from the records of the volumes, with the splits that "
    "metadata_for_ml.json names; or restore it from a backup"
)


class OtherVersionError(DataError):
    """A store of a version that this program does not read: it is whole, and nothing of it may be made again."""


_NEEDED = {"dataset", "anatomy", "labels", "split_seed", "volumes"}


def read_index(folder: Path) -> dict[str, Any] | None:
    """The verified content of store.json, or None when the file does not exist.

    The seal covers everything; what decides numbers (digests of arrays, geometry, label table) is also compared with
    the digest of each volume, which finds an edit in an index without a seal, of an earlier version.

    Raises:
        DataError: when it is damaged or was edited.
        OtherVersionError: the store has another version.
    """
    path = index_path(folder)
    if not path.is_file():
        return None
    try:
        index, is_sealed = verified_json(path)
    except DataError as error:
        raise DataError(f"{error}; {REMEDY}") from None
    if not isinstance(index, dict) or "version" not in index:
        raise DataError(f"{path}: damaged (no version); {REMEDY}")
    version = index["version"]
    if version not in READABLE_VERSIONS:
        readable = " and ".join(map(str, READABLE_VERSIONS))
        raise OtherVersionError(
            f"{path}: store version {version}, this sam2ft reads {readable}; use the sam2ft that wrote it, or prepare "
            "into a new folder"
        )
    if missing := sorted(_NEEDED - index.keys()):
        raise DataError(f"{path}: damaged (no {', '.join(missing)}); {REMEDY}")
    _refuse_edited(path, index)
    if not is_sealed:
        note_unverified(path)
    return index


def _refuse_edited(path: Path, index: Mapping[str, Any]) -> None:
    try:
        labels = canonical_json(index["labels"])
        for entry in index["volumes"]:
            if entry_digest(entry, labels) != entry["digest"]:
                raise DataError(
                    f"{path}: damaged or edited: geometry, digests of arrays or label table of volume "
                    f"{entry['subject']}/{entry['volume']} are not those that it was prepared with; {REMEDY}"
                )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: damaged ({error!r}); {REMEDY}") from None


def write_index(path: Path, value: Mapping[str, Any]) -> None:
    """Replace store.json whole, unless it says the same already."""
    with suppress(DataError):  # no file, or a damaged one
        if verified_json(path) == (value, True):
            return
    write_sealed_json(path, value)


def write_metadata(path: Path, value: Mapping[str, Any]) -> None:
    """Write a file that other programs read too, and so holds subjects alone: its digest is beside it."""
    data = indented_json(value).encode()
    with suppress(DataError, FileNotFoundError):
        if read_with_digest(path) == data and digest_file(path).is_file():
            return
    write_with_digest(path, data)
