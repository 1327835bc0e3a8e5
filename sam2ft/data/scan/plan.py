"""The volumes of a dataset: every mask with one image, and what was left out, each with its reason."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam2ft.core.errors import DataError, listed
from sam2ft.core.keys import checked_name
from sam2ft.data.formats.readers import stem_of
from sam2ft.data.scan.found import FoundImage, FoundMask
from sam2ft.data.scan.kinds import ImageKind, fits, mask_kind, mask_kinds
from sam2ft.data.scan.mask_contents import are_versions
from sam2ft.data.scan.pairing import Pair, Pairing, nearness, same_study, shown_place
from sam2ft.data.scan.subjects import Subjects

_MOST_NAMES = 5
_MOST_SUBJECTS = 3


@dataclass(frozen=True, eq=False)
class MaskUnit:
    """The mask of an image: one file, or one file per label."""

    subject: str
    masks: Mapping[str, FoundMask]
    """Label -> its file; the only key is empty where one file holds all labels."""
    images: tuple[FoundImage, ...]
    """Images that it may belong to."""

    @property
    def first(self) -> FoundMask:
        return next(iter(self.masks.values()))


@dataclass(eq=False)
class PlannedVolume:
    """One line of the dataset."""

    subject: str
    volume: str
    image: FoundImage
    masks: Mapping[str, FoundMask]
    series: Mapping[str, Any] = field(default_factory=dict)
    """Keys that choose its images in its folder; empty: there is nothing to choose, or one choice for all."""


@dataclass
class ScanPlan:
    """What a dataset file would list."""

    volumes: list[PlannedVolume] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """(subject or path, why it is no volume)."""
    choices: list[str] = field(default_factory=list)
    """What was chosen among several, one sentence each."""
    series: Mapping[str, Any] = field(default_factory=dict)
    """`series` of the dataset file."""
    labels: tuple[str, ...] = ()
    """Names of the labels that have a file each, in their order; empty: a mask holds all labels."""
    _alike: dict[str, list[str]] = field(default_factory=dict)

    def choose(self, subject: str, text: str) -> None:
        """Tell what was chosen for a subject, in a text without its name: those of whom the same is told share it."""
        known = self._alike.setdefault(text, [])
        if known:
            self.choices.remove(f"{listed(known, _MOST_SUBJECTS)}: {text}")
        known.append(subject)
        self.choices.append(f"{listed(known, _MOST_SUBJECTS)}: {text}")

    @property
    def subjects(self) -> list[str]:
        return sorted({volume.subject for volume in self.volumes})


def planned(
    kinds: Sequence[ImageKind], subjects: Subjects, pairing: Pairing, wanted: Mapping[str, Any] | None = None
) -> ScanPlan:
    """Every mask with the image of the best kind that lies on its grid; images are of the kinds that `wanted` means."""
    rank = {image: place for place, kind in enumerate(kinds) for found in kind.images.values() for image in found}
    plan = ScanPlan()
    units = _units(pairing, plan)
    if len({tuple(unit.masks) for unit in units}) > 1:
        units = _same_labels(units, plan)
    plan.labels = tuple(name for name in (units[0].masks if units else ()) if name)
    popular = mask_kinds(pairing)
    for subject in subjects.names:
        own = [unit for unit in units if unit.subject == subject]
        _add_subject(subject, own, rank, wanted or {}, popular, plan)
    _tell_kinds(kinds, plan)
    _name_volumes(plan)
    _drop_unusable(plan)
    return plan


def _units(pairing: Pairing, plan: ScanPlan) -> list[MaskUnit]:
    """The masks of each group of images: files of one label each are one unit."""
    groups: dict[tuple[str, tuple[FoundImage, ...]], list[Pair]] = defaultdict(list)
    for pair in pairing.pairs:
        groups[pair.subject, pair.images].append(pair)
    found: list[MaskUnit] = []
    versions: dict[tuple[str, ...], bool] = {}
    for (subject, images), pairs in groups.items():
        masks = {_label(pair): pair.mask for pair in sorted(pairs, key=_label) if _holds_one_label(pair.mask)}
        names = tuple(masks)
        if 1 < len(masks) == len(pairs) and len({mask.known_as for mask in masks.values()}) == 1 and "" not in masks:
            # One subject shows what files of these names are: reading all again would take long.
            if names not in versions:
                versions[names] = are_versions(list(masks.values()))
            if not versions[names]:
                found.append(MaskUnit(subject, masks, images))
                continue
        found += [MaskUnit(subject, {"": pair.mask}, images) for pair in pairs]
    if any(len(unit.masks) > 1 for unit in found):
        labels = next(list(unit.masks) for unit in found if len(unit.masks) > 1)
        plan.choices.append(f"masks that hold one value are one file per label: {listed(labels, _MOST_NAMES)}")
    return found


def _holds_one_label(mask: FoundMask) -> bool:
    return len(mask.values) <= 1 and mask.grid is not None and not mask.names


def _label(pair: Pair) -> str:
    """The label of a file that holds one: its name without the subject, or that of its folder; empty: neither says."""
    for part in (stem_of(pair.mask.path.name), *reversed(pair.mask.parts[1:-1])):
        name = re.sub(re.escape(pair.subject), " ", part, flags=re.IGNORECASE)
        if name := re.sub(r"[_\-. ]+", " ", name).strip():
            return name
    return ""


def _same_labels(units: Sequence[MaskUnit], plan: ScanPlan) -> list[MaskUnit]:
    """The units with the labels that most subjects have; the others are left out with what they lack."""
    counts = Counter(tuple(unit.masks) for unit in units)
    usual = max(counts, key=lambda names: (counts[names], len(names)))
    kept = []
    for unit in units:
        if tuple(unit.masks) == usual:
            kept.append(unit)
        elif set(usual) <= set(unit.masks):
            more = sorted(set(unit.masks) - set(usual))
            plan.choose(unit.subject, f"{listed(more, _MOST_NAMES)} left out, which most subjects lack")
            kept.append(MaskUnit(unit.subject, {name: unit.masks[name] for name in usual}, unit.images))
        else:
            missing = sorted(set(usual) - set(unit.masks))
            what = f"has no mask of {listed(missing, _MOST_NAMES)}" if missing != [""] else "has one file per label"
            plan.left_out.append((unit.subject, what))
    return kept


def _add_subject(
    subject: str,
    units: Sequence[MaskUnit],
    rank: Mapping[FoundImage, int],
    wanted: Mapping[str, Any],
    popular: Counter[str],
    plan: ScanPlan,
) -> None:
    homes: dict[FoundImage, list[MaskUnit]] = defaultdict(list)
    taken: set[FoundImage] = set()
    for unit in sorted(units, key=lambda unit: (len(unit.images), unit.first.path)):
        candidates = [image for image in unit.images if fits(image, wanted)]
        if not candidates:
            continue
        alike = _best(unit, candidates, rank)
        image = next((one for one in alike if one not in taken), alike[0])
        if len(alike) > 1 and not same_study(alike):
            plan.left_out.append((subject, _equally(unit, alike)))
            continue
        if len(alike) > 1 and len(units) == 1:
            shown = listed([_shown(one, subject) for one in alike[1:]], 3)
            plan.choose(subject, f"{len(alike)} images fit the mask; {_shown(image, subject)} is taken, not {shown}")
        taken.add(image)
        homes[image].append(unit)
    if not homes:
        told = {name for name, _ in plan.left_out}
        if subject not in told:
            reason = "its masks lie on no image of the chosen series" if units else "no mask was found on its images"
            plan.left_out.append((subject, reason))
    for image, given in homes.items():
        ordered = sorted(given, key=lambda unit: _mask_rank(unit, popular))
        if len(ordered) > 1:
            first, *others = [shown_place(unit.first.path, unit.first.root, subject) for unit in ordered]
            plan.choose(subject, f"{len(ordered)} masks fit the image; {first} is taken, not {listed(others, 3)}")
        plan.volumes.append(PlannedVolume(subject, "", image, ordered[0].masks))


def _mask_rank(unit: MaskUnit, popular: Counter[str]) -> tuple[bool, int, Path]:
    """The rule among several masks of an image: those called so, then the kind of most subjects, then by name."""
    return unit.first.known_as == "content", -popular[mask_kind(unit.first, unit.subject)], unit.first.path


def _best(unit: MaskUnit, candidates: Sequence[FoundImage], rank: Mapping[FoundImage, int]) -> list[FoundImage]:
    """The images that the path of a mask is nearest to, and of these the ones of the best kind."""
    near = {
        image: nearness(unit.first, unit.subject, image, [one for one in candidates if one is not image])
        for image in candidates
    }
    first = [image for image in candidates if near[image] == max(near.values())]
    return [image for image in first if rank[image] == min(rank[one] for one in first)]


def _equally(unit: MaskUnit, images: Sequence[FoundImage]) -> str:
    """Why a mask is left out that may have been drawn on any of several images of one kind, such as two visits."""
    shown = listed([_shown(one, "") for one in images], 3)
    return (
        f"its mask {unit.first.path.name} fits {len(images)} images of one kind ({shown}), and its path names none of "
        "them; put it into the folder of its image, or name it so"
    )


def _shown(image: FoundImage, subject: str) -> str:
    name = shown_place(image.place, image.root, subject) if image.parts else str(image.place)
    return name + ("" if image.number is None else f" (series {image.number})")


def _tell_kinds(kinds: Sequence[ImageKind], plan: ScanPlan) -> None:
    used = Counter[str]()
    home = {image: kind for kind in kinds for images in kind.images.values() for image in images}
    for volume in plan.volumes:
        used[home[volume.image].name or "(no description)"] += 1
    if len(used) > 1:
        shown = listed([f"{count} of {name}" for name, count in used.most_common()], _MOST_NAMES)
        plan.choices.append(
            f"images of {len(used)} kinds are used, each with a mask that names it or fits no other: {shown}"
        )


def _name_volumes(plan: ScanPlan) -> None:
    """A name for each volume: `image`, or its series and echo, with the folders (L, R) that tell those of one name."""
    counts = Counter(volume.subject for volume in plan.volumes)
    groups: dict[tuple[str, str], list[PlannedVolume]] = defaultdict(list)
    for volume in plan.volumes:
        volume.volume = "image" if max(counts.values()) == 1 else _series_name(volume)
        groups[volume.subject, volume.volume].append(volume)
    for group in groups.values():
        folders = _telling_folders(group)
        for number, volume in enumerate(group, start=1):
            if folders:
                volume.volume = f"{folders[number - 1]} {volume.volume}"
            elif number > 1:
                volume.volume += f" {number}"


def _series_name(volume: PlannedVolume) -> str:
    image = volume.image
    name = stem_of(image.place.name)
    name = re.sub(re.escape(volume.subject), "", name, flags=re.IGNORECASE).strip("_-. ") or name
    return name + ("" if image.echo_ms is None or image.place.is_file() else f" {image.echo_ms:g} ms")


def _telling_folders(volumes: Sequence[PlannedVolume]) -> list[str]:
    """The first folder that differs between all of several volumes; none: no level tells them apart."""
    paths = [volume.image.place.parts[:-1] for volume in volumes]
    for level in zip(*paths, strict=False):
        if len(volumes) > 1 and len(set(level)) == len(volumes):
            return list(level)
    return []


def _drop_unusable(plan: ScanPlan) -> None:
    """Leave out volumes that `prepare` would refuse, with its reason."""
    kept = []
    for volume in plan.volumes:
        reason = "; ".join(volume.image.problems)
        try:
            checked_name("subject", volume.subject)
            checked_name("volume", volume.volume)
        except DataError as error:
            reason = str(error)
        if reason:
            plan.left_out.append((volume.subject, f"{volume.image.place}: {reason}"))
        else:
            kept.append(volume)
    plan.volumes = kept
