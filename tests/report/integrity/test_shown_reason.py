"""Reasons of refusals on the page: without folders, and with nothing like a name where subjects have none."""

import pytest

from sam2ft.report.integrity.write import shown_reason

MISSING = "/raw/Mia Doe/t1: no such file or folder; there is Mia Doe 2.nii.gz"


@pytest.mark.parametrize(
    ("reason", "as_given", "hashed"),
    [
        (MISSING, "no such file or folder; there is Mia Doe 2.nii.gz", "no such file or folder"),
        ("a.nii.gz: has 3 dimensions, 2 are allowed", "has 3 dimensions, 2 are allowed", "has 3 dimensions, 2 are"),
        ("a: no series in raw/Mia Doe/t1, found x", "no series in Mia Doe/t1, found x", "(the rest names files"),
        ("a: EchoTime is 'Mia'; allowed: a number", "EchoTime is 'Mia'; allowed: a number", "(the rest names files"),
        ("a: it (Mia.nii) is damaged", "it (Mia.nii) is damaged", "it (the rest names files"),
    ],
)
def test_folders_are_left_out_and_names_where_subjects_have_none(reason: str, as_given: str, hashed: str) -> None:
    shown = shown_reason(reason, hashed=True)
    assert hashed in shown
    assert "Mia" not in shown
    assert "raw" not in shown_reason(reason, hashed=False)
    if "Doe/t1," not in reason:
        assert shown_reason(reason, hashed=False) == as_given
