"""T2 and T1rho relaxation times of a tissue: statistics of the valid voxels of a map.

Voxels are pooled over the whole tissue; a mean of slice means is never used.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.metrics.biomarkers.both_masks import on_both_masks
from sam2ft.metrics.biomarkers.layers import LAYERS, layers
from sam2ft.metrics.measurement import MaskPair, Measurement

Values = npt.NDArray[np.float64]

_STATISTICS: dict[str, tuple[Callable[[Values], Any], int]] = {
    "mean": (np.mean, 1),
    "median": (np.median, 1),
    "sd": (lambda values: values.std(ddof=1), 2),
}
"""Statistic -> (its function, the fewest values for which it is not NaN)."""


def _value_of(statistic: str, values: Values) -> float:
    of, fewest = _STATISTICS[statistic]
    return float(of(values)) if len(values) >= fewest else math.nan


@dataclass(frozen=True)
class _RelaxationMetric:
    """Mean, median and SD (n - 1) in ms over the valid voxels of a mask, their number, and their share of the mask.

    A voxel is valid if its value is finite and in (0, upper_ms]: a failed fit (0, NaN, or a fit limit out of
    this range) is excluded, never counted as 0 and never clipped. An empty mask has NaN and its status. Slices have
    the mean only. For a tissue with an interface bone, each statistic is also computed for its deep and its
    superficial half.
    """

    name: str
    upper_ms: float | None = None
    """None: the bound in the settings of the pair."""
    biomarker: bool = True

    @property
    def needs(self) -> tuple[str, ...]:
        return (f"map:{self.name}",)

    def measure(self, pair: MaskPair) -> Iterator[Measurement]:
        times = pair.maps[self.name]
        upper_ms = pair.settings.upper_ms[self.name] if self.upper_ms is None else self.upper_ms
        for index, counts in pair.slice_overlaps.items():
            if counts.status != "absent":
                inside = (times[index][mask[index]] for mask in (pair.reference_zyx, pair.prediction_zyx))
                reference, prediction = (self._valid(values, upper_ms) for values in inside)
                yield self._statistic("mean", "", reference, prediction, slice_index=index)
        inside_reference, inside_prediction = times[pair.reference_zyx], times[pair.prediction_zyx]
        reference, prediction = (self._valid(values, upper_ms) for values in (inside_reference, inside_prediction))
        for definition in _STATISTICS:
            yield self._statistic(definition, "", reference, prediction)
        yield self._valid_share(pair, len(reference), len(prediction))
        if pair.bone_zyx is not None:
            of_reference, of_prediction = layers(pair)
            for layer in LAYERS:
                reference = self._valid(inside_reference[of_reference[layer]], upper_ms)
                prediction = self._valid(inside_prediction[of_prediction[layer]], upper_ms)
                for definition in _STATISTICS:
                    yield self._statistic(definition, f"_{layer}", reference, prediction)

    @staticmethod
    def _valid(inside: npt.NDArray[np.float32], upper_ms: float) -> Values:
        values = np.asarray(inside, dtype=np.float64)
        # Comparisons with NaN are false, so NaN and infinity are excluded like values out of bounds.
        return values[(values > 0) & (values <= upper_ms)]

    def _statistic(
        self, definition: str, layer: str, reference: Values, prediction: Values, *, slice_index: int | None = None
    ) -> Measurement:
        sides = ((_value_of(definition, values), len(values)) for values in (reference, prediction))
        return on_both_masks(self.name, definition + layer, "ms", *sides, slice=slice_index)

    def _valid_share(self, pair: MaskPair, valid_reference: int, valid_prediction: int) -> Measurement:
        masked = pair.overlap
        pairs = ((valid_reference, masked.reference), (valid_prediction, masked.prediction))
        sides = ((valid / voxels if voxels else math.nan, voxels) for valid, voxels in pairs)
        return on_both_masks(self.name, "valid_share", "1", *sides)


@dataclass(frozen=True)
class T2Metric(_RelaxationMetric):
    """T2 in ms; a value above 100 ms (the bound of DOSMA) is joint fluid or a failed fit, not cartilage."""

    name: str = "t2"


@dataclass(frozen=True)
class T1rhoMetric(_RelaxationMetric):
    """T1rho in ms; the upper bound depends on the spin-lock times (`datamodule.metric.t1rho_upper_ms`)."""

    name: str = "t1rho"
