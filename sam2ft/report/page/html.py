"""Rendering of the HTML page with Jinja templates: one self-contained file without external references."""

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sam2ft.config.schema.evaluation import protocol_headline
from sam2ft.config.sweep.names import short_names
from sam2ft.core.errors import number_of
from sam2ft.pictures.overlay import ERRORS
from sam2ft.report.comparison.compare import MAIN_MEASURE, Comparison, ComparisonRow, short_value, value_text
from sam2ft.report.comparison.drawn import drawn_sentence
from sam2ft.report.comparison.improvement import Improvement
from sam2ft.report.comparison.number_text import (
    MEASURE_WORDS,
    decimals,
    difference_interval,
    digits_of,
    ends_text,
    interval,
    number_text,
    p_said,
    p_text,
    percent_of,
    row_interval,
    signed,
    unit_text,
)
from sam2ft.report.page.content import ReportData, SliceCase
from sam2ft.report.page.rendering import content_security_policy, page_environment, page_script
from sam2ft.report.page.subjects import SubjectPage
from sam2ft.report.page.volumes import places_of
from sam2ft.report.plots.files import TEMPLATES, page_program
from sam2ft.report.plots.vega import json_text, page_value
from sam2ft.statistics.small_samples import FEW, TOO_SMALL, smallest_p

if TYPE_CHECKING:
    from jinja2 import Environment

# Modules of templates/js in this order: the first one holds the code that the others share.
MODULES = ("page", "tables", "filters", "cases", "large", "slices", "plots", "jumps", "copy", "print", "ready")

SIGNIFICANT = 0.05
"""Largest p that is called significant."""


@dataclass(frozen=True)
class Scale:
    """Linear scale of a drawing that is 100 units wide, with margins of 4 units."""

    low: float
    high: float

    def at(self, value: float) -> str:
        """Horizontal position of `value` as text with one decimal place."""
        span = self.high - self.low
        return f"{4 + 92 * (value - self.low) / span if span > 0 else 50:.1f}"


def render_page(data: ReportData, program: Callable[[], str] = page_program) -> str:
    """The page as HTML text; `program` returns the script of `plots.files.page_program()`, for example from a cache.

    Every value is escaped, because label, subject and point names come from the data. The content security policy
    allows only the page's own style and scripts, by their digests, and images beside the page.

    Raises:
        ValueError: for a picture or file whose path leaves the folder of the page.
    """
    from markupsafe import Markup

    environment = _environment()
    top = headline(data.comparison)
    style, scripts = (TEMPLATES / "report.css").read_text("utf-8"), scripts_of(data, program)
    return environment.get_template("index.html.j2").render(
        data=data,
        headline=top,
        improvement=improvement_of(data, top),
        short=short_names(data.comparison.override_keys),
        scale=scale_of(data.comparison),
        pictured=pictured_misses(data),
        FEW=FEW,
        TOO_SMALL=TOO_SMALL,
        words=MEASURE_WORDS,
        several_evaluations=len({line.evaluation for line in data.comparison.lines if line.scores}) > 1,
        sections=sections_of(data),
        case_of=first_cases(data.cases),
        place_of=places_of(data.volumes),
        errors=ERRORS.values(),
        row_of=_first_places(line.point.run for line in data.comparison.lines),
        failure_of=_first_places(failure.planned.run_id for failure in data.failures),
        policy=content_security_policy(style, scripts),
        # Style and scripts are part of sam2ft (a test checks that they contain no "</", which would end the element);
        # `json_text` leaves no "<" in data.
        style=Markup(style),  # noqa: S704  # nosec B704
        scripts=[Markup(script) for script in scripts],  # noqa: S704  # nosec B704
        volumes=Markup(json_text([volume.to_json() for volume in data.volumes])),  # noqa: S704  # nosec B704
        plots=Markup(json_text({plot.name: page_value(plot) for plot in data.plots})),  # noqa: S704  # nosec B704
    )


def render_subject(
    page: SubjectPage, generated: str, before: SubjectPage | None = None, after: SubjectPage | None = None
) -> str:
    """The page of one subject as HTML text, without a script; `before` and `after` are those it leads to."""
    from markupsafe import Markup

    style = (TEMPLATES / "report.css").read_text("utf-8")
    return (
        _environment()
        .get_template("subject.html.j2")
        .render(
            page=page,
            generated=generated,
            before=before,
            after=after,
            policy=content_security_policy(style, ()),
            style=Markup(style),  # noqa: S704  # nosec B704 (part of sam2ft, see above)
        )
    )


@functools.cache
def _environment() -> "Environment":
    return page_environment(_filters())


def _filters() -> dict[str, Callable[..., object]]:
    """Name in the templates -> function."""
    return {
        "number": number_text,
        "number_of": number_of,
        "signed": signed,
        "interval": interval,
        "row_interval": row_interval,
        "difference_interval": difference_interval,
        "decimals": decimals,
        "digits_of": digits_of,
        "unit": unit_text,
        "prompted": protocol_headline,
        "p": p_text,
        "p_said": p_said,
        "smallest_p": smallest_p,
        "percent_of": percent_of,
        "ends": ends_text,
        "value": value_text,
        "short_value": short_value,
        "drawn_sentence": drawn_sentence,
    }


def scripts_of(data: ReportData, program: Callable[[], str] = page_program) -> list[str]:
    """Scripts of the page: the program that draws plots (if there are plots), and all modules of the page as one."""
    page = page_script(name for name in MODULES if data.plots or name != "plots")
    return [program(), page] if data.plots else [page]


def sections_of(data: ReportData) -> list[tuple[str, str]]:
    """(id and name of the template, heading) of every section that has content."""
    sections: tuple[tuple[str, str, object], ...] = (
        ("comparison", "Comparison", True),
        ("statistics", "Tests", data.statistics or {"statistics", "effects"} & data.plots_of.keys()),
        ("labels", "Labels", data.labels),
        ("distributions", "Distributions", {"distributions", "pairs"} & data.plots_of.keys()),
        ("subjects", "Subjects", data.subjects),
        ("cases", "Worst cases", data.cases),
        ("slices", "Slices to scroll", data.volumes),
        ("agreement", "Biomarkers", data.agreement),
        ("learning", "Training", "learning" in data.plots_of),
        ("what", "What was run", data.facts),
        ("differences", "Settings that differ", data.differences),
        ("methods", "Methods text", data.methods),
        ("coverage", "Coverage", True),
        ("failures", "Failures", data.failures),
        ("files", "Files", data.files),
    )
    return [(name, words) for name, words, content in sections if content]


def _first_places(names: Iterable[str]) -> dict[str, int]:
    """Name -> position of its first occurrence, counted from 1."""
    return {name: place for place, name in reversed(list(enumerate(names, start=1)))}


def first_cases(cases: Sequence[SliceCase]) -> Mapping[str, tuple[int, int]]:
    """run_id -> (position of its first case, counted from 1, number of its cases)."""
    runs = [case.run for case in cases]
    counts = Counter(runs)
    return {run: (place, counts[run]) for run, place in _first_places(runs).items()}


def headline(comparison: Comparison) -> ComparisonRow | None:
    """Line of the best point for the top of the page; None without an evaluated best point."""
    of_best = (line for line in comparison.lines if line.point.run == comparison.best)
    return next((line for line in of_best if MAIN_MEASURE in line.scores), None)


def improvement_of(data: ReportData, line: ComparisonRow | None) -> Improvement | None:
    """Chosen - baseline of the mean over labels on the evaluation of the headline."""
    of_main = (one for one in data.improvements if one.label is None and one.measure == MAIN_MEASURE)
    return next((one for one in of_main if line is not None and one.evaluation == line.evaluation), None)


def pictured_misses(data: ReportData) -> tuple[int, int]:
    """(missed labels of the slices with a picture, all missed labels of slices) of the point shown first."""
    shown = next(iter(data.labels), None)
    run = data.cases[0].run if data.cases else ""
    if shown is None:
        return 0, 0
    drawn = sum(label.status == "missed" for case in data.cases if case.run == run for label in case.labels)
    return drawn, sum(data.misses.total(run, section.evaluation).slices.missed for section in data.labels)


def scale_of(comparison: Comparison) -> Scale:
    """Common scale of the small interval drawings in the comparison table."""
    scores = [line.scores[MAIN_MEASURE] for line in comparison.lines if MAIN_MEASURE in line.scores]
    ends = [end for score in scores for end in (score.mean, *(score.shown or ()))]
    return Scale(min(ends), max(ends)) if ends else Scale(0.0, 1.0)
