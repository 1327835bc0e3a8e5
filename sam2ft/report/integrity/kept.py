"""What the integrity report keeps beside itself (report.json): measurements by content, and what was refused.

A store of hundreds of volumes is measured once; after that only what is new or changed. The file holds nothing that
cannot be made again, and is left out of account where it is damaged.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sam2ft.core.digests.verified_files import write_sealed_json
from sam2ft.core.errors import DataError
from sam2ft.core.files import verified_json
from sam2ft.data.store.index import REPORT_KEPT
from sam2ft.report.integrity.measure import MeasuredVolume

_FORMAT = 1
"""Another number for other measurements or another picture of the same volume."""


@dataclass(frozen=True)
class KeptReport:
    """Content of report.json."""

    measured: Mapping[str, MeasuredVolume] = field(default_factory=dict)
    """`VolumeRecord.digest` -> its numbers."""
    refused: Sequence[tuple[str, str]] = ()
    """(name, reason) of the volumes that the last preparation refused."""


def read_kept(store: Path) -> KeptReport:
    """What the last report of a store kept; nothing where there is none, or it is damaged or of another version."""
    with suppress(DataError, KeyError, TypeError, ValueError, AttributeError):
        found, is_sealed = verified_json(store / REPORT_KEPT)
        if is_sealed and found["format"] == _FORMAT:
            measured = {digest: MeasuredVolume.from_json(one) for digest, one in found["volumes"].items()}
            return KeptReport(measured, tuple((str(name), str(reason)) for name, reason in found["refused"]))
    return KeptReport()


def write_kept(store: Path, kept: KeptReport, digests: Iterable[str]) -> None:
    """Replace report.json, with the measurements of the volumes in `digests` alone."""
    volumes = {one: kept.measured[one].to_json() for one in sorted(set(digests) & kept.measured.keys())}
    refused = [list(one) for one in kept.refused]
    write_sealed_json(store / REPORT_KEPT, {"format": _FORMAT, "refused": refused, "volumes": volumes})
