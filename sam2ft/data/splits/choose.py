"""The split, and with folds every fold, of all subjects of a dataset: from its sources, a file, or a draw."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sam2ft.config.schema.sources import ALL_FOLDS, Split
from sam2ft.core.errors import DataError, listed
from sam2ft.data.sources.row import VolumeFiles
from sam2ft.data.splits.balance import Grouped, balance_table, share_note
from sam2ft.data.splits.draw import Part, balanced_draw
from sam2ft.data.splits.given import given_splits, refuse_useless_keys, shares_beside
from sam2ft.data.splits.groups import units_of
from sam2ft.data.splits.strata import Stratum, covariate_values, stratum
from sam2ft.data.store.folds import Folds, num_folds
from sam2ft.data.store.split import SPLITS, kept_note, moved_note, split_by_fractions

TEST = "test"
_SHOWN = 3


@dataclass(frozen=True)
class Known:
    """What the store says of subjects before a preparation."""

    stored: frozenset[str]
    """Those with a volume."""
    splits: Mapping[str, str]
    """Of refused subjects too."""
    folds: Folds
    covariates: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Subject -> those that are kept in the store."""


@dataclass(frozen=True)
class ChosenSplits:
    """Split and folds of the subjects found and stored."""

    split_of: Mapping[str, str]
    folds: Folds = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    balance: tuple[str, ...] = ()
    """Lines of a table of the numbers of subjects; empty where none was asked for."""


def choose_splits(
    split: Split, sources: Sequence[VolumeFiles], known: Known, of_file: Callable[[], list[dict[str, str]]]
) -> ChosenSplits:
    """The split of every subject found and stored.

    A stored subject keeps its split and its fold; only a file, or splits that the sources give, move it.

    Args:
        of_file: reads the splits of `split.file`: one, or each of its folds.

    Raises:
        DataError: a wish that cannot be met: keys that would do nothing, covariates that nobody has, fewer groups than
            folds, another number of folds than the store has.
    """
    found = {source.key.subject for source in sources}
    if given := given_splits(sources):
        chosen = _of_sources(split, sources, known, given)
    elif split.file is not None:
        chosen = _of_rows(of_file(), known, "split.file", in_folds=split.fold == ALL_FOLDS)
    else:
        shares = {name: float(getattr(split, name)) for name in SPLITS}
        chosen = _drawn(split, sources, found | known.stored, shares, known)
    if known.folds and (count := num_folds(chosen.folds)) != (before := num_folds(known.folds)):
        raise DataError(
            f"split.folds: the store has {before} folds, and the dataset file gives {count or 'none'}; allowed: "
            f"{before}, or a new folder"
        )
    gone = {subject: row for subject, row in known.folds.items() if subject not in chosen.folds}
    return replace(chosen, folds={**chosen.folds, **gone})


def _of_sources(split: Split, sources: Sequence[VolumeFiles], known: Known, given: Mapping[str, str]) -> ChosenSplits:
    """Where the sources give splits, they rule; see `given.shares_beside` for those that they do not name."""
    found = {source.key.subject for source in sources}
    refuse_useless_keys(split, names_all=found <= given.keys())
    folds = {source.key.subject: source.folds for source in sources if source.folds}
    if folds:
        names = sorted(folds)
        rows = [{name: folds[name][number] for name in names} for number in range(num_folds(folds))]
        return _of_rows(rows, known, "the sources", in_folds=True)
    shares = shares_beside(split, given)
    free = (found | known.stored) - given.keys()
    # Whoever was drawn into what is now the test set of the layout is drawn anew.
    kept = {name: known.splits[name] for name in free & known.splits.keys()
            if name not in found or shares[known.splits[name]] > 0}  # fmt: skip
    if not sum(shares.values()):
        drawn = ChosenSplits(kept)
    else:
        others = replace(known, splits=kept, folds={name: row for name, row in known.folds.items() if name in kept})
        drawn = _drawn(split, sources, free, shares, others, beside=given)
    count = num_folds(drawn.folds)
    in_folds = {**drawn.folds, **({name: (one,) * count for name, one in given.items()} if count else {})}
    split_of = dict(sorted({**drawn.split_of, **given}.items()))
    moved = moved_note({name: known.splits[name] for name in known.stored}, split_of)
    notes = [f"the sources move{note.removeprefix('split.file moves')}" for note in moved]
    return ChosenSplits(split_of, in_folds, (*notes, *drawn.notes), drawn.balance)


def _of_rows(rows: Sequence[Mapping[str, str]], known: Known, who: str, *, in_folds: bool) -> ChosenSplits:
    """The splits of a file or of the sources, of one fold or of each; absent subjects keep theirs."""
    split_of = {**{name: known.splits[name] for name in known.stored if name not in rows[0]}, **rows[0]}
    if who == "split.file":
        split_of = dict(rows[0])
    moved = moved_note({name: known.splits[name] for name in known.stored}, split_of)
    notes = [f"{who} {'moves' if who == 'split.file' else 'move'}{note.removeprefix('split.file moves')}"
             for note in moved]  # fmt: skip
    folds = {name: tuple(row[name] for row in rows) for name in rows[0]} if in_folds else {}
    if in_folds:
        absent = {name: (known.splits[name],) * len(rows) for name in known.stored - folds.keys()}
        folds |= {name: known.folds.get(name, row) for name, row in absent.items()}
    other = sorted(name for name in known.folds if name in folds and known.folds[name] != folds[name])
    if other and not moved:
        notes.append(
            f"{who} {'moves' if who == 'split.file' else 'move'} stored subjects to another fold: "
            f"{listed(other, _SHOWN)}; runs of a fold made before saw them in the old one"
        )
    return ChosenSplits(dict(sorted(split_of.items())), folds, tuple(notes))


def _drawn(
    split: Split,
    sources: Sequence[VolumeFiles],
    free: Collection[str],
    shares: Mapping[str, float],
    known: Known,
    beside: Mapping[str, str] | None = None,
) -> ChosenSplits:
    """The draw of `free`, of whom those that the store knows stay.

    Args:
        beside: subject -> split of those that are given and not drawn.
    """
    if not split.is_balanced:
        drawn = split_by_fractions(free, shares, split.seed, known.splits)
        return ChosenSplits(drawn, notes=() if beside else tuple(kept_note(known.splits, drawn, shares)))
    parts = _parts(split, shares)
    kept, not_in = _places(split, free, known)
    asked = _asked(split, sources, known, len(parts))
    classes = {name: [one.class_of[name] for one in asked.strata] for name in free
               if all(name in one.class_of for one in asked.strata)}  # fmt: skip
    group_of = None if asked.group is None else asked.group[1]
    units = units_of(set(free) - kept.keys(), group_of, [*parts], kept, not_in)
    part_of = balanced_draw(units, parts, classes, split.seed, kept)
    if split.folds is not None:
        _refuse_empty_folds(split, part_of, parts, group_of)
    shown = {**part_of, **{name: one for name, one in (beside or {}).items() if one == TEST}}
    columns = [part for part in parts if parts[part] > 0 or part in shown.values()]
    notes = (*asked.notes, *share_note(part_of, parts, asked.group))
    table = balance_table(shown, columns, asked.strata, asked.group)
    if split.folds is None:
        return ChosenSplits(part_of, notes=notes, balance=table)
    rows = {name: _row(part, split.folds) for name, part in part_of.items()}
    return ChosenSplits({name: row[0] for name, row in rows.items()}, rows, notes, table)


@dataclass(frozen=True)
class _Asked:
    """What `split.stratify` and `split.group` ask for."""

    strata: tuple[Stratum, ...]
    group: Grouped | None
    notes: tuple[str, ...]


def _asked(split: Split, sources: Sequence[VolumeFiles], known: Known, num_parts: int) -> _Asked:
    notes: list[str] = []
    strata = []
    for name in split.stratify:
        values, found = covariate_values("split.stratify", name, sources, alike=False)
        strata.append(stratum(name, _with_stored(values, name, known), num_parts))
        notes += [*found, *strata[-1].notes]
    if split.group is None:
        return _Asked(tuple(strata), None, tuple(notes))
    values, found = covariate_values("split.group", split.group, sources, alike=True)
    return _Asked(tuple(strata), (split.group, _with_stored(values, split.group, known)), (*notes, *found))


def _with_stored(values: Mapping[str, str | None], name: str, known: Known) -> dict[str, str | None]:
    """Values of a covariate, of stored subjects that the sources lack too, where the store keeps it."""
    return {subject: of[name] for subject, of in known.covariates.items() if name in of} | dict(values)


def _parts(split: Split, shares: Mapping[str, float]) -> dict[Part, float]:
    """What subjects are drawn into: the splits, or test and the folds, and the share of each."""
    if split.folds is None:
        return dict(shares)
    test, each = shares[TEST], (1 - shares[TEST]) / split.folds
    return {str(number): each for number in range(split.folds)} | {TEST: test}


def _places(split: Split, free: Collection[str], known: Known) -> tuple[dict[str, Part], dict[str, list[Part]]]:
    """(subject -> part where it stays, subject -> parts that it must not enter), of those that the store knows.

    In a store without folds val becomes fold 0, and the others stay out of it, so that nobody changes the split.
    """
    before = {name: one for name, one in known.splits.items() if name in free}
    if split.folds is None:
        return before, {}
    if known.folds and num_folds(known.folds) != split.folds:
        raise DataError(
            f"split.folds: found {split.folds}, but the store has {num_folds(known.folds)} folds; allowed: "
            f"{num_folds(known.folds)}, or a new folder"
        )
    kept = {name: _part(name, known.folds[name]) for name in before if name in known.folds}
    kept |= {name: TEST if one == TEST else "0" for name, one in before.items()
             if name not in kept and one != "train"}  # fmt: skip
    return kept, {name: [TEST, "0"] for name in before if name not in kept}


def _part(subject: str, row: Sequence[str]) -> Part:
    """The part of a row of folds that a draw made."""
    if set(row) == {TEST}:
        return TEST
    if TEST in row or row.count("val") != 1:
        raise DataError(
            f"split.folds: the folds of the stored subject {subject} are from a file ({', '.join(row)}) and cannot be "
            "drawn on; keep that file, or prepare into a new folder"
        )
    return str(row.index("val"))


def _row(part: Part, count: int) -> tuple[str, ...]:
    if part == TEST:
        return (TEST,) * count
    return tuple("val" if str(number) == part else "train" for number in range(count))


def _refuse_empty_folds(
    split: Split, part_of: Mapping[str, Part], parts: Mapping[Part, float], group_of: Mapping[str, str | None] | None
) -> None:
    """Refuse more folds than there are subjects or groups for them and for test."""
    outside = {name: part for name, part in part_of.items() if part != TEST}
    if {part for part, share in parts.items() if share > 0} <= set(part_of.values()):
        return
    units = len({(True, one) if (one := (group_of or {}).get(name)) else (False, name) for name in outside})
    units -= parts[TEST] > 0 and len(outside) == len(part_of)  # one of them would go to test, which is still empty
    what = "subjects" if group_of is None else f"groups of {split.group}"
    allowed = f"2 to {units}" if units > 2 else "2" if units == 2 else "no folds with so few"
    raise DataError(f"split.folds: found {split.folds}, but outside test there are {units} {what}; allowed: {allowed}")
