"""Consistency checks of result tables: volume rows against slice rows, and tables over subjects against volume rows.

A report never shows two numbers that disagree.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sam2ft.core.tables.rows import Row, Value
from sam2ft.report.tables.frames import Frame
from sam2ft.statistics.cohort import global_rows, subject_pairs

VOLUME_KEY = ("run", "eval", "dataset", "subject", "volume", "split", "protocol", "label")
COUNTS = ("tp", "fp", "fn", "tn")
RATIOS = {"dice": (2.0, 1.0), "iou": (1.0, 1.0)}
"""Ratio -> (weight of tp, weight of the errors): w * tp / (w * tp + e * (fp + fn))."""
MEANS = {"dice_slice_mean": "dice", "iou_slice_mean": "iou"}
"""Column of volume.csv -> column of slice.csv of which it is the mean."""
GLOBAL_KEY = ("dataset", "split", "protocol", "label", "label_name", "measure")
SUMS = ("n", "n_absent", "n_missed", "n_spurious", "mean", "sd", "median", "q25", "q75")
"""Columns of global.csv that are cheap to compute again; the bootstrap interval comes from the same subjects."""
AGREEMENT_KEY = ("dataset", "split", "protocol", "tissue", "biomarker", "definition", "unit")
AGREEMENTS = ("n", "n_missed", "reference_mean", "prediction_mean", "bias")

# A ratio of counts is one division and a mean one sum: a larger difference than text rounding is a different number.
TOLERANCE = 1e-9


def recount(slices: Frame, volumes: Frame) -> list[str]:
    """One sentence for each number of a volume row that disagrees with its slice rows, sorted; empty when all agree.

    Checks that tp, fp, fn, tn are the sums and num_slices is the number of the slice rows, that dice and iou follow
    from the counts, and that dice_slice_mean and iou_slice_mean are the means over the slices.
    """
    import pyarrow.compute as pc

    both = _joined(slices, volumes)
    problems = []
    for name, ours, theirs, what in _pairs():
        for row in both.filter(_differ(both, ours, theirs, exact=what == "slice rows")).to_pylist():
            problems.append(f"{_where(row)}: {name} is {row[ours]}, its {what} give {row[theirs]}")
    lacking = {"slice_count": "a volume row without slice rows", "num_slices": "slice rows without a volume row"}
    for name, sentence in lacking.items():
        problems += [f"{_where(row)}: {sentence}" for row in both.filter(pc.is_null(both.column(name))).to_pylist()]
    return sorted(problems)


def _pairs() -> list[tuple[str, str, str, str]]:
    """(name of a number, its column, column of the expected value, source of the expected value)."""
    return [
        *((name, name, f"{name}_sum", "slice rows") for name in COUNTS),
        ("num_slices", "num_slices", "slice_count", "slice rows"),
        *((name, name, f"{name}_of_counts", "counts") for name in RATIOS),
        *((name, name, f"{source}_mean", "slices") for name, source in MEANS.items()),
    ]


def _joined(slices: Frame, volumes: Frame) -> Frame:
    """Volume rows joined with the sums of their slice rows; nulls where one of the two is missing."""
    import pyarrow.compute as pc

    sums = [(name, "sum") for name in COUNTS] + [(name, "mean") for name in MEANS.values()] + [("slice", "count")]
    counted = slices.group_by(list(VOLUME_KEY)).aggregate(sums)
    own = volumes.select([*VOLUME_KEY, *COUNTS, "num_slices", *RATIOS, *MEANS])
    for name, (weight, errors) in RATIOS.items():
        tp, wrong = (pc.cast(column, "float64") for column in (own.column("tp"), pc.add(own["fp"], own["fn"])))
        whole = pc.add(pc.multiply(tp, weight), pc.multiply(wrong, errors))
        ratio = pc.if_else(pc.equal(whole, 0), None, pc.divide(pc.multiply(tp, weight), whole))
        own = own.append_column(f"{name}_of_counts", pc.cast(ratio, "float64"))
    return own.join(counted, keys=list(VOLUME_KEY), join_type="full outer")


def _differ(both: Frame, ours: str, theirs: str, *, exact: bool) -> Any:
    """Mask of joined rows that have a volume row and slice rows but two different numbers.

    An empty mean over slices is accepted as not given; an empty ratio whose counts are given is not.
    """
    import pyarrow.compute as pc

    first, second = both.column(ours), both.column(theirs)
    apart = pc.not_equal(first, second) if exact else pc.greater(pc.abs(pc.subtract(first, second)), TOLERANCE)
    empty = False if ours in MEANS else pc.xor(pc.is_null(first), pc.is_null(second))
    paired = pc.and_(pc.is_valid(both["num_slices"]), pc.is_valid(both["slice_count"]))
    return pc.and_(paired, pc.or_(pc.fill_null(apart, False), empty))


def cohort_is_consistent(volume_rows: Sequence[Row], given: Sequence[Row]) -> bool:
    """Whether rows of global.csv match the volume rows: the same keys, counts, means and quantiles."""
    return _agree(given, global_rows(volume_rows, resamples=0), GLOBAL_KEY, SUMS)


def agreement_is_consistent(biomarker_rows: Sequence[Row], given: Sequence[Row]) -> bool:
    """Whether rows of biomarker_global.csv match the pairs in the biomarker rows: same keys, counts, means and bias."""
    computed = []
    for pairs in subject_pairs(biomarker_rows):
        values = (list(pairs.references.values()), list(pairs.predictions.values()))
        reference, prediction = (math.fsum(side) / len(side) if side else math.nan for side in values)
        means = {"reference_mean": reference, "prediction_mean": prediction, "bias": prediction - reference}
        computed.append({**pairs.key, "n": len(values[0]), "n_missed": pairs.n_missed, **means})
    return _agree(given, computed, AGREEMENT_KEY, AGREEMENTS)


def _agree(given: Sequence[Row], computed: Sequence[Row], key: Sequence[str], names: Sequence[str]) -> bool:
    ours, theirs = ({tuple(row[name] for name in key): row for row in rows} for rows in (given, computed))
    return ours.keys() == theirs.keys() and all(
        _close(ours[one][name], theirs[one][name]) for one in ours for name in names
    )


def _close(first: Value, second: Value) -> bool:
    ours, theirs = (math.nan if value is None else float(value) for value in (first, second))
    if math.isnan(ours) or math.isnan(theirs):
        return math.isnan(ours) and math.isnan(theirs)
    return math.isclose(ours, theirs, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _where(row: Mapping[str, Any]) -> str:
    return f"{row['run']}: {row['dataset']}/{row['subject']}/{row['volume']} label {row['label']}"
