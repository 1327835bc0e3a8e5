"""The best point to take away: its settings as an experiment that runs as it is, and its weights. No torch."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sam2ft.config.load_experiment import dump_experiment, load_experiment
from sam2ft.core.errors import DataError
from sam2ft.core.files import replacing, sha256_file, write_text
from sam2ft.report.comparison.compare import Comparison
from sam2ft.report.comparison.words import printable
from sam2ft.report.request import RunState

SUFFIX = "best"
_NAME_CHARACTERS = 60


@dataclass(frozen=True)
class Exported:
    """Where the parts of the best point are."""

    experiment: Path
    """`best.yaml`: launch/train.py and launch/sweep.py take it."""
    weights: Path
    """`best.pt`, in the stock layout."""


def export_best(comparison: Comparison, states: Sequence[RunState], out: Path) -> Exported:
    """Write `best.yaml` and `best.pt` into `out`; files of those names are replaced, others stay.

    The experiment is called `<name>-best`: it trains anew, in a folder of its own, and the sweep stays as it is.
    Errors: DataError when no point is the best, or its weights are not those that it says it has.
    """
    state = next((state for state in states if state.planned.run_id == comparison.best), None)
    if state is None:
        raise DataError(f"no point to export: {comparison.choice}")
    layout, status = state.layout, state.status
    if not layout.best.is_file() or status is None or sha256_file(layout.best) != status.best_sha256:
        raise DataError(f"{layout.best}: not the weights that {layout.status} names; evaluate or train the run again")
    chosen = load_experiment(layout.config).points[0].experiment
    info = chosen.experiment.model_copy(
        update={
            "name": f"{chosen.experiment.name[:_NAME_CHARACTERS]}-{SUFFIX}",
            "description": f"{state.planned.name} of {chosen.experiment.name}: {comparison.choice}",
        }
    )
    experiment, weights = out / "best.yaml", out / "best.pt"
    out.mkdir(parents=True, exist_ok=True)
    head = f"# Point {printable(state.planned.name)} ({state.planned.run_id}), as it was trained.\n"
    write_text(experiment, head + dump_experiment(chosen.model_copy(update={"experiment": info})))
    # A copy, not a link: what is given away does not change with the run.
    with replacing(weights) as partial:
        shutil.copyfile(layout.best, partial)
    return Exported(experiment, weights)
