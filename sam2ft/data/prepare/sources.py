"""Finding the image, mask and map files of each subject, from path patterns or from a CSV table."""

import csv
import io
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from sam2ft.core.errors import DataError
from sam2ft.core.files import canonical_json, sha256_text
from sam2ft.core.given.near import near_path
from sam2ft.core.keys import VolumeKey
from sam2ft.data.formats.readers import companions_of
from sam2ft.data.images.map_units import sidecar_of

DEFAULT_VOLUME = "image"
"""Name of a subject's volume when the pattern has no {volume}."""
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class VolumeFiles:
    """Files of one volume."""

    key: VolumeKey
    image: Path
    mask: Path
    maps: Mapping[str, Path] = field(default_factory=dict)

    @property
    def paths(self) -> tuple[Path, ...]:
        return (self.image, self.mask, *(self.maps[name] for name in sorted(self.maps)))


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
        map_paths = {name: base / _filled(pattern, key) for name, pattern in maps.items()}
        sources.append(VolumeFiles(key, path, base / _filled(masks, key), map_paths))
    if not sources:
        raise DataError(f"sources.images: no file matches {base / images}{_where_it_ends(base, images)}")
    return _checked(sources, f"sources.images: {images}")


def _filled(pattern: str, key: VolumeKey) -> str:
    return pattern.replace("{subject}", key.subject).replace("{volume}", key.volume)


def _matches(base: Path, pattern: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """Existing paths that match a pattern, with the values of its placeholders."""
    found: list[tuple[Path, dict[str, str]]] = [(_start(base, pattern), {})]
    for component in _components(pattern):
        found = [match for path, names in found for match in _step(path, names, component)]
    yield from found


def _start(base: Path, pattern: str) -> Path:
    return Path("/") if pattern.startswith("/") else base


def _components(pattern: str) -> list[str]:
    return [part for part in pattern.split("/") if part not in ("", ".")]


def _where_it_ends(base: Path, pattern: str) -> str:
    """Which part of a pattern that matches nothing is not there. Names of subjects are not shown: logs may hold it."""
    components = _components(pattern)
    fitting, count = "", 1
    for component in components:
        upto = f"{fitting}/{component}" if fitting else component
        matches = list(_matches(_start(base, pattern), upto))
        if not matches:
            break
        fitting, count = upto, len(matches)
    names_subjects = _PLACEHOLDER.search(fitting) is not None
    where = f"any of the {count} that match {fitting}" if names_subjects else str(_start(base, pattern) / fitting)
    near = None if _PLACEHOLDER.search(upto) else near_path(_start(base, pattern) / upto)
    there = f"; there is {near}" if near is not None else ""
    star = "; * stands for itself, only {subject} and {volume} stand for names" if "*" in component else ""
    return f": nothing called {component} in {where}{there}{star}"


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


def find_by_table(dataset: str, table: Path, base: Path, optional_maps: Collection[str] = ()) -> list[VolumeFiles]:
    """One source per line of a CSV with the columns subject, image, mask, and optionally volume and map_<name>.

    Paths are relative to `base`. The cell of a map in `optional_maps` may be empty.

    Raises:
        DataError: naming the file and the line with the problem.
    """
    if not table.is_file():
        raise DataError(f"{table}: no such file; sources.images names a table that does not exist")
    with io.StringIO(table_text(table), newline="") as stream:
        reader = csv.DictReader(stream, skipinitialspace=True)
        columns = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = columns
        unknown = [
            name for name in columns if name not in ("subject", "volume", "image", "mask") and name[:4] != "map_"
        ]
        missing = [name for name in ("subject", "image", "mask") if name not in columns]
        if unknown or missing:
            raise DataError(
                f"{table}: columns {', '.join(columns)}; needed: subject, image, mask; allowed: volume, map_<name>"
            )
        sources = []
        for number, line in enumerate(reader, start=2):
            line = {name: (line[name] or "").strip() for name in columns}  # noqa: PLW2901
            if empty := [name for name in columns if not line[name] and name.removeprefix("map_") not in optional_maps]:
                maps_too = any(name.startswith("map_") for name in empty)
                hint = f"; sources.maps.{empty[-1][4:]}.optional: true allows it" if maps_too else ""
                raise DataError(f"{table}:{number}: {', '.join(empty)} is empty{hint}")
            key = VolumeKey(dataset, line["subject"], line.get("volume", DEFAULT_VOLUME))
            maps = {name[4:]: base / line[name] for name in columns if name.startswith("map_") and line[name]}
            sources.append(VolumeFiles(key, base / line["image"], base / line["mask"], maps))
    if not sources:
        raise DataError(f"{table}: no line below the header")
    return _checked(sources, str(table))


def table_text(table: Path) -> str:
    """The text of a table; DataError with the line when it is not UTF-8."""
    content = table.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{table}:{line}: byte 0x{content[error.start]:02x} is not UTF-8; save the table as UTF-8 (from Latin-1: "
            f"iconv -f latin1 -t utf-8 {table.name} > new.csv)"
        ) from None


def without_absent_maps(source: VolumeFiles, optional_maps: Collection[str]) -> VolumeFiles:
    """`source` without its maps in `optional_maps` that do not exist."""
    maps = {name: path for name, path in source.maps.items() if name not in optional_maps or path.exists()}
    return replace(source, maps=maps)


def _checked(sources: list[VolumeFiles], where: str) -> list[VolumeFiles]:
    """`sources` sorted by key; raise DataError if two have the same key."""
    ordered = sorted(sources, key=lambda source: source.key)
    for first, second in pairwise(ordered):
        if first.key == second.key:
            raise DataError(
                f"{where}: {first.image} and {second.image} both have the key {first.key}; a key must name one volume"
            )
    return ordered


def fingerprint(source: VolumeFiles, settings: Mapping[str, Any], *, version_1: bool = False) -> str:
    """Hash of the source files (path, size, modification time) and settings, to detect changes.

    The sidecar of a map file, which may name its unit, is one of them where there is one; not with `version_1`, whose
    stores took no notice of it.
    """
    files_of_maps = [] if version_1 else [path for path in source.maps.values() if path.is_file()]
    sidecars = [sidecar for path in files_of_maps if (sidecar := sidecar_of(path)).is_file()]
    # Of a MetaImage header or one of a pair: the other half of the volume.
    beside = [other for path in source.paths if path.is_file() for other in companions_of(path)]
    files = [
        path
        for given in (*source.paths, *sidecars, *beside)
        for path in (sorted(given.rglob("*")) if given.is_dir() else [given])
    ]
    stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files if path.is_file()]
    return sha256_text(canonical_json({"files": stats, "settings": dict(settings)}))
