"""Plots of ranks after challengeR (Wiesenfarth et al. 2021): blobs of bootstrap ranks, and the significance map."""

import math
from collections.abc import Sequence

from sam2ft.core.errors import number_of
from sam2ft.core.grouping import grouped
from sam2ft.core.tables.rows import Row
from sam2ft.report.comparison.compare import MAIN_MEASURE
from sam2ft.report.comparison.number_text import MEASURE_WORDS, p_text
from sam2ft.report.comparison.rank_study import MOST_RANKED, RankStudy
from sam2ft.report.plots.vega import (
    DOUBLE,
    Plot,
    Spec,
    add_row,
    condition,
    empty_columns,
    ink,
    layer,
    names_axis,
    names_height,
    names_left,
    quantitative,
    rounded_value,
    whole_ticks,
)
from sam2ft.statistics.small_samples import FEW, LEVEL, TOO_SMALL, smallest_p


def rank_plot(tests: Sequence[Row], best: str | None, study: RankStudy | None = None) -> Plot | None:
    """Blobs of the ranks on cohorts drawn anew with their 95 % interval; None for fewer than two ranked points.

    Only the first dataset, split and protocol in `tests` are shown.
    """
    ranked = _ranked(tests, study.how if study else None)
    if len(ranked) < 2:
        return None
    shown = ranked[:MOST_RANKED]
    columns = empty_columns("kind", "point", "run", "order", "rank", "low", "high", "share", "first", "best")
    for order, row in enumerate(shown):
        who, is_best = (str(row["name"]), str(row["run"]), order), int(row["run"] == best)
        for rank, share in (study.shares.get(str(row["run"]), {}) if study else {}).items():
            add_row(columns, "blob", *who, rank, None, None, rounded_value(share), None, is_best)
        own = [rounded_value(float(row[name] or 0)) for name in ("rank", "rank_low", "rank_high")]
        add_row(columns, "point", *who, *own, None, rounded_value(float(row["first_share"] or 0)), is_best)
    n = int(ranked[0]["n"] or 0)
    few = f" {number_of(n, 'subject')}: {TOO_SMALL}." if n < FEW else ""
    more = f" The first {MOST_RANKED} of {len(ranked)}." if len(ranked) > MOST_RANKED else ""
    drawn = "the area of a disc is the share of cohorts with that rank; " if "blob" in columns["kind"] else ""
    return Plot(
        "ranks",
        "How firmly the ranking stands",
        f"Rank of every point by {MEASURE_WORDS[MAIN_MEASURE]} on {ranked[0]['dataset']}, {ranked[0]['split']} split, "
        f"and its ranks when the {n} subjects are drawn anew: {drawn}the line spans 95 % of them; "
        f"blue: the point chosen by validation.{more} Overlapping lines mean that other subjects could turn the order "
        f"round.{few}",
        f"Ranks of {len(shown)} points with intervals. The numbers are in point_tests.csv.",
        _rank_spec([str(row["name"]) for row in shown], max(float(row["rank_high"] or 0) for row in shown)),
        columns,
        DOUBLE,
        (
            ("point", "point"),
            ("rank", "rank"),
            ("share", "share of cohorts"),
            ("low", "95 % from"),
            ("high", "to"),
            ("first", "share of first places"),
        ),
        left=names_left(str(row["name"]) for row in shown),
    )


def significance_map(tests: Sequence[Row], study: RankStudy) -> Plot | None:
    """Which point is significantly above which; None for fewer than two ranked points."""
    rows = [row for row in _ranked(tests, study.how) if row["run"] in study.order]
    if len(rows) < 2:
        return None
    columns = empty_columns("point", "order", "other", "number", "p", "kind")
    for order, row in enumerate(rows):
        for number, other in enumerate(rows):
            p = study.above.get((str(row["run"]), str(other["run"])))
            kind = "itself" if p is None else "above" if p < LEVEL else "open"
            numbered = f"{order + 1}  {row['name']}"
            add_row(columns, numbered, order, str(other["name"]), number + 1, None if p is None else p_text(p), kind)
    pairs = len(rows) * (len(rows) - 1)
    words = MEASURE_WORDS[MAIN_MEASURE]
    # One-sided: half of the smallest p of two sides.
    least = min(1.0, smallest_p(study.n) / 2 * pairs)
    few = f" With {number_of(study.n, 'subject')} no p can be below {p_text(least)} here." if least >= LEVEL else ""
    return Plot(
        "significance",
        "Which point is above which",
        f"Blue: the point of the row has a higher {words} than the point of the column (Wilcoxon's signed-rank test, "
        f"one-sided, over the subjects of both, p < {LEVEL:g} after Holm over {pairs} comparisons). Grey: not shown to "
        f"be. Columns have the numbers of the rows.{few}",
        f"Significance map of {len(rows)} points: {columns['kind'].count('above')} of {pairs} comparisons significant.",
        _map_spec([str(name) for name in columns["point"][:: len(rows)]]),
        columns,
        DOUBLE,
        (("point", "point"), ("other", "against"), ("p", "p (Holm)")),
        least_px=120 + 22 * len(rows),
        left=names_left(f"{len(rows)}  {row['name']}" for row in rows),
    )


def _ranked(tests: Sequence[Row], how: tuple[str, str, str] | None) -> list[Row]:
    """Rows of MAIN_MEASURE with a rank, by rank, on a dataset, split and protocol; None: the first of the rows."""
    ranked = [row for row in tests if row["measure"] == MAIN_MEASURE and row["rank"] is not None]
    alike = grouped(ranked, lambda row: (row["dataset"], row["split"], row["protocol"]))
    own = next(iter(alike.values()), []) if how is None else alike.get(how, [])
    return sorted(own, key=lambda row: float(row["rank"] or 0))


def _point_axis() -> Spec:
    """A vertical axis of points in their order, each name in full."""
    return {"field": "point", "type": "nominal", "title": None, "sort": {"field": "order"}, "axis": names_axis()}


def _rank_spec(names: Sequence[str], last: float) -> Spec:
    y = _point_axis()
    words = ["rank on cohorts drawn anew,", "1 = highest"]
    scale = {"domain": [1, max(2, math.ceil(last))], "nice": False, "zero": False, "padding": 8}
    x = quantitative("rank", words, scale=scale, axis={"values": whole_ticks(last), "format": "d"})
    colour = condition("datum.best === 1", ink("accent"), ink("soft"))
    size = {"field": "share", "type": "quantitative", "scale": {"domain": [0, 1], "range": [0, 480]}, "legend": None}
    ends = {"y": y, "x": {**x, "field": "low"}, "x2": {"field": "high"}, "color": colour}
    own = {"transform": [{"filter": "datum.kind === 'point'"}]}
    return {
        "height": max(60, names_height(names, 15) * len(names)),
        "layer": [
            {
                "transform": [{"filter": "datum.kind === 'blob'"}],
                **layer("circle", {"y": y, "x": x, "size": size, "color": colour}, opacity=0.35),
            },
            {**own, **layer("rule", ends)},
            {**own, **layer("point", {"y": y, "x": x, "color": colour}, filled=True, opacity=1, size=26)},
        ],
    }


def _map_spec(names: Sequence[str]) -> Spec:
    x: Spec = {"field": "number", "type": "ordinal", "title": ["the point it is", "compared with"]}
    x["axis"] = {"labelAngle": 0, "grid": False}
    y = _point_axis()
    colour = {
        "condition": [
            {"test": "datum.kind === 'above'", "value": ink("accent")},
            {"test": "datum.kind === 'open'", "value": ink("line")},
        ],
        "value": "transparent",
    }
    return {
        "height": max(60, names_height(names, 15) * len(names)),
        **layer("rect", {"x": x, "y": y, "color": colour}, strokeWidth=1, stroke=ink("faint"), strokeOpacity=0.4),
    }
