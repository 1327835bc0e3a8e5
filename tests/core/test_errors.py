import argparse

import pytest

from sam2ft.core.command import whole_number
from sam2ft.core.errors import (
    CheckpointError,
    ClaimedError,
    ConfigError,
    DataError,
    DiskError,
    IncompleteError,
    Problem,
    ProblemsError,
    StopRequestedError,
    exit_code_of,
    number_of,
    printable,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (DataError("x"), 2),
        (CheckpointError("x"), 2),
        (IncompleteError("x"), 3),
        (DiskError("x"), 4),
        (ClaimedError("x"), 1),
        (StopRequestedError("x"), 143),
        (KeyboardInterrupt(), 130),
        (RuntimeError("a defect"), 1),
    ],
)
def test_every_kind_of_error_has_its_exit_code(error, code):
    assert exit_code_of(error) == code


def test_a_stop_inside_an_allocation_is_to_be_continued():
    assert exit_code_of(StopRequestedError("x"), in_allocation=True) == 75


def test_all_problems_of_a_file_are_one_message_with_place_and_key():
    problems = [
        Problem("a.yaml:3", "module.optimizer.lr", "found 'fast', allowed: a number > 0"),
        Problem("a.yaml", "", "is empty"),
    ]
    error = ProblemsError(problems)
    assert str(error) == "a.yaml:3: module.optimizer.lr: found 'fast', allowed: a number > 0\na.yaml: is empty"
    assert error.problems == tuple(problems)


@pytest.mark.parametrize(("count", "text"), [(0, "0 slices"), (1, "1 slice"), (2, "2 slices"), (1000, "1000 slices")])
def test_a_count_has_its_noun_in_the_right_number(count: int, text: str) -> None:
    assert number_of(count, "slice") == text


@pytest.mark.parametrize("text", ["a\x1b[31mb", "a\rb", "a\x07b", "a\u202eb"])
def test_nothing_that_steers_a_terminal_is_printable(text: str) -> None:
    assert printable(text).isprintable()
    assert printable("Müller µm ×") == "Müller µm ×"


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "x", "", "1e3"])
def test_an_option_that_counts_takes_whole_numbers_from_one(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="a whole number of 1 or more"):
        whole_number(text)
    assert [whole_number(one) for one in ("1", "12")] == [1, 12]
