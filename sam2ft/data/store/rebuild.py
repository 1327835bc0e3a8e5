"""Making a lost or damaged store.json again, from the records of the volumes and the splits in metadata_for_ml.json."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sam2ft.core.digests.verified_files import read_with_digest
from sam2ft.core.errors import DataError, listed
from sam2ft.core.files import canonical_json, listed_names, read_json
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import LabelTable
from sam2ft.data.store.folds import ENTRY as FOLDS
from sam2ft.data.store.folds import folds_entry, folds_in
from sam2ft.data.store.index import METADATA_FOR_ML, READABLE_VERSIONS, entry_digest
from sam2ft.data.store.store import VolumeRecord

_MOST_NAMED = 5
Volume = tuple[str, str]


def rebuilt_index(
    folder: Path, described: tuple[str, str, str], labels: LabelTable, split_seed: int, damage: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """(content of store.json, notes): every volume that metadata_for_ml.json names, with the split that it has there.

    Metadata are written before the index, so that they never name less. A volume whose record is lost as well is left
    out, and the split of its subject reserved, so that it is prepared again into the same split.

    Args:
        described: name, anatomy and modality of the dataset; an empty modality is left out.
        damage: what is wrong with store.json, for the note and the error.

    Raises:
        DataError: metadata or records are lost or damaged too, or are of other labels.
    """
    dataset, anatomy, modality = described
    records = _records(folder, dataset, labels)
    entries, lost, reserved = [], [], {}
    folds: dict[str, Any] = {}
    for name, entry in sorted(_named(folder, dataset, damage).items()):
        subject, split = entry["subject_id"], entry["split"]
        folds |= {subject: entry[FOLDS]} if FOLDS in entry else {}
        volumes = [volume for volume in records if volume[0] == subject and name in (subject, "/".join(volume))]
        if len(volumes) != 1:
            lost.append(name)
            reserved[subject] = split
            continue
        record = {**records[volumes[0]], "split": split}
        entries.append(VolumeRecord.from_json(record, dataset, folder).to_json())
    versions = {records[entry["subject"], entry["volume"]].get("version") for entry in entries}
    if len(versions) != 1 or not versions <= set(READABLE_VERSIONS):
        found = f"records of versions {sorted(map(str, versions))}" if versions else "no usable record"
        raise DataError(f"{damage}; it cannot be made again, {folder / 'volumes'} holds {found} for these labels")
    kept = {entry["subject"] for entry in entries}
    named = [record["names"] for entry in entries if "names" in (record := records[entry["subject"], entry["volume"]])]
    index = {
        "version": versions.pop(),
        "dataset": dataset,
        "anatomy": anatomy,
        **({"modality": modality} if modality else {}),
        "labels": labels.to_json(),
        "split_seed": split_seed,
        "volumes": entries,
        "reserved_splits": {name: split for name, split in reserved.items() if name not in kept},
        **folds_entry(folds_in({FOLDS: folds})),
        **({"names": named[0]} if named else {}),
    }
    note = f"store.json was made again from the records of {len(entries)} volumes and {METADATA_FOR_ML} ({damage})"
    return index, (note, *([f"without a usable record: {listed(lost, _MOST_NAMED)}"] if lost else []))


def _named(folder: Path, dataset: str, damage: str) -> dict[str, dict[str, Any]]:
    """The entries of metadata_for_ml.json, one for each volume: `<subject>`, or `<subject>/<volume>` of several."""
    path = folder / METADATA_FOR_ML
    try:
        named: dict[str, dict[str, Any]] = json.loads(read_with_digest(path))
        if others := sorted({entry["dataset"] for entry in named.values()} - {dataset}):
            raise DataError(f"{damage}; it cannot be made again, {path} is of dataset {', '.join(others)}")
        if any(not {"subject_id", "split"} <= entry.keys() for entry in named.values()):
            raise DataError(f"{damage}; it cannot be made again, {path} names no split")
    except FileNotFoundError:
        raise DataError(f"{damage}; it cannot be made again without {path}, which is lost too") from None
    except DataError as error:
        raise DataError(f"{damage}; it cannot be made again: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{damage}; it cannot be made again, {path} is damaged too ({error!r})") from None
    return named


def _records(folder: Path, dataset: str, labels: LabelTable) -> Mapping[Volume, dict[str, Any]]:
    """The newest record of every volume that was prepared with this label table."""
    table = canonical_json(labels.to_json())
    newest: dict[Volume, tuple[int, dict[str, Any]]] = {}
    for name in listed_names(folder / "volumes", "*.json"):
        with suppress(DataError, KeyError, TypeError, ValueError, AttributeError):
            record = read_json(folder / "volumes" / name)
            volume = (record["subject"], record["volume"])
            stem = record.get("stem", VolumeKey(dataset, *volume).file_stem)
            if name != f"{stem}.json" or entry_digest(record, table) != record["digest"]:
                continue
            number = int(stem.partition("@")[2] or 1)
            newest[volume] = max(newest.get(volume, (0, record)), (number, record), key=lambda one: one[0])
    return {volume: record for volume, (_, record) in newest.items()}
