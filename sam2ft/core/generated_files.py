"""Generated files of the repository: their generators write those that are out of date, or only name them (`--check`).

`make schema` runs every generator, `make check` runs each with `--check`.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sam2ft.core.errors import DataError
from sam2ft.core.files import write_text


def generate(expected: Mapping[Path, str], about: str | None) -> None:
    """Command of a generator: write the files that do not have the expected text; `--check` fails instead.

    Args:
        expected: file -> its up-to-date text.
        about: description of the command.

    Raises:
        DataError: with `--check`; names every file that is out of date.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is out of date")
    check = parser.parse_args().check
    stale = [path for path, text in expected.items() if not path.is_file() or path.read_text("utf-8") != text]
    if stale and check:
        raise DataError("\n".join(f"{path}: out of date; run `make schema`" for path in stale))
    for path in stale:
        write_text(path, expected[path])
        print(f"wrote {path}", file=sys.stderr)


def with_block(page: str, name: str, lines: Sequence[str]) -> str:
    """The text of a page whose other parts are written by hand, with its generated block `name` replaced.

    Raises:
        ValueError: when the page has no such block.
    """
    begin, end = f"<!-- {name}: written by `make schema` -->", f"<!-- end of the {name} -->"
    found = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not found.search(page):
        raise ValueError(f"no lines {begin!r} and {end!r}")
    block = "\n".join([begin, "", *lines, "", end])
    return found.sub(lambda _: block, page)
