"""Facts about a mask and its maps, for the index and the record of a volume: readers of these need no arrays."""

from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.data.images.maps import PreparedMap
from sam2ft.data.images.voxel_passes import counts_of
from sam2ft.data.store.store import Runs


def map_facts(prepared: PreparedMap, mask_zyx: npt.NDArray[np.unsignedinteger[Any]]) -> dict[str, Any]:
    """Origin of a map, and for each label of the mask the number of voxels with a value and of all voxels."""
    finite = np.isfinite(prepared.values_zyx)
    voxels = np.bincount(mask_zyx.ravel())
    valid = np.bincount(mask_zyx[finite], minlength=len(voxels))
    labels = np.flatnonzero(voxels)
    return {
        **prepared.facts,
        "num_valid": int(finite.sum()),
        "valid_of_label": {str(label): [int(valid[label]), int(voxels[label])] for label in labels if label},
    }


def label_runs(mask_zyx: npt.NDArray[np.integer]) -> dict[int, Runs]:
    """Label id -> inclusive ranges (first, last) of the slices that contain it, for every label of the mask."""
    slices_of: dict[int, list[int]] = {}
    for index, mask_yx in enumerate(mask_zyx):
        for label in counts_of(mask_yx)[0]:
            slices_of.setdefault(int(label), []).append(index)
    return {label: _runs(indices) for label, indices in sorted(slices_of.items()) if label}


def _runs(indices: list[int]) -> Runs:
    breaks = [i for i in range(1, len(indices)) if indices[i] != indices[i - 1] + 1]
    starts, ends = [0, *breaks], [*breaks, len(indices)]
    return tuple((indices[start], indices[end - 1]) for start, end in zip(starts, ends, strict=True))
