"""Text tables of the comparison and the coverage for a terminal, a log or a file (rich)."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, TextIO

from sam2ft.config.sweep.names import short_names
from sam2ft.core.errors import printable
from sam2ft.report.comparison.compare import MEASURES, Comparison, ComparisonRow, value_text
from sam2ft.report.comparison.number_text import NOTHING, interval, number_text, signed
from sam2ft.report.tables.coverage import Coverage
from sam2ft.runs.states import State

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table
    from rich.text import Text

# A table is never cut to fit a log: readers can scroll sideways, but "..." would hide values.
PLAIN_WIDTH = 400
LEAST_NEEDED = ("IoU per slice", "Dice per volume", "n", "epoch", "validation")
NUMBERS = ("validation", "epoch", "Dice per slice", "95 % CI", "delta", "Dice per volume", "IoU per slice", "n")


@dataclass(frozen=True)
class ComparisonTable:
    """One line per point; the best point is bold and marked `*`, the baseline comes first.

    On a narrow terminal the columns of LEAST_NEEDED are dropped one by one before any text is wrapped.
    """

    comparison: Comparison

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.measure import Measurement

        for count in range(len(LEAST_NEEDED) + 1):
            table = _comparison_table(self.comparison, LEAST_NEEDED[:count])
            needed = Measurement.get(console, options.update(max_width=PLAIN_WIDTH), table).maximum
            if needed <= options.max_width:
                break
        yield table


def coverage_table(coverage: Coverage) -> "RenderableType":
    """One sentence when all runs are done, else a table of the unfinished runs with their reasons."""
    if coverage.complete:
        return _text(coverage.sentence())
    table = _table("Not done", coverage.sentence())
    for name in ("point", "state", "reason", "run"):
        table.add_column(name, overflow="fold")
    for run in coverage.unfinished:
        table.add_row(_text(run.name), _state(run.state), _text(run.reason or NOTHING), _text(run.run))
    return table


def show(renderables: Sequence["RenderableType"], stream: TextIO | None = None) -> None:
    """Print to `stream` (default stderr): in colour on a terminal, else as plain text up to PLAIN_WIDTH wide."""
    from rich.console import Console

    target = stream or sys.stderr
    if target.isatty():
        console = Console(file=target)
        for renderable in renderables:
            console.print(renderable)
    else:
        target.writelines(terminal_text(renderable) for renderable in renderables)


def terminal_text(renderable: "RenderableType") -> str:
    """The plain text that `show` writes when the stream is not a terminal."""
    from rich.console import Console

    stream = StringIO()
    Console(file=stream, width=PLAIN_WIDTH, no_color=True, force_terminal=False).print(renderable)
    return "".join(f"{line.rstrip()}\n" for line in stream.getvalue().splitlines())


def _table(title: str, caption: str) -> "Table":
    from rich import box
    from rich.table import Table

    return Table(
        title=_text(title),
        caption=_text(caption),
        title_justify="left",
        caption_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )


def _comparison_table(comparison: Comparison, without: Sequence[str]) -> "Table":
    table = _table("Comparison", f"* {comparison.chosen}" if comparison.best else comparison.chosen)
    rows = [_cells(line, comparison) for line in comparison.lines]
    shown = [name for name in (rows[0] if rows else ()) if name not in without]
    for name in shown:
        table.add_column(_text(name), justify="right" if name in NUMBERS else "left", overflow="fold")
    for line, row in zip(comparison.lines, rows, strict=True):
        style = "bold" if line.point.run == comparison.best else ("" if line.scores else "dim")
        table.add_row(
            *(_state(line.point.state) if name == "state" else _text(row[name]) for name in shown), style=style
        )
    return table


def _cells(line: ComparisonRow, comparison: Comparison) -> dict[str, str]:
    """Column name -> text; all lines of a comparison have the same columns."""
    point, evaluation, scores = line.point, line.evaluation, line.scores
    overrides, short = dict(point.overrides), short_names(comparison.override_keys)
    slices = scores.get("dice_slice_mean")
    means = {name: number_text(scores[name].mean if name in scores else None) for name in MEASURES}
    cells = {"point": f"{'* ' if point.run == comparison.best else '  '}{point.name}"}
    for key in comparison.override_keys:
        cells[short[key]] = value_text(overrides[key]) if key in overrides else NOTHING
    if len({other.evaluation for other in comparison.lines if other.scores}) > 1:
        cells["evaluated on"] = f"{evaluation.dataset} {evaluation.split} {evaluation.protocol}" if scores else NOTHING
    return cells | {
        "validation": number_text(point.validation, 4),
        "epoch": NOTHING if point.best_epoch is None else str(point.best_epoch + 1),
        "Dice per slice": means["dice_slice_mean"],
        "95 % CI": interval(slices) or NOTHING,
        "delta": signed(line.deltas.get("dice_slice_mean")),
        "Dice per volume": means["dice"],
        "IoU per slice": means["iou_slice_mean"],
        "n": NOTHING if slices is None else str(slices.n),
        "state": point.state,
    }


def _text(value: str) -> "Text":
    """Text that rich prints literally: names may contain rich markup or terminal control sequences."""
    from rich.text import Text

    return Text(printable(value))


def _state(state: State) -> "Text":
    from rich.text import Text

    return Text(state, style=state.colour)
