"""Values of covariates of subjects: one value each, and the classes by which a draw is balanced."""

import math
import re
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sam2ft.core.errors import DataError, listed
from sam2ft.data.sources.row import VolumeFiles

MOST_CATEGORIES = 8
"""Numbers with more different values than this are balanced by quarters."""
MISSING = "no value"
_NO_VALUES = frozenset({"", "n/a", "na", "nan", "none", "null", "-", "?"})
_QUARTERS = 4
_SHOWN = 3
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Stratum:
    """The classes of one covariate."""

    name: str
    class_of: Mapping[str, str]
    """Subject -> its class."""
    classes: tuple[str, ...]
    """Those that occur, in their order; MISSING last."""
    notes: tuple[str, ...] = ()


def covariate_values(
    key: str, name: str, sources: Sequence[VolumeFiles], *, alike: bool
) -> tuple[dict[str, str | None], list[str]]:
    """(subject -> its value of a covariate, None without one; notes).

    Args:
        key: key of the dataset file that names the covariate, for messages.
        alike: refuse subjects whose volumes have different values; else the first volume decides, with a note.

    Raises:
        DataError: no volume has the covariate, or a subject has two values.
    """
    known = sorted({one for source in sources for one in source.described})
    if name not in known:
        raise DataError(
            f"{key}: no volume has {name}; allowed: {listed(known, 12) or 'nothing, the sources have no such column'}"
            "; a placeholder of sources.images other than site must be in sources.keep_covariates too"
        )
    found: dict[str, list[str]] = {}
    for source in sorted(sources, key=lambda one: one.key):
        found.setdefault(source.key.subject, []).append(source.described.get(name, "").strip())
    given = {subject: [text for text in texts if text.casefold() not in _NO_VALUES] for subject, texts in found.items()}
    several = sorted(subject for subject, texts in given.items() if len(set(texts)) > 1)
    if several and alike:
        shown = " and ".join(dict.fromkeys(given[several[0]]))
        raise DataError(
            f"{key}: subject {several[0]} has the values {shown} of {name}; allowed: one value for all volumes of a "
            "subject"
        )
    notes = []
    if several:
        notes.append(f"{key}: {name} differs between volumes of {listed(several, _SHOWN)}; that of the first counts")
    if missing := sorted(subject for subject, texts in given.items() if not texts):
        what = "each is a group of its own" if alike else "counted as a class of their own"
        notes.append(f"{key}: no value of {name}: {listed(missing, _SHOWN)}; {what}")
    return {subject: texts[0] if texts else None for subject, texts in given.items()}, notes


def stratum(name: str, values: Mapping[str, str | None], num_parts: int) -> Stratum:
    """Classes of a covariate: its values, or its quarters where it is a number with many values.

    Args:
        values: subject -> its value, None without one.
        num_parts: number of splits and folds that are balanced, for the note on classes that are too small for that.
    """
    known = {subject: text for subject, text in values.items() if text is not None}
    numbers = {subject: number for subject, text in known.items() if (number := _number(text)) is not None}
    if len(numbers) == len(known) and len(set(numbers.values())) > MOST_CATEGORIES:
        class_of, classes = _quarters(numbers)
    else:
        class_of, classes = dict(known), _sorted(known.values())
    missing = dict.fromkeys(sorted(values.keys() - known.keys()), MISSING)
    sizes = [sum(one == other for other in class_of.values()) for one in classes]
    small = sum(size < num_parts for size in sizes)
    notes: tuple[str, ...] = ()
    if small > len(sizes) / 2:
        notes = (
            f"split.stratify: {name} has {len(sizes)} values, {small} of them in fewer subjects than there are parts "
            f"({num_parts}): those cannot be in every part",
        )
    return Stratum(name, class_of | missing, (*classes, *([MISSING] if missing else [])), notes)


def _number(text: str) -> float | None:
    if not _NUMBER.fullmatch(text):
        return None
    number = float(text.replace(",", "."))
    return number if math.isfinite(number) else None


def _quarters(numbers: Mapping[str, float]) -> tuple[dict[str, str], list[str]]:
    """(subject -> words of its quarter, those words in order); equal numbers are in one quarter."""
    ordered = sorted(numbers.values())
    ends = sorted({ordered[math.ceil(len(ordered) * part / _QUARTERS) - 1] for part in range(1, _QUARTERS + 1)})
    words = [f"up to {end:.6g}" if not i else f"over {ends[i - 1]:.6g} to {end:.6g}" for i, end in enumerate(ends)]
    return {subject: words[bisect_left(ends, number)] for subject, number in numbers.items()}, words


def _sorted(texts: Collection[str]) -> list[str]:
    """Numbers by size, then words."""
    return sorted(set(texts), key=lambda text: (_number(text) is None, _number(text) or 0.0, text))
