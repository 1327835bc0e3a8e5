"""What a file is that was given as weights: its format by the first bytes, the model by the names of its tensors."""

import re
from collections.abc import Collection
from enum import StrEnum
from pathlib import Path

from sam2ft.core.errors import CheckpointError, listed
from sam2ft.core.given.recognise import OURS, WEIGHTS_SUFFIXES, Kind, kind_of
from sam2ft.core.given.wrong_kind import Wanted, there_is, wrong_kind

GET_SAM2 = "`make weights` downloads the official ones"
_TEXTS = frozenset({Kind.TEXT, Kind.KEYS})
_DATA = frozenset({Kind.IMAGE, Kind.DICOM, Kind.TABLE, Kind.PICTURE})
_HEAD_BYTES = 4096
_LEAST_BYTES = 16


class Format(StrEnum):
    """Formats that weights are read from."""

    SAFETENSORS = "safetensors"
    TORCH = "torch"


_LFS = b"version https://git-lfs.github.com/spec/"
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, _LFS, "a pointer of git-lfs and not the file itself; fetch it in its repository with `git lfs pull`"),
    (0, b"\x1f\x8b", "compressed by gzip; unpack it and give the checkpoint in it"),
    (0, b"BZh", "compressed by bzip2; unpack it and give the checkpoint in it"),
    (0, b"\xfd7zXZ\x00", "compressed by xz; unpack it and give the checkpoint in it"),
    (0, b"\x28\xb5\x2f\xfd", "compressed by zstd; unpack it and give the checkpoint in it"),
    (0, b"7z\xbc\xaf", "a 7z archive; unpack it and give the checkpoint in it"),
    (0, b"\x89HDF", "an HDF5 file, as Keras writes it; sam2ft reads SAM 2 weights of PyTorch"),
    (0, b"\x93NUMPY", "a NumPy array; sam2ft reads SAM 2 weights of PyTorch"),
    (0, b"GGUF", "a GGUF file; sam2ft reads SAM 2 weights of PyTorch"),
    (0, b"%PDF", f"a PDF document; {GET_SAM2}"),
    (4, b"TFL3", "a TensorFlow Lite model; sam2ft reads SAM 2 weights of PyTorch"),
    (257, b"ustar", "a tar archive; unpack it and give the checkpoint in it"),
)  # fmt: skip
_PAGE = re.compile(rb"^(\xef\xbb\xbf)?\s*<(!doctype|html|head|body|\?xml|error|!--)", re.IGNORECASE)
_TEXT = re.compile(rb"^[\t\n\r\x20-\x7e]+$")
# The first field of an ONNX ModelProto is the version of its format (onnx.proto3: ir_version = 1, producer_name = 2).
_ONNX = re.compile(rb"^\x08[\x01-\x20](\x12|:)")


def format_of(path: Path) -> Format:
    """The format of a file with weights, by its first bytes: the ending of its name decides nothing.

    Raises:
        CheckpointError: the file is missing or something else, which the message names with what to do.
    """
    kind = kind_of(path)
    if kind in OURS and (known := wrong_kind(path, Wanted.CHECKPOINT)) is not None:
        raise CheckpointError(known)
    if path.is_dir():
        raise CheckpointError(f"{path}: a folder; give the checkpoint file in it ({_inside(path)})")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file{there_is(path, Wanted.CHECKPOINT)}; {GET_SAM2}")
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    size = path.stat().st_size
    if kind in _DATA and not _is_weights(head) and size >= _LEAST_BYTES:
        raise CheckpointError(wrong_kind(path, Wanted.CHECKPOINT))
    if problem := _problem(path, head):
        raise CheckpointError(f"{path}: {problem}")
    # A few bytes under the name of weights are the beginning of a copy; under another name a text is what it says.
    if size < _LEAST_BYTES and (kind not in _TEXTS or path.suffix.lower() in WEIGHTS_SUFFIXES):
        raise CheckpointError(f"{path}: not a checkpoint that can be read safely ({size or 'no'} bytes); copy it again")
    if kind in _TEXTS and (known := wrong_kind(path, Wanted.CHECKPOINT)) is not None:
        raise CheckpointError(known)
    if _is_safetensors(head):
        return Format.SAFETENSORS
    if _is_torch(head):
        return Format.TORCH
    shown = ascii(head[:12])[2:-1]
    raise CheckpointError(
        f"{path}: not a checkpoint that can be read safely (it begins with {shown}); allowed: .safetensors, and "
        f"files of torch.save; {GET_SAM2}"
    )


def _problem(path: Path, head: bytes) -> str | None:
    """What a file is that is neither safetensors nor of torch.save, and what to do; None when it may be one."""
    checks = (
        *((head[start:].startswith(signature), what) for start, signature, what in _SIGNATURES),
        (
            head and not head.strip(b"\0"),
            f"begins with {len(head)} zeros: a download or copy that was not finished; do it again",
        ),
        (_PAGE.match(head), f"a web page or answer of a server: a failed download; do it again ({GET_SAM2})"),
        (
            path.suffix.lower() == ".onnx" or _ONNX.match(head),
            f"an ONNX model, which cannot be fine-tuned; give the PyTorch checkpoint it was made from, or {GET_SAM2}",
        ),
        (
            head[:1] in b"{[" and _TEXT.match(head[:512]),
            "a JSON text: an index of weights in several files (model.safetensors.index.json) or a configuration; give "
            f"the weights themselves; {GET_SAM2}",
        ),
    )
    return next((what for applies, what in checks if applies), None)


def _is_safetensors(head: bytes) -> bool:
    """8 bytes with the length of a JSON header, then the header."""
    return len(head) > 9 and int.from_bytes(head[:8], "little") < 2**40 and head[8:9] == b"{"


def _is_torch(head: bytes) -> bool:
    """A zip file or a pickle, as torch.save writes them."""
    return head.startswith(b"PK\x03\x04") or head[:1] == b"\x80"


def _is_weights(head: bytes) -> bool:
    return _is_safetensors(head) or _is_torch(head)


def _inside(folder: Path) -> str:
    found = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in WEIGHTS_SUFFIXES)
    if any(folder.glob("*.distcp")):
        return "a distributed checkpoint: python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE"
    return f"found {listed(found, 5)}" if found else f"it holds none; {GET_SAM2}"


_OF_SAM2 = f"sam2ft fine-tunes SAM 2: {GET_SAM2}"
# A pattern for names of tensors, and what a model with such tensors is. The first that matches any tensor decides.
_MODELS: tuple[tuple[str, str], ...] = (
    # First: names of the adapted model follow its prefix.
    (r"base_model\.model\.", "an adapter of the library peft; merge it (merge_and_unload) and save the merged model"),
    (r"(.*\.)?image_encoder\.trunk\.", ""),
    (r"(detector|tracker)(_model)?\.", f"a SAM 3 checkpoint; {_OF_SAM2}"),
    (
        r"vision_encoder\.(backbone|neck\.convs)\.",
        "a SAM 2 checkpoint of the library transformers, which names and cuts its layers differently; give the .pt "
        f"file of the same model: {GET_SAM2}",
    ),
    (r"(.*\.)?(mask_decoder\.hf_|hf_token)", f"a SAM-HQ checkpoint, which is made from SAM 1; {_OF_SAM2}"),
    (r"vision_encoder\.layers\.", f"a SAM 1 checkpoint of the library transformers; {_OF_SAM2}"),
    (r"(.*\.)?image_encoder\.(blocks|layers|pos_embed|patch_embed)\b", f"a SAM 1 checkpoint; {_OF_SAM2}"),
)


def model_problem(names: Collection[str]) -> str | None:
    """What the model of these tensors is and what to do, when it is a known one that is not SAM 2; else None."""
    for pattern, what in _MODELS:
        known = re.compile(pattern)
        if any(known.match(name) for name in names):
            return what or None
    return None
