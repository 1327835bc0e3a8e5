import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from sam2ft.report.compare import PointRun, compare
from sam2ft.report.content import Facts, Failure, Picture, ReportData, label_sections
from sam2ft.report.coverage import Coverage, PlannedRun
from sam2ft.report.html import TEMPLATES, link, render

HOSTILE = "<img src=x onerror=alert(1)>"
ALLOWED_REFERENCES = re.compile(r"#[a-z-]+|\./[^:]*|data:,")


class Page(HTMLParser):
    """Tags with attributes, and the text between them."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture
def data(global_row: Any) -> ReportData:
    """Two points and a baseline; every name that comes from a data set is hostile."""
    points = [
        PointRun(None, "baseline", "base"),
        PointRun(0, HOSTILE, "run-0", ((f"module.{HOSTILE}", HOSTILE),), best_epoch=3, validation=0.25),
        PointRun(1, "two", "run-1", state="failed", reason=HOSTILE),
    ]
    rows = [
        global_row("base", 0.75),
        global_row("run-0", 0.875),
        global_row("run-0", 0.875, label=1, label_name=HOSTILE),
    ]
    comparison = compare(points, rows)
    return ReportData(
        HOSTILE,
        HOSTILE,
        HOSTILE,
        Coverage(tuple(PlannedRun(point.name, point.run, point.state, point.reason) for point in points)),
        comparison,
        facts=(Facts(HOSTILE, ((HOSTILE, HOSTILE),)),),
        labels=label_sections(HOSTILE, "run-0", rows, "base"),
        charts=(Picture("assets/curves.svg", HOSTILE),),
        label_charts=(Picture("assets/labels.svg", HOSTILE),),
        pictures=(Picture(f"assets/{HOSTILE.replace('/', '')}.png", HOSTILE, HOSTILE),),
        failures=(Failure("two", "run-1", HOSTILE, (f"Traceback {HOSTILE}", "</pre><script>alert(2)</script>")),),
        problems=(HOSTILE,),
        files=(("compare.csv", HOSTILE),),
    )


def test_hostile_names_are_shown_as_text_and_make_no_element(data: ReportData) -> None:
    page = Page(render(data))
    assert HOSTILE in page.words
    assert page.words.count("</pre><script>alert(2)</script>") == 1
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    images = [given for tag, given in page.tags if tag == "img"]
    assert len(images) == 3
    for _, given in page.tags:
        assert not [name for name in given if name.startswith("on") or name == "style"]


def test_the_page_refers_to_nothing_but_itself_and_files_beside_it(data: ReportData) -> None:
    for tag, given in Page(render(data)).tags:
        for name in ("href", "src", "action", "data", "srcset"):
            assert given.get(name) is None or ALLOWED_REFERENCES.fullmatch(given[name] or ""), (tag, given)
    assert "http:" not in render(data)
    assert "https:" not in render(data)


def test_the_policy_allows_the_own_style_and_script_by_digest_and_nothing_else(data: ReportData) -> None:
    text = render(data)
    (policy,) = [
        given["content"] for tag, given in Page(text).tags if given.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in (policy or "").split(";"))
    assert rules["default-src"] == "'none'"
    for tag in ("style", "script"):
        (body,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert "unsafe" not in (policy or "")
    assert text.index("Content-Security-Policy") < text.index("<style>")


def test_style_and_script_do_not_end_their_element_early() -> None:
    for name in ("report.css", "report.js"):
        assert "</" not in (TEMPLATES / name).read_text(encoding="utf-8")


def test_tables_have_captions_and_headings_of_columns_and_rows(data: ReportData) -> None:
    tags = [tag for tag, _ in Page(render(data)).tags]
    assert tags.count("table") == tags.count("caption") == 3
    scopes = [given.get("scope") for tag, given in Page(render(data)).tags if tag == "th"]
    assert {scope for scope in scopes if scope} == {"col", "row"}


def test_every_row_of_the_comparison_has_a_cell_for_every_column(data: ReportData) -> None:
    for table in re.findall("<table.*?</table>", render(data), re.DOTALL):
        columns = {len(re.findall("<t[dh][ >]", row)) for row in re.findall("<tr.*?</tr>", table, re.DOTALL)}
        assert len(columns) == 1


def test_the_headline_is_the_best_point_by_validation(data: ReportData) -> None:
    words = " ".join(Page(render(data)).words.split())
    assert "0.875[0.500, 0.900] · 4 subjects" in words
    assert "+0.125" in words


def test_an_incomplete_experiment_says_so_first(data: ReportData) -> None:
    assert "Incomplete." in render(data)
    done = replace(data, coverage=Coverage((PlannedRun("one", "run-0", "done"),)))
    assert "Incomplete." not in render(done)


def test_nothing_finished_still_makes_a_page() -> None:
    empty = ReportData(
        "x", "", "", Coverage((PlannedRun("one", "r", "new"),)), compare([PointRun(0, "one", "r", state="new")], [])
    )
    words = Page(render(empty)).words
    assert "no point has finished" in words
    assert "0 of 1" in words


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "assets/../../x", "a\\b", "", "assets//x"])
def test_a_picture_outside_the_folder_of_the_page_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="not a path below"):
        link(path)


def test_quoted_file_names_are_quoted_again_in_links() -> None:
    assert link("assets/a%2Fb #1.png") == "./assets/a%252Fb%20%231.png"
    assert link("javascript:alert(1)") == "./javascript%3Aalert%281%29"
