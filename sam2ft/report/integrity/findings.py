"""Findings of the integrity report about whole volumes: one plain sentence each, with the volumes that it is about."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sam2ft.core.errors import number_of
from sam2ft.core.grouping import grouped
from sam2ft.data.dicom.modality import MODALITIES
from sam2ft.report.integrity.cohort import ReportedStore, ReportedVolume
from sam2ft.report.integrity.out_of_line import INTENSITY, SPACING, Judged, judged, judged_signed

BAD, CHECK, NOTE = "bad", "check", "note"
"""Levels: it is wrong; somebody should look; good to know."""


@dataclass(frozen=True)
class FoundAt:
    """A volume that a finding is about."""

    name: str
    number: int | None = None
    """Of its line in the table; None: it has none."""
    detail: str = ""


@dataclass(frozen=True)
class StoreFinding:
    """What was found, in one sentence."""

    kind: str
    """Two or three words, which also stand in the line of each volume."""
    level: str
    sentence: str
    places: tuple[FoundAt, ...] = ()


Details = Sequence[tuple[ReportedVolume, str]]


def finding(kind: str, level: str, sentence: str, found: Details) -> Iterator[StoreFinding]:
    """The finding about the volumes in `found`; none if there are none."""
    if found:
        places = tuple(FoundAt(one.name, one.number, detail) for one, detail in found)
        yield StoreFinding(kind, level, sentence, places)


def findings_of_volumes(store: ReportedStore) -> Iterator[StoreFinding]:
    """All findings that concern files, grids and intensities, the gravest first."""
    if store.refused:
        places = tuple(FoundAt(name, None, reason) for name, reason in store.refused)
        yield StoreFinding("refused", BAD, f"{_volumes(places)} refused by the last preparation", places)
    damaged = [(one, one.problem) for one in store.volumes if one.problem]
    yield from finding("not readable", BAD, f"{_volumes(damaged)} damaged or not readable", damaged)
    yield from _several_splits(store)
    yield from _burned_in(store)
    yield from _modalities(store)
    yield from _spacings(store)
    yield from _orientations(store)
    yield from _intensities(store)
    yield from _missing_maps(store)
    yield from _covered_by(store)


def _volumes(found: Sequence[object]) -> str:
    """`1 volume is`, `3 volumes are`."""
    return f"{number_of(len(found), 'volume')} {'is' if len(found) == 1 else 'are'}"


def _several_splits(store: ReportedStore) -> Iterator[StoreFinding]:
    splits = {name: {one.record.split for one in own} for name, own in _by_subject(store).items()}
    found = [(one, one.record.split) for one in store.volumes if len(splits[one.key.subject]) > 1]
    count = number_of(sum(len(own) > 1 for own in splits.values()), "subject")
    sentence = f"{count} in several splits: what is trained on is also tested on"
    yield from finding("several splits", BAD, sentence, found)


def _by_subject(store: ReportedStore) -> Mapping[str, list[ReportedVolume]]:
    return grouped(store.volumes, lambda one: one.key.subject)


def _burned_in(store: ReportedStore) -> Iterator[StoreFinding]:
    found = [(one, "") for one in store.volumes if one.stored.get("burned_in") == "YES"]
    sentence = (
        f"The header of {number_of(len(found), 'volume')} says that text is burned into the picture "
        "(BurnedInAnnotation: YES): it may be a name, and a model may learn from it"
    )
    yield from finding("burned-in text", BAD, sentence, found)


def _modalities(store: ReportedStore) -> Iterator[StoreFinding]:
    of_volume = {one.number: str(one.stored.get("modality", "")) for one in store.volumes}
    counts = Counter(code for code in of_volume.values() if code)
    if len(counts) > 1:
        common = counts.most_common(1)[0][0]
        found = [
            (one, MODALITIES.get(code, code))
            for one in store.volumes
            if (code := of_volume[one.number]) and code != common
        ]
        listed = ", ".join(f"{MODALITIES.get(code, code)} {count}" for code, count in counts.most_common())
        yield from finding("other modality", CHECK, f"Images of several modalities in one store: {listed}", found)


def _spacings(store: ReportedStore) -> Iterator[StoreFinding]:
    """By the size in the plane and by the slice distance, whatever the order of rows and columns."""
    parts: tuple[tuple[str, Callable[[ReportedVolume], float]], ...] = (
        ("pixel size", lambda one: one.record.geometry.pixel_area_mm2**0.5),
        ("slice distance", lambda one: one.record.geometry.spacing_zyx_mm[0]),
    )
    for what, of in parts:
        found: list[tuple[ReportedVolume, str]] = []
        for group in store.groups:
            values = [of(one) for one in group]
            result = judged(values, SPACING)
            if result.is_mixed:
                ends = f"{min(values):.3g} to {max(values):.3g} mm{_at(group)}"
                sentence = f"The {what} is mixed, {ends}: one model sees structures of different sizes in pixels"
                yield StoreFinding("mixed grids", NOTE, sentence)
                continue
            found += [(group[at], _beside(values[at], result, " mm")) for at in result.outside]
        sentence = f"{_volumes(found)} out of line in {what}: check the headers, the subject, and the protocol"
        yield from finding(what, CHECK, sentence, found)


def short_text(value: float | None) -> str:
    """Three digits: `0.36`, `12.3`, `1230`; a dash for None."""
    return "–" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _at(group: Sequence[ReportedVolume]) -> str:
    return f" at {group[0].site}" if group[0].site else ""


def _beside(value: float, result: Judged, unit: str) -> str:
    """A value beside the median of the others."""
    return f"{short_text(value)}{unit}, median {short_text(result.median)}"


def _orientations(store: ReportedStore) -> Iterator[StoreFinding]:
    unknown = [(one, "") for one in store.volumes if not one.record.geometry.oriented]
    known = [one for one in store.volumes if one.record.geometry.oriented]
    if known:
        sentence = f"{number_of(len(unknown), 'file')} without an orientation, in a store where others have one"
        yield from finding("no orientation", CHECK, sentence, unknown)
    for group in grouped(known, lambda one: one.key.volume if len(store.groups) > 1 else "").values():
        yield from _of_another_kind(group, lambda one: one.plane, "other plane", CHECK, "cut in several planes")
        for same in grouped(group, lambda one: one.plane).values():
            what = "whose slices are counted in several directions"
            yield from _of_another_kind(same, lambda one: f"to the {one.slices_run}", "slice direction", NOTE, what)


def _of_another_kind(
    group: Sequence[ReportedVolume], of: Callable[[ReportedVolume], str], kind: str, level: str, what: str
) -> Iterator[StoreFinding]:
    counts = Counter(of(one) for one in group)
    if len(counts) > 1:
        common = counts.most_common(1)[0][0]
        listed = ", ".join(f"{value} {count}" for value, count in counts.most_common())
        found = [(one, of(one)) for one in group if of(one) != common]
        yield from finding(kind, level, f"Volumes {what}: {listed}", found)


def _intensities(store: ReportedStore) -> Iterator[StoreFinding]:
    found: list[tuple[ReportedVolume, str]] = []
    blank: list[tuple[ReportedVolume, str]] = []
    for group in store.groups:
        known = [(one, one.intensities) for one in group]
        values = [(one, found) for one, found in known if found is not None]
        blank += [(one, f"{low:.4g} throughout") for one, (low, _, high) in values if high <= low]
        values = [(one, three) for one, three in values if three[2] > three[0]]
        typical, ranges = [three[1] for _, three in values], [three[2] - three[0] for _, three in values]
        if not values:
            continue
        result = judged(typical, INTENSITY) if min(typical) > 0 else judged_signed(typical, ranges)
        if not result.is_mixed:
            found += [(values[at][0], _beside(typical[at], result, "")) for at in result.outside]
    yield from finding("blank image", BAD, f"{_volumes(blank)} without contrast: one value nearly everywhere", blank)
    sentence = f"{_volumes(found)} out of line in intensity (median of the body): another sequence, scale or coil"
    yield from finding("intensity", CHECK, sentence, found)


def _missing_maps(store: ReportedStore) -> Iterator[StoreFinding]:
    names = sorted({name for one in store.volumes for name in one.record.maps})
    for name in names:
        found = [(one, "") for one in store.volumes if name not in one.record.maps]
        sentence = f"{number_of(len(found), 'volume')} without the map {name}: no {name} is measured there"
        yield from finding(f"no {name}", CHECK, sentence, found)


def _covered_by(store: ReportedStore) -> Iterator[StoreFinding]:
    absent = [split for split in ("train", "val", "test") if all(one.record.split != split for one in store.volumes)]
    if absent and store.volumes:
        yield StoreFinding("empty split", NOTE, f"No subject is in {' or '.join(absent)}")
