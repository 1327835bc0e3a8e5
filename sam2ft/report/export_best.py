"""Export of the best point of a sweep: best.yaml (its settings as a complete experiment) and best.pt (its weights).

No torch at import.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from sam2ft.config.load_experiment import dump_experiment, load_experiment
from sam2ft.core.errors import DataError, printable
from sam2ft.core.files import has_sha256, replacing, sha256_file, write_text
from sam2ft.report.comparison.compare import Comparison
from sam2ft.report.request import RunState
from sam2ft.runs.trained_weights import how_to_heal

SUFFIX = "best"
_NAME_CHARACTERS = 60


def export_best(comparison: Comparison, states: Sequence[RunState], out: Path) -> tuple[Path, Path]:
    """Write `best.yaml` and `best.pt` into `out`; existing files with these names are replaced, other files are kept.

    The exported experiment is called `<name>-best`: it trains again in its own folder, and the sweep is not changed.

    Returns:
        path of `best.yaml`, an experiment file for launch/train.py and launch/sweep.py, and of `best.pt`, weights in
        the layout of stock SAM 2 checkpoints.

    Raises:
        DataError: when there is no best point, or best.pt is missing or does not have the SHA-256 in the run's status.
        CheckpointError: it has that SHA-256, but was damaged before it was recorded, or holds values that are not
            finite.
    """
    state = next((state for state in states if state.planned.run_id == comparison.best), None)
    if state is None:
        raise DataError(f"no point to export: {comparison.choice}")
    layout, status = state.layout, state.status
    if not layout.best.is_file() or status is None or not has_sha256(layout.best, status.best_sha256):
        raise DataError(
            f"{layout.best}: missing, or not the weights recorded in {layout.status}; {how_to_heal(layout)}"
        )
    _refuse_unusable(layout.best)
    chosen = load_experiment(layout.config, to_run=True).points[0].experiment
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
    # A copy, not a link: the exported file must not change when the run changes.
    with replacing(weights) as partial:
        shutil.copyfile(layout.best, partial)
        if sha256_file(partial) != status.best_sha256:
            raise DataError(f"{layout.best}: changed while it was copied; export again when nothing writes it")
    return experiment, weights


def _refuse_unusable(best: Path) -> None:
    """Refuse weights that do not have the digest that they carry, or are not finite."""
    # Here, because it imports torch, which takes seconds and which no other part of a report needs.
    from sam2ft.model.files.read import read_weight_file

    read_weight_file(best)
