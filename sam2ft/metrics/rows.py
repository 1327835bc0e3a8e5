"""Result rows of one volume: contents of slice, instance, volume and biomarker rows, and assignment of measurements."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label
from sam2ft.core.prompts import Box, Mask
from sam2ft.core.tables.rows import Row, Value
from sam2ft.metrics.counts import Overlap, overlap, total
from sam2ft.metrics.measurement import Measurement
from sam2ft.metrics.regions import bounding_block

ScoredRows = dict[str, list[Row]]
"""Table name (slice, instance, volume, biomarker_slice, biomarker_volume) -> rows without their stamp.

The stamp is the columns run, eval, split and protocol.
"""

_NAN_DISTANCES: Mapping[str, Value] = dict.fromkeys(("hd_mm", "hd95_mm", "assd_mm", "nsd"), math.nan)


@dataclass(frozen=True)
class PromptedMask:
    """Predicted and reference mask of one prompt, before composition, on the ORIGINAL grid of its slice.

    Both masks cover one window of the slice and are empty outside it: whole slices for every instance of a volume do
    not fit into memory (1,000 slices x 20 instances of 512 x 512 pixels are 10 GB).
    """

    slice: int
    label: int
    instance: int
    box: Box | None
    """None in a slice to which an object was propagated (protocol propagate)."""
    prediction_yx: Mask
    reference_yx: Mask
    window: tuple[int, int] = (0, 0)
    """(y0, x0): pixel of the slice at which the masks begin."""

    def cropped(self) -> "PromptedMask":
        """Copy whose masks are cropped to their common bounding box."""
        either = self.prediction_yx | self.reference_yx
        rows, columns = bounding_block(either)
        return replace(
            self,
            prediction_yx=self.prediction_yx[rows, columns].copy(),
            reference_yx=self.reference_yx[rows, columns].copy(),
            window=(self.window[0] + rows.start, self.window[1] + columns.start),
        )


class VolumeRows:
    """Builder of the rows of one volume; rows are addressed by their key within the volume."""

    def __init__(self, key: VolumeKey, dz_source: str) -> None:
        self._stamp: dict[str, Value] = {name: getattr(key, name) for name in VolumeKey.COLUMNS}
        self._dz_source = dz_source
        self.tables: dict[str, dict[tuple[int | None, ...], dict[str, Value]]] = {
            name: {} for name in ("slice", "instance", "volume")
        }
        self.biomarkers: dict[str, list[Row]] = {"biomarker_slice": [], "biomarker_volume": []}
        self._metric_of: dict[tuple[str, str], str] = {}

    def add(self, table: str, key: tuple[int | None, ...], values: Mapping[str, Value]) -> None:
        """Add a row to a table.

        Raises:
            ValueError: The table has a row with this key already.
        """
        if key in self.tables[table]:
            raise ValueError(f"two {table} rows for {key}")
        self.tables[table][key] = {**self._stamp, **values}

    def put(self, found: Measurement, label: Label, status: str, metric: str) -> None:
        """Store one measurement: a value as a column of its row, a reference with a prediction as a biomarker row.

        Raises:
            DataError: Another metric has written this column.
            ValueError: The table has no row for the value.
        """
        if found.value is None:
            self._put_biomarker(found, label, status)
            return
        if (first := self._metric_of.setdefault((found.level, found.measure), metric)) != metric:
            raise DataError(f"metrics {first} and {metric} both write the column {found.measure} of {found.level}.csv")
        row = self.tables[found.level].get(_row_key(found, label))
        if row is not None:
            row[found.measure] = found.value
        elif found.level != "instance" or self.tables["instance"]:
            raise ValueError(f"{found.measure}: no {found.level} row for label {label.id}, slice {found.slice}")

    def _put_biomarker(self, found: Measurement, label: Label, status: str) -> None:
        assert found.reference is not None
        assert found.prediction is not None
        of_slice = {} if found.slice is None else {"slice": found.slice}
        self.biomarkers["biomarker_slice" if of_slice else "biomarker_volume"].append(
            {
                **self._stamp,
                **of_slice,
                "label": label.id,
                "tissue": label.name,
                "instance": found.instance,
                "biomarker": found.measure,
                "definition": found.definition,
                "unit": found.unit,
                "reference": found.reference,
                "prediction": found.prediction,
                "difference": found.prediction - found.reference,
                "n_reference": found.n_reference,
                "n_prediction": found.n_prediction,
                "dz_source": self._dz_source,
                "status": status if found.status is None else found.status,
                **({} if found.sensitivity is None else {"sensitivity": found.sensitivity}),
            }
        )

    def finished(self) -> ScoredRows:
        """All rows by table name."""
        return {**{name: list(rows.values()) for name, rows in self.tables.items()}, **self.biomarkers}


def _row_key(found: Measurement, label: Label) -> tuple[int | None, ...]:
    if found.level == "volume":
        return (label.id,)
    return (found.slice, label.id) if found.level == "slice" else (found.slice, label.id, found.instance)


def _label_columns(label: Label) -> dict[str, Value]:
    return {"label": label.id, "label_name": label.name}


def _of(counts: Overlap, *names: str) -> dict[str, Value]:
    """Columns that have the names of counts and ratios."""
    return {name: getattr(counts, name) for name in names}


def slice_values(index: int, label: Label, counts: Overlap, num_instances: int, geometry: Geometry) -> dict[str, Value]:
    """Columns of one row of slice.csv; distances are NaN until a metric sets them."""
    return {
        "slice": index,
        **_label_columns(label),
        "num_instances": num_instances,
        **_of(counts, "tp", "fp", "fn", "tn"),
        "area_reference_mm2": counts.reference * geometry.pixel_area_mm2,
        "area_prediction_mm2": counts.prediction * geometry.pixel_area_mm2,
        **_of(counts, "dice", "iou", "precision", "recall"),
        **_NAN_DISTANCES,
        "status": counts.status,
    }


def volume_values(label: Label, of_slices: Sequence[Overlap], num_specks: int, geometry: Geometry) -> dict[str, Value]:
    """Columns of one row of volume.csv; slice means exclude absent slices; distances are NaN until a metric runs."""
    counts = total(of_slices)
    counted = [one for one in of_slices if one.status != "absent"]
    return {
        **_label_columns(label),
        **_of(counts, "tp", "fp", "fn", "tn", "dice", "iou"),
        "dice_slice_mean": math.fsum(one.dice for one in counted) / len(counted) if counted else math.nan,
        "iou_slice_mean": math.fsum(one.iou for one in counted) / len(counted) if counted else math.nan,
        "volume_reference_mm3": counts.reference * geometry.voxel_volume_mm3,
        "volume_prediction_mm3": counts.prediction * geometry.voxel_volume_mm3,
        **_NAN_DISTANCES,
        "num_slices": len(of_slices),
        "status": counts.status,
        "num_specks": num_specks,
    }


def instance_values(one: PromptedMask, label: Label) -> dict[str, Value]:
    """Columns of one row of instance.csv."""
    counts = overlap(one.prediction_yx, one.reference_yx)
    return {
        "slice": one.slice,
        **_label_columns(label),
        "instance": one.instance,
        "box": None if one.box is None else " ".join(str(corner) for corner in one.box),
        **_of(counts, "tp", "fp", "fn", "dice", "iou", "status"),
    }
