"""Who a file belongs to: the folder, or the part of a file name, that tells subjects apart."""

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sam2ft.data.formats.readers import stem_of
from sam2ft.data.scan.found import FoundImage, FoundMask, Grid

_GENERIC = re.compile(r"(im(g|ages?)|dicoms?|dcm|data|volumes?|scans?|raw|nifti|series|mri?|ct)[\d_]*")
"""Names of folders and files that name no subject."""
_SEPARATORS = re.compile(r"[_\-. ]+")


@dataclass
class Subjects:
    """The subjects of a scan, and how they were told apart."""

    of_place: dict[Path, str] = field(default_factory=dict)
    """Place of an image -> its subject."""
    level: int | None = None
    """Which folder below the scanned one names them, from 1; 0: each scanned folder is one; None: file names, or there
    is one subject."""
    rule: str = ""
    """How subjects were told apart, in words."""
    warnings: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return sorted(set(self.of_place.values()))


def subjects_of(
    images: Sequence[FoundImage],
    level: int | None = None,
    masks: Sequence[FoundMask] = (),
    roots: Sequence[Path] = (),
) -> Subjects:
    """The subject of every image.

    Args:
        level: the folder below the scanned one that names subjects, from 1; None: found by the rules below.
        masks: where folders differ at several levels, the names of masks say which of them names subjects.
        roots: the folders that the user named. Several with images may be a subject each (`scan case01 case02`), and
            one name in two of them is not one subject; an unpacked archive is part of the folder that held it.

    The first folder level at which folders differ names the subjects, unless the PatientID of DICOM images says that
    such a folder holds several persons: then a deeper one. Files that lie together are told apart by their names.
    """
    if not images:
        return Subjects()
    if level is not None:
        result = _by_level(images, level - 1, f"folder level {level} as given", roots)
        result.warnings += [*_several_persons(images, result), *_shared_patients(images, result)]
        return result
    if found_roots := _by_roots(images, masks, roots):
        return found_roots
    folders = {image: image.parts if image.is_dicom and image.place.is_dir() else image.parts[:-1] for image in images}
    found = _level(images, folders, _words_of(masks))
    if found is None:
        files = not any(image.is_dicom and image.place.is_dir() for image in images)
        result = _by_names(images) if files and not _are_of_one(images, masks) else _one_subject(images)
        result.warnings += _several_persons(images, result)
        return result
    result = _by_level(images, found, f"folder level {found + 1} below the scanned folder", roots)
    result.warnings += _shared_patients(images, result)
    return result


def _by_roots(images: Sequence[FoundImage], masks: Sequence[FoundMask], roots: Sequence[Path]) -> Subjects | None:
    """The scanned folders as subjects; None: one of them holds several, or they have no names of their own."""
    homes: dict[Path, list[FoundImage]] = defaultdict(list)
    for image in images:
        homes[image.root].append(image)
    names = {root: root.resolve().name for root in homes}
    if len(homes) < 2 or not set(homes) <= set(roots) or len(set(names.values())) < len(names):
        return None
    if any(len(subjects_of(own, masks=masks).names) > 1 for own in homes.values()):
        return None
    if _one_study(images) or _are_kinds({(names[root],): own for root, own in homes.items()}):
        return None
    found = Subjects({image.place: names[image.root] for image in images}, 0, "the folders that were named")
    found.warnings += [*_several_persons(images, found), *_shared_patients(images, found)]
    return found


def _words_of(masks: Sequence[FoundMask]) -> set[str]:
    """Folders and names of masks, whole and in words."""
    parts = [part.lower() for mask in masks for part in (*mask.parts[:-1], stem_of(mask.path.name))]
    return {*parts, *(word for part in parts for word in _SEPARATORS.split(part))}


def _level(images: Sequence[FoundImage], folders: Mapping[FoundImage, Sequence[str]], words: set[str]) -> int | None:
    """Index of the folder level that tells subjects apart; None: no level does."""
    deepest = min(len(parts) for parts in folders.values())
    possible: list[int] = []
    for depth in range(deepest):
        groups: dict[tuple[str, ...], list[FoundImage]] = defaultdict(list)
        for image, parts in folders.items():
            groups[tuple(parts[: depth + 1])].append(image)
        if len(groups) == 1:
            continue
        if any(len({image.uids[2] for image in group} - {""}) > 1 for group in groups.values()):
            continue
        if _one_study(images) or (not possible and _are_kinds(groups)):
            return None
        possible.append(depth)
    named = [depth for depth in possible if any(parts[depth].lower() in words for parts in folders.values())]
    return next(iter(named or possible), None)


def _one_study(images: Sequence[FoundImage]) -> bool:
    """Whether all images are DICOM images of one study of one person."""
    return all(image.uids[1] for image in images) and len({image.uids[1:] for image in images}) == 1


def _are_kinds(groups: Mapping[tuple[str, ...], Sequence[FoundImage]]) -> bool:
    """Whether folders hold kinds of images (T1/, T2/) rather than persons: more file names in them than folders."""
    files = [image for group in groups.values() for image in group if not image.is_dicom]
    if len(files) < sum(map(len, groups.values())):
        return False
    return len({stem_of(image.place.name) for image in files}) > len(groups)


def _are_of_one(images: Sequence[FoundImage], masks: Sequence[FoundMask]) -> bool:
    """Whether files are images of one person: one file, or files without a number at one place (fat.nii, water.nii).

    Where several of them have masks of their name (images/kim.nii, masks/kim.nii), they are persons.
    """
    if len({image.place for image in images}) == 1:
        return True
    first = images[0].grid
    if first is None or any(map(str.isdigit, "".join(image.place.name for image in images))):
        return False
    words = _words_of(masks)
    if len({stem for image in images if (stem := stem_of(image.place.name).lower()) in words}) > 1:
        return False
    return all(image.grid is not None and _at_one_place(image.grid, first) for image in images)


def _at_one_place(one: Grid, other: Grid) -> bool:
    """Whether two grids have the same voxels and lie less than one apart."""
    same = one.shape == other.shape and bool(np.allclose(one.edges_mm, other.edges_mm, rtol=0.01))
    return same and bool(one.volume.geometry.corner_distance_mm(other.volume.geometry) < other.edges_mm.max())


def _by_level(images: Sequence[FoundImage], depth: int, rule: str, roots: Sequence[Path] = ()) -> Subjects:
    several = len({image.root for image in images} & set(roots)) > 1
    tops = {image.root: (image.root.resolve().name,) if several and image.root in roots else () for image in images}
    prefixes = {image.place: tops[image.root] + image.parts[: depth + 1] for image in images}
    homes: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    persons: dict[str, set[str]] = defaultdict(set)
    for image in images:
        parts = prefixes[image.place]
        name = stem_of(parts[-1]) if parts else ""
        homes[name].add(parts)
        persons[name].add(image.uids[2] or str(parts))
    found = Subjects(level=depth + 1, rule=rule)
    for image in images:
        parts = prefixes[image.place]
        name = stem_of(parts[-1]) if parts else image.root.resolve().name
        # The same name in two folders (site_a/001, site_b/001) is two persons, unless they have one PatientID.
        alone = len(homes[name]) <= 1 or len(persons[name]) == 1
        found.of_place[image.place] = name if alone else "-".join((*parts[:-1], name))
    return found


def _several_persons(images: Sequence[FoundImage], subjects: Subjects) -> list[str]:
    """Subjects that hold images of several persons by PatientID."""
    persons: dict[str, set[str]] = defaultdict(set)
    for image in images:
        if image.uids[2]:
            persons[subjects.of_place[image.place]].add(image.uids[2])
    return [
        f"{subject}: {len(ids)} persons by PatientID are taken as one subject, because nothing in the folders tells "
        "them apart"
        for subject, ids in persons.items()
        if len(ids) > 1
    ]


def _shared_patients(images: Sequence[FoundImage], subjects: Subjects) -> list[str]:
    """Folders that hold one person by PatientID, though the others differ: one subject would leak into two splits."""
    names: dict[str, set[str]] = defaultdict(set)
    for image in images:
        if image.uids[2]:
            names[image.uids[2]].add(subjects.of_place[image.place])
    shared = [sorted(group) for group in names.values() if len(group) > 1]
    if len(names) == 1 and shared:
        return [
            f"all {len(shared[0])} subjects have one PatientID, as files do that were made anonymous; if they are "
            "visits of one person, give them one subject in the table of sources"
        ]
    return [
        f"{' and '.join(group)} have the same PatientID: give them one subject in the table of sources, or one person "
        "is trained on and tested"
        for group in shared
    ]


def _one_subject(images: Sequence[FoundImage]) -> Subjects:
    """All images as those of one subject, named by the first folder that they share and that is more than `images`."""
    found = Subjects(rule="all images are of one study, or lie in one folder")
    shared = [parts[0] for parts in zip(*(image.parts for image in images), strict=False) if len(set(parts)) == 1]
    names = [stem_of(part) for part in shared if not _GENERIC.fullmatch(stem_of(part).lower())]
    roots = sorted({image.root.resolve() for image in images})
    home = roots[0] if len(roots) == 1 else Path(os.path.commonpath(roots))
    for image in images:
        found.of_place[image.place] = names[0] if names else home.name or roots[0].name
    return found


def _by_names(images: Sequence[FoundImage]) -> Subjects:
    """Subjects by the first words of file names: as few words as leave fewer endings than subjects."""
    stems = {image.place: stem_of(image.place.name) for image in images}
    words = {place: [word for word in _SEPARATORS.split(stem) if word] for place, stem in stems.items()}
    most = max(map(len, words.values()))
    count = most
    for number in range(1, most):
        heads = {tuple(parts[:number]) for parts in words.values()}
        tails = {tuple(parts[number:]) for parts in words.values()}
        if len(heads) > 1 and len(tails) <= len(heads) and _tails_repeat(words, number):
            count = number
            break
    found = Subjects(rule="the names of files")
    for place, stem in stems.items():
        found.of_place[place] = _beginning(stem, count)
    if count < most:
        example = next(place for place, parts in words.items() if len(parts) > count)
        found.rule = f"the beginning of file names ({found.of_place[example]} of {example.name})"
    return found


def _tails_repeat(words: Mapping[Path, list[str]], number: int) -> bool:
    """Whether what follows the subject is a kind of image, which most subjects share."""
    tails = [tuple(parts[number:]) for parts in words.values()]
    return len(set(tails)) * 2 <= len(tails) or len(set(tails)) == 1


def _beginning(stem: str, count: int) -> str:
    """The first `count` words of a name, with their separators."""
    matches = list(_SEPARATORS.finditer(stem))
    matches = [match for match in matches if match.start() > 0]
    return stem if count > len(matches) else stem[: matches[count - 1].start()]
