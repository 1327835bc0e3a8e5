"""Schema of the section `sweep:`: grid, zip, list, random search, conditions, seeds, points (docs/sweep.md)."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Field, PositiveInt, Tag, model_validator

from sam2ft.config.schema.base import REQUIRED, Frozen, Name, ReadOnly, ReadOnlyDict, Section, plain, problem

Number = int | float
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


class Range(Section):
    """Numbers at equal distances, from start to stop; stop is included if a step reaches it."""

    start: Number = plain(REQUIRED, "first value")
    stop: Number = plain(REQUIRED, "limit: no value lies beyond it")
    step: Number = plain(REQUIRED, "distance from one value to the next; negative for decreasing values")

    @model_validator(mode="after")
    def _leads_from_start_to_stop(self) -> "Range":
        if self.step == 0 or (self.stop - self.start) * self.step < 0:
            raise problem(f"step {self.step} does not lead from {self.start} to {self.stop}")
        return self


class LogRange(Section):
    """Numbers at equal ratios, both ends included."""

    start: Annotated[Number, Field(gt=0)] = plain(REQUIRED, "first value")
    stop: Annotated[Number, Field(gt=0)] = plain(REQUIRED, "last value")
    num: int = plain(REQUIRED, "number of values", ge=2, le=10_000)


class ValueSeries(Section):
    """Values given by a rule: exactly one of the keys."""

    range: Range | None = Field(None, description="numbers at equal distances")
    logrange: LogRange | None = Field(None, description="numbers at equal ratios")

    @model_validator(mode="after")
    def _is_one(self) -> "ValueSeries":
        if (self.range is None) == (self.logrange is None):
            raise problem("allowed: a list of values, {range: {start, stop, step}} or {logrange: {start, stop, num}}")
        return self


# The members of a union are distinguished by the form of the value, so that messages refer to the intended form.
Values = Annotated[
    Annotated[tuple[Frozen, ...], Field(min_length=1), Tag("values")] | Annotated[ValueSeries, Tag("a series")],
    Discriminator(lambda value: "a series" if isinstance(value, Mapping | ValueSeries) else "values"),
]
Seeds = Annotated[
    Annotated[int, Field(ge=1, le=100_000), Tag("a number")]
    | Annotated[tuple[Seed, ...], Field(min_length=1), Tag("seeds")],
    Discriminator(lambda value: "seeds" if isinstance(value, Sequence) and not isinstance(value, str) else "a number"),
]
Grid = Annotated[Mapping[str, Values], Field(min_length=1), AfterValidator(ReadOnlyDict)]
Overrides = ReadOnly[Frozen]
Condition = Annotated[Mapping[str, Frozen], Field(min_length=1), AfterValidator(ReadOnlyDict)]
OverridesList = Annotated[tuple[Overrides, ...], Field(min_length=1)]

_IF = "dotted key -> value, list of allowed values or {min, max}; all keys must hold"


def _low_and_high(numbers: tuple[Number, ...]) -> tuple[Number, ...]:
    if len(numbers) != 2 or not 0 < numbers[1] - numbers[0] < math.inf:
        raise problem(f"found {list(numbers)}; allowed: [lowest, highest]")
    return numbers


def _of_positive_numbers(numbers: tuple[Number, ...]) -> tuple[Number, ...]:
    if numbers[0] <= 0:
        raise problem(f"found {list(numbers)}; allowed: [lowest, highest], both more than 0")
    return numbers


Ends = Annotated[tuple[Number, ...], AfterValidator(_low_and_high)]


class ParameterDraw(Section):
    """Distribution of one parameter of a random search: exactly one of uniform, loguniform, int, choice; and `if`."""

    uniform: Ends | None = plain(None, "a number from [lowest, highest], uniform")
    loguniform: Annotated[Ends, AfterValidator(_of_positive_numbers)] | None = plain(
        None, "a number from [lowest, highest], uniform in its logarithm"
    )
    integers: Annotated[tuple[int, ...], AfterValidator(_low_and_high)] | None = plain(
        None, "a whole number from [lowest, highest], both included", alias="int"
    )
    choice: Annotated[tuple[Frozen, ...], Field(min_length=1)] | None = plain(None, "one value of a list")
    condition: Condition | None = plain(None, f"set only where: {_IF}", alias="if")

    @model_validator(mode="after")
    def _is_one(self) -> "ParameterDraw":
        given = [entry for entry in (self.uniform, self.loguniform, self.integers, self.choice) if entry is not None]
        if len(given) != 1:
            raise problem("allowed: one of uniform, loguniform, int, choice")
        return self


class Random(Section):
    """Random search: points drawn at random, as one axis of the product."""

    num: PositiveInt = plain(REQUIRED, "number of draws", le=100_000)
    seed: int = plain(0, "seed of the draws; each parameter has its own generator", ge=0)
    method: Literal["independent", "sobol"] = plain(
        "independent", "independent draws, or sobol: a Sobol sequence, which covers the space evenly"
    )
    parameters: Annotated[Mapping[str, ParameterDraw], Field(min_length=1), AfterValidator(ReadOnlyDict)] = plain(
        REQUIRED, "dotted key -> distribution of its values"
    )


class Axes(Section):
    """Ways to define axes of the product of a sweep."""

    grid: Grid | None = plain(None, "dotted key -> values; each key is an axis")
    zip: Grid | None = plain(None, "dotted key -> values; all lists have the same length and change together")
    list: OverridesList | None = plain(None, "mappings of dotted keys to values; one axis")


class When(Axes):
    """Conditional axes: only the points that match `if` have them."""

    condition: Condition = plain(REQUIRED, _IF, alias="if")

    @model_validator(mode="after")
    def _has_an_axis(self) -> "When":
        if self.grid is None and self.zip is None and self.list is None:
            raise problem("has no axis; allowed beside if: grid, zip, list")
        return self


class OverridesWhere(Section):
    """Keys to set in the points that match `if`."""

    condition: Condition = plain(REQUIRED, _IF, alias="if")
    values: Annotated[Overrides, Field(min_length=1)] = plain(
        REQUIRED, "dotted key -> value, for example resources.mem_gb: 128", alias="set"
    )


class Sweep(Axes):
    """Points of an experiment: a product of axes without the excluded points, and added points."""

    random: Random | None = Field(None, description="random search: points drawn at random, as one axis")
    when: tuple[When, ...] = plain((), "axes that only the points with certain values have")
    seeds: Seeds | None = plain(
        None, "experiment.seed as the last axis: a list, or the number of seeds, counted up from experiment.seed"
    )
    exclude: tuple[Condition, ...] = plain((), f"points of the product to leave out: {_IF}")
    include: tuple[Condition, ...] = plain((), "points to add: mappings of dotted keys to values")
    points: Annotated[Mapping[Name, Overrides], AfterValidator(ReadOnlyDict)] = plain(
        ReadOnlyDict(), "points to add: name -> overrides"
    )
    overrides: tuple[OverridesWhere, ...] = plain((), "keys to set in the points that match")

    @model_validator(mode="after")
    def _has_points(self) -> "Sweep":
        axes = (self.grid, self.zip, self.list, self.random, self.seeds)
        if all(axis is None for axis in axes) and not self.include and not self.points:
            raise problem("has no points; allowed: grid, zip, list, random, seeds, include, points")
        return self
