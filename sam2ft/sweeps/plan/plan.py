"""Frozen plan of an experiment: the runs of its points, and the configuration files that their jobs read."""

from collections.abc import Iterable

from sam2ft.config.load_experiment import dump_experiment
from sam2ft.core.digests.sealed import sealed_yaml
from sam2ft.core.digests.verified_files import tell_damage
from sam2ft.core.files import write_text
from sam2ft.jobs.preflight.preflight import ResolvedSweep
from sam2ft.runs.config_file import is_damaged
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
    """Write the resolved configurations of the runs `indices` to the files that their jobs read.

    Of all other runs, files that are damaged are written again.
    """
    wanted = set(indices)
    for run in resolved.runs:
        folder = layout.run(run.planned.run_id)
        files = {folder.config: run.experiment}
        files |= {folder.evaluation(eval_id).config: experiment for eval_id, experiment in run.evaluations.items()}
        for path, experiment in files.items():
            if run.planned.index not in wanted:
                if not is_damaged(path):
                    continue
                tell_damage(f"{path}: edited or damaged; the planned one is written again")
            write_text(path, sealed_yaml(dump_experiment(experiment)))
