"""Random points of a sweep: each parameter is drawn by its own name. Pure.

Python's own generator: numpy may change its streams between versions, `random.Random.random` may not.
"""

import math
import random
from collections.abc import Callable
from typing import Any

from sam2ft.config.schema.sweep import ParameterDraw, Random
from sam2ft.config.sweep.values import readable

_SOBOL_BITS = 30
_SOBOL_STEPS = 2**_SOBOL_BITS


def draws(search: Random) -> dict[str, tuple[Any, ...]]:
    """Dotted key -> its `num` values.

    A parameter's values follow from the seed, its name and its own ends or choices alone: another parameter, or more
    draws, change none of them. With `sobol` they also follow from its position among the parameters.
    """
    shares = _sobol_shares(search) if search.method == "sobol" else _independent_shares(search)
    return {
        key: tuple(map(_at_share(draw), shares[position]))
        for position, (key, draw) in enumerate(search.parameters.items())
    }


def _generator(search: Random, key: str) -> random.Random:
    # Seeded by text, that is by its sha512: neighbouring seeds and similar names share nothing.
    return random.Random(f"{search.seed} {key}")  # noqa: S311 (nothing secret is drawn)


def _independent_shares(search: Random) -> list[list[float]]:
    """For each parameter `num` numbers in [0, 1)."""
    generators = [_generator(search, key) for key in search.parameters]
    return [[generator.random() for _ in range(search.num)] for generator in generators]


def _sobol_shares(search: Random) -> list[list[float]]:
    """The same from a Sobol sequence, each dimension shifted digit by digit by the generator of its name.

    scipy's own scrambling would draw the shift of one dimension from the number of all.
    """
    from scipy.stats import qmc  # 0.6 s, and only needed here

    engine = qmc.Sobol(len(search.parameters), scramble=False, bits=_SOBOL_BITS)
    rows = engine.random_base2(max(search.num - 1, 1).bit_length())[: search.num]
    columns = (rows.T * _SOBOL_STEPS).astype(int).tolist()
    shifts = [_generator(search, key).getrandbits(_SOBOL_BITS) for key in search.parameters]
    return [[(step ^ shift) / _SOBOL_STEPS for step in column] for column, shift in zip(columns, shifts, strict=True)]


def _at_share(draw: ParameterDraw) -> Callable[[float], Any]:
    """The value at a share in [0, 1) of what is drawn from."""
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
    """Rounding may step over an end."""
    return min(max(number, low), high)
