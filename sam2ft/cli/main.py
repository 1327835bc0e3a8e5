"""The command `sam2ft`: one subcommand per file of this folder, such as `sam2ft sweep` for sam2ft/cli/sweep.py."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import metadata
from types import ModuleType

from sam2ft.core.command import run_command
from sam2ft.core.errors import UserError

COMMANDS = ("scan", "prepare", "train", "eval", "sweep", "status", "aggregate", "export", "doctor", "completion")


def parser() -> argparse.ArgumentParser:
    """All subcommands with their options; for help and shell completion, as each command parses its own arguments."""
    top = argparse.ArgumentParser(
        prog="sam2ft", description="Fine-tune SAM 2 / 2.1 on medical images, evaluate it, and report the results."
    )
    top.add_argument("--version", action="version", version=f"sam2ft {metadata.version('sam2ft')}")
    commands = top.add_subparsers(metavar="COMMAND", title="commands")
    for name in COMMANDS:
        module = _module(name)
        text = (module.__doc__ or "").strip().split("\n\n")[0]
        commands.add_parser(
            name, parents=[module.parser()], add_help=False, help=" ".join(text.split()), description=text
        )
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the subcommand named by the first argument and return its exit code.

    Raises:
        UserError: for an unknown subcommand.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0].startswith("-"):
        parser().parse_args(given or ["--help"])
        return 0
    name, *rest = given
    if name not in COMMANDS:
        similar = get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean {similar[0]}?" if similar else ""
        raise UserError(f"sam2ft {name}: no such command{hint}; allowed: {', '.join(COMMANDS)}")
    # What the command's own parser reads, and what usage and provenance show.
    sys.argv = [f"sam2ft {name}", *rest]
    code: int = _module(name).main()
    return code


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"sam2ft.cli.{name}")


def run() -> None:
    """Entry point of the console script."""
    run_command(main)


if __name__ == "__main__":
    run()
