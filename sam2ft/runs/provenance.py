"""Provenance of a run: code version, package versions, machine and command of every attempt (provenance.json).

Only the digest of the code can be part of an id, and only with --strict-code.
"""

import os
import platform
import socket
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import sam2ft
from sam2ft.core.files import canonical_json, read_json, sha256_file, sha256_text, write_json
from sam2ft.runs.attempt.claim import Attempt
from sam2ft.runs.layout import RunLayout

PACKAGES = ("sam2ft", "torch", "torchvision", "sam2", "monai", "numpy", "scipy", "pandas", "pydicom", "pydantic")
CODE_FOLDERS = (
    *("core", "config", "distributed", "metrics", "model", "statistics", "data", "runs", "training", "evaluation"),
    "jobs",
)
CODE_SUFFIXES = (".py", ".json")
_GIT_TIMEOUT_S = 10


def code_version() -> dict[str, Any]:
    """Return the `digest` of the code, the git commit, and whether tracked files were modified.

    `commit` and `modified` are None outside a git checkout.
    """
    root, digest = Path(sam2ft.__path__[0]).parent, code_digest()
    commit = _git(root, "rev-parse", "HEAD")
    modified = None if commit is None else bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    return {"commit": commit, "modified": modified, "digest": digest}


def code_digest(package: Path | None = None) -> str:
    """Return 16 hex digits over the sources that can change a result: not reports, trackers and launchers.

    The git commit is not enough: uncommitted changes count, and a commit of documentation does not.
    """
    root = package or Path(sam2ft.__path__[0])
    files = (path for folder in CODE_FOLDERS for path in (root / folder).rglob("*") if path.suffix in CODE_SUFFIXES)
    return sha256_text(canonical_json({path.relative_to(root).as_posix(): sha256_file(path) for path in files}))[:16]


def _git(root: Path, *arguments: str) -> str | None:
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def package_versions(names: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of the packages that are installed; by default of those that can change a result."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def provenance(attempt: Attempt) -> dict[str, Any]:
    """Return the code, packages, command and machine of one attempt."""
    return {
        "attempt": attempt.to_json(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": code_version(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": package_versions(),
        "command": sys.argv,
        "host": socket.gethostname(),
        "cores": os.cpu_count(),
        "partition": os.environ.get("SLURM_JOB_PARTITION"),
        "nodes": os.environ.get("SLURM_JOB_NODELIST"),
    }


def recorded_attempts(layout: RunLayout) -> list[dict[str, Any]]:
    """Return what `provenance` returned for every attempt of a run; empty when none was recorded."""
    return list(read_json(layout.provenance)["attempts"]) if layout.provenance.is_file() else []


def record_provenance(layout: RunLayout, attempt: Attempt) -> None:
    """Append this attempt to provenance.json; earlier attempts are kept."""
    write_json(layout.provenance, {"attempts": [*recorded_attempts(layout), provenance(attempt)]})
