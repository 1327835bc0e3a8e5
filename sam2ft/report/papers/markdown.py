"""Markdown from names that may hold anything: shown as text, never as markup."""

import re
from collections.abc import Iterable, Sequence

from sam2ft.report.comparison.words import printable


def code_text(name: object) -> str:
    """A name as inline code: fenced by more backticks than it holds, without line ends."""
    text = printable(name)
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    padding = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{padding}{text}{padding}{fence}"


def escaped_text(name: object) -> str:
    """A name as running text: what Markdown or HTML could read otherwise is escaped."""
    text = printable(name).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # Headings and rules begin at the start of a line alone.
    return re.sub(r"([\\`*_\[\]|~$^]|^[#+=-])", r"\\\1", text)


def markdown_table(heads: Sequence[str], lines: Iterable[Sequence[str]], numbers: Sequence[str] = ()) -> str:
    """A pipe table of cells that are Markdown already; the columns in `numbers` are aligned right."""
    rule = ["---:" if head in numbers else "---" for head in heads]
    # A bare | would end the cell, inside inline code too.
    safe = ([re.sub(r"(?<!\\)\|", r"\|", cell) for cell in cells] for cells in (heads, rule, *lines))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in safe) + "\n"


def markdown_list(words: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    found = list(words)
    return " and ".join([", ".join(found[:-1]), found[-1]]) if len(found) > 1 else "".join(found)
