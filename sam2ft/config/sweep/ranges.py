"""Values of `range` and `logrange` in a sweep, rounded to readable numbers. Pure."""

import math
from collections.abc import Sequence
from decimal import Context, Decimal
from typing import Any

from sam2ft.config.schema.sweep import LogRange, Range, Values, ValueSeries

MAX_VALUES = 100_000
_DIGITS = 4
_EXACT = Context(prec=40)


def values_of(values: Values) -> Sequence[Any]:
    """The list of values in the file, or the numbers given by its rule; at most MAX_VALUES + 1 numbers."""
    if not isinstance(values, ValueSeries):
        return values
    if values.range is not None:
        return range_values(values.range)
    return logrange_values(values.logrange) if values.logrange is not None else ()


def range_values(rule: Range) -> tuple[float, ...]:
    """start, start + step, ... up to and including stop, without binary rounding errors; integers if all keys are."""
    start, stop, step = (Decimal(repr(number)) for number in (rule.start, rule.stop, rule.step))
    count = min(int((stop - start) / step) + 1, MAX_VALUES + 1)
    whole = all(isinstance(number, int) for number in (rule.start, rule.stop, rule.step))
    numbers = [start + index * step for index in range(count)]
    return tuple(int(number) if whole else float(number) for number in numbers)


def logrange_values(rule: LogRange) -> tuple[float, ...]:
    """`num` numbers from start to stop with a constant ratio between neighbours, rounded to 4 significant digits.

    More digits if neighbours would otherwise differ by less than 1000 rounding steps. Integers if all numbers are.
    """
    start, stop = (Decimal(repr(number)) for number in (rule.start, rule.stop))
    ratio = _EXACT.ln(_EXACT.divide(stop, start)) / (rule.num - 1)
    rounded = Context(prec=max(_DIGITS, 3 - _magnitude(min(abs(float(ratio)), 1.0)))).create_decimal
    inner = [rounded(_EXACT.multiply(start, _EXACT.exp(ratio * index))) for index in range(1, rule.num - 1)]
    numbers = [start, *inner, stop]
    whole = isinstance(rule.start, int) and isinstance(rule.stop, int)
    if whole and all(number == number.to_integral_value() for number in numbers):
        return tuple(int(number) for number in numbers)
    return tuple(float(number) for number in numbers)


def readable(number: float, distance: float) -> float:
    """`number` rounded to the 4th significant digit of `distance`, the length of its interval."""
    return round(number, _DIGITS - 1 - _magnitude(distance))


def _magnitude(number: float) -> int:
    """Power of ten of the first significant digit: -3 for 0.00123; 0 for 0."""
    return math.floor(math.log10(number)) if number else 0
