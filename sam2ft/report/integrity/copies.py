"""Volumes of a store that are copies: the same image, nearly the same image, or the same mask under two names."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import DataError
from sam2ft.core.grouping import grouped
from sam2ft.data.prepare.leaks import ComparedVolume, SameImage, leaks
from sam2ft.data.store.store import Store
from sam2ft.report.integrity.cohort import ReportedVolume

NEAR = 0.9995
"""Two subjects whose block means correlate more than this may have one image, with noise or compression added."""
_MOST_COMPARED = 4000
"""Volumes of a larger store are not compared for images that are nearly the same: the pairs would be too many."""


def same_images(store: Store, volumes: Sequence[ReportedVolume]) -> list[SameImage]:
    """Volumes with the same image (`data/store/likeness`), each beside the first of them."""
    split_of = {one.key.subject: one.record.split for one in volumes}
    return leaks([_compared(store, one) for one in volumes if one.measured is not None], split_of)


def _compared(store: Store, one: ReportedVolume) -> ComparedVolume:
    def image() -> npt.NDArray[np.uint16] | None:
        try:
            return store.image(one.key)
        except DataError:
            return None

    means = () if one.measured is None else one.measured.means
    return ComparedVolume(one.key, False, one.record.geometry.shape_zyx, means, one.name, image)


def near_images(volumes: Sequence[ReportedVolume]) -> Iterator[tuple[ReportedVolume, ReportedVolume, float]]:
    """(one, other, correlation) of volumes of two subjects on grids of one shape whose images are nearly the same."""
    readable = [one for one in volumes if one.measured is not None]
    if len(readable) > _MOST_COMPARED:
        return
    for alike in grouped(readable, lambda one: one.record.geometry.shape_zyx).values():
        means = np.array([one.measured.means for one in alike if one.measured is not None], dtype=np.float64)
        for first, second in np.argwhere(np.triu(_correlations(means) > NEAR, 1)):
            one, other = alike[first], alike[second]
            if one.key.subject != other.key.subject:
                yield one, other, float(_correlations(means[[first, second]])[0, 1])


def _correlations(means: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Correlation of every two rows; 0 for a row of one value."""
    centred = means - means.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 0)
    return np.asarray(unit @ unit.T)


def same_masks(volumes: Sequence[ReportedVolume]) -> Iterator[tuple[ReportedVolume, ReportedVolume]]:
    """Each volume with the mask of an earlier one of another subject, voxel by voxel, and the first such one.

    Empty masks are no copies.
    """
    labelled = [one for one in volumes if one.record.label_runs]
    for alike in grouped(labelled, lambda one: one.record.arrays.get("mask", one.name)).values():
        for number, one in enumerate(alike):
            before = (other for other in alike[:number] if other.key.subject != one.key.subject)
            if (other := next(before, None)) is not None:
                yield one, other
