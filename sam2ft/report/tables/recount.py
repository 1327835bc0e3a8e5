"""Coarser tables, computed again from finer ones: a report never shows two numbers that disagree."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sam2ft.core.tables.rows import Row, Value
from sam2ft.report.tables.frames import Frame
from sam2ft.statistics.cohort import global_rows, subject_pairs

VOLUME_KEY = ("run", "eval", "dataset", "subject", "volume", "split", "protocol", "label")
COUNTS = ("tp", "fp", "fn", "tn")
RATIOS = {"dice": (2.0, 1.0), "iou": (1.0, 1.0)}
"""weight * tp / (weight * tp + fp + fn), as (weight of tp above, weight of the errors)."""
MEANS = {"dice_slice_mean": "dice", "iou_slice_mean": "iou"}
"""Column of volume.csv -> column of slice.csv whose mean it is."""
GLOBAL_KEY = ("dataset", "split", "protocol", "label", "label_name", "measure")
SUMS = ("n", "n_absent", "n_missed", "n_spurious", "mean", "sd", "median", "q25", "q75")
"""Columns of global.csv that cost little to compute again; the interval is drawn from the same subjects."""
AGREEMENT_KEY = ("dataset", "split", "protocol", "tissue", "biomarker", "definition", "unit")
AGREEMENTS = ("n", "n_missed", "reference_mean", "prediction_mean", "bias")

# A ratio of counts is one division, a mean one sum: anything beyond rounding of the text form is another number.
TOLERANCE = 1e-9


def recount(slices: Frame, volumes: Frame) -> list[str]:
    """One sentence for each number of a volume row that its slice rows contradict, sorted; none when all agree.

    Checked are tp, fp, fn, tn (sums), num_slices (rows), that dice and iou are those of the counts, and that their
    means over slices are those of the slices.
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
    """(name of a number, its column, column of what it has to be, what that was computed from)."""
    return [
        *((name, name, f"{name}_sum", "slice rows") for name in COUNTS),
        ("num_slices", "num_slices", "slice_count", "slice rows"),
        *((name, name, f"{name}_of_counts", "counts") for name in RATIOS),
        *((name, name, f"{source}_mean", "slices") for name, source in MEANS.items()),
    ]


def _joined(slices: Frame, volumes: Frame) -> Frame:
    """Volume rows beside the sums of their slice rows; where one of both is lacking, nulls."""
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
    """Rows that have a volume row and slice rows, and two different numbers.

    An empty mean over slices is another's choice not to give it; an empty ratio of counts that are there is not.
    """
    import pyarrow.compute as pc

    first, second = both.column(ours), both.column(theirs)
    apart = pc.not_equal(first, second) if exact else pc.greater(pc.abs(pc.subtract(first, second)), TOLERANCE)
    empty = False if ours in MEANS else pc.xor(pc.is_null(first), pc.is_null(second))
    paired = pc.and_(pc.is_valid(both["num_slices"]), pc.is_valid(both["slice_count"]))
    return pc.and_(paired, pc.or_(pc.fill_null(apart, False), empty))


def recount_cohort(volume_rows: Sequence[Row], given: Sequence[Row]) -> bool:
    """Whether rows of global.csv are those of the volume rows: the same keys, counts, means and quantiles."""
    return _agree(given, global_rows(volume_rows, resamples=0), GLOBAL_KEY, SUMS)


def recount_agreement(biomarker_rows: Sequence[Row], given: Sequence[Row]) -> bool:
    """Whether rows of biomarker_global.csv are of the pairs of the rows: the same keys, counts, means and bias."""
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
