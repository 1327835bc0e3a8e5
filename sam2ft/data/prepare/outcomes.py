"""Options and results of a preparation: an outcome for each volume, and what a store holds beside them. No NumPy."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sam2ft.core.errors import listed
from sam2ft.core.grouping import grouped
from sam2ft.core.keys import VolumeKey

STORED, UNCHANGED, REFUSED = "stored", "unchanged", "refused"
_NAMED = 12
"""Volumes that a line of refused ones names after the first."""
_MOST_IDS = 20
"""Unknown label ids that such a line names."""
_UNKNOWN = re.compile(r"unknown label id (?P<ids>[^;]*)")
MINUTES = 30.0
"""Time that the preparation of one volume may take, unless another limit is given."""


@dataclass(frozen=True)
class VolumeOutcome:
    """Result for one volume."""

    key: VolumeKey
    result: str
    """stored, unchanged or refused"""
    reason: str = ""
    notes: tuple[str, ...] = ()
    """Sentences about a volume that was stored."""


def cause_of(reason: str) -> str:
    """A reason without what differs between volumes with the same cause: files, unknown label ids, and counts."""
    _, _, rest = reason.partition(": ")
    rest = _UNKNOWN.sub("unknown label id", re.sub(r"; there is [^;]*", "", rest))
    return re.sub(r"\d+ (?=(voxels|values|pixels)\b)", "", rest or reason)


def refused_lines(refused: Sequence[VolumeOutcome], kept: Collection[VolumeKey] = ()) -> list[str]:
    """One line per reason: of volumes with the same cause the first is quoted, and the others are named.

    Args:
        kept: those that stay in the store as they were prepared before.
    """
    groups = grouped(refused, lambda outcome: (cause_of(outcome.reason), outcome.key in kept))
    lines = []
    for (_, stays), alike in groups.items():
        first = f"{alike[0].key}: {alike[0].reason}"
        if len(alike) == 1:
            lines.append(f"{first}{' (stays as it was prepared before)' if stays else ''}")
        else:
            names = listed([str(outcome.key) for outcome in alike[1:]], _NAMED)
            staying = " (they stay as they were prepared before)" if stays else ""
            ids = _ids_of_all([outcome.reason for outcome in alike])
            lines.append(f"{len(alike)} volumes for the same reason{staying}: {first}; likewise {names}{ids}")
    return lines


def _ids_of_all(reasons: Sequence[str]) -> str:
    """The unknown label ids of masks that do not all have the same ones, with the number of masks; else empty."""
    found = [match["ids"] for reason in reasons if (match := _UNKNOWN.search(reason))]
    ids = [frozenset(map(int, re.findall(r"(\d+) \(", text))) for text in found]
    if len(set(ids)) < 2:
        return ""
    counts = Counter(one for several in ids for one in several)
    shown = listed([f"{one} in {counts[one]}" for one in sorted(counts)], _MOST_IDS)
    return f"; unknown ids in these masks: {shown}{', and more' if any('more' in text for text in found) else ''}"


Progress = Callable[[int, int, VolumeOutcome], None]
"""Called after each volume with: number of finished volumes, number of all volumes, result."""


@dataclass(frozen=True)
class Surplus:
    """What a store holds beside the volumes of the dataset's sources: what `--prune` removes."""

    volumes: tuple[VolumeKey, ...]
    """Stored volumes whose image the sources no longer have."""
    files: tuple[Path, ...]
    """Files of these volumes, of earlier states of the others, and of calls that were killed."""

    @property
    def num_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files)


@dataclass(frozen=True)
class PrepareOptions:
    """How one call of `prepare_dataset` works; none of it changes what is stored of a volume."""

    workers: int = 1
    """Number of processes; the store is the same for any number."""
    isolated: bool = False
    """Read every volume in another process, whose death (a crash in a library) is a refusal of the volume."""
    minutes: float = MINUTES
    """Time that one volume may take; without `isolated` there is no limit."""
    verify: bool = False
    """Read every stored array and compare its sha256; a damaged volume is prepared again."""
    upgrade: Callable[[Sequence[str]], bool] | None = None
    """Called with what changes, a line each, when a store of an earlier version can become one of the present version;
    it does if the answer is true. None: a store keeps its version."""
    prune: Callable[[Surplus], bool] | None = None
    """Called with what may be removed from the store; it is removed if the answer is true. None: nothing is removed."""


DEFAULTS = PrepareOptions()


@dataclass(frozen=True)
class PrepareSummary:
    """Result of `prepare_dataset`."""

    store: Path
    outcomes: tuple[VolumeOutcome, ...]
    """One for each volume of the sources."""
    splits: Mapping[str, int]
    """Split -> number of stored subjects."""
    unlabelled: tuple[VolumeKey, ...]
    """Stored volumes whose mask contains no label: allowed, but should be checked."""
    disagreements: tuple[str, ...] = ()
    """Sentences about slice distances in headers that differ by more than 1 % from the distance used."""
    missing: tuple[VolumeKey, ...] = ()
    """Volumes that stay in the store although the sources no longer have their image."""
    kept: frozenset[VolumeKey] = frozenset()
    """Refused volumes that stay in the store as they were prepared before."""
    surplus: Surplus = Surplus((), ())
    """What is left in the store beside the volumes of the sources."""
    notes: tuple[str, ...] = ()
    """Sentences about the cohort: splits, and images that are the same."""
    balance: tuple[str, ...] = ()
    """Lines of a table: subjects of every class in every split or fold; empty where no balance was asked for."""
    key_notes: tuple[str, ...] = ()
    """Sentences about the key file."""

    @property
    def refused(self) -> tuple[VolumeOutcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.result == REFUSED)

    def count(self, result: str) -> int:
        return sum(outcome.result == result for outcome in self.outcomes)
