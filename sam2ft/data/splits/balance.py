"""What a draw led to, as text: a table of the numbers of subjects of every class in every part, and notes."""

from collections import Counter
from collections.abc import Mapping, Sequence

from sam2ft.data.splits.draw import Part
from sam2ft.data.splits.strata import Stratum

Grouped = tuple[str, Mapping[str, str | None]]
"""Name of the covariate by which subjects are drawn in groups, and subject -> its group, None for one of its own."""
_MOST_ROWS = 12
_WIDEST = 40


def balance_table(
    part_of: Mapping[str, Part],
    parts: Sequence[Part],
    strata: Sequence[Stratum],
    group: Grouped | None,
) -> tuple[str, ...]:
    """Lines of a table: a row for all subjects, for each class, and for the number of groups; a column for each part.

    Args:
        group: (name of the covariate, subject -> its group) where subjects are drawn in groups.
    """
    rows = [("subjects", _counts(part_of.values(), parts))]
    for one in strata:
        inside = {name: [part for subject, part in part_of.items() if one.class_of.get(subject) == name]
                  for name in one.classes}  # fmt: skip
        shown = one.classes[:_MOST_ROWS]
        rows += [(f"{one.name}: {name}", _counts(inside[name], parts)) for name in shown]
        if len(one.classes) > len(shown):
            rest = [part for name in one.classes[_MOST_ROWS:] for part in inside[name]]
            rows.append((f"{one.name}: {len(one.classes) - len(shown)} more", _counts(rest, parts)))
    if group is not None:
        name, group_of = group
        pairs = {(part, group_of.get(subject) or f"alone {subject}") for subject, part in part_of.items()}
        rows.append((f"groups of {name}", _counts([part for part, _ in pairs], parts)))
    return _lines([("balance", _headings(parts)), *[(name, [*map(str, counts)]) for name, counts in rows]])


def share_note(part_of: Mapping[str, Part], shares: Mapping[Part, float], group: Grouped | None) -> list[str]:
    """One sentence where a part is two or more subjects away from its share; else none."""
    counts, total = Counter(part_of.values()), sum(shares.values())
    wanted = {part: len(part_of) * share / total for part, share in shares.items()}
    if all(abs(counts[part] - size) < 2 for part, size in wanted.items()):
        return []
    shown = [part for part in shares if counts[part] or wanted[part]]
    found = ", ".join(f"{_word(part)} {counts[part]}" for part in shown)
    asked = ", ".join(f"{wanted[part]:.3g}" for part in shown)
    why = "subjects that were stored before keep their place"
    if group is not None:
        sizes = Counter(name for subject, name in group[1].items() if name is not None and subject in part_of)
        name, size = max(sizes.items(), key=lambda item: (item[1], item[0]), default=("none", 1))
        why = f"subjects of one {group[0]} stay together (the largest, {name}, has {size} of {len(part_of)})"
    return [f"{found}; the shares ask for {asked}: {why}"]


def _word(part: Part) -> str:
    return f"fold {part}" if part.isdecimal() else part


def _headings(parts: Sequence[Part]) -> list[str]:
    """train, val, test; or test, fold 0, 1, 2."""
    return [f"fold {part}" if part == "0" else part for part in parts]


def _counts(found: object, parts: Sequence[Part]) -> list[int]:
    counts = Counter(found)  # type: ignore[call-overload]
    return [counts[part] for part in parts]


def _lines(rows: Sequence[tuple[str, Sequence[str]]]) -> tuple[str, ...]:
    names = [name if len(name) <= _WIDEST else f"{name[: _WIDEST - 3]}..." for name, _ in rows]
    widths = [max(len(cells[column]) for _, cells in rows) for column in range(len(rows[0][1]))]
    first = max(map(len, names))
    return tuple(
        f"  {name:<{first}}" + "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        for name, (_, cells) in zip(names, rows, strict=True)
    )
