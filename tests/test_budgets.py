"""Size budgets: a size promise that no check enforces is not kept."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "sam2ft").rglob("*.py"), *(ROOT / "launch").glob("*.py")])

MODULE_LINES = 300
FUNCTION_LINES = 50
ARGUMENTS = 7

# An exception is a line here with its reason.
EXCEPTIONS: dict[str, str] = {}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def over_budget(path: Path) -> Iterator[str]:
    name = path.relative_to(ROOT).as_posix()
    text = path.read_text(encoding="utf-8")
    if (lines := len(text.splitlines())) > MODULE_LINES:
        yield f"{name}: {lines} lines, at most {MODULE_LINES}"
    for function in functions(ast.parse(text)):
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


@pytest.mark.parametrize("package", sorted((ROOT / "sam2ft").rglob("__init__.py")), ids=str)
def test_packages_hold_their_code_in_named_modules(package: Path) -> None:
    assert package.read_text(encoding="utf-8") == ""
