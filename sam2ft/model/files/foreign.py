"""Checkpoints of other programs: converted once in a limited child process, and kept by the digest of their file."""

import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from sam2ft.core.errors import CheckpointError
from sam2ft.core.files import replacing, sha256_file
from sam2ft.model.files import convert
from sam2ft.model.files.digest import tensors_digest

Keep = Callable[[Mapping[str, Tensor]], bool]
"""Whether weights are worth a converted copy, from their tensors."""
_log = logging.getLogger(__name__)
# Time for the interpreter and a slow network file system, and the least speed of the latter.
_SECONDS, _BYTES_PER_SECOND = 120, 5 * 10**6


def read_foreign(path: Path, kept: Path | None, keep: Keep) -> tuple[dict[str, Tensor], str | None]:
    """The weights of a file of torch.save from another program by stock name, and what was unwrapped as text.

    Args:
        kept: folder with converted files, which is made when needed; one that cannot be written is done without.
        keep: whether a new converted file is put there, from its tensors.

    Raises:
        CheckpointError: the file is damaged, holds no state dict, or differs from the record of its download.
    """
    digest = sha256_file(path)
    refuse_other_download(path, digest)
    target = None if kept is None else kept / f"{digest}.safetensors"
    if target is not None and (known := _kept(path, target, digest)) is not None:
        return known
    with TemporaryDirectory() as folder:
        converted = Path(folder) / "weights.safetensors"
        _convert(path, converted, digest)
        found = read_converted(converted, digest)
        if target is not None and keep(found[0]):
            try:
                with replacing(target) as partial:
                    shutil.copyfile(converted, partial)
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                _log.warning("%s: the converted copy of %s cannot be kept there (%s)", kept, path, reason)
        return found


def refuse_other_download(path: Path, digest: str | None = None) -> None:
    """Compare a file with the record of its first download, `<file>.json`, when it has one.

    Raises:
        CheckpointError: the file is another one, with both digests.
    """
    record = path.with_name(f"{path.name}.json")
    if not record.is_file():
        return
    try:
        value = json.loads(record.read_text(encoding="utf-8"))
    except ValueError:
        return
    if not isinstance(value, dict) or not {"url", "size", "sha256"} <= value.keys():
        return
    found = digest or sha256_file(path)
    if found != value["sha256"]:
        raise CheckpointError(
            f"{path}: sha256 {found[:12]}... but {record.name} recorded {str(value['sha256'])[:12]}... at the first "
            "download; remove both files and download again"
        )


def read_converted(path: Path, source_sha256: str) -> tuple[dict[str, Tensor], str | None]:
    """The verified tensors of a converted file, and what was unwrapped.

    Raises:
        CheckpointError: it is damaged or of another source.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: damaged ({convert.text_line(str(error))})") from None
    wanted = {"format": convert.FORMAT, "source_sha256": source_sha256}
    if any(metadata.get(name) != value for name, value in wanted.items()) or metadata.get("sha256") != tensors_digest(
        tensors, convert.digest_text(metadata)
    ):
        raise CheckpointError(f"{path}: damaged (the sha256 of its content differs from the recorded one)")
    return tensors, metadata["note"] or None


def _kept(path: Path, target: Path, digest: str) -> tuple[dict[str, Tensor], str | None] | None:
    """The converted copy of an earlier start; None when there is none, or it is damaged."""
    try:
        return read_converted(target, digest) if target.is_file() else None
    except (CheckpointError, OSError) as error:
        _log.warning("%s; it is made again from %s", error, path)
        return None


def _convert(source: Path, target: Path, digest: str) -> None:
    """Convert in a child process.

    Raises:
        CheckpointError: the file is refused, or reading it ended or reached a limit.
        OSError: the target cannot be written.
    """
    seconds = _SECONDS + source.stat().st_size // _BYTES_PER_SECOND
    root = str(Path(__file__).parents[3])
    paths = os.pathsep.join((root, *filter(None, (os.environ.get("PYTHONPATH"),))))
    # One thread: the memory of more would count against the limit.
    alone = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    arguments = [os.fspath(source.absolute()), os.fspath(target.absolute()), str(seconds)]
    # -P: a folder of the user is not on the path of modules.
    command = [sys.executable, "-P", "-m", "sam2ft.model.files.convert", *arguments]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
            timeout=seconds, env={**os.environ, **alone},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise CheckpointError(
            f"{source}: was not read within {seconds} s; copy it to a faster file system if it is not damaged"
        ) from None
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise CheckpointError(
            f"{source}: the process that read it was ended by {name}: the file is damaged or made to do harm, or this "
            "machine has too little memory for it; copy or download it again"
        )
    _check(source, digest, _outcome(source, done))


def _outcome(source: Path, done: "subprocess.CompletedProcess[str]") -> Mapping[str, Any]:
    try:
        value: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        reason = (convert.text_line(done.stderr.strip().rpartition("\n")[2])) or f"exit code {done.returncode}"
        raise CheckpointError(
            f"{source}: the process that reads checkpoints of other programs failed ({reason})"
        ) from None
    return value


def _check(source: Path, digest: str, outcome: Mapping[str, Any]) -> None:
    if "errno" in outcome:
        number = outcome["errno"] or errno.EIO
        raise OSError(number, os.strerror(number), outcome["path"])
    if "refused" in outcome:
        raise CheckpointError(str(outcome["refused"]))
    if outcome["source_sha256"] != digest:
        raise CheckpointError(f"{source}: changed while it was read; run again when nothing writes it")
    if not outcome["has_checksums"]:
        _log.warning("%s: unverified (it was written without checksums, so damage would not show)", source)
    if outcome["ignored"]:
        names = ", ".join(convert.text_line(str(name)) for name in outcome["ignored"][:8])
        _log.info("%s: values of %s beside the weights were left out", source, names)
