"""Forwarding module to sam2ft.sweeps.state.collect, for one release: report jobs queued by sam2ft 0.1.0 import it."""

from sam2ft.sweeps.state.collect import aggregate_folder

__all__ = ["aggregate_folder"]
