"""Schema of the sources of relaxation maps (T2, T1rho): map files, or DICOM series to which maps are fitted."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from sam2ft.config.schema.base import Section, plain, problem, problems, section
from sam2ft.config.schema.patterns import Pattern
from sam2ft.config.schema.series import SeriesChoice

MapName = Literal["t2", "t1rho"]

Milliseconds = Annotated[float, Field(ge=0)]
MAP_BOUNDS_MS: Mapping[str, tuple[float, float]] = {"t2": (0.0, 100.0), "t1rho": (0.0, 500.0)}
"""Outside these bounds a fitted value is joint fluid or a failed fit."""
MapUnit = Literal["ms", "s", "1/s"]
_FIT_KEYS = ("spin_lock_ms", "skip_first", "bounds_ms", "r2_min")


class MapSource(Section):
    """Source of a relaxation map: a map file, or a DICOM series to which the map is fitted."""

    file: Pattern | None = plain(None, "map file of a volume, or the folder of a DICOM series that is a finished map")
    unit: MapUnit | None = plain(
        None,
        "unit of the values of a map file; 1/s: rates (R2), which are converted to times; null: as its sidecar (.json, "
        "Units) or the suffix of its name (BIDS: _T2map in s) says, else ms",
    )
    series: Pattern | None = plain(
        None,
        "folder of the images of a volume to which the map is fitted: DICOM, or NIfTI with the time of each in its "
        "sidecar (.json of BIDS)",
    )
    spin_lock_ms: tuple[Milliseconds, ...] | None = plain(
        None,
        "spin-lock times in the order of acquisition, whatever it was; no standard DICOM tag contains them",
        unit="ms",
    )
    skip_first: bool = plain(False, "fit without the image of the shortest time")
    bounds_ms: tuple[Milliseconds, Milliseconds] | None = plain(
        None,
        "fitted values are valid above the first bound, up to the second; null: 0 to 100 for t2, 0 to 500 for t1rho",
        unit="ms",
    )
    r2_min: float = plain(
        0.9, "smallest r2 of a valid fit: share of the variance of the signal that the fit explains", le=1
    )
    resample: bool = plain(
        False, "resample a map on another grid to the grid of the image, by linear interpolation through the affines"
    )

    select: SeriesChoice = section(SeriesChoice, "which images of a DICOM folder with several stacks are meant")
    optional: bool = plain(False, "prepare subjects without this map too; evaluations that name its metric name them")

    @field_validator("spin_lock_ms")
    @classmethod
    def _each_time_once(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and len(set(value)) < len(value):
            raise problem(f"found [{', '.join(f'{time:g}' for time in value)}]; allowed: each time once")
        return value

    @field_validator("bounds_ms")
    @classmethod
    def _increasing(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and any(second <= first for first, second in pairwise(value)):
            raise problem(f"found [{', '.join(f'{time:g}' for time in value)}]; allowed: increasing numbers")
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.file is not None and self.series is not None:
            raise problem("has both file and series; allowed: one of them")
        useless = [key for key in _FIT_KEYS if key in self.model_fields_set and self.file is not None]
        if useless:
            raise problems(
                dict.fromkeys(useless, "is a setting of a fit, but file is a finished map; leave the key out")
            )
        if self.unit is not None and self.series is not None:
            raise problems({"unit": "is the unit of a map file, but a fit gives ms; leave the key out"})
        return self

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings that differ from the defaults, without the paths of the source."""
        chosen = {name: getattr(self, name) for name in (*_FIT_KEYS, "resample", "unit")}
        usual = type(self).model_fields
        changed = {name: value for name, value in chosen.items() if value != usual[name].default}
        return changed | {f"select.{name}": value for name, value in self.select.chosen.items()}


def map_problems(maps: Mapping[str, str | MapSource], *, is_table: bool) -> dict[str, str]:
    """Key -> message, for wrong sources of maps. `is_table`: images are listed in a .csv table."""
    found = {}
    for name, entry in maps.items():
        place = entry if isinstance(entry, str) else entry.file or entry.series
        if is_table and place:
            found[name] = f"its path is in column map_{name} of the table that images: names; allowed: only settings"
        if not is_table and not place:
            found[name] = "missing: file or series"
        if name != "t1rho" and isinstance(entry, MapSource) and entry.spin_lock_ms is not None:
            found[f"{name}.spin_lock_ms"] = "applies to t1rho only; t2 is fitted to the echo times in the headers"
        if name == "t1rho" and isinstance(entry, MapSource) and entry.series and entry.spin_lock_ms is None:
            found[f"{name}.spin_lock_ms"] = "missing; no standard DICOM tag contains the spin-lock times"
    return found
