"""Memory of a training step against sizes of tensors that were counted one configuration at a time."""

import json
import re
from typing import Any

import pytest
import torch
import yaml
from fixtures.experiments import parse_experiment

from sam2ft.config.schema.arguments import REFUSED, known_names
from sam2ft.config.schema.module import Lora, Module
from sam2ft.model.lora import add_low_rank
from sam2ft.model.memory_needs import (
    BESIDES_GIB,
    DECODER_M,
    FULL_PRECISION,
    GIB,
    MEASURED,
    cannot_fit,
    memory_need,
    memory_text,
    memory_warning,
    model_size,
    needed,
    optimizer_copies,
)
from sam2ft.model.segmenter import build_untrained
from sam2ft.tools.memory_table import CARD_GIB, DOCUMENT, memory_page

CONFIGS = {"tiny": "t", "small": "s", "base+": "b+", "large": "l"}
ALL: dict[str, Any] = {"trainable": {"prompt_encoder": True}}
DECODER: dict[str, Any] = {"trainable": {"prompt_encoder": True, "image_encoder": False}}
LORA = DECODER | {"lora": {"rank": 8}}
CHECKPOINTED = {"activation_checkpointing": True}

# Counted with fake tensors on the real models: 1024 px, 8 boxes (32 in the last), AdamW. Activation checkpointing with
# the largest block, which it computes again, added. GiB.
COUNTED = [
    ("tiny", ALL, 2.21), ("tiny", ALL | CHECKPOINTED, 1.09 + 0.27), ("tiny", LORA, 1.88), ("tiny", DECODER, 0.71),
    ("small", ALL, 2.55), ("small", ALL | CHECKPOINTED, 1.21 + 0.27), ("small", LORA, 2.15), ("small", DECODER, 0.73),
    ("base+", ALL, 4.10), ("base+", ALL | CHECKPOINTED, 1.80 + 0.31), ("base+", LORA, 3.31), ("base+", DECODER, 0.86),
    ("large", ALL, 9.21), ("large", ALL | CHECKPOINTED, 4.11 + 0.40), ("large", LORA, 6.84), ("large", DECODER, 1.40),
    ("base+", ALL | {"use_amp": False}, 5.99), ("base+", ALL | {"use_amp": "tf32"}, 5.99),
    ("base+", ALL | {"prompts": {"max_instances_per_slice": 32}}, 5.56),
]  # fmt: skip


def module(size: str, **keys: Any) -> Module:
    config = f"configs/sam2.1/sam2.1_hiera_{CONFIGS[size]}.yaml"
    content = {"sam2_model_cfg": config, "prompts": {"max_instances_per_slice": 8}, **keys}
    return Module.model_validate_json(json.dumps(content))


def gib(size: str, slices: int = 1, **keys: Any) -> float:
    need = memory_need(module(size, **keys), slices)
    assert need is not None
    return need.counted_gib


@pytest.mark.parametrize(("size", "keys", "counted"), COUNTED)
def test_the_arithmetic_gives_what_was_counted(size: str, keys: dict[str, Any], counted: float) -> None:
    assert gib(size, **keys) == pytest.approx(counted, rel=0.02, abs=0.02)


@pytest.mark.parametrize("size", MEASURED)
def test_each_setting_changes_what_it_should(size: str) -> None:
    measured = MEASURED[size]
    millions = 4e6 / GIB
    # one slice more keeps one encoder and one decoder more
    assert gib(size, 3) - gib(size, 2) == pytest.approx(measured.encoder + 0.51)
    # half of the side is a quarter of the pixels; weights stay
    activations = measured.encoder + 0.51
    assert gib(size) - gib(size, image_size=512) == pytest.approx(activations * 3 / 4)
    # an average is one copy of what trains, momentum one instead of two, none without it
    trained = (measured.encoder_m + DECODER_M) * millions
    assert gib(size, ema={}) - gib(size) == pytest.approx(trained)
    assert gib(size) - gib(size, optimizer={"type": "SGD", "momentum": 0.9}) == pytest.approx(trained)
    assert gib(size) - gib(size, optimizer={"type": "SGD"}) == pytest.approx(2 * trained)
    # fp16 needs what bf16 does; float32 keeps its tensors whole
    assert gib(size, use_amp="fp16") == gib(size, use_amp=True) == gib(size)
    assert gib(size, use_amp=False) - gib(size) == pytest.approx(
        measured.encoder * (FULL_PRECISION["encoder"] - 1) + 0.51 * (FULL_PRECISION["decoder"] - 1)
    )
    # rank 16 instead of 8: weights, gradients and two moments of as many parameters again
    more = gib(size, **LORA | {"lora": {"rank": 16}}) - gib(size, **LORA)
    assert more == pytest.approx(8 * measured.lora_m * 4 * millions)


def test_parts_that_train_in_part_count_whole_in_what_is_said_and_not_in_what_is_certain() -> None:
    whole = memory_need(module("large"), 1)
    part = memory_need(module("large", trainable={"image_encoder": {"only": ["trunk.blocks.4[67]"]}}), 1)
    assert whole is not None
    assert part is not None
    assert (part.state, part.activations) == (whole.state, whole.activations)
    # gradients and two moments
    assert part.least == pytest.approx(whole.least - MEASURED["large"].encoder_m * 3 * 4e6)
    beside = memory_need(module("large", lora={}, trainable={"image_encoder": {"only": ["norm"]}}), 1)
    assert beside is not None
    assert beside.state < part.state / 2


@pytest.mark.sam2
def test_parameters_of_tiny_are_those_of_the_model() -> None:
    model, measured = build_untrained("configs/sam2.1/sam2.1_hiera_t.yaml", image_size=256), MEASURED["tiny"]

    def millions(part: torch.nn.Module) -> float:
        return sum(tensor.numel() for tensor in part.parameters()) / 1e6

    sam2 = model.sam2_model
    assert millions(model) == pytest.approx(measured.all_m, abs=0.05)
    assert millions(sam2.image_encoder) == pytest.approx(measured.encoder_m, abs=0.05)
    assert millions(sam2.sam_mask_decoder) + millions(sam2.sam_prompt_encoder) == pytest.approx(DECODER_M, abs=0.05)
    model.requires_grad_(False)
    add_low_rank(model, Lora(rank=8), 0)
    assert millions(model) - measured.all_m == pytest.approx(8 * measured.lora_m, abs=0.05)


@pytest.mark.parametrize("arguments", [{}, {"amsgrad": True}, {"momentum": 0.9}, {"momentum": 0.9, "centered": True}])
@pytest.mark.parametrize("name", sorted(set(known_names("optimizers")) - REFUSED["optimizers"].keys()))
def test_optimizers_keep_what_the_table_says(name: str, arguments: dict[str, Any]) -> None:
    weight = torch.nn.Parameter(torch.ones(64, 64))
    try:
        optimizer = getattr(torch.optim, name)([weight], **arguments)
    except TypeError:
        pytest.skip(f"{name} has no such argument")
    weight.square().sum().backward()
    optimizer.step()
    kept = sum(value.numel() for value in optimizer.state[weight].values() if torch.is_tensor(value)) / weight.numel()
    expected = optimizer_copies(name, arguments)
    # Adafactor factors matrices, not vectors; the others keep a few scalars too.
    assert kept <= expected + 0.01
    assert kept >= expected - 0.01 or name == "Adafactor"


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ("configs/sam2/sam2_hiera_t.yaml", "tiny"), ("configs/sam2.1/sam2.1_hiera_b+.yaml", "base+"),
        ("configs/sam2/sam2_hiera_l.yaml", "large"), ("sam2_nano", None), ("configs/sam2.1/sam2.1_hiera_x.yaml", None),
        ("configs/other_hiera_l.yaml", None),
    ],
)  # fmt: skip
def test_models_that_were_not_measured_get_no_statement(config: str, size: str | None) -> None:
    assert model_size(config) == size


def test_nano_needs_nothing_that_is_said() -> None:
    assert memory_need(Module.model_validate({"sam2_model_cfg": "sam2_nano"}), 64) is None


def experiment(size: str, batch_size: int = 4, **keys: Any) -> Any:
    config = f"configs/sam2.1/sam2.1_hiera_{CONFIGS[size]}.yaml"
    return parse_experiment(
        {
            "experiment": {"name": "x"},
            "dataset": {"toy": {"store": "data/toy"}},
            "module": {"sam2_model_cfg": config, **keys},
            "datamodule": {"batch_size": batch_size, "metric": {"func": {"dice": True}}},
        }
    )


def with_settings(value: Any, text: str) -> Any:
    """The experiment with settings such as `module.grad_accum: 4 and module.ema: null`, checked by the schema."""
    content = value.model_dump(mode="json", exclude_unset=True)
    for setting in re.split(r",? and |, (?=module)", text):
        ((path, entry),) = yaml.safe_load(setting).items()
        *above, key = path.split(".")
        section = content
        for name in above:
            section = section.setdefault(name, {})
        section[key] = entry
    return parse_experiment(content)


@pytest.mark.parametrize("gpu_gib", [3.0, 6.0, 8.0, 10.0, 14.9, 23.5, 39.4])
@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"use_amp": False},
        {"lora": {}, "trainable": {"image_encoder": False}},
        {"activation_checkpointing": True, "grad_accum": 2},
        {"trainable": {"image_encoder": {"only": ["neck"]}, "mask_decoder": False}},
        {"compile": True},
        {"lora": {}, "trainable": {"image_encoder": {"only": ["neck"]}}, "activation_checkpointing": True},
        {"prompts": {"max_instances_per_slice": 500}, "trainable": {"image_encoder": False}},
    ],
)
@pytest.mark.parametrize("size", ["tiny", "large"])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_changes_that_a_warning_names_are_settings_and_make_the_step_fit(
    size: str, batch_size: int, keys: dict[str, Any], gpu_gib: float
) -> None:
    asked, gpu = experiment(size, batch_size, **keys), int(gpu_gib * GIB)
    need = needed(asked)
    assert need is not None
    warning = memory_warning(asked, gpu)
    assert (warning is None) == (need.counted_gib + BESIDES_GIB <= gpu_gib)
    if warning is None or "it fits with" not in warning:
        assert warning is None or "use a smaller model" in warning
        return
    for text, size_text in re.findall(r"(?:with|or with) (.*?) \(about ([\d.]+) GiB\)", warning):
        changed = with_settings(asked, text)
        smaller = needed(changed)
        assert smaller is not None
        assert smaller.total <= gpu
        assert f"{smaller.total / GIB:.1f}" == size_text
        learns = changed.module.lora is not None or changed.module.trainable.image_encoder
        assert learns or not changed.module.activation_checkpointing
        steps = changed.module.grad_accum * changed.datamodule.batch_size
        assert steps == asked.module.grad_accum * asked.datamodule.batch_size


def test_many_prompts_are_what_a_warning_about_them_lowers() -> None:
    """No smaller model and no smaller batch would help."""
    asked = experiment("tiny", 1, prompts={"max_instances_per_slice": 4000}, activation_checkpointing=True)
    warning = memory_warning(asked, int(14.9 * GIB))
    assert warning is not None
    assert "it fits with module.prompts.max_instances_per_slice: 8 (about " in warning


def test_only_what_is_certain_is_called_impossible() -> None:
    asked = experiment("large")
    # weights 224.4 M, and gradients and two moments of the 216.9 M that train (the decoder's 4.2 included)
    least = (224.4 + 3 * 216.9) * 4e6
    assert cannot_fit(asked, int(least * 1.001)) is None
    assert "weights, gradients and AdamW alone need 3.3 GiB, but a GPU here has 3.2 GiB" in str(
        cannot_fit(asked, int(3.2 * GIB))
    )
    assert cannot_fit(experiment("tiny"), 2 * GIB) is None


def test_the_line_names_a_range_and_both_sides() -> None:
    needs = [need for size in ("tiny", "large") if (need := memory_need(module(size), 1))]
    assert memory_text(needs, int(16e9)) == "memory: about 3.7 to 10.7 GiB of 14.9 GiB per GPU"
    assert memory_text(needs[:1], None) == "memory: about 3.7 GiB per GPU"


def test_the_page_has_the_table_and_its_sentence_about_small_cards_is_true() -> None:
    page = DOCUMENT.read_text(encoding="utf-8")
    assert page == memory_page()
    largest = max(gib(size, **keys) for size, keys, _ in COUNTED if "prompts" not in keys and "use_amp" not in keys)
    assert ("All fit a 16 GB card at batch 1." in page) == (largest + BESIDES_GIB <= CARD_GIB)
