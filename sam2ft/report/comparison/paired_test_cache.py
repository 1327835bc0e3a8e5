"""Cache of paired tests: pairs that an earlier report has tested are not tested again. No torch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sam2ft.core.errors import DataError
from sam2ft.core.files import canonical_json, read_json, sha256_text, write_json
from sam2ft.core.tables.rows import Row
from sam2ft.report.comparison.compare import Comparison
from sam2ft.report.comparison.point_tests import PointValues, point_test_rows
from sam2ft.statistics.bootstrap import RESAMPLES
from sam2ft.statistics.cohort import Subject
from sam2ft.statistics.paired_tests import Paired, paired

MEMORY = "paired.json"
_VERSION = 2


@dataclass
class PairedTestCache:
    """Test results by the digest of their inputs: a second report tests only new pairs."""

    known: Mapping[str, Any]
    used: dict[str, Any] = field(default_factory=dict)
    _digests: dict[int, tuple[str, Mapping[Subject, float]]] = field(default_factory=dict)

    def pair(self, first: Mapping[Subject, float], second: Mapping[Subject, float]) -> Paired:
        """Result of `statistics.paired.paired`, computed only once for the same values."""
        key = sha256_text(canonical_json([_VERSION, RESAMPLES, self._digest(first), self._digest(second)]))[:32]
        if key not in self.known:
            found = asdict(paired(first, second))
            self.used[key] = {name: None if math.isnan(value) else value for name, value in found.items()}
        else:
            self.used[key] = self.known[key]
        numbers: dict[str, Any] = {name: math.nan if value is None else value for name, value in self.used[key].items()}
        return Paired(**numbers)

    def _digest(self, values: Mapping[Subject, float]) -> str:
        """Digest of one side of a pair, cached because the best point is a side of every pair."""
        if (known := self._digests.get(id(values))) is None:
            text = canonical_json(sorted([*subject, value] for subject, value in values.items()))
            # The values are kept too: Python could give the id of a deleted mapping to another one.
            known = self._digests[id(values)] = (sha256_text(text), values)
        return known[0]


def point_tests(comparison: Comparison, values: Sequence[PointValues], work: Path) -> list[Row]:
    """The rows of point_tests.csv; `work` is the folder where aggregation keeps its caches between calls."""
    path = work / MEMORY
    memory = PairedTestCache(_remembered(path))
    rows = point_test_rows(comparison, values, memory.pair)
    if memory.used.keys() != memory.known.keys():
        write_json(path, memory.used)
    return rows


def _remembered(path: Path) -> dict[str, Any]:
    """Cached results; empty for a missing or unreadable file, because the cache only saves time."""
    try:
        return dict(read_json(path)) if path.is_file() else {}
    except DataError:
        return {}
