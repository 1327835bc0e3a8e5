"""Subjects are split once, by name and seed."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam2ft.core.errors import DataError
from sam2ft.data.store.split import SPLITS, kept_note, moved_note, nested_subjects, split_by_fractions, split_from_file

SUBJECTS = [f"s{i:02d}" for i in range(12)]


def sizes(split_of: dict[str, str]) -> tuple[int, ...]:
    return tuple(list(split_of.values()).count(name) for name in ("train", "val", "test"))


@pytest.mark.parametrize(
    ("count", "fractions", "expected"),
    [
        (12, (0.5, 0.17, 0.33), (6, 2, 4)),
        (10, (0.7, 0.15, 0.15), (7, 2, 1)),
        (3, (0.6, 0.2, 0.2), (2, 1, 0)),
        (5, (1.0, 0.0, 0.0), (5, 0, 0)),
        (12, (0.3333, 0.3333, 0.3333), (4, 4, 4)),
    ],
)
def test_sizes_follow_the_largest_remainder(
    count: int, fractions: tuple[float, float, float], expected: tuple[int, ...]
) -> None:
    shares = dict(zip(("train", "val", "test"), fractions, strict=True))
    assert sizes(split_by_fractions(SUBJECTS[:count], shares, seed=1)) == expected


def test_the_order_in_which_subjects_are_found_changes_nothing() -> None:
    shares = {"train": 0.5, "val": 0.25, "test": 0.25}
    assert split_by_fractions(SUBJECTS, shares, 3) == split_by_fractions(reversed(SUBJECTS), shares, 3)


def test_another_seed_gives_another_split() -> None:
    shares = {"train": 0.5, "val": 0.25, "test": 0.25}
    assert len({tuple(split_by_fractions(SUBJECTS, shares, seed).items()) for seed in range(5)}) == 5


@pytest.mark.parametrize(
    ("fractions", "steps"),
    [
        ((0.7, 0.15, 0.15), (1, 1, 1, 1, 1, 5, 10, 20, 40)),
        ((0.6, 0.2, 0.2), (20, 3, 7, 1, 30)),
        ((0.5, 0.0, 0.5), (7, 8, 9, 10)),
        ((0.8, 0.1, 0.1), (50, 50)),
    ],
)
def test_growing_a_cohort_moves_nobody_and_approaches_the_shares(
    fractions: tuple[float, float, float], steps: tuple[int, ...]
) -> None:
    shares = dict(zip(SPLITS, fractions, strict=True))
    for seed in range(50):
        split_of: dict[str, str] = {}
        for step in steps:
            before = dict(split_of)
            subjects = [f"s{i:03d}" for i in range(len(before) + step)]
            split_of = split_by_fractions(subjects, shares, seed, before)
            assert before.items() <= split_of.items()
            assert split_of == split_by_fractions(reversed(subjects), shares, seed, before)
            wanted = sizes(split_by_fractions(subjects, shares, seed))
            assert max(abs(a - b) for a, b in zip(sizes(split_of), wanted, strict=True)) <= 1
        assert ("val" in split_of.values()) is (shares["val"] > 0)


def test_without_kept_subjects_the_draw_is_that_of_earlier_versions() -> None:
    shares = {"train": 0.5, "val": 0.25, "test": 0.25}
    drawn = split_by_fractions(SUBJECTS[:4], shares, 3)
    assert (
        drawn == split_by_fractions(SUBJECTS[:4], shares, 3, {}) == split_by_fractions(SUBJECTS[:4], shares, 3, drawn)
    )
    # A subject that is kept but no longer there has no part in it.
    assert drawn == split_by_fractions(SUBJECTS[:4], shares, 3, {"gone": "test"})


def test_new_subjects_go_where_subjects_are_lacking() -> None:
    # 12 subjects at 0.5/0.25/0.25 are 6/3/3; 10 are in test already.
    kept = dict.fromkeys(SUBJECTS[:10], "test")
    shares = {"train": 0.5, "val": 0.25, "test": 0.25}
    drawn = split_by_fractions(SUBJECTS, shares, 3, kept)
    assert sizes(drawn) == (2, 0, 10)
    (note,) = kept_note(kept, drawn, shares)
    assert note.startswith(
        "train 2, val 0, test 10 subjects; the shares ask for train 6, val 3, test 3: stored subjects keep"
    )
    assert kept_note({}, drawn, shares) == kept_note(kept, split_by_fractions(SUBJECTS, shares, 3), shares) == []


def test_subjects_that_a_file_moves_are_named() -> None:
    kept = {"b": "test", "a": "train", "c": "val"}
    assert moved_note(kept, {"a": "train", "b": "test", "d": "val"}) == []
    (note,) = moved_note(kept, {"a": "val", "b": "train", "d": "val"})
    assert "moves stored subjects: a (train -> val), b (test -> train);" in note


def from_file(tmp_path: Path, content: object, subjects: list[str]) -> dict[str, str]:
    path = tmp_path / "splits.json"
    path.write_text(json.dumps(content))
    return split_from_file(path, subjects)


def test_a_given_split_is_honoured(tmp_path: Path) -> None:
    given_splits = {"train": ["a", "c"], "val": ["b"], "test": ["d"]}
    assert from_file(tmp_path, given_splits, ["d", "c", "b", "a"]) == {
        "a": "train",
        "b": "val",
        "c": "train",
        "d": "test",
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train": ["a", "b"], "test": ["b"]}, "subject b is in two splits, train and test"),
        ({"train": ["a"]}, "in no split: b"),
        ({"train": ["a", "b", "z"]}, "no images were found for z"),
        ({"train": ["a"], "tset": ["b"]}, "unknown split tset; allowed: train, val, test"),
        ({"train": [1, "a", "b"]}, "subject 1 is not text"),
        (["a", "b"], "expected a mapping"),
    ],
)
def test_a_given_split_that_is_wrong_is_refused_with_the_file(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(DataError, match=rf"splits\.json: .*{message}"):
        from_file(tmp_path, content, ["a", "b"])


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 50))
def test_subsets_are_nested(first: int, second: int, seed: int) -> None:
    small, large = sorted((first, second))
    inner, outer = (set(nested_subjects(SUBJECTS, size, seed)) for size in (small, large))
    assert inner <= outer
    assert len(inner) == small


def test_a_subset_may_be_larger_than_what_there_is() -> None:
    assert nested_subjects(SUBJECTS, 99, 0) == tuple(SUBJECTS) == nested_subjects(SUBJECTS, None, 0)


@pytest.mark.parametrize("fold", [0, 1, 2])
def test_a_fold_of_a_list_is_chosen_by_its_number(tmp_path: Path, fold: int) -> None:
    names = ["a", "b", "c"]
    folds = [{"train": [name for name in names if name != one], "val": [one]} for one in names]
    (tmp_path / "splits_final.json").write_text(json.dumps(folds))
    found = split_from_file(tmp_path / "splits_final.json", names, fold=fold)
    assert found == {name: "val" if name == names[fold] else "train" for name in names}
    with pytest.raises(DataError, match=r"split\.fold is 3; choose one with split\.fold: 0 to 2"):
        split_from_file(tmp_path / "splits_final.json", names, fold=3)


def test_a_fold_of_a_file_without_folds_is_refused(tmp_path: Path) -> None:
    (tmp_path / "splits.json").write_text(json.dumps({"train": ["a"], "val": ["b"]}))
    with pytest.raises(DataError, match=r"is no list of folds, and split\.fold is 0; leave split\.fold out"):
        split_from_file(tmp_path / "splits.json", ["a", "b"], fold=0)


@pytest.mark.parametrize("folds", [1, 2, 5])
def test_the_folds_of_nnu_net_are_recognised(tmp_path: Path, folds: int) -> None:
    (tmp_path / "splits_final.json").write_text(json.dumps([{"train": ["a"], "val": ["b"]}] * folds))
    with pytest.raises(DataError, match=rf"splits_final\.json: looks like the {folds} folds of nnU-Net .*choose one"):
        split_from_file(tmp_path / "splits_final.json", ["a", "b"])


def test_a_file_may_name_stored_subjects_whose_images_are_gone(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    path.write_text(json.dumps({"train": ["a", "gone"], "test": ["b"]}))
    assert split_from_file(path, ["a", "b"], ["gone"]) == {"a": "train", "b": "test", "gone": "train"}
    with pytest.raises(DataError, match="no images were found for gone"):
        split_from_file(path, ["a", "b"], ["other"])
