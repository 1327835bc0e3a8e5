"""Agreement on the page: which rows and numbers are shown, and that the pictures are of the pairs."""

import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from sam2ft.core.tables.rows import TABLES
from sam2ft.report.comparison.compare import Comparison
from sam2ft.report.comparison.number_text import decimals, row_interval, unit_text
from sam2ft.report.page.content import ReportData, agreement_sections
from sam2ft.report.page.html import render_page
from sam2ft.report.plots.agreement_plots import agreement_plots
from sam2ft.report.plots.files import plot_files
from sam2ft.report.tables.coverage import Coverage

HOSTILE = "<img src=x onerror=alert(1)>"
REFERENCES, PREDICTIONS = [2.0, 2.2, 2.4, 2.6], [2.1, 2.1, 2.5, 2.7]


def biomarker_row(**other):
    """A row of biomarker_global.csv; what is not named is empty."""
    stamp = {"run": "r", "eval": "e" * 12, "dataset": "knee", "split": "test", "protocol": "box"}
    kind = {"tissue": HOSTILE, "biomarker": "cartilagethickness", "definition": "ThCcAB", "unit": "mm"}
    numbers = {"n": 4, "n_missed": 0, "n_spurious": 0, "reference_mean": 2.3, "bias": 0.05, "sd_difference": 0.1}
    ends = {"bias_ci_low": -0.11, "bias_ci_high": 0.21, "loa_low": -0.146, "loa_high": 0.246}
    limits = {"loa_low_ci_low": -0.5, "loa_low_ci_high": -0.05, "loa_high_ci_low": 0.15, "loa_high_ci_high": 0.6}
    empty = dict.fromkeys(TABLES["biomarker_global"].column_names())
    return {**empty, **stamp, **kind, **numbers, **ends, **limits, "reason": "", **other}


def page_of(*sections):
    data = ReportData("x", "", "now", Coverage(()), Comparison((), None, "nothing has finished"), agreement=sections)
    return re.sub(r"\s+", " ", render_page(data))


def test_the_main_definition_of_a_biomarker_is_shown_and_all_of_a_users_own():
    rows = [
        biomarker_row(),
        biomarker_row(definition="P95"),
        biomarker_row(biomarker="tissuevolume", definition="volume", unit="mL"),
        biomarker_row(biomarker="tissuevolume", definition="volume", unit="mm3"),
        biomarker_row(biomarker="mine", definition="any", unit="1", bias=math.nan),
        biomarker_row(run="another"),
        biomarker_row(tissue="bone", n=0),
        biomarker_row(eval="f" * 12),
    ]
    first, second = agreement_sections("best", "r", rows)
    assert [(row["definition"], row["unit"]) for row in first.rows] == [
        ("ThCcAB", "mm"),
        ("volume", "mL"),
        ("any", "1"),
    ]
    assert first.rows[2]["bias"] is None
    assert (second.evaluation.eval, len(second.rows)) == ("f" * 12, 1)


def test_numbers_intervals_and_reasons_are_on_the_page_and_names_are_escaped():
    rows = (
        biomarker_row(
            within_yardstick=0, yardstick_percent=1.2, rms_cv_percent=3.14, n_missed=2, equivalent_within=0.1679
        ),
        biomarker_row(biomarker="mine", unit="mm3", reference_mean=12345.0, bias=-12.6, reason="2 subjects <3"),
        biomarker_row(biomarker="other", within_yardstick=1, yardstick_percent=4.0),
    )
    (section,) = agreement_sections("best", "r", rows)
    page = page_of(section)
    assert HOSTILE not in page
    assert '+0.050 <span class="ci">[−0.110, 0.210]</span>' in page
    ends = '<span class="ci">[−0.500, −0.050] [0.150, 0.600]</span>'
    assert f'−0.146 to +0.246<span class="ci">−6.3 % to +10.7 %</span> {ends}' in page
    assert "±0.168" in page
    assert '<span class="ci wait">above 1.2</span>' in page
    assert '<span class="ci good">within 4.0</span>' in page
    assert "ThCcAB, mm³" in page
    assert '−13 <span class="ci">[−0, 0]</span>' in page
    assert "2 subjects &lt;3" in page
    assert '4<span class="ci bad">2 missed</span>' in page
    assert "spurious</span>" not in page


def test_a_reason_stands_beside_its_biomarker_and_empty_numbers_are_dashes():
    names = ("bias_ci_low", "bias_ci_high", "loa_low", "loa_high")
    rows = (biomarker_row(reason="2 subjects, 3 are needed", **dict.fromkeys(names)),)
    page = page_of(*agreement_sections("best", "r", rows))
    assert "2 subjects, 3 are needed" in page
    assert '<td class="n">– <' in page or '<td class="n">–</td>' in page
    assert "None" not in page
    assert "nan" not in page


def plots(**other):
    subjects = {f"s{number}": pair for number, pair in enumerate(zip(REFERENCES, PREDICTIONS, strict=True))}
    return agreement_plots("agreement-1-1", subjects, biomarker_row(**other))


def values_of(plot, field):
    """What the layers of a plot say of one field of their own small data sets."""
    return [
        row[field] for layer in plot.spec["layer"] for row in layer.get("data", {}).get("values", ()) if field in row
    ]


def test_plots_after_the_third_biomarker_are_folded():
    section = agreement_sections("best", "r", [biomarker_row()] * 5)[0]
    drawn = tuple(
        tuple(replace(plot, name=f"agreement-1-{number}-{side}") for side, plot in enumerate(plots()))
        for number in range(5)
    )
    page = page_of(replace(section, plots=drawn))
    assert "<summary>2 further biomarkers</summary>" in page
    assert (
        page.index('id="plot-agreement-1-2-0"')
        < page.index("<summary>2 further")
        < page.index('id="plot-agreement-1-3-0"')
    )
    assert page.count('href="#plot-agreement-1-4-0"') == 1
    assert 'href="#agreement"' in page
    assert 'id="agreement"' not in page_of()


def test_the_plots_have_a_dot_per_subject_and_a_line_and_band_per_number():
    difference, both = plots()
    assert difference.columns["mean"] == pytest.approx([2.05, 2.15, 2.45, 2.65])
    assert difference.columns["difference"] == pytest.approx([0.1, -0.1, 0.1, 0.1])
    assert (both.columns["reference"], both.columns["prediction"]) == (REFERENCES, PREDICTIONS)
    assert set(values_of(difference, "value")) == {0, 0.05, -0.146, 0.246}
    assert {*zip(values_of(difference, "low"), values_of(difference, "high"), strict=True)} == {
        (-0.11, 0.21), (-0.5, -0.05), (0.15, 0.6),
    }  # fmt: skip
    scales = [both.spec["layer"][1]["encoding"][axis]["scale"]["domain"] for axis in "xy"]
    assert scales[0] == scales[1]
    assert scales[0][0] < 2.0 < 2.7 < scales[0][1]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_subjects_are_a_plot_without_limits(n):
    empty = dict.fromkeys(name for name in biomarker_row() if name.startswith(("loa", "bias_ci")))
    row = biomarker_row(n=n, **empty, unit="1", definition="_$\\frac{")
    subjects = dict(list({"a": (2.0, 2.1), "b": (2.2, 2.1)}.items())[:n])
    for plot in agreement_plots("x", subjects, row):
        files = plot_files(plot)
        ElementTree.fromstring(files["svg"])
        assert files == plot_files(plot)
        assert set(values_of(plot, "line")) <= {"bias"}


def test_perfect_agreement_has_no_limits_on_top_of_its_bias():
    difference, _ = plots(sd_difference=0.0, bias=0.0, loa_low=0.0, loa_high=0.0)
    assert set(values_of(difference, "said")) == {"bias +0.000"}


def test_digits_follow_the_size_of_the_reference():
    assert [decimals(mean) for mean in (2.3, 40.0, 12345.0, 0.031, 0.0, None)] == [3, 2, 0, 5, 3, 3]
    assert row_interval({"x_ci_low": -1.25, "x_ci_high": math.nan}, "x") == ""
    assert [unit_text(unit) for unit in ("mm3", "percent", "1", "ms")] == ["mm³", "%", "", "ms"]
