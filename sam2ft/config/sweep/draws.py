"""Random search of a sweep: independent or Sobol draws, with one random generator per parameter name. Pure.

Uses the generator of Python, because numpy may change its random streams between versions, but `random.Random.random`
may not.
"""

import math
import random
from collections.abc import Callable
from typing import Any

from sam2ft.config.schema.sweep import ParameterDraw, Random
from sam2ft.config.sweep.ranges import readable

_SOBOL_BITS = 30
_SOBOL_STEPS = 2**_SOBOL_BITS


def draws(search: Random) -> dict[str, tuple[Any, ...]]:
    """Dotted key -> its `num` drawn values.

    The values of a parameter depend only on the seed, its name and its bounds or choices: they do not change when other
    parameters or more draws are added. With `sobol` they also depend on its position among the parameters.
    """
    shares = _sobol_shares(search) if search.method == "sobol" else _independent_shares(search)
    return {
        key: tuple(map(_at_share(draw), shares[position]))
        for position, (key, draw) in enumerate(search.parameters.items())
    }


def _generator(search: Random, key: str) -> random.Random:
    # Seeded with text, that is with its sha512, so that neighbouring seeds and similar names give unrelated numbers.
    return random.Random(f"{search.seed} {key}")  # noqa: S311 (nothing secret is drawn)  # nosec B311


def _independent_shares(search: Random) -> list[list[float]]:
    """`num` numbers in [0, 1) for each parameter."""
    generators = [_generator(search, key) for key in search.parameters]
    return [[generator.random() for _ in range(search.num)] for generator in generators]


def _sobol_shares(search: Random) -> list[list[float]]:
    """Like `_independent_shares`, from a Sobol sequence with a digital shift per dimension from its own generator.

    With the scrambling of scipy, the shift of a dimension would depend on the number of dimensions.
    """
    from scipy.stats import qmc  # the import takes 0.6 s and is only needed here

    engine = qmc.Sobol(len(search.parameters), scramble=False, bits=_SOBOL_BITS)
    rows = engine.random_base2(max(search.num - 1, 1).bit_length())[: search.num]
    columns = (rows.T * _SOBOL_STEPS).astype(int).tolist()
    shifts = [_generator(search, key).getrandbits(_SOBOL_BITS) for key in search.parameters]
    return [[(step ^ shift) / _SOBOL_STEPS for step in column] for column, shift in zip(columns, shifts, strict=True)]


def _at_share(draw: ParameterDraw) -> Callable[[float], Any]:
    """Function from a share in [0, 1) to a value of the distribution."""
    if draw.uniform is not None:
        return _linear(*map(float, draw.uniform))
    if draw.loguniform is not None:
        return _logarithmic(*map(float, draw.loguniform))
    choices = draw.choice or ()
    values = choices if draw.integers is None else range(draw.integers[0], draw.integers[1] + 1)
    return lambda share: values[int(share * len(values))]


def _linear(low: float, high: float) -> Callable[[float], float]:
    return lambda share: _between(low, high, readable(low + share * (high - low), high - low))


def _logarithmic(low: float, high: float) -> Callable[[float], float]:
    def at(share: float) -> float:
        number = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        return _between(low, high, readable(number, min(number, high - low)))

    return at


def _between(low: float, high: float, number: float) -> float:
    """`number` limited to [low, high], because rounding may exceed a bound."""
    return min(max(number, low), high)
