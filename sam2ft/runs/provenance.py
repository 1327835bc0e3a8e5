"""Provenance of a run: code version, package versions, machine and command of every attempt (provenance.json).

A damaged file is kept beside the new one, which names it: what earlier attempts recorded is never dropped unsaid.
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
from sam2ft.core.digests.verified_files import RUN, read_of_run, tell_damage, unverified_files, write_sealed_json
from sam2ft.core.errors import DataError
from sam2ft.core.files import canonical_json, listed_names, sha256_file, sha256_text
from sam2ft.runs.attempt.claim import Attempt
from sam2ft.runs.attempt.status import put_aside
from sam2ft.runs.layout import RunLayout

PACKAGES = ("sam2ft", "torch", "torchvision", "sam2", "monai", "numpy", "scipy", "pandas", "pydicom", "pydantic")
CODE_FOLDERS = (
    *("core", "config", "distributed", "metrics", "model", "statistics", "data", "runs", "training", "evaluation"),
    "jobs",
)
CODE_SUFFIXES = (".py", ".json")
COMPUTED = "computed"
"""Key of an attempt: what it computed with (runs/hardware); empty before it computes, absent in attempts of 0.1.0."""
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
        COMPUTED: [],
    }


def recorded_attempts(layout: RunLayout) -> list[dict[str, Any]]:
    """Return what `provenance` returned for every attempt of a run; empty when none was recorded.

    Raises:
        DataError: the file is damaged, or not the provenance of a run.
    """
    return list(_recorded(layout)["attempts"])


def _recorded(layout: RunLayout) -> dict[str, Any]:
    if not layout.provenance.is_file():
        return {"attempts": []}
    remedy = "the next attempt of the run puts it aside; for a report, move it away"
    try:
        value: dict[str, Any] = read_of_run(layout.provenance, layout.run_id)
    except DataError as error:
        raise DataError(f"{error}; {remedy}") from None
    attempts = value.get("attempts") if isinstance(value, dict) else None
    if not isinstance(attempts, list) or not all(isinstance(one, dict) and "code" in one for one in attempts):
        raise DataError(f"{layout.provenance}: not the provenance of a run; {remedy}")
    return value


def record_provenance(layout: RunLayout, attempt: Attempt) -> None:
    """Append this attempt to provenance.json; earlier attempts are kept, in a damaged file beside it too."""
    try:
        recorded = _recorded(layout)
    except DataError as error:
        aside = put_aside(layout.provenance).name
        tell_damage(f"{error}; kept as {aside}, and a new file begun")
        recorded = {"damaged": listed_names(layout.folder, "provenance.damaged*"), "attempts": []}
    recorded["attempts"].append(provenance(attempt))
    write_sealed_json(layout.provenance, {RUN: layout.run_id} | recorded)


def record_unverified(layout: RunLayout, attempt: Attempt) -> None:
    """Add to this attempt the files without a digest that it has read; nothing is written when there were none."""
    if names := [_name_of(path, layout) for path in unverified_files()]:
        add_to_attempt(layout, attempt, "unverified", names)


def add_to_attempt(layout: RunLayout, attempt: Attempt, key: str, value: Any) -> None:
    """Set a key of this attempt in provenance.json; nothing is written where the attempt was not recorded."""
    recorded, mine = _recorded(layout), attempt.to_json()
    found = [one for one in recorded["attempts"] if one["attempt"] == mine]
    for one in found:
        one[key] = value
    if found:
        write_sealed_json(layout.provenance, {RUN: layout.run_id} | recorded)


def recorded_in_attempt(layout: RunLayout, attempt: Attempt, key: str) -> Any:
    """Return the value of a key of this attempt; None without one."""
    return next((one.get(key) for one in recorded_attempts(layout) if one["attempt"] == attempt.to_json()), None)


def _name_of(path: Path, layout: RunLayout) -> str:
    """Relative to the run's folder where it is in there."""
    place, folder = path.absolute(), layout.folder.absolute()
    return str(place.relative_to(folder) if place.is_relative_to(folder) else path)
