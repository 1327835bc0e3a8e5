"""Writing the integrity report of a store: report.html, from its records and arrays."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

from sam2ft.core.errors import DataError
from sam2ft.core.files import write_text
from sam2ft.core.parallel import parallel_map
from sam2ft.data.store.index import REPORT_PAGE, read_index
from sam2ft.data.store.store import Store, VolumeRecord, records_digest
from sam2ft.report.integrity.cohort import SITES, ReportedStore, ReportedVolume
from sam2ft.report.integrity.copies import same_images
from sam2ft.report.integrity.findings import BAD, CHECK, NOTE, StoreFinding, findings_of_volumes
from sam2ft.report.integrity.kept import KeptReport, read_kept, write_kept
from sam2ft.report.integrity.label_findings import findings_of_copies, findings_of_labels
from sam2ft.report.integrity.measure import MeasuredVolume, measured_volume
from sam2ft.report.integrity.render import IntegrityPage, render_integrity
from sam2ft.report.integrity.told import Refused, Show

# What could be the name of a file, a folder, or a text of a header.
_NAMES = re.compile(r"""[/\\"'`]|\w\.[A-Za-z]""")


def write_integrity_report(
    path: Path,
    refused: Refused | None = None,
    workers: int = 1,
    progress: Show = None,
    *,
    verify: bool = False,
) -> tuple[StoreFinding, ...]:
    """Write report.html of the store `path`, whole or not at all, and return its findings, the gravest first.

    A page that would say the same is left as it is. Volumes that were measured for the last report and have the same
    content are not read again.

    Args:
        refused: volumes that this preparation refused, and the reasons; None: those of the last preparation.
        workers: number of processes that measure.
        progress: called after each volume that was measured, with: number of measured ones, number of all, name.
        verify: compare the arrays of volumes that are not read again with their digests, too.

    Raises:
        DataError: there is no store, or its index is damaged.
        OSError: the page cannot be written.
    """
    store, kept = Store.open(path), read_kept(path)
    names = (read_index(path) or {}).get("names") or {}
    if refused is not None:
        hashed = names.get("subject_id", "folder") != "folder"
        shown = [(f"{key.subject}/{key.volume}", shown_reason(why, hashed)) for key, why in refused]
        kept = replace(kept, refused=shown)
    measured, problems = _measured(store, kept, workers, progress)
    if verify:
        known = {record.digest: _problem(store, record, verify=True) for record in store.volumes}
        problems |= {digest: problem for digest, problem in known.items() if problem}
        measured = {digest: one for digest, one in measured.items() if digest not in problems}
    volumes, site = _lines(store, measured, problems)
    reported = ReportedStore(store.name, store.anatomy, store.labels, volumes, site, store.given_modality, kept.refused)
    found = [*findings_of_volumes(reported), *findings_of_labels(reported)]
    found += findings_of_copies(reported, same_images(store, volumes))
    findings = tuple(sorted(found, key=lambda one: (BAD, CHECK, NOTE).index(one.level)))
    page = IntegrityPage(
        store=reported,
        findings=findings,
        digest=records_digest(store.volumes),
        generated=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )
    text = render_integrity(page)
    if kept.measured != measured or not _is_but_for(page.generated, text, path / REPORT_PAGE):
        write_text(path / REPORT_PAGE, text)
        write_kept(path, replace(kept, measured=measured), (record.digest for record in store.volumes))
    return findings


def _is_but_for(time: str, text: str, path: Path) -> bool:
    """Whether a file holds `text`, with another time of the same length where it says `time`."""
    found = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    start = text.find(time)
    return found == text.replace(time, found[start : start + len(time)])


def shown_reason(reason: str, hashed: bool) -> str:
    """The reason of a refusal without the path of its file; without anything like a name where subjects have none.

    Args:
        hashed: whether the names of subjects are replaced in this store: their folders must not be on the page.
    """
    _, _, rest = reason.partition(": ")
    shown = " ".join((rest or reason).split())
    if not hashed:
        return re.sub(r"(?<![\w.])(?:[^\s:;,()]*/)+(?=[^\s/])", "", shown)
    # Clause by clause: a name with blanks would leave its first words.
    clauses = re.split(r"(?<=[;:,(])\s*|\s*(?=\()", shown)
    safe = " ".join(takewhile(lambda clause: not _NAMES.search(clause), clauses)).rstrip(" ;:,(")
    return f"{safe} (the rest names files: prepare shows it)".strip() if safe != shown else shown


def _measured(
    store: Store, kept: KeptReport, workers: int, progress: Show
) -> tuple[dict[str, MeasuredVolume], dict[str, str]]:
    """(digest -> numbers of a volume; digest -> why a volume cannot be read)."""
    digests = dict.fromkeys(record.digest for record in store.volumes)
    measured = {digest: kept.measured[digest] for digest in digests if digest in kept.measured}
    problems: dict[str, str] = {}
    of_digest = {record.digest: record for record in store.volumes if record.digest not in measured}
    alone = [replace(store, volumes=(record,), covariates={}) for record in of_digest.values()]
    for number, (one, result) in enumerate(zip(alone, parallel_map(_measure, alone, workers), strict=True), start=1):
        (record,) = one.volumes
        if isinstance(result, str):
            problems[record.digest] = result
        else:
            measured[record.digest] = result
        if progress is not None:
            progress(number, len(alone), str(record.key))
    # Kept numbers do not say that the arrays are still there.
    for record in store.volumes:
        if record.digest not in problems and (problem := _problem(store, record)):
            problems[record.digest] = problem
    return {digest: one for digest, one in measured.items() if digest not in problems}, problems


def _measure(store: Store) -> MeasuredVolume | str:
    """The numbers of the only volume of `store`, or why its arrays cannot be read."""
    try:
        return measured_volume(store)
    except DataError as error:
        return _without_folder(error)


def _problem(store: Store, record: VolumeRecord, *, verify: bool = False) -> str:
    """Why the arrays of a volume cannot be used; empty when they can."""
    try:
        store.image(record.key)
        store.mask(record.key)
        store.instances(record.key)
        if verify:
            store.verify([record])
    except DataError as error:
        return _without_folder(error)
    return ""


def _without_folder(error: DataError) -> str:
    return " ".join(shown_reason(str(error), hashed=False).split())


def _lines(
    store: Store, measured: dict[str, MeasuredVolume], problems: dict[str, str]
) -> tuple[list[ReportedVolume], str]:
    """(the lines of the report, name of the covariate that holds the site)."""
    names = {name.lower(): name for values in store.covariates.values() for name in values}
    site = next((names[name] for name in SITES if name in names), "")
    lines = []
    for number, record in enumerate(store.volumes, start=1):
        stored: Any = {}
        problem = problems.get(record.digest, "")
        try:
            stored = record.stored
        except DataError as error:
            problem = problem or _without_folder(error)
        value = store.covariates.get(record.key, {}).get(site, "")
        lines.append(ReportedVolume(number, record, stored, measured.get(record.digest), problem, value))
    return lines, site
