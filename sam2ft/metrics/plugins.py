"""Custom metrics (plugins): checks of the results they yield, and error messages with file and line."""

import math
import numbers
import traceback
from collections.abc import Iterator
from pathlib import Path

from sam2ft.core.errors import ConfigError, UserError
from sam2ft.core.tables.rows import TABLES
from sam2ft.metrics.measurement import MaskPair, Measurement, Metric, can_do_without_bone, is_biomarker


class PluginMetric:
    """Custom metric `made`, imported from `place` (package.module:attribute in an experiment), with checked results."""

    def __init__(self, place: str, made: Metric):
        self.place, self.made = place, made
        self.name, self.needs = made.name, made.needs
        self.biomarker, self.without_bone = is_biomarker(made), can_do_without_bone(made)

    def measure(self, pair: MaskPair) -> Iterator[Measurement]:
        """Measurements of the custom metric, each of them checked.

        Raises:
            ConfigError: A result is invalid, or the metric raised; the message names the metric, the label and the
                problem or the line that raised.
        """
        where = f"metric {self.place!r}, label {pair.label.id} {pair.label.name} ({pair.status})"
        try:
            for found in self.made.measure(pair):
                if problem := _problem_in(found, pair):
                    raise ConfigError(f"{where}: {problem}")
                yield found
        except UserError:
            raise
        except Exception as error:
            raise ConfigError(f"{where}: {error_text(error)}") from error


def error_text(error: Exception) -> str:
    """Error type, message, and the first line outside this package in its traceback."""
    ours = str(Path(__file__).parents[1])
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((ours, "<frozen")) and Path(frame.filename).parent.name != "importlib"
    ]
    where = f" ({Path(frames[0].filename).name}:{frames[0].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


def _problem_in(found: object, pair: MaskPair) -> str | None:
    if not isinstance(found, Measurement):
        return f"yielded {found!r}; a metric must yield Measurement objects"
    if found.slice is not None and found.slice not in pair.slice_overlaps:
        return f"{found.measure} belongs to slice {found.slice}, which is not evaluated"
    for value in (found.value, found.reference, found.prediction):
        if value is not None and (isinstance(value, bool) or not isinstance(value, numbers.Real)):
            return f"{found.measure} is {value!r}; a value must be a number (NaN if there is none)"
        if value is not None and math.isinf(value):
            return f"{found.measure} is {value}; a value must be finite (NaN if there is none)"
    if found.value is not None and found.measure in TABLES[found.level].column_names():
        return f"{found.measure} is a fixed column of {found.level}.csv; choose another name"
    return None
