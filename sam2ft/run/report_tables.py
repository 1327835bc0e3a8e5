"""The collated tables of the evaluations that count, written into the report and read back by whoever needs them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from sam2ft.core.files import replacing
from sam2ft.core.layout import EvalLayout, ReportLayout
from sam2ft.core.rows import TABLES, Row
from sam2ft.metrics.summary import biomarker_global_rows, global_rows
from sam2ft.report.recount import recount
from sam2ft.report.tables import (
    COLLATED,
    Frame,
    collate,
    csv_chunks,
    frame_of_csv,
    frame_of_rows,
    parquet_bytes,
    rows_of,
)
from sam2ft.run.report_collect import Counted


@dataclass(frozen=True)
class CollatedTables:
    """`report_state.ReportTables`."""

    frames: Mapping[str, Frame]
    problems: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.frames)

    def frame(self, name: str, run: str | None = None) -> Frame:
        import pyarrow.compute as pc

        frame = self.frames[name] if name in self.frames else frame_of_rows(TABLES[name], [])
        return frame if run is None else frame.filter(pc.equal(frame.column("run"), run))

    def rows(self, name: str, run: str | None = None) -> Sequence[Row]:
        if run is None:
            return self._rows(name)
        return rows_of(self.frame(name, run))

    def _rows(self, name: str) -> Sequence[Row]:
        if name not in self._kept:
            self._kept[name] = rows_of(self.frame(name))
        return self._kept[name]

    @cached_property
    def _kept(self) -> dict[str, Sequence[Row]]:
        return {}


def collated(counted: Counted, new: ReportLayout) -> CollatedTables:
    """Write the tables of all counted evaluations into `new`; biomarker tables only when there are such rows."""
    together = collate([(one.run, _frames_of(one.layout)) for one in counted.found])
    tables = dict(together.tables)
    problems = (*together.problems, *recount(tables["slice"], tables["volume"]))
    for name, make in (("global", global_rows), ("biomarker_global", biomarker_global_rows)):
        rows = make(rows_of(tables["volume" if name == "global" else "biomarker_volume"]))
        tables[name] = frame_of_rows(TABLES[name], rows)
    kept = {name: frame for name, frame in tables.items() if frame.num_rows or not name.startswith("biomarker")}
    for name, frame in kept.items():
        with replacing(new.table(name)) as partial, partial.open("wb") as stream:
            stream.writelines(csv_chunks(TABLES[name], frame))
        with replacing(new.parquet(name)) as partial:
            partial.write_bytes(parquet_bytes(frame))
    return CollatedTables(kept, problems)


def _frames_of(evaluation: EvalLayout) -> dict[str, Frame]:
    paths = {name: evaluation.table(name) for name in COLLATED}
    return {
        name: frame_of_csv(TABLES[name], path.read_bytes(), str(path)) for name, path in paths.items() if path.is_file()
    }
