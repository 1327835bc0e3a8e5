"""What metrics are told of a volume's slices, from its store or from a metadata file, and whether it fits the image."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sam2ft.core.errors import DataError
from sam2ft.core.files import read_json
from sam2ft.core.geometry import Geometry
from sam2ft.data.store.metadata import GRID_FIELDS, extract_meta, metadata_of
from sam2ft.data.store.store import VolumeRecord

# Sources of one distance that differ by more than this share disagree.
DISAGREEMENT = 0.01
DISTANCES = ("slice_spacing", "spacing_between_slices", "slice_thickness")
"""Fields that may hold a distance of slices. slice_spacing: of the store from positions, of another file what it says;
spacing_between_slices: the header's."""


@dataclass(frozen=True)
class Described:
    """What is known of one volume's slices."""

    geometry: Geometry
    dicom: Mapping[str, Sequence[Any]]
    """Field -> one value per slice, as metrics are handed them."""
    disagreements: tuple[str, ...]
    """One sentence for each source that says another distance than the one that is used."""


@dataclass(frozen=True)
class MetadataSource:
    """Which fields are handed to metrics, and where they come from.

    Without `file` they are the store's, and those that it lacks are left out. With `file` (metadata_for_stats.json,
    metadata_for_ml.json, or a file of that form) they are that file's, and it must have them all.
    """

    wanted: tuple[str, ...] = ()
    representative_slice: bool = True
    """One value for all slices: of a file that describes slice by slice that of the middle one."""
    file: Path | None = None
    entries: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Content of `file`."""

    @classmethod
    def of(cls, wanted: Iterable[str], representative_slice: bool, file: Path | None) -> "MetadataSource":
        """With the content of `file` read. Errors: DataError for a file that is no metadata."""
        entries = {} if file is None else read_json(file)
        if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
            raise DataError(f"{file}: expected a mapping subject -> fields")
        return cls(tuple(wanted), representative_slice, file, entries)

    def describe(self, record: VolumeRecord) -> Described:
        """Grid and fields of one volume.

        Where the distance of slices is not known from positions, it is that of a slice_spacing, then of a
        slice_thickness. Errors: DataError naming file, subject and values for a subject, slice or field that is
        missing, and for rows, columns or pixel spacings that are not the image's.
        """
        if self.file is None:
            own = metadata_of(
                record.dicom,
                self.wanted,
                record.geometry.shape_zyx[0],
                representative_slice=self.representative_slice,
            )
            return Described(record.geometry, own, distance_disagreements(record.geometry, record.dicom))
        fields = self._fields(record)
        _refuse_another_grid(f"{self.file}: {self._name(record)}", record.geometry, fields)
        geometry = _with_distance(record.geometry, fields)
        return Described(
            geometry, {name: fields[name] for name in self.wanted}, distance_disagreements(geometry, fields)
        )

    def _name(self, record: VolumeRecord) -> str:
        """The top-level key of a volume: `<subject>/<volume>`, or the subject alone."""
        whole = f"{record.key.subject}/{record.key.volume}"
        if whole not in self.entries and record.key.subject not in self.entries:
            raise DataError(f"{self.file}: no subject {record.key.subject!r} (nor {whole!r}) among {len(self.entries)}")
        return whole if whole in self.entries else record.key.subject

    def _fields(self, record: VolumeRecord) -> dict[str, list[Any]]:
        """The wanted fields, and those of the grid that the file has: one value per slice."""
        name, num_slices = self._name(record), record.geometry.shape_zyx[0]
        entry = self.entries[name]
        if "slices" not in entry and not self.representative_slice:
            raise DataError(
                f"{self.file}: {name} is described by one representative slice; give a file that describes slice by "
                "slice, or set datamodule.metric.representative_slice: true"
            )
        if "slices" in entry and len(entry["slices"]) > num_slices:
            raise DataError(f"{self.file}: {name} has {len(entry['slices'])} slices, the image {num_slices}")
        indices = [num_slices // 2] * num_slices if self.representative_slice else range(num_slices)
        slices = [record.key.slice(index).metadata_key if "slices" in entry else None for index in indices]
        fields: dict[str, list[Any]] = {}
        for number in slices:
            known = entry if number is None else entry["slices"].get(number, {})
            also = [field for field in (*GRID_FIELDS, *DISTANCES) if field in known]
            try:
                found = extract_meta({name: entry}, name, tuple(dict.fromkeys((*self.wanted, *also))), number)
            except DataError as error:
                raise DataError(f"{self.file}: {error}") from None
            for key, value in found.items():
                fields.setdefault(key, []).append(value)
        # A field of the grid that some slices lack says nothing of the volume.
        return {key: values for key, values in fields.items() if len(values) == num_slices}


def _refuse_another_grid(where: str, geometry: Geometry, fields: Mapping[str, Sequence[Any]]) -> None:
    """Errors: DataError where rows, columns or pixel spacings are not those of the image."""
    _, rows, columns = geometry.shape_zyx
    if "rows" in fields and "columns" in fields:
        for found in dict.fromkeys(zip(fields["rows"], fields["columns"], strict=True)):
            if found != (rows, columns):
                swapped = "; they are swapped" if found == (columns, rows) else ""
                raise DataError(
                    f"{where} has {found[0]} rows x {found[1]} columns, the image {rows} x {columns}{swapped}"
                )
    own = geometry.spacing_zyx_mm[1:]
    for value in fields.get("pixel_spacing", ()):
        spacing = _two_numbers(where, value)
        if not np.allclose(spacing, own, rtol=DISAGREEMENT):
            swapped = "; they are swapped" if np.allclose(spacing[::-1], own, rtol=DISAGREEMENT) else ""
            raise DataError(
                f"{where} has pixel_spacing {spacing[0]:g} x {spacing[1]:g} mm (rows x columns), "
                f"the image {own[0]:g} x {own[1]:g} mm{swapped}"
            )


def _two_numbers(where: str, value: Any) -> tuple[float, float]:
    numbers = value if isinstance(value, list | tuple) else [value, value]
    if len(numbers) == 2 and all(_is_length(number) for number in numbers):
        return float(numbers[0]), float(numbers[1])
    raise DataError(f"{where} has pixel_spacing {value!r}; allowed: two lengths > 0 in mm (rows, columns)")


def _is_length(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _with_distance(geometry: Geometry, fields: Mapping[str, Sequence[Any]]) -> Geometry:
    """`geometry`, its dz the fields' where they know better than it: positions, slice_spacing, slice_thickness."""
    sources = ("positions", "slice_spacing", "slice_thickness")
    for source in sources[1 : sources.index(geometry.dz_source) + 1]:
        value = fields[source][0] if source in fields else None
        if _is_length(value):
            dz, scale = float(value), float(value) / geometry.spacing_zyx_mm[0]  # type: ignore[arg-type]  # is a length
            affine = geometry.affine
            affine[:3, 2] *= scale
            moved = Geometry.from_affine(geometry.shape_zyx, affine, source)
            return replace(moved, spacing_zyx_mm=(dz, *geometry.spacing_zyx_mm[1:]))
    return geometry


def distance_disagreements(geometry: Geometry, fields: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
    """One sentence for each field that says another distance of slices than the one that is used, by over 1 %."""
    dz = geometry.spacing_zyx_mm[0]
    found = []
    for source in DISTANCES:
        values = [value for value in fields[source] if _is_length(value)] if source in fields else []
        worst = max(values, key=lambda value: abs(value / dz - 1), default=dz)
        if abs(worst / dz - 1) > DISAGREEMENT:
            found.append(f"{source} says {worst:g} mm, {geometry.dz_source} {dz:g} mm")
    return tuple(found)


def in_short(disagreements: Mapping[str, Sequence[str]]) -> list[str]:
    """Volume -> its sentences, as one sentence for each source: in how many volumes, and the first of them."""
    of_source: dict[str, list[tuple[str, str]]] = {}
    for volume, sentences in disagreements.items():
        for sentence in sentences:
            of_source.setdefault(sentence.split()[0], []).append((volume, sentence))
    return [
        f"{found[0][1]} (used) in {found[0][0]}"
        + (f" and {len(found) - 1} more of {len(disagreements)} volumes" if len(found) > 1 else "")
        for found in of_source.values()
    ]
