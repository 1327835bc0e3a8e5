"""From a reference mask of one slice to what SAM 2 is prompted with. All in the ORIGINAL frame."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam2ft.core.components import components
from sam2ft.core.keys import SliceKey
from sam2ft.core.prompts import Box, Mask, box_around


@dataclass(frozen=True)
class Instance:
    """One connected component of one label in one slice (or, from `label_boxes`, all of the label)."""

    label: int
    instance: int
    """1-based, in raster order of the components of its label."""
    mask_yx: Mask
    box: Box


def instances_of(mask_yx: npt.NDArray[np.integer], label_ids: Collection[int]) -> list[Instance]:
    """Every connected component of every label of `label_ids` in a label map of one slice, by label, then number."""
    found = []
    for label in _present(mask_yx, label_ids):
        numbered, _ = components(mask_yx == label)
        for number, window in enumerate(ndimage.find_objects(numbered), start=1):
            rows, columns = window
            box = Box(columns.start, rows.start, columns.stop - 1, rows.stop - 1)
            found.append(Instance(label, number, numbered == number, box))
    return found


def label_boxes(mask_yx: npt.NDArray[np.integer], label_ids: Collection[int]) -> list[Instance]:
    """One prompt per label present: all of the label, in one box, as instance 1."""
    masks = ((label, mask_yx == label) for label in _present(mask_yx, label_ids))
    return [Instance(label, 1, mask, box_around(mask)) for label, mask in masks]


def _present(mask_yx: npt.NDArray[np.integer], label_ids: Collection[int]) -> list[int]:
    wanted = set(label_ids)
    return [int(label) for label in np.unique(mask_yx) if int(label) in wanted]


def draw(purpose: str, seed: int, epoch: int, key: SliceKey, *instance: int) -> np.random.Generator:
    """The generator of one draw: a function of what is drawn, for whom and when, and of nothing else.

    Neither the number of workers, nor ranks, nor the point of resumption changes it. `instance` is (label, number).
    """
    name = "\0".join((purpose, str(seed), str(epoch), key.dataset, key.subject, key.volume, str(key.index)))
    digest = hashlib.sha256("\0".join((name, *map(str, instance))).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def choose(instances: Sequence[Instance], most: int | None, rng: np.random.Generator) -> list[Instance]:
    """At most `most` of the instances (None: all), drawn without replacement, in their given order."""
    if most is None or len(instances) <= most:
        return list(instances)
    chosen = rng.choice(len(instances), size=most, replace=False)
    return [instances[i] for i in sorted(chosen)]
