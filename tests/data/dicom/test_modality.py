"""The modality of a series: a defined term that all slices have, and never other text of a header."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sam2ft.data.dicom.modality import MODALITIES, modality_fact
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
