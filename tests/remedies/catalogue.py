"""Every remedy that a message of the package names, collected from its source.

A message is any text of the source that is not a docstring, a help text or the description of a setting. It is taken in
its normal form: what is filled in later is `{}`. A remedy is a clause of it that tells the reader to do something: one
that begins with a verb of VERBS, or names an option, a `make` target or a script of launch/. The same clause in two
messages is two remedies: what works for one need not work for the other.

`python -m tests.remedies.catalogue` prints the remedies that no scenario executes, as the registry wants them.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The texts of sam2ft/tools/reference are pages and examples of files, no messages.
SOURCES = [
    *sorted(path for path in (ROOT / "sam2ft").rglob("*.py") if path.parent.name != "reference"),
    *sorted((ROOT / "launch").glob("*.py")),
]

HELP = frozenset({"add_argument", "add_argument_group", "ArgumentParser", "add_parser", "setting", "plain", "Field"})
"""Calls whose texts explain what may be given, before anything went wrong."""
HELPERS = frozenset({"Column", "Table", "column", "estimate_column"})
"""Calls whose texts say what a column means."""

VERBS = (
    "accept|add|aggregate|ask|believe:|bring|call|cancel|change|check|choose|configure|convert|copy|correct|"
    "count|create|define|delete|download|edit|enlarge|evaluate|export|extend|fetch|fit|fix|free|give|ignore|"
    "increase|install|irregular:|keep|leave|list|look|lower|make|measure|mend|more|move|name|open|pass|pip|"
    "plan|prepare|put|raise|read|reduce|remove|rename|replace|resample|restart|restore|retry|run|save|say|"
    "score|see|select|set|shorten|start|stop|submit|switch|train|try|turn|update|upgrade|use|wait|widen|write"
)
"""First words of what a message tells to do."""
_VERB = rf"(?:{VERBS})(?![\w-])"
# A clause ends where the next begins: at a semicolon, a bracket, the end of a sentence, or before a verb.
_ENDS = re.compile(
    rf"[;()\n]|(?<!e\.g)\.\s|:\s(?={_VERB})|,?\s(?:or|and|then|so|else)\s(?={_VERB})|,\s(?={_VERB})"
    rf"|(?<=\}})(?={_VERB})"
)
_NAMED = re.compile(r"(?<![\w-])--[a-z][a-z-]+|`?make [a-z]|launch/[a-z]+\.py|`(?:sam2ft|status|prepare|tail|why)\b")


@dataclass(frozen=True)
class Remedy:
    """One clause of one message that tells the reader what to do."""

    clause: str
    message: str
    where: str
    """File and function: for people, not part of what the remedy is known by."""


@dataclass(frozen=True)
class Message:
    """One text of the source in its normal form."""

    text: str
    where: str

    @property
    def pattern(self) -> "re.Pattern[str]":
        """Matches what is shown when the gaps are filled."""
        return re.compile(".*".join(map(re.escape, self.text.strip().split("{}"))), re.DOTALL)


def _text(node: ast.AST) -> str | None:
    """Text of a literal in its normal form, None for any other expression."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _text(node.left), _text(node.right)
        return None if left is None and right is None else f"{left or '{}'}{right or '{}'}"
    return None


def _called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _texts(node: ast.AST, function: str) -> Iterator[tuple[str, str]]:
    """(function, text) of every message below a node."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        function = node.name
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring
    if _called(node) in HELP | HELPERS:
        return
    text = _text(node)
    if text is not None:
        yield function, text
        # What fills a gap may hold texts of its own.
        for gap in (inner for inner in ast.walk(node) if isinstance(inner, ast.FormattedValue)):
            yield from _texts(gap.value, function)
        return
    for child in ast.iter_child_nodes(node):
        yield from _texts(child, function)


@cache
def messages() -> tuple[Message, ...]:
    """Every text of more than one word, each once for a place."""
    found: dict[Message, None] = {}
    for path in SOURCES:
        for function, text in _texts(ast.parse(path.read_text(encoding="utf-8")), ""):
            if " " in text.strip():
                found[Message(text, f"{path.relative_to(ROOT).as_posix()}:{function}")] = None
    return tuple(found)


def clauses(text: str) -> Iterator[str]:
    """The remedies in the normal form of a message."""
    for part in _ENDS.split(text):
        clause = part.strip(" ,.:'\"")
        if (re.match(_VERB, clause) and len(clause.split()) > 1) or _NAMED.search(clause):
            yield clause


@cache
def remedies() -> tuple[Remedy, ...]:
    """All remedies of the package, in the order of the source."""
    return tuple(Remedy(clause, one.text, one.where) for one in messages() for clause in clauses(one.text))


if __name__ == "__main__":
    for one in remedies():
        print(f"{one.where}\n    {one.clause!r}\n    of {one.message!r}")
