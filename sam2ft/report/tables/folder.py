"""Atomic replacement of the report folder: one aggregation at a time (file lock), and a new folder that replaces the
old one when it is complete.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sam2ft.core.files import remove_partial
from sam2ft.core.folders import link_tree, replacing_folder
from sam2ft.core.tables.rows import TABLES
from sam2ft.report.layout import ReportLayout

COMPARED = ("compare", "point_tests", "misses", "improvement")


@contextmanager
def next_report(layout: ReportLayout) -> Iterator[ReportLayout]:
    """Context manager: a new, empty report that replaces `layout` when the block ends without an error.

    A second aggregation waits for the first, so the report of the last one remains. The lock is held by the kernel and
    is released when its process ends. Files that users put into the report folder are kept.
    """
    from filelock import FileLock, Timeout

    layout.work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(layout.lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{layout.folder}: another aggregation is running; waiting until it ends", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        remove_partial(layout.work)
        with replacing_folder(layout.folder, layout.work) as folder:
            new = ReportLayout(folder)
            yield new
            _carry_over(layout, new)
    finally:
        lock.release()


def _carry_over(old: ReportLayout, new: ReportLayout) -> None:
    """Keep everything in the old folder whose name aggregation does not use."""
    ours = {path.name for path in (new.coverage, new.page, new.assets, new.figures)}
    for name in (*TABLES, *COMPARED):
        ours |= {new.table(name).name, new.parquet(name).name}
    for path in old.folder.iterdir() if old.folder.is_dir() else ():
        if path.name not in ours and not (new.folder / path.name).exists():
            link_tree(path, new.folder / path.name)
