"""The balanced draw: balance, stability under growth, independence of order, groups that stay together."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from sam2ft.data.splits.draw import Unit, balanced_draw

THIRDS = ({"train": 0.7, "val": 0.15, "test": 0.15}, {"train": 0.6, "val": 0.2, "test": 0.2}, {"train": 1, "test": 1})


def alone(names: list[str], parts: dict[str, float]) -> list[Unit]:
    return [Unit(name, (name,), frozenset(parts)) for name in names]


def spread(counts: Counter[str], parts: dict[str, float]) -> int:
    numbers = [counts[part] for part in parts]
    return max(numbers) - min(numbers)


def cohort(size: int, num_classes: int, seed: int) -> tuple[list[str], dict[str, list[str]]]:
    rng = np.random.default_rng(seed)
    names = [f"s{number:03d}" for number in range(size)]
    return names, {name: [str(rng.integers(num_classes))] for name in names}


@given(size=st.integers(2, 90), num_folds=st.integers(2, 10), num_classes=st.integers(1, 8), seed=st.integers(0, 99))
def test_folds_differ_by_at_most_one_subject_in_total_and_in_every_class(
    size: int, num_folds: int, num_classes: int, seed: int
) -> None:
    names, classes = cohort(size, num_classes, seed)
    parts = {str(number): 1 / num_folds for number in range(num_folds)}
    drawn = balanced_draw(alone(names, parts), parts, classes, seed, {})
    assert drawn.keys() == {*names}
    assert spread(Counter(drawn.values()), parts) <= 1
    for one in {classes[name][0] for name in names}:
        assert spread(Counter(drawn[name] for name in names if classes[name] == [one]), parts) <= 1


@given(st.integers(10, 150), st.integers(1, 8), st.integers(0, 99), st.sampled_from(THIRDS))
def test_shares_are_met_within_two_subjects_in_total_and_in_every_class(
    size: int, num_classes: int, seed: int, shares: dict[str, float]
) -> None:
    names, classes = cohort(size, num_classes, seed)
    drawn = balanced_draw(alone(names, shares), shares, classes, seed, {})
    for members in (names, *([n for n in names if classes[n] == [str(one)]] for one in range(num_classes))):
        found = Counter(drawn[name] for name in members)
        for part, share in shares.items():
            assert abs(found[part] - len(members) * share / sum(shares.values())) < 2


@pytest.mark.parametrize("seed", range(20))
def test_folds_are_as_even_as_those_of_scikit_learn(seed: int) -> None:
    names, classes = cohort(61, 4, seed)
    parts = {str(number): 0.2 for number in range(5)}
    ours = balanced_draw(alone(names, parts), parts, classes, seed, {})
    labels = [classes[name][0] for name in names]
    theirs = StratifiedKFold(5, shuffle=True, random_state=seed).split(names, labels)
    their_fold = {names[i]: str(number) for number, (_, chosen) in enumerate(theirs) for i in chosen}

    def worst(fold_of: dict[str, str]) -> int:
        return max(spread(Counter(fold_of[n] for n in names if classes[n] == [one]), parts) for one in {*labels})

    assert worst(ours) <= worst(their_fold)
    assert spread(Counter(ours.values()), parts) <= spread(Counter(their_fold.values()), parts)


@pytest.mark.parametrize("seed", range(30))
def test_several_strata_are_balanced_each_and_together(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = [f"s{number:03d}" for number in range(int(rng.integers(30, 150)))]
    classes = {name: [str(rng.integers(count)) for count in (3, 2, 4)] for name in names}
    parts = {str(number): 0.17 for number in range(5)} | {"test": 0.15}
    drawn = balanced_draw(alone(names, parts), parts, classes, seed, {})
    folds = {part: share for part, share in parts.items() if part != "test"}
    assert spread(Counter(drawn.values()), folds) <= 2
    for place in range(3):
        for one in {row[place] for row in classes.values()}:
            assert spread(Counter(drawn[n] for n in names if classes[n][place] == one), folds) <= 3


@pytest.mark.parametrize("seed", range(10))
def test_the_draw_knows_no_order_and_another_seed_gives_another_one(seed: int) -> None:
    names, classes = cohort(40, 3, seed)
    parts = {str(number): 0.2 for number in range(5)}
    drawn = balanced_draw(alone(names, parts), parts, classes, seed, {})
    assert drawn == balanced_draw(alone(names[::-1], parts), parts, dict(reversed(classes.items())), seed, {})
    assert drawn != balanced_draw(alone(names, parts), parts, classes, seed + 1, {})


@pytest.mark.parametrize("steps", [(1, 1, 1, 1, 1, 10, 30), (40, 3, 7, 1), (12, 12, 12)])
@pytest.mark.parametrize("shares", THIRDS)
def test_growing_a_cohort_moves_nobody_and_stays_balanced(steps: tuple[int, ...], shares: dict[str, float]) -> None:
    for seed in range(10):
        names, classes = cohort(sum(steps), 3, seed)
        drawn: dict[str, str] = {}
        for end in np.cumsum(steps):
            before = dict(drawn)
            new = [name for name in names[:end] if name not in before]
            drawn = balanced_draw(alone(new, shares), shares, classes, seed, before)
            assert before.items() <= drawn.items()
        found = Counter(drawn.values())
        for part, share in shares.items():
            assert abs(found[part] - len(names) * share / sum(shares.values())) < 3


@given(st.lists(st.integers(1, 9), min_size=1, max_size=25), st.integers(0, 50))
def test_groups_stay_together_and_no_part_is_empty_while_there_are_groups_enough(sizes: list[int], seed: int) -> None:
    units = [
        Unit(f"g{number}", tuple(f"g{number}-{one}" for one in range(size)), frozenset(THIRDS[0]))
        for number, size in enumerate(sizes)
    ]
    drawn = balanced_draw(units, THIRDS[0], {}, seed, {})
    for unit in units:
        assert len({drawn[name] for name in unit.subjects}) == 1
    assert len(set(drawn.values())) == min(3, len(sizes))


def test_the_largest_group_fills_the_largest_part() -> None:
    sites = {"A": 40, "B": 30, "C": 30}
    units = [Unit(site, tuple(f"{site}{n}" for n in range(size)), frozenset(THIRDS[0])) for site, size in sites.items()]
    drawn = balanced_draw(units, THIRDS[0], {}, 0, {})
    assert Counter(drawn.values()) == {"train": 40, "val": 30, "test": 30}
    assert drawn["A0"] == "train"


def test_a_unit_goes_only_where_it_may_and_a_part_without_a_share_gets_nothing() -> None:
    parts = {"train": 0.5, "val": 0.5, "test": 0.0}
    units = [Unit(name, (name,), frozenset({"val"})) for name in "abc"] + alone([*"defg"], parts)
    drawn = balanced_draw(units, parts, {}, 3, {})
    assert [drawn[name] for name in "abc"] == ["val"] * 3
    assert Counter(drawn.values()) == {"val": 4, "train": 3} or Counter(drawn.values()) == {"val": 3, "train": 4}
    assert "test" not in drawn.values()
