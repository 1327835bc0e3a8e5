"""Data of a training: batches of the train and val splits, their stores, and the slices drawn after every epoch."""

from dataclasses import dataclass, replace

from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.labels import LabelTable
from sam2ft.data.samples.augment import augmentation_of
from sam2ft.data.samples.dataset import SliceDataset, SliceSettings
from sam2ft.data.samples.example_slices import slices_to_show
from sam2ft.data.samples.loader import EpochBatches, train_loader, val_loader
from sam2ft.data.store.store import Store, VolumeRecord
from sam2ft.distributed.ranks import Ranks
from sam2ft.runs.stores import labelled_records, max_train_subjects, open_stores, verify_volumes

NUM_PICTURES = 4
"""Number of validation slices drawn after every epoch: always the same ones (data/samples/example_slices)."""


@dataclass(frozen=True)
class TrainingData:
    """Training and validation batches of this rank, with their stores and volumes."""

    train: EpochBatches
    val: EpochBatches
    stores: tuple[Store, ...]
    records: tuple[VolumeRecord, ...]
    """The volumes of both."""

    @property
    def labels(self) -> LabelTable:
        return self.stores[0].labels


def training_data(experiment: Experiment, ranks: Ranks) -> TrainingData:
    """Data loaders of the train and val splits.

    Raises:
        DataError: for a store or split that cannot be used.
    """
    stores = open_stores(experiment)
    datamodule, module, seed = experiment.datamodule, experiment.module, experiment.experiment.seed
    settings = SliceSettings(module.image_size, seed, bbox_shift_px=datamodule.bbox_shift, shares=module.prompts.shares)
    shown = replace(settings, fixed_prompts=True)
    jittered = replace(
        settings,
        max_instances=module.prompts.max_instances_per_slice,
        augmentation=augmentation_of(datamodule.augmentation),
    )
    train_records = labelled_records(stores, "train", max_train_subjects(experiment))
    val_records = labelled_records(stores, "val")
    if ranks.is_main:
        verify_volumes(stores, (*train_records, *val_records))
    # Needed even when no pictures are drawn: they set the order of validation, and so the last bits of its values.
    pictures = slices_to_show(stores, val_records, NUM_PICTURES)
    return TrainingData(
        train=train_loader(SliceDataset(stores, train_records, jittered), datamodule, ranks),
        val=val_loader(SliceDataset(stores, val_records, shown), datamodule, ranks, pictures),
        stores=stores,
        records=(*train_records, *val_records),
    )
