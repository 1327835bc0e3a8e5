"""Slice metadata for metrics, from the store or a metadata file; check against the image grid and slice distance."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry
from sam2ft.data.store.metadata import GRID_FIELDS, extract_meta, metadata_of, read_metadata
from sam2ft.data.store.store import VolumeRecord

# Sources of the slice distance disagree if they differ by more than this fraction.
DISAGREEMENT = 0.01
DISTANCES = ("slice_spacing", "spacing_between_slices", "slice_thickness")
"""Fields that may contain a slice distance. slice_spacing: in the store from positions, in another file its own value;
spacing_between_slices: from the DICOM header."""


@dataclass(frozen=True)
class SliceDescription:
    """Geometry and metadata fields of the slices of one volume."""

    geometry: Geometry
    dicom: Mapping[str, Sequence[Any]]
    """Field -> one value per slice, as passed to metrics."""
    disagreements: tuple[str, ...]
    """One sentence for each source whose slice distance differs from the one that is used."""


@dataclass(frozen=True)
class MetadataSource:
    """Which fields are passed to metrics, and their source.

    Without `file` the fields come from the store; fields that it lacks are left out. With `file`
    (metadata_for_stats.json, metadata_for_ml.json, or a file of that form) they come from this file, which must contain
    all of them.
    """

    wanted: tuple[str, ...] = ()
    representative_slice: bool = True
    """One value for all slices; from a file with values per slice, the value of the middle slice."""
    file: Path | None = None
    entries: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Content of `file`."""

    @classmethod
    def of(cls, wanted: Iterable[str], representative_slice: bool, file: Path | None) -> "MetadataSource":
        """The source with the content of `file`.

        Raises:
            DataError: when the file is not a metadata file.
        """
        entries = {} if file is None else read_metadata(file)
        if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
            raise DataError(f"{file}: expected a mapping subject -> fields")
        return cls(tuple(wanted), representative_slice, file, entries)

    def describe(self, record: VolumeRecord) -> SliceDescription:
        """Grid and fields of one volume.

        If the slice distance is not known from positions, it is taken from slice_spacing, else from slice_thickness.

        Raises:
            DataError: naming file, subject and values; when a subject, slice or field is missing, or rows, columns or
                pixel spacings differ from the image.
        """
        if self.file is None:
            own = metadata_of(
                record.dicom,
                self.wanted,
                record.geometry.shape_zyx[0],
                representative_slice=self.representative_slice,
            )
            return SliceDescription(record.geometry, own, distance_disagreements(record.geometry, record.dicom))
        fields = self._fields(record)
        _refuse_another_grid(f"{self.file}: {self._name(record)}", record.geometry, fields)
        geometry = _with_distance(record.geometry, fields)
        return SliceDescription(
            geometry, {name: fields[name] for name in self.wanted}, distance_disagreements(geometry, fields)
        )

    def _name(self, record: VolumeRecord) -> str:
        """The top-level key of a volume: `<subject>/<volume>`, or the subject alone."""
        whole = f"{record.key.subject}/{record.key.volume}"
        if whole not in self.entries and record.key.subject not in self.entries:
            raise DataError(f"{self.file}: no subject {record.key.subject!r} (nor {whole!r}) among {len(self.entries)}")
        return whole if whole in self.entries else record.key.subject

    def _fields(self, record: VolumeRecord) -> dict[str, list[Any]]:
        """The wanted fields, and the grid fields that the file contains: one value per slice."""
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
        # A grid field that is missing in some slices is not used for the volume.
        return {key: values for key, values in fields.items() if len(values) == num_slices}


def _refuse_another_grid(where: str, geometry: Geometry, fields: Mapping[str, Sequence[Any]]) -> None:
    """Raise DataError if rows, columns or pixel spacings differ from the image."""
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
    """`geometry`, dz replaced if the fields have a better source: positions, slice_spacing, slice_thickness."""
    sources = ("positions", "slice_spacing", "slice_thickness")
    for source in sources[1 : sources.index(geometry.dz_source) + 1]:
        value = fields[source][0] if source in fields else None
        if _is_length(value):
            dz, scale = float(value), float(value) / geometry.spacing_zyx_mm[0]  # type: ignore[arg-type]  # is a length
            affine = geometry.affine
            affine[:3, 2] *= scale
            moved = Geometry.from_affine(geometry.shape_zyx, affine, source, oriented=geometry.oriented)
            # The in-plane spacings of an old record stay its own, and so does its leave to differ from the affine.
            return replace(moved, spacing_zyx_mm=(dz, *geometry.spacing_zyx_mm[1:]), exact=geometry.exact)
    return geometry


def distance_disagreements(geometry: Geometry, fields: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
    """One sentence for each field whose slice distance differs by more than 1 % from the one that is used."""
    dz = geometry.spacing_zyx_mm[0]
    found = []
    for source in DISTANCES:
        values = [value for value in fields[source] if _is_length(value)] if source in fields else []
        worst = max(values, key=lambda value: abs(value / dz - 1), default=dz)
        if abs(worst / dz - 1) > DISAGREEMENT:
            found.append(f"{source} gives {worst:g} mm, {geometry.dz_source} {dz:g} mm")
    return tuple(found)


def disagreement_summary(disagreements: Mapping[str, Sequence[str]]) -> list[str]:
    """One sentence for each source of disagreements, with the first volume and the number of volumes.

    Args:
        disagreements: volume -> its sentences (see `distance_disagreements`).
    """
    of_source: dict[str, list[tuple[str, str]]] = {}
    for volume, sentences in disagreements.items():
        for sentence in sentences:
            of_source.setdefault(sentence.split()[0], []).append((volume, sentence))
    return [
        f"{found[0][1]} (used) in {found[0][0]}"
        + (f" and {len(found) - 1} more of {len(disagreements)} volumes" if len(found) > 1 else "")
        for found in of_source.values()
    ]
