"""What was handed to Slurm: the files `submissions/<n>.json`, written before each sbatch and again after it."""

from sam2ft.core.files import read_json
from sam2ft.core.layout import ExperimentLayout


def elements_of(layout: ExperimentLayout) -> dict[str, list[str]]:
    """run_id -> ids of the Slurm jobs (array elements) that were ever submitted for it, oldest first."""
    elements: dict[str, list[str]] = {}
    paths = sorted(layout.submissions.glob("*.json"), key=lambda path: int(path.stem))
    for path in paths:
        for array in read_json(path)["arrays"]:
            for position, run in enumerate(array["runs"]):
                if array["job"] is not None:
                    # submitit submits a single element as a plain job, not as an array of one.
                    job = array["job"] if len(array["runs"]) == 1 else f"{array['job']}_{position}"
                    elements.setdefault(run["run_id"], []).append(job)
    return elements
