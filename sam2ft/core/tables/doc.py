"""Generator of the descriptions of all tables and their columns in docs/tables.md, from rows.py.

`python -m sam2ft.core.tables.doc` writes them; `--check` fails when they are not up to date.
"""

import textwrap
from collections.abc import Iterator
from pathlib import Path

from sam2ft.core.command import run_command
from sam2ft.core.generated_files import generate, with_block
from sam2ft.core.tables.rows import SCHEMA_VERSION, TABLES, Table

DOCUMENT = Path(__file__).parents[3] / "docs" / "tables.md"


def document() -> str:
    """The up-to-date text of docs/tables.md."""
    lines = [f"Version of the columns: {SCHEMA_VERSION}."]
    for table in TABLES.values():
        lines += ["", *_section(table)]
    return with_block(DOCUMENT.read_text("utf-8"), "tables", lines)


def _section(table: Table) -> Iterator[str]:
    yield from (f"## {table.name}.csv", "")
    yield from textwrap.wrap(table.description, 120, break_on_hyphens=False)
    yield from ("", "| column | type | unit | meaning |", "|---|---|---|---|")
    for column in (*table.columns, *table.later):
        name = f"**{column.name}**" if column in table.key else column.name
        yield f"| {name} | {column.kind} | {column.unit} | {column.description.replace('|', '/')} |"
    yield from ("", "Bold: key columns." + (" Metrics may add columns." if table.extensible else ""))


def main() -> None:
    generate({DOCUMENT: document()}, __doc__)


if __name__ == "__main__":
    run_command(main)
