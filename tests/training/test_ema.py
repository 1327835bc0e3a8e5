"""The averages of all tensors at once are those of one after the other, bit for bit."""

import pytest
import torch

from sam2ft.training.ema import WeightAverage


def model_of(dtype: torch.dtype, seed: int) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(1,), (7,), (3, 5), (16, 33), (2, 3, 3, 3), (0, 4), ()]
    weights = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
    weights.append(torch.randn(6, 8, generator=generator).to(dtype).T)  # another layout in memory
    return torch.nn.ParameterList([torch.nn.Parameter(tensor) for tensor in weights])


@pytest.mark.parametrize("decay", [0.999, 0.9, 0.5, 0.1, 1e-4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_step_of_all_averages_is_a_loop_of_lerp(dtype: torch.dtype, decay: float) -> None:
    model = model_of(dtype, 0)
    average = WeightAverage(model, decay)
    expected = [tensor.detach().clone() for tensor in model.parameters()]
    for number in range(1, 6):
        with torch.no_grad():
            for tensor, new in zip(model.parameters(), model_of(dtype, number).parameters(), strict=True):
                tensor.copy_(new)
            for mean, tensor in zip(expected, model.parameters(), strict=True):
                mean.lerp_(tensor, 1 - decay)
        average.update()
    assert all(torch.equal(*pair) for pair in zip(average.tensors.values(), expected, strict=True))


def test_a_weight_that_is_not_finite_shows_in_its_own_average_only() -> None:
    model = model_of(torch.float32, 0)
    average = WeightAverage(model, 0.9)
    with torch.no_grad():
        next(iter(model.parameters())).fill_(float("inf"))
    average.update()
    first, *others = average.tensors.values()
    assert not first.isfinite().any()
    assert all(tensor.isfinite().all() for tensor in others)
