"""The audit: findings, and honesty about what no source answered. Tools are small scripts; the real ones run in CI."""

import json
import sys
from pathlib import Path

import pytest

from sam2ft.core.errors import DataError, IncompleteError
from sam2ft.tools import audit
from sam2ft.tools.audit import Advisories, below_known_fixes, check_advisories, findings_of, parse_report
from sam2ft.tools.lock_file import Pin

PINS = [Pin("numpy", "2.4.6", True, ("0" * 64,)), Pin("jinja2", "3.1.2", True, ("0" * 64,))]
OLD = {"name": "urllib3", "version": "1.26.4", "vulns": [{"id": "PYSEC-2021-108", "fix_versions": ["1.26.5"]}]}
NUMPY = {"name": "numpy", "version": "2.4.6", "vulns": []}
JINJA = {
    "name": "Jinja2",
    "version": "3.1.2",
    "vulns": [{"id": "GHSA-cpwx-vrp4-4pq7", "aliases": ["CVE-2025-27516"], "fix_versions": ["3.1.6"]}],
}


def skipped(name: str) -> dict[str, str]:
    return {"name": name, "skip_reason": f"Dependency not found on PyPI and could not be audited: {name}"}


@pytest.fixture
def tool(tmp_path):
    def write(name: str, answers: dict[str, object], code: int = 0) -> Path:
        """A program that prints the first answer whose key is in its arguments or in the file after `-r`."""
        path = tmp_path / name
        path.write_text(
            f"#!{sys.executable}\nimport json, sys\n"
            "text = ' '.join(sys.argv)\n"
            "text += open(sys.argv[sys.argv.index('-r') + 1]).read() if sys.argv[-1] == 'off' else ''\n"
            f"for key, answer in {answers!r}.items():\n"
            "    if all(part in text for part in key.split('|')):\n"
            "        print(answer if isinstance(answer, str) else json.dumps(answer))\n"
            "        break\n"
            f"sys.exit({code})\n"
        )
        path.chmod(0o755)
        return path

    return write


def report(*entries: object) -> dict[str, object]:
    return {"dependencies": list(entries), "fixes": []}


def test_a_source_that_answers_gives_findings_with_the_remedy(tool):
    path = tool("pip-audit", {"osv|urllib3": report(OLD), "osv": report(NUMPY, JINJA), "pypi": "connection refused"})
    findings, unchecked = check_advisories(Advisories(path, 5), PINS)
    assert findings == [
        "advisories: jinja2 3.1.2: GHSA-cpwx-vrp4-4pq7, CVE-2025-27516 (fixed in 3.1.6): "
        "make lock ARGS='--upgrade-package jinja2'"
    ]
    assert unchecked == ""


@pytest.mark.parametrize(
    "answers",
    [
        {"-s": ""},
        {"-s": "Traceback (most recent call last): ConnectionError"},
        {"-s": report(skipped("urllib3"), skipped("numpy"), skipped("jinja2"))},
        {"-s": report({**OLD, "vulns": []}, NUMPY, {**JINJA, "vulns": []})},  # says "none" about everything
        {"-s": {"unexpected": 1}},
        {"-s": []},
    ],
    ids=["silent", "traceback", "knows no package", "knows no vulnerability", "other form", "list"],
)
def test_a_source_that_cannot_be_believed_is_no_all_clear(tool, answers):
    findings, unchecked = check_advisories(Advisories(tool("pip-audit", answers), 5), PINS)
    assert findings == []
    assert unchecked == (
        "advisories: 2 packages were not checked, no advisory source answers (osv, pypi; it needs a network): "
        "jinja2 3.1.2, numpy 2.4.6"
    )


def test_packages_that_no_source_knows_are_named(tool):
    path = tool("pip-audit", {"osv|urllib3": report(OLD), "osv": report(NUMPY, skipped("jinja2")), "pypi": ""})
    assert check_advisories(Advisories(path, 5), PINS) == (
        [],
        "advisories: 1 packages were not checked, no source knows them: jinja2 3.1.2",
    )


def test_advisories_without_a_fix_say_so():
    (line,) = findings_of({"numpy 2.4.6": [{"id": "X-1", "fix_versions": []}]})
    assert "X-1 (no version fixes it yet)" in line


def test_skipped_packages_are_not_looked_up():
    assert parse_report(json.dumps(report(NUMPY, skipped("jinja2")))) == {"numpy 2.4.6": []}


def test_versions_below_a_known_fix_are_named_without_a_network(tmp_path):
    floors = tmp_path / "known.txt"
    floors.write_text("# comment\njinja2>=3.1.6   # CVE-2025-27516\nPillow>=12.3\n")
    assert list(below_known_fixes(PINS, floors)) == [
        "known fixes: jinja2 3.1.2 is not >=3.1.6 (CVE-2025-27516); run `make lock`"
    ]


@pytest.fixture
def run(tool, monkeypatch, tmp_path):
    def call(advisories: object, bandit: object, *options: str) -> int:
        tool("pip-audit", advisories, 1)
        tool("bandit", {"-q": bandit}, 1)
        tool("cyclonedx-py", {"requirements": ""})
        monkeypatch.setattr(audit, "write_sbom", lambda tool, target: 112)
        monkeypatch.setattr(sys, "argv", ["audit", "--tools", str(tmp_path), *options])
        return audit.main()

    return call


CLEAN = {"errors": [], "results": []}


def test_without_a_source_the_audit_is_incomplete_unless_that_was_said_before(run, capsys):
    with pytest.raises(IncompleteError, match=r"advisories: \d+ packages were not checked"):
        run({"-s": ""}, CLEAN)
    assert run({"-s": ""}, CLEAN, "--offline") == 0
    assert "were not checked" in capsys.readouterr().err


def test_findings_in_the_code_fail_also_without_a_network(run, capsys):
    found = {"filename": "a.py", "line_number": 3, "test_id": "B602", "issue_text": "shell"}
    assert run({"-s": ""}, {"errors": [], "results": [found]}, "--offline") == 1
    assert "bandit: a.py:3: B602 shell" in capsys.readouterr().err
    assert (
        run({"-s": ""}, {"errors": [{"filename": "a.py", "reason": "syntax error"}], "results": []}, "--offline") == 1
    )


def test_a_tool_that_gives_no_report_is_an_error(run):
    with pytest.raises(DataError, match="bandit: gave no report"):
        run({"-s": ""}, "not json")


def test_a_missing_tool_is_named_with_the_way_to_get_it(tmp_path):
    with pytest.raises(DataError, match="pip-audit: no such program; `make audit` installs it"):
        audit.tool(tmp_path, "pip-audit")
