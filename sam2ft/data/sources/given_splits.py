"""Splits that the sources give: a column of the table, the lists of a layout, or a fold."""

from collections.abc import Collection, Mapping, Sequence

from sam2ft.config.schema.dataset import Split
from sam2ft.core.errors import DataError
from sam2ft.data.sources.row import VolumeFiles
from sam2ft.data.store.split import SPLITS, moved_note, split_by_fractions


def given_splits(sources: Sequence[VolumeFiles]) -> dict[str, str]:
    """Subject -> split, of the subjects for which the sources give one; `checked_rows` has seen that it is one."""
    return {source.key.subject: source.split for source in sources if source.split is not None}


def split_by_sources(
    split: Split, sources: Sequence[VolumeFiles], stored: Collection[str], known: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """(subject -> split of all subjects found and stored, notes): where the sources give splits, they rule.

    Of a layout that gives only its test set, the other subjects are drawn between the other splits, by their shares.
    Subjects that the store has and the sources no longer have keep their split.

    Args:
        stored: subjects of the store.
        known: subject -> split of the store, of refused subjects too.

    Raises:
        DataError: the dataset file gives splits too.
    """
    given = given_splits(sources)
    found = {source.key.subject for source in sources}
    useless = [name for name in SPLITS if name in split.model_fields_set and found <= given.keys()]
    if split.file is not None or useless:
        key = "split.file" if split.file is not None else f"split.{useless[0]}"
        raise DataError(
            f"{key}: the sources give the split of every subject (column split of the table, or the layout), so that "
            "the key would do nothing; leave out one of the two"
            if useless
            else f"{key}: the sources give splits too (column split of the table, or the layout); leave out one of them"
        )
    shares = {name: 0.0 if name in given.values() else float(getattr(split, name)) for name in SPLITS}
    free = (found | set(stored)) - given.keys()
    # Whoever was drawn into what is now the test set of the layout is drawn anew.
    kept = {name: known[name] for name in free if name in known and (name not in found or shares[known[name]] > 0)}
    drawn = split_by_fractions(free, shares, split.seed, kept) if sum(shares.values()) else kept
    split_of = dict(sorted({**drawn, **given}.items()))
    moved = moved_note({name: known[name] for name in stored}, split_of)
    return split_of, [f"the sources move{note.removeprefix('split.file moves')}" for note in moved]
