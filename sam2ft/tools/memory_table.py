"""Generator of the table of memory in docs/training.md, from model/memory_needs.py.

`python -m sam2ft.tools.memory_table` writes it; `--check` fails when it is not up to date.
"""

from pathlib import Path
from typing import Any

from sam2ft.config.schema.module import Module
from sam2ft.core.command import run_command
from sam2ft.core.generated_files import generate, with_block
from sam2ft.model.memory_needs import BESIDES_GIB, MEASURED, memory_need

DOCUMENT = Path(__file__).parents[2] / "docs" / "training.md"
CARD_GIB = 16e9 / 2**30
"""A card of 16 GB."""
_CONFIGS = {"tiny": "t", "small": "s", "base+": "b+", "large": "l"}
_LORA: dict[str, Any] = {"lora": {"rank": 8}, "trainable": {"prompt_encoder": True, "image_encoder": False}}
ROWS: dict[str, dict[str, Any]] = {
    "all parts": {"trainable": {"prompt_encoder": True}},
    "all parts, activation checkpointing": {"trainable": {"prompt_encoder": True}, "activation_checkpointing": True},
    "LoRA of rank 8 and decoder": _LORA,
    "LoRA of rank 8 and decoder, activation checkpointing": {**_LORA, "activation_checkpointing": True},
    "decoder only": {"trainable": {"prompt_encoder": True, "image_encoder": False}},
}
"""What trains -> its keys of `module:`."""


def counted_gib(size: str, keys: dict[str, Any], slices: int = 1) -> float:
    """GiB of a step with 8 instances per slice at 1024 px in bfloat16 with AdamW, without what is not counted."""
    module = {
        "sam2_model_cfg": f"configs/sam2.1/sam2.1_hiera_{_CONFIGS[size]}.yaml",
        "prompts": {"max_instances_per_slice": 8},
        **keys,
    }
    need = memory_need(Module.model_validate(module), slices)
    assert need is not None, "every size was measured"
    return need.counted_gib


def memory_lines() -> list[str]:
    """The table and what it says about small cards."""
    lines = [f"| GiB at batch 1 | {' | '.join(MEASURED)} |", "|---|" + "---|" * len(MEASURED)]
    lines += [_row(name, [counted_gib(size, keys) for size in MEASURED]) for name, keys in ROWS.items()]
    more = [counted_gib(size, ROWS["all parts"], 2) - counted_gib(size, ROWS["all parts"]) for size in MEASURED]
    lines.append(_row("each further slice of a batch with 8 instances, all parts", more))
    most = max(counted_gib(size, keys) for size in MEASURED for keys in ROWS.values()) + BESIDES_GIB
    if most <= CARD_GIB:
        lines += ["", "All fit a 16 GB card at batch 1."]
    return lines


def _row(name: str, values: list[float]) -> str:
    return f"| {name} | {' | '.join(f'{value:.1f}' for value in values)} |"


def memory_page() -> str:
    """The up-to-date text of docs/training.md."""
    return with_block(DOCUMENT.read_text("utf-8"), "memory", memory_lines())


def main() -> None:
    generate({DOCUMENT: memory_page()}, __doc__)


if __name__ == "__main__":
    run_command(main)
