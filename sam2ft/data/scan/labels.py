"""The label table of a dataset: integers in the masks with the names that segments or label files give them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sam2ft.core.errors import listed
from sam2ft.data.prepare.relabel import plain_name
from sam2ft.data.scan.found import FoundMask
from sam2ft.data.scan.mask_contents import label_names
from sam2ft.data.scan.plan import ScanPlan


def label_table(plan: ScanPlan, stray: Sequence[Path]) -> tuple[Mapping[int, str], tuple[str, ...]]:
    """(label id -> name, notes on where the names come from).

    Names of segments go first, then those of label descriptions of ITK-SNAP among `stray`; others are `label 3`.
    """
    if plan.labels:
        return dict(enumerate(plan.labels, start=1)), ()
    masks = [mask for volume in plan.volumes for mask in volume.masks.values()]
    names = _of_segments(masks)
    by_names = any(mask.by_names for mask in masks) or any(len(given) > 1 for given in names.values())
    if by_names and all(mask.names for mask in masks):
        different = _different(name for mask in masks for name in mask.names.values())
        note = "Names of segments say which label each is, because their numbers differ between files."
        return dict(enumerate(different, start=1)), (note,)
    ids = sorted({value for mask in masks for value in mask.values})
    described, files, clashes = label_names(stray)
    found: dict[int, str] = {}
    for number in ids:
        name = next(iter(names.get(number, ())), "") or described.get(number, "") or f"label {number}"
        taken = {plain_name(one) for one in found.values()}
        found[number] = name if plain_name(name) not in taken else f"{name} {number}"
    notes = []
    if files and any(described.get(number) == name for number, name in found.items()):
        notes.append(f"Names are those of {listed([path.as_posix() for path in files], 3)}.")
    if clashes:
        notes.append(f"Label files disagree on {listed(clashes, 5)}, which are not named.")
    return found, tuple(notes)


def _of_segments(masks: Sequence[FoundMask]) -> Mapping[int, list[str]]:
    """Integer -> the different names of its segments."""
    found: dict[int, list[str]] = defaultdict(list)
    for mask in masks:
        for value, name in mask.names.items():
            if name and plain_name(name) not in map(plain_name, found[value]):
                found[value].append(name)
    return found


def _different(names: Iterable[str]) -> list[str]:
    found: dict[str, str] = {}
    for name in names:
        found.setdefault(plain_name(name), name)
    return sorted(name for name in found.values() if name.strip())
