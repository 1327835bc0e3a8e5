"""What a scan shows on a terminal: kinds of images and masks, what is left out, and single series on request."""

import textwrap
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sam2ft.core.errors import listed, number_of, printable
from sam2ft.data.scan.found import FoundImage
from sam2ft.data.scan.kinds import ImageKind, mask_kind
from sam2ft.data.scan.pairing import BY, Pairing
from sam2ft.data.scan.plan import ScanPlan
from sam2ft.data.scan.scanned import Scanned
from sam2ft.data.scan.subjects import Subjects

Row = Sequence[str]
_SHORT_PLANES = {"sagittal": "sag", "coronal": "cor", "axial": "ax", "": ""}
_FEWEST = 12
_GAP = "  "
_MOST_LINES = 10


@dataclass
class Overview:
    """Everything that a scan found out, for those who show it."""

    scan: Scanned
    subjects: Subjects
    pairing: Pairing
    kinds: Sequence[ImageKind]
    plan: ScanPlan
    numbers: Mapping[str, str] = field(default_factory=dict)
    """Name of a subject -> what is shown for it; empty: names are shown."""

    def hidden(self, text: str) -> str:
        """A text without names of subjects where these are not shown."""
        for name in sorted(self.numbers, key=len, reverse=True):
            text = text.replace(name, self.numbers[name])
        return text


def overview_lines(found: Overview, width: int) -> list[str]:
    """The whole text: counts, kinds of images, masks, and what needs attention."""
    count = len(found.subjects.names)
    rule = f" ({found.subjects.rule})" if found.subjects.rule else ""
    counts = [
        f"{number_of(count, 'subject')}{rule}",
        _series(found.scan.images),
        number_of(len(found.scan.masks), "mask"),
        number_of(found.scan.num_files, "file"),
    ]
    head = f"{', '.join(map(str, found.scan.roots))}: {', '.join(counts)}"
    lines = _wrapped(found.hidden(head), width, "  ")
    if found.kinds:
        lines += [
            "",
            *in_columns(("images", "plane", "voxels", "mm", "subjects", "masks", "what"), _kinds(found), width),
        ]
    if found.scan.masks:
        lines += ["", *in_columns(("masks", "kind", "subjects", "labels", "found by"), _masks(found), width)]
    legend = ["", "> marks what a dataset file takes"] if found.plan.volumes else []
    return [*lines, *legend, *_attention(found, width)]


def series_lines(found: Overview, width: int) -> list[str]:
    """Every series or image file, one line each, by subject."""
    rows = []
    for image in sorted(found.scan.images, key=lambda image: (found.subjects.of_place[image.place], image.order)):
        name = found.subjects.of_place[image.place]
        where = "/".join(image.parts) or image.root.name
        shape, edges = _size(image)
        plane = _SHORT_PLANES[image.plane]
        shown = (found.hidden(name), found.hidden(where), image.description, plane, shape, edges, _what([image]))
        rows.append(shown)
    return in_columns(("subject", "place", "description", "plane", "voxels", "mm", "what"), rows, width)


def in_columns(header: Row, rows: Sequence[Row], width: int) -> list[str]:
    """Lines of a table that is at most `width` wide: the last column is wrapped, the others are cut where needed."""
    table = [[printable(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    last = len(header) - 1
    room = width - len(_GAP) * last
    longest_word = max(len(word) for row in table for word in row[last].split() or [""])
    wanted_last = min(widths[last], max(_FEWEST, longest_word))
    while sum(widths[:last]) + wanted_last > room:
        longest = max(range(last), key=lambda column: widths[column])
        if widths[longest] <= _FEWEST:
            break
        widths[longest] -= 1
    left = max(wanted_last, room - sum(widths[:last]))
    lines = []
    for row in table:
        cells = [_cut(text, size).ljust(size) for text, size in zip(row[:last], widths[:last], strict=True)]
        wrapped = textwrap.wrap(row[last], left) or [""]
        lines.append(_GAP.join([*cells, wrapped[0]]).rstrip())
        indent = sum(widths[:last]) + len(_GAP) * last
        lines += [" " * indent + more for more in wrapped[1:]]
    return lines


def _cut(text: str, size: int) -> str:
    """A text of at most `size` letters; of one that is longer the end counts as much as the beginning."""
    if len(text) <= size:
        return text
    end = (size - 1) // 2
    return f"{text[: size - 1 - end]}…{text[len(text) - end :]}"


def _series(images: Sequence[FoundImage]) -> str:
    """How many series and image files there are; echoes and phases are no series of their own."""
    series = len({(image.place, image.uids[0]) for image in images if image.is_dicom})
    files = sum(not image.is_dicom for image in images)
    texts = [f"{series} series"] if series else []
    texts += [number_of(files, "image file")] if files else []
    return " and ".join(texts) or "no image"


def _kinds(found: Overview) -> list[Row]:
    """One row for kinds that differ in echo, phase and the like alone."""
    groups: dict[tuple[object, ...], list[ImageKind]] = defaultdict(list)
    for kind in found.kinds:
        first = kind.first
        groups[kind.name.casefold(), first.plane, first.part, first.localizer, first.kind].append(kind)
    total = len(found.subjects.names)
    used = {volume.image for volume in found.plan.volumes}
    rows: list[Row] = []
    for group in groups.values():
        images = [image for kind in group for images in kind.images.values() for image in images]
        subjects = {subject for kind in group for subject in kind.images}
        masked = {subject for kind in group for subject in kind.masked}
        twice = {subject for kind in group for subject in kind.twice}
        shape, edges = _size(group[0].first)
        sizes = {image.shape for image in images}
        mark = "> " if any(image in used for image in images) else "  "
        more = [f"{len(twice)} {'has' if len(twice) == 1 else 'have'} it more than once"] if twice else []
        more += [f"{len(sizes)} sizes"] if len(sizes) > 1 else []
        rows.append(
            (
                *(mark + (group[0].name or "(no description)"), _SHORT_PLANES[group[0].first.plane], shape, edges),
                *(f"{len(subjects)} of {total}", str(len(masked)) if masked else "–"),
                ", ".join([_what(images), *more] if _what(images) else more),
            )
        )
    return rows


def _size(image: FoundImage) -> tuple[str, str]:
    """(voxels, voxel edges in mm), in the order of the axes of `shape`."""
    shape = "×".join(map(str, image.shape))
    if image.grid is None:
        return shape, "?"
    return shape, "×".join(f"{edge:.3g}" for edge in image.grid.edges_mm)


def _what(images: Sequence[FoundImage]) -> str:
    """Kind, part, echoes, phases and problems of images of one kind."""
    first = images[0]
    echoes = sorted({round(image.echo_ms, 3) for image in images if image.echo_ms is not None})
    per_place = Counter((image.place, image.uids[0], image.phase, image.part) for image in images if image.is_dicom)
    facts = [] if first.is_dicom else [first.kind]
    facts += [first.part] if first.part else []
    if echoes and max(per_place.values(), default=1) > 1 and len(echoes) > 1:
        facts.append(f"{max(per_place.values())} echoes {echoes[0]:g}–{echoes[-1]:g} ms")
    elif echoes:
        facts.append(f"TE {echoes[0]:g} ms" if len(echoes) == 1 else f"TE {echoes[0]:g}–{echoes[-1]:g} ms")
    phases = max((image.phase or 1 for image in images), default=1)
    facts += [f"{phases} phases"] if phases > 1 else []
    tags = sorted({name for image in images for name in image.tags})
    facts += [f"by {listed(tags, 2)}"] if tags else []
    facts += ["localizer"] if first.localizer else []
    refused = sum(bool(image.problems) for image in images)
    facts += [f"{refused} of {len(images)} refused as they are"] if refused else []
    return ", ".join(facts)


def _masks(found: Overview) -> list[Row]:
    """One row for the masks that are named alike."""
    rows: list[Row] = []
    groups: dict[tuple[str, str], list[tuple[str, str, tuple[int, ...]]]] = defaultdict(list)
    for pair in found.pairing.pairs:
        key = mask_kind(pair.mask, pair.subject), pair.mask.kind
        groups[key].append((pair.subject, pair.by, pair.mask.values))
    total = len(found.subjects.names)
    used = {mask.path for volume in found.plan.volumes for mask in volume.masks.values()}
    names = {
        (mask_kind(pair.mask, pair.subject), pair.mask.kind) for pair in found.pairing.pairs if pair.mask.path in used
    }
    for (name, kind), entries in sorted(groups.items(), key=lambda item: -len(item[1])):
        values = sorted({value for _, _, own in entries for value in own})
        subjects = Counter(subject for subject, _, _ in entries)
        ways = Counter(BY[by] for _, by, _ in entries)
        mark = "> " if (name, kind) in names else "  "
        rows.append(
            (
                *(mark + name, kind, f"{len(subjects)} of {total}", _ranges(values) or "none"),
                " or ".join(way for way, _ in ways.most_common()),
            )
        )
    return rows


def _ranges(values: Sequence[int]) -> str:
    """`1-3, 7` for 1, 2, 3, 7."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    texts = [f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return listed(texts, 6)


def _attention(found: Overview, width: int) -> list[str]:
    """What is not used, what was chosen and what is strange: nothing is left out silently."""
    scan = found.scan
    lines: list[str] = []

    def add(title: str, entries: Sequence[str]) -> None:
        if not entries:
            return
        lines.append("")
        lines.extend(_wrapped(title, width, ""))
        for entry in entries[:_MOST_LINES]:
            lines.extend(_wrapped(f"  {found.hidden(entry)}", width, "    "))
        if len(entries) > _MOST_LINES:
            lines.append(f"  and {len(entries) - _MOST_LINES} more (--json lists all)")

    add("warning:", [*found.subjects.warnings, *scan.notes])
    add("chosen:", found.plan.choices)
    used = len(found.plan.volumes)
    add(
        f"{number_of(used, 'volume')} of {number_of(len(found.plan.subjects), 'subject')} can be prepared; left out:",
        [f"{who}: {why}" for who, why in found.plan.left_out],
    )
    add("masks of no image:", [f"{mask.path}: {why}" for mask, why in found.pairing.lonely])
    add("zip archives (--unpack DIR unpacks and scans them):", [
        f"{archive.path}: {number_of(archive.num_files, 'file')}, {_megabytes(archive.num_bytes)}"
        for archive, _ in scan.archives
    ])  # fmt: skip
    add("cannot be read:", _unreadable(scan))
    add("not looked into:", [f"{path}: {why}" for path, why in scan.left_out])
    lines += _rest(scan, width, found.hidden)
    return lines


def _unreadable(scan: Scanned) -> list[str]:
    """Files that cannot be read; those of one folder with one reason together."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path, why in scan.unreadable:
        groups[str(path.parent), why].append(path.name)
    return [
        f"{folder}/{names[0]}: {why}" if len(names) == 1 else f"{folder}: {len(names)} files ({names[0]}, ...): {why}"
        for (folder, why), names in groups.items()
    ]


def _rest(scan: Scanned, width: int, hidden: Callable[[str], str]) -> list[str]:
    facts = [f"{count} DICOM {name}" for name, count in scan.others.most_common()]
    facts += [f"{number_of(scan.copies, 'image')} that are copies"] if scan.copies else []
    if scan.stray:
        facts.append(f"{number_of(len(scan.stray), 'other file')} ({listed([path.name for path in scan.stray], 3)})")
    facts += [f"{scan.hidden} hidden"] if scan.hidden else []
    return ["", *_wrapped(hidden(f"no images: {', '.join(facts)}"), width, "  ")] if facts else []


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:.1f} kB"


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    text = printable(text)
    lead = text[: len(text) - len(text.lstrip())]
    lines = textwrap.wrap(text, width, subsequent_indent=indent or lead, break_long_words=False, break_on_hyphens=False)
    return lines or [""]
