"""Batch scripts and pickled jobs by submitit, whose private names are used here alone.

Its public interface submits a job itself and names the job's pickle only afterwards, when the launcher may have been
killed. The tests of the scripts and of a job that finds its pickle are the contract; they also run with the lowest
allowed version.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sam2ft.core.files import write_text
from sam2ft.slurm.batch_script import PICKLE, python_command
from sam2ft.slurm.site import Site

Arguments = tuple[Any, ...]


def write_batch(
    scripts: Path, chosen: Mapping[str, Any], function: Callable[..., None], arguments: Sequence[Arguments], site: Site
) -> Path:
    """Write the script of one sbatch call and a pickle per element into `scripts`; returns the script's path.

    A pickle contains only the function's name and plain ids, so a job runs the code that is installed when it starts.

    Args:
        chosen: submitit's parameters of the job.
        arguments: arguments of `function`, one tuple per element.
    """
    import submitit
    from submitit.core.utils import DelayedSubmission

    parameters = dict(chosen)
    elements = parameters.pop("map_count", None)
    executor = submitit.SlurmExecutor(folder=scripts, python=python_command(site, sys.executable))
    executor.update_parameters(**parameters)
    # submitit sets map_count when it submits itself, but it names pickles only after sbatch, when it may be killed.
    if elements is not None:
        executor.parameters["map_count"] = elements
    text = executor._make_submission_file_text(executor._submitit_command_str, "")
    scripts.mkdir(parents=True, exist_ok=True)
    for position, values in enumerate(arguments):
        delayed = DelayedSubmission(function, *values)
        delayed.set_timeout(parameters["time"], 0)
        delayed.dump(scripts / PICKLE.format(job_name=parameters["job_name"], position=position))
    script = scripts / f"{parameters['job_name']}.sh"
    write_text(script, text + "\n")
    return script
