"""Stop lead: seconds before the time limit at which Slurm signals a job (--signal), enough to end a step and save."""

from collections.abc import Iterable

from sam2ft.runs.attempt.status import RunStatus
from sam2ft.runs.plan_file import Resources

_MARGIN_S = 60
"""For times that are not measured: the agreement of the ranks to stop, a slow file system."""


def stop_lead_s(at_least_s: int, resources: Resources, statuses: Iterable[RunStatus | None]) -> int:
    """Return the seconds for --signal: `at_least_s`, or 60 s + two steps + a checkpoint of the slowest run if longer.

    Never more than half of the time limit, because a run that is stopped soon after its start makes no progress.

    Args:
        at_least_s: value of the site (slurm.stop_lead_s).
        statuses: newest status of each run of the job, with measured times.
    """
    needed = [_MARGIN_S + 2 * (status.step_s or 0.0) + (status.save_s or 0.0) for status in statuses if status]
    longest = max([float(at_least_s), *needed])
    return max(1, min(round(longest), int(resources.hours * 3600) // 2))
