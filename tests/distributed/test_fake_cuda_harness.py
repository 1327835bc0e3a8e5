"""The fake GPU itself: it finds planted waits and tensors on different devices, and its backward pass is torch's."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from fixtures import fake_cuda as module
from fixtures.fake_cuda import DEVICE, fake_cuda, moved
from fixtures.graph_walk import backward
from torch import Tensor, nn

WAITS: dict[str, Callable[[Tensor], object]] = {
    "item": lambda values: values.sum().item(),
    "item of a condition": lambda values: bool((values > 0).all()),
    "item of a number": lambda values: float(values[0]),
    "tolist": lambda values: values.tolist(),
    "nonzero": lambda values: values.nonzero(),
    "nonzero of where": lambda values: torch.where(values > 0),
    "boolean index": lambda values: values[values > 0],
    "boolean index written": lambda values: values.clone().index_put_((values > 0,), torch.zeros_like(values)),
    "index from the host": lambda values: values[torch.tensor([0, 2])],
    "equal": lambda values: torch.equal(values, values),
    "unique": lambda values: values.unique(),
    "masked_select": lambda values: values.masked_select(values > 0),
    "repeat_interleave": lambda values: torch.repeat_interleave(values.long()),
    "D2H pageable blocking": lambda values: values.cpu(),
    "D2H pageable queued": lambda values: torch.empty(3).copy_(values, non_blocking=True),
    "H2D pageable blocking": lambda values: values + torch.tensor(1.0, device=values.device),
    "H2D pageable queued": lambda values: torch.zeros(3).to(values.device, non_blocking=True),
    "H2D pinned blocking": lambda values: torch.zeros(3).pin_memory().to(values.device),
    "event": lambda values: torch.cuda.current_stream(values.device).record_event().synchronize(),
    "device": lambda values: torch.cuda.synchronize(values.device),
}
NO_WAITS: dict[str, Callable[[Tensor], object]] = {
    "arithmetic": lambda values: (values * 2 + 1).softmax(0),
    "filled on the device": lambda values: values.new_full((), 3.0),
    "queued from pinned memory": lambda values: torch.zeros(3).pin_memory().to(values.device, non_blocking=True),
    "queued to pinned memory": lambda values: torch.empty(3, pin_memory=True).copy_(values, non_blocking=True),
    "queued to the host": lambda values: values.to("cpu", non_blocking=True),
    "index of the device": lambda values: values[torch.arange(2, device=values.device)],
    "slice": lambda values: values[1:2],
    "a number where a mask is true": lambda values: values.clone().__setitem__(values > 0, 0.0),
    "shape": lambda values: values.numel() + len(values),
    "the host's own value": lambda values: torch.ones(3).sum().item() + torch.ones(3).nonzero().numel(),
}


@pytest.mark.parametrize("name", WAITS)
def test_a_planted_wait_is_recorded_with_its_place(name: str) -> None:
    with fake_cuda() as found:
        values = torch.ones(3).to(DEVICE)
        found.clear()
        WAITS[name](values)
        assert [name.startswith(wait.kind) for wait in found.waits] == [True], found.listed()
        assert "test_fake_cuda_harness.py:" in found.listed()


@pytest.mark.parametrize("name", WAITS)
def test_a_planted_wait_is_recorded_in_inference_mode(name: str) -> None:
    with fake_cuda() as found, torch.inference_mode():
        values = torch.ones(3).to(DEVICE)
        found.clear()
        WAITS[name](values)
        assert sum(found.counts().values()) == 1, found.listed()


@pytest.mark.parametrize("name", NO_WAITS)
def test_what_does_not_wait_is_not_recorded(name: str) -> None:
    with fake_cuda() as found:
        values = torch.ones(3).to(DEVICE)
        found.clear()
        NO_WAITS[name](values)
        assert not found.waits, found.listed()


def test_host_tensors_keep_their_values() -> None:
    with fake_cuda():
        assert (torch.arange(4) * 2).tolist() == [0, 2, 4, 6]
        assert torch.from_numpy(torch.eye(2).numpy()).sum().item() == 2
    assert torch.ones(2).sum().item() == 2


@pytest.mark.parametrize(
    "mixed",
    [
        lambda values: values + torch.zeros(3),
        lambda values: torch.cat([values, torch.zeros(3)]),
        lambda values: F.linear(values, torch.zeros(2, 3)),
        lambda values: torch.stack([values, torch.zeros(3)]),
    ],
)
def test_tensors_on_two_devices_fail(mixed: Callable[[Tensor], Tensor]) -> None:
    with fake_cuda():
        values = torch.ones(3).to(DEVICE)
        with pytest.raises(RuntimeError, match="device"):
            mixed(values)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
def test_autocast_and_the_backward_pass_work(precision: torch.dtype) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    with fake_cuda() as found:
        images = torch.rand(2, 1, 8, 8).pin_memory().to(DEVICE, non_blocking=True)
        moved(model)
        found.clear()
        with torch.autocast("cuda", dtype=precision, enabled=precision != torch.float32):
            result = model(images)
        assert result.dtype == precision
        result.float().sum().backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        assert all(one is not None and one.dtype == torch.float32 and one.device == DEVICE for one in gradients)
        assert not found.waits, found.listed()


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        return values * 2

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        return gradients[0] * 2


def test_the_backward_pass_gives_the_gradients_of_torchs_engine() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.GELU(), nn.Conv2d(4, 2, 3))
    images, scale = torch.rand(3, 1, 9, 9), nn.Parameter(torch.rand(2, 1, 1))
    trained = [*model.parameters(), scale]

    def value() -> Tensor:
        once = model(images)
        first, second = once.split(1, dim=1)  # several results of one node, one of them used twice
        return (_Doubled.apply(once) * scale + once).sum() + (first * second).mean() + (first**2).sum()

    value().backward()
    wanted = [tensor.grad for tensor in trained]
    for tensor in trained:
        tensor.grad = None
    for _ in range(2):  # accumulated in the second
        backward(value())
    for tensor, gradient in zip(trained, wanted, strict=True):
        torch.testing.assert_close(tensor.grad, None if gradient is None else 2 * gradient)


def test_an_unknown_version_of_torch_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "9.9.0")
    with pytest.raises(pytest.skip.Exception, match=r"known to work with torch .*; this is 9\.9\.0"), fake_cuda():
        pass
    monkeypatch.setattr(torch, "__version__", f"{module.KNOWN_VERSIONS[0]}.7+cu999")
    module.skip_unknown_torch()


def test_everything_is_put_back() -> None:
    before = (torch.autograd.grad, torch.cuda.synchronize, torch.cuda.current_stream)
    with fake_cuda():
        assert torch.autograd.grad is not before[0]
    assert (torch.autograd.grad, torch.cuda.synchronize, torch.cuda.current_stream) == before
