"""Stores of an experiment: opening, volumes of each split, digests of files. No torch."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sam2ft.config.schema.datamodule import DatasetSource
from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.errors import DataError
from sam2ft.core.files import sha256_file
from sam2ft.data.store.slice_metadata import MetadataSource
from sam2ft.data.store.store import Store, VolumeRecord


def open_stores(experiment: Experiment) -> tuple[Store, ...]:
    """Open every store of `dataset:`, in the order of the file.

    Raises:
        DataError: a store is missing, its dataset name differs from its key, or the label tables of the stores differ
            (one model is scored with one table).
    """
    stores = tuple(open_source(name, source) for name, source in experiment.dataset.items())
    for store in stores[1:]:
        if store.labels != stores[0].labels:
            raise DataError(
                f"dataset.{store.name} has the labels {store.labels.describe()}, but dataset.{stores[0].name} "
                f"{stores[0].labels.describe()}; prepare them with the same label table"
            )
    num_classes = experiment.datamodule.num_classes
    if num_classes is not None and num_classes != len(stores[0].labels):
        raise DataError(
            f"datamodule.num_classes: {num_classes}, but the label table has {len(stores[0].labels)} "
            f"({stores[0].labels.describe()}); leave it out or correct it"
        )
    return stores


def open_source(name: str, source: DatasetSource) -> Store:
    """Open one store of `dataset:`, with the splits of the fold that is chosen there.

    Raises:
        DataError: it is missing or of another dataset, or it has no such fold.
    """
    store = Store.open(source.store)
    if store.name != name:
        raise DataError(
            f"dataset.{name}: the store {source.store} contains the dataset {store.name!r}; use this name as key"
        )
    try:
        return store.of_fold(source.fold)
    except DataError as error:
        raise DataError(f"dataset.{name}.fold: {error} ({source.store})") from None


def open_fold(path: Path, fold: int | None) -> Store:
    """Open a store that no experiment names, with the splits of a fold (--fold).

    Raises:
        DataError: there is no store, or it has no such fold.
    """
    store = Store.open(path)
    try:
        return store.of_fold(fold)
    except DataError as error:
        raise DataError(f"--fold: {error} ({path})") from None


def split_records(stores: Sequence[Store], split: str, max_subjects: int | None = None) -> tuple[VolumeRecord, ...]:
    """Return the volumes of one split over all stores, of at most `max_subjects` subjects per store.

    A split may be missing in some of the stores.

    Raises:
        DataError: no store has a volume in it.
    """
    having = [store for store in stores if any(record.split == split for record in store.volumes)]
    if not having:
        raise DataError(f"split {split} has no volume in {', '.join(str(store.path) for store in stores)}")
    return tuple(record for store in having for record in store.split_volumes(split, max_subjects))


def labelled_records(stores: Sequence[Store], split: str, max_subjects: int | None = None) -> tuple[VolumeRecord, ...]:
    """Return `split_records` of a split that is used for training or for choosing the best epoch.

    Raises:
        DataError: as `split_records`, or no volume has a label.
    """
    records = split_records(stores, split, max_subjects)
    if not any(record.labelled_slices for record in records):
        raise DataError(f"split {split}: none of its {len(records)} volumes holds a label, and training needs labels")
    return records


def max_train_subjects(experiment: Experiment) -> int | None:
    """Return `datamodule.max_subject_set` as a number; None means all subjects."""
    limit = experiment.datamodule.max_subject_set
    return None if limit == "full" else int(limit)


def stores_by_name(stores: Sequence[Store]) -> Mapping[str, Store]:
    """Return a map from dataset name to store."""
    return {store.name: store for store in stores}


def verify_volumes(stores: Sequence[Store], records: Iterable[VolumeRecord]) -> None:
    """Read every array of `records` once and compare its digest, because .npy files do not detect bit errors.

    Raises:
        DataError: a file differs from the prepared one; the message names it.
    """
    of_dataset = stores_by_name(stores)
    for record in records:
        of_dataset[record.key.dataset].verify([record])


def metadata_source(experiment: Experiment, file: Path | None) -> MetadataSource:
    """Return the slice metadata for metrics, from the store or from `file`.

    Raises:
        DataError: `file` is not a metadata file.
    """
    chosen = experiment.datamodule.metric
    return MetadataSource.of(chosen.dicom_fields, chosen.representative_slice, file)


def named_files(experiment: Experiment) -> dict[str, Path]:
    """Return dotted key -> file, for every file whose content is part of the eval_id."""
    named = {
        "eval.boxes_file": experiment.eval.boxes_file,
        "datamodule.stats_metadata_file": experiment.datamodule.stats_metadata_file,
    }
    return {key: path for key, path in named.items() if path is not None}


def file_digests(experiment: Experiment) -> dict[str, str]:
    """Return dotted key -> sha256, for the files of `named_files`.

    Raises:
        DataError: a file does not exist.
    """
    for key, path in named_files(experiment).items():
        if not path.is_file():
            raise DataError(f"{key}: found {path}, which is not a file")
    return {key: sha256_file(path) for key, path in named_files(experiment).items()}
