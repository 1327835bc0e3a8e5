"""The one reader of files with weights: best.pt of sam2ft, safetensors, and checkpoints of other programs."""

import json
import logging
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sam2ft.core.errors import CheckpointError
from sam2ft.core.files import canonical_json, naming_read, read_through
from sam2ft.model.checkpoint_layouts import unwrapped
from sam2ft.model.files.archives import DAMAGED, OWN, TorchZip, folder_of, refuse_huge, zip_of
from sam2ft.model.files.convert import state_of, text_line, unreadable, without_state
from sam2ft.model.files.digest import refuse_non_finite, tensors_digest
from sam2ft.model.files.foreign import Keep, read_foreign, refuse_other_download
from sam2ft.model.files.kinds import Format, format_of, model_problem

DIGEST = "weights_sha256"
"""Key of the digest in that metadata."""
# best.pt has a pickle of about 100 bytes a tensor.
_MOST_OWN_PICKLE_BYTES = 2**22
# About 100 bytes a tensor; the library allows 10**8, of which it makes ten times as many bytes in memory.
_MOST_HEADER_BYTES = 2**23

_log = logging.getLogger(__name__)
_told: set[Path] = set()


@dataclass(frozen=True)
class WeightFile:
    """The content of a file with weights."""

    tensors: dict[str, Tensor]
    """By stock name, on the CPU, all values finite."""
    note: str | None = None
    """What was removed to find them; None for stock SAM 2's own layout."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """The metadata of best.pt; empty for files of other programs."""


def read_weight_file(path: Path, kept: Path | None = None, keep: Keep = lambda _: True) -> WeightFile:
    """Read and verify a file with weights. No code in it is executed.

    Args:
        kept: folder for converted copies of checkpoints of other programs (foreign.read_foreign).
        keep: whether a copy is written there, from the tensors; one that is there is used in any case.

    Raises:
        CheckpointError: the file is missing, damaged, something else, of a model that is not SAM 2, or holds values
            that are not finite.
        OSError: it cannot be read now, which says nothing of the file.
    """
    with naming_read(path):
        found = _content(path, kept, keep)
    if problem := model_problem(found.tensors):
        raise CheckpointError(f"{path}: is {problem}")
    refuse_non_finite(path, found.tensors)
    return found


def _content(path: Path, kept: Path | None, keep: Keep) -> WeightFile:
    if format_of(path) is Format.SAFETENSORS:
        return _safetensors(path)
    if holds_own_metadata(path):
        return _own(path)
    return WeightFile(*read_foreign(path, kept, keep))


def with_digest(weights: Mapping[str, Tensor], info: Mapping[str, Any]) -> dict[str, Any]:
    """`info` with the digest of the weights and of the rest of `info`, as best.pt holds it."""
    return {**info, DIGEST: tensors_digest(weights, canonical_json(dict(info)))}


def holds_own_metadata(path: Path) -> bool:
    """Whether a file may be a best.pt: a zip of uncompressed entries with a small pickle that names our metadata."""
    try:
        with zip_of(path) as archive:
            entry = archive.getinfo(f"{folder_of(path, archive.namelist())}data.pkl")
            plain = all(each.compress_type == zipfile.ZIP_STORED for each in archive.infolist())
            return plain and entry.file_size <= _MOST_OWN_PICKLE_BYTES and OWN.encode() in archive.read(entry)
    except CheckpointError:
        return False
    except DAMAGED:
        # The other reader names the damage.
        return False


def own_info(path: Path) -> dict[str, Any]:
    """The metadata of a best.pt without reading its weights, which are not verified; empty for any other file."""
    if format_of(path) is Format.SAFETENSORS or not holds_own_metadata(path):
        return {}
    try:
        with zip_of(path) as archive:
            text = TorchZip(path, archive).content.get(OWN)
            info = json.loads(text) if isinstance(text, str) else None
    except DAMAGED as error:
        raise unreadable(path, error) from None
    return info if isinstance(info, dict) else {}


def _safetensors(path: Path) -> WeightFile:
    with path.open("rb") as stream:
        header = int.from_bytes(stream.read(8), "little")
    if header > _MOST_HEADER_BYTES:
        raise unreadable(path, ValueError(f"its header declares {header} bytes"))
    refuse_other_download(path)
    read_through(path)
    try:
        content = load_file(path)
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path}: not a checkpoint that can be read safely ({text_line(str(error))}); copy or download it again"
        ) from None
    found = unwrapped(content, Tensor)
    if found is None:
        raise without_state(path, content)
    return WeightFile(found.tensors, found.note)


def _own(path: Path) -> WeightFile:
    """A best.pt, verified by its digest."""
    try:
        with zip_of(path) as archive:
            file = TorchZip(path, archive)
            found = state_of(path, file)
            refuse_huge(found.tensors, path.stat().st_size)
            tensors = {name: _tensor(file.array(one), one.dtype) for name, one in found.tensors.items()}
            file.check_others()
            text = file.content.get(OWN)
            info = json.loads(text) if isinstance(text, str) else None
    except DAMAGED as error:
        raise unreadable(path, error) from None
    if not isinstance(info, dict):
        # A file of another program that has the word somewhere.
        return WeightFile(tensors, found.note)
    digest = info.get(DIGEST)
    if digest is None:
        _tell_unverified(path)
    elif digest != tensors_digest(tensors, canonical_json({key: info[key] for key in info if key != DIGEST})):
        raise CheckpointError(
            f"{path}: damaged (the sha256 of its content differs from the recorded one); restore it from a copy, or "
            "train its run again"
        )
    return WeightFile(tensors, found.note, {key: info[key] for key in info if key != DIGEST})


def _tensor(values: Any, dtype: str) -> Tensor:
    """A tensor from an array of unsigned integers of its size."""
    kind: torch.dtype = getattr(torch, dtype)
    if values.size == 0:
        return torch.empty(values.shape, dtype=kind)
    return torch.from_numpy(values.reshape(-1).view("u1")).view(kind).reshape(values.shape)


def _tell_unverified(path: Path) -> None:
    """Say once that a file has no digest."""
    if path.absolute() not in _told:
        _told.add(path.absolute())
        _log.warning("%s: unverified (written by an earlier version of sam2ft, which put no digest in it)", path)
