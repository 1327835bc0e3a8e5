"""The two kinds of checkpoint files: best.pt, which stock SAM 2 loads as it is, and the resume file.

A resume file is one safetensors file: tensors by name, everything else as tagged JSON in its header, and a sha256 over
both that is checked whenever it is read (bit flips pass silently through safetensors). Nothing of ours is unpickled.
"""

import hashlib
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

from sam2ft.core.errors import CheckpointError
from sam2ft.core.files import remove_partial, replacing, sha256_file
from sam2ft.model.lora import merged
from sam2ft.model.weights import UNREADABLE
from sam2ft.training.checkpoints.nested_state import pack, unpack

RESUME_VERSION = "1"
_RESUME_NAME = re.compile(r"(\d+)\.safetensors")
_log = logging.getLogger(__name__)


# --- best.pt ----------------------------------------------------------------------------------------------------------


def stock_weights(model: nn.Module, replaced: Mapping[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """The state dict under stock SAM 2 names, on the CPU: no `module.` (DDP), no `sam2_model.` (FinetunedSAM2).

    replaced: tensors by the model's own names that are exported instead (the averaged weights of an EMA). Low-rank
    updates are merged into the weights that they belong to, averaged ones where they are averaged.
    """
    bare = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    tensors = merged(bare, {**bare.state_dict(), **(replaced or {})})
    return {name.removeprefix("sam2_model."): _on_cpu(tensor) for name, tensor in tensors.items()}


def save_best(path: Path, weights: Mapping[str, torch.Tensor], info: Mapping[str, Any]) -> str:
    """Write `{"model": weights, "sam2ft": "<json of info>"}` and return the sha256 of the file.

    Loadable with weights_only and by stock `build_sam2`, which reads "model" and ignores the rest.
    """
    content = {"model": dict(weights), "sam2ft": json.dumps(info, allow_nan=False, ensure_ascii=False)}
    # Through a stream: given a path, torch.save writes the file's own (here random) name into the archive.
    with replacing(path) as partial, partial.open("wb") as stream:
        torch.save(content, stream)
    return sha256_file(path)


def read_best(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """(weights, info) of a best.pt. Errors: CheckpointError naming the file and what is wrong with it."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except UNREADABLE as error:
        raise CheckpointError(
            f"{path}: not a readable checkpoint ({(str(error) or type(error).__name__).splitlines()[0]})"
        ) from None
    if not isinstance(content, dict) or "model" not in content or "sam2ft" not in content:
        raise CheckpointError(f'{path}: not a best.pt of sam2ft; expected the entries "model" and "sam2ft"')
    return content["model"], json.loads(content["sam2ft"])


# --- resume files -----------------------------------------------------------------------------------------------------


class Resume(NamedTuple):
    """A resume file that was read and verified."""

    path: Path
    snapshot: dict[str, Any]


def save_resume(path: Path, snapshot: Mapping[str, Any], *, keep: int) -> None:
    """Write a snapshot (nested mappings, lists, numbers, text, tensors), then remove all but the last `keep` files.

    Only files of this and of earlier steps are removed: a later one is damaged (else it would have been resumed from)
    and will be replaced when training passes its step again.
    """
    tensors, text = pack(snapshot)
    tensors = {name: _on_cpu(tensor) for name, tensor in tensors.items()}
    metadata = {"version": RESUME_VERSION, "state": text, "sha256": _digest(tensors, text)}
    with replacing(path) as partial:
        save_file(tensors, partial, metadata)
    until_now = [old for old in resume_files(path.parent) if _step_of(old) <= _step_of(path)]
    for old in until_now[keep:]:
        old.unlink()
    # The run directory has one writer (claim.json), and it is done.
    remove_partial(path.parent)


def read_resume(path: Path) -> dict[str, Any]:
    """The snapshot of one resume file. Errors: CheckpointError for a file that is damaged or of another version."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged ({error})") from None
    if metadata.get("version") != RESUME_VERSION:
        found = metadata.get("version", "none")
        raise CheckpointError(f"{path}: resume file of version {found}, this sam2ft reads version {RESUME_VERSION}")
    text = metadata.get("state", "")
    if _digest(tensors, text) != metadata.get("sha256"):
        raise CheckpointError(f"{path}: damaged (its content does not have the sha256 that it was written with)")
    snapshot: dict[str, Any] = unpack(tensors, text)
    return snapshot


def resume_files(folder: Path) -> list[Path]:
    """The resume files of a checkpoints folder, newest step first."""
    files = [path for path in folder.glob("*.safetensors") if _RESUME_NAME.fullmatch(path.name)]
    return sorted(files, key=_step_of, reverse=True)


def load_newest_resume(folder: Path) -> Resume | None:
    """The newest resume file that verifies, or None when there is none; damaged newer ones are named in a warning.

    Errors: CheckpointError when there are files and none of them verifies.
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
        raise CheckpointError("no resume file can be used, start anew with --fresh: " + "; ".join(damaged))
    return None


def _step_of(path: Path) -> int:
    return int(path.stem)


def _on_cpu(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().contiguous()


def _digest(tensors: Mapping[str, torch.Tensor], text: str) -> str:
    """sha256 over the state's text and each tensor's name, type, shape and bytes, in order of names."""
    digest = hashlib.sha256(f"{len(text)}:{text}".encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"|{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
