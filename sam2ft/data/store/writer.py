"""Writing a prepared store, resumable after every step.

Order: for each volume the arrays, then its record; after all volumes the metadata files and, last, the index.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import DataError
from sam2ft.core.files import read_json, replacing, sha256_file, write_json
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import LabelTable
from sam2ft.data.images.maps import PreparedMap
from sam2ft.data.store.metadata import metadata_for_ml, metadata_for_stats
from sam2ft.data.store.store import (
    METADATA_FOR_ML,
    METADATA_FOR_STATS,
    STORE_VERSION,
    Runs,
    VolumeRecord,
    array_path,
    content_digest,
    index_path,
    record_path,
)


@dataclass(frozen=True)
class PreparedVolume:
    """One volume in the form in which it is stored."""

    key: VolumeKey
    geometry: Geometry
    image_zyx: npt.NDArray[np.uint16]
    mask_zyx: npt.NDArray[np.unsignedinteger[Any]]
    maps: Mapping[str, PreparedMap]
    window: tuple[float, float]
    """Intensities that are mapped to 0 and 1."""
    slices: Mapping[str, list[Any]]
    """Field -> one value per slice."""
    subject_fields: Mapping[str, Any]
    """Demographic fields that the dataset file lists under `keep`."""
    notes: tuple[str, ...] = ()
    """Sentences that prepare shows beside the volume."""
    source_image: str | None = None
    """File or folder that the image was read from; None for an image that was not read from a file."""
    instances_zyx: npt.NDArray[np.uint16] | None = None
    """Ids of the instances as the mask file gives them, unique within a label; None: connected components."""
    instances_min_mm3: float | None = None
    """Size below which an instance is a speck; None: the default definition."""


@dataclass(frozen=True)
class StoreWriter:
    """Writes the store of one dataset into `folder`."""

    folder: Path
    dataset: str
    anatomy: str
    labels: LabelTable
    split_seed: int

    def check(self) -> None:
        """Check that the folder is new, empty or a store of this dataset.

        Raises:
            DataError: when the folder contains anything else.
        """
        if not self.folder.exists():
            return
        if not self.folder.is_dir():
            raise DataError(f"{self.folder}: is a file; --out names a folder")
        if index_path(self.folder).is_file():
            found = read_json(index_path(self.folder)).get("dataset")
            if found != self.dataset:
                raise DataError(f"{self.folder}: holds the store of dataset {found!r}, not of {self.dataset!r}")
        elif others := self._other_files():
            raise DataError(f"{self.folder}: is not a store and not empty (it contains {others[0]}); give a new folder")

    def _other_files(self) -> list[str]:
        names = {path.name for path in self.folder.iterdir() if not path.name.startswith(".")}
        return sorted(names - {"volumes", "source", METADATA_FOR_ML, METADATA_FOR_STATS})

    def is_finished(self, key: VolumeKey, source: str) -> bool:
        """Whether `key` is stored completely and was prepared from `source` (a fingerprint of files and settings)."""
        record = self._record(key)
        return record is not None and record["source"] == source and self._arrays_exist(key, record)

    def _record(self, key: VolumeKey) -> dict[str, Any] | None:
        path = record_path(self.folder, key)
        if not path.is_file():
            return None
        record: dict[str, Any] = read_json(path)
        # Records of earlier versions do not contain the source of the image.
        return record if record.get("version") == STORE_VERSION and "source_image" in record else None

    def _arrays_exist(self, key: VolumeKey, record: Mapping[str, Any]) -> bool:
        paths = {array_path(self.folder, key, kind): size for kind, size in record["bytes"].items()}
        return all(path.is_file() and path.stat().st_size == size for path, size in paths.items())

    def write(self, volume: PreparedVolume, source: str) -> None:
        """Store one volume; its record is written last, so an interrupted volume is prepared again.

        The index is removed until `finish`, so that a store whose arrays are being replaced cannot be read.
        """
        index_path(self.folder).unlink(missing_ok=True)
        record_path(self.folder, volume.key).unlink(missing_ok=True)
        contents: dict[str, npt.NDArray[Any]] = {"image": volume.image_zyx, "mask": volume.mask_zyx}
        if volume.instances_zyx is not None:
            contents["instances"] = volume.instances_zyx
        maps = dict(sorted(volume.maps.items()))
        contents |= {f"map-{name}": one.values_zyx for name, one in maps.items()}
        contents |= {f"r2-{name}": one.r2_zyx for name, one in maps.items() if one.r2_zyx is not None}
        digests: dict[str, str] = {}
        sizes: dict[str, int] = {}
        for kind, array in contents.items():
            path = array_path(self.folder, volume.key, kind)
            with replacing(path) as partial, partial.open("wb") as stream:
                np.save(stream, np.ascontiguousarray(array), allow_pickle=False)
            digests[kind], sizes[kind] = sha256_file(path), path.stat().st_size
        record = VolumeRecord(
            key=volume.key,
            split="",
            geometry=volume.geometry,
            digest=content_digest(digests, volume.geometry, self.labels, volume.instances_min_mm3),
            arrays=digests,
            label_runs=label_runs(volume.mask_zyx),
            folder=self.folder,
            instances_min_mm3=volume.instances_min_mm3,
        ).to_json()
        record |= {
            "version": STORE_VERSION,
            "source": source,
            "source_image": volume.source_image,
            "bytes": sizes,
            "window": list(volume.window),
            "subject_fields": dict(volume.subject_fields),
            "slices": dict(volume.slices),
            "maps": {name: _map_facts(one, volume.mask_zyx) for name, one in maps.items()},
        }
        write_json(record_path(self.folder, volume.key), record)

    def finish(self, keys: Collection[VolumeKey], split_of: Mapping[str, str]) -> None:
        """Write metadata and index for exactly the stored volumes `keys`, then remove files of other volumes.

        Args:
            split_of: subject -> split.
        """
        records = {
            key: read_json(record_path(self.folder, key)) | {"split": split_of[key.subject]} for key in sorted(keys)
        }
        _write_if_changed(self.folder / METADATA_FOR_ML, metadata_for_ml(records, self.anatomy))
        _write_if_changed(self.folder / METADATA_FOR_STATS, metadata_for_stats(records))
        volumes = [VolumeRecord.from_json(record, self.dataset, self.folder) for record in records.values()]
        index = {
            "version": STORE_VERSION,
            "dataset": self.dataset,
            "anatomy": self.anatomy,
            "labels": self.labels.to_json(),
            "split_seed": self.split_seed,
            "volumes": [volume.to_json() for volume in volumes],
        }
        _write_if_changed(index_path(self.folder), index)
        self._remove_unlisted(keys)

    def _remove_unlisted(self, keys: Collection[VolumeKey]) -> None:
        """Remove arrays and records of volumes that are not in the index (a subject may have been withdrawn)."""
        known = {record_path(self.folder, key) for key in keys}
        for key in keys:
            kinds = read_json(record_path(self.folder, key))["arrays"]
            known |= {array_path(self.folder, key, kind) for kind in kinds}
        for path in (self.folder / "volumes").iterdir():
            if path.suffix in (".npy", ".json") and path not in known:
                path.unlink()


def _map_facts(prepared: PreparedMap, mask_zyx: npt.NDArray[np.unsignedinteger[Any]]) -> dict[str, Any]:
    """Origin of a map, and for each label of the mask the number of voxels with a value and of all voxels."""
    finite = np.isfinite(prepared.values_zyx)
    voxels = np.bincount(mask_zyx.ravel())
    valid = np.bincount(mask_zyx[finite], minlength=len(voxels))
    labels = np.flatnonzero(voxels)
    return {
        **prepared.facts,
        "num_valid": int(finite.sum()),
        "valid_of_label": {str(label): [int(valid[label]), int(voxels[label])] for label in labels if label},
    }


def label_runs(mask_zyx: npt.NDArray[np.integer]) -> dict[int, Runs]:
    """Label id -> inclusive ranges (first, last) of the slices that contain it, for every label of the mask."""
    slices_of: dict[int, list[int]] = {}
    for index, mask_yx in enumerate(mask_zyx):
        for label in np.flatnonzero(np.bincount(mask_yx.ravel())):
            slices_of.setdefault(int(label), []).append(index)
    return {label: _runs(indices) for label, indices in sorted(slices_of.items()) if label}


def _runs(indices: list[int]) -> Runs:
    breaks = [i for i in range(1, len(indices)) if indices[i] != indices[i - 1] + 1]
    starts, ends = [0, *breaks], [*breaks, len(indices)]
    return tuple((indices[start], indices[end - 1]) for start, end in zip(starts, ends, strict=True))


def _write_if_changed(path: Path, value: Any) -> None:
    if not path.is_file() or read_json(path) != value:
        write_json(path, value)
