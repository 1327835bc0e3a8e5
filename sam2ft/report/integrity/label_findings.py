"""Findings of the integrity report about labels and copies: one plain sentence each, with the volumes concerned."""

from collections import Counter
from collections.abc import Iterator, Sequence

from sam2ft.core.errors import listed, number_of
from sam2ft.core.grouping import grouped
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label
from sam2ft.data.prepare.leaks import SameImage
from sam2ft.report.integrity.cohort import ReportedStore, ReportedVolume
from sam2ft.report.integrity.copies import near_images, same_masks
from sam2ft.report.integrity.findings import BAD, CHECK, NOTE, Details, StoreFinding, finding
from sam2ft.report.integrity.out_of_line import VOLUME, judged
from sam2ft.report.integrity.sides import SidePair, body_middle, side_pairs, wrong_side

FEWEST_VOXELS = 10
"""A label of fewer voxels is called tiny."""
USUAL_SHARE = 0.8
"""A label that at least this part of the volumes has is missed where it is empty."""
NATURAL_SHARE = 0.25
"""Where a side cuts a label in more than this part of the volumes, the structure is larger than the image."""
_MOST_LISTED = 8


def findings_of_labels(store: ReportedStore) -> Iterator[StoreFinding]:
    """All findings that concern labels."""
    found = [(one, "") for one in store.volumes if one.measured is not None and not one.labels]
    sentence = f"{number_of(len(found), 'volume')} without any label: an empty mask, or a mask of another image"
    yield from finding("no label", CHECK, sentence, found)
    for pair in side_pairs(store.labels):
        yield from _sides(store, pair)
    yield from _unused(store)
    yield from _empty(store)
    yield from _tiny(store)
    yield from _sizes(store)
    yield from _cuts(store)
    yield from _specks(store)


def findings_of_copies(store: ReportedStore, same: Sequence[SameImage]) -> Iterator[StoreFinding]:
    """Findings about images and masks that are under two names.

    Args:
        same: see `copies.same_images`.
    """
    by_key = {one.key: one for one in store.volumes}
    first = {one.volume.key: one.other.key for one in same}

    def of_one_image(one: ReportedVolume, other: ReportedVolume) -> bool:
        return first.get(one.key, one.key) == first.get(other.key, other.key)

    for is_leak, level in ((True, BAD), (False, CHECK)):
        found = [(by_key[one.volume.key], f"as {_name(one.other.key)}") for one in same if one.is_leak == is_leak]
        where = "in two splits: what is trained on is also tested on" if is_leak else "within one split or subject"
        are = "image is" if len(found) == 1 else "images are"
        sentence = f"{len(found)} {are} there twice (flipped, turned and rescaled count as the same), {where}"
        yield from finding("same image", level, sentence, found)
    pairs = [found for found in near_images(store.volumes) if not of_one_image(*found[:2])]
    near = [(one, f"and {other.name}, correlation {value:.5f}") for one, other, value in pairs]
    sentence = f"{number_of(len(near), 'pair')} of subjects with nearly the same image, as a copy with noise has it"
    yield from finding("near copy", CHECK, sentence, near)
    masks = [pair for pair in same_masks(store.volumes) if not of_one_image(*pair)]
    equal = "mask is" if len(masks) == 1 else "masks are"
    sentence = f"{len(masks)} {equal} the same as that of another subject, voxel by voxel"
    yield from finding("same mask", BAD, sentence, [(one, f"as {other.name}") for one, other in masks])


def _name(key: VolumeKey) -> str:
    return f"{key.subject}/{key.volume}"


def _labelled(store: ReportedStore, label: Label) -> list[ReportedVolume]:
    """Volumes with labels in which this one was drawn, if it is there."""
    drawn = [one for one in store.volumes if one.was_drawn(label.id)]
    return [one for one in drawn if one.labels]


def _having(store: ReportedStore, label: Label) -> list[ReportedVolume]:
    return [one for one in store.volumes if label.id in one.labels]


def _by_volume(found: Details) -> Details:
    """One line per volume, with the details of all its labels."""
    of_number = grouped(found, lambda pair: pair[0].number)
    return [(own[0][0], "; ".join(detail for _, detail in own)) for _, own in sorted(of_number.items())]


def _unused(store: ReportedStore) -> Iterator[StoreFinding]:
    unused = [label.name for label in store.labels if _labelled(store, label) and not _having(store, label)]
    if unused:
        verb = "is" if len(unused) == 1 else "are"
        sentence = f"{', '.join(unused)} {verb} in no mask: check the values under labels of the dataset file"
        yield StoreFinding("unused label", CHECK, sentence)


def _empty(store: ReportedStore) -> Iterator[StoreFinding]:
    found: list[tuple[ReportedVolume, str]] = []
    for label in store.labels:
        labelled, having = _labelled(store, label), _having(store, label)
        if having and len(having) >= USUAL_SHARE * len(labelled):
            found += [(one, label.name) for one in labelled if label.id not in one.labels]
    volumes = _by_volume(found)
    sentence = f"{number_of(len(volumes), 'volume')} without a label that nearly all others have"
    yield from finding("empty label", CHECK, sentence, volumes)


def _tiny(store: ReportedStore) -> Iterator[StoreFinding]:
    found = []
    for label in store.labels:
        having = [one for one in _having(store, label) if _is_tiny(one, label.id)]
        found += [(one, f"{label.name} {number_of(one.labels[label.id].voxels, 'voxel')}") for one in having]
    volumes = _by_volume(found)
    sentence = f"{number_of(len(volumes), 'volume')} with a tiny label: a slip of the brush, or the edge of a structure"
    yield from finding("tiny label", CHECK, sentence, volumes)


def _is_tiny(one: ReportedVolume, label: int) -> bool:
    return one.labels[label].voxels < FEWEST_VOXELS


def _sizes(store: ReportedStore) -> Iterator[StoreFinding]:
    found = []
    for label in store.labels:
        for group in store.groups:
            own = [one for one in group if label.id in one.labels and not _is_tiny(one, label.id)]
            volumes = [one.volume_ml(label.id) or 0.0 for one in own]
            result = judged(volumes, VOLUME)
            if not result.is_mixed:
                median = f"{result.median:.3g}"
                found += [(own[at], f"{label.name} {volumes[at]:.3g} mL, median {median}") for at in result.outside]
    volumes_found = _by_volume(found)
    sentence = f"{number_of(len(volumes_found), 'volume')} with a label of unusual volume"
    yield from finding("label volume", CHECK, sentence, volumes_found)


def _cuts(store: ReportedStore) -> Iterator[StoreFinding]:
    """Sides that cut a label in many volumes are noted once: the structure is larger than the image."""
    found: list[tuple[ReportedVolume, str]] = []
    usual: list[str] = []
    for label in store.labels:
        having = _having(store, label)
        counts = Counter(side for one in having for side in one.labels[label.id].cut_at)
        natural = [side for side, count in counts.items() if count > NATURAL_SHARE * len(having)]
        if natural:
            usual.append(f"{label.name} ({', '.join(f'{side} {counts[side]} of {len(having)}' for side in natural)})")
        for one in having:
            sides = [side for side in one.labels[label.id].cut_at if side not in natural]
            found += [(one, f"{label.name} at {' and '.join(sides)}")] if sides else []
    volumes = _by_volume(found)
    sentence = f"{number_of(len(volumes), 'volume')} with a label that the border of the image cuts"
    yield from finding("cut label", CHECK, sentence, volumes)
    if usual:
        sentence = (
            f"Larger than the image, so that volumes are those of the part in view: {listed(usual, _MOST_LISTED)}"
        )
        yield StoreFinding("larger than the image", NOTE, sentence)


def _specks(store: ReportedStore) -> Iterator[StoreFinding]:
    found = []
    for one in store.volumes:
        counts = {label.name: one.labels[label.id].specks for label in store.labels if label.id in one.labels}
        if any(counts.values()):
            found.append((one, ", ".join(f"{name} {count}" for name, count in counts.items() if count)))
    sentence = f"{number_of(len(found), 'volume')} with specks: parts below 5 % of the largest part of their label"
    yield from finding("specks", CHECK, sentence, found)


def _sides(store: ReportedStore, pair: SidePair) -> Iterator[StoreFinding]:
    found, judged_ones = [], 0
    for one in store.volumes:
        if one.measured is None or not ({pair.left, pair.right} & one.labels.keys()):
            continue
        judged_ones += 1
        centres = {label: measured.centre_ras_mm for label, measured in one.labels.items()}
        geometry = one.record.geometry
        if wrong := wrong_side(pair, centres, geometry, body_middle(geometry, one.measured.means)):
            found.append((one, wrong))
    whole = len(found) == judged_ones > 1
    reason = "in all volumes: left and right are swapped among the labels, or in all headers" if whole else (
        f"in {len(found)} of {number_of(judged_ones, 'volume')}: a mirrored image, or swapped labels"
    )  # fmt: skip
    yield from finding("left and right", BAD, f"{pair.name}: left and right are on the wrong side, {reason}", found)


def kinds_of_volumes(findings: Sequence[StoreFinding]) -> dict[int, list[str]]:
    """Number of a volume -> kinds of the findings about it, without notes."""
    pairs = [(place.number, one.kind) for one in findings if one.level != NOTE for place in one.places]
    found = grouped([pair for pair in pairs if pair[0] is not None], lambda pair: pair[0])
    return {int(number): list(dict.fromkeys(kind for _, kind in own)) for number, own in found.items() if number}
