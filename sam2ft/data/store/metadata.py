"""Metadata files of a store (DICOM fields per subject and slice): writing and reading.

metadata_for_ml.json     one entry per subject with the fields of a representative slice
metadata_for_stats.json  one entry per subject with the fields of every slice, `"slices": {"001": {...}}`

The top-level key is the subject, or `<subject>/<volume>` when a subject has more than one volume.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sam2ft.core.digests.verified_files import digest_file, read_with_digest
from sam2ft.core.errors import DataError
from sam2ft.core.files import read_json
from sam2ft.core.keys import VolumeKey
from sam2ft.data.store.index import METADATA_FOR_ML, METADATA_FOR_STATS, index_path

# DICOM attributes that may be stored: numbers that describe the grid and the sequence, never a name, date or free text.
GRID_FIELDS = ("pixel_spacing", "slice_thickness", "slice_spacing", "rows", "columns")
SLICE_FIELDS = (
    *GRID_FIELDS,
    "spacing_between_slices",
    "TE",
    "TR",
    "flip_angle",
    "field_strength",
    "series_desc",
    "instanceNumber",
    "slice_location",
    "image_position_patient",
    "image_orientation_patient",
    "series_uid_sha256",
    "series_uid_hmac",
)

ML_NAMES = (METADATA_FOR_ML, "volume_metadata_for_ml.json")
STATS_NAMES = (METADATA_FOR_STATS, "volume_metadata_for_stats.json")
"""File name of this program first, then the one of its predecessor."""


Records = Mapping[VolumeKey, Mapping[str, Any]]
"""Volume -> its record (volumes/<subject>__<volume>.json), with its split."""


def entry_names(keys: Sequence[VolumeKey]) -> dict[VolumeKey, str]:
    """The top-level key of each volume: the subject alone when it has one volume, else `<subject>/<volume>`."""
    volumes = Counter(key.subject for key in keys)
    return {key: key.subject if volumes[key.subject] == 1 else f"{key.subject}/{key.volume}" for key in keys}


def metadata_for_ml(records: Records, anatomy: str) -> dict[str, Any]:
    """Content of metadata_for_ml.json. The representative slice is the middle one."""
    names = entry_names(list(records))
    entries = {}
    for key, record in records.items():
        num_slices = _num_slices(record)
        middle, maps = _fields_of(record, num_slices // 2), _origins(record)
        entries[names[key]] = {
            "subject_id": key.subject,
            **record["subject_fields"],
            "dataset": key.dataset,
            "anatomy": anatomy,
            "num_slices": num_slices,
            "mask_labels": [int(label) for label in record["labelled_slices"]],
            **({"labelled": list(record["labelled"])} if "labelled" in record else {}),
            "split": record["split"],
            **({"folds": record["folds"]} if "folds" in record else {}),
            **{name: middle[name] for name in GRID_FIELDS if name in middle},
            **({"maps": maps} if maps else {}),
        }
    return entries


def metadata_for_stats(records: Records) -> dict[str, Any]:
    """Content of metadata_for_stats.json: the fields of every slice, keyed from 001."""
    names = entry_names(list(records))
    return {
        names[key]: {
            "subject_id": key.subject,
            "slices": {key.slice(i).metadata_key: _fields_of(record, i) for i in range(_num_slices(record))},
        }
        for key, record in records.items()
    }


def _num_slices(record: Mapping[str, Any]) -> int:
    return len(record["slices"]["rows"])


def _fields_of(record: Mapping[str, Any], index: int) -> dict[str, Any]:
    """The fields of one slice; fields that the source did not have are left out."""
    known = {name: record["slices"][name][index] for name in SLICE_FIELDS if name in record["slices"]}
    return {name: value for name, value in known.items() if value is not None}


def _origins(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Map -> its origin, where known; records of earlier versions contain nothing about maps."""
    return {
        name: {fact: value for fact, value in facts.items() if fact != "valid_of_label"}
        for name, facts in record.get("maps", {}).items()
        if "source" in facts
    }


def metadata_of(
    fields: Mapping[str, Sequence[Any]], wanted: Sequence[str], num_slices: int, *, representative_slice: bool
) -> dict[str, list[Any]]:
    """The `wanted` fields of a volume, as they are passed to metrics: field -> one value per slice.

    Each slice has its own value (as in metadata_for_stats.json) or, with `representative_slice`, the value of the
    middle slice (as in metadata_for_ml.json). Fields that the source did not have are left out.
    """
    known = {name: list(fields[name]) for name in wanted if name in fields}
    if not representative_slice:
        return known
    middle = {name: values[num_slices // 2] for name, values in known.items()}
    return {name: [value] * num_slices for name, value in middle.items() if value is not None}


def load_meta(source: Path | str | Mapping[str, Any], representative_slice: bool) -> dict[str, Any]:
    """The metadata of all subjects: one representative slice each, or slice by slice.

    Args:
        source: folder of a store, one of its two metadata files (the other one is read instead if it is needed; the
            predecessor's names `volume_metadata_for_{ml,stats}.json` work too), another JSON file, or the mapping.

    Raises:
        DataError: when there is no such file, or its entries are of the other kind.
    """
    if isinstance(source, Mapping):
        meta, where = dict(source), "metadata"
    else:
        path = _metadata_file(Path(source), ML_NAMES if representative_slice else STATS_NAMES)
        meta, where = read_metadata(path), str(path)
    if not isinstance(meta, dict) or not all(isinstance(entry, dict) for entry in meta.values()):
        raise DataError(f"{where}: expected a mapping subject -> fields")
    for subject, entry in meta.items():
        if ("slices" in entry) is representative_slice:
            found = "slice by slice" if representative_slice else "by one representative slice"
            wanted = ML_NAMES[0] if representative_slice else STATS_NAMES[0]
            raise DataError(f"{where}: {subject} is described {found}; give {wanted}")
    return meta


def read_metadata(path: Path) -> Any:
    """The content of a metadata file: verified where a digest is beside it, as it is beside those of a store.

    A file of the user's own has no digest and needs none.

    Raises:
        DataError: there is no such file, it is not JSON, or it differs from its digest.
    """
    is_of_store = path.name in (ML_NAMES[0], STATS_NAMES[0]) and index_path(path.parent).is_file()
    if not is_of_store and not digest_file(path).is_file():
        return read_json(path)
    try:
        return json.loads(read_with_digest(path))
    except DataError as error:
        if not is_of_store:
            raise
        raise DataError(f"{str(error).partition('; ')[0]}; run launch/prepare.py, which writes it again") from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except ValueError as error:
        raise DataError(f"{path}: not a JSON file ({error})") from None


def _metadata_file(path: Path, names: tuple[str, ...]) -> Path:
    other = STATS_NAMES if names is ML_NAMES else ML_NAMES
    if path.is_file() and path.name not in other:
        return path
    folder = path if path.is_dir() else path.parent
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder}: no {' or '.join(names)}")


def extract_meta(
    meta: Mapping[str, Any], subject: str, dicom_fields: Sequence[str], slice_id: str | None = None
) -> dict[str, Any]:
    """The fields `dicom_fields` of this subject (or `<subject>/<volume>`); of slice `slice_id` (`"001"`) if given.

    Subject names must match completely, not only at the beginning.

    Raises:
        DataError: when the subject, slice or field is unknown, or metadata of slices need a `slice_id`.
    """
    if subject not in meta:
        raise DataError(f"metadata: no subject {subject!r} among {len(meta)}")
    entry = meta[subject]
    where = f"metadata of {subject}"
    if "slices" in entry:
        if slice_id is None:
            raise DataError(f"{where}: described slice by slice; name a slice (001 to {max(entry['slices'])})")
        if slice_id not in entry["slices"]:
            raise DataError(f"{where}: no slice {slice_id!r}; it has {len(entry['slices'])}, counted from 001")
        entry = entry["slices"][slice_id]
        where = f"{where}, slice {slice_id}"
    if missing := [name for name in dicom_fields if name not in entry]:
        raise DataError(f"{where}: no field {', '.join(missing)}; it has {', '.join(entry)}")
    return {name: entry[name] for name in dicom_fields}
