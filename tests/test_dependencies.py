"""What the code imports is what a fresh environment gets: a package installed by hand is found here, not by CI."""

import ast
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("sam2ft", "launch", "slurm", "tests")
# tests/ is on the path of pytest, for tests/fixtures.
OURS = {"sam2ft", "launch", "tests", "fixtures"}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.partition(".")[0]


def canonical(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned() -> set[str]:
    lines = [
        line
        for name in ("constraints.txt", "requirements-sam2.txt")
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
    ]
    return {canonical(line.partition("==")[0]) for line in lines if "==" in line and not line.startswith("#")}


def test_every_imported_package_is_pinned_in_the_constraints() -> None:
    providers = metadata.packages_distributions()
    known = pinned()
    missing = []
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            beside = {neighbour.stem for neighbour in path.parent.glob("*.py")}
            for name in set(imported(path)) - sys.stdlib_module_names - beside - OURS:
                if not {canonical(distribution) for distribution in providers.get(name, ())} & known:
                    missing.append(f"{path.relative_to(ROOT)}: {name}")
    assert not missing, "imported and in no constraints file:\n" + "\n".join(sorted(missing))
