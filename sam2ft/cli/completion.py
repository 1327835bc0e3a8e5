"""Print a completion script for a shell, such as `eval "$(sam2ft completion bash)"` in ~/.bashrc."""

import argparse

from sam2ft.core.command import run_command


def parser() -> argparse.ArgumentParser:
    import shtab

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shell", choices=shtab.SUPPORTED_SHELLS, help="shell that the script is for")
    return parser


def main() -> int:
    given = parser().parse_args()
    import shtab

    from sam2ft.cli.main import parser as all_commands

    # The name of a shell; none is started.
    print(shtab.complete(all_commands(), shell=given.shell))  # nosec B604
    return 0


if __name__ == "__main__":
    run_command(main)
