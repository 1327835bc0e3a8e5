"""Rows in several files are read and written as those of one."""

from pathlib import Path

import pytest

from sam2ft.core.errors import DataError
from sam2ft.core.tables.row_files import RowFiles, column_names, in_order
from sam2ft.core.tables.rows import TABLES, Row, write_csv

TABLE = TABLES["volume"]


def row(subject: str, label: int, **more: float | str) -> Row:
    known = {column.name: 1.5 if column.kind == "number" else 2 for column in TABLE.columns}
    texts = {column.name: "x" for column in TABLE.columns if column.kind == "text"}
    return {**known, **texts, "subject": subject, "label": label, "label_name": 'a, "b"', **more}


def files(folder: Path, *parts: list[Row]) -> RowFiles:
    paths = tuple(folder / f"{number}.csv" for number in range(len(parts)))
    for path, rows in zip(paths, parts, strict=True):
        write_csv(path, TABLE, rows)
    return RowFiles(TABLE, paths)


def test_the_files_together_are_the_bytes_of_one_table(tmp_path: Path) -> None:
    parts = [
        [row("a", 2), row("a", 1, extra=0.1 + 0.2)],
        [row("b", 1, other=float("nan"), dice=1e-300)],
        [],
        [row("c", 1, other=-0.0)],
    ]
    together = files(tmp_path, *parts)
    together.write(tmp_path / "merged.csv")
    write_csv(tmp_path / "whole.csv", TABLE, [one for rows in parts for one in rows])
    assert (tmp_path / "merged.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert together.names[-2:] == ("extra", "other")
    assert column_names(together) == column_names([one for rows in parts for one in rows])


def test_rows_come_in_order_each_time_they_are_asked_for(tmp_path: Path) -> None:
    together = files(tmp_path, [row("a", 2), row("a", 1)], [row("b", 1)])
    for _ in range(2):
        assert [(one["subject"], one["label"]) for one in together] == [("a", 1), ("a", 2), ("b", 1)]
    assert in_order(TABLE, together) is together
    assert [one["label"] for one in in_order(TABLE, [row("a", 10), row("a", 9)])] == [9, 10]
    assert bool(together)
    assert not files(tmp_path / "none", [], [])


def test_one_file_is_open_at_a_time(tmp_path: Path) -> None:
    together = files(tmp_path, [row("a", 1)], [row("b", 1)])
    rows = iter(together)
    next(rows)
    together.paths[1].write_text("damaged\n")
    with pytest.raises(DataError, match=r"1\.csv: no column"):
        next(rows)


@pytest.mark.parametrize("extra", [{}, {"extra": 0.5}, {"zeta": 1.0, "alpha": 2.0}])
def test_a_later_column_is_last_and_files_without_it_are_read(tmp_path: Path, extra: dict[str, float]) -> None:
    """volume.csv of 0.1.0 lacks num_specks: merged with new files its cells are empty."""
    together = files(
        tmp_path, [row("a", 1, **extra)], [row("b", 1, num_specks=3)], [row("c", 1, num_specks=0, **extra)]
    )
    assert together.names[-1] == "num_specks"
    assert list(together.names[:-1]) == [*TABLE.column_names(), *sorted(extra)]
    assert [one.get("num_specks") for one in together] == [None, 3, 0]
    together.write(tmp_path / "merged.csv")
    found = RowFiles(TABLE, (tmp_path / "merged.csv",))
    assert [one["num_specks"] for one in found] == [None, 3, 0]
    assert "num_specks" not in files(tmp_path, [row("a", 1, **extra)]).names
