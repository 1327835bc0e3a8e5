"""YAML 1.2 loader and dumper: plain values, a line number for each key, and all problems of a file in one error.

PyYAML implements YAML 1.1, where `1e-4` is text, `no` is false, `12:00:00` is 43200 and a repeated key replaces the
first silently. So only its parser is used, and scalars are read by the rules of YAML 1.2.2, section 10.3.2 (core
schema). One deviation: a number with leading zeros stays text, because `0001234` is a subject and not 1234.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.resolver import BaseResolver

from sam2ft.core.digests.sealed import SealError, check_yaml
from sam2ft.core.errors import Problem, ProblemsError

try:
    from yaml._yaml import CParser as _Parser  # type: ignore[import-not-found, unused-ignore]  # has no stubs
except ImportError:  # PyYAML built without libyaml
    from yaml.parser import Parser
    from yaml.reader import Reader
    from yaml.scanner import Scanner

    class _Parser(Reader, Scanner, Parser):  # type: ignore[no-redef]  # the same four steps in pure Python
        def __init__(self, stream: str):
            Reader.__init__(self, stream)
            Scanner.__init__(self)
            Parser.__init__(self)


KeyPath = tuple[str, ...]
"""Keys from the root to a value; an index in a list counts as a key ("0", "1", ...)."""

# With aliases a short text can expand to an exponentially large value; configuration files have far fewer values.
MAX_VALUES = 200_000
MAX_DEPTH = 60

_PLAIN, _QUOTED, _COLLECTION = "plain", "quoted", "collection"
_WORDS: dict[str, bool | float | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **{f"{sign}.{word}": float(f"{sign}inf") for sign in ("", "+", "-") for word in ("inf", "Inf", "INF")},
}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,99})")
_OCTAL_OR_HEX = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


@dataclass(frozen=True)
class Document:
    """The value of one YAML file, and the line of each of its values."""

    path: Path
    value: Any
    """Mappings have text keys (a key `1:` is "1"), lists are lists, scalars are None, bool, int, float or str."""
    lines: Mapping[KeyPath, int]
    """1-based line of every key and list entry; the root has the line of the first value."""

    def where(self, key: KeyPath) -> str:
        """`path:line` of `key`, or of the closest parent of it that the file contains."""
        while key and key not in self.lines:
            key = key[:-1]
        return f"{self.path}:{self.lines[key]}" if key in self.lines else str(self.path)


def parse_scalar(text: str) -> bool | int | float | str | None:
    """The value of an unquoted scalar, by the YAML 1.2 core schema."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text) or _OCTAL_OR_HEX.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


class _Nodes(Composer, BaseResolver, _Parser):
    """Composer of nodes whose tag stores how a scalar was written, so that explicit tags can be recognised.

    The Python composer is used, because the composer of libyaml overflows the stack on deep nesting and crashes.
    """

    def __init__(self, text: str):
        _Parser.__init__(self, text)
        Composer.__init__(self)
        BaseResolver.__init__(self)

    def resolve(self, kind: type[Node], _value: str | None, implicit: Any) -> str:
        if kind is not ScalarNode:
            return _COLLECTION
        return _PLAIN if implicit[0] else _QUOTED


class _Reading:
    """Converts the nodes of one text to values and collects problems."""

    def __init__(self, where: str, numbered: bool):
        self.where = where
        self.numbered = numbered
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []
        self._open: set[int] = set()
        self._count = 0

    def problem(self, node: Node, key: KeyPath, message: str) -> None:
        where = f"{self.where}:{node.start_mark.line + 1}" if self.numbered else self.where
        self.problems.append(Problem(where, ".".join(key), message))

    def value(self, node: Node, key: KeyPath) -> Any:
        self._count += 1
        self.lines.setdefault(key, node.start_mark.line + 1)
        if node.tag not in (_PLAIN, _QUOTED, _COLLECTION):
            self.problem(node, key, f"tag {_shown_tag(node.tag)}; tags are not allowed, write the value itself")
            return None
        if id(node) in self._open:
            self.problem(node, key, "an alias inside the value that it refers to")
            return None
        if len(key) > MAX_DEPTH:
            self.problem(node, key[:1], f"more than {MAX_DEPTH} levels of nesting")
            return None
        if self._count > MAX_VALUES:
            return None
        self._open.add(id(node))
        try:
            return self._inner_value(node, key)
        finally:
            self._open.discard(id(node))

    def _inner_value(self, node: Node, key: KeyPath) -> Any:
        if isinstance(node, MappingNode):
            return self._mapping(node, key)
        if isinstance(node, SequenceNode):
            return [self.value(entry, (*key, str(index))) for index, entry in enumerate(node.value)]
        return parse_scalar(node.value) if node.tag == _PLAIN else node.value

    def _mapping(self, node: MappingNode, key: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        first_lines: dict[str, int] = {}
        for name_node, entry in node.value:
            if not isinstance(name_node, ScalarNode) or name_node.tag not in (_PLAIN, _QUOTED):
                self.problem(name_node, key, "a key must be a word or a number, without a tag")
                continue
            name, line = name_node.value, name_node.start_mark.line + 1
            inner = (*key, name)
            if name == "<<" and name_node.tag == _PLAIN:
                self.problem(name_node, key, "`<<` is not part of YAML 1.2; write the keys, or use extends:")
            elif name in found:
                self.problem(name_node, inner, f"duplicate key, already on line {first_lines[name]}")
            else:
                self.lines[inner] = first_lines[name] = line
                found[name] = self.value(entry, inner)
        return found


def _shown_tag(tag: str) -> str:
    prefix = "tag:yaml.org,2002:"
    return f"!!{tag.removeprefix(prefix)}" if tag.startswith(prefix) else tag


def _parse(text: str, where: str, *, numbered: bool) -> tuple[Any, dict[KeyPath, int]]:
    """(value, lines) of a text; raises ProblemsError with every duplicate key and tag, or with the one syntax error."""
    reading = _Reading(where, numbered)
    try:
        node = _Nodes(text).get_single_node()
        value = None if node is None else reading.value(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}:{mark.line + 1}" if numbered and mark is not None else where
        message = ", ".join(part for part in (error.problem, error.context) if part)
        raise ProblemsError([Problem(place, "", f"not valid YAML: {message}")]) from None
    except yaml.reader.ReaderError as error:
        message = f"not valid YAML: character {error.character!r} is not allowed"
        raise ProblemsError([Problem(where, "", message)]) from None
    except UnicodeEncodeError as error:  # bytes of the command line that are not text
        raise ProblemsError([Problem(where, "", f"not UTF-8: {error.object!a}")]) from None
    except RecursionError:
        raise ProblemsError([Problem(where, "", "values are nested too deeply")]) from None
    if reading._count > MAX_VALUES:
        reading.problems.append(Problem(where, "", f"more than {MAX_VALUES} values, counting aliases"))
    if reading.problems:
        raise ProblemsError(reading.problems)
    return value, reading.lines


def _verified_text(path: Path) -> str:
    """The text of a YAML file; SealError when it differs from what sam2ft wrote."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ProblemsError([Problem(str(path), "", error.strerror or str(error))]) from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8: byte 0x{raw[error.start]:02x}; save the file as UTF-8"
        raise ProblemsError([Problem(f"{path}:{line}", "", message)]) from None
    check_yaml(text)
    return text


def load_yaml(path: Path) -> Document:
    """The value of a YAML file.

    Raises:
        ProblemsError: all problems of the file, each with file and line; or it differs from what sam2ft sealed.
    """
    try:
        text = _verified_text(path)
    except SealError:  # read again before it is called damaged: the first read may have been torn
        try:
            text = _verified_text(path)
        except SealError as error:
            remedy = "to accept an edit by hand, remove its lines that begin with `# sealed`"
            raise ProblemsError([Problem(str(path), "", f"edited or damaged ({error}); {remedy}")]) from None
    value, lines = _parse(text, str(path), numbered=True)
    return Document(path, value, lines)


def parse_value(text: str, where: str) -> Any:
    """The value of a one-line text such as `1e-4`, `[1, 2]` or `{type: SGD}`.

    Raises:
        ProblemsError: all problems of the text, with `where` as their place.
    """
    return _parse(text, where, numbered=False)[0]


class _Dumper(yaml.SafeDumper):
    """YAML writer that quotes text which YAML 1.1 or 1.2 would read as another type."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> ScalarNode:
    style = "'" if not isinstance(parse_scalar(text), str) or text == "<<" else None
    if not text.isprintable():
        style = '"'  # the only style with escapes; in others, line ends such as U+0085 become spaces
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _mapping(dumper: yaml.SafeDumper, mapping: Mapping[str, Any]) -> MappingNode:
    """On one line if it is short and not nested."""
    flat = not any(isinstance(value, dict | list) and value for value in mapping.values())
    flow = flat and len(str(mapping)) <= 100
    return dumper.represent_mapping("tag:yaml.org,2002:map", mapping, flow_style=flow)


def _list(dumper: yaml.SafeDumper, entries: list[Any]) -> SequenceNode:
    flat = not any(isinstance(value, dict | list) for value in entries)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", entries, flow_style=flat and len(str(entries)) <= 100)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(dict, _mapping)
_Dumper.add_representer(list, _list)


def dump_yaml(value: Any) -> str:
    """YAML text of mappings, lists and scalars; `load_yaml` reads it back as the same value. Keys keep their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
