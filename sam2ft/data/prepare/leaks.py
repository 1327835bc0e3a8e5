"""Leaks: the same image under two subjects, which is refused where they are in different splits."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.digests.verified_files import write_sealed_json
from sam2ft.core.errors import listed
from sam2ft.core.files import naming_read
from sam2ft.core.keys import VolumeKey
from sam2ft.core.system.path_errors import of_disk
from sam2ft.data.prepare.outcomes import REFUSED, VolumeOutcome
from sam2ft.data.store.index import array_path, record_path
from sam2ft.data.store.likeness import alike, block_means, same_image
from sam2ft.data.store.store import is_content
from sam2ft.data.store.writer import StoreWriter

_SHOWN = 5


@dataclass(frozen=True)
class ComparedVolume:
    """A volume whose image is compared with those of the others."""

    key: VolumeKey
    is_new: bool
    """Whether the index of the store does not have it yet, or has an earlier state of it."""
    shape_zyx: tuple[int, ...]
    means: Sequence[int]
    """`block_means` of its image."""
    source: str
    """File or folder of its image."""
    image: Callable[[], npt.NDArray[np.uint16] | None]
    """Opens the stored image; None when it cannot be read, and is not the same as any other."""


@dataclass(frozen=True)
class SameImage:
    """Two volumes with the same image."""

    volume: ComparedVolume
    """Of the two the one that is new in the store, else the one with the later key."""
    other: ComparedVolume
    is_leak: bool
    """Whether they are in different splits."""


def leaks(volumes: Sequence[ComparedVolume], split_of: Mapping[str, str]) -> list[SameImage]:
    """Volumes with the same image, also flipped, with other axes, or with intensities a x + b (see `likeness`).

    A volume that is the same as one in another split is a leak, and is not compared with later ones. Of several that
    are the same, each is named once, beside the first of them.

    Args:
        split_of: subject -> split.
    """
    ordered = sorted(volumes, key=lambda volume: (volume.is_new, volume.key))
    means = np.array([volume.means for volume in ordered], dtype=np.float64)
    partners: dict[int, list[int]] = {}
    for first, second in alike([volume.shape_zyx for volume in ordered], means) if ordered else ():
        partners.setdefault(second, []).append(first)
    found: list[SameImage] = []
    refused: set[int] = set()
    for number in sorted(partners):
        one = ordered[number]

        def in_another_split(other: int, one: ComparedVolume = one) -> bool:
            return split_of[ordered[other].key.subject] != split_of[one.key.subject]

        candidates = sorted(set(partners[number]) - refused, key=lambda other: (not in_another_split(other), other))
        partner = next((other for other in candidates if _same(ordered[other], one)), None)
        if partner is not None:
            found.append(SameImage(one, ordered[partner], is_leak=in_another_split(partner)))
            refused |= {number} if found[-1].is_leak else set()
    return found


def _same(one: ComparedVolume, other: ComparedVolume) -> bool:
    first, second = one.image(), other.image()
    if first is None or second is None:
        return False
    means = (np.array(volume.means, dtype=np.float64) for volume in (one, other))
    return same_image(first, second, *means)


def without_leaks(
    writer: StoreWriter,
    outcomes: Sequence[VolumeOutcome],
    split_of: Mapping[str, str],
    files: Mapping[VolumeKey, Path],
    *,
    ignored: Collection[VolumeKey] = (),
    absent: Collection[VolumeKey] = (),
) -> tuple[list[VolumeOutcome], list[str]]:
    """(the outcomes, in which a leak is a refusal; notes about images that are the same within a split or subject).

    Args:
        outcomes: one for each source, whose volumes are written but not in the index yet.
        split_of: subject -> split, of the sources; stored subjects that it lacks have that of the index.
        files: file or folder of the image of each source, for the message.
        ignored: stored volumes that take no part, because they are about to be removed.
        absent: stored volumes whose image is gone, for the message: they may be earlier names of others.
    """
    done = {outcome.key for outcome in outcomes if outcome.result != REFUSED}
    known = {**writer.splits, **split_of}
    same = leaks(list(_compared(writer, done, ignored, files)), known)
    reasons = {one.volume.key: _reason(one, known, absent) for one in same if one.is_leak}
    shown = [f"{one.volume.key} and {one.other.key}" for one in same if not one.is_leak]
    notes = [f"the same image, within one split or subject: {listed(shown, _SHOWN)}"] if shown else []
    # A stored volume without an outcome: its source is gone, so nothing can be refused.
    notes += [reason for key, reason in reasons.items() if key not in done]
    changed = [
        replace(outcome, result=REFUSED, reason=reasons[outcome.key], notes=()) if outcome.key in reasons else outcome
        for outcome in outcomes
    ]
    return changed, notes


def _compared(
    writer: StoreWriter, done: Collection[VolumeKey], ignored: Collection[VolumeKey], files: Mapping[VolumeKey, Path]
) -> Iterator[ComparedVolume]:
    """The volumes that the index will name, read from their records; earlier records get their block means."""
    for key, (stem, is_new) in writer.states(done, without=ignored).items():
        path = record_path(writer.folder, stem)
        record = writer.record(key, stem)
        image = partial(_opened, array_path(writer.folder, stem, "image"), record)
        if "block_means" not in record and (opened := image()) is not None:
            record = {**record, "block_means": block_means(opened)}
            if path.is_file():
                write_sealed_json(path, record)
        if "block_means" not in record:
            continue
        source = str(files.get(key) or record.get("source_image") or key)
        shape = tuple(record["geometry"]["shape_zyx"])
        yield ComparedVolume(key, is_new, shape, record["block_means"], source, image)


def _opened(path: Path, record: Mapping[str, Any]) -> npt.NDArray[np.uint16] | None:
    """A stored image, or None for one that was removed or damaged, which whoever uses the store is told."""
    if not is_content(path, record["arrays"]["image"]):
        return None
    try:
        with naming_read(path):
            image: npt.NDArray[np.uint16] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        if of_disk(error):
            raise
        return None
    return image if image.shape == tuple(record["geometry"]["shape_zyx"]) else None


def _reason(same: SameImage, split_of: Mapping[str, str], absent: Collection[VolumeKey]) -> str:
    one, other = same.volume.key, same.other.key
    renamed = f"; if {other.subject} was renamed to {one.subject}, --prune removes the old one"
    return (
        f"{same.volume.source}: is the image of {other} (flipped, turned and rescaled count as the same); "
        f"{one.subject} is in {split_of[one.subject]}, {other.subject} in {split_of[other.subject]}; the same image "
        "may be in one split only: name both one subject, list both in one split of split.file, or remove one of them"
        f"{renamed if other in absent else ''}"
    )
