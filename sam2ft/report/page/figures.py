"""Figure files of the plots of a report; files of unchanged plots are reused from the earlier report."""

import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from sam2ft.core.digests.sealed import sealed_json
from sam2ft.core.errors import DataError
from sam2ft.core.files import read_json, sha256_file, write_text
from sam2ft.report.layout import ReportLayout
from sam2ft.report.plots.files import SUFFIXES, page_program, plot_files, program_digest
from sam2ft.report.plots.vega import Plot, json_text

DIGESTS = "figures/digests.json"
PLOT = "plot"
"""Key of the digest of a plot's content, beside those of its files."""


def figure_files(plots: Sequence[Plot], earlier: ReportLayout) -> dict[str, bytes | Path]:
    """Path -> content of `figures/<name>.{svg,pdf,png}` of every plot, and of the file with their digests."""
    known = _digests(earlier)
    made: dict[str, bytes | Path] = {}
    digests: dict[str, dict[str, str]] = {}
    for plot in plots:
        kept = {suffix: earlier.figures / f"{plot.name}.{suffix}" for suffix in SUFFIXES}
        digest, before = plot.digest(), known.get(plot.name)
        files: Mapping[str, bytes | Path] = kept
        if before is None or before != {PLOT: digest} | {suffix: _sha256(path) for suffix, path in kept.items()}:
            files, before = plot_files(plot), None
        of_files = before or {suffix: sha256(_bytes(content)).hexdigest() for suffix, content in files.items()}
        digests[plot.name] = {**of_files, PLOT: digest}
        made |= {f"figures/{plot.name}.{suffix}": content for suffix, content in files.items()}
    if plots:
        made[DIGESTS] = sealed_json(json_text(digests)).encode()
    return made


def _bytes(content: bytes | Path) -> bytes:
    return content.read_bytes() if isinstance(content, Path) else content


def _sha256(path: Path) -> str:
    return sha256_file(path) if path.is_file() else ""


def _digests(earlier: ReportLayout) -> Mapping[str, Mapping[str, str]]:
    """Plot -> digests of it and of its files; empty where there are none, or they are damaged: all are made again."""
    path = earlier.folder / DIGESTS
    try:
        found = read_json(path) if path.is_file() else {}
    except DataError as error:
        print(f"note: {error}; all figures are made again", file=sys.stderr)
        return {}
    return {name: of for name, of in found.items() if isinstance(of, dict)} if isinstance(found, dict) else {}


def cached_page_program(work: Path) -> str:
    """The script of `plots.files.page_program()`, cached in `work` for all later reports."""
    path = work / f"vega-{program_digest()}.js"
    if not path.is_file():
        for left in work.glob("vega-*.js"):
            left.unlink()
        write_text(path, page_program())
    return path.read_text("utf-8")
