"""What one call of a sweep would do, put together and shown before anything is done."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType

from sam2ft.core.errors import UserError
from sam2ft.jobs.preflight.preflight import ResolvedSweep
from sam2ft.report.terminal import show
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import Plan, PlannedRun
from sam2ft.sweeps.plan.difference import Difference, orphan_sentence, orphans, plan_difference, previous_plan
from sam2ft.sweeps.plan.estimate import CostEstimate, SweepTarget, estimate_cost
from sam2ft.sweeps.plan.page import amount_text, estimate_json, plan_page
from sam2ft.sweeps.plan.stale import stale_note, stale_runs
from sam2ft.sweeps.state.reconcile import ReconciledRun, Retry, reconcile, sentence, to_submit
from sam2ft.sweeps.state.slurm_snapshot import SlurmSnapshot
from sam2ft.sweeps.status.table import status_rows, status_table

MAX_RUNS_SHOWN = 40
"""A plan of more runs is shown by its classes alone; status shows every run."""


@dataclass(frozen=True)
class Proposal:
    """A plan, where its runs stand, what would be started, and what that costs."""

    plan: Plan
    reconciled_runs: tuple[ReconciledRun, ...]
    runs: tuple[PlannedRun, ...]
    """That are started now."""
    cost: CostEstimate
    difference: Difference | None
    """From the plan before; None where there is none."""
    orphans: dict[str, str]
    """Runs of no plan any more that still run or wait."""
    stale: tuple[str, ...]
    """Names of runs that were made with other code."""

    def refuse(self, max_gpu_hours: float | None) -> None:
        """Errors: UserError when it costs more than `max_gpu_hours`, or when that cannot be known."""
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
                f"--max-gpu-hours {max_gpu_hours:g}: what these {len(self.runs)} runs take is not known "
                f"({amount_text(amount)} GPU-hours); measure it with --calibrate; nothing was started"
            )

    def sentence(self) -> str:
        return sentence(self.reconciled_runs, len(self.runs))

    def notes(self) -> list[str]:
        """What else a person has to know."""
        warnings = [f"Slurm will not run this: {problem}" for problem in self.cost.problems]
        changes = self.difference.sentence() if self.difference else ""
        return [text for text in (*warnings, changes, orphan_sentence(self.orphans), stale_note(self.stale)) if text]

    def show(self, layout: ExperimentLayout) -> None:
        """Tables and notes for people on stderr, the sentence on stdout."""
        tables: list[RenderableType] = []
        if len(self.reconciled_runs) <= MAX_RUNS_SHOWN:
            tables.append(status_table(status_rows(layout, self.reconciled_runs, stale=self.stale)))
        show([*tables, plan_page(self.cost, self.notes())])
        print(self.sentence(), flush=True)

    def to_json(self, layout: ExperimentLayout) -> dict[str, Any]:
        chosen = {run.run_id for run in self.runs}
        rows = status_rows(layout, self.reconciled_runs, stale=self.stale)
        return {
            "experiment": self.plan.experiment,
            "plan": self.plan.plan_id,
            "runs": [row | {"submit": row["run"] in chosen} for row in rows],
            **estimate_json(self.cost),
            "difference": self.difference.to_json() if self.difference else None,
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
    """Look at every run and price what is missing. `ask_sbatch`: whether it would take each class, too."""
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
    """Errors: UserError when `--retry` names a class that no failed run has, with the classes that there are."""
    failed = [reconciled for reconciled in reconciled_runs if reconciled.state == "failed"]
    if retry in (None, "all") or not failed or retry == "failed":
        return
    classes = sorted({reconciled.failure_class or "unknown" for reconciled in failed})
    if retry not in classes:
        raise UserError(
            f"--retry {retry}: no run failed so; the {len(failed)} that failed are of class {', '.join(classes)}"
        )


def print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value, indent=2), flush=True)
