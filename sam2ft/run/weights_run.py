"""Download official weights: `python -m sam2ft.run.weights_run sam2.1_hiera_tiny` (make weights).

Beside each file lies `<file>.json`: its URL, size and sha256 as of the first download, which later runs verify.
"""

import argparse
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from sam2ft.core.command import command
from sam2ft.core.errors import CheckpointError, ConfigError
from sam2ft.core.files import read_json, sha256_file, sync_folder, write_json
from sam2ft.model.weights import OFFICIAL

_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 60


def download(url: str, path: Path) -> dict[str, Any]:
    """Fetch `url` to `path`, continuing a download that was cut off; returns the record written beside it.

    A file that is there is only verified. Errors: CheckpointError when it differs from its record, when the server
    sends fewer bytes than it announced, or cannot be reached (run again: what has arrived is kept in `<file>.part`).
    """
    record_path = path.with_name(path.name + ".json")
    if path.is_file() and record_path.is_file():
        return _verified(path, read_json(record_path))
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        partial = path.with_name(path.name + ".part")
        _fetch(url, partial)
        partial.replace(path)
        sync_folder(path.parent)
    record = {"url": url, "size": path.stat().st_size, "sha256": sha256_file(path)}
    write_json(record_path, record)
    return record


def _verified(path: Path, record: dict[str, Any]) -> dict[str, Any]:
    found = sha256_file(path)
    if found != record["sha256"]:
        raise CheckpointError(
            f"{path}: sha256 {found[:12]}... but {record['sha256'][:12]}... was recorded at the first download; "
            "remove both files and download again"
        )
    return record


def _fetch(url: str, partial: Path) -> None:
    """Complete `partial`. The server's ETag is kept beside it: bytes of two versions are never joined (If-Range)."""
    tag_path = partial.with_name(partial.name + ".etag")
    have = partial.stat().st_size if partial.is_file() and tag_path.is_file() else 0
    headers = {"Range": f"bytes={have}-", "If-Range": tag_path.read_text()} if have else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (URLs come from OFFICIAL)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
            continues = response.status == HTTPStatus.PARTIAL_CONTENT
            have = have if continues else 0
            length = response.headers.get("Content-Length")
            if length is None:
                raise CheckpointError(f"{url}: the server does not say how long the file is")
            expected = have + int(length)
            tag_path.write_text(response.headers.get("ETag") or response.headers.get("Last-Modified") or "")
            with partial.open("ab" if continues else "wb") as stream:
                have += _copy(response, stream, have, expected)
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # all of it had arrived
            tag_path.unlink()
            return
        raise CheckpointError(f"{url}: the server says {error.code} {error.reason}") from None
    except (urllib.error.URLError, OSError) as error:
        raise CheckpointError(f"{url}: {error}; run again to continue from {_megabytes(partial)}") from None
    if have != expected:
        raise CheckpointError(f"{url}: {have} of {expected} bytes arrived; run again to continue")
    tag_path.unlink()


def _copy(response: Any, stream: Any, have: int, expected: int) -> int:
    copied, shown = 0, -1
    while block := response.read(_CHUNK_BYTES):
        stream.write(block)
        copied += len(block)
        percent = 100 * (have + copied) // max(expected, 1)
        if percent != shown and sys.stderr.isatty():
            print(f"\r{percent:3d} %", end="", file=sys.stderr, flush=True)
            shown = percent
    return copied


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.0f} MB" if path.is_file() else "the start"


def fetch_official(names: Sequence[str], folder: Path) -> list[Path]:
    """The files of official models by name. Errors: ConfigError for an unknown name."""
    if unknown := [name for name in names if name not in OFFICIAL]:
        raise ConfigError(f"{unknown[0]!r} is no official model; known: {', '.join(OFFICIAL)}")
    paths = []
    for name in names:
        path = folder / OFFICIAL[name].file_name
        record = download(OFFICIAL[name].url, path)
        print(f"{path}: {record['size'] / 1e6:.0f} MB, sha256 {record['sha256']}", file=sys.stderr)
        print(path)
        paths.append(path)
    return paths


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Download official SAM 2 weights.")
    parser.add_argument("models", nargs="*", default=["sam2.1_hiera_tiny"], metavar="MODEL", help=", ".join(OFFICIAL))
    parser.add_argument("--out", type=Path, default=Path("weights"), help="folder for the files")
    options = parser.parse_args(arguments)
    fetch_official(options.models, options.out)
    return 0


if __name__ == "__main__":
    command(main)
