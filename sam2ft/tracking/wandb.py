"""Weights & Biases (wandb, W&B) tracker: the same values as TensorBoard, under the id of the run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam2ft.config.schema.module import WandB
from sam2ft.core.events import EpochDone, SlicePrediction, StepDone
from sam2ft.tracking.base import Draw, ResultTable, scalars_of_epoch, scalars_of_step


@dataclass(frozen=True)
class WandbRun:
    """A run of W&B. The W&B id is the run_id, so that a resumed or requeued run continues its page."""

    run_id: str
    name: str
    """Displayed name: the name of the point."""
    experiment: str
    """Groups the points of one experiment."""
    folder: Path
    """Folder for the local files of wandb."""
    section: WandB = field(default_factory=WandB)


def start_run(target: WandbRun, **more: Any) -> Any:
    """Start or continue the wandb run `target`; `more` is passed to wandb.init."""
    import wandb

    target.folder.mkdir(parents=True, exist_ok=True)
    return wandb.init(
        id=target.run_id,
        resume="allow",
        name=target.name,
        group=target.experiment,
        project=target.section.project or target.experiment,
        mode=target.section.mode,
        # The separate process of wandb has its own working directory, so the path must be absolute.
        dir=str(target.folder.absolute()),
        settings=wandb.Settings(silent=True, console="off"),
        **more,
    )


class WandbTracker:
    """Logs losses, learning rates and speed per step, all values per epoch, QC pictures, and the configuration."""

    def __init__(self, target: WandbRun, *, config: Mapping[str, Any], draw: Draw):
        # The wandb package, not this module; it is an optional dependency.
        import wandb

        self._wandb = wandb
        self._draw = draw
        self._step = 0
        self._run = start_run(target, config=dict(config))
        # The optimizer step is the axis: the step counter of wandb rejects steps that a resumed run repeats.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def on_step(self, event: StepDone, state: Any) -> None:
        self._step = event.step
        self._run.log({**scalars_of_step(event), "step": event.step})

    def on_epoch(self, event: EpochDone, state: Any) -> None:
        self._step = event.step
        self._run.log({**scalars_of_epoch(event), "step": event.step})

    def on_samples(self, epoch: int, samples: Sequence[SlicePrediction]) -> None:
        pictures = [self._wandb.Image(self._draw(sample), caption=str(sample.key)) for sample in samples]
        if pictures:
            self._run.log({"qc": pictures, "step": self._step})

    def on_table(self, table: ResultTable) -> None:
        rows = self._wandb.Table(columns=list(table.columns), data=[list(row) for row in table.rows])
        self._run.log({f"results/{table.name}": rows})
        for name, value in table.summary.items():
            self._run.summary[f"{table.name}/{name}"] = value

    def close(self) -> None:
        self._run.finish()
