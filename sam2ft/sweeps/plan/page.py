"""Output of a plan with its cost: table and sentences for a terminal, and plain values for JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sam2ft.core.errors import printable
from sam2ft.report.comparison.number_text import NOTHING
from sam2ft.runs.resources.resources import resources_text
from sam2ft.runs.states import State
from sam2ft.sweeps.plan.cost import Amount
from sam2ft.sweeps.plan.estimate import ClassRow, CostEstimate

UNKNOWN = "unknown"
_GB, _MB = 2**30, 2**20
_STATES = (State.NEW, State.DONE, State.RUNNING, State.FAILED)


def plan_page(estimate: CostEstimate, sentences: Sequence[str]) -> RenderableType:
    """Return the classes of resources as a table, followed by totals and `sentences`."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    rows = [_cells(row) for row in estimate.rows]
    # A column without any value is left out; only rows with a cost have all columns.
    columns = dict.fromkeys(name for row in rows for name in row)
    shown = [name for name in columns if any(row.get(name) for row in rows)]
    for name in shown:
        table.add_column(name, justify="left" if name in ("stage", "requests", "known from", "Slurm") else "right")
    for row in rows:
        table.add_row(*(Text(row.get(name, "")) for name in shown))
    lines = [*totals(estimate), estimate.memory.line, *sentences]
    return Group(table, *(Text(printable(line)) for line in lines if line))


def _cells(row: ClassRow) -> dict[str, str]:
    cost = row.cost
    others = {state: count for state, count in row.states.items() if state not in _STATES}
    cells: dict[str, str] = {
        "stage": row.stage,
        "requests": resources_text(row.resources),
        **{state: str(row.states.get(state, 0)) for state in _STATES},
        "others": ", ".join(f"{count} {state}" for state, count in others.items()),
        "to start": str(cost.num_tasks if cost else 0),
    }
    if cost is None:
        return cells
    train = row.stage == "train"
    return cells | {
        "s/step": (UNKNOWN if cost.step_s is None else span(*cost.step_s, digits=2)) if train else "",
        "steps": span(*cost.steps, digits=0) if train else "",
        "GPU-h": "" if row.resources.gpus_per_node == 0 else amount_text(cost.gpu_hours),
        "core-h": amount_text(cost.cpu_hours),
        "requeues": amount_text(cost.requeues, digits=0) if cost.num_arrays else "",
        "arrays": str(cost.num_arrays) if cost.num_arrays else "",
        "known from": ", ".join(cost.sources),
        "Slurm": "refuses" if row.problems or (row.answer and row.answer.accepted is False) else _start(row),
    }


def _start(row: ClassRow) -> str:
    if row.answer is None:
        return ""
    return row.answer.text.removeprefix("would ") if row.answer.accepted else NOTHING


def totals(estimate: CostEstimate) -> list[str]:
    """Return the total cost as text lines; empty when nothing is to be started."""
    if not any(row.cost for row in estimate.rows):
        return []
    if estimate.cpu_hours.num_unknown and not estimate.cpu_hours.known:
        unknown = "run times are unknown: the first runs measure them, or --calibrate before that"
        return [f"{unknown}; {_disk(estimate)}", *_too_small(estimate)]
    has_gpus = any(row.cost and row.resources.gpus_per_node for row in estimate.rows)
    hours = [f"{amount_text(estimate.gpu_hours)} GPU-hours"] if has_gpus else []
    hours.append(f"{amount_text(estimate.cpu_hours)} core-hours")
    lines = [f"at most {' and '.join(hours)}, without start-up; {_disk(estimate)}", *_too_small(estimate)]
    if estimate.cpu_hours.num_unknown:
        lines.append("unknown values are measured by the first runs, or before that with --calibrate")
    return lines


def _disk(estimate: CostEstimate) -> str:
    parts = (("checkpoints", estimate.checkpoint_bytes), ("predictions", estimate.prediction_bytes))
    sizes = [f"{name} {size_text(amount)}" for name, amount in parts if amount != Amount()]
    free = "" if estimate.free_bytes is None else f"; {estimate.free_bytes / _GB:.0f} GB are free"
    return f"on disk at most {' and '.join(sizes)}{free}"


def _too_small(estimate: CostEstimate) -> list[str]:
    needed, free = estimate.checkpoint_bytes.known + estimate.prediction_bytes.known, estimate.free_bytes
    if free is None or needed <= free:
        return []
    return [f"the disk is too small: {needed / _GB:.1f} GB may be needed, {free / _GB:.1f} GB are free"]


def amount_text(amount: Amount, digits: int = 1) -> str:
    """Return an amount as text: `12.3`, `unknown`, or `12.3 + 4 unknown`; below 1 with two significant digits."""
    known = (
        f"{amount.known:.{digits}f}" if amount.known >= 1 or amount.known == 0 or digits == 0 else f"{amount.known:.2g}"
    )
    if not amount.num_unknown:
        return known
    return f"{known} + {amount.num_unknown} unknown" if amount.known else UNKNOWN


def size_text(amount: Amount) -> str:
    """Return an amount of bytes as text in GB or MB."""
    scaled, unit = (amount.known / _GB, "GB") if amount.known >= _GB else (amount.known / _MB, "MB")
    if amount.num_unknown and not amount.known:
        return UNKNOWN
    rest = f" + {amount.num_unknown} unknown" if amount.num_unknown else ""
    return f"{scaled:.1f} {unit}{rest}"


def span(low: float, high: float, *, digits: int) -> str:
    """Return a range as text: `1.0-2.0`, or one number when both ends look the same."""
    first, last = f"{low:.{digits}f}", f"{high:.{digits}f}"
    return first if first == last else f"{first}-{last}"


# --- JSON -------------------------------------------------------------------------------------------------------------


def estimate_json(estimate: CostEstimate) -> dict[str, Any]:
    """Return the estimate as plain values for JSON; null means unknown."""
    return {
        "classes": [_class_json(row) for row in estimate.rows],
        "total": {
            "gpu_hours": _amount_json(estimate.gpu_hours),
            "core_hours": _amount_json(estimate.cpu_hours),
            "checkpoint_bytes": _amount_json(estimate.checkpoint_bytes),
            "prediction_bytes": _amount_json(estimate.prediction_bytes),
            "free_bytes": estimate.free_bytes,
        },
        "problems": list(estimate.problems),
        "memory": asdict(estimate.memory),
    }


def _class_json(row: ClassRow) -> dict[str, Any]:
    cost = row.cost
    value: dict[str, Any] = {
        "stage": row.stage,
        "resources": asdict(row.resources),
        "states": dict(row.states),
        "to_submit": cost.num_tasks if cost else 0,
    }
    if cost is None:
        return value
    return value | {
        "step_s": cost.step_s,
        "steps": cost.steps,
        "gpu_hours": _amount_json(cost.gpu_hours),
        "core_hours": _amount_json(cost.cpu_hours),
        "requeues": _amount_json(cost.requeues),
        "arrays": cost.num_arrays,
        "known_from": cost.sources,
        "slurm": None if row.answer is None else {"accepted": row.answer.accepted, "text": row.answer.text},
        "problems": row.problems,
    }


def _amount_json(amount: Amount) -> Mapping[str, Any]:
    return {"total": amount.total, "known": amount.known, "num_unknown": amount.num_unknown}
