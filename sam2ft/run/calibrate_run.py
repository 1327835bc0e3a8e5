"""Forwarding module to sam2ft.jobs.calibrate, kept for one release: jobs queued by sam2ft 0.1.0 import it."""

import sys

from sam2ft.core.command import run_command
from sam2ft.jobs.calibrate import calibrate

__all__ = ["calibrate"]

if __name__ == "__main__":
    run_command(lambda: calibrate(sys.argv[1], sys.argv[2:]))
