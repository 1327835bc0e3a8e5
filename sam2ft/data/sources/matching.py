"""Matching of existing paths with a pattern: placeholders, *, ?, [...] inside of a name, ** for folders."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from sam2ft.config.schema.patterns import FOLDERS, PLACEHOLDER
from sam2ft.core.errors import DataError
from sam2ft.data.sources.paths import Folders

_TOKEN = re.compile(r"\{(?P<name>[^{}]*)\}|(?P<wild>\*|\?|\[!?[^\]!]+\])")

Match = tuple[Path, Mapping[str, str]]
"""An existing path, and the values of the placeholders in it."""


def matches(base: Path, pattern: str, folders: Folders, known: Mapping[str, str] | None = None) -> list[Match]:
    """Existing paths that match a pattern, sorted; a path comes once.

    What a pattern says without its wildcards goes first: a folder called `knees [2019]` is found by its name.

    Args:
        known: placeholder -> value that is given; it holds no wildcard.

    Raises:
        DataError: a path can be read in two ways.
    """
    start, components = (Path("/"), pattern[1:]) if pattern.startswith("/") else (base, pattern)
    found: list[Match] = [(start, dict(known or {}))]
    for component in (part for part in components.split("/") if part not in ("", ".")):
        found = [match for path, names in found for match in _step(path, names, component, folders)]
    once: dict[Path, Mapping[str, str]] = {}
    for path, names in found:
        if once.setdefault(path, names) != names:
            raise _ambiguous(path, pattern, once[path], names)
    return sorted(once.items(), key=lambda match: match[0])


def in_other_letters(base: Path, pattern: str, folders: Folders) -> list[Path]:
    """Paths that do not match a pattern, but would if capital letters did not count in their last name."""
    last = pattern.rpartition("/")[2]
    above = pattern[: len(pattern) - len(last)]
    taken = {path for path, _ in matches(base, pattern, folders)}
    found = []
    for folder, names in matches(base, above or ".", folders):
        given = tuple(sorted((name, value) for name, value in names.items() if f"{{{name}}}" in last))
        expression = re.compile(_expression(last, given, "", True).pattern, re.DOTALL | re.IGNORECASE)
        alike = [folder / name for name in folders.names(folder) if expression.fullmatch(name)]
        found += [path for path in alike if path not in taken]
    return sorted(found)


def has_wildcards(pattern: str) -> bool:
    """Whether a pattern has *, ? or [...] outside of its placeholders."""
    return any(token["wild"] for token in _TOKEN.finditer(pattern))


def _step(folder: Path, names: Mapping[str, str], component: str, folders: Folders) -> Iterator[Match]:
    if component == FOLDERS:
        yield from ((below, names) for below in _folders_below(folder, folders, ()))
        return
    literal = PLACEHOLDER.sub(lambda match: names.get(match[1], match[0]), component)
    open_names = [name for name in PLACEHOLDER.findall(component) if name not in names]
    if not open_names and (folder / literal).exists():
        yield folder / literal, names
    elif not open_names and not has_wildcards(component):
        path = folders.found(folder / literal)
        if path.exists():
            yield path, names
    else:
        given = tuple(sorted((name, value) for name, value in names.items() if f"{{{name}}}" in component))
        plain = list(_matching(folder, names, component, given, folders, wild=False)) if open_names else []
        wild = has_wildcards(component)
        yield from plain or (_matching(folder, names, component, given, folders, wild=True) if wild else ())


def _matching(
    folder: Path,
    names: Mapping[str, str],
    component: str,
    given: tuple[tuple[str, str], ...],
    folders: Folders,
    *,
    wild: bool,
) -> Iterator[Match]:
    greedy, lazy = (_expression(component, given, most, wild) for most in ("", "?"))
    for name in folders.beginning(folder, _literal_start(component, dict(given), wild)):
        if (one := greedy.fullmatch(name)) is None or (other := lazy.fullmatch(name)) is None:
            continue
        # The longest and the shortest reading: where they are one, also of wildcards, there is no third.
        if one.groupdict() and _spans(one) != _spans(other):
            raise _ambiguous(folder / name, component, one.groupdict(), other.groupdict())
        yield folder / name, {**names, **one.groupdict()}


def _literal_start(component: str, known: Mapping[str, str], wild: bool) -> str:
    """The text with which every name that matches begins."""
    pieces, last = [], 0
    for match in _TOKEN.finditer(component):
        pieces.append(component[last : match.start()])
        last, name = match.end(), match["name"]
        if (name is not None and name not in known) or (name is None and wild):
            return "".join(pieces)
        pieces.append(match[0] if name is None else known[name])
    return "".join([*pieces, component[last:]])


def _spans(match: re.Match[str]) -> list[tuple[int, int]]:
    return [match.span(group) for group in range(1, match.re.groups + 1)]


def _ambiguous(path: Path, pattern: str, one: Mapping[str, str], other: Mapping[str, str]) -> DataError:
    # Two readings of wildcards alone look the same.
    readings = f"as {dict(one)} and as {dict(other)}" if one != other else f"as {dict(one)} and otherwise, by its *"
    return DataError(
        f"{path}: {pattern!r} can be read {readings}; give a table (subject, volume, image, mask) as sources.images"
    )


@lru_cache(maxsize=4096)
def _expression(component: str, given: tuple[tuple[str, str], ...], most: str, wild: bool) -> re.Pattern[str]:
    """A regular expression for one part of a path; a repeated placeholder must have the same value."""
    pieces, last, seen, known = [], 0, set(), dict(given)
    for match in _TOKEN.finditer(component):
        pieces.append(re.escape(component[last : match.start()]))
        last, name = match.end(), match["name"]
        if name is None:
            pieces.append(_wildcard(match["wild"], most) if wild else re.escape(match["wild"]))
        elif name in known:
            pieces.append(re.escape(known[name]))
        else:
            pieces.append(f"(?P={name})" if name in seen else f"(?P<{name}>.+{most})")
            seen.add(name)
    try:
        return re.compile("".join([*pieces, re.escape(component[last:])]), re.DOTALL)
    except re.error:
        raise DataError(f"sources: {component!r}: its [...] is no set of characters such as [0-9] or [ab]") from None


def _wildcard(text: str, most: str) -> str:
    if text in ("*", "?"):
        return f"(.*{most})" if text == "*" else "."
    inside = re.sub(r"([\\\[\^&~|])", r"\\\1", text[1:-1])
    return f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"


def _folders_below(folder: Path, folders: Folders, above: tuple[Path, ...]) -> Iterator[Path]:
    """`folder` and all folders in it; a link to a folder above it is not followed again."""
    real = folder.resolve()
    if real in above or not folder.is_dir():
        return
    yield folder
    for name in folders.names(folder):
        yield from _folders_below(folder / name, folders, (*above, real))
