"""Classes of covariates: values as they are, quarters of numbers, and what is missing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam2ft.data.splits.strata import MISSING, MOST_CATEGORIES, stratum


def named(texts: list[str | None]) -> dict[str, str | None]:
    return {f"s{number:03d}": text for number, text in enumerate(texts)}


@pytest.mark.parametrize(
    ("texts", "classes"),
    [
        (["M", "F", "M"], ("F", "M")),
        (["10", "9", "2", "10"], ("2", "9", "10")),
        (["1", "a", "10"], ("1", "10", "a")),
        (["x", None], ("x", MISSING)),
        ([None, None], (MISSING,)),
        ([*"123456789", "ten"], (*"123456789", "ten")),
    ],
)
def test_values_are_classes_in_their_order_and_missing_ones_the_last(
    texts: list[str | None], classes: tuple[str, ...]
) -> None:
    found = stratum("age", named(texts), 2)
    assert found.classes == classes
    assert set(found.class_of.values()) == {*classes}


@given(st.lists(st.integers(0, 5000), min_size=MOST_CATEGORIES + 1, max_size=200, unique=True))
def test_numbers_with_many_values_are_quarters_that_differ_by_one_subject(numbers: list[int]) -> None:
    found = stratum("age", named([f"{one / 10:g}" for one in numbers]), 2)
    sizes = [list(found.class_of.values()).count(name) for name in found.classes]
    assert len(sizes) == 4
    assert max(sizes) - min(sizes) <= 1
    ordered = sorted(found.class_of, key=lambda name: numbers[int(name[1:])])
    places = [found.classes.index(found.class_of[name]) for name in ordered]
    assert places == sorted(places)


@pytest.mark.parametrize("texts", [["1,5", "2,5"] * 3, ["1e3", "-2.5", ".5"], ["61", "61.5", "70"]])
def test_numbers_are_read_with_point_or_comma(texts: list[str]) -> None:
    many = [*texts, *(f"{n}" for n in range(20, 30))]
    assert len(stratum("age", named(many), 2).classes) == 4  # type: ignore[arg-type]


def test_equal_numbers_are_in_one_class() -> None:
    texts: list[str | None] = ["0"] * 30 + [str(n) for n in range(1, 12)]
    found = stratum("age", named(texts), 2)
    assert len({found.class_of[f"s{n:03d}"] for n in range(30)}) == 1


def test_classes_that_are_too_small_to_balance_are_noted() -> None:
    (note,) = stratum("name", named([f"n{n}" for n in range(9)]), 3).notes
    assert note.startswith("split.stratify: name has 9 values, 9 of them in fewer subjects than there are parts (3)")
    assert not stratum("sex", named(["M", "F"] * 6), 3).notes
