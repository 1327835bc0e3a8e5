"""Metric interface: input (MaskPair), output (Measurement), settings, and the decorator for custom metrics."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt

from sam2ft.config.schema.datamodule import MetricSection
from sam2ft.config.schema.evaluation import Evaluation
from sam2ft.core.components import components
from sam2ft.core.geometry import Geometry
from sam2ft.core.labels import Label
from sam2ft.core.prompts import Mask
from sam2ft.metrics.counts import Overlap, overlap, pair_counts, total

Level = Literal["slice", "instance", "volume"]
T = TypeVar("T")


@dataclass(frozen=True)
class ScoreSettings:
    """Settings of metric computation (sections `eval` and `datamodule.metric` of an experiment)."""

    missed_distance: float | Literal["diagonal"] = "diagonal"
    """Distance in mm that a missed or spurious label gets; `diagonal`: the diagonal of the volume."""
    nsd_tolerance_mm: float = 1.0
    tissues: tuple[int, ...] | None = None
    """Ids of the labels that biomarkers are measured on; None: all (thickness: those with an interface)."""
    t1rho_upper_ms: float = 500.0
    """Longest valid T1rho in ms; a longer one is a failed fit or fluid."""
    sensitivity: bool = False
    """Whether volume biomarkers are also measured with the reference's outline moved (`sensitivity.py`)."""

    @classmethod
    def of(cls, evaluation: Evaluation, metric: MetricSection) -> "ScoreSettings":
        """Return the settings of both sections; a field has the name of its key."""
        values = dict(metric) | dict(evaluation)
        return cls(**{one.name: values[one.name] for one in fields(cls)})

    @property
    def upper_ms(self) -> Mapping[str, float]:
        """Map name -> longest valid relaxation time in ms. T2: the bound of DOSMA."""
        return {"t2": 100.0, "t1rho": self.t1rho_upper_ms}


@dataclass(frozen=True)
class Measurement:
    """One result of one metric.

    A `value` becomes a table column; a `reference` with a `prediction` becomes a biomarker row.
    """

    level: Level
    measure: str
    """Column name including the unit (`hd_mm`), or the name of the biomarker (`t2`)."""
    value: float | None = None
    reference: float | None = None
    """NaN when the reference mask has no such value."""
    prediction: float | None = None
    slice: int | None = None
    """0-based index; required at slice level, and at instance level when the instance belongs to a slice."""
    instance: int | None = None
    """1-based number of the connected component; None: the whole tissue."""
    definition: str = ""
    unit: str = ""
    status: str | None = None
    """None: the status of the label in that slice or volume."""
    n_reference: int | None = None
    """Voxels, rays or instances behind the reference value."""
    n_prediction: int | None = None
    sensitivity: float | None = None
    """Biomarkers only: change of the reference value per pixel that the outline moves outwards."""

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reference is None) or (self.reference is None) != (self.prediction is None):
            raise ValueError(f"{self.measure}: a measurement holds a value, or a reference and a prediction")
        if self.level == "slice" and self.slice is None:
            raise ValueError(f"{self.measure}: a measurement of a slice names its slice")


@dataclass(frozen=True)
class MaskPair:
    """Predicted and reference mask of one label of one volume, with the data that a metric may need."""

    prediction_zyx: Mask
    reference_zyx: Mask
    geometry: Geometry
    label: Label = field(default_factory=lambda: Label(1, "1"))
    slices: tuple[int, ...] | None = None
    """Indices of the evaluated slices; None: all. Both masks are empty in all other slices."""
    maps: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    """Map name -> map on the same grid (`t2`, `t1rho`, in ms)."""
    bone_zyx: Mask | None = None
    """Bone of the REFERENCE from which thickness is measured, used for both masks."""
    vertebrae_zyx: Mask | None = None
    """Vertebrae of the REFERENCE next to a disc, used for both masks."""
    dicom: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """DICOM field -> one value per slice of the volume."""
    settings: ScoreSettings = field(default_factory=ScoreSettings)
    known_overlaps: Mapping[int, Overlap] | None = None
    """Slice index -> counts, if the caller has already computed them."""
    _memory: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def slice_overlaps(self) -> Mapping[int, Overlap]:
        """Evaluated slice -> confusion counts."""
        if self.known_overlaps is not None:
            return self.known_overlaps
        evaluated = range(len(self.reference_zyx)) if self.slices is None else self.slices
        return {i: overlap(self.prediction_zyx[i], self.reference_zyx[i]) for i in evaluated}

    @cached_property
    def overlap(self) -> Overlap:
        """Confusion counts of the volume: the sum over its evaluated slices."""
        return total(tuple(self.slice_overlaps.values()))

    @property
    def status(self) -> str:
        """Status of the label in the volume: ok, absent, missed or spurious."""
        return self.overlap.status

    @property
    def missed_distance_mm(self) -> float:
        """Distance in mm of a label that is in one mask only; the same in slice and volume rows."""
        chosen = self.settings.missed_distance
        return self.geometry.diagonal_mm if chosen == "diagonal" else float(chosen)

    @cached_property
    def reference_instances_zyx(self) -> npt.NDArray[np.int32]:
        """3-D connected components of the reference, numbered from 1."""
        return components(self.reference_zyx)[0]

    @cached_property
    def prediction_instances_zyx(self) -> npt.NDArray[np.int32]:
        """3-D connected components of the prediction, each with the number of the reference instance it overlaps most.

        Components that overlap no reference instance get the numbers after the last reference instance.
        """
        numbered, count = components(self.prediction_zyx)
        last = int(self.reference_instances_zyx.max(initial=0))
        shared = pair_counts(numbered, self.reference_instances_zyx, count, last)
        shared[:, 0] = 0
        matched = shared.argmax(axis=1)
        alone = shared.max(axis=1) == 0
        alone[0] = False
        matched[alone] = last + np.arange(1, alone.sum() + 1)
        matched[0] = 0
        instances: npt.NDArray[np.int32] = matched.astype(np.int32)[numbered]
        return instances

    def once(self, name: str, compute: Callable[["MaskPair"], T]) -> T:
        """Result of `compute(self)`, cached under `name` and shared by all metrics that request this name.

        For example, four surface metrics share one distance computation.
        """
        if name not in self._memory:
            self._memory[name] = compute(self)
        return cast(T, self._memory[name])


class Metric(Protocol):
    """Interface of a metric: its name, its requirements, and `measure`.

    Optional attributes: `biomarker = True` restricts the metric to the tissues; `without_bone = True` means that the
    `bone` it needs is optional for a tissue that is listed by its id and has no interface.
    """

    @property
    def name(self) -> str: ...

    @property
    def needs(self) -> Sequence[str]:
        """Requirements, checked before a run: `map:t1rho`, `map:t2`, `bone`, `dicom:<field>`."""

    def measure(self, pair: MaskPair) -> Iterable[Measurement]:
        """All measurements of one label of one volume."""


Measure = Callable[[MaskPair], Iterable[Measurement]]


@dataclass(frozen=True)
class FunctionMetric:
    """Metric made from a plain function; calling the object calls the function."""

    name: str
    needs: tuple[str, ...]
    measure: Measure
    biomarker: bool = False

    def __call__(self, pair: MaskPair) -> Iterable[Measurement]:
        return self.measure(pair)


def metric(name: str, needs: Sequence[str] = (), *, biomarker: bool = False) -> Callable[[Measure], FunctionMetric]:
    """Decorator that makes a metric (for `datamodule.metric.func`) from `function(pair) -> Iterable[Measurement]`."""
    return lambda function: FunctionMetric(name, tuple(needs), function, biomarker)


def is_biomarker(candidate: Metric) -> bool:
    """Whether the metric is measured on tissues only; the attribute is optional, as most metrics use every label."""
    return bool(getattr(candidate, "biomarker", False))


def can_do_without_bone(candidate: Metric) -> bool:
    """Whether the metric also measures tissues without an interface, if they are listed in metric.tissues."""
    return bool(getattr(candidate, "without_bone", False))
