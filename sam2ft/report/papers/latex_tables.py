r"""Result tables for a paper in LaTeX: `\input` them; the preamble needs booktabs and rotating.

A table is as wide as the text at most: mean and interval of a cell stand on two lines; a wide table is turned
(sidewaystable), one that is still too wide is divided by measures, and one that is too high by rows.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sam2ft.core.errors import printable
from sam2ft.report.papers.tables import COUNTS, Cell, PaperRow, PaperTable, text_of

NOTICE = "% made by sam2ft; \\usepackage{booktabs,rotating} in the preamble; names in other alphabets need LuaLaTeX\n"
# For the class article with 10 points: \small letters are 4.6 pt wide on average, \textwidth is 345 pt, \textheight
# 550 pt. Journals have more room.
PORTRAIT, LANDSCAPE = 68, 108
"""Characters in a line of a table with \\small letters."""
_ROWS = {PORTRAIT: 18, LANDSCAPE: 9}
"""Rows of two lines that a page has room for, below the caption."""
_GAP = 3
"""Characters between two columns (2 x \\tabcolsep)."""
_LONGEST = (26, 18, 12, 8)
"""Characters after which a name is broken into several lines: the first with which a table fits."""


def latex(tables: Sequence[PaperTable]) -> str:
    r"""All tables as LaTeX for `\input`."""
    parts = [part for table in tables for part in _parts(table)]
    return NOTICE + "\n".join(_latex_of(part, number) for number, part in enumerate(parts, start=1))


@dataclass(frozen=True)
class _Part:
    """A table, or a part of one, and how it is set."""

    table: PaperTable
    limit: int
    """Characters that a line has room for."""
    longest: int
    """Characters after which a name is broken."""


def _parts(given: PaperTable) -> Iterator[_Part]:
    """The table, or the tables that it is divided into."""
    table, longest = _narrowed(given)
    limit = PORTRAIT if _width(table, len(table.cell_heads), longest) <= PORTRAIT else LANDSCAPE
    most = max((n for n in range(1, len(table.cell_heads) + 1) if _width(table, n, longest) <= limit), default=1)
    first = True
    for columns in _chunks(len(table.cell_heads), most):
        for rows in _row_chunks(table, limit, longest):
            caption = table.caption if first else f"{table.caption.partition(':')[0]}: continued."
            kept = tuple(replace(row, cells=row.cells[columns]) for row in table.rows[rows])
            yield _Part(
                replace(table, caption=caption, cell_heads=table.cell_heads[columns], rows=kept), limit, longest
            )
            first = False


def _narrowed(table: PaperTable) -> tuple[PaperTable, int]:
    """The table and the characters after which its names are broken, so that a measure fits beside them.

    Where even short lines do not help, the columns of settings are left out: the name of a point has them too.
    """
    # Two measures beside each other, where that only needs shorter lines of names: fewer tables.
    for measures in (min(2, len(table.cell_heads)), 1):
        for longest in _LONGEST:
            if _width(table, measures, longest) <= LANDSCAPE:
                return table, longest
    kept = [number for number, head in enumerate(table.text_heads) if number == 0 or head in COUNTS]

    def chosen(values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(values[number] for number in kept)

    rows = tuple(replace(row, texts=chosen(row.texts)) for row in table.rows)
    return replace(table, text_heads=chosen(table.text_heads), rows=rows), _LONGEST[0]


def _chunks(count: int, most: int) -> Iterator[slice]:
    """Ranges of at most `most`, of as equal length as possible."""
    number = max(1, -(-count // most))
    size = max(-(-count // number), 1)
    return (slice(start, start + size) for start in range(0, max(count, 1), size))


def _row_chunks(table: PaperTable, limit: int, longest: int) -> Iterator[slice]:
    """Ranges of rows that fit on a page: a row has two lines, or those of its longest name."""
    room, start, used = 2 * _ROWS[limit], 0, 0
    for number, row in enumerate(table.rows):
        # Letters of a bold name are wider, and pieces are not broken, so a line may be shorter than `longest`.
        lines = max([2, *(1 + len(text_of(value)) // (longest - longest // 4 - 1) for value in row.texts)])
        if used + lines > room and number > start:
            yield slice(start, number)
            start, used = number, 0
        used += lines
    yield slice(start, len(table.rows))


def _width(table: PaperTable, num_cells: int, longest: int) -> int:
    """Characters in a line of the table with its names and the widest `num_cells` of the measures."""
    texts = [_text_width(table, number, longest) for number in range(len(table.text_heads))]
    cells = sorted((_cell_width(table, number) for number in range(len(table.cell_heads))), reverse=True)
    return sum(width + _GAP for width in [*texts, *cells[:num_cells]])


def _text_width(table: PaperTable, number: int, longest: int) -> int:
    texts = [table.text_heads[number], *(text_of(row.texts[number]) for row in table.rows)]
    return min(max(map(len, texts)), longest)


def _cell_width(table: PaperTable, number: int) -> int:
    cells = [row.cells[number] for row in table.rows]
    parts = [part for cell in cells if cell is not None for part in (cell.value_text, cell.interval_text)]
    return max(map(len, [*table.cell_heads[number].split(), *parts]))


def _latex_of(part: _Part, number: int) -> str:
    table, longest = part.table, part.longest
    kind = "table" if part.limit == PORTRAIT else "sidewaystable"
    heads = [_broken(head, longest) for head in table.text_heads] + [_head(head) for head in table.cell_heads]
    lines = [
        f"\\begin{{{kind}}}",
        "\\centering\\small",
        f"\\caption{{{latex_text(table.caption)}}}",
        f"\\label{{tab:{table.name}-{number}}}",
        f"\\begin{{tabular}}{{{_columns(table, longest)}}}",
        "\\toprule",
        f"{' & '.join(heads)} \\\\",
        "\\midrule",
        "\\addlinespace\n".join(f"{_row(row, longest)} \\\\\n" for row in table.rows).rstrip(),
        "\\bottomrule",
        "\\end{tabular}",
        f"\\end{{{kind}}}",
        "",
    ]
    return "\n".join(lines)


def _columns(table: PaperTable, longest: int) -> str:
    """Columns of the tabular: names to the left, those that are broken in a box, numbers to the right."""
    kinds = []
    for number, head in enumerate(table.text_heads):
        texts = [text_of(row.texts[number]) for row in table.rows]
        if any(len(text) > longest for text in [head, *texts]):
            kinds.append(f"p{{{longest / 2:g}em}}")
        else:
            is_number = all(not isinstance(row.texts[number], str) for row in table.rows)
            kinds.append("r" if is_number else "l")
    return "".join(kinds) + "c" * len(table.cell_heads)


def _head(head: str) -> str:
    """A head with a word per line, so that it is not wider than its column."""
    words = [latex_text(word) for word in head.split()]
    return _stacked(words)


def _row(row: PaperRow, longest: int) -> str:
    texts = [_broken(text_of(value), longest) for value in row.texts]
    texts = [f"\\textbf{{{text}}}" for text in texts] if row.bold else texts
    return " & ".join([*texts, *(_cell(cell, bold=row.bold) for cell in row.cells)])


def _cell(cell: Cell | None, *, bold: bool) -> str:
    if cell is None:
        return "--"
    parts = [_signs(part) for part in (cell.value_text, cell.interval_text) if part]
    texts = [f"\\textbf{{{part}}}" if bold else f"{{{part}}}" for part in parts]
    return _stacked(texts)


def _signs(numbers: str) -> str:
    """Numbers with the signs of mathematics: a hyphen is no minus."""
    return numbers.replace("-", "$-$").replace("±", "$\\pm$")


def _stacked(lines: Sequence[str]) -> str:
    return lines[0] if len(lines) == 1 else "\\shortstack{" + "\\\\".join(lines) + "}"


def _broken(text: str, longest: int) -> str:
    """A name that may be broken after every third character where it is long."""
    if len(text) <= longest:
        return latex_text(text)
    pieces = [text[start : start + 3] for start in range(0, len(text), 3)]
    return "\\allowbreak{}".join(latex_text(piece) for piece in pieces)


# LaTeX would read a bracket at the start of a table row as an argument of the preceding row end (two backslashes).
_LATEX = {
    "[": "{[}",
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "–": "--",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def latex_text(text: object) -> str:
    """Any text with all LaTeX special characters escaped."""
    return re.sub("|".join(map(re.escape, _LATEX)), lambda found: _LATEX[found[0]], printable(text))
