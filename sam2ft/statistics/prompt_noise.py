"""Prompt noise (robustness to shifted boxes): rows of prompt_noise_global.csv over subjects and seeds."""

import math
import statistics
from collections.abc import Sequence
from typing import cast

from sam2ft.core.grouping import grouped
from sam2ft.core.tables.rows import Row
from sam2ft.statistics.cohort import global_rows

# Only the mean is used of single seeds.
_RESAMPLES_OF_A_SEED = 100


def noise_global_rows(noise_rows: Sequence[Row]) -> list[Row]:
    """Rows of prompt_noise_global.csv: `global_rows` per shift, where each seed counts as one more volume of a subject.

    `protocol` does not contain the seed; `sd_seeds` is NaN for a single seed.
    """
    made: list[Row] = []
    for shift, of_shift in sorted(grouped(noise_rows, lambda row: int(row["shift_px"] or 0)).items()):
        seeds = grouped(of_shift, lambda row: int(row["seed"] or 0))
        means: dict[tuple[object, ...], list[float]] = {}
        for _, of_seed in sorted(seeds.items()):
            for row in global_rows([_as_volume(row) for row in of_seed], resamples=_RESAMPLES_OF_A_SEED):
                means.setdefault(_key(row), []).append(cast(float, row["mean"]))
        for row in global_rows([_as_volume(row) for row in of_shift]):
            of_seeds = [mean for mean in means.get(_key(row), []) if not math.isnan(mean)]
            spread = statistics.stdev(of_seeds) if len(of_seeds) > 1 else math.nan
            made.append({**row, "shift_px": shift, "num_seeds": len(seeds), "sd_seeds": spread})
    return made


def _key(row: Row) -> tuple[object, ...]:
    return tuple(row[name] for name in ("dataset", "protocol", "label", "label_name", "measure"))


def _as_volume(row: Row) -> Row:
    """The row as a row of volume.csv, with the seed in the name of the volume."""
    protocol = str(row["protocol"]).replace(f",seed={row['seed']}", "")
    shared = {name: value for name, value in row.items() if name not in ("shift_px", "seed")}
    return {**shared, "protocol": protocol, "volume": f"{row['volume']} {row['seed']}"}
