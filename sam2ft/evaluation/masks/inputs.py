"""Files of masks made elsewhere: assignment to volumes, names and digests. No torch."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sam2ft.core.errors import DataError, listed
from sam2ft.core.files import canonical_json, sha256_file, sha256_text
from sam2ft.core.given.wrong_kind import Wanted, not_there, wrong_kind
from sam2ft.core.keys import VolumeKey, path_component
from sam2ft.data.formats import array_file, picture_stack
from sam2ft.data.formats.readers import companions_of, stem_of, volume_endings
from sam2ft.data.store.store import VolumeRecord

_UNPLACED = (*array_file.ENDINGS, *picture_stack.ENDINGS)
"""Endings of files that other programs write beside a mask too: probabilities, pictures of it."""
DICOM_SUFFIXES = (".seg.dcm", ".dcm")
"""Of a DICOM-SEG or RTSTRUCT file, which sam2ft writes beside a prediction in NIfTI: used where there is no other."""
SHOWN = 5
"""Number of volumes and files that a message names."""


@dataclass(frozen=True)
class FoundPredictions:
    """The files of a folder (or table) that belong to volumes, and the files that belong to none."""

    paths: dict[VolumeKey, Path]
    others: tuple[str, ...]
    """Files, or lines of the table, that belong to no evaluated volume."""


def find_predictions(predictions: Path, records: Sequence[VolumeRecord]) -> FoundPredictions:
    """Find one prediction file per volume of `records`.

    Args:
        predictions: a folder with `<subject>__<volume>.nii.gz` (or another file that can be read; `<subject>` alone if
            it has one volume; with the letters of the subject, or percent-encoded as in a store; also in an inner
            folder with the name of the dataset, as written by sam2ft evaluations), or a CSV with columns subject,
            volume, path (relative to the CSV).

    Raises:
        DataError: volumes have no file or two files; the message names them.
    """
    if predictions.is_dir():
        found = _of_folder(predictions, records)
    elif predictions.suffix == ".csv":
        found = _of_table(predictions, records)
    else:
        problem = not_there(predictions, Wanted.PREDICTIONS) or wrong_kind(predictions, Wanted.PREDICTIONS)
        raise DataError(problem or f"{predictions}: neither a folder nor a .csv table")
    lacking = [str(record.key) for record in records if record.key not in found.paths]
    if len(lacking) == len(records) and (problem := wrong_kind(predictions, Wanted.PREDICTIONS)) is not None:
        raise DataError(problem)
    if lacking:
        others = f" (masks of other volumes: {listed(found.others, SHOWN)})" if found.others else ""
        raise DataError(
            f"{predictions}: no prediction of {len(lacking)} of {len(records)} volumes: {listed(lacking, SHOWN)}; "
            f"expected files such as {records[0].key.file_stem}.nii.gz, or a table with columns subject, volume, path"
            f"{others}"
        )
    return found


def _of_folder(folder: Path, records: Sequence[VolumeRecord]) -> FoundPredictions:
    subjects = [record.key.subject for record in records]
    masks = [path for base in _folders(folder, records) for path in _masks_in(base)]
    by_stem: dict[str, list[Path]] = {}
    for path in masks:
        by_stem.setdefault(_stem(path), []).append(path)
    paths: dict[VolumeKey, Path] = {}
    used: set[Path] = set()
    for record in records:
        subject, volume = record.key.subject, record.key.volume
        # As sam2ft names its files, with every unusual letter encoded, and as the subject is written.
        names = [record.key.file_stem, f"{subject}__{volume}"]
        if subjects.count(subject) == 1:
            names += [path_component(subject), subject]
        candidates = [path for name in dict.fromkeys(names) for path in by_stem.get(name, ())]
        others = [path for path in candidates if not path.name.lower().endswith(DICOM_SUFFIXES)]
        used.update(candidates if others else ())
        candidates = others or candidates
        if len(candidates) > 1:
            both = " and ".join(str(path) for path in candidates)
            raise DataError(f"{record.key}: {len(candidates)} predictions, {both}; keep one")
        if candidates:
            paths[record.key] = candidates[0]
            used.add(candidates[0])
    return FoundPredictions(paths, tuple(path.name for path in masks if path not in used))


def _folders(folder: Path, records: Sequence[VolumeRecord]) -> list[Path]:
    datasets = dict.fromkeys(record.key.dataset for record in records)
    return [folder, *(inner for name in datasets if (inner := folder / path_component(name)).is_dir())]


def _masks_in(folder: Path) -> list[Path]:
    """The mask files of a folder: of a pair the header, and arrays and pictures only where they stand alone."""
    found = [path for path in sorted(folder.iterdir()) if _is_mask(path)]
    placed = {_stem(path) for path in found if not path.name.lower().endswith(_UNPLACED)}
    images = {
        other for path in found if path.name.lower().endswith((".hdr", ".hdr.gz")) for other in companions_of(path)
    }
    return [
        path
        for path in found
        if path not in images and not (_stem(path) in placed and path.name.lower().endswith(_UNPLACED))
    ]


def _is_mask(path: Path) -> bool:
    endings = (*volume_endings(), *DICOM_SUFFIXES)
    return path.is_file() and path.name.lower().endswith(endings) and not path.name.startswith(".")


def _of_table(path: Path, records: Sequence[VolumeRecord]) -> FoundPredictions:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        lines = csv.DictReader(stream)
        if missing := {"subject", "volume", "path"} - set(lines.fieldnames or ()):
            raise DataError(f"{path}: no column {', '.join(sorted(missing))}; expected subject, volume, path")
        key_of = {(record.key.subject, record.key.volume): record.key for record in records}
        paths: dict[VolumeKey, Path] = {}
        others = []
        for line in lines:
            key = key_of.get((line["subject"], line["volume"]))
            if key is None:
                others.append(f"{line['subject']}/{line['volume']}")
            elif key in paths:
                raise DataError(f"{path}:{lines.line_num}: {key} is listed twice; keep one")
            else:
                paths[key] = path.parent / (line["path"] or "")
    return FoundPredictions(paths, tuple(others))


def _stem(path: Path) -> str:
    return stem_of(path.name, DICOM_SUFFIXES)


def digest(path: Path) -> str:
    """Return the sha256 of a file, with its voxels beside it, or of the files of a folder in the order of their names.

    Raises:
        DataError: the path does not exist.
    """
    if path.is_dir():
        return sha256_text(canonical_json([sha256_file(one) for one in sorted(path.iterdir()) if one.is_file()]))
    if not path.is_file():
        raise DataError(not_there(path, Wanted.MASK) or f"{path}: not a file")
    if beside := companions_of(path):
        return sha256_text(canonical_json([sha256_file(one) for one in (path, *beside)]))
    return sha256_file(path)
