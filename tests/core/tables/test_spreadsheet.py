"""Text for spreadsheets: what could be run is marked, nothing else is, and no two texts become one."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook, load_workbook

from sam2ft.core.tables.spreadsheet import for_spreadsheet, is_run

RUN = [
    "=1+1",
    '=HYPERLINK("http://x")',
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    "'=1",
    "＝1",
    "－1",
    "=",
    "-",
]
SHOWN = ["", "femur", "sub-01", "a=1", "1-2", "'quoted'", "' text", "é", "5", "mean_of_labels"]


@pytest.mark.parametrize("text", RUN)
def test_a_text_that_could_be_run_has_an_apostrophe_in_front(text):
    assert is_run(text)
    assert for_spreadsheet(text) == f"'{text}"


@pytest.mark.parametrize("text", SHOWN)
def test_other_texts_stay_as_they_are(text):
    assert for_spreadsheet(text) == text


@given(st.lists(st.text(alphabet="'=+-@\t\r\n a＝1", max_size=5), unique=True))
def test_no_two_texts_become_one(texts):
    assert len({for_spreadsheet(text) for text in texts}) == len(texts)


@given(st.text())
def test_the_first_apostrophe_taken_away_gives_the_text_back(text):
    marked = for_spreadsheet(text)
    assert (marked[1:] if is_run(marked) else marked) == text
    assert not marked.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


def test_what_is_marked_is_no_formula_in_a_workbook():
    """openpyxl decides as a spreadsheet does: text from `=` on is a formula."""
    book = Workbook()
    for text in ("=1+1", "=A1"):
        book.active.append([text, for_spreadsheet(text)])
    stream = BytesIO()
    book.save(stream)
    for plain, marked in load_workbook(BytesIO(stream.getvalue())).active.iter_rows():
        assert (plain.data_type, marked.data_type) == ("f", "s")
