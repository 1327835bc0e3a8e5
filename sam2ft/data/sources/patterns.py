"""Finding the files of each volume by patterns of paths; the paths of masks and maps follow from those of images."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sam2ft.config.schema.patterns import filled, placeholders
from sam2ft.config.schema.sources import Sources, named
from sam2ft.core.errors import DataError, listed
from sam2ft.core.given.near import near_path
from sam2ft.data.formats.readers import volume_endings
from sam2ft.data.sources.matching import has_wildcards, matches
from sam2ft.data.sources.paths import Folders
from sam2ft.data.sources.row import VolumeFiles, checked_rows, key_of

_NAMING = ("subject", "volume", "site")
_SHOWN = 3
_MASK = "mask"


def find_by_patterns(dataset: str, sources: Sources, base: Path) -> list[VolumeFiles]:
    """One row per file or folder that matches the pattern of the images, sorted by key.

    A pattern is a path below `base` with placeholders and wildcards (see `matching`). The paths of masks and maps
    follow from the placeholders of the image; they need not exist.

    Raises:
        DataError: when nothing matches, a name can be read in two ways, or two files have one key.
    """
    images, folders = sources.images or "", Folders()
    rows = []
    for path, values in matches(base, images, folders):
        names = named(sources, values)
        patterns, known = {_MASK: sources.mask_pattern, **sources.map_patterns}, {**names, **values}
        paths, problem = followers(patterns, known, base, folders)
        masks, of_labels = followers(sources.masks_of_labels, known, base, folders)
        rows.append(
            VolumeFiles(
                key_of(path, dataset, names["subject"], names.get("volume")),
                path,
                paths.pop(_MASK),
                paths,
                masks,
                site=values.get("site"),
                covariates={name: value for name, value in values.items() if name not in _NAMING},
                problem=problem or of_labels,
            )
        )
    if not rows:
        raise DataError(f"sources.images: no file matches {base / images}{_where_it_ends(base, images, folders)}")
    way_out = "name volumes apart by {volume} or sources.volume, subjects by sources.subject"
    return checked_rows(rows, f"sources.images: {images}", way_out)


def followers(
    patterns: Mapping[str, str], values: Mapping[str, str], base: Path, folders: Folders
) -> tuple[dict[str, Path], str]:
    """(name -> path, problem): the path that each pattern stands for, which need not exist.

    Args:
        values: placeholder -> its value for this volume.
    """
    paths, problem = {}, ""
    for name, pattern in patterns.items():
        path = folders.found(base / filled(pattern, values))
        if not path.exists() and has_wildcards(pattern):
            hits = [hit for hit, _ in matches(base, pattern, folders, values)]
            if len(hits) > 1:
                found = listed([str(hit) for hit in hits], _SHOWN)
                problem = problem or (
                    f"{hits[0]}: is one of {len(hits)} that match {pattern} ({found}); allowed: one for each volume"
                )
            path = hits[0] if hits else path
        paths[name] = path
    return paths, problem


def _where_it_ends(base: Path, pattern: str, folders: Folders) -> str:
    """Which part of a pattern that matches nothing is not there. Names of subjects are not shown: logs may hold it."""
    root = "/" if pattern.startswith("/") else ""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    fitting, part, there = "", "", [Path(root) if root else base]
    for part in parts:
        upto = f"{fitting}/{part}" if fitting else part
        hits = [hit for hit, _ in matches(base, root + upto, folders)]
        if not hits:
            break
        fitting, there = upto, hits
    where = f"any of the {len(there)} that match {root}{fitting}" if _is_open(fitting) else str(there[0])
    near = None if _is_open(f"{fitting}/{part}") else near_path(there[0] / part)
    known = f"; there is {near}" if near is not None else ""
    return f": nothing called {part} in {where}{known}{_endings(there, folders) if part is parts[-1] else ''}"


def _is_open(pattern: str) -> bool:
    """Whether a pattern stands for names that it does not say."""
    return bool(placeholders(pattern)) or has_wildcards(pattern)


def _endings(there: Sequence[Path], folders: Folders) -> str:
    """How the names of image files in folders end: another ending, or another case, is the usual mistake."""
    names = [name for folder in there for name in folders.names(folder)]
    found = {name[-len(ending) :] for name in names for ending in volume_endings() if name.lower().endswith(ending)}
    whole = [ending for ending in found if not any(ending != other and other.endswith(ending) for other in found)]
    return f"; files there end in {listed(sorted(whole), _SHOWN)}" if whole else ""
