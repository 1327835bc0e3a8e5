"""The page of each subject, from the tables of a report."""

from pathlib import Path

import pytest

from sam2ft.core.tables.rows import TABLES
from sam2ft.report.comparison.compare import PointRun, compare
from sam2ft.report.layout import ReportLayout
from sam2ft.report.page.content import CaseLabel, Picture, SliceCase
from sam2ft.report.page.html import render_subject
from sam2ft.report.page.subjects import MOST_RUNS, subject_pages
from sam2ft.report.page.volumes import ShownVolume
from sam2ft.report.request import ReportTables
from sam2ft.report.tables.frames import frame_of_rows, parquet_bytes
from sam2ft.statistics.cohort import global_rows

HOSTILE = "<img src=x onerror=alert(1)>"
ROLES = {"run-0": "best", "base": "baseline"}


def dice_row(make, run, subject, label, dice, slice_mean=None, **changes):
    row = make(run, subject, label, num_slices=3, tp=round(100 * dice), fp=100 - round(100 * dice), fn=0)
    return row | {"dice_slice_mean": dice if slice_mean is None else slice_mean} | changes


@pytest.fixture
def pages_of(tmp_path, volume_row, global_row):
    """The pages from (run, subject, label, dice) and changes; and what global.csv says of the same rows."""

    def make(values, cases=(), runs=("base", "run-0", "run-1"), volumes=()):
        rows = [dice_row(volume_row, *one[:4], **(one[4] if len(one) > 4 else {})) for one in values]
        layout = ReportLayout(tmp_path)
        layout.parquet("volume").mkdir(exist_ok=True)
        content = parquet_bytes(frame_of_rows(TABLES["volume"], rows))
        (layout.parquet("volume") / "00000.parquet").write_bytes(content)
        points = [PointRun(None if run == "base" else at, run, run, validation=0.1) for at, run in enumerate(runs)]
        comparison = compare(points, [global_row(run, 0.5) for run in runs])
        pages = subject_pages("study", ReportTables(layout, ("volume",)), comparison, ROLES, cases, volumes)
        return pages, global_rows(rows)

    return make


VALUES = [
    ("base", "a", 1, 0.5), ("base", "a", 2, 0.7), ("base", "b", 1, 0.6), ("base", "b", 2, 0.6),
    ("run-0", "a", 1, 0.9), ("run-0", "a", 2, 0.8), ("run-0", "b", 1, 0.4), ("run-0", "b", 2, 0.5),
    ("run-1", "a", 1, 0.3), ("run-1", "b", 2, 0.2),
]  # fmt: skip


@pytest.mark.parametrize("undrawn", ["a", "b"])
def test_a_label_that_was_not_drawn_in_a_subject_has_a_column_that_says_so(pages_of, undrawn):
    pages, _ = pages_of([one for one in VALUES if one[1:3] != (undrawn, 2) and one[0] != "run-1"])
    for page in pages:
        assert page.labels == ("label 1", "label 2")
        assert ("not labelled" in render_subject(page, "now")) is (page.subject == undrawn)
        assert page.failed("best") == ()


def test_all_labels_and_all_runs_are_there_the_chosen_first_and_the_lowest_subject_first(pages_of):
    (first, second), _ = pages_of(VALUES)
    assert (first.subject, second.subject) == ("b", "a")
    assert [line.run for line in second.lines] == ["run-0", "base", "run-1"]
    assert second.labels == ("label 1", "label 2")
    assert second.lines[0].cells["label 2"].dice_slice_mean == 0.8
    assert "label 2" not in second.lines[2].cells
    assert first.path == "subjects/subject-001.html"


def test_the_mean_of_a_subject_is_the_one_behind_global_csv(pages_of):
    several = [("run-0", "a", 1, 0.2, {"volume": "t1"}), ("run-0", "a", 3, 0.1, {"volume": "t1"})]
    pages, rows = pages_of([*VALUES, *several])
    of_run = {
        row["run"]: row["mean"]
        for row in rows
        if row["measure"] == "dice_slice_mean" and row["label_name"] == "mean_of_labels"
    }
    for role, run in (("best", "run-0"), ("baseline", "base")):
        assert sum(page.means[role] for page in pages) / len(pages) == pytest.approx(of_run[run])


def test_a_subject_leads_to_its_volumes_and_to_no_other(pages_of):
    names = ("knee/b/v", "knee/a/v", "knee/ab/v", "other/a/v")
    volumes = [ShownVolume("e", name, (), 3, (), (), ()) for name in names]
    pages, _ = pages_of(VALUES, volumes=volumes)
    assert {page.subject: page.volumes for page in pages} == {"a": (("knee/a/v", 2),), "b": (("knee/b/v", 1),)}
    text = render_subject(pages[1], "now")
    assert '../index.html#volume-2"' in text
    assert "volume-1" not in text


def test_what_was_missed_in_a_volume_is_told(pages_of):
    missed = [("run-0", "a", 3, 0.0, {"status": "missed"}), ("run-1", "a", 4, 0.0, {"status": "spurious"})]
    pages, _ = pages_of([*VALUES, *missed])
    page = next(page for page in pages if page.subject == "a")
    assert page.failed("best") == ("missed label 3",)
    assert "spurious" in render_subject(page, "now")


def test_pictures_are_those_of_the_subject_in_the_order_of_its_slices(pages_of):
    def case(where, run="run-0"):
        return SliceCase(Picture("assets/a.png", where), run, run, where, labels=(CaseLabel(1, "x", 0.0, "missed"),))

    wheres = ["knee/a/t2 slice 10", "knee/a/t2 slice 9", "knee/ab/t2 slice 1", "spine/a/t2 slice 1"]
    pages, _ = pages_of(VALUES, [*map(case, wheres), case("knee/a/t2 slice 1", "base")])
    page = next(page for page in pages if page.subject == "a")
    assert [one.where.rpartition(" ")[2] for one in page.cases] == ["9", "10", "1"]


def test_many_runs_are_cut_and_it_is_said(pages_of):
    runs = ["base", *(f"run-{i}" for i in range(MOST_RUNS + 3))]
    pages, _ = pages_of([(run, "a", 1, 0.5) for run in runs], runs=runs)
    assert len(pages[0].lines) == MOST_RUNS
    assert pages[0].num_left_out == 4
    assert "4 further runs: see volume.csv" in render_subject(pages[0], "now")


def test_names_are_text_and_the_page_runs_nothing(pages_of):
    pages, _ = pages_of([("run-0", HOSTILE, 1, 0.5, {"label_name": HOSTILE})])
    text = render_subject(pages[0], "now", pages[0], pages[0])
    assert HOSTILE not in text
    assert "&lt;img" in text
    assert "script-src 'none'" in text.replace("&#39;", "'")
    assert "<script" not in text
    assert HOSTILE not in pages[0].path


def test_without_values_there_are_no_pages(tmp_path):
    tables = ReportTables(ReportLayout(Path(tmp_path)), ())
    assert subject_pages("study", tables, compare([], []), ROLES, ()) == ()
