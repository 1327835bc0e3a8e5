"""What the points of a report took, and the settings in which they differ. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sam2ft.config.schema.experiment import Experiment
from sam2ft.report.comparison.compare import short_value
from sam2ft.report.request import RunState
from sam2ft.tracking.console import duration_text

MOST_COLUMNS = 8
"""Maximum number of points with a column of their own in the table of differences."""
MOST_VALUES = 8
"""Maximum number of values of a setting that are listed."""
_NOT_SAID = "–"


@dataclass(frozen=True)
class Cost:
    """What a run took."""

    training_s: float | None = None
    """Seconds of all its epochs, validation included, as history.csv has them; None for a run without epochs."""
    num_epochs: int = 0
    gpu_hours: float | None = None
    """GPUs x hours of all its attempts after Slurm's accounting; None where there is none."""

    @property
    def training_text(self) -> str:
        """Such as `1h24m`."""
        return _NOT_SAID if self.training_s is None else duration_text(self.training_s)


def costs_of(states: Sequence[RunState], histories: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, Cost]:
    """run_id -> what it took, of the runs of which anything is known.

    `histories`: name of a point -> rows of its history.csv.
    """
    found = {}
    for state in states:
        rows = histories.get(state.planned.name, ())
        seconds = [row["seconds"] for row in rows if "seconds" in row]
        known = sum(seconds) if seconds and len(seconds) == len(rows) else None
        if known is not None or state.gpu_hours_used is not None:
            found[state.planned.run_id] = Cost(known, len(rows), state.gpu_hours_used)
    return found


@dataclass(frozen=True)
class SettingDifference:
    """A setting that is not the same for all points."""

    key: str
    values: tuple[tuple[str, int], ...]
    """(value, number of points with it), at most MOST_VALUES, the most frequent first."""
    num_values: int
    of_points: tuple[str, ...] = ()
    """Its value of each point in `SettingDifferences.points`."""


@dataclass(frozen=True)
class SettingDifferences:
    """The settings in which points differ."""

    num_points: int = 0
    points: tuple[str, ...] = ()
    """Names of the points with a column; empty where there are more than MOST_COLUMNS."""
    settings: tuple[SettingDifference, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.settings)


def differences_of(experiments: Mapping[str, Experiment]) -> SettingDifferences:
    """Settings with more than one value over points; `experiments`: name of a point -> its resolved configuration."""
    flat = {name: _flat(experiment.model_dump(mode="json")) for name, experiment in experiments.items()}
    keys = dict.fromkeys(key for values in flat.values() for key in values)
    columns = tuple(flat) if len(flat) <= MOST_COLUMNS else ()
    found = []
    for key in keys:
        texts = [values.get(key, _NOT_SAID) for values in flat.values()]
        counts = dict.fromkeys(texts, 0)
        for text in texts:
            counts[text] += 1
        if len(counts) > 1:
            listed = sorted(counts.items(), key=lambda one: -one[1])[:MOST_VALUES]
            found.append(SettingDifference(key, tuple(listed), len(counts), tuple(texts) if columns else ()))
    return SettingDifferences(len(flat), columns, tuple(found))


def _flat(value: Any, key: str = "") -> dict[str, str]:
    """Dotted key -> value as text."""
    if isinstance(value, Mapping) and value:
        return {
            path: text
            for name, part in value.items()
            for path, text in _flat(part, f"{key}.{name}" if key else str(name)).items()
        }
    return {key: short_value(value)}
