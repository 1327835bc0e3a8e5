import pytest

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
