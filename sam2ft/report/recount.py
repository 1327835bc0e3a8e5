"""Counts of the coarser table, computed again from the slice rows: a report never shows two numbers that disagree."""

from typing import Any

from sam2ft.report.tables import Frame

VOLUME_KEY = ("run", "eval", "dataset", "subject", "volume", "split", "protocol", "label")
COUNTS = ("tp", "fp", "fn", "tn")
RATIOS = {"dice": (2.0, 1.0), "iou": (1.0, 1.0)}
"""weight * tp / (weight * tp + fp + fn), as (weight of tp above, weight of the errors)."""

# A ratio of counts is one division: anything beyond rounding of its text form is another number.
RATIO_TOLERANCE = 1e-9


def recount(slices: Frame, volumes: Frame) -> list[str]:
    """One sentence for each volume row that its slice rows contradict, sorted; none when the two tables agree.

    Checked are tp, fp, fn, tn (sums), num_slices (rows) and that dice and iou are those of the counts.
    """
    counted = slices.group_by(list(VOLUME_KEY)).aggregate([(name, "sum") for name in COUNTS] + [("slice", "count")])
    sums = {tuple(row[name] for name in VOLUME_KEY): row for row in counted.to_pylist()}
    problems = []
    for row in volumes.to_pylist():
        found = sums.pop(tuple(row[name] for name in VOLUME_KEY), None)
        problems += _contradictions(row, found)
    problems += [f"{_where(row)}: slice rows without a volume row" for row in sums.values()]
    return sorted(problems)


def _contradictions(volume: dict[str, Any], sums: dict[str, Any] | None) -> list[str]:
    where = _where(volume)
    if sums is None:
        return [f"{where}: a volume row without slice rows"]
    pairs = [(name, volume[name], sums[f"{name}_sum"]) for name in COUNTS]
    pairs.append(("num_slices", volume["num_slices"], sums["slice_count"]))
    problems = [
        f"{where}: {name} is {ours}, its slice rows give {theirs}" for name, ours, theirs in pairs if ours != theirs
    ]
    for name, (weight, errors) in RATIOS.items():
        whole = weight * volume["tp"] + errors * (volume["fp"] + volume["fn"])
        expected = weight * volume["tp"] / whole if whole else None
        if not _same(volume[name], expected):
            problems.append(f"{where}: {name} is {volume[name]}, its counts give {expected}")
    return problems


def _same(first: float | None, second: float | None) -> bool:
    if first is None or second is None:
        return first is second
    return abs(first - second) <= RATIO_TOLERANCE


def _where(row: dict[str, Any]) -> str:
    return f"{row['run']}: {row['dataset']}/{row['subject']}/{row['volume']} label {row['label']}"
