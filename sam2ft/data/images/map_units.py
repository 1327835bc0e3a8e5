"""Units of relaxation maps: the unit of a map file, its values in ms, and whether these are plausible times.

BIDS stores T2 and T1rho maps in seconds and R2 maps in 1/s, and names the unit in a sidecar (`Units` of the .json file
beside the map). Without sidecar, suffix of the name or key, values are ms.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.config.schema.maps import MapSource, MapUnit
from sam2ft.core.errors import DataError
from sam2ft.data.formats.readers import volume_endings

# Medians of the positive values of a map, ms. Outside the first range a note, outside the second no such tissue.
USUAL_MS: Mapping[str, tuple[float, float]] = {"t2": (5.0, 300.0), "t1rho": (5.0, 500.0)}
POSSIBLE_MS = (0.5, 5000.0)

_SPELLINGS: Mapping[MapUnit, tuple[str, ...]] = {
    "ms": ("ms", "msec", "millisecond", "milliseconds"),
    "s": ("s", "sec", "second", "seconds"),
    "1/s": ("1/s", "/s", "s^-1", "s-1", "s**-1", "hz", "1/sec"),
}
# Suffixes of BIDS (Brain Imaging Data Structure 1.9, quantitative MRI).
_SUFFIXES: Mapping[str, MapUnit] = {
    **{"T2map": "s", "T2starmap": "s", "T1rho": "s", "T1rhomap": "s"},
    **{"R2map": "1/s", "R2starmap": "1/s"},
}
_ENDING = re.compile(f"({'|'.join(re.escape(ending) for ending in volume_endings())})$", re.IGNORECASE)


def sidecar_of(path: Path) -> Path:
    """Path of the .json file beside a map file; it need not exist."""
    return path.with_name(_ENDING.sub("", path.name) + ".json")


def unit_of(path: Path, name: str, source: MapSource) -> tuple[MapUnit, tuple[str, ...]]:
    """(unit of the values in a map file, notes): the key `unit`, else its sidecar, else its name, else ms.

    Raises:
        DataError: when no key is given and the sidecar cannot be read or names another unit.
    """
    if source.unit is None:
        written = _in_sidecar(path, name)
        unit = written or _by_name(path)
        where = f"as {sidecar_of(path).name} says" if written else "as the suffix of its name says (BIDS)"
        return unit or "ms", (f"map {name} is in {unit}, {where}",) if unit not in (None, "ms") else ()
    try:
        written = _in_sidecar(path, name)
    except DataError:
        written = None
    if written in (None, source.unit):
        return source.unit, ()
    return source.unit, (f"map {name}: unit {source.unit} is used, though {sidecar_of(path).name} says {written}",)


def unit_of_series(name: str, source: MapSource, written: str) -> tuple[MapUnit, tuple[str, ...]]:
    """(unit of the values of a map in DICOM, notes): the key `unit`, else its headers, else ms.

    Args:
        written: unit as the headers name it; what is no unit of a map counts as none (US: unspecified).
    """
    told = next((unit for unit, spellings in _SPELLINGS.items() if written.strip().lower() in spellings), None)
    if source.unit is None:
        return told or "ms", (f"map {name} is in {told}, as its headers say",) if told not in (None, "ms") else ()
    if told in (None, source.unit):
        return source.unit, ()
    return source.unit, (f"map {name}: unit {source.unit} is used, though its headers say {told}",)


def _by_name(path: Path) -> MapUnit | None:
    stem = _ENDING.sub("", path.name)
    return _SUFFIXES.get(stem.rpartition("_")[2]) if "_" in stem else None


def _in_sidecar(path: Path, name: str) -> MapUnit | None:
    sidecar = sidecar_of(path)
    if not sidecar.is_file():
        return None
    give = f"give sources.maps.{name}.unit (ms, s or 1/s)"
    try:
        content = json.loads(sidecar.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{sidecar}: not readable JSON ({error}); mend it, or {give}") from None
    written = content.get("Units") if isinstance(content, dict) else None
    if written is None:
        return None
    for unit, spellings in _SPELLINGS.items():
        if isinstance(written, str) and written.strip().lower() in spellings:
            return unit
    raise DataError(f"{sidecar}: Units is {json.dumps(written)[:40]}; allowed: ms, s, 1/s; mend it, or {give}")


def in_ms(values: npt.NDArray[Any], unit: MapUnit) -> npt.NDArray[Any]:
    """The times in ms; a rate that is not above 0 has no time (NaN)."""
    if unit == "ms":
        return values
    numbers = values.astype(np.float64)
    if unit == "s":
        return (1000 * numbers).astype(np.float32)
    positive = numbers > 0
    return np.divide(1000, numbers, out=np.full_like(numbers, np.nan), where=positive).astype(np.float32)


def implausible(values_ms: npt.NDArray[Any], name: str, *, told: bool, way_out: str) -> tuple[str, ...]:
    """Notes about a map whose median of positive values is unusual for times in ms.

    Args:
        told: the user has given the key that decides, so that an impossible median is only noted.
        way_out: what to do, for the refusal.

    Raises:
        DataError: when no value is positive, or the median is impossible.
    """
    positive = values_ms[np.isfinite(values_ms) & (values_ms > 0)]
    if not positive.size:
        raise DataError(f"map {name} has no value above 0; allowed: times in ms")
    median = float(np.median(positive))
    low, high = USUAL_MS[name]
    if low <= median <= high:
        return ()
    if not POSSIBLE_MS[0] <= median <= POSSIBLE_MS[1] and not told:
        raise DataError(
            f"map {name}: the median of its positive values is {median:.3g} ms; allowed: {POSSIBLE_MS[0]:g} to "
            f"{POSSIBLE_MS[1]:g} ms; {way_out}"
        )
    return (f"map {name}: the median of its positive values is {median:.3g} ms (usual: {low:g} to {high:g} ms)",)
