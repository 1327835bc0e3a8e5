"""Paths of all files and folders of a report. No other module joins these names."""

from dataclasses import dataclass
from pathlib import Path

from sam2ft.runs.layout import RUNS, Below


@dataclass(frozen=True)
class ReportLayout:
    """Paths of one report: `runs/<experiment>/report/`, or any folder given with --out."""

    folder: Path

    coverage = Below("coverage.json")
    page = Below("index.html")
    assets = Below("assets")
    """Images that the page shows."""
    figures = Below("figures")
    """Figures at publication size."""
    export = Below("best")
    """Exported files of the best point."""

    def table(self, name: str) -> Path:
        """Path of a table as CSV; `name` is a key of core.tables.rows.TABLES, or one of tables.folder.COMPARED."""
        return self.folder / f"{name}.csv"

    def parquet(self, name: str) -> Path:
        """Path of the same table as Parquet: a file or a folder of files; pandas and pyarrow read both by this path."""
        return self.folder / f"{name}.parquet"

    @property
    def work(self) -> Path:
        """Hidden folder beside the report: caches of aggregation, and the new report until it is complete."""
        return self.folder.with_name(f".{self.folder.name}")

    @property
    def lock(self) -> Path:
        return self.work / "lock"

    @property
    def kept_parts(self) -> Path:
        """Cached, checked tables of every evaluation in the report."""
        return self.work / "parts"

    def part(self, key: str) -> Path:
        return self.kept_parts / key


def reports(report_id: str, runs: Path = RUNS) -> ReportLayout:
    """Default paths of a report that combines runs of several experiments."""
    return ReportLayout(runs / "_reports" / report_id)
