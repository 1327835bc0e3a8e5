"""Which structures were drawn in each volume (partial labels): from the sources, or `labelled` of the dataset file."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from sam2ft.config.load_dataset import DatasetConfig
from sam2ft.config.schema.arguments import did_you_mean
from sam2ft.core.errors import DataError, listed
from sam2ft.core.labels import LabelTable
from sam2ft.data.sources.row import VolumeFiles

_SHOWN = 8
_KEY = "labelled"


def with_labelled(config: DatasetConfig, rows: Sequence[VolumeFiles]) -> list[VolumeFiles]:
    """`rows` with the ids of the labels that were drawn in each; None where all were.

    What the sources say of a volume (a table, a datalist) stands; `labelled` of the dataset file is for the others. The
    mask file of a label that was not drawn need not exist, where each label has a file.

    Raises:
        DataError: a label that the table of labels does not have, a subject that is none, or two that differ.
    """
    of_all, of_subjects = _of_config(config, {row.key.subject for row in rows})
    of_labels = dict.fromkeys(label for row in rows for label in row.masks)
    found = []
    for row in rows:
        of_file = of_subjects.get(row.key.subject, of_all)
        if row.labelled is None:
            found.append(_with(row, of_file, config.labels, of_labels))
            continue
        try:
            ids = config.labels.ids_meant(row.labelled)
        except DataError as error:
            # A wrong line of a table is the problem of its volume alone.
            where = f"{config.sources.images if config.sources.is_table else 'sources.layout'}: labelled of {row.image}"
            found.append(replace(row, labelled=None, problem=row.problem or f"{where}: {error}"))
            continue
        if row.key.subject in of_subjects and ids != of_file:
            raise DataError(
                f"labelled.{row.key.subject}: the labels of the dataset file and those of its sources ({row.image}) "
                "differ; allowed: one of both, or the same labels"
            )
        found.append(_with(row, ids, config.labels, of_labels))
    return found


def _of_config(
    config: DatasetConfig, subjects: Collection[str]
) -> tuple[tuple[int, ...] | None, Mapping[str, tuple[int, ...]]]:
    """(labels of all volumes, subject -> labels of its volumes), as the dataset file says."""
    given = config.labelled
    if given is None:
        return None, {}
    try:
        if not isinstance(given, Mapping):
            return config.labels.ids_meant(given), {}
        if unknown := [name for name in given if name not in subjects]:
            raise DataError(
                f"{unknown[0]} is no subject of the sources{did_you_mean(unknown[0], [*subjects])}; allowed: "
                f"{listed(sorted(subjects), _SHOWN)}"
            )
        return None, {name: config.labels.ids_meant(labels) for name, labels in given.items()}
    except DataError as error:
        raise DataError(f"{config.path or _KEY}: {_KEY}: {error}") from None


def _with(row: VolumeFiles, ids: tuple[int, ...] | None, labels: LabelTable, of_labels: Collection[str]) -> VolumeFiles:
    """`row` with these labels, and of the mask files `of_labels` those that must be or are there."""
    drawn = labels.ids if ids is None else ids
    needed = {key for key in of_labels if set(labels.ids_meant([key])) <= set(drawn)}
    if empty := [key for key in of_labels if key in needed - row.masks.keys()]:
        problem = (
            f"{row.image}: has no mask of {empty[0]}, which labelled lists; give the mask, or take it off the list"
        )
        return replace(row, labelled=None, problem=row.problem or problem)
    if len(drawn) == len(labels):
        return replace(row, labelled=None)
    masks = {key: path for key, path in row.masks.items() if key in needed or path.exists()} or row.masks
    return replace(row, labelled=drawn, masks=masks, mask=next(iter(masks.values()), row.mask))
