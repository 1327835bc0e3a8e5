"""Preparation of a dataset: find files, split subjects, convert and write volumes to the store.

Volumes that are finished and unchanged are not prepared again.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt
from filelock import FileLock, Timeout

from sam2ft.config.load_dataset import DatasetConfig
from sam2ft.config.load_experiment import plain_values
from sam2ft.core.errors import DataError, naming
from sam2ft.core.keys import VolumeKey
from sam2ft.core.parallel import parallel_map
from sam2ft.core.quiet import quiet_readers
from sam2ft.data.images.grids import Volume
from sam2ft.data.images.maps import PreparedMap, read_map
from sam2ft.data.images.volumes import read_volume
from sam2ft.data.masks.layers import Meaning
from sam2ft.data.masks.read_masks import read_masks_of_labels, read_placed_mask
from sam2ft.data.prepare.leaks import without_leaks
from sam2ft.data.prepare.limits import GIB, limited, refuse_too_large
from sam2ft.data.prepare.outcomes import (
    DEFAULTS,
    REFUSED,
    STORED,
    UNCHANGED,
    PrepareOptions,
    PrepareSummary,
    Progress,
    Surplus,
    VolumeOutcome,
    refused_lines,
)
from sam2ft.data.prepare.pseudonyms import AS_GIVEN, Pseudonyms, recorded_names, store_names
from sam2ft.data.prepare.relabel import given_ids, relabelled_volume
from sam2ft.data.sources.find import find_sources
from sam2ft.data.sources.row import VolumeFiles, fingerprint
from sam2ft.data.store.intensity import intensity_window, missing_values, to_uint16
from sam2ft.data.store.slice_metadata import disagreement_summary, distance_disagreements
from sam2ft.data.store.split import SPLITS, kept_note, moved_note, split_by_fractions, split_from_file
from sam2ft.data.store.store import Store
from sam2ft.data.store.writer import PreparedVolume, StoreWriter

LOCK = ".prepare.lock"
_ADD_LABEL = "add each to labels, to the merge of a label, or to labels_dropped of the dataset file"


def prepare_dataset(
    config: DatasetConfig, base: Path, out: Path, progress: Progress, options: PrepareOptions = DEFAULTS
) -> PrepareSummary:
    """Create or complete the store `out` of the dataset described by `config`.

    Volumes that cannot be used are refused and named in the summary; the others are prepared. Nothing that is stored is
    lost: a volume that is refused now, or whose source is away, stays as it was prepared before.

    Args:
        base: folder to which the paths in `config` are relative.

    Raises:
        DataError: when the folder is not a store of this dataset, the split is wrong, every volume is refused, or the
            labels changed and a stored volume cannot be prepared with the new ones; then the store is as it was.
        OSError: a file of the store cannot be written; volumes that were finished before are used by the next call.
    """
    found = find_sources(config, base)
    about, upgrade = config.dataset, options.upgrade is not None
    writer = StoreWriter(out, about.name, about.anatomy, config.labels, config.split.seed, upgrade)
    writer.check()
    _refuse_absent_masks(found)
    with store_lock(out):
        names, key_notes = store_names(config, base, out, writer.found[0], found)
        sources = names.renamed(found)
        writer = replace(writer, names=recorded_names(names, config, base, out))
        stored = writer.indexed  # read once, here, and sent to the processes with the writer
        split_of, notes = _split(config, sources, base, writer, names)
        prepared = _prepared(writer, config, sources, progress, options, names)
        missing = tuple(sorted(stored.keys() - {source.key for source in sources}))
        readable = {outcome.key for outcome in prepared if outcome.result != REFUSED}
        surplus = Surplus(missing, tuple(writer.unused_files(readable, without=missing)))
        pruned = options.prune is not None and bool(surplus.files) and options.prune(surplus)
        gone = missing if pruned else ()
        images = {source.key: source.image for source in sources}
        outcomes, same = without_leaks(writer, prepared, split_of, images, ignored=gone, absent=missing)
        if not (done := {outcome.key for outcome in outcomes if outcome.result != REFUSED}):
            reasons = "\n".join(f"  {line}" for line in refused_lines(outcomes))
            raise DataError(f"no volume of {config.dataset.name} could be prepared:\n{reasons}")
        if options.upgrade is not None and writer.is_older:
            _upgrade(writer, outcomes, [key for key in missing if key not in gone], options.upgrade)
        kept = stored.keys() - done - set(gone)
        _refuse_mixed_labels(writer, config, kept, outcomes)
        writer.finish(done, split_of, without=gone)
        for path in surplus.files if pruned else ():
            path.unlink()
    kept_sources = frozenset(kept - set(missing))
    stay = tuple(key for key in missing if key in kept)
    summary = _summary(out, outcomes, stay, kept_sources, Surplus((), ()) if pruned else surplus)
    damaged = _damaged(out, (*stay, *kept_sources)) if options.verify else []
    return replace(summary, notes=(*notes, *writer.found[1], *same, *damaged), key_notes=key_notes)


def _damaged(out: Path, keys: Collection[VolumeKey]) -> list[str]:
    """One sentence for each volume whose arrays or record are damaged and cannot be prepared again."""
    store, found = Store.open(out), []
    for key in sorted(keys):
        try:
            store.verify([store.record(key)])
            store.record(key).stored  # noqa: B018 (reads and verifies it)
        except DataError as error:
            found.append(f"{str(error).rpartition('; ')[0]}; its image is gone or refused: restore it from a backup")
    return found


def _summary(
    out: Path,
    outcomes: Sequence[VolumeOutcome],
    missing: tuple[VolumeKey, ...],
    kept: frozenset[VolumeKey],
    surplus: Surplus,
) -> PrepareSummary:
    records = Store.open(out).volumes
    splits = {split: len({record.key.subject for record in records if record.split == split}) for split in SPLITS}
    unlabelled = tuple(record.key for record in records if not record.label_runs)
    distances = {}
    for record in records:
        with suppress(DataError):  # a lost record
            distances[str(record.key)] = distance_disagreements(record.geometry, record.dicom)
    disagreements = tuple(disagreement_summary(distances))
    return PrepareSummary(out, tuple(outcomes), splits, unlabelled, disagreements, missing, kept, surplus)


def _prepared(
    writer: StoreWriter,
    config: DatasetConfig,
    sources: list[VolumeFiles],
    progress: Progress,
    options: PrepareOptions,
    names: Pseudonyms,
) -> list[VolumeOutcome]:
    """One outcome for each source, in their order."""
    prepare = partial(_prepare_one, writer, config, replace(options, prune=None, upgrade=None), names)
    outcomes: list[VolumeOutcome] = []
    for outcome in parallel_map(prepare, sources, options.workers, _lost if options.isolated else None):
        outcomes.append(outcome)
        progress(len(outcomes), len(sources), outcome)
    if [outcome.key for outcome in outcomes] != [source.key for source in sources]:
        raise RuntimeError(f"{len(outcomes)} results of {len(sources)} volumes; nothing was changed in {writer.folder}")
    return outcomes


def _upgrade(
    writer: StoreWriter,
    outcomes: Sequence[VolumeOutcome],
    missing: Sequence[VolumeKey],
    agreed: Callable[[Sequence[str]], bool],
) -> None:
    """List what changes when every volume is stored by the rules of the present version, and ask.

    Raises:
        DataError: a volume cannot be prepared anew, or the answer is no; the store is as it was.
    """
    lacking = [f"{outcome.key}: {outcome.reason}" for outcome in outcomes if outcome.result == REFUSED]
    lacking += [f"{key}: its image is gone (--prune removes the volume)" for key in missing]
    if lacking:
        problems = "\n".join(f"  {line}" for line in lacking)
        raise DataError(f"{writer.folder}: stays as it is, because not every volume can be prepared anew:\n{problems}")
    keys = [outcome.key for outcome in outcomes]
    if not agreed(writer.changes(keys)):
        writer.discard(keys)
        raise DataError(f"{writer.folder}: stays as it was; nothing was changed")


def _lost(source: VolumeFiles) -> VolumeOutcome:
    return VolumeOutcome(
        source.key,
        REFUSED,
        f"{source.image}: the process that read it, its mask or its maps died or hung: a damaged file, or one that "
        "needs more memory than there is; look at the files, or lower max_volume_gb",
    )


def _refuse_mixed_labels(
    writer: StoreWriter, config: DatasetConfig, kept: Collection[VolumeKey], outcomes: Sequence[VolumeOutcome]
) -> None:
    """A store has one label table: volumes that stay as they were must have been prepared with the present one."""
    index = writer.found[0]
    if not kept or index is None or index["labels"] == config.labels.to_json():
        return
    reasons = {outcome.key: outcome.reason for outcome in outcomes}
    lines = [f"  {key}: {reasons.get(key, 'its image is gone (--prune removes the volume)')}" for key in sorted(kept)]
    raise DataError(
        "\n".join(
            [
                f"{writer.folder}: the label table has changed, and these volumes cannot be prepared with the new one; "
                "bring their files back, or prepare into a new folder:",
                *lines,
            ]
        )
    )


def _split(
    config: DatasetConfig, sources: list[VolumeFiles], base: Path, writer: StoreWriter, names: Pseudonyms
) -> tuple[dict[str, str], list[str]]:
    """(subject -> split of all subjects found and stored, notes about it).

    Refused subjects are included, so that they do not change the split of the others. A subject that the store knows
    keeps its split; only a split file moves it.
    """
    stored = {key.subject for key in writer.indexed}
    subjects = {source.key.subject for source in sources}
    split = config.split
    if split.file is not None:
        called = names.stored_name(subjects | stored | writer.splits.keys())
        paths = {} if names.subject_id == "folder" else {source.key.subject: source.image for source in sources}
        of_file = split_from_file(
            base / split.file, subjects, stored, called, lambda name: f"{name} ({paths[name]})" if paths else name
        )
        return of_file, moved_note({name: writer.splits[name] for name in stored}, of_file)
    fractions = {"train": split.train, "val": split.val, "test": split.test}
    drawn = split_by_fractions(subjects | stored, fractions, split.seed, writer.splits)
    return drawn, kept_note(writer.splits, drawn, fractions)


def _refuse_absent_masks(sources: list[VolumeFiles]) -> None:
    if not any(source.mask.exists() for source in sources):
        folder = sources[0].mask.parent
        state = "does not exist" if not folder.is_dir() else "is empty" if not any(folder.iterdir()) else "has none"
        raise DataError(
            f"{folder}: {len(sources)} images but no mask; this folder {state}, {sources[0].mask.name} was expected"
        )


@contextmanager
def store_lock(out: Path) -> Iterator[None]:
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
            (out / LOCK).unlink(missing_ok=True)
        lock.release()
        if empty:
            with suppress(OSError):  # another process has just begun to write there
                out.rmdir()


def _prepare_one(
    writer: StoreWriter, config: DatasetConfig, options: PrepareOptions, names: Pseudonyms, source: VolumeFiles
) -> VolumeOutcome:
    """Store one volume, or refuse it: whatever a damaged file does to a library is a refusal of this volume alone."""
    try:
        with _reading(source.image):
            stamp = names.stamp(_stamp(source, config, version_1=writer.version == 1), source)
        if writer.is_finished(source.key, stamp, verify=options.verify):
            return VolumeOutcome(source.key, UNCHANGED)
        budget = config.reading.max_volume_gb * GIB
        with _reading(source.image), limited(source.image, budget, 60 * options.minutes, own_process=options.isolated):
            refuse_too_large(source.image, source.mask, source.maps.values(), budget)
            for mask in source.masks.values():
                refuse_too_large(source.image, mask, (), budget)
            volume = prepare_volume(source, config, names, version_1=writer.version == 1)
        writer.write(volume, stamp)
    except DataError as error:
        return VolumeOutcome(source.key, REFUSED, " ".join(str(error).split()))
    except ValueError:  # a number that JSON cannot hold
        reason = f"{source.image}: a number in its header is infinite or NaN and cannot be stored; mend the header"
        return VolumeOutcome(source.key, REFUSED, reason)
    return VolumeOutcome(source.key, STORED, notes=volume.notes)


def _stamp(source: VolumeFiles, config: DatasetConfig, *, version_1: bool) -> str:
    for path in source.paths:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder{_about_map(source, path)}")
    return fingerprint(source, config.conversion, version_1=version_1)


@contextmanager
def _reading(image: Path) -> Iterator[None]:
    """Turn any other exception of a reader into a DataError, and keep what libraries print to themselves."""
    try:
        with quiet_readers():
            yield
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001  # libraries raise anything for a damaged file
        # Not the text of the error: libraries quote what they cannot read, which may be a person's name.
        raise DataError(f"{image}: it, its mask or a map of it cannot be read ({type(error).__name__})") from None


def _about_map(source: VolumeFiles, path: Path) -> str:
    """What to do when a map is absent; empty for another file."""
    names = [name for name, given in source.maps.items() if given == path]
    return f"; sources.maps.{names[0]}.optional: true prepares subjects without this map" if names else ""


def _given_mask(source: VolumeFiles, image: Volume, config: DatasetConfig) -> tuple[Volume, Mapping[int, int]]:
    """(the mask of a volume on the grid of its image, value -> label id)."""
    if source.masks:
        mask = read_masks_of_labels(source.masks, image, config.reading, config.labels)
        return mask, {label: label for label in config.labels.ids}
    meaning = Meaning(config.labels, config.changes, config.given_instances.source == "as_given")
    return read_placed_mask(source.mask, image, config.reading, meaning), config.changes


def _maps(
    source: VolumeFiles, image: Volume, mask_zyx: npt.NDArray[Any], config: DatasetConfig
) -> dict[str, PreparedMap]:
    """Name -> map of a volume on the grid of its image, whose mask is `mask_zyx`."""
    found = {}
    for name, path in sorted(source.maps.items()):
        settings = config.sources.map_source(name)
        axis = image.file_axis
        found[name] = read_map(path, name, settings, image.geometry, mask_zyx, config.reading, image_axis=axis)
    return found


def _grid_facts(mask: Volume) -> dict[str, Any]:
    """What `grid` of the dataset file changed of a mask; empty where it lies on the grid of its image."""
    return {"mask_grid": mask.facts["grid"]} if "grid" in mask.facts else {}


def prepare_volume(
    source: VolumeFiles, config: DatasetConfig, names: Pseudonyms = AS_GIVEN, *, version_1: bool = False
) -> PreparedVolume:
    """Image, mask and maps of one volume on the grid of the image.

    Args:
        names: how UIDs enter the record, and whether the path of the image does.
        version_1: by the rules of stores of version 1 (see `read_volume`).

    Raises:
        DataError: naming the file and the reason.
    """
    image = read_volume(source.image, config.keep, config.reading, version_1=version_1)
    with naming(source.image):
        window = intensity_window(image.array_zyx, config.intensity)
    levels, missing = to_uint16(image.array_zyx, window), missing_values(image.array_zyx)
    image = replace(image, array_zyx=levels)  # before the mask is read: signals need twice as much memory
    given, changes = _given_mask(source, image, config)
    with naming(source.mask):
        found, mask_notes = relabelled_volume(given, config.labels, changes, _ADD_LABEL)
        as_given = config.given_instances.source == "as_given"
        instances = given_ids(given.array_zyx, found, changes) if as_given else None
    maps = _maps(source, image, found, config)
    intensity = {"intensity": plain_values(config.intensity.chosen)}
    notes = [*image.notes, *missing, *given.notes, *mask_notes]
    notes += [note for one in maps.values() for note in one.notes]
    notes += [f"has no map {name} (optional)" for name in sorted({*config.sources.maps} - {*maps})]
    return PreparedVolume(
        key=source.key,
        geometry=image.geometry,
        image_zyx=levels,
        mask_zyx=found,
        maps=maps,
        window=window,
        notes=tuple(dict.fromkeys(notes)),
        facts={**image.facts, **image.nearest_facts, **_grid_facts(given), **intensity},
        slices=names.slices(image.slices),
        subject_fields=image.subject_fields,
        source_image=str(source.image.resolve()) if names.with_paths else None,
        instances_zyx=instances,
        instances_min_mm3=config.given_instances.min_mm3,
    )
