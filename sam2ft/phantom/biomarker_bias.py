"""Expected bias of biomarkers on a given voxel grid, from solids of known size (launch/prepare.py --phantom-check)."""

import json
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sam2ft.core.errors import ConfigError
from sam2ft.core.keys import VolumeKey
from sam2ft.metrics.factory import load_metrics
from sam2ft.metrics.measurement import ScoreSettings
from sam2ft.metrics.scoring import Scene, score_volume
from sam2ft.phantom.solids import NOISE_SHARE, Solid, solids

NUM_PLACES, FEWER_PLACES = 5, 2
"""Number of sub-voxel positions of each solid; fewer on fine grids, where even small solids have many voxels."""
_FINE_MM3 = 0.003
_SEED = 0
Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Bias:
    """Bias of one biomarker of one solid against its true value, over several sub-voxel positions of the solid."""

    solid: str
    biomarker: str
    definition: str
    unit: str
    truth: float
    measured: tuple[float, ...]
    """One value per position; NaN where there is no value."""

    def to_json(self) -> dict[str, Any]:
        """The fields, and the mean and range of the bias in percent of the true value."""
        percents = [100 * (value / self.truth - 1) for value in self.measured]
        known = [value for value in percents if math.isfinite(value)]
        summary = (statistics.fmean(known), min(known), max(known)) if known else (None, None, None)
        names = ("bias_percent", "bias_percent_low", "bias_percent_high")
        measured = [value if math.isfinite(value) else None for value in self.measured]
        return asdict(self) | {"measured": measured, **dict(zip(names, summary, strict=True))}


def phantom_check(spacing_yxz_mm: Sequence[float], *, as_json: bool = False) -> list[Bias]:
    """Measure solids on a grid with (row, column, slice) distances and print the expected bias of each biomarker.

    The values come from the same metrics that score predictions.

    Args:
        spacing_yxz_mm: distance between rows, columns and slices, mm.
        as_json: print as JSON instead of a table.

    Raises:
        ConfigError: when the spacing is not three values of 0.1 to 10 mm.
    """
    if len(spacing_yxz_mm) != 3 or not all(0.1 <= value <= 10 for value in spacing_yxz_mm):
        shown = ",".join(f"{value:g}" for value in spacing_yxz_mm)
        raise ConfigError(f"--spacing {shown}; allowed: row, column and slice distance, each 0.1 to 10 mm")
    rows, columns, slices = spacing_yxz_mm
    found = measure_biases((slices, rows, columns))
    if as_json:
        biases = [bias.to_json() for bias in found]
        print(json.dumps({"spacing_mm": [rows, columns, slices], "biases": biases}, indent=2))
    else:
        _show(found, (rows, columns, slices))
    return found


def measure_biases(spacing_zyx_mm: Spacing) -> list[Bias]:
    """The bias of every biomarker with a known true value; the same spacing gives the same numbers."""
    places = FEWER_PLACES if math.prod(spacing_zyx_mm) < _FINE_MM3 else NUM_PLACES
    offsets = np.random.default_rng(_SEED).uniform(-0.5, 0.5, (places, 3)).tolist()
    measured: dict[tuple[str, str, str, str], list[float]] = {}
    truths: dict[tuple[str, str, str, str], float] = {}
    for number, (z, y, x) in enumerate(offsets, start=1):
        for solid in solids(spacing_zyx_mm, (z, y, x)):
            values = _values(solid)
            for (biomarker, definition, unit), truth in solid.truth.items():
                key = (solid.name, biomarker, definition, unit)
                truths[key] = truth
                measured.setdefault(key, []).append(values.get((biomarker, definition, unit), math.nan))
        print(f"measured sub-voxel position {number} of {places}", file=sys.stderr, flush=True)
    return [Bias(*key, truth=truths[key], measured=tuple(values)) for key, values in measured.items()]


def _values(solid: Solid) -> dict[tuple[str, str, str], float]:
    """(biomarker, definition, unit) -> value of the metrics for label 1."""
    names = ("tissuevolume", "cartilagethickness" if len(solid.labels) > 1 else "tissueheight", *solid.maps)
    metrics = load_metrics(dict.fromkeys(names, True))
    scene = Scene(solid.geometry, solid.labels, solid.maps)
    key = VolumeKey("phantom_check", solid.name, "image")
    rows = score_volume(key, solid.mask_zyx, solid.mask_zyx, scene, (), metrics, ScoreSettings(tissues=(1,)))
    return {
        (str(row["biomarker"]), str(row["definition"]), str(row["unit"])): float(row["reference"])  # type: ignore[arg-type]
        for row in rows["biomarker_volume"]
        if row["instance"] is None
    }


def _show(found: Sequence[Bias], spacing: Spacing) -> None:
    from rich.console import Console
    from rich.table import Table

    rows, columns, slices = spacing
    table = Table(
        title=f"expected bias at {rows:g} x {columns:g} mm pixels (rows x columns), slices {slices:g} mm apart",
        caption=f"mean and range over {len(found[0].measured)} sub-voxel positions; maps: fits to signals with "
        f"{100 * NOISE_SHARE:g} % Rician noise",
    )
    for name in ("solid", "biomarker", "definition"):
        table.add_column(name)
    for name in ("truth", "measured", "bias", "range"):
        table.add_column(name, justify="right")
    for bias in found:
        summary = bias.to_json()
        known = [value for value in bias.measured if math.isfinite(value)]
        middle, low, high = (summary[f"bias_percent{end}"] for end in ("", "_low", "_high"))
        cells = ("none", "", "")
        if known:
            mean = f"{statistics.fmean(known):.5g} {bias.unit}"
            cells = (mean, f"{middle:+.2f} %", f"{low:+.2f} to {high:+.2f} %")
        truth = f"{bias.truth:.5g} {bias.unit}"
        table.add_row(bias.solid, bias.biomarker, bias.definition, truth, *cells)
    # In a log file the width is fixed, independent of a terminal.
    Console(width=None if sys.stdout.isatty() else 140).print(table)
