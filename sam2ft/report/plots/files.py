"""Plots as files, and the program that draws them in the page: both by vl-convert, without a browser."""

import functools
import hashlib
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from sam2ft.report.plots.vega import Plot, on_paper

TEMPLATES = Path(__file__).parents[1] / "templates"
DOTS_PER_INCH = 300
SUFFIXES = ("svg", "pdf", "png")


def plot_files(plot: Plot) -> Mapping[str, bytes]:
    """`svg`, `pdf` and `png` (300 dots per inch) of a plot; equal plots, equal bytes."""
    import vl_convert

    svg = _opacity_of_strokes(vl_convert.vega_to_svg(vl_convert.vegalite_to_vega(on_paper(plot))))
    # Without a unit, SVG lengths are 1/96 inch, and the figure is meant in points.
    sized = re.sub(r'(<svg[^>]*?) width="([\d.]+)" height="([\d.]+)"', r'\1 width="\2pt" height="\3pt"', svg, count=1)
    return {
        "svg": sized.encode(),
        "pdf": _sorted_names(vl_convert.svg_to_pdf(svg)),
        "png": vl_convert.svg_to_png(svg, ppi=DOTS_PER_INCH),
    }


def _opacity_of_strokes(svg: str) -> str:
    """Of a path that is only a line, the opacity is that of its stroke.

    As the opacity of an element it has the whole picture laid out once more for each line: with 1,000 lines a PNG took
    33 s instead of 2.
    """

    def changed(found: re.Match[str]) -> str:
        return (
            found[0]
            if re.search(r' fill="(?!none")', found[0])
            else found[0].replace(' opacity="', ' stroke-opacity="')
        )

    return re.sub(r'<path(?: [\w:-]+="[^"]*")*', changed, svg)


def _sorted_names(pdf: bytes) -> bytes:
    """The names of a page's parts stand in the order of a random hash; sorting lines moves no byte offset outside."""
    return re.sub(rb"(?m)(?:^ +/\w+ \d+ 0 R\n){2,}", lambda found: b"".join(sorted(found[0].splitlines(True))), pdf)


@functools.cache
def page_program() -> str:
    """Vega, Vega-Lite and the interpreter of Vega's expressions as one script; it sets `window.sam2ftEmbed`.

    The interpreter evaluates what Vega otherwise compiles with `Function`, which the page's policy forbids. Of what
    vl-convert 1.9 can bundle, only Vega-Embed works: its Vega and Vega-Lite by themselves are empty objects.
    """
    import vl_convert

    # Inside of a function, the thousands of short names of the bundle are nobody else's.
    return "\n".join((_NOTICE, "(() => {", _interpreter(), vl_convert.javascript_bundle(_EMBED), "})();"))


def program_digest() -> str:
    """Of everything that `page_program`, which takes a second and a half, is made from: 16 hex."""
    parts = (_NOTICE, _interpreter(), _EMBED, version("vl-convert-python"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _interpreter() -> str:
    return (TEMPLATES / "vendor" / "vega-interpreter.js").read_text("utf-8")


_EMBED = (
    "window.sam2ftEmbed = (place, spec, options) => vegaEmbed(place, spec, "
    "{...options, ast: true, expr: vegaInterpreter.expressionInterpreter});"
)
_NOTICE = """/*! Vega, Vega-Lite, Vega-Embed and vega-interpreter: Copyright (c) 2015-2025 University of Washington
Interactive Data Lab and others, BSD-3-Clause. D3: Copyright Mike Bostock, ISC.
Licences: sam2ft/report/templates/vendor/. */"""
