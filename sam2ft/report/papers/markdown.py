"""Markdown helpers: escaping of arbitrary names, pipe tables and lists."""

import re
from collections.abc import Iterable, Sequence

from sam2ft.report.comparison.number_text import printable


def code_text(name: object) -> str:
    """A name as inline code: delimited by more backticks than it contains, without line breaks."""
    text = printable(name)
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    padding = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{padding}{text}{padding}{fence}"


def escaped_text(name: object) -> str:
    """A name as plain text: characters with a meaning in Markdown or HTML are escaped."""
    text = printable(name).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # Headings and rules are only recognised at the start of a line.
    return re.sub(r"([\\`*_\[\]|~$^]|^[#+=-])", r"\\\1", text)


def markdown_table(heads: Sequence[str], lines: Iterable[Sequence[str]], numbers: Sequence[str] = ()) -> str:
    """A pipe table; the cells are already Markdown, and the columns named in `numbers` are aligned right."""
    rule = ["---:" if head in numbers else "---" for head in heads]
    # An unescaped | would end the cell, even inside inline code.
    safe = ([re.sub(r"(?<!\\)\|", r"\|", cell) for cell in cells] for cells in (heads, rule, *lines))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in safe) + "\n"


def markdown_list(words: Iterable[str]) -> str:
    """An enumeration: `a`, `a and b`, `a, b and c`."""
    found = list(words)
    return " and ".join([", ".join(found[:-1]), found[-1]]) if len(found) > 1 else "".join(found)
