"""`sweep:`."""

from typing import Annotated

from pydantic import Field

from sam2ft.config.base import REQUIRED, Frozen, ReadOnly, Section, leaf

GridValues = Annotated[tuple[Frozen, ...], Field(min_length=1)]


class Sweep(Section):
    """Points of an experiment: every combination of the values of `grid`."""

    grid: ReadOnly[GridValues] = leaf(REQUIRED, "dotted key -> list of values", affects="nothing", min_length=1)
