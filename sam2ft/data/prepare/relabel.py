"""Relabelling of masks: integers in a mask file to the ids of the label table."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import DataError, listed
from sam2ft.core.labels import LabelTable

MOST = np.iinfo(np.uint16).max


def mask_dtype(labels: LabelTable) -> type[np.uint8] | type[np.uint16]:
    """The smallest unsigned integer type for all ids of the table."""
    return np.uint8 if max(labels.ids) <= np.iinfo(np.uint8).max else np.uint16


def relabel(
    mask_zyx: npt.NDArray[Any], labels: LabelTable, changes: Mapping[int, int]
) -> npt.NDArray[np.unsignedinteger[Any]]:
    """`mask_zyx` with the ids of `labels`.

    Args:
        changes: value in the file -> label id, 0 to drop it; the value 0 stays 0.

    Raises:
        DataError: naming ids and voxel counts; when a value is not an integer >= 0, or is not in `changes`.
    """
    if mask_zyx.dtype.kind == "f":
        whole = np.isfinite(mask_zyx) & (mask_zyx == np.floor(mask_zyx))
        if not whole.all():
            raise DataError(f"the mask has {int((~whole).sum())} values that are not whole numbers; expected label ids")
    counts = _counts(mask_zyx)
    new_id = {**changes, 0: 0}
    if unknown := [value for value in counts if value not in new_id]:
        found = listed([f"{value} ({counts[value]} voxels)" for value in unknown], 10)
        raise DataError(f"unknown label id {found}; the label table has {labels.describe()}")
    target = np.zeros(max(counts) + 1, dtype=mask_dtype(labels))
    target[list(counts)] = [new_id[value] for value in counts]
    return target[mask_zyx.astype(np.int64)]


def _counts(mask_zyx: npt.NDArray[Any]) -> dict[int, int]:
    """Value -> number of voxels."""
    if mask_zyx.min() < 0 or mask_zyx.max() > MOST:
        found = np.unique(mask_zyx)
        raise DataError(f"the mask has values from {found[0]:g} to {found[-1]:g}; label ids are 0 to {MOST}")
    counts = np.bincount(mask_zyx.astype(np.int64).ravel())
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}


def given_ids(
    mask_zyx: npt.NDArray[Any], relabelled_zyx: npt.NDArray[np.unsignedinteger[Any]]
) -> npt.NDArray[np.uint16]:
    """Ids of the instances that a mask file gives: uint16 zyx, the integers of the file where a label is, else 0.

    Args:
        mask_zyx: the mask as it is in the file.
        relabelled_zyx: what `relabel` made of it, which refuses values that are not whole numbers of 0 to 65535.

    Raises:
        DataError: a label has the id 0.
    """
    whole = np.rint(mask_zyx) if mask_zyx.dtype.kind == "f" else mask_zyx
    ids = np.where(relabelled_zyx != 0, whole, 0).astype(np.uint16)
    if without := int(((relabelled_zyx != 0) & (ids == 0)).sum()):
        raise DataError(
            f"{without} voxels with a label have no id of an instance; ids are whole numbers of 1 to {MOST}: export "
            "the mask as integers, or set instances.source to components"
        )
    return ids
