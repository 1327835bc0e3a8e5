"""Audit of security: advisories against all locked packages, bandit on our code, and an SBOM of what jobs install.

`make audit` runs it with the tools of requirements/audit.txt. Exit code 0: everything was checked, nothing found. 1:
there are findings. 3: nothing was found, but not everything was checked, because no advisory source answered. A source
is only believed when it reports an old version that is known to be vulnerable: pip-audit itself says "No known
vulnerabilities found" when its source knows no package at all.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sam2ft.core.command import run_command
from sam2ft.core.errors import FAILED, DataError, IncompleteError, listed
from sam2ft.core.files import replacing
from sam2ft.tools.lock_file import Pin, read_lock

ROOT = Path(__file__).parents[2]
LOCKS = tuple(ROOT / "requirements" / f"{name}.txt" for name in ("dev", "build", "audit", "docs"))
RUN_LOCKS = (ROOT / "requirements/run.txt", ROOT / "requirements-sam2.txt")
SERVICES = ("osv", "pypi")
PROBE = "urllib3==1.26.4"
"""A version with published vulnerabilities (CVE-2021-33503 and later ones)."""
CODE = ("sam2ft", "launch", "slurm")
SBOM = ROOT / "build" / "sbom.cdx.json"

Report = Mapping[str, Sequence[Mapping[str, Any]]]
"""`name version` of each package that a source knows -> its advisories."""


def parse_report(text: str) -> dict[str, list[dict[str, Any]]]:
    """The packages that pip-audit's JSON says were looked up; skipped ones are not in it.

    Raises:
        ValueError: the text is no report.
    """
    entries = json.loads(text)["dependencies"]
    return {f"{canonicalize_name(one['name'])} {one['version']}": one["vulns"] for one in entries if "vulns" in one}


def findings_of(report: Report) -> Iterator[str]:
    """A line for each advisory: package, version, names, the version that fixes it."""
    for package, advisories in report.items():
        for one in advisories:
            names = ", ".join(dict.fromkeys((one["id"], *one.get("aliases", ()))))
            fixes = one.get("fix_versions") or ()
            remedy = f"fixed in {', '.join(fixes)}" if fixes else "no version fixes it yet"
            yield f"advisories: {package}: {names} ({remedy}): make lock ARGS='--upgrade-package {package.split()[0]}'"


def below_known_fixes(pins: Iterable[Pin], floor_file: Path) -> Iterator[str]:
    """A line for each locked version below the floor of requirements/known-fixes.txt; needs no network."""
    floors: dict[str, tuple[Requirement, str]] = {}
    lines = (line.partition("#") for line in floor_file.read_text(encoding="utf-8").splitlines())
    for text, _, why in lines:
        if text.strip():
            requirement = Requirement(text)
            floors[canonicalize_name(requirement.name)] = requirement, why
    for pin in pins:
        if pin.name not in floors:
            continue
        floor, why = floors[pin.name]
        if not floor.specifier.contains(pin.version, prereleases=True):
            yield f"known fixes: {pin.name} {pin.version} is not {floor.specifier} ({why.strip()}); run `make lock`"


class Advisories:
    """What the advisory services say, through pip-audit."""

    def __init__(self, tool: Path, timeout_s: int):
        self._tool = tool
        self._timeout_s = timeout_s

    def ask(self, service: str, packages: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
        """Packages (`name==version`) that the service knows -> advisories. Empty when it does not answer."""
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
            file.write("\n".join(packages))
            file.flush()
            command = [self._tool, "-s", service, "--timeout", self._timeout_s, "-f", "json", "-r", file.name]
            options = ["--no-deps", "--disable-pip", "--aliases", "on", "--progress-spinner", "off"]
            done = subprocess.run([*map(str, command), *options], check=False, capture_output=True, text=True)
        try:
            return parse_report(done.stdout)
        except (ValueError, KeyError, TypeError):
            return {}

    def believable(self, service: str) -> bool:
        """Whether the service reports the vulnerabilities of `PROBE`."""
        return any(self.ask(service, [PROBE]).values())


def check_advisories(advisories: Advisories, pins: Sequence[Pin]) -> tuple[list[str], str]:
    """Findings, and what was not checked (empty when every package was)."""
    missing = {f"{pin.name} {pin.version}" for pin in pins}
    findings: dict[str, None] = {}
    silent = []
    for service in SERVICES:
        if not advisories.believable(service):
            silent.append(service)
            continue
        report = advisories.ask(service, [f"{pin.name}=={pin.version}" for pin in pins])
        findings |= dict.fromkeys(findings_of(report))
        missing -= report.keys()
    if not missing:
        return list(findings), ""
    of = (
        f"no advisory source answers ({', '.join(silent)}; it needs a network)"
        if len(silent) == len(SERVICES)
        else "no source knows them"
    )
    return list(findings), f"advisories: {len(missing)} packages were not checked, {of}: {listed(sorted(missing), 3)}"


def check_code(bandit: Path) -> list[str]:
    """Findings of bandit in our own code; what is excused says so in its line (`nosec`) or in pyproject.toml."""
    command = [str(bandit), "-q", "-r", *CODE, "-c", "pyproject.toml", "-f", "json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        raise DataError(f"{bandit}: gave no report ({done.stderr.strip()[-300:]})") from None
    errors = [f"bandit: {one['filename']}: {one['reason']}" for one in report["errors"]]
    return errors + [
        f"bandit: {one['filename']}:{one['line_number']}: {one['test_id']} {one['issue_text']}"
        for one in report["results"]
    ]


def write_sbom(cyclonedx: Path, target: Path) -> int:
    """Write the list of what jobs install (CycloneDX, JSON, with the sha256 of every file); returns its length.

    Raises:
        DataError: the tool failed.
    """
    text = "".join(path.read_text(encoding="utf-8") for path in RUN_LOCKS)
    with replacing(target) as partial:
        command = [str(cyclonedx), "requirements", "-", "--output-reproducible", "-o", str(partial)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, input=text)
        if done.returncode != 0:
            raise DataError(f"{cyclonedx}: exit code {done.returncode} ({done.stderr.strip()[-300:]})")
        return len(json.loads(partial.read_text(encoding="utf-8"))["components"])


def tool(folder: Path, name: str) -> Path:
    """A tool in a folder of programs.

    Raises:
        DataError: it is not there.
    """
    if not (folder / name).is_file():
        raise DataError(f"{folder / name}: no such program; `make audit` installs it")
    return folder / name


def main() -> int:
    parser = argparse.ArgumentParser(description="Audit dependencies and code; write build/sbom.cdx.json.")
    parser.add_argument(
        "--tools", type=Path, default=ROOT / ".venv-audit/bin", help="folder of pip-audit, bandit, cyclonedx-py"
    )
    parser.add_argument("--timeout", type=int, default=20, help="seconds to wait for an answer of an advisory source")
    parser.add_argument(
        "--offline", action="store_true", help="exit with 0 when only the advisories could not be checked"
    )
    given = parser.parse_args()
    pins = list(
        {(pin.name, pin.version): pin for lock in (*LOCKS, *RUN_LOCKS) for pin in read_lock(lock).values()}.values()
    )
    findings = check_code(tool(given.tools, "bandit"))
    findings += below_known_fixes(pins, ROOT / "requirements/known-fixes.txt")
    print(
        f"bandit: {', '.join(CODE)} and {len(pins)} locked packages against known-fixes.txt: {len(findings)} findings"
    )
    print(f"SBOM: {write_sbom(tool(given.tools, 'cyclonedx-py'), SBOM)} packages of jobs in {SBOM.relative_to(ROOT)}")
    from_sources, unchecked = check_advisories(Advisories(tool(given.tools, "pip-audit"), given.timeout), pins)
    findings += from_sources
    if not unchecked:
        print(f"advisories: {len(pins)} packages checked, {len(from_sources)} findings")
    if findings:
        print("\n".join(findings), *filter(None, (unchecked,)), sep="\n", file=sys.stderr)
        return FAILED
    if unchecked and not given.offline:
        raise IncompleteError(unchecked)
    if unchecked:
        print(unchecked, file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_command(main)
