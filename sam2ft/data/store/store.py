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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import DataError
from sam2ft.core.files import canonical_json, read_json, sha256_file, sha256_text
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import SliceKey, VolumeKey
from sam2ft.core.labels import LabelTable
from sam2ft.data.store.split import SPLITS, nested_subjects

STORE_VERSION = 2
"""Version of new stores. In version 1, slices are cut along the axis of largest spacing, and the slice distance of a
DICOM series is the median of its gaps; a store keeps its version until `prepare --upgrade`."""
READABLE_VERSIONS = (1, 2)
IMAGE_LEVELS = 65535
"""uint16 value that represents 1.0."""

METADATA_FOR_ML = "metadata_for_ml.json"
METADATA_FOR_STATS = "metadata_for_stats.json"

Runs = tuple[tuple[int, int], ...]


def index_path(folder: Path) -> Path:
    """Path of the index file store.json."""
    return folder / "store.json"


def array_path(folder: Path, stem: str, kind: str) -> Path:
    """Path of an array file; `kind` is image, mask, instances, map-<name> or r2-<name>."""
    return folder / "volumes" / f"{stem}.{kind}.npy"


def record_path(folder: Path, stem: str) -> Path:
    """Path of the record of a volume. It is written last: if it exists, the volume is complete."""
    return folder / "volumes" / f"{stem}.json"


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
        slices: dict[str, list[Any]] = self._of_record()["slices"]
        return slices

    @cached_property
    def map_facts(self) -> dict[str, dict[str, Any]]:
        """Map -> its origin, and how many voxels of each label have a value; empty in older stores.

        Raises:
            DataError: as `dicom`.
        """
        facts: dict[str, dict[str, Any]] = self._of_record().get("maps", {})
        return facts

    @cached_property
    def nearest(self) -> tuple[tuple[int, ...], int] | None:
        """(index of the given slice that belongs to each slice, axis of the arrays along which they count) of a series
        that was resampled to even slices (`irregular: resample`); None for any other volume, and in older stores."""
        record = self._of_record()
        if "nearest_slices" not in record:
            return None
        return tuple(int(index) for index in record["nearest_slices"]), int(record["nearest_axis"])

    def _of_record(self) -> dict[str, Any]:
        path = record_path(self.folder, self.stem)
        record = read_json(path)
        if not isinstance(record, dict) or "slices" not in record:
            raise DataError(f"{path}: damaged (no slices); bring back the image of {self.key}, then prepare it again")
        return record

    def to_json(self) -> dict[str, Any]:
        # Only where it was chosen, so that the index of an older store stays the same.
        chosen = {} if self.instances_min_mm3 is None else {"instances_min_mm3": self.instances_min_mm3}
        return {
            "subject": self.key.subject,
            "volume": self.key.volume,
            "split": self.split,
            "digest": self.digest,
            "arrays": dict(self.arrays),
            "labelled_slices": {str(label): [list(run) for run in runs] for label, runs in self.label_runs.items()},
            "geometry": self.geometry.to_json(),
            **({} if self.stem == self.key.file_stem else {"stem": self.stem}),
            **chosen,
        }

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
        )


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

    @classmethod
    def open(cls, path: Path) -> "Store":
        """The store in folder `path`.

        Raises:
            DataError: when there is no store, its index is damaged, or it has another version.
        """
        index = read_index(path)
        if index is None:
            raise DataError(
                f"{path}: no store in this folder; create it with launch/prepare.py DATASET.yaml --out {path}"
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
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{index_path(path)}: damaged ({error!r}); run launch/prepare.py again") from None

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
            array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise DataError(
                f"{path}: is gone, removed by hand or by `prepare --prune` after this program opened the store; run "
                "launch/prepare.py again, then the same command"
            ) from None
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: not readable ({error}); run launch/prepare.py again") from None
        if array.shape != shape or array.dtype not in dtypes:
            raise DataError(
                f"{path}: holds {array.dtype} {array.shape}, the index has {shape}; run launch/prepare.py again"
            )
        return array

    @property
    def metadata_for_ml(self) -> Path:
        return self.path / METADATA_FOR_ML

    @property
    def metadata_for_stats(self) -> Path:
        return self.path / METADATA_FOR_STATS

    def verify(self, records: Iterable[VolumeRecord]) -> None:
        """Read every array of `records` and compare its sha256.

        Raises:
            DataError: naming the first file that changed or is missing.
        """
        for record in records:
            for kind, expected in record.arrays.items():
                path = array_path(self.path, record.stem, kind)
                found = sha256_file(path) if path.is_file() else "no file"
                if found != expected:
                    raise DataError(
                        f"{path}: the content changed after preparation (sha256 {expected[:12]}... then, "
                        f"{found[:12]}... now, volume {record.key}); remove this file, then run launch/prepare.py again"
                    )


def records_digest(records: Iterable[VolumeRecord]) -> str:
    """Hex digest of volumes, their splits and their content; independent of their order."""
    rows = [(one.split, one.key.dataset, one.key.subject, one.key.volume, one.digest) for one in records]
    return sha256_text(canonical_json(sorted(rows)))


def content_digest(
    arrays: Mapping[str, str], geometry: Geometry, labels: LabelTable, instances_min_mm3: float | None = None
) -> str:
    """Digest of a volume: over the digests of its array files, its geometry, the label table and, if it was chosen, the
    size below which an instance is a speck.
    """
    chosen = {} if instances_min_mm3 is None else {"instances_min_mm3": instances_min_mm3}
    content = {"arrays": dict(arrays), "geometry": geometry.to_json(), "labels": labels.to_json(), **chosen}
    return sha256_text(canonical_json(content))


_DAMAGED = (
    "restore it from a backup, or remove it and run launch/prepare.py again: finished volumes are found again, except "
    "those whose images are gone"
)


def read_index(folder: Path) -> dict[str, Any] | None:
    """The checked content of store.json, or None when the file does not exist.

    Raises:
        DataError: when the store has another version.
    """
    path = index_path(folder)
    if not path.is_file():
        return None
    try:
        index = read_json(path)
    except DataError as error:
        raise DataError(f"{error}; {_DAMAGED}") from None
    if not isinstance(index, dict) or "version" not in index:
        raise DataError(f"{path}: damaged (no version); {_DAMAGED}")
    version = index["version"]
    if version not in READABLE_VERSIONS:
        readable = " and ".join(map(str, READABLE_VERSIONS))
        raise DataError(f"{path}: store version {version}, this sam2ft reads {readable}; run launch/prepare.py again")
    if missing := sorted({"dataset", "anatomy", "labels", "split_seed", "volumes"} - index.keys()):
        raise DataError(f"{path}: damaged (no {', '.join(missing)}); {_DAMAGED}")
    return dict(index)
