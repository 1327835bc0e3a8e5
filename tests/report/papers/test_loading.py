"""The lines of a model card that load a checkpoint run as they stand, with sam2ft and with stock SAM 2 alone."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.experiments import parse_experiment

from sam2ft.config.schema.dataset import Intensity
from sam2ft.config.schema.module import Lora
from sam2ft.data.store.intensity import intensity_window
from sam2ft.model.lora import add_low_rank, is_low_rank
from sam2ft.model.segmenter import build_untrained
from sam2ft.report.comparison.compare import Comparison, ComparisonRow, PointRun
from sam2ft.report.papers.model_card import model_card, window_code
from sam2ft.report.papers.study import DatasetFacts, Study
from sam2ft.training.checkpoints.checkpoint import save_best, stock_weights

TINY, TINY_2_0 = "configs/sam2.1/sam2.1_hiera_t.yaml", "configs/sam2/sam2_hiera_t.yaml"
SIZES = {"train": 6, "val": 2, "test": 4}


def card(model: str, image_size: int, window=None, initial: str | None = None) -> str:
    """The model card of a trained point, or of the initial weights in the file `initial`."""
    experiment = parse_experiment(
        {
            "experiment": {"name": "knee"},
            "dataset": {"oai": {"store": "data/oai"}},
            "module": {"sam2_model_cfg": model, "image_size": image_size, "sam2_checkpoint": "w.pt"},
        }
    )
    data = DatasetFacts("oai", "knee", ("bone",), SIZES, SIZES, SIZES, None, None, 42, window=window or {})
    point = PointRun(None, "baseline", "run") if initial else PointRun(0, "point", "run")
    comparison = Comparison((ComparisonRow(point),), None if initial else "run", "lowest val_loss")
    return model_card(
        Study("knee", experiment, (data,), comparison, "run", weights_name=initial), [], None if initial else "b" * 64
    )


def blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def run(block: str) -> np.ndarray:
    names: dict[str, object] = {}
    exec(block, names)
    mask = names["mask_yx"]
    assert isinstance(mask, np.ndarray)
    return mask


@pytest.fixture
def with_weights(in_empty_folder):
    def make(model: str, image_size: int, *, low_rank: bool = False, name: str = "best.pt") -> None:
        """A volume, and weights as a training writes them."""
        made = build_untrained(model, image_size=image_size, seed=5)
        if low_rank:
            made.requires_grad_(False)
            add_low_rank(made, Lora(rank=2), seed=1)
            with torch.no_grad():
                for key, tensor in made.named_parameters():
                    if is_low_rank(key):
                        tensor.normal_(std=0.05, generator=torch.Generator().manual_seed(len(key)))
        save_best(Path(name), stock_weights(made), {})
        np.save("volume.npy", np.random.default_rng(1).gamma(2, 100, (3, 50, 70)))

    return make


@pytest.mark.parametrize(("model", "low_rank"), [(TINY, False), (TINY_2_0, False), (TINY, True)])
def test_both_ways_of_loading_give_the_same_mask(with_weights, model, low_rank):
    with_weights(model, 256, low_rank=low_rank)
    found = blocks(card(model, 256, {"clip_percentiles": (0.5, 99.5)}))
    ours, stock = (run(block) for block in found)
    assert "sam2ft" not in "".join(line for line in found[1].splitlines() if "import" in line)
    assert ours.shape == stock.shape == (50, 70)
    assert 0 < ours.sum() < ours.size
    # Rounding at the threshold: the two resize in another order.
    assert (ours != stock).mean() < 0.002


def test_initial_weights_are_loaded_from_their_own_file(with_weights):
    with_weights(TINY, 256, name="sam2.1_hiera_tiny.pt")
    text = card(TINY, 256, {"window": (0.0, 400.0)}, initial="sam2.1_hiera_tiny.pt")
    assert "best.pt" not in text
    ours, stock = (run(block) for block in blocks(text))
    assert (ours != stock).mean() < 0.002


def test_stock_sam2_is_not_promised_a_file_that_it_cannot_read():
    assert len(blocks(card(TINY, 256, initial="tiny.safetensors"))) == 1
    assert len(blocks(card(TINY, 256, initial='a"b\\.pt'))) == 2


def test_the_nano_is_loaded_with_sam2ft_only(with_weights):
    with_weights("sam2_nano", 256)
    (only,) = blocks(card("sam2_nano", 256, {"window": (0.0, 400.0)}))
    assert run(only).shape == (50, 70)


@pytest.mark.parametrize(
    "given", [{"clip_percentiles": (2.0, 98.0)}, {"zscore": (-2.0, 3.0)}, {"window": (-100.0, 400.0)}]
)
def test_the_window_of_the_card_is_that_of_the_preparation(given):
    volume = np.random.default_rng(2).gamma(2, 100, (4, 20, 20)).astype(np.float32)
    names = {"np": np, "volume_zyx": volume}
    exec(window_code([given]), names)
    expected = intensity_window(volume, Intensity(**given))
    assert (names["low"], names["high"]) == pytest.approx(expected, rel=1e-5)


def test_a_window_that_is_not_known_is_said_to_be_the_default():
    assert window_code([{}]).startswith("# not recorded")
    assert window_code([{"window": (0, 1)}, {"window": (0, 2)}]).startswith("# several rules")
    assert "[0.5, 99.5]" in window_code([{}])
