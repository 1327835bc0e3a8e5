"""Where every run of an experiment stands; the log of one, why it stands there, cancelling, the throttle."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sam2ft.core.command import command
from sam2ft.core.errors import UserError

ACTIONS = """actions:
  (none)         the table
  tail RUN       the end of a run's newest log (-n LINES, -f to follow it)
  why RUN        everything that is known about a run, and what to do next
  cancel [RUN]   cancel a run's jobs, or with --yes all of the experiment
  throttle N     let at most N elements of its arrays run at once

RUN is an index, a name, or the start of a run_id."""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=ACTIONS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment", type=Path, help="experiment file, or its folder under runs/")
    parser.add_argument("action", nargs="?", choices=("tail", "why", "cancel", "throttle"), help="see below")
    parser.add_argument("target", nargs="?", metavar="RUN", help="see below")
    parser.add_argument("--failed", action="store_true", help="only runs that failed or were lost")
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")
    parser.add_argument(
        "--watch", nargs="?", type=float, const=5.0, metavar="SECONDS", help="keep it up to date until nothing runs"
    )
    parser.add_argument("-n", type=int, default=20, metavar="LINES", dest="lines", help="of tail: this many lines")
    parser.add_argument("-f", "--follow", action="store_true", help="of tail: go on while the run is at work")
    parser.add_argument("--yes", action="store_true", help="of cancel: all runs")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    # Options may stand between the words: `EXP --yes cancel`.
    given = parser().parse_intermixed_args(arguments)
    if given.action is not None:
        return _act(given)
    if given.watch is None:
        from sam2ft.sweeps.status.table import show_status

        return show_status(given.experiment, only_failed=given.failed, as_json=given.json)
    if given.json or given.watch <= 0:
        raise UserError("--watch takes seconds above 0, and not --json")
    from sam2ft.sweeps.status.watch import watch

    return watch(given.experiment, given.watch, only_failed=given.failed)


def _act(given: argparse.Namespace) -> int:
    if given.target is None and given.action != "cancel":
        raise UserError(f"{given.action}: which one? {given.action} {'N' if given.action == 'throttle' else 'RUN'}")
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
    command(main)
