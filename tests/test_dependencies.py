"""What the code imports is what a fresh environment gets, and that is what the lock files say, hash by hash."""

import ast
import configparser
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sam2ft.tools.audit import below_known_fixes
from sam2ft.tools.lock_file import read_lock

ROOT = Path(__file__).parents[1]
FOLDERS = ("sam2ft", "launch", "slurm", "tests")
# tests/ is on the path of pytest, for tests/fixtures and tests/torture.
OURS = {"sam2ft", "launch", "tests", "fixtures", "torture"}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.partition(".")[0]


def lock(name: str) -> dict[str, str]:
    """Package -> version."""
    return {name: pin.version for name, pin in read_lock(ROOT / name).items()}


RUN, DEV, BUILD, AUDIT, SITE = (f"requirements/{name}.txt" for name in ("run", "dev", "build", "audit", "docs"))
SAM2 = "requirements-sam2.txt"


def test_every_imported_package_is_in_a_lock() -> None:
    providers = metadata.packages_distributions()
    known = lock(DEV).keys() | lock(SAM2).keys()
    missing = []
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            beside = {neighbour.stem for neighbour in path.parent.glob("*.py")}
            for name in set(imported(path)) - sys.stdlib_module_names - beside - OURS:
                if not {canonicalize_name(distribution) for distribution in providers.get(name, ())} & known:
                    missing.append(f"{path.relative_to(ROOT)}: {name}")
    assert not missing, "imported and in no lock:\n" + "\n".join(sorted(missing))


def test_what_jobs_and_developers_install_has_one_version() -> None:
    assert lock(RUN).items() <= lock(DEV).items()
    for name, version in lock(BUILD).items():
        assert lock(DEV).get(name, version) == version


@pytest.fixture
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


@pytest.mark.parametrize(
    ("file", "extras"), [(RUN, ("wandb", "dicom-seg")), (DEV, ("wandb", "dicom-seg", "dev"))], ids=["run", "dev"]
)
def test_locks_lie_in_the_ranges_of_setup_cfg(
    setup: configparser.ConfigParser, file: str, extras: tuple[str, ...]
) -> None:
    locked = {**lock(file), **lock(SAM2)}
    texts = [setup["options"]["install_requires"], *(setup["options.extras_require"][extra] for extra in extras)]
    wanted = [Requirement(line) for text in texts for line in text.split("\n") if line.strip()]
    assert len(wanted) > 20
    for requirement in wanted:
        version = locked.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name}: in setup.cfg and not in {file}; run `make lock`"
        assert requirement.specifier.contains(version), f"{requirement}: {file} has {version}; run `make lock`"


def test_ranges_of_setup_cfg_begin_at_the_known_fixes(setup: configparser.ConfigParser) -> None:
    texts = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    ranges = {
        canonicalize_name(one.name): one.specifier
        for one in (Requirement(line) for text in texts for line in text.split("\n") if line.strip())
    }
    floors = (ROOT / "requirements/known-fixes.txt").read_text(encoding="utf-8").splitlines()
    for floor in (Requirement(line.split("#")[0]) for line in floors if line.split("#")[0].strip()):
        lowest = str(floor.specifier).removeprefix(">=")
        for older in older_than(lowest):
            assert older not in ranges.get(canonicalize_name(floor.name), ()), (
                f"{floor.name} {older} has a known vulnerability"
            )


def older_than(version: str) -> list[str]:
    """Versions just below a version: 3.0.2 -> 3.0.1.99, 2.99.99; 12.3 -> 12.2.99, 11.99.99."""
    numbers = [int(part) for part in version.split(".")]
    return [
        ".".join(map(str, [*numbers[:place], number - 1, 99, 99])) for place, number in enumerate(numbers) if number > 0
    ]


@pytest.mark.parametrize("file", [RUN, DEV, BUILD, AUDIT, SITE])
def test_no_lock_is_below_the_known_fixes(file: str) -> None:
    assert not list(below_known_fixes(read_lock(ROOT / file).values(), ROOT / "requirements/known-fixes.txt"))


def test_the_environment_is_the_lock() -> None:
    pins = [*read_lock(ROOT / DEV).values(), *read_lock(ROOT / SAM2).values()]
    wrong = [
        f"{pin.name}: {installed} is installed, {pin.version} locked"
        for pin in pins
        if pin.wanted_here and (installed := metadata.version(pin.name).partition("+")[0]) != pin.version
    ]
    assert not wrong, "\n".join([*wrong, "run `make setup`"])


def test_nothing_that_a_locked_package_requires_is_missing_from_the_lock() -> None:
    """pip installs with --no-deps nothing but the package itself; all others are checked here as by `pip check`."""
    locked = {**lock(DEV), **lock(SAM2), **lock(BUILD)}
    wanted = {name: pin for file in (DEV, SAM2) for name, pin in read_lock(ROOT / file).items() if pin.wanted_here}
    wrong = []
    for name in wanted:
        for requirement in map(Requirement, metadata.requires(name) or ()):
            here = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            version = locked.get(canonicalize_name(requirement.name))
            if here and (version is None or not requirement.specifier.contains(version, prereleases=True)):
                wrong.append(f"{name} requires {requirement}, locked is {version}")
    assert not wrong, "\n".join(wrong)


def test_every_install_of_the_makefile_demands_hashes() -> None:
    """The one other is the package itself, without dependencies."""
    lines = [
        line.strip() for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines() if "pip install" in line
    ]
    assert len(lines) == 8
    for line in lines:
        assert ("--require-hashes -r requirements" in line) != line.endswith("--no-build-isolation --no-deps -e ."), (
            line
        )
