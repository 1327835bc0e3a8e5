"""Figure files of the plots of a report; files of unchanged plots are reused from the earlier report."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sam2ft.core.files import read_json, write_text
from sam2ft.report.layout import ReportLayout
from sam2ft.report.plots.files import SUFFIXES, page_program, plot_files, program_digest
from sam2ft.report.plots.vega import Plot, json_text

DIGESTS = "figures/digests.json"


def figure_files(plots: Sequence[Plot], earlier: ReportLayout) -> dict[str, bytes | Path]:
    """Path -> content of `figures/<name>.{svg,pdf,png}` of every plot, and of the file with their digests."""
    known = _digests(earlier)
    made: dict[str, bytes | Path] = {}
    digests = {plot.name: plot.digest() for plot in plots}
    for plot in plots:
        kept = {suffix: earlier.figures / f"{plot.name}.{suffix}" for suffix in SUFFIXES}
        unchanged = known.get(plot.name) == digests[plot.name] and all(path.is_file() for path in kept.values())
        files: Mapping[str, bytes | Path] = kept if unchanged else plot_files(plot)
        made |= {f"figures/{plot.name}.{suffix}": content for suffix, content in files.items()}
    if plots:
        made[DIGESTS] = json_text(digests).encode()
    return made


def _digests(earlier: ReportLayout) -> Mapping[str, str]:
    path = earlier.folder / DIGESTS
    return read_json(path) if path.is_file() else {}


def cached_page_program(work: Path) -> str:
    """The script of `plots.files.page_program()`, cached in `work` for all later reports."""
    path = work / f"vega-{program_digest()}.js"
    if not path.is_file():
        for left in work.glob("vega-*.js"):
            left.unlink()
        write_text(path, page_program())
    return path.read_text("utf-8")
