"""Prepared dataset (store) on disk: one array file per volume and kind, an index, and digests of all content.

store.json                            version, dataset, labels, split seed, index of volumes with their digests
volumes/<subject>__<volume>.image.npy uint16 zyx, 0..65535 represents 0..1 after the intensity window
volumes/<subject>__<volume>.mask.npy  uint8 or uint16 zyx, ids of the label table
volumes/<subject>__<volume>.instances.npy  uint16 zyx, ids of given instances, unique within a label, 0 background
volumes/<subject>__<volume>.map-t2.npy  float32 zyx, NaN where there is no value
volumes/<subject>__<volume>.r2-t2.npy   float32 zyx, r2 of the fit, for maps fitted to a series
volumes/<subject>__<volume>.json      the record of the volume: geometry, digests, fields per slice, source
metadata_for_ml.json  metadata_for_stats.json

The files of a volume that was prepared anew, because its source or the settings changed, begin with another stem
(`<subject>__<volume>@2`): a program that has opened the store goes on reading the old ones.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.digests.verified_files import read_sealed_json
from sam2ft.core.errors import DataError
from sam2ft.core.files import canonical_json, naming_read, sha256_file, sha256_text
from sam2ft.core.geometry import Geometry
from sam2ft.core.given.wrong_kind import Wanted, there_is, wrong_kind
from sam2ft.core.keys import SliceKey, VolumeKey
from sam2ft.core.labels import LabelTable
from sam2ft.core.system.path_errors import of_disk
from sam2ft.data.dicom.modality import MODALITIES
from sam2ft.data.store.covariates import Covariates, covariates_of
from sam2ft.data.store.folds import Folds, folds_in, split_in
from sam2ft.data.store.index import (
    METADATA_FOR_ML,
    METADATA_FOR_STATS,
    REMEDY,
    array_path,
    index_path,
    read_index,
    record_path,
)
from sam2ft.data.store.split import SPLITS, nested_subjects

IMAGE_LEVELS = 65535
"""uint16 value that represents 1.0."""

Runs = tuple[tuple[int, int], ...]

_IN_BOTH = ("digest", "arrays", "labelled_slices", "geometry", "labelled")
_RECORD_AGAIN = "run launch/prepare.py again, or restore the file from a backup if the image of the volume is gone"
_VERIFY = "run launch/prepare.py with --verify, which prepares the volume again"
# A file that changed less than this ago can change again without another time stamp.
_TICK_NS = 1_000_000_000
_VERIFIED: dict[tuple[Path, str], tuple[int, ...]] = {}


@dataclass(frozen=True)
class VolumeRecord:
    """One volume of the index: everything known without opening its arrays."""

    key: VolumeKey
    split: str
    geometry: Geometry
    digest: str
    """sha256 over the arrays, the geometry and the label table: equal if and only if the content is equal."""
    arrays: Mapping[str, str] = field(hash=False)
    """Kind (image, mask, instances, map-<name>, r2-<name>) -> sha256 of its file."""
    label_runs: Mapping[int, Runs] = field(hash=False)
    """Label id -> inclusive ranges (first, last) of the slices that contain it."""
    folder: Path
    """The store."""
    stem: str
    """Beginning of the names of its files."""
    instances_min_mm3: float | None = None
    """Size below which an instance is a speck (`instances.min_mm3`); None: the default definition."""
    labelled: tuple[int, ...] | None = None
    """Ids of the labels that were drawn in this volume; None: all of the table. Nothing is known of the others."""

    @property
    def maps(self) -> tuple[str, ...]:
        return tuple(kind.removeprefix("map-") for kind in self.arrays if kind.startswith("map-"))

    @property
    def labelled_slices(self) -> tuple[int, ...]:
        """Indices of the slices with at least one label."""
        runs = (run for runs in self.label_runs.values() for run in runs)
        return tuple(sorted({index for first, last in runs for index in range(first, last + 1)}))

    def slices_of(self, label_id: int) -> tuple[int, ...]:
        """Indices of the slices that contain `label_id`."""
        return tuple(i for first, last in self.label_runs.get(label_id, ()) for i in range(first, last + 1))

    @cached_property
    def dicom(self) -> dict[str, list[Any]]:
        """Field -> one value per slice (None where the source had none); read on first access.

        Raises:
            DataError: the record of the volume is lost or damaged.
        """
        slices: dict[str, list[Any]] = self.stored["slices"]
        return slices

    @cached_property
    def map_facts(self) -> dict[str, dict[str, Any]]:
        """Map -> its origin, and how many voxels of each label have a value; empty in older stores.

        Raises:
            DataError: as `dicom`.
        """
        facts: dict[str, dict[str, Any]] = self.stored.get("maps", {})
        return facts

    @cached_property
    def nearest(self) -> tuple[tuple[int, ...], int] | None:
        """(index of the given slice that belongs to each slice, axis of the arrays along which they count) of a series
        that was resampled to even slices (`irregular: resample`); None for any other volume, and in older stores."""
        if "nearest_slices" not in self.stored:
            return None
        return tuple(int(index) for index in self.stored["nearest_slices"]), int(self.stored["nearest_axis"])

    @cached_property
    def stored(self) -> Mapping[str, Any]:
        """The record of the volume (volumes/<stem>.json), verified; read on first access.

        Raises:
            DataError: it is lost or damaged, or describes another state of the volume than the index.
        """
        path = record_path(self.folder, self.stem)
        try:
            record = read_sealed_json(path)
        except DataError as error:
            raise DataError(f"{error}; {_RECORD_AGAIN}") from None
        if not isinstance(record, dict) or "slices" not in record:
            raise DataError(f"{path}: damaged (no slices); {_RECORD_AGAIN}")
        own = self.to_json()
        if other := [name for name in _IN_BOTH if record.get(name) != own.get(name)]:
            raise DataError(f"{path}: damaged or edited: {', '.join(other)} differ from store.json; {_RECORD_AGAIN}")
        return record

    def to_json(self) -> dict[str, Any]:
        return {
            "subject": self.key.subject,
            "volume": self.key.volume,
            "split": self.split,
            "digest": self.digest,
            "arrays": dict(self.arrays),
            "labelled_slices": {str(label): [list(run) for run in runs] for label, runs in self.label_runs.items()},
            "geometry": self.geometry.to_json(),
            **({} if self.stem == self.key.file_stem else {"stem": self.stem}),
            **self.chosen,
        }

    @property
    def chosen(self) -> dict[str, Any]:
        """What the digest covers only where it was chosen, so that the index of an older store stays the same."""
        return chosen_entries(self.instances_min_mm3, self.labelled)

    @classmethod
    def from_json(cls, value: dict[str, Any], dataset: str, folder: Path) -> "VolumeRecord":
        key = VolumeKey(dataset, value["subject"], value["volume"])
        return cls(
            key=key,
            split=value["split"],
            geometry=Geometry.from_json(value["geometry"]),
            digest=value["digest"],
            arrays=dict(value["arrays"]),
            label_runs={
                int(label): tuple((int(first), int(last)) for first, last in runs)
                for label, runs in value["labelled_slices"].items()
            },
            folder=folder,
            stem=value.get("stem", key.file_stem),
            instances_min_mm3=value.get("instances_min_mm3"),
            labelled=None if "labelled" not in value else tuple(int(label) for label in value["labelled"]),
        )


def chosen_entries(instances_min_mm3: float | None, labelled: tuple[int, ...] | None) -> dict[str, Any]:
    """Entries of a volume that are there where they were chosen."""
    size = {} if instances_min_mm3 is None else {"instances_min_mm3": instances_min_mm3}
    return size | ({} if labelled is None else {"labelled": list(labelled)})


@dataclass(frozen=True)
class Store:
    """Read access to one prepared dataset. Arrays are memory-mapped and read-only."""

    path: Path
    name: str
    anatomy: str
    labels: LabelTable
    split_seed: int
    volumes: tuple[VolumeRecord, ...]
    """Sorted by key."""
    given_modality: str = ""
    """Imaging modality as the dataset file gave it; empty where it did not."""
    covariates: Covariates = field(default_factory=dict)
    """Of volumes whose dataset file lists some under `sources.keep_covariates`."""
    folds: Folds = field(default_factory=dict)
    """Split of each subject in every fold; empty in a store without folds."""

    @cached_property
    def modality(self) -> str:
        """Imaging modality as text: as given, else that of the DICOM series where all agree; empty: not known.

        Raises:
            DataError: the record of a volume is lost or damaged.
        """
        if self.given_modality:
            return self.given_modality
        codes = {str(volume.stored.get("modality", "")) for volume in self.volumes}
        return MODALITIES.get(codes.pop(), "") if len(codes) == 1 else ""

    @classmethod
    def open(cls, path: Path) -> "Store":
        """The store in folder `path`.

        Raises:
            DataError: when there is no store, its index is damaged, or it has another version.
        """
        index = read_index(path)
        if index is None:
            raise DataError(
                wrong_kind(path, Wanted.STORE)
                or f"{path}: no store in this folder{there_is(path, Wanted.STORE)}; create it with launch/prepare.py "
                f"DATASET.yaml --out {path}"
            )
        try:
            volumes = [VolumeRecord.from_json(entry, index["dataset"], path) for entry in index["volumes"]]
            return cls(
                path=path,
                name=index["dataset"],
                anatomy=index["anatomy"],
                labels=LabelTable.from_json(index["labels"]),
                split_seed=index["split_seed"],
                volumes=tuple(sorted(volumes, key=lambda record: record.key)),
                given_modality=index.get("modality", ""),
                covariates=covariates_of(index),
                folds=folds_in(index),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{index_path(path)}: damaged ({error!r}); {REMEDY}") from None
        except DataError as error:
            raise DataError(f"{index_path(path)}: {error}; {REMEDY}") from None

    def of_fold(self, fold: int | None) -> "Store":
        """The store with the splits of one of its folds; None: as it is, with those of fold 0 if it has folds.

        Raises:
            DataError: it has no such fold; the message begins with what was found.
        """
        if fold is None:
            return self
        split_of = split_in(self.folds, fold, {record.key.subject for record in self.volumes})
        volumes = tuple(replace(record, split=split_of[record.key.subject]) for record in self.volumes)
        return replace(self, volumes=volumes)

    @cached_property
    def _by_key(self) -> dict[VolumeKey, VolumeRecord]:
        return {record.key: record for record in self.volumes}

    def record(self, key: VolumeKey) -> VolumeRecord:
        """The record of volume `key`.

        Raises:
            DataError: when the store has no such volume.
        """
        if key not in self._by_key:
            raise DataError(f"{self.path}: no volume {key}; it holds {len(self.volumes)} volumes of {self.name}")
        return self._by_key[key]

    def split_volumes(self, split: str, max_subjects: int | None = None) -> tuple[VolumeRecord, ...]:
        """Volumes of a split, sorted by key.

        Args:
            max_subjects: at most this many subjects (None: all); subsets of one split seed are nested.

        Raises:
            DataError: when the split is unknown or has no volumes.
        """
        if split not in SPLITS:
            raise DataError(f"split {split!r}; allowed: {', '.join(SPLITS)}")
        records = [record for record in self.volumes if record.split == split]
        if not records:
            sizes = ", ".join(f"{name} {sum(r.split == name for r in self.volumes)}" for name in SPLITS)
            raise DataError(f"{self.path}: split {split} has no volume ({sizes})")
        subjects = set(nested_subjects((record.key.subject for record in records), max_subjects, self.split_seed))
        return tuple(record for record in records if record.key.subject in subjects)

    def image(self, key: VolumeKey) -> npt.NDArray[np.uint16]:
        """Image: uint16 zyx; 0..65535 represents 0..1 after the intensity window."""
        return self._array(key, "image", (np.uint16,))

    def mask(self, key: VolumeKey) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
        """Mask: uint8 or uint16 zyx; ids of the label table, 0 background."""
        return self._array(key, "mask", (np.uint8, np.uint16))

    def instances(self, key: VolumeKey) -> npt.NDArray[np.uint16] | None:
        """Ids of the instances as given by the mask file: uint16 zyx, unique within a label, 0 background.

        None when the instances of a label are its connected components.
        """
        kinds = self.record(key).arrays
        return self._array(key, "instances", (np.uint16,)) if "instances" in kinds else None

    def instances_of_slice(self, key: SliceKey) -> npt.NDArray[np.uint16] | None:
        """The slice `key` of `instances`."""
        ids_zyx = self.instances(key.volume_key)
        return None if ids_zyx is None else np.array(ids_zyx[key.index])

    def map(self, key: VolumeKey, name: str) -> npt.NDArray[np.float32]:
        """Map `name`: float32 zyx, ms; NaN where there is no value.

        Raises:
            DataError: when the volume has no such map.
        """
        if name not in self.record(key).maps:
            raise DataError(f"{key}: no map {name}; it has {', '.join(self.record(key).maps) or 'none'}")
        return self._array(key, f"map-{name}", (np.float32,))

    def map_r2(self, key: VolumeKey, name: str) -> npt.NDArray[np.float32] | None:
        """r2 of the fit of a map: float32 zyx, NaN where no fit was possible; None for a map read from a file."""
        kind = f"r2-{name}"
        return self._array(key, kind, (np.float32,)) if kind in self.record(key).arrays else None

    def _array(self, key: VolumeKey, kind: str, dtypes: Sequence[Any]) -> npt.NDArray[Any]:
        record = self.record(key)
        shape, path = record.geometry.shape_zyx, array_path(self.path, record.stem, kind)
        try:
            with naming_read(path):
                array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise DataError(
                f"{path}: is gone, removed by hand or by `prepare --prune` after this program opened the store; run "
                "launch/prepare.py again, then the same command"
            ) from None
        except (OSError, ValueError) as error:
            if of_disk(error):  # that says nothing of the file
                raise
            raise DataError(f"{path}: not readable ({error}); {_VERIFY}") from None
        if array.shape != shape or array.dtype not in dtypes:
            raise DataError(f"{path}: holds {array.dtype} {array.shape}, the index has {shape}; {_VERIFY}")
        return array

    @property
    def metadata_for_ml(self) -> Path:
        return self.path / METADATA_FOR_ML

    @property
    def metadata_for_stats(self) -> Path:
        return self.path / METADATA_FOR_STATS

    def verify(self, records: Iterable[VolumeRecord]) -> None:
        """Read every array of `records` and compare its sha256; in one process once, as long as the file is the same.

        Raises:
            DataError: naming the first file that changed or is missing.
        """
        for record in records:
            for kind, expected in record.arrays.items():
                path = array_path(self.path, record.stem, kind)
                # Read again before it is called damaged: a network file system may have given an old page.
                if not any(is_content(path, expected) for _ in range(2)):
                    found = "the file is missing" if not path.is_file() else "the content changed after preparation"
                    raise DataError(f"{path}: {found} (volume {record.key}); {_VERIFY}")


def is_content(path: Path, sha256: str) -> bool:
    """Whether a file has this sha256. In one process an unchanged file is read once."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    # The time of the last change of inode or content (ctime) cannot be set by a program, in contrast to mtime.
    state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    if _VERIFIED.get((path, sha256)) == state:
        return True
    if sha256_file(path) != sha256:
        return False
    if time.time_ns() - found.st_ctime_ns > _TICK_NS:
        _VERIFIED[path, sha256] = state
    return True


def records_digest(records: Iterable[VolumeRecord]) -> str:
    """Hex digest of volumes, their splits and their content; independent of their order."""
    rows = [(one.split, one.key.dataset, one.key.subject, one.key.volume, one.digest) for one in records]
    return sha256_text(canonical_json(sorted(rows)))
