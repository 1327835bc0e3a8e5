"""Imports all of sam2ft and what it imports late, so that a forked command imports nothing."""

import importlib
import pkgutil
from contextlib import suppress

import torch.utils.tensorboard  # noqa: F401

import sam2ft

for found in pkgutil.walk_packages(sam2ft.__path__, "sam2ft."):
    if not found.name.startswith("sam2ft.tools"):
        with suppress(ImportError):  # optional packages
            importlib.import_module(found.name)
