"""A store as nnU-Net v2 raw dataset: names of its cases, labels, folds and files, as values. nnunet_folder writes them.

nnU-Net wants consecutive integers of labels, one folder of training cases and one of test cases, and folds by name of
case. `dataset.json` names the labels, so that what nnU-Net predicts is read back by names (`eval --predictions`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sam2ft.core.errors import DataError, listed
from sam2ft.core.files import canonical_json, sha256_text
from sam2ft.core.keys import path_component
from sam2ft.data.export.nifti import file_axes, is_sheared
from sam2ft.data.store.store import IMAGE_LEVELS, Store, VolumeRecord, records_digest

ENDING = ".nii.gz"
OURS = "sam2ft"
"""Key of dataset.json, which nnU-Net copies beside its predictions, that says what was exported."""
VERSION = 1
_TRAINING, _TEST = "Tr", "Ts"
_LONGEST_NAME = 180
_SHOWN = 5
# Names that mean something else to nnU-Net: integer 0, and voxels that nothing is learned from.
_RESERVED = ("background", "ignore")
# channel_names by which nnU-Net chooses another normalization than z-scores.
_NORMALIZED = ("ct", "nonorm", "rescale_to_0_1", "rescale_0_1", "rgb_to_0_1", "zscore")


@dataclass(frozen=True)
class NnunetCase:
    """One volume of the store by its name in nnU-Net."""

    name: str
    record: VolumeRecord
    part: str
    """Tr (train and val) or Ts (test)."""

    @property
    def image(self) -> str:
        return f"images{self.part}/{self.name}_0000{ENDING}"

    @property
    def mask(self) -> str:
        return f"labels{self.part}/{self.name}{ENDING}"


@dataclass(frozen=True)
class NnunetExport:
    """What is written for a store."""

    store: Store
    folder: str
    """DatasetNNN_Name."""
    cases: tuple[NnunetCase, ...]
    folds: tuple[Mapping[str, Sequence[str]], ...]
    """Of each fold train and val: names of cases."""
    channel: str
    notes: tuple[str, ...] = ()

    @property
    def label_ids(self) -> Mapping[int, int]:
        """Label id of the store -> integer of nnU-Net: 1, 2, ... in the order of the table."""
        return {label: number for number, label in enumerate(self.store.labels.ids, start=1)}

    @property
    def trains_by_folds(self) -> bool:
        """Whether nnU-Net can train on every fold: it needs cases in train and in val."""
        return all(fold["train"] and fold["val"] for fold in self.folds)

    @property
    def _all_folds(self) -> bool:
        """Whether there are several folds, and every training case has a place in each of them."""
        training = {case.name for case in self.cases if case.part == _TRAINING}
        return len(self.folds) > 1 and all(training == {*fold["train"], *fold["val"]} for fold in self.folds)

    @cached_property
    def content(self) -> str:
        """Digest of everything that decides the files."""
        records = [case.record for case in self.cases]
        values = [
            VERSION,
            records_digest(records),
            self.dataset_json,
            list(self.folds),
            [one.name for one in self.cases],
        ]
        return sha256_text(canonical_json(values))

    @property
    def dataset_json(self) -> dict[str, Any]:
        names = {label.name: self.label_ids[label.id] for label in self.store.labels}
        sheared = any(is_sheared(case.record.geometry) for case in self.cases)
        ours = {
            "version": VERSION,
            "dataset": self.store.name,
            "label_ids": {str(number): label for label, number in self.label_ids.items()},
        }
        return {
            "name": self.folder,
            "description": f"exported by sam2ft from the store of dataset {self.store.name}",
            "channel_names": {"0": self.channel},
            "labels": {"background": 0, **names},
            "numTraining": sum(case.part == _TRAINING for case in self.cases),
            "file_ending": ENDING,
            **({"overwrite_image_reader_writer": "NibabelIO"} if sheared else {}),
            OURS: ours,
        }

    def dataset_file(self, folder: Path) -> str:
        """A dataset file that prepares the exported folder to the voxels, label ids and splits of the store again."""
        labels = {
            str(label.id): {"name": label.name, **label.others, "merge": [self.label_ids[label.id]]}
            for label in self.store.labels
        }
        unused = [label for label in self.store.labels.ids if label not in self.label_ids.values()]
        axes = {file_axes(case.record.geometry).index(2) for case in self.cases}
        about = {"name": self.store.name, "anatomy": self.store.anatomy, "modality": self.store.given_modality}
        values = {
            "dataset": {key: text for key, text in about.items() if text},
            "sources": {"layout": {"nnunet": str(folder), "fold": "all" if self._all_folds else 0}},
            **({"slice_axis": str(axes.pop())} if len(axes) == 1 else {}),
            "intensity": {"window": [0, IMAGE_LEVELS]},
            # Ids of the store that the exported masks do not have: a dataset file says of each what it means.
            **({"labels_dropped": unused} if unused else {}),
        }
        lines = [f"{key}: {canonical_json(value)}" for key, value in values.items()]
        of_labels = [f"  {label}: {canonical_json(entry)}" for label, entry in labels.items()]
        head = "# Prepares this export again, in the folder in which it was made: the path below is that of --out."
        return "\n".join([head, *lines, "labels:", *of_labels, ""])


def nnunet_export(store: Store, number: int, name: str = "", *, leave_out_partial: bool = False) -> NnunetExport:
    """What nnU-Net needs of a store.

    Args:
        number: of the dataset, 1 to 999.
        name: of the dataset; empty: that of the store, in plain letters.
        leave_out_partial: leave out volumes in which not all labels were drawn; else they are refused.

    Raises:
        DataError: there is nothing to train on, a label has a name that nnU-Net reserves, or labels are partial.
    """
    if reserved := [label.name for label in store.labels if label.name.casefold() in _RESERVED]:
        raise DataError(
            f"{store.path}: label {reserved[0]!r} has a name that nnU-Net reserves ({', '.join(_RESERVED)}); give it "
            "another name in the dataset file (labels) and run launch/prepare.py again"
        )
    records, notes = _whole_records(store, leave_out_partial=leave_out_partial)
    splits = {one.key.subject: store.folds.get(one.key.subject, (one.split,)) for one in records}
    parts = {subject: _TEST if set(row) == {"test"} else _TRAINING for subject, row in splits.items()}
    if hidden := [one.key.subject for one in records if one.key.subject.startswith(".")]:
        raise DataError(
            f"{store.path}: subject {hidden[0]!r} begins with a point, and files that do are hidden from programs; "
            "give it another name in the sources of the dataset and run launch/prepare.py again"
        )
    names = _case_names(records)
    cases = tuple(NnunetCase(names[one], one, parts[one.key.subject]) for one in records)
    if not any(case.part == _TRAINING for case in cases):
        raise DataError(
            f"{store.path}: no volume is in train or val, so that nnU-Net has nothing to train on; give some subjects "
            "to train in the dataset file (split) and run launch/prepare.py again"
        )
    folder = f"Dataset{number:03d}_{name or _plain(store.name)}"
    return NnunetExport(
        store, folder, cases, _folds(cases, splits), _channel(records, store), (*notes, *_notes(cases, splits))
    )


def _whole_records(store: Store, *, leave_out_partial: bool) -> tuple[list[VolumeRecord], tuple[str, ...]]:
    """(the volumes in which all labels were drawn, a note on others)."""
    every = set(store.labels.ids)
    partial = [one for one in store.volumes if one.labelled is not None and set(one.labelled) != every]
    if not partial:
        return list(store.volumes), ()
    shown = listed([str(record.key) for record in partial], _SHOWN)
    if not leave_out_partial:
        raise DataError(
            f"{store.path}: not all labels were drawn in {shown}; nnU-Net would learn that the others are background; "
            "allowed: volumes with all labels; leave these out with --leave-out-partial"
        )
    return [record for record in store.volumes if record not in partial], (
        f"left out, because not all labels were drawn in them: {shown}",
    )


def _folds(cases: Sequence[NnunetCase], splits: Mapping[str, Sequence[str]]) -> tuple[Mapping[str, Sequence[str]], ...]:
    count = len(next(iter(splits.values())))
    training = [case for case in cases if case.part == _TRAINING]
    return tuple(
        {
            split: sorted(case.name for case in training if splits[case.record.key.subject][number] == split)
            for split in ("train", "val")
        }
        for number in range(count)
    )


def _case_names(records: Sequence[VolumeRecord]) -> dict[VolumeRecord, str]:
    """Volume -> name of its case, by which `eval --predictions` finds it: the subject if it has one volume."""
    subjects = [record.key.subject for record in records]

    def short(record: VolumeRecord) -> str:
        subject = record.key.subject
        plain = subject if re.fullmatch(r"[^/\\%]*", subject) else path_component(subject)
        fits = subjects.count(subject) == 1 and len(plain.encode()) <= _LONGEST_NAME
        return plain if fits else record.key.file_stem

    names = {record: short(record) for record in records}
    if len({name.casefold() for name in names.values()}) < len(names):
        return {record: record.key.file_stem for record in records}
    return names


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "store"


def _channel(records: Sequence[VolumeRecord], store: Store) -> str:
    """Name of the channel, by which nnU-Net normalizes: "CT" only where all volumes have one intensity window."""
    modality = store.modality or "image"
    if modality.casefold() == "ct" and len({tuple(one.stored.get("window", (one.key,))) for one in records}) == 1:
        return "CT"
    return f"{modality} (windowed)" if modality.casefold() in _NORMALIZED else modality


def _notes(cases: Sequence[NnunetCase], splits: Mapping[str, Sequence[str]]) -> list[str]:
    notes = []
    if any("instances" in case.record.arrays for case in cases):
        notes.append("nnU-Net learns labels, not instances: the instances of this store (as_given) are not exported")
    moving = sorted(subject for subject, row in splits.items() if "test" in row and set(row) != {"test"})
    if moving:
        notes.append(
            f"in test of some folds only: {listed(moving, _SHOWN)}; they are in imagesTr, and in neither train nor val "
            "of these folds"
        )
    for number in range(len(next(iter(splits.values())))):
        empty = [split for split in ("train", "val") if split not in {row[number] for row in splits.values()}]
        if empty:
            notes.append(
                f"fold {number} has no {' and no '.join(empty)}: nnU-Net cannot train with splits_final.json, and "
                "draws folds of its own without it"
            )
    return notes
