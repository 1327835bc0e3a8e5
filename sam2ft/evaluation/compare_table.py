"""Table of a comparison of checkpoints (compare.csv): means, and paired differences from the first. No torch.

Intervals of the table are bootstrap intervals; those shown are Student's t below 10 subjects. p-values are of
Wilcoxon's signed-rank test, corrected after Holm.
"""

import math
from collections.abc import Mapping, Sequence

from sam2ft.core.tables.columns import GLOBAL_KEY, LABEL, MEASURE, SUMMARY, integer_column, number_column, text_column
from sam2ft.core.tables.rows import MEAN_OF_LABELS, POOLED, Row, Table, Value
from sam2ft.evaluation.summary import aligned, three_digits
from sam2ft.statistics.cohort import SubjectValues, global_rows, scored_alike, subject_values
from sam2ft.statistics.paired_tests import holm, paired
from sam2ft.statistics.small_samples import interval_words, shown_difference

COMPARE = Table(
    "compare",
    (integer_column("checkpoint", "its position on the command line; the others are compared with number 1"),
     *GLOBAL_KEY, *LABEL, MEASURE),
    (
        text_column("file", "the checkpoint"),
        *SUMMARY,
        integer_column("n_paired", "subjects that this checkpoint and the first have a value of"),
        number_column("difference", "mean over them of this checkpoint - the first"),
        number_column("difference_sd", "standard deviation of the differences, with divisor n_paired - 1"),
        number_column("difference_ci_low", "95 % bootstrap interval of the mean difference over subjects, lower end"),
        number_column("difference_ci_high", "upper end"),
        number_column("p_wilcoxon", "Wilcoxon's signed-rank test of the differences, two-sided"),
        number_column("p_holm", "the same, corrected after Holm over the labels and checkpoints of a measure"),
    ),
    "One row per checkpoint, label and measure; the overall rows are corrected over checkpoints alone.",
)  # fmt: skip

_KEY = ("dataset", "split", "protocol", "label", "label_name", "measure")


def checkpoint_rows(evaluated: Sequence[tuple[str, Sequence[Row]]]) -> list[Row]:
    """Return the rows of compare.csv, by checkpoint, then in the order of its global.csv.

    Args:
        evaluated: file of each checkpoint, and the rows of its volume.csv.
    """
    values = [{_key(one.key): one for one in subject_values(volume_rows)} for _, volume_rows in evaluated]
    rows: list[dict[str, Value]] = []
    for number_, (file, volume_rows) in enumerate(evaluated, start=1):
        for row in global_rows(volume_rows):
            differences = _against_first(values[0], values[number_ - 1], row) if number_ > 1 else _NOTHING
            rows.append({"checkpoint": number_, **row, "file": file, **differences, "p_holm": None})
    families: dict[tuple[Value, ...], list[dict[str, Value]]] = {}
    for made in rows:
        if made["p_wilcoxon"] is not None:
            overall = made["label_name"] if made["label"] is None else ""
            families.setdefault((*(made[name] for name in ("dataset", "measure")), overall), []).append(made)
    for family in families.values():
        for made, corrected in zip(family, holm([_number(made["p_wilcoxon"]) for made in family]), strict=True):
            made["p_holm"] = corrected
    return list(rows)


_DIFFERENCES = ("n_paired", "difference", "difference_sd", "difference_ci_low", "difference_ci_high", "p_wilcoxon")
_NOTHING: Mapping[str, Value] = dict.fromkeys(_DIFFERENCES)


def _against_first(
    first: Mapping[tuple[Value, ...], SubjectValues], second: Mapping[tuple[Value, ...], SubjectValues], row: Row
) -> dict[str, Value]:
    reference, own = first.get(_key(row)), second[_key(row)]
    found = paired(*(({}, own.values) if reference is None else scored_alike(reference, own)))
    return dict(
        zip(_DIFFERENCES, (found.n, found.difference, found.sd, found.ci_low, found.ci_high, found.p), strict=True)
    )


def _key(row: Mapping[str, Value]) -> tuple[Value, ...]:
    return tuple(row[name] for name in _KEY)


def _number(value: Value) -> float:
    return math.nan if value is None else float(value)


def comparison_lines(rows: Sequence[Row], measure: str = "dice") -> list[str]:
    """Return the comparison of one measure as lines of text: numbered list of checkpoints, then a line per label."""
    files = dict.fromkeys(
        (int(row["checkpoint"] or 0), str(row["file"]), f"{row['run']}, eval {row['eval']}") for row in rows
    )
    lines = [f"{number_}: {file} ({run})" for number_, file, run in files]
    chosen = [row for row in rows if row["measure"] == measure and row["label_name"] != POOLED]
    several = len({row["dataset"] for row in chosen}) > 1
    cells: dict[str, dict[int, Row]] = {}
    for row in chosen:
        name = f"{row['dataset']} {row['label_name']}" if several else str(row["label_name"])
        cells.setdefault(name, {})[int(row["checkpoint"] or 0)] = row
    head = [f"{measure}, mean ± sd", *(str(number_) for number_, _, _ in files)]
    head += [f"{number_} - 1 [95 % CI], p (Holm)" for number_, _, _ in list(files)[1:]]
    table = [head]
    overall = [name for name in cells if name.endswith(MEAN_OF_LABELS)]
    for name in [*(one for one in cells if one not in overall), *overall]:
        of = cells[name]
        table.append(
            [name, *(_mean(of.get(n)) for n, _, _ in files), *(_gain(of.get(n)) for n, _, _ in list(files)[1:])]
        )
    words = interval_words(int(row["n_paired"] or 0) for row in chosen)
    return lines + aligned(table) + ([f"CI: {words}"] if words else [])


def _mean(row: Row | None) -> str:
    if row is None or math.isnan(_number(row["mean"])):
        return "-"
    return f"{_number(row['mean']):.3f} ± {three_digits(row['sd'])} (n={row['n']})"


def _gain(row: Row | None) -> str:
    if row is None or math.isnan(_number(row["difference"])):
        return "-"
    ends = shown_difference(row)
    interval = "" if ends is None else f" [{three_digits(ends[0], '+')}, {three_digits(ends[1], '+')}]"
    return f"{three_digits(row['difference'], '+')}{interval}, p={three_digits(row['p_holm'])}"
