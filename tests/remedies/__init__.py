"""Every remedy that a message names, executed; every other module of this folder holds scenarios."""

from importlib import import_module
from pathlib import Path

FOLDER = Path(__file__).parent
NO_SCENARIOS = {"__init__", "__main__", "catalogue", "registry", "conftest", "test_remedies", "test_commands"}
MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in NO_SCENARIOS)
scenarios = [import_module(f"tests.remedies.{name}") for name in MODULES]
