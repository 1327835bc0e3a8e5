"""Values that are not finite are found in every type, and a sum that overflows is not taken for one."""

import pytest
import torch

from sam2ft.model.files.digest import non_finite, non_finite_text

TYPES = (
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64),
)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_one_value_that_is_not_finite_is_found_wherever_it_is(dtype: torch.dtype) -> None:
    for place in (0, 7, 23):
        spoilt = torch.ones(24)
        spoilt[place] = torch.nan
        tensors = {"b": torch.ones(24).to(dtype), "a": spoilt.reshape(4, 6).to(dtype), "c": torch.zeros(0, dtype=dtype)}
        assert non_finite(tensors) == ["a"]
        assert non_finite({**tensors, "a": tensors["b"]}) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_a_sum_that_overflows_is_no_value_that_is_not_finite(dtype: torch.dtype) -> None:
    largest = torch.full((8,), torch.finfo(dtype).max, dtype=dtype)
    assert not torch.isfinite(largest.sum())
    opposite = torch.stack([torch.tensor(torch.inf), torch.tensor(-torch.inf)]).to(dtype)
    assert non_finite({"large": largest}) == []
    assert non_finite({"large": largest, "opposite": opposite}) == ["opposite"]


def test_numbers_without_fractions_and_no_tensors_are_finite() -> None:
    assert non_finite({}) == []
    assert non_finite({"n": torch.ones(3, dtype=torch.int64), "b": torch.ones(3, dtype=torch.bool)}) == []


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ("", None),
        ("a", "a holds values that are not finite (NaN or infinite)"),
        ("ab", "a holds values that are not finite (NaN or infinite), as does 1 other tensor"),
        ("cab", "a holds values that are not finite (NaN or infinite), as do 2 other tensors"),
    ],
)
def test_the_text_names_the_first_one_and_counts_the_others(names: str, text: str | None) -> None:
    spoilt = {name: torch.full((2,), torch.inf) for name in names}
    found = non_finite_text({**spoilt, "fine": torch.zeros(2)})
    assert found == text
