"""Every path of a report. No other module joins these names."""

from dataclasses import dataclass
from pathlib import Path

from sam2ft.runs.layout import RUNS


@dataclass(frozen=True)
class ReportLayout:
    """One report: `runs/<experiment>/report/`, or any folder given with --out."""

    folder: Path

    def table(self, name: str) -> Path:
        """`name` is a key of rows.TABLES, or compare."""
        return self.folder / f"{name}.csv"

    def parquet(self, name: str) -> Path:
        """The same rows; pandas and pyarrow read it by this name whether it is a file or a folder of files."""
        return self.folder / f"{name}.parquet"

    @property
    def coverage(self) -> Path:
        return self.folder / "coverage.json"

    @property
    def page(self) -> Path:
        return self.folder / "index.html"

    @property
    def assets(self) -> Path:
        """What the page shows beside itself."""
        return self.folder / "assets"

    @property
    def figures(self) -> Path:
        """Figures at publication size."""
        return self.folder / "figures"

    @property
    def export(self) -> Path:
        """The best point to take away."""
        return self.folder / "best"

    @property
    def work(self) -> Path:
        """Beside the report: what aggregation keeps from call to call, and the next report until it is whole."""
        return self.folder.with_name(f".{self.folder.name}")

    @property
    def lock(self) -> Path:
        return self.work / "lock"

    @property
    def last(self) -> Path:
        """What the report holds now, and where in it."""
        return self.work / "last.json"

    @property
    def kept_parts(self) -> Path:
        """The checked tables of every evaluation that the report was made of."""
        return self.work / "parts"

    def part(self, key: str) -> Path:
        return self.kept_parts / key


def reports(report_id: str, runs: Path = RUNS) -> ReportLayout:
    """Where the report of runs of several experiments goes by default."""
    return ReportLayout(runs / "_reports" / report_id)
