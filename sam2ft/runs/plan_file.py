"""What was planned, as a job reads it: the frozen map from index to run of one plan, `plan-<id>.json`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, get_args

from sam2ft.core.errors import DataError
from sam2ft.core.files import canonical_json, read_json, sha256_text, write_text
from sam2ft.runs.layout import ExperimentLayout, RunLayout

Stage = Literal["train", "eval", "train_eval"]
STAGES: tuple[Stage, ...] = get_args(Stage)
PLAN_VERSION = 2


@dataclass(frozen=True)
class Resources:
    """What one task array asks Slurm for; complete, nothing left to a default."""

    nodes: int
    tasks_per_node: int
    gpus_per_node: int
    cpus_per_task: int
    mem_gb: float
    hours: float

    @property
    def world_size(self) -> int:
        return self.nodes * self.tasks_per_node


@dataclass(frozen=True)
class PlannedPoint:
    """One point of the sweep that this run stands for (several when points resolve to one run)."""

    name: str
    overrides: tuple[tuple[str, Any], ...]
    eval_id: str


@dataclass(frozen=True)
class PlannedRun:
    """One run of a plan."""

    index: int
    run_id: str
    stage: Stage
    baseline: bool
    points: tuple[PlannedPoint, ...]
    """At least one; the first gives the run its name."""
    resources: Resources
    """Of the training, and of everything where one process does both."""
    eval_resources: Resources
    """Of the evaluation, which is a Slurm job of its own; equal to `resources` unless `resources.eval` differs."""

    @property
    def name(self) -> str:
        return self.points[0].name

    @property
    def eval_ids(self) -> tuple[str, ...]:
        """Every evaluation of this run, each once, in the order of the points."""
        return tuple(dict.fromkeys(point.eval_id for point in self.points))

    def to_json(self) -> dict[str, Any]:
        # dataclasses.asdict copies every value: seconds for a plan of ten thousand runs.
        points = [vars(point) for point in self.points]
        asked = {"resources": vars(self.resources), "eval_resources": vars(self.eval_resources)}
        return vars(self) | {"points": points} | asked

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        points = tuple(
            PlannedPoint(
                entry["name"], tuple((key, overridden) for key, overridden in entry["overrides"]), entry["eval_id"]
            )
            for entry in value["points"]
        )
        asked, asked_by_eval = Resources(**value["resources"]), Resources(**value["eval_resources"])
        return cls(value["index"], value["run_id"], value["stage"], value["baseline"], points, asked, asked_by_eval)


@dataclass(frozen=True)
class Plan:
    """All runs of an experiment; its id is a digest of its content, so an unchanged experiment has one plan."""

    experiment: str
    source: str
    """Absolute path of the experiment file."""
    fresh: bool
    """Train again from the start, whatever a run directory holds."""
    runs: tuple[PlannedRun, ...]
    code: str | None = None
    """With --strict-code: the digest of the code (runs/provenance), which then is part of every run_id."""

    @cached_property
    def plan_id(self) -> str:
        """12 hex over the content (the place of the experiment file is not part of it)."""
        content = {"version": PLAN_VERSION, "experiment": self.experiment, "fresh": self.fresh}
        runs = [run.to_json() for run in self.runs]
        return sha256_text(canonical_json(content | self._strict() | {"runs": runs}))[:12]

    def _strict(self) -> dict[str, str]:
        return {} if self.code is None else {"code": self.code}

    def run(self, index: int) -> PlannedRun:
        for run in self.runs:
            if run.index == index:
                return run
        raise DataError(f"plan {self.plan_id} of {self.experiment} has no run {index}; it has {len(self.runs)}")


def save_plan(layout: ExperimentLayout, plan: Plan) -> Path:
    """Write the plan into its experiment's folder; one that is there already is the same, and becomes the newest."""
    path = layout.plan(plan.plan_id)
    if path.is_file():
        path.touch()
    else:
        value = {"version": PLAN_VERSION, "plan": plan.plan_id, "experiment": plan.experiment, "source": plan.source}
        head = json.dumps(value | {"fresh": plan.fresh, "code": plan.code}, ensure_ascii=False).removesuffix("}")
        # One line for each run: the encoder that indents is ten times slower.
        runs = ",\n".join(json.dumps(run.to_json(), ensure_ascii=False, allow_nan=False) for run in plan.runs)
        write_text(path, f'{head},\n"runs": [\n{runs}\n]}}\n')
    return path


def load_plan(layout: ExperimentLayout, plan_id: str) -> Plan:
    """Errors: DataError when the file is missing, of another version, or is not what its name says."""
    path = layout.plan(plan_id)
    value = read_json(path)
    if value.get("version") != PLAN_VERSION:
        found = value.get("version")
        raise DataError(f"{path}: plan of version {found}, this sam2ft reads {PLAN_VERSION}; plan again")
    runs = tuple(PlannedRun.from_json(run) for run in value["runs"])
    plan = Plan(value["experiment"], value["source"], value["fresh"], runs, value.get("code"))
    if plan.plan_id != plan_id:
        raise DataError(f"{path}: its content was changed after it was written; plan again with launch/sweep.py")
    return plan


def evaluation_is_current(layout: RunLayout, run: PlannedRun, eval_id: str, best_sha256: str | None) -> bool:
    """Whether an evaluation ended well, and was made with the weights that the run holds now."""
    success = layout.evaluation(eval_id).success
    if not success.is_file():
        return False
    # A baseline's run_id holds the digest of its weights: they cannot be others.
    return run.baseline or read_json(success)["checkpoint_sha256"] == best_sha256
