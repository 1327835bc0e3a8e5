"""One row of the sources of a dataset: the files of a volume and what is known of it; checks that all rows share."""

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from sam2ft.config.schema.dataset import Reading
from sam2ft.config.schema.series import ANY_SERIES, SeriesChoice
from sam2ft.core.errors import DataError
from sam2ft.core.files import canonical_json, sha256_text
from sam2ft.core.keys import VolumeKey
from sam2ft.data.formats.readers import companions_of
from sam2ft.data.images.map_units import sidecar_of

DEFAULT_VOLUME = "image"
"""Name of a subject's volume where nothing names it."""


@dataclass(frozen=True)
class VolumeFiles:
    """Files of one volume, and what its sources say about it. Everything but files and series enters no digest."""

    key: VolumeKey
    image: Path
    mask: Path
    maps: Mapping[str, Path] = field(default_factory=dict)
    masks: Mapping[str, Path] = field(default_factory=dict)
    """Label -> its own mask file, in the order that decides overlaps; empty: `mask` holds all labels."""
    split: str | None = None
    """Split that the sources give; None: it is drawn, or stands in a split file."""
    folds: tuple[str, ...] = ()
    """Split in each fold of the sources, of which `split` is the first; empty: the sources give no folds."""
    site: str | None = None
    covariates: Mapping[str, str] = field(default_factory=dict)
    """Column or placeholder -> its text, of all that the sources have; empty ones are left out."""
    labelled: tuple[int | str, ...] | None = None
    """Labels that were drawn in this volume, as its source writes them: ids or names, of which `find_sources` makes
    ids; None: all."""
    series: SeriesChoice = ANY_SERIES
    """Which images of a DICOM folder are this volume, beside `series` of the dataset file; it goes first."""
    problem: str = ""
    """Why this volume alone cannot be used, as a message; empty: nothing is known yet."""

    @property
    def paths(self) -> tuple[Path, ...]:
        return (self.image, *self.paths_of_masks, *(self.maps[name] for name in sorted(self.maps)))

    @property
    def paths_of_masks(self) -> tuple[Path, ...]:
        return tuple(self.masks.values()) or (self.mask,)

    @property
    def described(self) -> Mapping[str, str]:
        """The covariates, and the site as one of them."""
        return {**self.covariates, **({} if self.site is None else {"site": self.site})}


def chosen_reading(source: VolumeFiles, reading: Reading) -> Reading:
    """`reading` of the dataset file with the series that a row chooses."""
    if not source.series.chosen:
        return reading
    both = {**reading.series.chosen, **source.series.chosen}
    return reading.model_copy(update={"series": SeriesChoice.model_validate(both)})


def key_of(image: Path | str, dataset: str, subject: str, volume: str | None = None) -> VolumeKey:
    """The key of a volume.

    Raises:
        DataError: a name cannot be one; names the image, which the user has to rename.
    """
    try:
        return VolumeKey(dataset, subject, volume or DEFAULT_VOLUME)
    except DataError as error:
        raise DataError(f"{str(image)!r}: {error}; rename the file, or give a table as sources.images") from None


def without_absent_maps(source: VolumeFiles, optional_maps: Collection[str]) -> VolumeFiles:
    """`source` without its maps in `optional_maps` that do not exist."""
    maps = {name: path for name, path in source.maps.items() if name not in optional_maps or path.exists()}
    return replace(source, maps=maps)


def checked_rows(sources: Sequence[VolumeFiles], where: str, way_out: str = "") -> list[VolumeFiles]:
    """`sources` sorted by key.

    Args:
        where: file or key that the rows come from, for messages.
        way_out: what to do about two rows of one key.

    Raises:
        DataError: two rows have the same key, or keys that look the same, or one subject is in two splits.
    """
    ordered = sorted(sources, key=lambda source: source.key)
    for first, second in pairwise(ordered):
        if first.key == second.key:
            raise DataError(
                f"{where}: {first.image} and {second.image} both have the key {first.key}; a key must name one volume"
                f"{f'; {way_out}' if way_out else ''}"
            )
    _refuse_twins(ordered, where)
    splits: dict[str, VolumeFiles] = {}
    for source in ordered:
        first = splits.setdefault(source.key.subject, source)
        if (first.split, first.folds) != (source.split, source.folds):
            if first.split == source.split:
                raise DataError(
                    f"{where}: subject {source.key.subject} is in two folds ({first.image}, {source.image}); allowed: "
                    "one fold for all volumes of a subject"
                )
            found = " and ".join(str(one) for one in (first.split, source.split))
            raise DataError(
                f"{where}: subject {source.key.subject} is in the splits {found} ({first.image}, {source.image}); "
                "allowed: one split for all volumes of a subject"
            )
    return ordered


def _refuse_twins(ordered: Sequence[VolumeFiles], where: str) -> None:
    """Refuse subjects whose names differ only in how Unicode writes an accent (a copy by another system does that)."""
    seen: dict[str, VolumeFiles] = {}
    for source in ordered:
        first = seen.setdefault(unicodedata.normalize("NFC", source.key.subject), source)
        if first.key.subject != source.key.subject:
            raise DataError(
                f"{where}: {first.image} and {source.image} name the subject {source.key.subject} in two Unicode forms "
                "(composed and decomposed accents); a person must be one subject: rename one of them"
            )


def fingerprint(source: VolumeFiles, settings: Mapping[str, Any], *, version_1: bool = False) -> str:
    """Hash of the source files (path, size, modification time) and settings, to detect changes.

    The sidecar of a map file, which may name its unit, is one of them where there is one; not with `version_1`, whose
    stores took no notice of it. Nor did they of the voxels of a .nhdr file.
    """
    files_of_maps = [] if version_1 else [path for path in source.maps.values() if path.is_file()]
    sidecars = [sidecar for path in files_of_maps if (sidecar := sidecar_of(path)).is_file()]
    # Of a header of MetaImage, NRRD or a pair: the other half of the volume.
    headers = [path for path in source.paths if path.is_file() and not (version_1 and _is_nhdr(path))]
    beside = [other for path in headers for other in companions_of(path)]
    files = [
        path
        for given in (*source.paths, *sidecars, *beside)
        for path in (sorted(given.rglob("*")) if given.is_dir() else [given])
    ]
    settings = {**settings, **({"masks": list(source.masks)} if source.masks else {})}  # which file is which label
    settings |= {} if source.labelled is None else {"labelled": list(source.labelled)}
    settings |= {f"row.series.{name}": value for name, value in source.series.chosen.items()}
    stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files if path.is_file()]
    return sha256_text(canonical_json({"files": stats, "settings": settings}))


def _is_nhdr(path: Path) -> bool:
    return path.suffix.lower() == ".nhdr"
