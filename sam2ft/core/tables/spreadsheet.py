"""Text cells of files that people open in a spreadsheet: none is run as a formula."""

import re

# A spreadsheet takes a cell that begins so for a formula, also behind blanks and in full-width signs; one that begins
# with a tab or a line end is taken apart first. The apostrophes are those of texts that were marked before.
_RUN = re.compile(r"'*(?:[\t\r\n]|\s*[=+\-@＝＋－＠])")


def is_run(text: str) -> bool:
    """Whether a spreadsheet could run this text, or show it otherwise than it is."""
    return _RUN.match(text) is not None


def for_spreadsheet(text: str) -> str:
    """The text with an apostrophe in front where a spreadsheet could run it; other texts as they are.

    The apostrophe says "text" to a spreadsheet, and is not shown where a user types it. Two texts never become equal:
    without the first apostrophe of a marked text, it is the text before. Numbers are not texts: they are written by
    `rows.cell` alone, and -1.5 stays a number.
    """
    return f"'{text}" if is_run(text) else text
