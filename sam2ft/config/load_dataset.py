"""Loading of dataset files and label tables (YAML) into typed values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam2ft.config.layout_labels import with_labels
from sam2ft.config.load_experiment import plain_values
from sam2ft.config.schema.base import ReadOnlyDict
from sam2ft.config.schema.dataset import (
    DatasetFile,
    DatasetInfo,
    GivenInstances,
    Intensity,
    LabelFile,
    Reading,
    SubjectId,
    changes_of,
)
from sam2ft.config.schema.masks import DrawnLabels
from sam2ft.config.schema.sources import Sources, Split
from sam2ft.config.yaml.tree import load_tree
from sam2ft.config.yaml.validation import checked
from sam2ft.core.errors import ConfigError
from sam2ft.core.given.wrong_kind import Wanted, not_there, wrong_kind
from sam2ft.core.labels import LabelTable


@dataclass(frozen=True)
class SubjectNames:
    """How the subjects of a dataset are named in its store."""

    subject_id: SubjectId = "folder"
    table: Path | None = None
    """CSV of given names and subjects, with `table`."""
    key: Path | None = None
    """Key file that the dataset file names."""
    default_key: Path = Path("dataset.key")
    """Key file if it names none."""

    def key_path(self, base: Path) -> Path:
        """The key file.

        Args:
            base: folder to which the paths of the dataset file are relative.
        """
        return self.default_key if self.key is None else base / self.key


@dataclass(frozen=True)
class DatasetConfig:
    """The settings of a dataset file, as launch/prepare.py uses them."""

    dataset: DatasetInfo
    sources: Sources
    labels: LabelTable
    changes: Mapping[int, int]
    """Integer in a mask file -> label id, or 0 if dropped. Integers that are not listed are not allowed in masks."""
    given_instances: GivenInstances
    intensity: Intensity
    split: Split
    reading: Reading
    keep: tuple[str, ...]
    """DICOM attributes to keep in the metadata that are left out by default, such as SeriesDescription."""
    conversion: Mapping[str, Any]
    """The settings that the stored arrays and fields of a volume depend on, as plain values."""
    names: SubjectNames = SubjectNames()
    labelled: DrawnLabels | Mapping[str, DrawnLabels] | None = None
    """Labels that were drawn, of all volumes or by subject; None: all, or what the sources say."""
    path: Path | None = None
    """The dataset file."""


def load_dataset(path: Path, bases: Sequence[Path] = (Path(),)) -> DatasetConfig:
    """Read a dataset file.

    Args:
        bases: folders that its paths may be relative to; a label table that a layout brings is in the first that fits.

    Raises:
        ProblemsError: all problems of the file.
        ConfigError: the label table of its layout is away, or another one.
    """
    if (problem := not_there(path, Wanted.DATASET) or wrong_kind(path, Wanted.DATASET)) is not None:
        raise ConfigError(problem)
    file = with_labels(checked(DatasetFile, load_tree(path, extends=False)), bases)
    conversion = {key: plain_values(getattr(file, key)) for key in ("labels", "labels_dropped", "keep")}
    conversion["intensity"] = plain_values(file.intensity.chosen)
    maps = {name: dict(file.sources.map_source(name).settings) for name in file.sources.maps}
    # Only settings that differ from the defaults, so that stores made before these settings existed stay valid.
    conversion |= file.chosen
    conversion |= {f"instances.{name}": value for name, value in file.instances.chosen.items()}
    conversion |= {f"maps.{name}": plain_values(chosen) for name, chosen in maps.items() if chosen}
    return DatasetConfig(
        dataset=file.dataset,
        sources=file.sources,
        labels=LabelTable.from_json(plain_values(file.labels)),
        changes=ReadOnlyDict(changes_of(file)),
        given_instances=file.instances,
        intensity=file.intensity,
        split=file.split,
        reading=file,
        keep=file.keep,
        conversion=ReadOnlyDict(conversion),
        names=SubjectNames(
            file.subject_id, file.subject_table, file.subject_key, path.parent / f"{file.dataset.name}.key"
        ),
        labelled=file.labelled,
        path=path,
    )


def load_label_table(path: Path) -> LabelTable:
    """Read a label table: a mapping with the single key `labels:`.

    Raises:
        ProblemsError: all problems of the file.
    """
    if (problem := not_there(path, Wanted.LABELS) or wrong_kind(path, Wanted.LABELS)) is not None:
        raise ConfigError(problem)
    return LabelTable.from_json(plain_values(checked(LabelFile, load_tree(path, extends=False)).labels))
