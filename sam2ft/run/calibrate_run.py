"""Forwarding module to sam2ft.jobs.calibrate, kept for one release: jobs queued by sam2ft 0.1.0 import it."""

from sam2ft.jobs.calibrate import calibrate

__all__ = ["calibrate"]
