"""Files of masks made elsewhere: assignment to volumes, and arrays on the grid of the reference. No torch."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.core.errors import DataError, listed, naming
from sam2ft.core.files import canonical_json, sha256_file, sha256_text
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey, path_component
from sam2ft.core.labels import LabelTable
from sam2ft.data.images.grids import (
    Volume,
    on_grid,
    refuse_one_unoriented,
    refuse_unoriented_resampling,
    resampled_nearest,
)
from sam2ft.data.images.volumes import read_volume
from sam2ft.data.prepare.relabel import relabelled_volume
from sam2ft.data.store.store import VolumeRecord
from sam2ft.metrics.counts import LabelMap

SUFFIXES = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".nhdr")
LEAST_SHARE_INSIDE = 0.5
"""Share of a mask's labelled voxels that must lie inside the reference's grid for --resample."""
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
        predictions: a folder with `<subject>__<volume>.nii.gz` (or .nii, .seg.nrrd, .nrrd, .nhdr; `<subject>` alone if
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
        what = "no such file or folder" if not predictions.exists() else "neither a folder nor a .csv table"
        raise DataError(f"{predictions}: {what}")
    if lacking := [str(record.key) for record in records if record.key not in found.paths]:
        others = f" (masks of other volumes: {listed(found.others, SHOWN)})" if found.others else ""
        raise DataError(
            f"{predictions}: no prediction of {len(lacking)} of {len(records)} volumes: {listed(lacking, SHOWN)}; "
            f"expected files such as {records[0].key.file_stem}.nii.gz, or a table with columns subject, volume, path"
            f"{others}"
        )
    return found


def _of_folder(folder: Path, records: Sequence[VolumeRecord]) -> FoundPredictions:
    subjects = [record.key.subject for record in records]
    masks = [path for base in _folders(folder, records) for path in sorted(base.iterdir()) if _is_mask(path)]
    by_stem: dict[str, list[Path]] = {}
    for path in masks:
        by_stem.setdefault(stem(path), []).append(path)
    paths, used = {}, set()
    for record in records:
        subject, volume = record.key.subject, record.key.volume
        # As sam2ft names its files, with every unusual letter encoded, and as the subject is written.
        names = [record.key.file_stem, f"{subject}__{volume}"]
        if subjects.count(subject) == 1:
            names += [path_component(subject), subject]
        candidates = [path for name in dict.fromkeys(names) for path in by_stem.get(name, ())]
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


def _is_mask(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")


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


@dataclass(frozen=True)
class PlacedMask:
    """A mask in the voxel order of its reference, its values as in the file."""

    volume: Volume
    inside: float | None = None
    """Resampled masks: share of the labelled voxels that lies inside the grid of the reference; None: not resampled."""

    @property
    def resampled(self) -> bool:
        return self.inside is not None


def read_prediction(path: Path, geometry: Geometry, *, resample: bool, reading: Reading = AS_IS) -> PlacedMask:
    """Read a mask in the voxel order of `geometry`; axes are permuted and flipped by the affine, without resampling.

    Args:
        resample: a mask on another grid is resampled with nearest neighbours (0 outside of its grid).
        reading: which field of its header is right where two contradict each other.

    Raises:
        DataError: the mask is on another grid, without `resample`, and the message contains both geometries; or less
            than half of its labelled voxels lie inside the grid of the reference.
    """
    with naming(path):
        volume = read_volume(path, reading=Reading(believe=reading.believe, irregular=reading.irregular))
        refuse_one_unoriented(volume, geometry, what="prediction", image="the reference")
    try:
        return PlacedMask(on_grid(volume, geometry, what="prediction"))
    except DataError as error:
        if not resample:
            raise DataError(
                f"{path}: {error}\n  reference: {geometry.describe()}\n  prediction: {volume.geometry.describe()}\n"
                "  export it on the grid of the reference, or resample it to the nearest voxel with --resample"
            ) from None
    with naming(path):
        refuse_unoriented_resampling(volume, geometry, what="prediction")
    inside = share_inside(volume, geometry)
    if inside < LEAST_SHARE_INSIDE:
        raise DataError(
            f"{path}: only {inside:.0%} of the labelled voxels of the prediction lie inside the grid of the reference; "
            f"--resample needs {LEAST_SHARE_INSIDE:.0%}; it is another image, or its affine is wrong"
        )
    moved = Volume(resampled_nearest(volume, geometry), geometry, notes=volume.notes, segments=volume.segments)
    return PlacedMask(moved, inside)


def share_inside(volume: Volume, geometry: Geometry) -> float:
    """Share of the labelled voxels of a mask whose centres lie inside a grid; 1 without a labelled voxel."""
    steps = np.linalg.solve(geometry.affine, volume.geometry.affine)
    size_xyz = np.array(geometry.shape_zyx[::-1])
    labelled = inside = 0
    for index, mask_yx in enumerate(volume.array_zyx):
        y, x = np.nonzero(mask_yx)
        places = steps[:3] @ np.stack([x, y, np.full_like(x, index), np.ones_like(x)])
        # A grid reaches half a voxel beyond the centres of its outermost voxels.
        inside += int(np.all((places >= -0.5) & (places <= size_xyz[:, None] - 0.5), axis=0).sum())
        labelled += len(x)
    return inside / labelled if labelled else 1.0


def relabelled(path: Path, mask: Volume, labels: LabelTable) -> tuple[LabelMap, tuple[str, ...]]:
    """Return `mask` as a label map, and notes.

    Raises:
        DataError: the mask has ids that the label table lacks, or names of segments that contradict it; the message
            names them and the file.
    """
    with naming(path):
        return relabelled_volume(mask, labels, {label: label for label in labels.ids})


def stem(path: Path) -> str:
    """Return the name of a file without its suffix (.nii.gz, .nii, .seg.nrrd, .nrrd, .nhdr; in any case)."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name


def digest(path: Path) -> str:
    """Return the sha256 of a file, or of the files of a DICOM folder in the order of their names.

    Raises:
        DataError: the path does not exist.
    """
    if path.is_dir():
        return sha256_text(canonical_json([sha256_file(one) for one in sorted(path.iterdir()) if one.is_file()]))
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder")
    return sha256_file(path)
