"""Units of a draw: subjects, or groups of subjects with the same value of a covariate, which stay together."""

from collections.abc import Collection, Mapping, Sequence

from sam2ft.core.errors import DataError, listed
from sam2ft.data.splits.draw import Part, Unit

_SHOWN = 4


def units_of(
    free: Collection[str],
    group_of: Mapping[str, str | None] | None,
    parts: Sequence[Part],
    kept: Mapping[str, Part],
    not_in: Mapping[str, Collection[Part]],
) -> list[Unit]:
    """The units of the subjects `free`.

    Args:
        group_of: subject -> its group, None for one of its own; None: no groups.
        kept: subject -> part of those that have one, where the rest of their group follows.
        not_in: subject -> parts where it must not go.

    Raises:
        DataError: subjects of one group have different parts already, or have none that all may go to.
    """
    members: dict[tuple[bool, str], list[str]] = {}
    for subject in sorted({*free, *kept}):
        group = (group_of or {}).get(subject)
        members.setdefault((False, subject) if group is None else (True, group), []).append(subject)
    units = []
    for (is_group, name), subjects in members.items():
        own = [subject for subject in subjects if subject not in kept]
        homes = sorted({kept[subject] for subject in subjects if subject in kept})
        if len(homes) > 1:
            examples = [next(one for one in subjects if kept.get(one) == home) for home in homes]
            shown = " and ".join(f"{_words(home)} ({one})" for home, one in zip(homes, examples, strict=True))
            raise DataError(
                f"split.group: the stored subjects of group {name} are in {shown}, and a stored subject is not moved; "
                "prepare into a new folder, which draws all again, or leave split.group out"
            )
        allowed = frozenset(homes or parts) - {part for subject in own for part in not_in.get(subject, ())}
        if own and not allowed:
            raise DataError(
                f"split.group: subjects of group {name} ({listed(subjects, _SHOWN)}) are stored in train and in "
                "another split, and cannot be in one fold; prepare into a new folder: nobody has a place there yet"
            )
        if own:
            units.append(Unit(f"group {name}" if is_group else name, tuple(own), allowed))
    return units


def _words(part: Part) -> str:
    return f"fold {part}" if part.isdecimal() else part
