"""Every remedy that a message names, executed; the modules of scenarios are named here."""

from importlib import import_module

MODULES = ("cluster", "downloads", "evaluations", "excuses", "models", "runs", "settings", "sources", "stores")
scenarios = [import_module(f"tests.remedies.{name}") for name in MODULES]
