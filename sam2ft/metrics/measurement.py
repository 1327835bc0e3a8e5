"""What a metric is given (MaskPair), what it answers (Measurement), and how a plain function becomes one."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt

from sam2ft.core.components import components
from sam2ft.core.geometry import Geometry
from sam2ft.core.labels import Label
from sam2ft.core.prompts import Mask
from sam2ft.metrics.counts import Overlap, overlap, total

Level = Literal["slice", "instance", "volume"]
T = TypeVar("T")


@dataclass(frozen=True)
class ScoreSettings:
    """What an evaluation decides about its numbers (section `eval` and `datamodule.metric` of an experiment)."""

    missed_distance: float | Literal["diagonal"] = "diagonal"
    """Distance in mm that a missed or spurious label gets; `diagonal` is that of the volume."""
    nsd_tolerance_mm: float = 1.0
    tissues: tuple[int, ...] | None = None
    """Labels that biomarkers are measured on; None: all (thickness: those with an interface)."""
    t1rho_upper_ms: float = 500.0
    """Longer T1rho is a failed fit or fluid."""
    sensitivity: bool = False
    """Whether biomarkers of volumes are measured again with the reference's outline moved (`sensitivity.py`)."""

    @property
    def upper_ms(self) -> Mapping[str, float]:
        """Map -> its longest valid relaxation time. T2: the bound of DOSMA."""
        return {"t2": 100.0, "t1rho": self.t1rho_upper_ms}


@dataclass(frozen=True)
class Measurement:
    """One number of one metric: a `value` becomes a column, a `reference` and a `prediction` a biomarker row."""

    level: Level
    measure: str
    """Name of the column, unit included (`hd_mm`); of a biomarker its name (`t2`)."""
    value: float | None = None
    reference: float | None = None
    """NaN when the reference mask has no such value."""
    prediction: float | None = None
    slice: int | None = None
    """0-based index; required at slice level, and at instance level when the instance is one of a slice."""
    instance: int | None = None
    """1-based number of the component; None = the whole tissue."""
    definition: str = ""
    unit: str = ""
    status: str | None = None
    """None: the status of the label in that slice or volume."""
    n_reference: int | None = None
    """Voxels, rays or instances behind the reference value."""
    n_prediction: int | None = None
    sensitivity: float | None = None
    """Of a biomarker: by how much the reference value changes per pixel that the outline moves outwards."""

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reference is None) or (self.reference is None) != (self.prediction is None):
            raise ValueError(f"{self.measure}: a measurement holds a value, or a reference and a prediction")
        if self.level == "slice" and self.slice is None:
            raise ValueError(f"{self.measure}: a measurement of a slice names its slice")


@dataclass(frozen=True)
class MaskPair:
    """One label of one volume, predicted and true, with everything that a metric may need."""

    prediction_zyx: Mask
    reference_zyx: Mask
    geometry: Geometry
    label: Label = field(default_factory=lambda: Label(1, "1"))
    slices: tuple[int, ...] | None = None
    """Evaluated slices; None: all. Both masks are empty in the others."""
    maps: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    """Maps on the same grid by name (`t2`, `t1rho`, in ms)."""
    bone_zyx: Mask | None = None
    """The bone of the REFERENCE from which thickness is measured, for both masks."""
    vertebrae_zyx: Mask | None = None
    """The vertebrae of the REFERENCE beside a disc, for both masks."""
    dicom: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Field -> one value per slice of the volume."""
    settings: ScoreSettings = field(default_factory=ScoreSettings)
    known_overlaps: Mapping[int, Overlap] | None = None
    """Counts per evaluated slice where the caller has them already."""
    _memory: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def evaluated(self) -> tuple[int, ...]:
        return tuple(range(self.reference_zyx.shape[0])) if self.slices is None else self.slices

    @cached_property
    def slice_overlaps(self) -> Mapping[int, Overlap]:
        """Counts of each evaluated slice."""
        if self.known_overlaps is not None:
            return self.known_overlaps
        return {i: overlap(self.prediction_zyx[i], self.reference_zyx[i]) for i in self.evaluated}

    @cached_property
    def overlap(self) -> Overlap:
        """Counts of the volume: the sum of those of its slices."""
        return total(tuple(self.slice_overlaps.values()))

    @property
    def status(self) -> str:
        return self.overlap.status

    @property
    def missed_distance_mm(self) -> float:
        """The distance of a label that is in one mask only, in slice and volume rows alike."""
        chosen = self.settings.missed_distance
        return self.geometry.diagonal_mm if chosen == "diagonal" else float(chosen)

    @cached_property
    def reference_instances_zyx(self) -> npt.NDArray[np.int32]:
        """3-D connected components of the reference, numbered from 1."""
        return components(self.reference_zyx)[0]

    @cached_property
    def prediction_instances_zyx(self) -> npt.NDArray[np.int32]:
        """3-D connected components of the prediction, each with the number of the reference instance it overlaps most.

        Components that meet no reference instance are numbered on, after the last of the reference.
        """
        numbered, count = components(self.prediction_zyx)
        last = int(self.reference_instances_zyx.max(initial=0))
        shared = np.bincount(
            numbered.ravel().astype(np.int64) * (last + 1) + self.reference_instances_zyx.ravel(),
            minlength=(count + 1) * (last + 1),
        ).reshape(count + 1, last + 1)
        shared[:, 0] = 0
        matched = shared.argmax(axis=1)
        alone = shared.max(axis=1) == 0
        alone[0] = False
        matched[alone] = last + np.arange(1, alone.sum() + 1)
        matched[0] = 0
        instances: npt.NDArray[np.int32] = matched.astype(np.int32)[numbered]
        return instances

    def once(self, name: str, compute: Callable[["MaskPair"], T]) -> T:
        """`compute(self)`, made once for all metrics that ask for `name` (four share one distance transform)."""
        if name not in self._memory:
            self._memory[name] = compute(self)
        return cast(T, self._memory[name])


class Metric(Protocol):
    """A name, what it needs, and `measure`.

    Optional attributes: `biomarker = True` limits it to the tissues; `without_bone = True` says that it can do without
    the `bone` it needs where a tissue that was asked for by its id has no interface.
    """

    @property
    def name(self) -> str: ...

    @property
    def needs(self) -> Sequence[str]:
        """Of `map:t1rho`, `map:t2`, `bone`, `dicom:<field>`: checked before a run."""

    def measure(self, pair: MaskPair) -> Iterable[Measurement]: ...


Measure = Callable[[MaskPair], Iterable[Measurement]]


@dataclass(frozen=True)
class FunctionMetric:
    """A plain function as a metric; calling it calls the function."""

    name: str
    needs: tuple[str, ...]
    measure: Measure
    biomarker: bool = False

    def __call__(self, pair: MaskPair) -> Iterable[Measurement]:
        return self.measure(pair)


def metric(name: str, needs: Sequence[str] = (), *, biomarker: bool = False) -> Callable[[Measure], FunctionMetric]:
    """Decorator: `function(pair) -> Iterable[Measurement]` becomes a metric that `datamodule.metric.func` can name."""
    return lambda function: FunctionMetric(name, tuple(needs), function, biomarker)


def is_biomarker(candidate: Metric) -> bool:
    """Whether the metric is measured on tissues only. The attribute is optional: most metrics are of every label."""
    return bool(getattr(candidate, "biomarker", False))


def can_do_without_bone(candidate: Metric) -> bool:
    """Whether the metric measures tissues without an interface too, when they are asked for."""
    return bool(getattr(candidate, "without_bone", False))
