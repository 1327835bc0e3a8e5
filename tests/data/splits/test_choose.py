"""The split and folds of all subjects of a dataset, and the wishes that cannot be met."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sam2ft.config.schema.sources import Split
from sam2ft.core.errors import DataError
from sam2ft.core.keys import VolumeKey
from sam2ft.data.sources.row import VolumeFiles
from sam2ft.data.splits.choose import ChosenSplits, Known, choose_splits

NOBODY = Known(frozenset(), {}, {})


def row(subject: str, volume: str = "image", **more: Any) -> VolumeFiles:
    return VolumeFiles(VolumeKey("t", subject, volume), Path(f"i/{subject}.nii"), Path(f"m/{subject}.nii"), **more)


def cohort(count: int, sites: str = "AB", **more: Any) -> list[VolumeFiles]:
    return [
        row(f"p{n:02d}", site=sites[n % len(sites)], covariates={"family": f"f{n // 3}"}, **more) for n in range(count)
    ]


def chosen(rows: list[VolumeFiles], known: Known = NOBODY, **split: Any) -> ChosenSplits:
    return choose_splits(Split(**split), rows, known, list)


def known(before: ChosenSplits, covariates: Mapping[str, Mapping[str, str]] | None = None) -> Known:
    return Known(frozenset(before.split_of), before.split_of, before.folds, covariates or {})


@pytest.mark.parametrize(("count", "folds", "test"), [(20, 4, 0.2), (31, 5, 0.15), (7, 2, 0.0), (60, 10, 0.15)])
def test_every_subject_outside_test_is_val_in_one_fold_and_test_is_test_in_all(
    count: int, folds: int, test: float
) -> None:
    found = chosen(cohort(count), folds=folds, test=test)
    assert {len(one) for one in found.folds.values()} == {folds}
    for subject, one in found.folds.items():
        assert one == ("test",) * folds or Counter(one) == {"val": 1, "train": folds - 1}
        assert found.split_of[subject] == one[0]
    sizes = [sum(one[number] == "val" for one in found.folds.values()) for number in range(folds)]
    assert max(sizes) - min(sizes) <= 1
    assert abs(sum(one[0] == "test" for one in found.folds.values()) - count * test) < 2


@pytest.mark.parametrize("split", [{"folds": 3}, {"folds": 3, "stratify": ("site",)}, {"stratify": ("site",)},
                                   {"folds": 3, "group": "family"}, {"group": "family"}])  # fmt: skip
def test_a_stored_subject_keeps_its_place_whoever_comes(split: dict[str, Any]) -> None:
    before = chosen(cohort(12), **split)
    after = chosen(cohort(30), known(before), **split)
    assert before.split_of.items() <= after.split_of.items()
    assert before.folds.items() <= after.folds.items()
    assert after.split_of.keys() == {f"p{n:02d}" for n in range(30)}
    again = chosen(cohort(30)[::-1], known(before), **split)
    assert (again.split_of, again.folds) == (after.split_of, after.folds)


def test_groups_stay_together_with_those_that_come_later_too() -> None:
    before = chosen(cohort(11), folds=3, group="family")
    after = chosen(cohort(33), known(before), folds=3, group="family")
    assert all(len({after.folds[f"p{n:02d}"] for n in range(3 * f, 3 * f + 3)}) == 1 for f in range(11))
    assert after.folds["p11"] == before.folds["p09"]


def test_group_site_leaves_sites_out() -> None:
    found = chosen(cohort(24, sites="ABCD"), folds=3, group="site")
    of_site = {site: {found.folds[f"p{n:02d}"] for n in range(24) if "ABCD"[n % 4] == site} for site in "ABCD"}
    assert all(len(rows) == 1 for rows in of_site.values())
    assert len({one for rows in of_site.values() for one in rows}) == 4


def test_in_a_store_without_folds_val_becomes_fold_0_and_nobody_changes_the_split() -> None:
    before = chosen(cohort(20))
    after = chosen(cohort(26), known(before), folds=4)
    assert before.split_of.items() <= after.split_of.items()
    for subject, split in before.split_of.items():
        assert after.folds[subject][0] == split
    assert {one.index("val") for one in after.folds.values() if "val" in one} == {0, 1, 2, 3}


def test_a_stored_subject_whose_image_is_gone_keeps_its_fold() -> None:
    before = chosen(cohort(12), folds=3)
    after = chosen(cohort(12)[4:], known(before), folds=3)
    assert after.folds == before.folds


def test_without_new_keys_the_draw_is_that_of_earlier_versions() -> None:
    from sam2ft.data.store.split import split_by_fractions

    shares = {"train": 0.7, "val": 0.15, "test": 0.15}
    found = chosen(cohort(17))
    assert found.split_of == split_by_fractions([f"p{n:02d}" for n in range(17)], shares, 42)
    assert (found.folds, found.notes, found.balance) == ({}, (), ())


@pytest.mark.parametrize(
    ("rows", "split", "message"),
    [
        (cohort(6), {"stratify": ("Site",)}, "split.stratify: no volume has Site; allowed: family, site"),
        (cohort(6), {"group": "scanner"}, "split.group: no volume has scanner; allowed: family, site"),
        ([row("a"), row("b")], {"group": "site"}, "allowed: nothing, the sources have no such column"),
        (cohort(4), {"folds": 5}, "found 5, but outside test there are 3 subjects; allowed: 2 to 3"),
        (cohort(9), {"folds": 4, "group": "family"}, "outside test there are 2 groups of family; allowed: 2"),
        (cohort(9, sites="A"), {"folds": 4, "group": "site", "test": 0.0}, "allowed: no folds with so few"),
        ([row("a", "1", site="X"), row("a", "2", site="Y")], {"group": "site"}, "subject a has the values X and Y"),
    ],
)  # fmt: skip
def test_wishes_that_cannot_be_met_are_refused(rows: list[VolumeFiles], split: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message.replace("(", r"\(")):
        chosen(rows, **split)


@pytest.mark.parametrize(("count", "group", "test"), [(5, None, 0.15), (9, "family", 0.15), (4, None, 0.0)])
def test_as_many_folds_as_the_refusal_allows_are_possible(count: int, group: str | None, test: float) -> None:
    with pytest.raises(DataError) as refused:
        chosen(cohort(count), folds=9, group=group, test=test)
    most = int(str(refused.value).split()[-1])
    found = chosen(cohort(count), folds=most, group=group, test=test)
    assert {one.index("val") for one in found.folds.values() if "val" in one} == {*range(most)}
    with pytest.raises(DataError, match="outside test"):
        chosen(cohort(count), folds=most + 1, group=group, test=test)


def test_another_number_of_folds_than_the_store_has_is_refused() -> None:
    before = known(chosen(cohort(12), folds=3))
    with pytest.raises(DataError, match="found 4, but the store has 3 folds; allowed: 3, or a new folder"):
        chosen(cohort(12), before, folds=4)
    with pytest.raises(DataError, match="the store has 3 folds, and the dataset file gives none"):
        chosen(cohort(12), before)


def test_stored_subjects_of_one_group_in_two_splits_are_refused() -> None:
    before = Known(frozenset({"p00", "p01"}), {"p00": "train", "p01": "test"}, {})
    with pytest.raises(DataError, match=r"group f0 are in test \(p01\) and train \(p00\)"):
        chosen(cohort(6), before, group="family")


def test_a_group_that_is_larger_than_a_share_is_noted() -> None:
    rows = [row(f"p{n:02d}", site="A" if n < 14 else f"S{n}") for n in range(20)]
    found = chosen(rows, group="site", train=0.5, val=0.25, test=0.25)
    assert len({found.split_of[f"p{n:02d}"] for n in range(14)}) == 1
    (note,) = found.notes
    assert note.endswith("subjects of one site stay together (the largest, A, has 14 of 20)")


def test_a_missing_value_is_a_class_of_its_own_and_a_group_of_its_own() -> None:
    rows = [row(f"p{n}", covariates={"age": "" if n % 2 else "n/a" if n == 0 else "40"}) for n in range(8)]
    by_class = chosen(rows, folds=2, stratify=("age",), test=0.0)
    assert "split.stratify: no value of age: p0, p1, p3 and 2 more; counted as a class of their own" in by_class.notes
    assert any(line.strip().startswith("age: no value") for line in by_class.balance)
    by_group = chosen(rows, folds=2, group="age", test=0.0)
    assert len({by_group.folds[f"p{n}"] for n in (2, 4, 6)}) == 1
    assert len({by_group.folds[f"p{n}"] for n in (0, 1, 3, 5, 7)}) == 2


def test_beside_a_test_set_of_the_sources_the_others_are_drawn_into_folds() -> None:
    rows = [*cohort(9), *(row(f"t{n}", site="A", split="test") for n in range(3))]
    found = chosen(rows, folds=3, stratify=("site",))
    assert all(found.folds[f"t{n}"] == ("test",) * 3 for n in range(3))
    assert Counter(found.folds[f"p{n:02d}"].index("val") for n in range(9)) == {0: 3, 1: 3, 2: 3}


@pytest.mark.parametrize("key", [{"folds": 3}, {"stratify": ("site",)}, {"group": "site"}, {"file": Path("x.json")}])
def test_a_draw_beside_splits_of_the_sources_would_do_nothing_and_is_refused(key: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=rf"split.{next(iter(key))}: the sources give the split of every subject|too"):
        chosen(cohort(4, split="train"), **key)


def test_folds_of_the_sources_are_taken_and_moves_are_noted() -> None:
    def rows(shift: int) -> list[VolumeFiles]:
        folds = [tuple("val" if (n + shift) % 3 == k else "train" for k in range(3)) for n in range(6)]
        return [row(f"p{n}", split=one[0], folds=one) for n, one in enumerate(folds)]

    first = chosen(rows(0))
    assert first.folds["p1"] == ("train", "val", "train")
    same = chosen(rows(0), known(first))
    assert (same.folds, same.notes) == (first.folds, ())
    moved = chosen(rows(1), known(first))
    assert any("the sources move" in note for note in moved.notes)


def test_the_balance_is_a_table_that_fits_80_columns() -> None:
    found = chosen(cohort(40, sites="ABCDEFGHIJKLMNOPQRSTUVWXYZ"), folds=10, stratify=("site",), group="family")
    assert max(map(len, found.balance)) <= 80
    assert len(found.balance) == 1 + 1 + 13 + 1
    assert sum(map(int, found.balance[1].split()[1:])) == 40
