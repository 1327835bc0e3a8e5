"""Near misses of model names lead to the model that was meant."""

import pytest

from sam2ft.config.schema.arguments import signatures
from sam2ft.config.schema.model_names import model_hint

STOCK = ["sam2_nano", *signatures()["sam2_configs"]]
NAMES = ["sam2_nano", "sam2_hiera_tiny", "sam2.1_hiera_tiny", "sam2.1_hiera_base_plus", "sam2_hiera_large"]


@pytest.mark.parametrize(
    ("given", "config", "name"),
    [
        ("sam2.1_tiny", "sam2.1_hiera_t.yaml", "sam2.1_hiera_tiny"),
        ("sam2.1_t", "sam2.1_hiera_t.yaml", "sam2.1_hiera_tiny"),
        ("tiny", "sam2.1_hiera_t.yaml", "sam2.1_hiera_tiny"),
        ("SAM2.1-Hiera-Tiny", "sam2.1_hiera_t.yaml", "sam2.1_hiera_tiny"),
        ("sam2_tiny", "sam2_hiera_t.yaml", "sam2_hiera_tiny"),
        ("facebook/sam2.1-hiera-base-plus", "sam2.1_hiera_b+.yaml", "sam2.1_hiera_base_plus"),
        ("sam2.1_b+", "sam2.1_hiera_b+.yaml", "sam2.1_hiera_base_plus"),
        ("sam21_base", "sam2.1_hiera_b+.yaml", "sam2.1_hiera_base_plus"),
        ("configs/sam2_hiera_large.yaml", "sam2_hiera_l.yaml", "sam2_hiera_large"),
    ],
)
def test_a_near_miss_names_the_model_that_is_meant(given, config, name):
    assert model_hint(given, STOCK).endswith(f"/{config}?)")
    assert model_hint(given, NAMES) == f" (did you mean {name}?)"


def test_a_file_of_weights_is_no_model_and_its_key_is_named():
    hint = model_hint("weights/sam2.1_hiera_tiny.pt", NAMES)
    assert "belongs under module.sam2_checkpoint; its model may be sam2.1_hiera_tiny" in hint
    assert "its model" not in model_hint("mine.pt", NAMES)


@pytest.mark.parametrize("given", ["resnet50", "", "unet"])
def test_another_model_has_no_hint(given):
    assert model_hint(given, NAMES) == ""


def test_a_typo_of_the_nano_is_still_found():
    assert model_hint("sam2_nono", STOCK) == " (did you mean sam2_nano?)"
