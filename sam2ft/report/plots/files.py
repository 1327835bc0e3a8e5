"""Conversion of plots to SVG, PDF and PNG files, and the JavaScript that draws them in the page (vl-convert).

No browser is needed.
"""

import functools
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from sam2ft.report.plots.vega import Plot, on_paper

PROGRAM_OF = "1.9.0.post1"
"""Version of vl-convert-python in constraints.txt."""
PROGRAM_SHA256 = "aa2facb021bb524a9b49e0212a280012384a45957846907c604f142523d41e73"
"""Of `page_program()` with this version: a script from a file is put into a page only if it is exactly this one."""
TEMPLATES = Path(__file__).parents[1] / "templates"
DOTS_PER_INCH = 300
SUFFIXES = ("svg", "pdf", "png")
MOST_TRIES = 60
"""Of two fonts each try is in order with a chance of 1/2, of three with 1/6."""


def plot_files(plot: Plot) -> Mapping[str, bytes]:
    """Suffix -> content: `svg`, `pdf` and `png` (300 dots per inch) of a plot; equal plots give equal bytes."""
    import vl_convert

    svg = _opacity_of_strokes(vl_convert.vega_to_svg(vl_convert.vegalite_to_vega(on_paper(plot))))
    # SVG lengths without a unit are 1/96 inch, but the sizes of the figure are in points.
    sized = re.sub(r'(<svg[^>]*?) width="([\d.]+)" height="([\d.]+)"', r'\1 width="\2pt" height="\3pt"', svg, count=1)
    return {
        "svg": sized.encode(),
        "pdf": pdf_of(svg),
        "png": vl_convert.svg_to_png(svg, ppi=DOTS_PER_INCH),
    }


def _opacity_of_strokes(svg: str) -> str:
    """Replace the opacity of paths without fill by stroke-opacity.

    The opacity of an element makes the renderer compose the whole picture again for each line: with 1,000 lines, a PNG
    took 33 s instead of 2 s.
    """

    def changed(found: re.Match[str]) -> str:
        return (
            found[0]
            if re.search(r' fill="(?!none")', found[0])
            else found[0].replace(' opacity="', ' stroke-opacity="')
        )

    return re.sub(r'<path(?: [\w:-]+="[^"]*")*', changed, svg)


def pdf_of(svg: str) -> bytes:
    """An SVG as PDF, equal SVG as equal bytes.

    The converter numbers the fonts of a file in the order of a random hash, also inside of compressed parts. Most plots
    have one font; where a name needs letters of another one, the file is made again until the fonts are in order.
    """
    import vl_convert

    made = b""
    for _ in range(MOST_TRIES):
        made = _sorted_names(vl_convert.svg_to_pdf(svg))
        fonts = re.findall(rb"/Subtype /Type0\n +/BaseFont /(\S+)", made)
        if fonts == sorted(fonts):
            break
    return made


def _sorted_names(pdf: bytes) -> bytes:
    """Sort lines of names that are in the order of a random hash; byte offsets outside of these lines do not change."""
    return re.sub(rb"(?m)(?:^ +/\w+ \d+ 0 R\n){2,}", lambda found: b"".join(sorted(found[0].splitlines(True))), pdf)


@functools.cache
def page_program() -> str:
    """Vega, Vega-Lite and the interpreter of Vega expressions as one script, which sets `window.sam2ftEmbed`.

    The interpreter evaluates expressions that Vega otherwise compiles with `Function`, which the page's content
    security policy forbids. Of the bundles of vl-convert 1.9 only Vega-Embed works: its separate bundles of Vega and
    Vega-Lite are empty objects.
    """
    import vl_convert

    # The function scope keeps the thousands of short names of the bundle out of the global scope.
    return "\n".join((_NOTICE, "(() => {", _interpreter(), vl_convert.javascript_bundle(_EMBED), "})();"))


def known_program() -> str | None:
    """Hexadecimal sha256 of `page_program`, which takes 1.3 s, for the pinned vl-convert; None for other versions."""
    return PROGRAM_SHA256 if version("vl-convert-python") == PROGRAM_OF else None


def _interpreter() -> str:
    return (TEMPLATES / "vendor" / "vega-interpreter.js").read_text("utf-8")


_EMBED = (
    "window.sam2ftEmbed = (place, spec, options) => vegaEmbed(place, spec, "
    "{...options, ast: true, expr: vegaInterpreter.expressionInterpreter});"
)
_NOTICE = """/*! Vega, Vega-Lite, Vega-Embed and vega-interpreter: Copyright (c) 2015-2025 University of Washington
Interactive Data Lab and others, BSD-3-Clause. D3: Copyright Mike Bostock, ISC.
Licences: sam2ft/report/templates/vendor/. */"""
