"""Frozen plan of an experiment: the runs of its points, and the configuration files that their jobs read."""

from collections.abc import Iterable

from sam2ft.config.load_experiment import dump_experiment
from sam2ft.core.files import write_text
from sam2ft.jobs.preflight.preflight import ResolvedSweep
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import Plan


def make_plan(resolved: ResolvedSweep, *, fresh: bool = False, code: str | None = None) -> Plan:
    """Return the plan of a sweep whose points all have a run_id.

    Args:
        fresh: whether trained runs are trained again from the start (--force).
        code: digest of the code that is part of the run_ids (--strict-code), or None.
    """
    return Plan(resolved.name, str(resolved.source), fresh, tuple(point.planned for point in resolved.runs), code)


def write_configs(layout: ExperimentLayout, resolved: ResolvedSweep, indices: Iterable[int]) -> None:
    """Write the resolved configurations of the runs `indices` to the files that their jobs read."""
    wanted = set(indices)
    for run in resolved.runs:
        if run.planned.index in wanted:
            folder = layout.run(run.planned.run_id)
            write_text(folder.config, dump_experiment(run.experiment))
            for eval_id, experiment in run.evaluations.items():
                write_text(folder.evaluation(eval_id).config, dump_experiment(experiment))
