"""Collect the results of runs into tables and a report."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sam2ft.core.command import run_command

WHAT = """what to collect:
  EXP.yaml or runs/EXP     the newest plan of an experiment; the report goes to runs/EXP/report
  several, or runs, or evaluations by their folders, or quoted patterns ('runs/knee_*/knee_*-*')
                           into one report: --out, default runs/_reports/<12 hex of the arguments>

actions:
  export-best              also write the best point as an experiment file that can be run, and its weights
                           (into --out, default: best/ in the report)

exit code 3: --require-complete was given and a planned run is not done or not counted"""


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of launch/aggregate.py."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=WHAT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("given", nargs="+", metavar="EXP.yaml | RUN", help="see below; export-best may follow")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the report (with export-best: of its files)")
    parser.add_argument("--require-complete", action="store_true", help="exit with 3 when a planned run is not done")
    parser.add_argument("--latex", action="store_true", help="also write tables for LaTeX")
    parser.add_argument("--markdown", action="store_true", help="also write tables in Markdown")
    parser.add_argument("--excel", action="store_true", help="also write tables as an Excel workbook")
    parser.add_argument("--tensorboard", action="store_true", help="log a summary to TensorBoard")
    parser.add_argument(
        "--wandb", nargs="?", const="online", choices=("online", "offline"), help="log a summary to W&B"
    )
    return parser


EXPORT = "export-best"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run launch/aggregate.py; returns the exit code."""
    # Options may be between positional arguments: `EXP --latex export-best`.
    given = parser().parse_intermixed_args(arguments)
    from sam2ft.report.request import PaperFormats
    from sam2ft.sweeps.aggregate import aggregate_sources

    return aggregate_sources(
        tuple(text for text in given.given if text != EXPORT),
        given.out,
        export=EXPORT in given.given,
        require_complete=given.require_complete,
        papers=PaperFormats(given.latex, given.markdown, given.excel),
        tensorboard=given.tensorboard,
        wandb=given.wandb,
    )


if __name__ == "__main__":
    run_command(main)
