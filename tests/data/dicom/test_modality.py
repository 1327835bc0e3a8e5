"""Facts of a series: modality and burned-in text, defined terms of all slices, and never other text of a header."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sam2ft.data.dicom.modality import MODALITIES, burned_in_fact, modality_fact
from sam2ft.data.dicom.series import read_series

Writer = Callable[..., Path]


@pytest.mark.parametrize("code", ["MR", "CT", "PT"])
def test_a_series_of_one_modality_says_it(tmp_path: Path, write_series: Writer, code: str) -> None:
    def change(header: Any, _z: int) -> None:
        header.Modality = code

    facts = read_series(write_series(tmp_path / "s", change=change)).facts
    assert facts["modality"] == code
    assert code in MODALITIES


@pytest.mark.parametrize(
    "codes", [[], [""], ["MR", "CT"], ["MR", ""], ["DOE^JANE"], ["JANE"], ["OT"], ["['MR', 'CT']"], ["mr"]]
)
def test_what_differs_or_is_no_defined_term_is_not_said(codes: list[str]) -> None:
    assert modality_fact(codes) == {}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["YES", "YES"], {"burned_in": "YES"}),
        (["NO", "YES"], {"burned_in": "YES"}),
        (["", "yes "], {"burned_in": "YES"}),
        (["NO", "NO"], {"burned_in": "NO"}),
        (["NO", ""], {}),
        (["", ""], {}),
        ([], {}),
        (["JANE DOE"], {}),
    ],
)
def test_text_in_pictures_is_yes_where_one_header_says_so_and_no_where_all_do(
    values: list[str], expected: dict[str, str]
) -> None:
    assert burned_in_fact(values) == expected


@pytest.mark.parametrize("value", ["YES", "NO", None])
def test_a_series_says_whether_text_is_in_its_pictures(tmp_path: Path, write_series: Writer, value: str | None) -> None:
    def change(header: Any, _z: int) -> None:
        if value is not None:
            header.BurnedInAnnotation = value

    facts = read_series(write_series(tmp_path / "s", change=change)).facts
    assert facts.get("burned_in") == value
