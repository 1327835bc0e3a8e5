"""Result tables for a paper, in Markdown and Excel (latex_tables.py: in LaTeX): mean ± sd [95 % CI].

The numbers of the comparison are means over labels, then over subjects. Bold marks the point chosen by validation,
never the highest number on the test split; the caption says so, and what the prompts mean for the results.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from types import MappingProxyType
from typing import Any, Literal

from sam2ft.config.schema.evaluation import protocol_sentence
from sam2ft.config.sweep.names import short_names
from sam2ft.core.errors import printable
from sam2ft.core.tables.rows import MEAN_OF_LABELS, Row, Value
from sam2ft.core.tables.spreadsheet import is_run
from sam2ft.report.comparison.compare import MEASURES, ComparedEvaluation, Comparison, score_of, value_text
from sam2ft.report.comparison.drawn import DrawnOf, drawn_sentence
from sam2ft.report.comparison.number_text import MEASURE_WORDS, NOTHING
from sam2ft.report.papers.evaluation_words import missed_distance_words
from sam2ft.report.papers.markdown import escaped_text, markdown_table
from sam2ft.statistics.small_samples import interval_words

COUNTS = ("n", "missed", "spurious")
"""Heads of the columns of counts, the last ones before those of the measures."""
_SHEET_NAME = 31
"""Maximum length of a sheet name in Excel."""

_Key = tuple[Value, ComparedEvaluation, Value, Value, Value]
"""(run, evaluation, label_name, label, measure) of a row of global.csv."""


@dataclass(frozen=True)
class Cell:
    """Mean, standard deviation and confidence interval in one cell."""

    mean: float
    sd: float | None
    ci_low: float | None
    ci_high: float | None
    n: int = 0
    """Number of subjects; below 10 the interval is Student's t, else a bootstrap (statistics/small_samples)."""

    @property
    def value_text(self) -> str:
        """Mean and standard deviation, such as `0.912 ± 0.021`."""
        return f"{self.mean:.3f}{'' if self.sd is None else f' ± {self.sd:.3f}'}"

    @property
    def interval_text(self) -> str:
        """The interval, such as `[0.901, 0.923]`; empty without one."""
        return "" if self.ci_low is None or self.ci_high is None else f"[{self.ci_low:.3f}, {self.ci_high:.3f}]"

    @property
    def text(self) -> str:
        """The cell as text, such as `0.912 ± 0.021 [0.901, 0.923]`."""
        return f"{self.value_text} {self.interval_text}".strip()


@dataclass(frozen=True)
class PaperRow:
    """One line: text cells, then summaries (None for an empty cell)."""

    texts: tuple[Value, ...]
    """Names, values of settings and counts; a number is one in the workbook."""
    cells: tuple[Cell | None, ...]
    bold: bool = False


@dataclass(frozen=True)
class PaperTable:
    """One table of a paper."""

    name: str
    """Short name, used in LaTeX labels and sheet names."""
    caption: str
    text_heads: tuple[str, ...]
    cell_heads: tuple[str, ...]
    rows: tuple[PaperRow, ...]


def paper_tables(
    comparison: Comparison,
    global_rows: Sequence[Row],
    shown: str | None,
    missed_distance: float | Literal["diagonal"] = "diagonal",
    drawn: DrawnOf = MappingProxyType({}),
) -> tuple[PaperTable, ...]:
    """The comparison of points and the results per label of the run `shown`, per dataset, split and protocol.

    Args:
        global_rows: the rows of global.csv of all runs in the comparison.
        missed_distance: `eval.missed_distance` of the shown run, for the caption.
        drawn: the labels of each evaluation that were drawn in some of its volumes only.
    """
    by_key: dict[_Key, Row] = {
        (row["run"], ComparedEvaluation.of(row), row["label_name"], row["label"], row["measure"]): row
        for row in global_rows
    }
    evaluations = dict.fromkeys(line.evaluation for line in comparison.lines if line.scores)
    # Points whose evaluations differ only in the eval_id are in one table.
    alike = dict.fromkeys(ComparedEvaluation("", *one.how) for one in evaluations)
    found = [_points_table(comparison, by_key, one, _drawn_alike(drawn, one)) for one in alike]
    for evaluation in evaluations:
        rows = [row for row in global_rows if row["run"] == shown and ComparedEvaluation.of(row) == evaluation]
        if rows:
            name = comparison.name_of_evaluation(shown, evaluation) or ""
            distance = missed_distance_words(missed_distance)
            found.append(_labels_table(rows, evaluation, name, distance, drawn_sentence(drawn.get(evaluation, ()))))
    return tuple(found)


def _drawn_alike(drawn: DrawnOf, evaluation: ComparedEvaluation) -> str:
    """A sentence for each way in which the evaluations of one table were labelled in part; as a rule one, or none."""
    sentences = (drawn_sentence(of) for one, of in drawn.items() if one.how == evaluation.how)
    return " ".join(dict.fromkeys(sentences))


def _points_table(
    comparison: Comparison, by_key: Mapping[_Key, Row], evaluation: ComparedEvaluation, drawn: str
) -> PaperTable:
    keys = comparison.override_keys
    short = short_names(keys)
    rows = []
    for line in comparison.lines:
        if not line.scores or line.evaluation.how != evaluation.how:
            continue
        overrides = dict(line.point.overrides)
        key = (line.point.run, line.evaluation, MEAN_OF_LABELS, None)
        cells = tuple(_cell(by_key.get((*key, measure))) for measure in MEASURES)
        settings = (_setting(overrides[key]) if key in overrides else NOTHING for key in keys)
        counts = (max(score.n for score in line.scores.values()), line.n_missed, line.n_spurious)
        rows.append(PaperRow((line.point.name, *settings, *counts), cells, bold=line.point.run == comparison.best))
    bold = (
        f"In bold: the point chosen by validation ({comparison.choice}), not the highest number"
        if any(row.bold for row in rows)
        else f"No line is in bold: {comparison.choice}"
    )
    caption = (
        f"Dataset {evaluation.words}: mean over labels, then over n subjects{_spread_words(rows)}. {_counts_words()} "
        f"{f'{drawn} ' if drawn else ''}"
        f"{protocol_sentence(evaluation.protocol)} {bold}."
    )
    heads = ("point", *(short[key] for key in keys), *COUNTS)
    return PaperTable("points", caption, heads, tuple(MEASURE_WORDS[name] for name in MEASURES), tuple(rows))


def _setting(value: object) -> Value:
    """The value of a setting for a cell: a number as it is, everything else as text in YAML notation."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    return value_text(value)


def _counts_words(distance: str = "") -> str:
    missed = (
        "Missed and spurious: labels in one of the two masks only, counted over labels and volumes; each counts as 0"
    )
    return f"{missed}{f' in overlaps and as {distance} in distances' if distance else ''}."


def _labels_table(
    rows: Sequence[Row], evaluation: ComparedEvaluation, point: str, distance: str, drawn: str
) -> PaperTable:
    measures = [name for name in MEASURE_WORDS if any(row["measure"] == name for row in rows)]
    labels = dict.fromkeys((row["label"], str(row["label_name"])) for row in rows)
    own = [label for label in labels if label[0] is not None]
    lines = []
    for label, name in [*own, (None, MEAN_OF_LABELS)]:
        of = {str(row["measure"]): row for row in rows if (row["label"], row["label_name"]) == (label, name)}
        first: Row = of.get("dice") or next(iter(of.values()), {})
        counts = (int(first.get(name) or 0) for name in ("n", "n_missed", "n_spurious"))
        words = "mean of labels" if label is None else name
        lines.append(PaperRow((words, *counts), tuple(_cell(of.get(measure)) for measure in measures)))
    has_distances = any(name.endswith("_mm") for name in measures)
    caption = (
        f"Dataset {evaluation.words}, {point}: mean over n subjects{_spread_words(lines)}. "
        f"{_counts_words(distance if has_distances else '')} {f'{drawn} ' if drawn else ''}"
        f"{protocol_sentence(evaluation.protocol)}"
    )
    heads = ("label", *COUNTS)
    return PaperTable("labels", caption, heads, tuple(MEASURE_WORDS[name] for name in measures), tuple(lines))


def _cell(row: Row | None) -> Cell | None:
    if row is None or (score := score_of(row)) is None:
        return None
    low, high = score.shown or (None, None)
    return Cell(score.mean, score.sd, low, high, score.n)


def _spread_words(rows: Sequence[PaperRow]) -> str:
    """What stands beside the means of the cells, for the caption; with one subject each nothing does."""
    interval = interval_words(cell.n for row in rows for cell in row.cells if cell is not None)
    return f" ± standard deviation over subjects [{interval}]" if interval else ""


def text_of(value: Value) -> str:
    """A name, value of a setting or count as text."""
    return value if isinstance(value, str) else value_text(value)


def tables_markdown(tables: Sequence[PaperTable]) -> str:
    """All tables as Markdown, each with its caption above it."""
    return "\n".join(part for table in tables for part in _markdown_of(table))


def _markdown_of(table: PaperTable) -> Iterator[str]:
    yield f"{escaped_text(table.caption)}\n"
    lines = []
    for row in table.rows:
        cells = [escaped_text(text_of(value)) for value in row.texts]
        cells += [NOTHING if cell is None else cell.text.replace("[", "\\[") for cell in row.cells]
        lines.append([f"**{cell}**" for cell in cells] if row.bold else cells)
    heads = [escaped_text(head) for head in (*table.text_heads, *table.cell_heads)]
    yield markdown_table(heads, lines, heads[len(table.text_heads) :])


def workbook(tables: Sequence[PaperTable]) -> bytes:
    """An Excel workbook: one sheet per table, each number in its own cell. Text is never interpreted as a formula."""
    from openpyxl import Workbook

    book = Workbook()
    book.remove(book.active)
    for number, table in enumerate(tables, start=1):
        _fill(book.create_sheet(f"{number} {table.name}"[:_SHEET_NAME]), table)
    stream = BytesIO()
    book.save(stream)
    return stream.getvalue()


def _fill(sheet: Any, table: PaperTable) -> None:
    from openpyxl.styles import Font

    parts = {"mean": " mean", "sd": " sd", "ci_low": " CI low", "ci_high": " CI high"}
    heads = [*table.text_heads, *(head + words for head in table.cell_heads for words in parts.values())]
    lines: list[Sequence[Value]] = [[table.caption], heads]
    for row in table.rows:
        numbers = [None if cell is None else getattr(cell, part) for cell in row.cells for part in parts]
        lines.append([*row.texts, *numbers])
    for line, values in enumerate(lines, start=1):
        for column, value in enumerate(values, start=1):
            if value is not None:
                _put(sheet.cell(line, column), value)
            if column > len(table.text_heads):
                # Only what is shown: the cell has all digits.
                sheet.cell(line, column).number_format = "0.000"
    for line, row in enumerate(table.rows, start=3):
        if row.bold:
            for cell in sheet[line]:
                cell.font = Font(bold=True)
    for cell in sheet[2]:
        cell.font = Font(bold=True)
    sheet.freeze_panes = "A3"


def _put(cell: Any, value: str | float) -> None:
    """Write text with data type string, because openpyxl makes a formula of text that starts with `=`.

    Edited in a spreadsheet, such a cell would become a formula after all, without the quote prefix (the apostrophe).
    """
    if isinstance(value, str):
        cell.value = printable(value)
        cell.data_type = "s"
        cell.quotePrefix = is_run(cell.value)
    else:
        cell.value = value
