"""The integrity report as `prepare` writes it, and what it tells: after a preparation a failure is a note. No NumPy."""

from collections.abc import Callable, Sequence
from pathlib import Path

from sam2ft.core.errors import DataError
from sam2ft.core.keys import VolumeKey
from sam2ft.core.system.path_errors import of_disk

Refused = Sequence[tuple[VolumeKey, str]]
"""(volume, reason) of those that a preparation refused."""
Show = Callable[[int, int, str], None] | None
"""Called with: number of volumes that are done, number of all, name of the last."""

# Whatever is wrong with the page, the store is whole.
_NO_PAGE = (ArithmeticError, AttributeError, DataError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


def page_of_store(store: Path) -> Path:
    """The report of a store."""
    from sam2ft.data.store.index import REPORT_PAGE  # imports NumPy, which --help does not need

    return store / REPORT_PAGE


def written_report(store: Path, refused: Refused | None, workers: int, show: Show) -> str:
    """Write report.html of `store`; returns a line about it. Without a preparation before, every array is verified.

    Raises:
        DataError: there is no store, or it is damaged.
        OSError: the page cannot be written.
    """
    from sam2ft.report.integrity.write import write_integrity_report

    findings = write_integrity_report(store, refused, workers, show, verify=refused is None)
    bad, check = (sum(one.level == level for one in findings) for level in ("bad", "check"))
    found = f"{bad} to mend, {check} to look at" if bad or check else "none to look at"
    return f"{page_of_store(store)}: findings: {found}"


def report_or_note(store: Path, refused: Refused | None, workers: int, show: Show) -> str:
    """As `written_report`, after a preparation: a page that cannot be made is a note, as the store is whole without it.

    Raises:
        OSError: the disk failed.
    """
    try:
        return written_report(store, refused, workers, show)
    except (*_NO_PAGE, OSError) as error:
        if of_disk(error):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return (
            f"note: {page_of_store(store)} was not written ({reason}); the store is complete; run "
            f"sam2ft prepare --report {store}"
        )
