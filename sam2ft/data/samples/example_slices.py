"""Selection of the example slices that are drawn after every epoch: few, fixed, and together showing every label."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from sam2ft.core.keys import SliceKey
from sam2ft.data.store.store import Store, VolumeRecord

Shares = Mapping[int, float]
"""Label id -> its area in a slice, relative to its largest area in any slice of the volume."""


def slices_to_show(stores: Sequence[Store], records: Sequence[VolumeRecord], count: int) -> tuple[SliceKey, ...]:
    """At most `count` labelled slices of `records`, sorted by key; depends only on the content of the volumes.

    Subjects take turns; if there are more than `count`, they are chosen evenly over their sorted names. Of each subject
    the slice with the largest gain is chosen: the sum over labels of the increase of the label's relative area over the
    best one shown so far; on a tie the slice with the largest sum of relative areas. (The first slices of a volume are
    mostly its edge and show one or two labels with a small area.)
    """
    store_of = {store.name: store for store in stores}
    subjects: dict[tuple[str, str], list[VolumeRecord]] = {}
    for record in sorted(records, key=lambda record: record.key):
        subjects.setdefault((record.key.dataset, record.key.subject), []).append(record)
    names = _spread(list(subjects), count)
    candidates = [
        {key: share for record in subjects[name] for key, share in _shares(store_of[name[0]], record)} for name in names
    ]
    chosen: list[SliceKey] = []
    best: dict[int, float] = {}
    while len(chosen) < count and any(candidates):
        for slices in candidates:
            if slices and len(chosen) < count:
                key = max(slices, key=lambda key: _gain(slices[key], best))  # on a tie the first
                for label, share in slices.pop(key).items():
                    best[label] = max(share, best.get(label, 0.0))
                chosen.append(key)
    return tuple(sorted(chosen))


def _spread(names: list[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    if len(names) <= count:
        return names
    return [names[(2 * i + 1) * len(names) // (2 * count)] for i in range(count)]


def _shares(store: Store, record: VolumeRecord) -> Iterator[tuple[SliceKey, Shares]]:
    mask_zyx = store.mask(record.key)
    indices = record.labelled_slices
    size = max(store.labels.ids) + 1
    areas = {i: np.bincount(np.asarray(mask_zyx[i]).ravel(), minlength=size) for i in indices}
    largest = {label: max((int(area[label]) for area in areas.values()), default=0) for label in store.labels.ids}
    for i, area in areas.items():
        held = {label: int(area[label]) / most for label, most in largest.items() if most and area[label]}
        yield record.key.slice(i), held


def _gain(shares: Shares, best: Mapping[int, float]) -> tuple[float, float]:
    added = sum(max(0.0, share - best.get(label, 0.0)) for label, share in shares.items())
    return round(added, 9), round(sum(shares.values()), 9)
