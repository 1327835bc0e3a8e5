"""Forwards to sam2ft.jobs.calibrate for one release: jobs queued by sam2ft 0.1.0 name their function by this module."""

from sam2ft.jobs.calibrate import calibrate

__all__ = ["calibrate"]
