"""A real but tiny SAM 2 with random weights, and prompts to give it."""

import pytest
import torch

from sam2ft.core.prompts import Prompts
from sam2ft.model.segmenter import FinetunedSAM2, build_untrained

SIDE = 256


@pytest.fixture(scope="session")
def _nano() -> FinetunedSAM2:
    return build_untrained("sam2_nano", image_size=SIDE, seed=3)


@pytest.fixture
def nano(_nano: FinetunedSAM2) -> FinetunedSAM2:
    """The nano with random weights in eval mode, everything trainable; weights must be left as they are."""
    return _nano.eval().requires_grad_(True)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand((3, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def boxes() -> Prompts:
    """Two boxes on slice 0, none on slice 1, three on slice 2."""
    corners = [[20, 30, 90, 100], [50, 50, 60, 58], [0, 0, 255, 255], [100, 10, 140, 200], [7, 200, 99, 250]]
    return Prompts(slice_of_n=torch.tensor([0, 0, 2, 2, 2]), boxes_n4=torch.tensor(corners, dtype=torch.float32))
