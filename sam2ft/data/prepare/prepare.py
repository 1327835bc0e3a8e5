"""Preparation of a dataset: find files, split subjects, convert and write volumes to the store.

Volumes that are finished and unchanged are not prepared again.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from sam2ft.config.load_dataset import DatasetConfig
from sam2ft.config.schema.sources import ALL_FOLDS
from sam2ft.core.errors import DataError
from sam2ft.core.given.wrong_kind import Wanted, there_is
from sam2ft.core.keys import VolumeKey
from sam2ft.core.parallel import parallel_map
from sam2ft.core.quiet import quiet_readers
from sam2ft.data.dicom.file import headers_kept
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
from sam2ft.data.prepare.pseudonyms import Pseudonyms, recorded_names, store_names
from sam2ft.data.prepare.volume import prepare_volume
from sam2ft.data.sources.find import find_sources, left_out
from sam2ft.data.sources.paths import Folders
from sam2ft.data.sources.row import VolumeFiles, chosen_reading, fingerprint
from sam2ft.data.splits.choose import ChosenSplits, Known, choose_splits
from sam2ft.data.store.covariates import Covariates, covariates_of
from sam2ft.data.store.drawn_labels import partial_labels
from sam2ft.data.store.slice_metadata import disagreement_summary, distance_disagreements
from sam2ft.data.store.split import SPLITS, folds_from_file, split_from_file
from sam2ft.data.store.store import Store
from sam2ft.data.store.writer import StoreWriter

LOCK = ".prepare.lock"


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
    writer = StoreWriter(out, about.name, about.anatomy, config.labels, config.split.seed, upgrade, about.modality)
    writer.check()
    _refuse_absent_masks(found)
    with store_lock(out):
        names, key_notes = store_names(config, base, out, writer.found[0], found)
        sources = names.renamed(found)
        recorded = recorded_names(names, config, base, out)
        writer = replace(writer, names=recorded, covariates=_covariates(config, sources))
        stored = writer.indexed  # read once, here, and sent to the processes with the writer
        splits = _splits(config, sources, base, writer, names)
        prepared = _prepared(writer, config, sources, progress, options, names)
        missing = tuple(sorted(stored.keys() - {source.key for source in sources}))
        readable = {outcome.key for outcome in prepared if outcome.result != REFUSED}
        surplus = Surplus(missing, tuple(writer.unused_files(readable, without=missing)))
        pruned = options.prune is not None and bool(surplus.files) and options.prune(surplus)
        gone = missing if pruned else ()
        images = {source.key: source.image for source in sources}
        outcomes, same = without_leaks(writer, prepared, splits.split_of, images, ignored=gone, absent=missing)
        done = _prepared_keys(config, outcomes)
        if options.upgrade is not None and writer.is_older:
            _upgrade(writer, outcomes, [key for key in missing if key not in gone], options.upgrade)
        kept = stored.keys() - done - set(gone)
        _refuse_mixed_labels(writer, config, kept, outcomes)
        writer.finish(done, splits.split_of, without=gone, folds=splits.folds)
        for path in surplus.files if pruned else ():
            path.unlink()
    kept_sources = frozenset(kept - set(missing))
    stay = tuple(key for key in missing if key in kept)
    summary = _summary(out, outcomes, stay, kept_sources, Surplus((), ()) if pruned else surplus)
    notes = [*left_out(config, base), *splits.notes, *writer.found[1], *same, *partial_labels(Store.open(out))]
    notes += _damaged(out, (*stay, *kept_sources)) if options.verify else []
    return replace(summary, notes=tuple(notes), key_notes=key_notes, balance=splits.balance)


def _prepared_keys(config: DatasetConfig, outcomes: Sequence[VolumeOutcome]) -> set[VolumeKey]:
    """The volumes that were not refused; DataError if all were."""
    if done := {outcome.key for outcome in outcomes if outcome.result != REFUSED}:
        return done
    reasons = "\n".join(f"  {line}" for line in refused_lines(outcomes))
    raise DataError(f"no volume of {config.dataset.name} could be prepared:\n{reasons}")


def _covariates(config: DatasetConfig, sources: Sequence[VolumeFiles]) -> tuple[Covariates, tuple[str, ...]]:
    return {source.key: source.described for source in sources}, config.sources.keep_covariates


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


def _splits(
    config: DatasetConfig, sources: list[VolumeFiles], base: Path, writer: StoreWriter, names: Pseudonyms
) -> ChosenSplits:
    """Split and folds of all subjects found and stored.

    Refused subjects are included, so that they do not change the split of the others.
    """
    stored = frozenset(key.subject for key in writer.indexed)
    split, covariates = config.split, covariates_of(writer.found[0] or {})
    known = Known(stored, writer.splits, writer.folds, {key.subject: of for key, of in covariates.items()})

    def of_file() -> list[dict[str, str]]:
        subjects = {source.key.subject for source in sources}
        called = names.stored_name(subjects | stored | writer.splits.keys())
        paths = {} if names.subject_id == "folder" else {source.key.subject: source.image for source in sources}

        def shown(name: str) -> str:
            return f"{name} ({paths[name]})" if paths else name

        path = base / (split.file or "")
        if split.fold == ALL_FOLDS:
            return folds_from_file(path, subjects, stored, called, shown)
        return [split_from_file(path, subjects, stored, called, shown, split.fold)]

    return choose_splits(split, sources, known, of_file)


def _refuse_absent_masks(sources: list[VolumeFiles]) -> None:
    if not any(path.exists() for source in sources for path in source.paths_of_masks):
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
        _refuse_known_problem(source)
        config = replace(config, reading=chosen_reading(source, config.reading))
        with _reading(source.image):
            stamp = names.stamp(_stamp(source, config, version_1=writer.version == 1), source)
        if writer.is_finished(source.key, stamp, verify=options.verify):
            return VolumeOutcome(source.key, UNCHANGED)
        budget = config.reading.max_volume_gb * GIB
        limits = limited(source.image, budget, 60 * options.minutes, own_process=options.isolated)
        with _reading(source.image), limits, headers_kept():
            refuse_too_large(source.image, source.mask, source.maps.values(), budget, config.reading)
            for mask in source.masks.values():
                refuse_too_large(source.image, mask, (), budget, config.reading)
            volume = prepare_volume(source, config, names, version_1=writer.version == 1)
        writer.write(volume, stamp)
    except DataError as error:
        return VolumeOutcome(source.key, REFUSED, " ".join(str(error).split()))
    except ValueError:  # a number that JSON cannot hold
        reason = f"{source.image}: a number in its header is infinite or NaN and cannot be stored; mend the header"
        return VolumeOutcome(source.key, REFUSED, reason)
    return VolumeOutcome(source.key, STORED, notes=volume.notes)


def _refuse_known_problem(source: VolumeFiles) -> None:
    if source.problem:
        raise DataError(source.problem)


def _stamp(source: VolumeFiles, config: DatasetConfig, *, version_1: bool) -> str:
    for path in source.paths:
        if not path.exists():
            near = Folders().near(path) or there_is(path, Wanted.MASK)
            raise DataError(f"{path}: no such file or folder{_about_map(source, path)}{near}")
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
