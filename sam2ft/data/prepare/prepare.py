"""Preparation of a dataset: find files, split subjects, convert and write volumes to the store.

Volumes that are finished and unchanged are not prepared again.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from sam2ft.config.load_dataset import DatasetConfig
from sam2ft.core.errors import DataError, naming
from sam2ft.core.keys import VolumeKey
from sam2ft.core.parallel import parallel_map
from sam2ft.data.images.maps import read_map
from sam2ft.data.images.volumes import read_reordered, read_volume
from sam2ft.data.prepare.relabel import given_ids, relabel
from sam2ft.data.prepare.sources import VolumeFiles, find_by_patterns, find_by_table, fingerprint
from sam2ft.data.store.intensity import intensity_window, to_uint16
from sam2ft.data.store.slice_metadata import disagreement_summary, distance_disagreements
from sam2ft.data.store.split import SPLITS, split_by_fractions, split_from_file
from sam2ft.data.store.store import Store
from sam2ft.data.store.writer import PreparedVolume, StoreWriter

LOCK = ".prepare.lock"
STORED, UNCHANGED, REFUSED = "stored", "unchanged", "refused"


@dataclass(frozen=True)
class VolumeOutcome:
    """Result for one volume."""

    key: VolumeKey
    result: str
    """stored, unchanged or refused"""
    reason: str = ""
    notes: tuple[str, ...] = ()
    """Sentences about a volume that was stored."""


Progress = Callable[[int, int, VolumeOutcome], None]
"""Called after each volume with: number of finished volumes, number of all volumes, result."""


@dataclass(frozen=True)
class PrepareSummary:
    """Result of `prepare_dataset`."""

    store: Path
    outcomes: tuple[VolumeOutcome, ...]
    splits: Mapping[str, int]
    """Split -> number of prepared subjects."""
    unlabelled: tuple[VolumeKey, ...]
    """Prepared volumes whose mask contains no label: allowed, but should be checked."""
    disagreements: tuple[str, ...] = ()
    """Sentences about slice distances in headers that differ by more than 1 % from the distance used."""

    @property
    def refused(self) -> tuple[VolumeOutcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.result == REFUSED)

    def count(self, result: str) -> int:
        return sum(outcome.result == result for outcome in self.outcomes)


def prepare_dataset(
    config: DatasetConfig, base: Path, out: Path, progress: Progress, *, workers: int = 1
) -> PrepareSummary:
    """Create or complete the store `out` of the dataset described by `config`.

    Volumes that cannot be used are refused and named in the summary; the others are prepared.

    Args:
        base: folder to which the paths in `config` are relative.
        workers: number of processes; the store is the same for any number.

    Raises:
        DataError: when the folder is not a store of this dataset, the split is wrong, or every volume is refused; then
            nothing is changed.
    """
    sources = _find(config, base)
    split_of = _split(config, sources, base)
    writer = StoreWriter(out, config.dataset.name, config.dataset.anatomy, config.labels, config.split.seed)
    writer.check()
    _refuse_absent_masks(sources)
    with _store_lock(out):
        outcomes = []
        for outcome in parallel_map(partial(_prepare_one, writer, config), sources, workers):
            outcomes.append(outcome)
            progress(len(outcomes), len(sources), outcome)
        kept = [outcome.key for outcome in outcomes if outcome.result != REFUSED]
        if not kept:
            reasons = "\n".join(f"{outcome.key}: {outcome.reason}" for outcome in outcomes)
            raise DataError(f"no volume of {config.dataset.name} could be prepared:\n{reasons}")
        writer.finish(kept, split_of)
    subjects = {key.subject for key in kept}
    splits = {split: sum(split_of[subject] == split for subject in subjects) for split in SPLITS}
    records = Store.open(out).volumes
    unlabelled = tuple(record.key for record in records if not record.label_runs)
    distances = {str(record.key): distance_disagreements(record.geometry, record.dicom) for record in records}
    return PrepareSummary(out, tuple(outcomes), splits, unlabelled, tuple(disagreement_summary(distances)))


def _find(config: DatasetConfig, base: Path) -> list[VolumeFiles]:
    sources = config.sources
    if sources.is_table:
        return find_by_table(config.dataset.name, base / sources.images, base)
    return find_by_patterns(config.dataset.name, sources.images, sources.mask_pattern, sources.map_patterns, base)


def _split(config: DatasetConfig, sources: list[VolumeFiles], base: Path) -> dict[str, str]:
    """subject -> split of all subjects found, so that a refused subject does not change the split of the others."""
    subjects = {source.key.subject for source in sources}
    split = config.split
    if split.file is not None:
        return split_from_file(base / split.file, subjects)
    return split_by_fractions(subjects, {"train": split.train, "val": split.val, "test": split.test}, split.seed)


def _refuse_absent_masks(sources: list[VolumeFiles]) -> None:
    if not any(source.mask.exists() for source in sources):
        folder = sources[0].mask.parent
        state = "does not exist" if not folder.is_dir() else "is empty" if not any(folder.iterdir()) else "has none"
        raise DataError(
            f"{folder}: {len(sources)} images but no mask; this folder {state}, {sources[0].mask.name} was expected"
        )


@contextmanager
def _store_lock(out: Path) -> Iterator[None]:
    """Lock: only one prepare process writes to a store. The folder is removed again if nothing was written."""
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise DataError(f"{out}: another prepare process is writing to this store") from None
    try:
        yield
    finally:
        empty = [path.name for path in out.iterdir()] == [LOCK]
        if empty:
            (out / LOCK).unlink()
        lock.release()
        if empty:
            out.rmdir()


def _prepare_one(writer: StoreWriter, config: DatasetConfig, source: VolumeFiles) -> VolumeOutcome:
    try:
        for path in source.paths:
            if not path.exists():
                raise DataError(f"{path}: no such file or folder")
        stamp = fingerprint(source, config.conversion)
        if writer.is_finished(source.key, stamp):
            return VolumeOutcome(source.key, UNCHANGED)
        volume = prepare_volume(source, config)
        writer.write(volume, stamp)
    except DataError as error:
        return VolumeOutcome(source.key, REFUSED, str(error))
    return VolumeOutcome(source.key, STORED, notes=volume.notes)


def prepare_volume(source: VolumeFiles, config: DatasetConfig) -> PreparedVolume:
    """Image, mask and maps of one volume on the grid of the image.

    Raises:
        DataError: naming the file and the reason.
    """
    image = read_volume(source.image, config.keep, config.reading)
    with naming(source.image):
        window = intensity_window(image.array_zyx, config.intensity.clip_percentiles)
    mask = read_reordered(source.mask, image.geometry)
    with naming(source.mask):
        found = relabel(mask, config.labels, config.changes)
        as_given = config.given_instances.source == "as_given"
        instances = given_ids(mask, found) if as_given else None
    maps = {
        name: read_map(path, name, config.sources.map_source(name), image.geometry)
        for name, path in sorted(source.maps.items())
    }
    return PreparedVolume(
        key=source.key,
        geometry=image.geometry,
        image_zyx=to_uint16(image.array_zyx, window),
        mask_zyx=found,
        maps=maps,
        window=window,
        notes=image.notes,
        slices=image.slices,
        subject_fields=image.subject_fields,
        source_image=str(source.image.resolve()),
        instances_zyx=instances,
        instances_min_mm3=config.given_instances.min_mm3,
    )
