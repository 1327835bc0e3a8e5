"""Loading of SAM 2 weights (.pt, .safetensors) into the model: strict check of every key; files/ reads them."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from torch import Tensor, nn

from sam2ft.config.schema.model_names import MODELS
from sam2ft.core.errors import CheckpointError, listed
from sam2ft.core.files import read_json, sha256_file
from sam2ft.model.checkpoint_layouts import SHOWN_KEYS
from sam2ft.model.files.read import read_weight_file

logger = logging.getLogger(__name__)

_META = "https://dl.fbaipublicfiles.com/segment_anything_2"


@dataclass(frozen=True)
class OfficialWeights:
    """A checkpoint published by Meta."""

    config: str
    """Name of its stock model configuration (`module.sam2_model_cfg`)."""
    url: str

    @property
    def file_name(self) -> str:
        return self.url.rsplit("/", 1)[1]


# facebookresearch/sam2, checkpoints/download_ckpts.sh at 2b90b9f; sizes and digests are recorded at the first download
_DATES = {"sam2": "072824", "sam2.1": "092824"}
OFFICIAL: dict[str, OfficialWeights] = {
    name: OfficialWeights(config, f"{_META}/{_DATES[name.partition('_')[0]]}/{name}.pt")
    for name, config in MODELS.items()
}

# (trunk width, trunk blocks, model width) of a state dict -> model size
_SIZES = {
    (96, 12, 256): "hiera_tiny",
    (96, 16, 256): "hiera_small",
    (112, 24, 256): "hiera_base_plus",
    (144, 48, 256): "hiera_large",
    (16, 7, 128): "nano",
}


def load_weights(sam2_model: nn.Module, path: Path, kept: Path | None = None) -> None:
    """Load the weights of a file into the stock model; the keys must be exactly those of the model.

    Accepts official `.pt` files, `best.pt` of sam2ft (same layout), `.safetensors`, and the layouts that
    layouts.unwrapped finds; then it logs what was removed. 16-bit values are converted to the model's dtype.

    Args:
        kept: folder for converted copies of checkpoints of other programs (files/foreign.read_foreign).

    Raises:
        CheckpointError: with both model sizes, or with the missing and unexpected keys and those of another shape; and
            those of `read_weights`.
    """
    expected = sam2_model.state_dict()
    # A file that is refused leaves nothing behind.
    read = read_weight_file(path, kept, keep=lambda found: weights_difference(found, expected) is None)
    if problem := weights_difference(read.tensors, expected):
        raise CheckpointError(f"{path}: {problem}" + (f"\n  ({read.note})" if read.note else ""))
    sam2_model.load_state_dict(read.tensors)
    if read.note:
        logger.warning("%s: %s", path, read.note)


def read_weights(path: Path, kept: Path | None = None) -> dict[str, Tensor]:
    """The tensors of a checkpoint by stock key, on the CPU. No code in the file is executed.

    Raises:
        CheckpointError: for a file that is missing, damaged, of another model, has an unknown layout or values that are
            not finite.
    """
    return read_weight_file(path, kept).tensors


def read_info(path: Path, kept: Path | None = None) -> dict[str, object]:
    """The metadata that sam2ft stores with the weights in `best.pt`; empty for checkpoints of other programs.

    Raises:
        CheckpointError: as `read_weights`.
    """
    return dict(read_weight_file(path, kept).info)


def weights_difference(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """Why `found` is not a state dict of this model, as text; None when it is."""
    looks_like, built = describe_weights(found), describe_weights(expected)
    if looks_like and built and looks_like != built:
        return f"this looks like {looks_like}, but module.sam2_model_cfg builds {built}"
    misshapen = [
        f"{key} is {tuple(found[key].shape)}, expected {tuple(expected[key].shape)}"
        for key in sorted(found.keys() & expected.keys())
        if found[key].shape != expected[key].shape
    ]
    missing, unexpected = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    lines = [f"{len(keys)} {what}: {listed(keys, SHOWN_KEYS)}" for what, keys in problems.items() if keys]
    if not lines:
        return None
    prefix = _common_prefix(found, expected)
    hint = f"\n  its keys begin with {prefix!r}; save the state dict of the inner model" if prefix else ""
    return "its keys differ from those of the model\n  " + "\n  ".join(lines) + hint


def describe_weights(state: Mapping[str, Tensor]) -> str | None:
    """Name of the model of a state dict (`sam2.1_hiera_base_plus`, `sam2_nano`), or None without a Hiera trunk."""
    patch, embedding = "image_encoder.trunk.patch_embed.proj.weight", "no_mem_embed"
    if patch not in state or embedding not in state:
        return None
    prefix = "image_encoder.trunk.blocks."
    blocks = len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})
    width, model_width = state[patch].shape[0], state[embedding].shape[-1]
    size = _SIZES.get((width, blocks, model_width))
    if size is None:
        return f"a SAM 2 of trunk width {width}, {blocks} blocks and model width {model_width}"
    if size == "nano":
        return "sam2_nano"
    # SAM 2.1 added a spatial embedding for absent objects
    return f"sam2.1_{size}" if "no_obj_embed_spatial" in state else f"sam2_{size}"


def _common_prefix(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """The prefix before the stock keys, when it is the only difference; else None."""
    for key in found:
        for stock in expected:
            if key.endswith("." + stock):
                prefix = key.removesuffix(stock)
                return prefix if {prefix + name for name in expected} <= found.keys() else None
    return None


def nano_weights_path() -> Path:
    """Path of the `sam2_nano` weights in the package."""
    return Path(str(resources.files("sam2ft.model.nano") / "sam2_nano.safetensors"))


def verified_nano_weights() -> Path:
    """Path of the `sam2_nano` weights in the package, which are those that its record names.

    Raises:
        CheckpointError: the installed file is damaged.
    """
    path = nano_weights_path()
    found, recorded = sha256_file(path), read_json(path.with_suffix(".json"))["sha256"]
    if found != recorded:
        raise CheckpointError(
            f"{path}: damaged (sha256 {found[:12]}..., the package came with {recorded[:12]}...); install sam2ft again"
        )
    return path
