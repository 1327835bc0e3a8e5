"""Chosen rows of the large tables of a report: slices and volumes of Dice 0, sizes, and values of subjects."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sam2ft.core.tables.rows import TABLES, Row, Value
from sam2ft.report.request import ReportTables

GROUP = ("run", "eval", "dataset", "split", "protocol", "label", "label_name", "status")


def failure_counts(tables: ReportTables, name: str) -> list[dict[str, Value]]:
    """Number of rows of Dice 0 (`count`) of every run, evaluation, label and status, from slice.csv or volume.csv.

    Status ok means here: predicted, but without one pixel in the right place.
    """
    import pyarrow.compute as pc

    failed = (pc.field("tp") == 0) & (pc.field("status") != "absent")
    return _counted(_read(tables, name, GROUP, failed))


def present_counts(tables: ReportTables, name: str, runs: Collection[str]) -> list[dict[str, Value]]:
    """Number of rows (`count`) whose reference holds the label, by the same columns, of some runs."""
    import pyarrow.compute as pc

    present = _of(runs) & pc.field("status").isin(["ok", "missed"])
    return _counted(_read(tables, name, GROUP, present))


def failed_rows(tables: ReportTables, runs: Collection[str]) -> list[Row]:
    """Rows of slice.csv of Dice 0 of some runs: key, status and numbers of wrong pixels."""
    import pyarrow.compute as pc

    failed = _of(runs) & (pc.field("tp") == 0) & (pc.field("status") != "absent")
    found = _read(tables, "slice", (*TABLES["slice"].key_names(), "status", "fn", "fp"), failed)
    return [] if found is None else found.to_pylist()


def sized_rows(tables: ReportTables, run: str) -> list[Row]:
    """Rows of slice.csv of a run whose reference holds the label: key, Dice and area."""
    import pyarrow.compute as pc

    present = _of([run]) & pc.field("status").isin(["ok", "missed"])
    columns = (*TABLES["slice"].key_names(), "tp", "fn", "dice", "area_reference_mm2")
    found = _read(tables, "slice", columns, present)
    return [] if found is None else found.to_pylist()


def value_rows(tables: ReportTables, runs: Collection[str]) -> list[Row]:
    """Rows of volume.csv of some runs, sorted by key: Dice and status of every label."""
    key = TABLES["volume"].key_names()
    found = _read(tables, "volume", (*key, "dice", "dice_slice_mean", "status"), _of(runs))
    return [] if found is None else found.sort_by([(name, "ascending") for name in key]).to_pylist()


def _of(runs: Collection[str]) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.field("run").isin(pa.array(list(runs), pa.string()))


def _read(tables: ReportTables, name: str, columns: Sequence[str], chosen: Any) -> Any:
    """The chosen rows and columns of a table that is a folder of Parquet files; None where the report has none.

    A sweep has millions of slice rows, of which only these columns are read.
    """
    import pyarrow.dataset as ds

    files = sorted(tables.layout.parquet(name).glob("*.parquet")) if name in tables.names else []
    return ds.dataset(files, format="parquet").to_table(list(columns), filter=chosen) if files else None


def _counted(found: Any) -> list[dict[str, Value]]:
    if found is None:
        return []
    made: list[Mapping[str, Any]] = found.group_by(list(GROUP)).aggregate([([], "count_all")]).to_pylist()
    return [{name: row[name] for name in GROUP} | {"count": row["count_all"]} for row in made]
