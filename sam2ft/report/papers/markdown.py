"""Markdown helpers: templates, escaping of arbitrary names, pipe tables and lists."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from sam2ft.core.errors import number_of, printable

TEMPLATES = Path(__file__).parents[1] / "templates" / "papers"


def rendered(template: str, **facts: object) -> str:
    """The text of a template. Nothing is escaped by itself: names of users go through the filter `code` or `plain`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(  # noqa: S701 (the text is Markdown)  # nosec B701
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "code": code_text,
        "plain": escaped_text,
        "listed": markdown_list,
        "number_of": number_of,
        "quoted": quoted_text,
    }
    return environment.get_template(template).render(facts)


def code_text(name: object) -> str:
    """A name as inline code: delimited by more backticks than it contains, without line breaks."""
    text = printable(name)
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    padding = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{padding}{text}{padding}{fence}"


def quoted_text(name: object) -> str:
    """A name as a Python string literal, for lines of code."""
    return json.dumps(printable(name), ensure_ascii=False)


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
