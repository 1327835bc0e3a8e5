"""Proposal of one sweep call: the runs to start and their cost, assembled and shown before anything is started."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import RenderableType

from sam2ft.core.errors import UserError
from sam2ft.jobs.preflight.preflight import ResolvedSweep
from sam2ft.report.terminal import show
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import Plan, PlannedRun
from sam2ft.runs.states import State
from sam2ft.sweeps.plan.difference import Difference, orphan_sentence, orphans, plan_difference, previous_plan
from sam2ft.sweeps.plan.estimate import CostEstimate, SweepTarget, estimate_cost
from sam2ft.sweeps.plan.page import amount_text, estimate_json, plan_page
from sam2ft.sweeps.plan.stale_code import stale_note, stale_runs
from sam2ft.sweeps.state.reconcile import ReconciledRun, Retry, reconcile, sentence, to_submit
from sam2ft.sweeps.state.slurm_snapshot import SlurmSnapshot
from sam2ft.sweeps.status.table import status_rows, status_table

MAX_RUNS_SHOWN = 40
"""For a plan with more runs only the classes of resources are shown; status shows every run."""


@dataclass(frozen=True)
class Proposal:
    """A plan, the states of its runs, the runs that would be started, and their cost."""

    plan: Plan
    reconciled_runs: tuple[ReconciledRun, ...]
    runs: tuple[PlannedRun, ...]
    """Runs that are started now."""
    cost: CostEstimate
    difference: Difference | None
    """Difference from the previous plan; None where there is none."""
    orphans: dict[str, str]
    """Runs that are no longer in the plan but still run or wait."""
    stale: tuple[str, ...]
    """Names of runs that were made with a different version of the code."""

    def refuse(self, max_gpu_hours: float | None) -> None:
        """Refuse a proposal that costs more than `max_gpu_hours` (None: no limit), or cannot fit into its GPUs.

        Raises:
            UserError: the cost is higher, or unknown; or trainings that cannot fit.
        """
        self.cost.memory.refuse()
        if max_gpu_hours is None:
            return
        amount = self.cost.gpu_hours
        if amount.known > max_gpu_hours:
            least = "at least " if amount.num_unknown else ""
            raise UserError(
                f"--max-gpu-hours {max_gpu_hours:g}: these {len(self.runs)} runs may take {least}{amount.known:.1f} "
                "GPU-hours; nothing was started"
            )
        if amount.num_unknown:
            raise UserError(
                f"--max-gpu-hours {max_gpu_hours:g}: the cost of these {len(self.runs)} runs is not known "
                f"({amount_text(amount)} GPU-hours); measure it with --calibrate; nothing was started"
            )

    def sentence(self) -> str:
        """Return the counts of the states and of the runs to submit as text."""
        return sentence(self.reconciled_runs, len(self.runs))

    def notes(self) -> list[str]:
        """Return warnings about limits and memory, changes since the previous plan, orphans and stale code."""
        warnings = [f"Slurm will not run this: {problem}" for problem in self.cost.problems]
        warnings += [f"warning: {text}" for text in self.cost.memory.warnings]
        changes = self.difference.sentence() if self.difference else ""
        return [text for text in (*warnings, changes, orphan_sentence(self.orphans), stale_note(self.stale)) if text]

    def show(self, layout: ExperimentLayout) -> None:
        """Print tables and notes to stderr, the sentence to stdout."""
        tables: list[RenderableType] = []
        if len(self.reconciled_runs) <= MAX_RUNS_SHOWN:
            tables.append(status_table(status_rows(layout, self.reconciled_runs, stale=self.stale)))
        show([*tables, plan_page(self.cost, self.notes())])
        print(self.sentence(), flush=True)

    def to_json(self, layout: ExperimentLayout) -> dict[str, Any]:
        """Return the proposal as plain values for JSON."""
        chosen = {run.run_id for run in self.runs}
        rows = status_rows(layout, self.reconciled_runs, stale=self.stale)
        return {
            "experiment": self.plan.experiment,
            "plan": self.plan.plan_id,
            "runs": [row | {"submit": row["run"] in chosen} for row in rows],
            **estimate_json(self.cost),
            "difference": asdict(self.difference) if self.difference else None,
            "orphans": self.orphans,
            "stale_code": list(self.stale),
        }


def propose(
    layout: ExperimentLayout,
    resolved: ResolvedSweep,
    plan: Plan,
    snapshot: SlurmSnapshot,
    where: SweepTarget,
    *,
    retry: Retry | None,
    ask_sbatch: bool,
) -> Proposal:
    """Determine the state of every run, choose the runs to start, and estimate their cost.

    Args:
        ask_sbatch: whether to ask `sbatch --test-only` about each class of resources.

    Raises:
        UserError: `retry` is a failure class that no failed run has.
    """
    reconciled_runs = reconcile(layout, plan, snapshot)
    runs = to_submit(reconciled_runs, retry=retry, force=plan.fresh)
    refuse_retry_of_nothing(reconciled_runs, retry)
    before = previous_plan(layout)
    return Proposal(
        plan=plan,
        reconciled_runs=reconciled_runs,
        runs=runs,
        cost=estimate_cost(layout, resolved, reconciled_runs, runs, where, fresh=plan.fresh, ask_sbatch=ask_sbatch),
        difference=None if before is None or before.plan_id == plan.plan_id else plan_difference(before, plan),
        orphans=orphans(layout, before, plan, snapshot),
        stale=stale_runs(layout, reconciled_runs),
    )


def refuse_retry_of_nothing(reconciled_runs: Sequence[ReconciledRun], retry: Retry | None) -> None:
    """Refuse a `--retry` of a failure class that no failed run has.

    Raises:
        UserError: names the failure classes of the failed runs.
    """
    failed = [reconciled for reconciled in reconciled_runs if reconciled.state is State.FAILED]
    classes = sorted({reconciled.failure_class or "unknown" for reconciled in failed})
    if failed and retry not in (None, "all", "failed", *classes):
        raise UserError(
            f"--retry {retry}: no failed run has this class; the {len(failed)} failed runs have {', '.join(classes)}"
        )


def print_json(value: dict[str, Any]) -> None:
    """Print a value as JSON to stdout."""
    print(json.dumps(value, indent=2), flush=True)
