"""Merged configuration values after `extends:` and --set overrides, each with its origin (file and line, or --set)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam2ft.config.schema.arguments import shown_value
from sam2ft.config.trust import refuse_untrusted
from sam2ft.config.yaml.loading import Document, KeyPath, load_yaml, parse_value
from sam2ft.core.errors import Problem, ProblemsError

SET = "--set"

# Keys of these mappings may contain dots, so the rest of a dotted key is a single key.
_DOTTED_BELOW: tuple[KeyPath, ...] = (
    ("datamodule", "metric", "func"),
    ("sweep", "grid"),
    ("sweep", "zip"),
    ("sweep", "random", "parameters"),
)


@dataclass(frozen=True)
class Tree:
    """A mapping to validate, and the origin of its values. Never changed in place."""

    path: Path
    value: dict[str, Any]
    origins: Mapping[KeyPath, str]
    """`path:line`, or `--set`, of every key."""

    def where(self, key: KeyPath) -> str:
        """The origin of `key`, or of its closest parent with a known origin."""
        while key and key not in self.origins:
            key = key[:-1]
        return self.origins.get(key, str(self.path))

    def without(self, name: str) -> "Tree":
        """The tree without one of its top-level keys."""
        value = {key: entry for key, entry in self.value.items() if key != name}
        return Tree(self.path, value, {key: place for key, place in self.origins.items() if key[:1] != (name,)})


def split_key(dotted: str) -> KeyPath:
    """Key path of a dotted key; names of metrics (`package.module:name`) and swept keys are not split."""
    parts = tuple(dotted.split("."))
    for prefix in _DOTTED_BELOW:
        if parts[: len(prefix)] == prefix and len(parts) > len(prefix):
            return (*prefix, ".".join(parts[len(prefix) :]))
    return parts


def is_within(key: KeyPath, prefix: KeyPath) -> bool:
    """Whether `key` is `prefix` or lies below it."""
    return key[: len(prefix)] == prefix


def load_tree(path: Path, *, extends: bool = True, to_run: bool = False) -> Tree:
    """The mapping of a file, merged with the mapping of the file that it extends.

    Args:
        extends: whether to follow the key `extends`; False: it stays a key of the mapping.
        to_run: what the files name will be imported or run, so that both must be trusted (config/trust).

    Raises:
        ProblemsError: all problems of the YAML, or the problem with `extends`.
        UserError: with `to_run`: somebody else could have written a file.
    """
    if to_run:
        refuse_untrusted(path, "configuration")
    document = load_yaml(path)
    tree = _tree_of(document)
    if "extends" not in tree.value or not extends:
        return tree
    base_name, where = tree.value["extends"], tree.where(("extends",))
    if not isinstance(base_name, str):
        problem = f"found {shown_value(base_name)}; allowed: the path of another file, relative to this one"
        raise ProblemsError([Problem(where, "extends", problem)])
    base_path = path.parent / base_name
    if not base_path.is_file():
        raise ProblemsError([Problem(where, "extends", f"no file {base_path}")])
    if to_run:
        refuse_untrusted(base_path, "configuration")
    base = _tree_of(load_yaml(base_path))
    if "extends" in base.value:
        raise ProblemsError([Problem(where, "extends", f"{base_path} extends another file itself; allowed: one level")])
    child, origins = tree.without("extends"), dict(base.origins)
    value = _merged(base.value, child.value, (), origins, child.origins)
    return Tree(path, value, origins)


def _tree_of(document: Document) -> Tree:
    if not isinstance(document.value, dict):
        found = "is empty" if document.value is None else f"found {shown_value(document.value)}"
        raise ProblemsError([Problem(str(document.path), "", f"{found}; allowed: a mapping of keys")])
    return Tree(document.path, document.value, {key: document.where(key) for key in document.lines})


def _merged(
    base: Any, child: Any, key: KeyPath, origins: dict[KeyPath, str], child_origins: Mapping[KeyPath, str]
) -> Any:
    """`base` updated with `child`; also updates `origins`, which are those of the base at first."""
    if key in child_origins:
        origins[key] = child_origins[key]
    mappings = isinstance(base, dict) and isinstance(child, dict)
    if mappings and ("type" not in child or child["type"] == base.get("type", child["type"])):
        merged = dict(base)
        for name, entry in child.items():
            merged[name] = _merged(base.get(name), entry, (*key, name), origins, child_origins)
        return merged
    _forget_below(origins, key)
    origins.update({inner: place for inner, place in child_origins.items() if inner[: len(key)] == key})
    return child


def _forget_below(origins: dict[KeyPath, str], key: KeyPath) -> None:
    for inner in [inner for inner in origins if len(inner) > len(key) and inner[: len(key)] == key]:
        del origins[inner]


def parse_overrides(texts: Sequence[str]) -> list[tuple[str, Any]]:
    """(dotted key, value) of each `key=value` text of `--set`; the value is YAML.

    Raises:
        ProblemsError: the problems of all texts.
    """
    found, problems = [], []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            problems.append(
                Problem(SET, "", f"found {shown_value(text)}; allowed: key=value, such as module.num_epochs=10")
            )
            continue
        try:
            found.append((key.strip(), parse_value(value, SET)))
        except ProblemsError as error:
            problems += [Problem(SET, key.strip(), problem.message) for problem in error.problems]
    if problems:
        raise ProblemsError(problems)
    return found


def overridden(tree: Tree, overrides: Sequence[tuple[str, Any, str]]) -> Tree:
    """Copy of `tree` with overrides (dotted key, value, origin); each replaces the whole value at its key."""
    value, origins = dict(tree.value), dict(tree.origins)
    for dotted, entry, place in overrides:
        key = split_key(dotted)
        holder, made = _holder(value, key)
        _put(holder, key[-1], entry)
        _forget_below(origins, key)
        origins |= dict.fromkeys([*made, key], place)
    return Tree(tree.path, value, origins)


def value_with(value: dict[str, Any], overrides: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Like `overridden` for the value alone, without origins; parts that no override changes stay the same objects."""
    value = dict(value)
    for dotted, entry in overrides:
        key = split_key(dotted)
        _put(_holder(value, key)[0], key[-1], entry)
    return value


def _holder(value: dict[str, Any], key: KeyPath) -> tuple[Any, list[KeyPath]]:
    """(container of the last part of `key`, keys that had to be created); all containers above it are copied first."""
    holder: Any = value
    made = []
    for depth, part in enumerate(key[:-1]):
        inner = holder[int(part)] if isinstance(holder, list) else holder.get(part)
        if isinstance(inner, list) and key[depth + 1].isdecimal() and int(key[depth + 1]) < len(inner):
            inner = list(inner)
        elif isinstance(inner, dict):
            inner = dict(inner)
        else:
            inner = {}
            made.append(key[: depth + 1])
        _put(holder, part, inner)
        holder = inner
    return holder, made


def _put(holder: Any, part: str, entry: Any) -> None:
    holder[int(part) if isinstance(holder, list) else part] = entry
