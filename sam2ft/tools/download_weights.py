"""Download of official SAM 2 weights: `python -m sam2ft.tools.download_weights sam2.1_hiera_tiny` (make weights).

Each file has a record `<file>.json` with its URL, size and sha256 at the first download; later runs verify the file
against it. On a node without a network, `--from FOLDER` (or SAM2FT_WEIGHTS=FOLDER) copies files that were put into
FOLDER before, and downloads nothing.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import requests
from pooch import HTTPDownloader

from sam2ft.config.schema.model_names import NANO, WEIGHTS_ENDINGS, model_hint, model_name
from sam2ft.core.command import run_command
from sam2ft.core.errors import CheckpointError, ConfigError
from sam2ft.core.files import read_json, replacing, sha256_file, sha256_text, sync_folder, write_json
from sam2ft.model.weights import OFFICIAL, describe_weights, read_weights

STAGED = "SAM2FT_WEIGHTS"
"""Environment variable with the default folder of --from."""

_CHUNK_BYTES = 1 << 16
_TIMEOUT_S = 60
_AS_IT_IS = {"Accept-Encoding": "identity"}
"""Otherwise a server may compress: then length and ETag are not those of the file."""
_FIRST = (
    "size and sha256 are recorded now, at the first download: none are published, so they check the file "
    "from now on, not this download"
)

Check = Callable[[Path], None]
"""Raises CheckpointError for a file that is not the requested one."""


def _unchecked(path: Path) -> None:
    """Accept any file."""


def download(url: str, path: Path, check: Check = _unchecked) -> dict[str, Any]:
    """Download `url` to `path`, resuming an interrupted download, and return the record written next to it.

    An existing file is only verified. A partial download stays in `<file>.<version>.part`; a file that fails `check` is
    deleted.

    Raises:
        CheckpointError: when the file differs from its record, when the server sends fewer bytes than announced or
            cannot be reached (run again to resume), or when `check` fails.
    """
    record_path = _record_path(path)
    if path.is_file() and record_path.is_file():
        return _verified(path, read_json(record_path))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        check(path)
    else:
        partial = _fetch(url, path)
        try:
            check(partial)
            partial.replace(path)
        finally:
            for leftover in path.parent.glob(f"{path.name}.*.part"):
                leftover.unlink()
        sync_folder(path.parent)
    record = _record(url, path)
    write_json(record_path, record)
    print(_FIRST, file=sys.stderr)
    return record


def take_staged(staged: Path, url: str, path: Path, check: Check) -> dict[str, Any]:
    """Copy a file from the folder `staged`, with its record if it has one, without a download.

    Raises:
        CheckpointError: when the file does not exist, differs from its record or fails `check`.
    """
    if path.is_file() and _record_path(path).is_file():
        return _verified(path, read_json(_record_path(path)))
    source = staged / path.name
    if not source.is_file():
        raise CheckpointError(f"{source}: no such file; download it on a machine with a network: {url}")
    known = _record_path(source)
    if known.is_file():
        _verified(source, read_json(known))
    else:
        check(source)
    if source.resolve() != path.resolve():
        with replacing(path) as partial:
            shutil.copyfile(source, partial)
    record = read_json(known) if known.is_file() else _record(url, path)
    write_json(_record_path(path), record)
    if not known.is_file():
        print(f"{source} has no {known.name}: {_FIRST}", file=sys.stderr)
    return _verified(path, record)


def _record_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _record(url: str, path: Path) -> dict[str, Any]:
    return {"url": url, "size": path.stat().st_size, "sha256": sha256_file(path)}


def _verified(path: Path, record: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(record, dict) or not {"size", "sha256"} <= record.keys():
        raise CheckpointError(f"{_record_path(path)}: not the record of a download; remove it and run again")
    size = path.stat().st_size
    if size != record["size"]:
        raise CheckpointError(
            f"{path}: {size} bytes, but {record['size']} were recorded at the first download; "
            "remove both files and download again"
        )
    found = sha256_file(path)
    if found != record["sha256"]:
        raise CheckpointError(
            f"{path}: sha256 {found[:12]}... but {record['sha256'][:12]}... was recorded at the first download; "
            "remove both files and download again"
        )
    return record


def _fetch(url: str, path: Path) -> Path:
    """Complete and return the partial file, whose name contains the server's version: two are never joined."""
    try:
        head = requests.head(url, headers=_AS_IT_IS, timeout=_TIMEOUT_S, allow_redirects=True)
        head.raise_for_status()
        if "Content-Length" not in head.headers:
            raise CheckpointError(f"{url}: the server does not report the length of the file")
        length, tag = int(head.headers["Content-Length"]), _tag_of(head)
        partial = path.with_name(f"{path.name}.{sha256_text(tag)[:12]}.part")
        continues = tag and head.headers.get("Accept-Ranges") == "bytes" and partial.is_file()
        have = partial.stat().st_size if continues else 0
        headers = _AS_IT_IS | ({"Range": f"bytes={have}-", "If-Range": tag} if have else {})
        get = HTTPDownloader(sys.stderr.isatty(), _CHUNK_BYTES, headers=headers, timeout=_TIMEOUT_S)
        with partial.open("ab" if have else "wb") as stream:
            if have < length:
                get(url, stream, None)
    except requests.HTTPError as error:
        answer = error.response
        raise CheckpointError(f"{url}: the server returned {answer.status_code} {answer.reason}") from None
    except requests.RequestException as error:
        raise CheckpointError(f"{url}: {error}; run again to continue, or without a network use --from") from None
    if partial.stat().st_size != length:
        partial.unlink()
        raise CheckpointError(f"{url}: the file changed on the server during the download; run again")
    return partial


def _tag_of(response: requests.Response) -> str:
    """ETag or Last-Modified of this version of the file; If-Range does not allow a weak ETag (RFC 9110, 13.1.5)."""
    tag: str = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else str(response.headers.get("Last-Modified", ""))


def fetch_official(names: Sequence[str], folder: Path, staged: Path | None = None) -> list[Path]:
    """Get the files of official models by name, from the network or from the folder `staged`.

    Raises:
        ConfigError: for an unknown name or a missing folder.
        CheckpointError: for a file that is incomplete or of another model.
    """
    names = [model_name(name) for name in names]
    if unknown := [name for name in names if name not in OFFICIAL]:
        raise ConfigError(f"{unknown[0]!r} is not an official model{_hint(unknown[0])}; known: {', '.join(OFFICIAL)}")
    if staged is not None and not staged.is_dir():
        raise ConfigError(f"{staged}: no such folder (--from, or {STAGED})")
    paths = []
    for name in names:
        official, path = OFFICIAL[name], folder / OFFICIAL[name].file_name
        check = _is_of(name)
        record = (
            download(official.url, path, check) if staged is None else take_staged(staged, official.url, path, check)
        )
        print(f"{path}: {record['size'] / 1e6:.0f} MB, sha256 {record['sha256']}", file=sys.stderr)
        print(f"use it with module.sam2_model_cfg: {name}, module.sam2_checkpoint: {path}", file=sys.stderr)
        print(path)
        paths.append(path)
    return paths


def _hint(name: str) -> str:
    """What a name that is no official model may mean; empty when nothing is known."""
    if name == NANO:
        return ", but part of sam2ft: it needs no file"
    stem, ending = os.path.splitext(name)
    # Here a name with the ending of a file stands for its model.
    return model_hint(stem if ending in WEIGHTS_ENDINGS else name, OFFICIAL)


def _is_of(wanted: str) -> Check:
    """A check that a file is a checkpoint of the model, and not, for example, the log-in page of a proxy."""

    def check(path: Path) -> None:
        found = describe_weights(read_weights(path))
        if found != wanted:
            raise CheckpointError(f"{path}: expected the weights of {wanted}, found {found or 'something else'}")

    return check


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Download official SAM 2 weights, or copy them from a folder.",
        epilog=f"models: {', '.join(OFFICIAL)}",
    )
    parser.add_argument("models", nargs="*", default=["sam2.1_hiera_tiny"], metavar="MODEL", help="one or more, or all")
    parser.add_argument("--out", type=Path, default=Path("weights"), help="folder for the files (default: weights)")
    parser.add_argument(
        "--from",
        dest="staged",
        type=Path,
        default=Path(os.environ[STAGED]) if os.environ.get(STAGED) else None,
        metavar="FOLDER",
        help=f"copy the files from FOLDER and verify them, without a download (default: ${STAGED})",
    )
    options = parser.parse_args(arguments)
    names = list(OFFICIAL) if options.models == ["all"] else options.models
    fetch_official(names, options.out, options.staged)
    return 0


if __name__ == "__main__":
    run_command(main)
