"""Show the state of every run of an experiment; show the log of a run, explain its state, cancel or throttle runs."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sam2ft.core.command import run_command
from sam2ft.core.errors import UserError

ACTIONS = """actions:
  (none)         the table of all runs
  tail RUN       the end of a run's newest log (-n LINES, -f to follow it)
  why RUN        explain the state of a run, and what to do next
  cancel [RUN]   cancel a run's jobs, or with --yes all of the experiment
  throttle N     let at most N elements of its arrays run at once

RUN is an index, a name, or the start of a run_id."""


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of launch/status.py."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=ACTIONS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment", type=Path, help="experiment file, or its folder under runs/")
    parser.add_argument("action", nargs="?", choices=("tail", "why", "cancel", "throttle"), help="see below")
    parser.add_argument("target", nargs="?", metavar="RUN", help="see below")
    parser.add_argument("--failed", action="store_true", help="only runs that failed or were lost")
    parser.add_argument("--json", action="store_true", help="print JSON to stdout")
    parser.add_argument(
        "--watch",
        nargs="?",
        type=float,
        const=5.0,
        metavar="SECONDS",
        help="update the table until no run is running or queued",
    )
    parser.add_argument("-n", type=int, default=20, metavar="LINES", dest="lines", help="with tail: number of lines")
    parser.add_argument("-f", "--follow", action="store_true", help="with tail: follow the log while the run is active")
    parser.add_argument("--yes", action="store_true", help="with cancel: confirm that all runs are cancelled")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run launch/status.py; returns the exit code."""
    # Options may be between positional arguments: `EXP --yes cancel`.
    given = parser().parse_intermixed_args(arguments)
    if given.action is not None:
        return _act(given)
    if given.watch is None:
        from sam2ft.sweeps.status.table import show_status

        return show_status(given.experiment, only_failed=given.failed, as_json=given.json)
    if given.json or given.watch <= 0:
        raise UserError("--watch takes seconds above 0, and cannot be combined with --json")
    from sam2ft.sweeps.status.watch import watch

    return watch(given.experiment, given.watch, only_failed=given.failed)


def _act(given: argparse.Namespace) -> int:
    if given.target is None and given.action != "cancel":
        raise UserError(
            f"{given.action}: argument missing; {given.action} {'N' if given.action == 'throttle' else 'RUN'}"
        )
    if given.action == "tail":
        from sam2ft.sweeps.status.tail import show_tail

        return show_tail(given.experiment, given.target, lines=given.lines, follow=given.follow)
    if given.action == "why":
        from sam2ft.sweeps.status.why import show_why

        return show_why(given.experiment, given.target)
    if given.action == "cancel":
        from sam2ft.sweeps.status.cancel import cancel

        return cancel(given.experiment, given.target, yes=given.yes)
    from sam2ft.sweeps.state.collect import experiment_layout
    from sam2ft.sweeps.submit.throttle import throttle

    if not given.target.isdecimal():
        raise UserError(f"throttle {given.target!r}; allowed: a whole number from 1")
    for line in throttle(experiment_layout(given.experiment), int(given.target)):
        print(line)
    return 0


if __name__ == "__main__":
    run_command(main)
