import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest

from sam2ft.data.store.drawn_labels import DrawnLabel
from sam2ft.report.comparison.compare import ComparedEvaluation, PointRun, compare
from sam2ft.report.page.content import (
    AgreementSection,
    CaseLabel,
    Facts,
    Picture,
    ReportData,
    SliceCase,
    label_sections,
)
from sam2ft.report.page.html import MODULES, TEMPLATES, render_page
from sam2ft.report.page.rendering import link
from sam2ft.report.plots.files import page_program
from sam2ft.report.plots.results import learning_plot
from sam2ft.report.tables.coverage import Coverage, CoveredRun
from sam2ft.runs.states import State

AGREEMENT = AgreementSection("point", ComparedEvaluation("e" * 12, "knee", "test", "box"), ())
HOSTILE = "<img src=x onerror=alert(1)>"
ALLOWED_REFERENCES = re.compile(r"#[a-z0-9-]+|\./[^:]*|data:,")


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
        PointRun(1, "two", "run-1", state=State.FAILED, reason=HOSTILE),
    ]
    rows = [
        global_row("base", 0.75),
        global_row("run-0", 0.875),
        global_row("run-0", 0.875, label=1, label_name=HOSTILE),
    ]
    comparison = compare(points, rows)
    plot = learning_plot({HOSTILE: [{"epoch": 0, "val_loss": 1.0}], "</script>": [{"epoch": 0, "val_loss": 2.0}]})
    assert plot is not None
    told = {"reason": HOSTILE, "log": (f"Traceback {HOSTILE}", "</pre><script>alert(2)</script>")}
    failed = SimpleNamespace(planned=SimpleNamespace(name="two", run_id="run-1"), failure_class=None, **told)
    picture = Picture(f"assets/{HOSTILE.replace('/', '')}.png", HOSTILE, HOSTILE)
    return ReportData(
        HOSTILE,
        HOSTILE,
        HOSTILE,
        Coverage(tuple(CoveredRun(point.name, point.run, point.state, point.reason) for point in points)),
        comparison,
        facts=(Facts(HOSTILE, ((HOSTILE, HOSTILE),)),),
        labels=label_sections(HOSTILE, "run-0", rows, "base"),
        plots_of={"learning": (plot,)},
        label_sheets=(Picture("assets/labels.png", HOSTILE),),
        cases=(
            SliceCase(picture, HOSTILE, "run-0", HOSTILE, HOSTILE, "worst", 0.5, (CaseLabel(1, HOSTILE, 0.5, "ok"),)),
        ),
        failures=(failed,),
        problems=(HOSTILE,),
        files=(("compare.csv", HOSTILE),),
    )


def test_hostile_names_are_shown_as_text_and_make_no_element(data: ReportData) -> None:
    page = Page(render_page(data))
    assert HOSTILE in page.words
    assert page.words.count("</pre><script>alert(2)</script>") == 1
    assert [given.get("type") for tag, given in page.tags if tag == "script"] == [*["application/json"] * 2, None, None]
    images = [given for tag, given in page.tags if tag == "img"]
    assert len(images) == 3
    for _, given in page.tags:
        assert not [name for name in given if name.startswith("on") or name == "style"]


@pytest.mark.parametrize("drawn", [(3, 4), (1, 2), (9, 10)])
def test_a_label_that_was_not_drawn_in_all_subjects_says_in_how_many(data: ReportData, drawn: tuple[int, int]) -> None:
    whole = Page(render_page(data)).words
    partly = [replace(one, drawn=(DrawnLabel(HOSTILE, drawn, drawn),)) for one in data.labels]
    page = Page(render_page(replace(data, labels=tuple(partly))))
    assert f"labelled in {drawn[0]} of {drawn[1]}" in page.words
    assert (
        f"Labelled in part: {HOSTILE} in {drawn[0]} of {drawn[1]} subjects; where a label was not drawn" in page.words
    )
    assert "abelled in" not in whole
    assert not [name for _, given in page.tags for name in given if name.startswith("on")]


def test_the_page_refers_to_nothing_but_itself_and_files_beside_it(data: ReportData) -> None:
    for tag, given in Page(render_page(data)).tags:
        for name in ("href", "src", "action", "data", "srcset"):
            assert given.get(name) is None or ALLOWED_REFERENCES.fullmatch(given[name] or ""), (tag, given)
    own = render_page(data).replace(page_program(), "")
    assert "http:" not in own
    assert "https:" not in own


def test_the_policy_allows_the_own_style_and_script_by_digest_and_nothing_else(data: ReportData) -> None:
    text = render_page(data)
    (policy,) = [
        given["content"] for tag, given in Page(text).tags if given.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in (policy or "").split(";"))
    assert rules["default-src"] == "'none'"
    for tag, count in (("style", 1), ("script", 2)):
        bodies = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(body.encode()).digest()).decode() for body in bodies]
        assert len(digests) == count
        assert rules[f"{tag}-src"] == " ".join(f"'sha256-{digest}'" for digest in digests)
    assert "unsafe" not in (policy or "")
    assert text.index("Content-Security-Policy") < text.index("<style>")


def test_style_and_script_do_not_end_their_element_early() -> None:
    for name in ("report.css", *(f"js/{module}.js" for module in MODULES)):
        assert "</" not in (TEMPLATES / name).read_text(encoding="utf-8")
    assert "</script" not in page_program().lower()
    assert "<!--" not in page_program()


def test_the_interpreter_is_the_file_that_its_note_names() -> None:
    """A change to the vendored file is meant, and written down."""
    digest = hashlib.sha256((TEMPLATES / "vendor" / "vega-interpreter.js").read_bytes()).hexdigest()
    assert digest in (TEMPLATES / "vendor" / "README.md").read_text("utf-8")


def test_the_data_of_plots_cannot_end_its_element_and_is_the_same_after_reading(data: ReportData) -> None:
    (body,) = re.findall('<script type="application/json" id="plots">(.*?)</script>', render_page(data), re.DOTALL)
    assert "<" not in body
    assert json.loads(body)["learning"]["columns"]["point"] == [HOSTILE, "</script>"]


def test_a_page_without_plots_has_no_program_for_them(data: ReportData) -> None:
    assert page_program() not in render_page(replace(data, plots_of={}))


def test_tables_have_captions_and_headings_of_columns_and_rows(data: ReportData) -> None:
    tags = [tag for tag, _ in Page(render_page(data)).tags]
    assert tags.count("table") == tags.count("caption") == 4
    scopes = [given.get("scope") for tag, given in Page(render_page(data)).tags if tag == "th"]
    assert {scope for scope in scopes if scope} == {"col", "row"}


def test_every_row_of_the_comparison_has_a_cell_for_every_column(data: ReportData) -> None:
    for table in re.findall("<table.*?</table>", render_page(data), re.DOTALL):
        columns = {len(re.findall("<t[dh][ >]", row)) for row in re.findall("<tr.*?</tr>", table, re.DOTALL)}
        assert len(columns) == 1


def test_the_headline_is_the_best_point_by_validation(data: ReportData) -> None:
    words = " ".join(Page(render_page(data)).words.split())
    # Student's t of four subjects with sd 0.1, cut at the largest Dice: the bootstrap [0.5, 0.9] is not shown.
    assert "0.875[0.716, 1.000] · 4 subjects" in words
    assert "[0.500, 0.900]" not in words
    assert "+0.125" in words


def test_what_the_prompts_mean_is_said_with_the_headline_and_every_table(data: ReportData) -> None:
    words = Page(render_page(data)).words
    limit = "rompted with the reference's own box in every slice: an upper bound of what a user gets"
    assert words.count(limit) == 2
    assert "negligible (TOST, p < 0.05)" in Page(render_page(replace(data, agreement=(AGREEMENT,)))).words


def test_an_incomplete_experiment_says_so_first(data: ReportData) -> None:
    assert "Incomplete." in render_page(data)
    done = replace(data, coverage=Coverage((CoveredRun("one", "run-0", State.DONE),)))
    assert "Incomplete." not in render_page(done)


def test_nothing_finished_still_makes_a_page() -> None:
    empty = ReportData(
        "x",
        "",
        "",
        Coverage((CoveredRun("one", "r", State.NEW),)),
        compare([PointRun(0, "one", "r", state=State.NEW)], []),
    )
    words = Page(render_page(empty)).words
    assert "No point has finished" in words
    assert "0 of 1" in words


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "assets/../../x", "a\\b", "", "assets//x"])
def test_a_picture_outside_the_folder_of_the_page_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="not a path below"):
        link(path)


def test_quoted_file_names_are_quoted_again_in_links() -> None:
    assert link("assets/a%2Fb #1.png") == "./assets/a%252Fb%20%231.png"
    assert link("javascript:alert(1)") == "./javascript%3Aalert%281%29"
