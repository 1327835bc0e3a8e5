"""How long before its time limit a job is warned: long enough to end a step and to save."""

from collections.abc import Iterable

from sam2ft.runs.attempt.status import RunStatus
from sam2ft.runs.plan_file import Resources

_MARGIN_S = 60
"""For what no record knows: ranks that agree to stop, a file system that is slow today."""


def stop_lead_s(at_least_s: int, resources: Resources, statuses: Iterable[RunStatus | None]) -> int:
    """Seconds for --signal: what the site says, or 60 s + two steps + a checkpoint of the slowest run if that is more.

    Never more than half of the time limit: a run that is warned as it starts would make no progress.
    """
    needed = [_MARGIN_S + 2 * (status.step_s or 0.0) + (status.save_s or 0.0) for status in statuses if status]
    longest = max([float(at_least_s), *needed])
    return max(1, min(round(longest), int(resources.hours * 3600) // 2))
