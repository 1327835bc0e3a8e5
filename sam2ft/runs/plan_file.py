"""Plan file (`plan-<id>.json`): the fixed map from index to run that jobs read."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import TypeAdapter, ValidationError

from sam2ft.core.digests.sealed import sealed_json
from sam2ft.core.digests.verified_files import read_sealed_json, tell_damage
from sam2ft.core.errors import DataError
from sam2ft.core.files import canonical_json, listed_files, read_json, sha256_text, verified_json, write_text
from sam2ft.core.given.wrong_kind import Wanted, wrong_kind
from sam2ft.runs.layout import ExperimentLayout, RunLayout

Stage = Literal["train", "eval", "train_eval"]
STAGES: tuple[Stage, ...] = get_args(Stage)
PLAN_VERSION = 2


@dataclass(frozen=True)
class Resources:
    """Resources that one task array requests from Slurm; complete, without defaults."""

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
    """One sweep point of a run (a run has several points when they resolve to the same run)."""

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
    """At least one; the run has the name of the first."""
    resources: Resources
    """Of the training; of the whole run when one process trains and evaluates."""
    eval_resources: Resources
    """Of the evaluation, which is a separate Slurm job; equal to `resources` unless `resources.eval` differs."""

    @property
    def name(self) -> str:
        return self.points[0].name

    @property
    def eval_ids(self) -> tuple[str, ...]:
        """Evaluation ids of this run, without duplicates, in the order of the points."""
        return tuple(dict.fromkeys(point.eval_id for point in self.points))


_RUNS = TypeAdapter(tuple[PlannedRun, ...])
"""JSON values of runs, read and written faster than by dataclasses.asdict, which takes seconds for ten thousand."""


@dataclass(frozen=True)
class Plan:
    """All runs of an experiment; its id is a digest of its content, so an unchanged experiment has one plan."""

    experiment: str
    source: str
    """Absolute path of the experiment file."""
    fresh: bool
    """Train again from the start, whatever a run directory contains."""
    runs: tuple[PlannedRun, ...]
    code: str | None = None
    """With --strict-code: the digest of the code (runs/provenance); it is then part of every run_id."""

    @cached_property
    def plan_id(self) -> str:
        """12 hex digits over the content; the path of the experiment file is not part of it."""
        content = {"version": PLAN_VERSION, "experiment": self.experiment, "fresh": self.fresh}
        strict = {} if self.code is None else {"code": self.code}
        return sha256_text(canonical_json(content | strict | {"runs": _RUNS.dump_python(self.runs)}))[:12]

    def run(self, index: int) -> PlannedRun:
        """Return the run with this index; DataError when the plan has none."""
        for run in self.runs:
            if run.index == index:
                return run
        raise DataError(f"plan {self.plan_id} of {self.experiment} has no run {index}; it has {len(self.runs)}")


def save_plan(layout: ExperimentLayout, plan: Plan) -> Path:
    """Write the plan into its experiment's folder; an existing file has the same content and becomes the newest.

    An existing file that no job could read, or of a version without digests, is written again.
    """
    path = layout.plan(plan.plan_id)
    if _is_whole(layout, plan.plan_id):
        path.touch()
    else:
        value = {"version": PLAN_VERSION, "plan": plan.plan_id, "experiment": plan.experiment, "source": plan.source}
        head = json.dumps(value | {"fresh": plan.fresh, "code": plan.code}, ensure_ascii=False).removesuffix("}")
        # One line per run: the encoder with indentation is ten times slower.
        runs = ",\n".join(json.dumps(run, ensure_ascii=False, allow_nan=False) for run in _RUNS.dump_python(plan.runs))
        write_text(path, sealed_json(f'{head},\n"runs": [\n{runs}\n]}}\n'))
    return path


def _is_whole(layout: ExperimentLayout, plan_id: str) -> bool:
    """Whether the file has a digest and this plan in it."""
    try:
        load_plan(layout, plan_id)
        return verified_json(layout.plan(plan_id))[1]
    except DataError:
        return False


def load_plan(layout: ExperimentLayout, plan_id: str) -> Plan:
    """Read a plan file.

    Raises:
        DataError: the file is missing, has another version, or its content does not match the id in its name.
    """
    path = layout.plan(plan_id)
    try:
        value = read_sealed_json(path)
    except DataError as error:
        raise DataError(f"{error}; plan again with launch/sweep.py, which writes the same plan again") from None
    found = value.get("version") if isinstance(value, dict) else None
    if found != PLAN_VERSION:
        raise DataError(f"{path}: plan of version {found}, this sam2ft reads {PLAN_VERSION}; plan again")
    try:
        runs = _RUNS.validate_python(value["runs"])
        plan = Plan(value["experiment"], value["source"], value["fresh"], runs, value.get("code"))
    except (KeyError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: not a plan ({reason}); plan again with launch/sweep.py") from None
    # A plan of somebody else is read for its report: its ids are names of folders, and must not lead out of this one.
    for name in (name for run in runs for name in (run.run_id, *run.eval_ids)):
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise DataError(f"{path}: {name!r} is not the name of a folder; plan again with launch/sweep.py")
    if plan.plan_id != plan_id:
        raise DataError(f"{path}: its content was changed after it was written; plan again with launch/sweep.py")
    return plan


def evaluation_is_current(layout: RunLayout, run: PlannedRun, eval_id: str, best_sha256: str | None) -> bool:
    """Whether an evaluation is complete and was computed with the current weights of the run.

    One whose `_SUCCESS` is damaged is not: it is made again, and a note says why.
    """
    success = layout.evaluation(eval_id).success
    if not success.is_file():
        return False
    try:
        found = read_json(success)["checkpoint_sha256"]
    except (DataError, KeyError, TypeError) as error:
        reason = str(error) if isinstance(error, DataError) else f"{success}: not the _SUCCESS file of an evaluation"
        tell_damage(f"{reason}; this evaluation is to be made again")
        return False
    # The run_id of a baseline contains the digest of its weights, so they cannot differ.
    return run.baseline or found == best_sha256


def newest_plan(layout: ExperimentLayout) -> Plan:
    """Load the plan that was written last.

    Raises:
        DataError: the folder has no plan, or the newest one cannot be read.
    """
    ids = _plan_ids(layout)
    if not ids:
        raise DataError(
            wrong_kind(layout.folder, Wanted.RUNS) or f"{layout.folder}: no plan here; run launch/sweep.py first"
        )
    try:
        return load_plan(layout, ids[0])
    except DataError as error:
        raise DataError(f"{error}; launch/sweep.py makes a new one and keeps finished runs") from None


def plans_of(layout: ExperimentLayout) -> Iterator[Plan]:
    """Yield every readable plan of an experiment, the newest first; a note names a damaged one."""
    for plan_id in _plan_ids(layout):
        try:
            plan = load_plan(layout, plan_id)
        except DataError as error:
            tell_damage(f"{error}; left out")
            continue
        yield plan


def _plan_ids(layout: ExperimentLayout) -> list[str]:
    """The ids of all plans, the newest first."""
    found = listed_files(layout.folder, "plan-*.json")
    paths = sorted(found, key=lambda path: found[path].st_mtime_ns, reverse=True)
    return [path.stem.removeprefix("plan-") for path in paths]
