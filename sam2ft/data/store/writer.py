"""Writing a prepared store: append-only, and resumable after every step.

Order: for each volume the arrays, then its record; after all volumes the metadata files and, last, the index, which is
replaced whole. A volume that is prepared anew gets files of a new stem, so that until then, and for programs that
opened the store before, everything is as it was. Only `prune` removes files.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.digests.verified_files import digest_file, write_sealed_json
from sam2ft.core.errors import DataError
from sam2ft.core.files import (
    canonical_json,
    listed_files,
    listed_names,
    read_json,
    replacing,
    sha256_file,
    verified_json,
)
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import LabelTable
from sam2ft.data.images.maps import PreparedMap
from sam2ft.data.store.array_files import write_npy
from sam2ft.data.store.covariates import Covariates, covariates_entry, covariates_of
from sam2ft.data.store.folds import ENTRY as FOLDS
from sam2ft.data.store.folds import Folds, folds_entry, folds_in
from sam2ft.data.store.index import (
    METADATA_FOR_ML,
    METADATA_FOR_STATS,
    NAMING,
    REMEDY,
    REPORT_KEPT,
    REPORT_PAGE,
    STORE_VERSION,
    OtherVersionError,
    array_path,
    content_digest,
    entry_digest,
    index_path,
    is_record,
    read_index,
    record_path,
    stem_of_file,
    write_index,
    write_metadata,
)
from sam2ft.data.store.likeness import block_means
from sam2ft.data.store.mask_facts import label_runs, map_facts
from sam2ft.data.store.metadata import metadata_for_ml, metadata_for_stats
from sam2ft.data.store.rebuild import rebuilt_index
from sam2ft.data.store.store import VolumeRecord, chosen_entries


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
    facts: Mapping[str, Any] = field(default_factory=dict)
    """How the image was read, for the record: slice_axis; nearest_slices and nearest_axis of a resampled series."""
    source_image: str | None = None
    """File or folder of the image, in stores of earlier versions; None: not kept, or not read from a file."""
    instances_zyx: npt.NDArray[np.uint16] | None = None
    """Ids of the instances as the mask file gives them, unique within a label; None: connected components."""
    instances_min_mm3: float | None = None
    """Size below which an instance is a speck; None: the default definition."""
    labelled: tuple[int, ...] | None = None
    """Ids of the labels that were drawn; None: all."""


@dataclass(frozen=True)
class StoreWriter:
    """Writes the store of one dataset into `folder`."""

    folder: Path
    dataset: str
    anatomy: str
    labels: LabelTable
    split_seed: int
    upgrade: bool = False
    """Whether a store of an earlier version becomes one of the current version."""
    modality: str = ""
    """Imaging modality as the dataset file gives it; empty where it does not."""
    names: Mapping[str, str] | None = None
    """How subjects are named and UIDs hashed (`names` of the index); None: what the index has already."""
    covariates: tuple[Covariates, tuple[str, ...]] | None = None
    """(those of the sources, names of those that are kept); None: what the index has already."""

    @cached_property
    def found(self) -> tuple[Mapping[str, Any] | None, tuple[str, ...]]:
        """(index when it was first asked for, notes): of store.json, or made again where that is lost or damaged.

        Raises:
            DataError: it is damaged, and cannot be made again, or of another version.
        """
        described = (self.dataset, self.anatomy, self.modality)
        made_again = partial(rebuilt_index, self.folder, described, self.labels, self.split_seed)
        try:
            if (index := read_index(self.folder)) is not None:
                return index, ()
        except OtherVersionError:
            raise
        except DataError as damage:
            return made_again(str(damage).removesuffix(f"; {REMEDY}"))
        with suppress(DataError):  # a new store, or one whose first call was killed
            if digest_file(self.folder / METADATA_FOR_ML).is_file():
                return made_again(f"{index_path(self.folder)}: no such file")
        return None, ()

    @cached_property
    def indexed(self) -> Mapping[VolumeKey, Mapping[str, Any]]:
        """The volumes of the index and their entries when it was first asked for; empty for a new store."""
        index = self.found[0] or {"volumes": []}
        return {VolumeKey(self.dataset, entry["subject"], entry["volume"]): entry for entry in index["volumes"]}

    @cached_property
    def splits(self) -> Mapping[str, str]:
        """Subject -> split of the index when it was first asked for, of refused subjects too; empty for a new store."""
        reserved: dict[str, str] = (self.found[0] or {}).get("reserved_splits", {})
        return reserved | {entry["subject"]: entry["split"] for entry in self.indexed.values()}

    @cached_property
    def folds(self) -> Folds:
        """Folds of the index when it was first asked for; empty for a new store, or one without folds."""
        return folds_in(self.found[0] or {})

    @cached_property
    def version(self) -> int:
        """Version of the store that is written."""
        index = None if self.upgrade else self.found[0]
        return STORE_VERSION if index is None else int(index["version"])

    @cached_property
    def is_older(self) -> bool:
        """Whether the store on disk has an earlier version than the one that is written."""
        index = self.found[0]
        return index is not None and index["version"] < self.version

    def _stem(self, key: VolumeKey) -> str | None:
        """Stem of the files of a volume in the index, or None if the index lacks it."""
        return None if key not in self.indexed else self.indexed[key].get("stem", key.file_stem)

    def _new_stem(self, key: VolumeKey) -> str:
        """Stem of the files that are written now; names are quoted (core/keys), so that none contains an @."""
        stem = self._stem(key)
        if stem is None:
            return key.file_stem
        name, _, number = stem.partition("@")
        return f"{name}@{int(number or 1) + 1}"

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
            found = (self.found[0] or {}).get("dataset")
            if found != self.dataset:
                raise DataError(f"{self.folder}: holds the store of dataset {found!r}, not of {self.dataset!r}")
        elif others := self._other_files():
            raise DataError(f"{self.folder}: is not a store and not empty (it contains {others[0]}); give a new folder")

    def _other_files(self) -> list[str]:
        own = [self.folder / name for name in (METADATA_FOR_ML, METADATA_FOR_STATS)]
        names = {"volumes", "source", REPORT_PAGE, REPORT_KEPT, *(path.name for path in own)}
        names |= {digest_file(path).name for path in own}
        return sorted(set(listed_names(self.folder)) - names)

    def is_finished(self, key: VolumeKey, source: str, *, verify: bool = False) -> bool:
        """Whether `key` is stored completely and was prepared from `source` (a fingerprint of files and settings).

        Args:
            verify: read every array and compare its sha256; else only whether it is there and has its size.
        """
        stem = self._stem(key)
        if stem is not None and self._is_from(stem, source, verify=verify):
            # What a killed call prepared from another state of the source does not count any more.
            record_path(self.folder, self._new_stem(key)).unlink(missing_ok=True)
            return True
        return self._is_from(self._new_stem(key), source, verify=verify)

    def _is_from(self, stem: str, source: str, *, verify: bool) -> bool:
        path = record_path(self.folder, stem)
        try:
            record, is_sealed = verified_json(path)
        except DataError:  # no record, or a damaged one: the volume is prepared again
            return False
        if not is_record(record) or record["version"] != self.version or record["source"] != source:
            return False
        if entry_digest(record, canonical_json(self.labels.to_json())) != record["digest"]:
            return False  # edited; a record of an earlier version has no seal
        paths = {array_path(self.folder, stem, kind): kind for kind in record["arrays"]}
        if not all(path.is_file() and path.stat().st_size == record["bytes"][kind] for path, kind in paths.items()):
            return False
        if verify and not all(sha256_file(path) == record["arrays"][kind] for path, kind in paths.items()):
            return False
        if verify and not is_sealed:
            write_sealed_json(path, record)
        return True

    def write(self, volume: PreparedVolume, source: str) -> None:
        """Store one volume; its record is written last, so an interrupted volume is prepared again.

        The index does not name it before `finish`; what the index names now stays.
        """
        stem = self._new_stem(volume.key)
        record_path(self.folder, stem).unlink(missing_ok=True)
        contents: dict[str, npt.NDArray[Any]] = {"image": volume.image_zyx, "mask": volume.mask_zyx}
        if volume.instances_zyx is not None:
            contents["instances"] = volume.instances_zyx
        maps = dict(sorted(volume.maps.items()))
        contents |= {f"map-{name}": one.values_zyx for name, one in maps.items()}
        contents |= {f"r2-{name}": one.r2_zyx for name, one in maps.items() if one.r2_zyx is not None}
        digests: dict[str, str] = {}
        sizes: dict[str, int] = {}
        for kind, array in contents.items():
            path = array_path(self.folder, stem, kind)
            with replacing(path) as partial, partial.open("wb") as stream:
                digests[kind] = write_npy(stream, array)
            sizes[kind] = path.stat().st_size
        record = VolumeRecord(
            key=volume.key,
            split="",
            geometry=volume.geometry,
            digest=content_digest(
                digests, volume.geometry, self.labels, chosen_entries(volume.instances_min_mm3, volume.labelled)
            ),
            arrays=digests,
            label_runs=label_runs(volume.mask_zyx),
            folder=self.folder,
            stem=stem,
            instances_min_mm3=volume.instances_min_mm3,
            labelled=volume.labelled,
        ).to_json()
        record |= {
            "version": self.version,
            "source": source,
            "source_image": volume.source_image,
            "bytes": sizes,
            "window": list(volume.window),
            "subject_fields": dict(volume.subject_fields),
            "slices": dict(volume.slices),
            **volume.facts,
            "block_means": block_means(volume.image_zyx),
            "maps": {name: map_facts(one, volume.mask_zyx) for name, one in maps.items()},
            **self._names_of_record(),
        }
        write_sealed_json(record_path(self.folder, stem), record)

    def finish(
        self,
        keys: Collection[VolumeKey],
        split_of: Mapping[str, str],
        *,
        without: Collection[VolumeKey] = (),
        folds: Folds | None = None,
    ) -> None:
        """Write metadata and index: the stored volumes `keys`, and every other volume that the index names already.

        Args:
            split_of: subject -> split. A volume of a subject that it lacks keeps its split. The index also reserves the
                split of subjects without a stored volume.
            without: volumes that leave the index; their files stay until `unused_files` are removed.
            folds: of all subjects, of refused ones too; None: those that the index has.
        """
        folds = self.folds if folds is None else folds
        records = {}
        for key, stem in self._stems(keys, without).items():
            split = split_of[key.subject] if key.subject in split_of else self.indexed[key]["split"]
            in_folds = {FOLDS: list(folds[key.subject])} if key.subject in folds else {}
            records[key] = {**self.record(key, stem), "split": split, **in_folds}
        described = {key: record for key, record in records.items() if "slices" in record}
        write_metadata(self.folder / METADATA_FOR_ML, metadata_for_ml(described, self.anatomy))
        write_metadata(self.folder / METADATA_FOR_STATS, metadata_for_stats(described))
        stored = {key.subject for key in records}
        reserved = {name: split for name, split in ({**self.splits, **split_of}).items() if name not in stored}
        index = {
            "version": self.version,
            "dataset": self.dataset,
            "anatomy": self.anatomy,
            **({"modality": self.modality} if self.modality else {}),
            "labels": self.labels.to_json(),
            "split_seed": self.split_seed,
            "volumes": [
                VolumeRecord.from_json(dict(record), self.dataset, self.folder).to_json() for record in records.values()
            ],
            **({"reserved_splits": dict(sorted(reserved.items()))} if reserved else {}),
            **folds_entry(folds),
            **self._names_entry(),
            **self._covariates_entry(records),
        }
        write_index(index_path(self.folder), index)

    def _names_entry(self) -> dict[str, Mapping[str, str]]:
        """`names` of the index: none in stores of earlier versions."""
        names = (self.found[0] or {}).get("names") if self.names is None else self.names
        return {} if names is None else {"names": dict(names)}

    def _covariates_entry(self, keys: Collection[VolumeKey]) -> Any:
        index = self.found[0]
        before = {} if index is None else covariates_of(index)
        now, kept = self.covariates or ({}, {name for values in before.values() for name in values})
        return covariates_entry(before, now, kept, keys)

    def _names_of_record(self) -> dict[str, Mapping[str, str]]:
        """`names` again without places, so that an index that is made anew from the records has them."""
        kept = {name: value for name, value in (self.names or {}).items() if name in NAMING}
        return {"names": kept} if kept else {}

    def record(self, key: VolumeKey, stem: str) -> Mapping[str, Any]:
        """The record of a volume; the less that the index knows where it is lost or damaged.

        Raises:
            DataError: it is damaged, and the index does not know these files.
        """
        path = record_path(self.folder, stem)
        with suppress(DataError):
            found = read_json(path)
            if isinstance(found, dict) and {"geometry", "arrays", "digest", "labelled_slices"} <= found.keys():
                return found
        if stem != self._stem(key):
            raise DataError(f"{path}: damaged; remove it, then run launch/prepare.py again")
        return self.indexed[key]

    def _stems(self, keys: Collection[VolumeKey], without: Collection[VolumeKey]) -> dict[VolumeKey, str]:
        """The volumes of the index that `finish` writes, sorted, and the stems of their files."""
        stems = {key: stem for key in self.indexed if (stem := self._stem(key)) is not None}
        # The record of a newer state exists only if it is complete and counts (see `is_finished`).
        stems |= {key: new for key in keys if record_path(self.folder, new := self._new_stem(key)).is_file()}
        return {key: stems[key] for key in sorted(stems.keys() - set(without))}

    def changes(self, keys: Sequence[VolumeKey]) -> list[str]:
        """A line for each of `keys` whose new files have another content than those of the index."""
        lines = []
        for key in sorted(set(keys) & self.indexed.keys()):
            before = VolumeRecord.from_json(dict(self.indexed[key]), self.dataset, self.folder)
            record = self.record(key, self._stems([key], ())[key])
            after = VolumeRecord.from_json({**record, "split": before.split}, self.dataset, self.folder)
            if before.digest != after.digest:
                digests = f"digest {before.digest[:12]} -> {after.digest[:12]}"
                lines.append(f"{key}: {_geometry_change(before.geometry, after.geometry)}{digests}")
        return lines

    def discard(self, keys: Collection[VolumeKey]) -> None:
        """Remove the files of volumes that were written since the index was."""
        for path in self.unused_files((), without=()):
            if stem_of_file(path) in {self._new_stem(key) for key in keys}:
                path.unlink()

    def states(
        self, keys: Collection[VolumeKey], *, without: Collection[VolumeKey] = ()
    ) -> dict[VolumeKey, tuple[str, bool]]:
        """Volume -> (stem of its files, whether they are not in the index yet), as `finish` writes them, sorted."""
        return {key: (stem, stem != self._stem(key)) for key, stem in self._stems(keys, without).items()}

    def unused_files(self, keys: Collection[VolumeKey], *, without: Collection[VolumeKey] = ()) -> list[Path]:
        """Files that belong to no volume of the index that `finish` writes for the same arguments."""
        stems = set(self._stems(keys, without).values())
        files = listed_files(self.folder / "volumes")
        return [path for path in files if path.suffix in (".npy", ".json") and stem_of_file(path) not in stems]


def _geometry_change(before: Geometry, after: Geometry) -> str:
    """What differs, each followed by `; `: shape and spacing, z first."""
    changes = []
    if before.shape_zyx != after.shape_zyx:
        changes.append(f"shape (z, y, x) {before.shape_zyx} -> {after.shape_zyx}; ")
    old, new = (", ".join(f"{edge:.9g}" for edge in one.spacing_zyx_mm) for one in (before, after))
    if old != new:
        changes.append(f"spacing (z, y, x) {old} -> {new} mm; ")
    elif before != after and before.shape_zyx == after.shape_zyx:
        changes.append(f"its grid moves by up to {before.corner_distance_mm(after):.2g} mm (another rounding); ")
    return "".join(changes)
