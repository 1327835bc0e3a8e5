"""The volumes an experiment works on: its stores opened, and who is in which split. No torch."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.errors import DataError
from sam2ft.core.files import sha256_file
from sam2ft.data.store.slice_metadata import MetadataSource
from sam2ft.data.store.split import SPLITS
from sam2ft.data.store.store import Store, VolumeRecord


def open_stores(experiment: Experiment) -> tuple[Store, ...]:
    """Every store of `dataset:`, in the order of the file.

    Errors: DataError for a missing store, for one whose own dataset name is not its key, and for label tables that
    differ: one model is scored on one table.
    """
    stores = tuple(_open(name, source.store) for name, source in experiment.dataset.items())
    for store in stores[1:]:
        if store.labels != stores[0].labels:
            raise DataError(
                f"dataset.{store.name} has the labels {store.labels.describe()}, but dataset.{stores[0].name} "
                f"{stores[0].labels.describe()}; prepare them with one label table"
            )
    num_classes = experiment.datamodule.num_classes
    if num_classes is not None and num_classes != len(stores[0].labels):
        raise DataError(
            f"datamodule.num_classes: {num_classes}, but the label table has {len(stores[0].labels)} "
            f"({stores[0].labels.describe()}); leave it out or correct it"
        )
    return stores


def _open(name: str, path: Path) -> Store:
    store = Store.open(path)
    if store.name != name:
        raise DataError(f"dataset.{name}: the store {path} holds the dataset {store.name!r}; name the key so")
    return store


def split_records(stores: Sequence[Store], split: str, max_subjects: int | None = None) -> tuple[VolumeRecord, ...]:
    """Volumes of one split over all stores; of at most `max_subjects` subjects of each store.

    A store may lack a split that another has. Errors: DataError when none has it.
    """
    if split not in SPLITS:
        raise DataError(f"split {split!r}; allowed: {', '.join(SPLITS)}")
    having = [store for store in stores if any(record.split == split for record in store.volumes)]
    if not having:
        raise DataError(f"split {split} has no volume in {', '.join(str(store.path) for store in stores)}")
    return tuple(record for store in having for record in store.split_volumes(split, max_subjects))


def labelled_records(stores: Sequence[Store], split: str, max_subjects: int | None = None) -> tuple[VolumeRecord, ...]:
    """`split_records` of a split to learn from, or to choose the best epoch by. Errors: DataError without any label."""
    records = split_records(stores, split, max_subjects)
    if not any(record.labelled_slices for record in records):
        raise DataError(f"split {split}: none of its {len(records)} volumes holds a label, and training needs some")
    return records


def max_train_subjects(experiment: Experiment) -> int | None:
    """`datamodule.max_subject_set` as a number, or None for all."""
    limit = experiment.datamodule.max_subject_set
    return None if limit == "full" else int(limit)


def store_of(stores: Sequence[Store]) -> Mapping[str, Store]:
    """Dataset name -> store."""
    return {store.name: store for store in stores}


def verify(stores: Sequence[Store], records: Iterable[VolumeRecord]) -> None:
    """Read every array of `records` once and compare its digest: bit flips pass silently through .npy files.

    Errors: DataError naming the file that is not what was prepared.
    """
    of_dataset = store_of(stores)
    for record in records:
        of_dataset[record.key.dataset].verify([record])


def metadata_source(experiment: Experiment, file: Path | None) -> MetadataSource:
    """What metrics are told of slices, by the store or by `file`. Errors: DataError for a file that is no metadata."""
    chosen = experiment.datamodule.metric
    return MetadataSource.of(chosen.dicom_fields, chosen.representative_slice, file)


def named_files(experiment: Experiment) -> dict[str, Path]:
    """Dotted key -> file, of every file whose content enters the eval_id."""
    named = {
        "eval.boxes_file": experiment.eval.boxes_file,
        "datamodule.stats_metadata_file": experiment.datamodule.stats_metadata_file,
    }
    return {key: path for key, path in named.items() if path is not None}


def file_digests(experiment: Experiment) -> dict[str, str]:
    """Dotted key -> sha256 of `named_files`. Errors: DataError for one that is not there."""
    for key, path in named_files(experiment).items():
        if not path.is_file():
            raise DataError(f"{key}: found {path}, which is no file")
    return {key: sha256_file(path) for key, path in named_files(experiment).items()}
