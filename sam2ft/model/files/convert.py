"""Conversion of a checkpoint of another program to safetensors, in a process of its own with limits. No torch.

`python -m sam2ft.model.files.convert SOURCE TARGET SECONDS` prints one line of JSON: what was converted, or why not.
"""

import json
import os
import pickle
import resource
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from sam2ft.core.errors import CheckpointError
from sam2ft.core.files import canonical_json, sha256_file
from sam2ft.model.checkpoint_layouts import CONTAINERS, Unwrapped, keys_of, unwrapped
from sam2ft.model.files.archives import DAMAGED, OWN, TorchFile, TorchZip, opened, refuse_huge
from sam2ft.model.files.digest import Part, parts_digest
from sam2ft.model.files.inert import DTYPES, StoredTensor
from sam2ft.model.files.kinds import model_problem

FORMAT = "1"
"""Version of the converted file's metadata."""
ROOM_BYTES, TIMES = 2**30, 4
"""A conversion may take ROOM_BYTES of memory and TIMES the size of the file."""
# safetensors aligns its data; the length of the header is a multiple.
_ALIGNED = 8
_MOST_CHARACTERS = 300


def convert(source: Path, target: Path) -> dict[str, Any]:
    """Write the state dict of `source` to `target` (safetensors) under stock names.

    The metadata of the target holds `source_sha256`, `note` (what was unwrapped) and `sha256`, the digest of both and
    of the tensors.

    Returns:
        `source_sha256`; `ignored`: names of classes whose values were left out; `has_checksums`: of the source.

    Raises:
        CheckpointError: the file is damaged or holds no state dict.
    """
    digest = sha256_file(source)
    try:
        with opened(source) as file:
            found = state_of(source, file)
            if isinstance(file.content.get(OWN), str):
                raise zipfile.BadZipFile("a best.pt of sam2ft whose archive was changed")
            if problem := model_problem(found.tensors):
                raise CheckpointError(f"{source}: is {problem}")
            refuse_huge(found.tensors, source.stat().st_size)
            _write(target, file, found, digest)
            if isinstance(file, TorchZip):
                file.check_others()
            return {"source_sha256": digest, "ignored": file.ignored, "has_checksums": file.has_checksums}
    except DAMAGED as error:
        raise unreadable(source, error) from None


def state_of(path: Path, file: TorchFile) -> Unwrapped[StoredTensor]:
    """The state dict in the content of a file.

    Raises:
        CheckpointError: it holds none.
    """
    found = unwrapped(file.content, StoredTensor)
    if found is None:
        raise without_state(path, file.content)
    return found


def without_state(path: Path, content: Any) -> CheckpointError:
    """The error for a file without a state dict."""
    return CheckpointError(
        f'{path}: expected {{"model": tensors by name}} as stock SAM 2 writes it (or under '
        f"{', '.join(CONTAINERS[1:])}), found {text_line(keys_of(content))}"
    )


def unreadable(path: Path, error: Exception) -> CheckpointError:
    """The error for a file that is damaged or made to do harm."""
    reason = text_line(str(error)) or type(error).__name__
    return CheckpointError(
        f"{path}: not a checkpoint that can be read safely ({reason}); copy or download it again, and use only "
        "checkpoints whose origin you trust"
    )


def text_line(text: str) -> str:
    """A text from a file for a message: one line of printable characters, of limited length."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(line.split())[:_MOST_CHARACTERS]


def digest_text(metadata: Mapping[str, str]) -> str:
    """The text that the digest of a converted file covers besides its tensors."""
    return canonical_json({name: value for name, value in metadata.items() if name != "sha256"})


def _write(target: Path, file: TorchFile, found: Unwrapped[StoredTensor], source_sha256: str) -> None:
    """Write a safetensors file tensor by tensor.

    The library's own writer needs all tensors in memory, and its interface without torch differs between versions; the
    file is read back by the library.
    """
    metadata = {"format": FORMAT, "source_sha256": source_sha256, "note": found.note or "", "sha256": "0" * 64}
    header, begin = dict[str, Any](), 0
    for name in sorted(found.tensors):
        tensor = found.tensors[name]
        end = begin + tensor.num_bytes
        header[name] = {
            "dtype": DTYPES[tensor.dtype][0], "shape": list(tensor.shape), "data_offsets": [begin, end]
        }  # fmt: skip
        begin = end
    with target.open("wb") as stream:
        stream.write(_header({"__metadata__": metadata, **header}))
        metadata["sha256"] = parts_digest(_written(stream, file, found.tensors), digest_text(metadata))
        stream.seek(0)
        stream.write(_header({"__metadata__": metadata, **header}))


def _written(stream: BinaryIO, file: TorchFile, tensors: Mapping[str, StoredTensor]) -> Iterator[Part]:
    for name in sorted(tensors):
        tensor = tensors[name]
        data = file.array(tensor).reshape(-1).view("u1").data
        stream.write(data)
        yield name, f"torch.{tensor.dtype}", tensor.shape, data


def _header(value: Mapping[str, Any]) -> bytes:
    text = json.dumps(value).encode()
    text += b" " * (-len(text) % _ALIGNED)
    return len(text).to_bytes(8, "little") + text


def main(arguments: list[str]) -> int:
    """Convert with limits of memory and time, and print the outcome."""
    source, target, seconds = Path(arguments[0]), Path(arguments[1]), int(arguments[2])
    allowed = ROOM_BYTES + TIMES * source.stat().st_size
    for kind, limit in ((resource.RLIMIT_DATA, allowed), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    try:
        outcome = convert(source, target)
    except CheckpointError as error:
        outcome = {"refused": str(error)}
    except MemoryError:
        outcome = {
            "refused": str(unreadable(source, pickle.UnpicklingError(f"reading it needs more than {allowed} bytes")))
        }
    except OSError as error:
        outcome = {"errno": error.errno, "path": os.fspath(error.filename or target)}
    print(json.dumps(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
