"""Size and naming budgets: a promise that no check enforces is not kept."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sam2ft"
SOURCES = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "launch").glob("*.py")])
MODULES = [path for path in SOURCES if PACKAGE in path.parents and path.name != "__init__.py"]

FOLDER_MODULES = 15
MODULE_LINES = 400
FEWEST_LINES = 40
FUNCTION_LINES = 50
ARGUMENTS = 7

# An exception is a line here with its reason.
EXCEPTIONS: dict[str, str] = {}

FORWARDS = "forwards for one release what jobs of 0.1.0 in a queue were submitted with"
ONE_IDEA = "one idea of its own; every module that could hold it besides is of another one"
SMALL: dict[str, str] = {
    "cli/completion.py": "a command has its own file",
    "sweeps/status/select_run.py": "how a user names a run; four actions share it",
    "cli/train.py": "a command has its own file",
    "cluster/collect.py": FORWARDS,
    "config/schema/experiment.py": "the root of the settings, whose sections have their own files",
    "core/tables/spreadsheet.py": "used by wide tables and by the workbook of papers",
    "core/components.py": "used by data, metrics and phantom, none of which sees the others",
    "core/grouping.py": "used by statistics and report",
    "data/dicom/modality.py": "read with a store too, without pydicom",
    "data/splits/given.py": "what the sources say of splits, beside what is drawn",
    "data/store/array_files.py": "bytes of a file, beside the writer of the store",
    "data/store/mask_facts.py": "pure functions, beside the writer of files",
    "evaluation/prediction/composition.py": ONE_IDEA,
    "evaluation/shared_volume.py": ONE_IDEA,
    "metrics/biomarkers/both_masks.py": "what every biomarker yields",
    "metrics/biomarkers/volume.py": "a biomarker has its own file",
    "metrics/masks/overlap.py": "the metrics that are functions of counts alone, as the table of metrics names them",
    "model/nano/overrides.py": "values, read beside the weights that they belong to",
    "model/resizing.py": ONE_IDEA,
    "model/upsampling.py": "used by losses, validation and prediction alike",
    "pictures/palette.py": "the colours, also of the report's plots",
    "report/page/agreement.py": "a section of the page has its own file",
    "run/calibrate_run.py": FORWARDS,
    "run/job.py": FORWARDS,
    "runs/attempt/rank.py": "read on login nodes, where distributed/ranks.py would import torch",
    "runs/initial_weights.py": "asked by preflight, training and jobs",
    "statistics/yardsticks.py": "published values with their sources",
    "sweeps/submit/stop_lead.py": ONE_IDEA,
    "training/accumulation.py": ONE_IDEA,
    "training/activation_checkpointing.py": ONE_IDEA,
    "training/early_stopping.py": ONE_IDEA,
    "training/memory.py": ONE_IDEA,
}
"""Modules under 40 lines, and why each is one."""
SMALL_ONES = {"evaluation/protocols": "a protocol has its own file"}
"""Folders whose modules may be that small, and why."""

NEUTRAL = frozenset({"main", "parser"})
"""Public names that several modules may have: what every command consists of."""


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def num_lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def over_budget(path: Path) -> Iterator[str]:
    name = path.relative_to(ROOT).as_posix()
    if (lines := num_lines(path)) > MODULE_LINES:
        yield f"{name}: {lines} lines, at most {MODULE_LINES}"
    for function in functions(tree_of(path)):
        where = f"{name}:{function.name}"
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        if length > FUNCTION_LINES:
            yield f"{where}: {length} lines, at most {FUNCTION_LINES}"
        arguments = function.args
        names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        count = len([argument for argument in names if argument not in ("self", "cls")])
        if count > ARGUMENTS:
            yield f"{where}: {count} arguments, at most {ARGUMENTS}"


def test_modules_functions_and_signatures_stay_small() -> None:
    found = [line for path in SOURCES for line in over_budget(path) if line.rsplit(": ", 1)[0] not in EXCEPTIONS]
    assert not found, "over budget:\n" + "\n".join(found)


def test_an_exception_that_is_no_longer_needed_is_removed() -> None:
    needed = {line.rsplit(": ", 1)[0] for path in SOURCES for line in over_budget(path)}
    assert not EXCEPTIONS.keys() - needed


def test_a_folder_has_few_enough_modules_to_be_read_at_a_glance() -> None:
    counts: dict[str, int] = defaultdict(int)
    for path in MODULES:
        counts[path.parent.relative_to(PACKAGE).as_posix()] += 1
    assert {folder: count for folder, count in counts.items() if count > FOLDER_MODULES} == {}


def test_a_small_module_has_a_reason() -> None:
    small = [path.relative_to(PACKAGE) for path in MODULES if num_lines(path) < FEWEST_LINES]
    assert {path.as_posix() for path in small if path.parent.as_posix() not in SMALL_ONES} == SMALL.keys()


def test_public_classes_and_functions_are_unique_in_the_package() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in MODULES:
        for node in tree_of(path).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name[0] != "_":
                places[node.name].append(path.relative_to(PACKAGE).as_posix())
    assert {name: paths for name, paths in places.items() if len(paths) > 1 and name not in NEUTRAL} == {}


def test_a_modules_name_is_unique_within_its_domain() -> None:
    places: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in MODULES:
        name = path.relative_to(PACKAGE)
        places[name.parts[0], path.stem].append(name.as_posix())
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


@pytest.mark.parametrize(
    "package",
    sorted(path for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE),
    ids=lambda path: path.parent.relative_to(PACKAGE).as_posix(),
)
def test_a_folder_says_what_lives_in_it_and_holds_its_code_in_named_modules(package: Path) -> None:
    (only,) = tree_of(package).body
    assert isinstance(only, ast.Expr)
    text = ast.get_docstring(tree_of(package))
    assert text
    assert "\n\n" not in text, "one paragraph"
