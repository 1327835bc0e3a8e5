"""Figure files of the plots of a report; files of unchanged plots are reused from the earlier report."""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sam2ft.config.trust import is_trusted
from sam2ft.core.digests.sealed import sealed_json
from sam2ft.core.errors import DataError
from sam2ft.core.files import read_json, sha256_file, sha256_text, write_text
from sam2ft.report.layout import ReportLayout
from sam2ft.report.plots.files import SUFFIXES, known_program, page_program, plot_files
from sam2ft.report.plots.vega import Plot, json_text

DIGESTS = "figures/digests.json"
PLOT = "plot"
"""Key of the digest of a plot's content, beside those of its files."""


def figure_files(plots: Sequence[Plot], earlier: ReportLayout) -> dict[str, bytes | Path]:
    """Path -> content of `figures/<name>.{svg,pdf,png}` of every plot, and of the file with their digests.

    An SVG file can hold a script, which runs when a reader opens the file: files that were changed, or that somebody
    else could have written, are drawn again.
    """
    known = _digests(earlier)
    made: dict[str, bytes | Path] = {}
    digests: dict[str, dict[str, str]] = {}
    for plot in plots:
        digest, before = plot.digest(), known.get(plot.name, {})
        kept = {suffix: earlier.figures / f"{plot.name}.{suffix}" for suffix in SUFFIXES}
        unchanged = before.get(PLOT) == digest and all(_is_kept(kept[name], before.get(name)) for name in SUFFIXES)
        files: Mapping[str, bytes | Path] = kept if unchanged else plot_files(plot)
        made |= {f"figures/{plot.name}.{suffix}": content for suffix, content in files.items()}
        digests[plot.name] = {PLOT: digest, **{suffix: _sha256(content) for suffix, content in files.items()}}
    if plots:
        made[DIGESTS] = sealed_json(json_text(digests)).encode()
    return made


def _is_kept(path: Path, digest: str | None) -> bool:
    return path.is_file() and sha256_file(path) == digest and is_trusted(path)


def _sha256(content: bytes | Path) -> str:
    return sha256_file(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()


def _digests(earlier: ReportLayout) -> Mapping[str, Mapping[str, str]]:
    """Name of a plot -> digest of the plot and of its files; empty where an earlier version wrote other values."""
    path = earlier.folder / DIGESTS
    try:
        found = read_json(path) if path.is_file() and is_trusted(path) else {}
    except DataError as error:
        print(f"note: {error}; all figures are made again", file=sys.stderr)
        return {}
    return {name: entry for name, entry in found.items() if isinstance(entry, dict)} if isinstance(found, dict) else {}


def cached_page_program(work: Path) -> str:
    """The script of `plots.files.page_program()`, cached in `work` for all later reports.

    What lies in the folder gets into the page only if it has the digest that is written in this package; with a version
    of vl-convert whose digest is not known, nothing is cached.
    """
    digest = known_program()
    if digest is None:
        return page_program()
    path = work / f"vega-{digest[:16]}.js"
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        text = ""
    if sha256_text(text) == digest:
        return text
    for left in work.glob("vega-*.js"):
        left.unlink()
    text = page_program()
    write_text(path, text)
    return text
