"""Finding the files of each volume by patterns of paths: placeholders that name it."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from sam2ft.core.errors import DataError
from sam2ft.core.keys import VolumeKey
from sam2ft.data.sources.row import DEFAULT_VOLUME, VolumeFiles, checked_rows

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def find_by_patterns(dataset: str, images: str, masks: str, maps: Mapping[str, str], base: Path) -> list[VolumeFiles]:
    """One source per file or folder that matches the pattern `images`, sorted by key.

    A pattern is a path below `base` with {subject}, and {volume} where subjects have several volumes. The paths of
    masks and maps follow from the subject and volume of the image; they need not exist.

    Raises:
        DataError: when nothing matches, a name can be read in two ways, or two files have one key.
    """
    sources = []
    for path, names in _matches(base, images):
        key = VolumeKey(dataset, names["subject"], names.get("volume", DEFAULT_VOLUME))
        map_paths = {name: base / filled_pattern(pattern, key) for name, pattern in maps.items()}
        sources.append(VolumeFiles(key, path, base / filled_pattern(masks, key), map_paths))
    if not sources:
        raise DataError(f"sources.images: no file matches {base / images}")
    return checked_rows(sources, f"sources.images: {images}")


def filled_pattern(pattern: str, key: VolumeKey) -> str:
    """The path of a volume by a pattern with {subject} and {volume}."""
    return pattern.replace("{subject}", key.subject).replace("{volume}", key.volume)


def _matches(base: Path, pattern: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """Existing paths that match a pattern, with the values of its placeholders."""
    start, components = (Path("/"), pattern[1:]) if pattern.startswith("/") else (base, pattern)
    found: list[tuple[Path, dict[str, str]]] = [(start, {})]
    for component in (part for part in components.split("/") if part not in ("", ".")):
        found = [match for path, names in found for match in _step(path, names, component)]
    yield from found


def _step(folder: Path, names: Mapping[str, str], component: str) -> Iterator[tuple[Path, dict[str, str]]]:
    for name, value in names.items():
        component = component.replace(f"{{{name}}}", value)
    if not _PLACEHOLDER.search(component):
        if (folder / component).exists():
            yield folder / component, dict(names)
        return
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith("."):
            continue
        greedy, lazy = (re.fullmatch(_expression(component, most), path.name) for most in (".+", ".+?"))
        if greedy is None or lazy is None:
            continue
        if greedy.groupdict() != lazy.groupdict():
            raise DataError(
                f"{path}: {component!r} can be read as {greedy.groupdict()} and as {lazy.groupdict()}; "
                "give a table (subject, volume, image, mask) as sources.images"
            )
        yield path, {**names, **greedy.groupdict()}


def _expression(component: str, most: str) -> str:
    """A regular expression for one path component; a repeated placeholder must have the same value."""
    pieces, last, seen = [], 0, set()
    for match in _PLACEHOLDER.finditer(component):
        name = match[1]
        pieces += [
            re.escape(component[last : match.start()]),
            f"(?P={name})" if name in seen else f"(?P<{name}>{most})",
        ]
        seen.add(name)
        last = match.end()
    return "".join([*pieces, re.escape(component[last:])])
