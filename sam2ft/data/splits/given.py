"""Splits that the sources give: a column of the table, the lists of a layout, or its folds; they rule over a draw."""

from collections.abc import Mapping, Sequence

from sam2ft.config.schema.sources import DRAWN, Split
from sam2ft.core.errors import DataError
from sam2ft.data.sources.row import VolumeFiles
from sam2ft.data.store.split import SPLITS


def given_splits(sources: Sequence[VolumeFiles]) -> dict[str, str]:
    """Subject -> split, of the subjects for which the sources give one; `checked_rows` has seen that it is one."""
    return {source.key.subject: source.split for source in sources if source.split is not None}


def refuse_useless_keys(split: Split, *, names_all: bool) -> None:
    """Refuse keys of the dataset file that would do nothing beside splits that the sources give.

    Args:
        names_all: whether the sources give the split of every subject.

    Raises:
        DataError: there is one.
    """
    useless = [name for name in (*SPLITS, *DRAWN) if name in split.model_fields_set and names_all]
    if split.file is None and not useless:
        return
    key = "split.file" if split.file is not None else f"split.{useless[0]}"
    raise DataError(
        f"{key}: the sources give the split of every subject (column split of the table, or the layout), so that "
        "the key would do nothing; leave out one of the two"
        if useless
        else f"{key}: the sources give splits too (column split of the table, or the layout); leave out one of them"
    )


def shares_beside(split: Split, given: Mapping[str, str]) -> dict[str, float]:
    """Shares of the subjects that the sources give no split: 0 of the splits that they give (a test set, mostly)."""
    return {name: 0.0 if name in given.values() else float(getattr(split, name)) for name in SPLITS}
