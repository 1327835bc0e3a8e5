"""Schema of what a dataset file says about its masks: one file per label, overlaps, fractions, and their grid."""

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from sam2ft.config.schema.arguments import did_you_mean, shown_value
from sam2ft.config.schema.base import REQUIRED, ReadOnlyDict, Section, plain, problem
from sam2ft.config.schema.patterns import Pattern


class SnappedGrid(Section):
    """A mask or map may lie a little beside the grid of its image."""

    snap_mm: float = plain(
        REQUIRED,
        "largest distance between the corners of a mask or map and of its image that is taken as none; never beyond "
        "half a voxel",
        unit="mm",
        gt=0,
    )


GridPolicy = Literal["exact", "lattice", "nearest", "trust-array"] | SnappedGrid


class MaskReading(Section):
    """How masks are put together and placed."""

    grid: GridPolicy = plain(
        "exact",
        "what is done to masks and maps beside the grid of their image: exact (refused beyond 0.1 voxel), {snap_mm: "
        "0.1} (shifted by at most that), lattice (cropped or padded by whole voxels), nearest (resampled to the "
        "nearest voxel), trust-array (voxels in the order of the file, whatever its header says)",
    )
    overlaps: Literal["refuse", "first", "last"] = plain(
        "refuse",
        "label of a voxel that several layers of a mask claim, with different labels: refuse, or that of the first or "
        "last of them in the order of the file (of sources.masks, where each label has a file)",
    )
    segment_from: Annotated[float, Field(gt=0, le=1)] = plain(
        0.5, "smallest fraction that belongs to a segment, in fractional DICOM segmentations", unit="1"
    )


def _some_drawn(labels: tuple[int | str, ...]) -> tuple[int | str, ...]:
    if not labels:
        raise problem("is empty; allowed: ids or names of labels, such as [1, femur]; leave it out for all labels")
    return labels


DrawnLabels = Annotated[
    tuple[Annotated[int, Field(ge=1, le=65535)] | Annotated[str, Field(min_length=1)], ...], AfterValidator(_some_drawn)
]
"""Ids or names of the labels that were drawn."""


def _some(patterns: Mapping[str, str]) -> Mapping[str, str]:
    if not patterns:
        raise problem("is empty; allowed: a pattern, or a mapping {label: pattern}")
    return ReadOnlyDict(patterns)


MasksOfLabels = Annotated[Mapping[str, Pattern], AfterValidator(_some)]
"""Name or id of a label -> pattern of its mask."""


def masks_of_labels_problems(given: Mapping[str, str], names: Mapping[str, str], *, as_given: bool) -> dict[str, str]:
    """Key -> message, for keys of `sources.masks` that are no labels.

    Args:
        given: key -> pattern.
        names: id of each label -> its name.
        as_given: whether the integers of masks are instances.
    """
    id_of = {**{number: number for number in names}, **{name: number for number, name in names.items()}}
    found = {
        f"sources.masks.{key}": f"found {shown_value(key)}{did_you_mean(key, [*id_of])}; allowed: {', '.join(id_of)}"
        for key in given
        if key not in id_of
    }
    counts = Counter(id_of[key] for key in given if key in id_of)
    for key in given:
        if key in id_of and counts[id_of[key]] > 1:
            found[f"sources.masks.{key}"] = "is given by name and by id; allowed: one mask for each label"
    if given and as_given:
        found["instances.source"] = (
            "found as_given, but a mask of one label holds no ids of instances; allowed: components, or one mask file "
            "for all labels (sources.masks: PATTERN)"
        )
    return found
