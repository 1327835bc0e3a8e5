"""Writing and reading of checkpoint files: best.pt, which stock SAM 2 loads unchanged, and resume files.

A resume file is one safetensors file: tensors by name, all other values as tagged JSON in its header, and a sha256 of
both, which is checked at every read (safetensors does not detect flipped bits). Resume files contain no pickle.
"""

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from sam2ft.core.errors import CheckpointError, DiskError
from sam2ft.core.files import naming_read, read_through, remove_partial, replacing
from sam2ft.core.system.path_errors import of_disk
from sam2ft.model.files.archives import OWN
from sam2ft.model.files.digest import non_finite_text, tensors_digest
from sam2ft.model.files.read import with_digest
from sam2ft.model.lora import merged
from sam2ft.training.checkpoints.nested_state import pack, unpack

RESUME_VERSION = "1"
_RESUME_NAME = re.compile(r"(\d+)\.safetensors")
_log = logging.getLogger(__name__)


# --- best.pt ----------------------------------------------------------------------------------------------------------


def stock_tensors(model: nn.Module, replaced: Mapping[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """The state dict under stock SAM 2 names, on the model's device.

    The names are without `module.` (DDP) and `sam2_model.` (FinetunedSAM2). Low-rank updates are merged into their
    weights, averaged updates where they are averaged.

    Args:
        model: the trained model, also in DistributedDataParallel.
        replaced: tensors by the model's own names to export instead (the averaged weights of an EMA).
    """
    bare = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    tensors = merged(bare, {**bare.state_dict(), **(replaced or {})})
    return {name.removeprefix("sam2_model."): tensor for name, tensor in tensors.items()}


def stock_weights(model: nn.Module, replaced: Mapping[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """`stock_tensors` on the CPU, as best.pt has them."""
    return {name: _on_cpu(tensor) for name, tensor in stock_tensors(model, replaced).items()}


def save_best(path: Path, weights: Mapping[str, torch.Tensor], info: Mapping[str, Any]) -> None:
    """Write `{"model": weights, "sam2ft": "<json of info>"}`; the JSON also holds the digest of all (files/read.py).

    The file loads with weights_only and in stock `build_sam2`, which reads "model" and ignores the rest.

    Raises:
        FloatingPointError: a weight is not finite; the earlier file stays.
    """
    if problem := non_finite_text(weights):
        raise FloatingPointError(f"{path}: not written: {problem}")
    text = json.dumps(with_digest(weights, info), allow_nan=False, ensure_ascii=False)
    content = {"model": dict(weights), OWN: text}
    # Through a stream: given a path, torch.save writes the file's name (random for a partial file) into the archive.
    with replacing(path) as partial, partial.open("wb") as stream:
        torch.save(content, stream)


# --- resume files -----------------------------------------------------------------------------------------------------


class Resume(NamedTuple):
    """A verified resume file and its content."""

    path: Path
    snapshot: dict[str, Any]


def save_resume(path: Path, snapshot: Mapping[str, Any], *, keep: int) -> None:
    """Write a snapshot (nested mappings, lists, numbers, text, tensors), then remove all but the last `keep` files.

    Only files of this and earlier steps are removed: a file of a later step is damaged (otherwise training would have
    resumed from it) and is replaced when training reaches its step again.
    """
    tensors, text = pack(snapshot)
    tensors = {name: _on_cpu(tensor) for name, tensor in tensors.items()}
    metadata = {"version": RESUME_VERSION, "state": text, "sha256": tensors_digest(tensors, text)}
    with replacing(path) as partial:
        save_file(tensors, partial, metadata)
    until_now = [old for old in resume_files(path.parent) if _step_of(old) <= _step_of(path)]
    for old in until_now[keep:]:
        old.unlink()
    # The run directory has one writer (claim.json), which has finished writing at this point.
    remove_partial(path.parent)


def read_resume(path: Path) -> dict[str, Any]:
    """Read and verify the snapshot of one resume file.

    Raises:
        CheckpointError: for a file that is missing, damaged, of another version, or with weights that are not finite.
        DiskError: the file system failed while it was read; nothing is known of the file.
        OSError: it may not be read.
    """
    try:
        read_through(path)
        with naming_read(path), safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except OSError as error:
        if not of_disk(error):
            raise
        raise DiskError(
            f"{path}: {(error.strerror or str(error)).lower()} while it was read, which does not say that it is "
            "damaged; check the file system (`dmesg`, its server), then run the same command again. If this file stays "
            "unreadable, move it away: the training then continues from the one before"
        ) from None
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged ({error})") from None
    if metadata.get("version") != RESUME_VERSION:
        found = metadata.get("version", "none")
        raise CheckpointError(f"{path}: resume file of version {found}, this sam2ft reads version {RESUME_VERSION}")
    text = metadata.get("state", "")
    if tensors_digest(tensors, text) != metadata.get("sha256"):
        raise CheckpointError(f"{path}: damaged (the sha256 of its content differs from the recorded one)")
    snapshot: dict[str, Any] = unpack(tensors, text)
    if problem := non_finite_text(snapshot.get("model") or {}):
        raise CheckpointError(f"{path}: its model cannot be used: {problem}")
    return snapshot


def resume_files(folder: Path) -> list[Path]:
    """The resume files in a checkpoints folder, newest step first."""
    files = [path for path in folder.glob("*.safetensors") if _RESUME_NAME.fullmatch(path.name)]
    return sorted(files, key=_step_of, reverse=True)


def load_newest_resume(folder: Path) -> Resume | None:
    """The newest valid resume file, or None when the folder has none; a warning names each damaged newer file.

    A file that cannot be read now is not damaged: no older one takes its place, and no training starts again.

    Raises:
        CheckpointError: when there are resume files but none is valid.
        DiskError: the file system failed.
    """
    damaged: list[str] = []
    for path in resume_files(folder):
        try:
            snapshot = read_resume(path)
        except CheckpointError as error:
            damaged.append(str(error))
            continue
        for problem in damaged:
            _log.warning("%s; falling back to %s", problem, path.name)
        return Resume(path, snapshot)
    if damaged:
        raise CheckpointError(
            "no resume file is valid; start again with --fresh (launch/train.py) or --force (launch/sweep.py): "
            + "; ".join(damaged)
        )
    return None


def _step_of(path: Path) -> int:
    return int(path.stem)


def _on_cpu(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().contiguous()
