"""Forwarding module to sam2ft.jobs.job, kept for one release: jobs queued by sam2ft 0.1.0 import it."""

import sys

from sam2ft.core.command import run_command
from sam2ft.jobs.job import main, run_point

__all__ = ["run_point"]

if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
