"""Coverage of an experiment: planned runs and their states, counts per state, GPU-hours (coverage.json)."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sam2ft.runs.states import GROUPS, FailureClass, State


@dataclass(frozen=True)
class CoveredRun:
    """One planned run and its state."""

    name: str
    """Name of its point, or `baseline`."""
    run: str
    state: State
    reason: str = ""
    """Why it is not done, in one sentence; empty when it is."""
    failure_class: FailureClass | None = None
    gpu_hours_planned: float | None = None
    gpu_hours_used: float | None = None
    """Total over all its attempts; None where there is no accounting."""

    @property
    def group(self) -> str:
        """done, running, failed or missing."""
        return self.state.group


@dataclass(frozen=True)
class Coverage:
    """All planned runs, the baseline included."""

    runs: tuple[CoveredRun, ...]

    @property
    def complete(self) -> bool:
        return all(run.group == State.DONE for run in self.runs)

    def count(self, group: str) -> int:
        return sum(run.group == group for run in self.runs)

    @property
    def unfinished(self) -> tuple[CoveredRun, ...]:
        return tuple(run for run in self.runs if run.group != State.DONE)

    @property
    def failed_classes(self) -> dict[str, int]:
        """Class of failure (error, oom, timeout, ...) -> number of runs, the most frequent first."""
        found = Counter(run.failure_class or FailureClass.ERROR for run in self.runs if run.group == State.FAILED)
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def sentence(self) -> str:
        """Counts as text, such as `5 planned: 3 done, 2 failed (1 oom, 1 timeout)`."""
        classes = ", ".join(f"{count} {name}" for name, count in self.failed_classes.items())
        of_group = {"failed": f" ({classes})" if any(run.failure_class for run in self.runs) else ""}
        counts = [f"{self.count(group)} {group}{of_group.get(group, '')}" for group in GROUPS if self.count(group)]
        return f"{len(self.runs)} planned: {', '.join(counts) or 'none'}"

    def to_json(self, problems: Sequence[str] = ()) -> dict[str, Any]:
        """Content of coverage.json; `problems` are the defects of tables that were found while collating."""
        return {
            "planned": len(self.runs),
            **{group: self.count(group) for group in GROUPS},
            "failed_classes": self.failed_classes,
            "gpu_hours_planned": _total(run.gpu_hours_planned for run in self.runs),
            "gpu_hours_used": _total(run.gpu_hours_used for run in self.runs),
            "complete": self.complete,
            "runs": [
                {
                    "name": run.name,
                    "run": run.run,
                    "state": run.state,
                    "group": run.group,
                    "class": run.failure_class,
                    "reason": run.reason,
                    "gpu_hours_planned": run.gpu_hours_planned,
                    "gpu_hours_used": run.gpu_hours_used,
                }
                for run in self.runs
            ],
            "problems": list(problems),
        }


def _total(hours: Iterable[float | None]) -> float | None:
    """Sum of the known values; None where no run has one."""
    known = [value for value in hours if value is not None]
    return round(sum(known), 4) if known else None
