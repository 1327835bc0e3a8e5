"""Batch scripts by submitit, whose private names are used here alone.

Its public interface starts a pickle of its own inside the job, and submits the job itself. Here it writes the text of
the script around a command of ours; no pickle is written or read. The tests of the scripts and of a script that runs
its command are the contract; they also run with the lowest allowed version.
"""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sam2ft.config.trust import refuse_untrusted
from sam2ft.core.files import write_text
from sam2ft.slurm.batch_script import python_command
from sam2ft.slurm.site import Site


def module_command(site: Site, module: str, *words: str) -> str:
    """Return the shell command that runs a module of ours in a job.

    Args:
        words: its arguments, quoted for the shell where necessary.
    """
    # -P: the folder where sbatch was called is no place that Python imports modules from.
    return " ".join((python_command(site, sys.executable), "-u -P -m", module, *words))


def write_batch(scripts: Path, chosen: Mapping[str, Any], command: str) -> Path:
    """Write the script of one sbatch call into `scripts`; returns the script's path.

    Args:
        chosen: submitit's parameters of the job.
        command: shell command that every task of the job runs.

    Raises:
        UserError: somebody else could change the script before sbatch reads it.
    """
    import submitit

    parameters = dict(chosen)
    elements = parameters.pop("map_count", None)
    executor = submitit.SlurmExecutor(folder=scripts, python=shlex.quote(sys.executable))
    executor.update_parameters(**parameters)
    # submitit sets map_count when it submits itself.
    if elements is not None:
        executor.parameters["map_count"] = elements
    text = executor._make_submission_file_text(command, "")
    script = scripts / f"{parameters['job_name']}.sh"
    write_text(script, text + "\n")
    refuse_untrusted(script, "batch script")
    return script
