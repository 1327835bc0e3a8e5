"""The site of docs/: every page is in its navigation, links lead somewhere, and nothing is fetched from a network."""

import importlib.util
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sam2ft.config.yaml.loading import load_yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MKDOCS = ROOT / ".venv-docs" / "bin" / "mkdocs"
SETTINGS = load_yaml(ROOT / "mkdocs.yml").value


def hooks() -> Any:
    spec = importlib.util.spec_from_file_location("site_hooks", DOCS / "site_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pages_in(entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        for value in entry.values():
            yield from pages_in(value) if isinstance(value, list) else [value]


def test_every_page_is_in_the_navigation_once() -> None:
    listed = list(pages_in(SETTINGS["nav"]))
    assert sorted(listed) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def links_to(page: Path) -> set[Path]:
    """The pages below docs/ that a page links to."""
    targets = re.findall(r"\]\(([^)\s#:]+\.md)", page.read_text(encoding="utf-8"))
    return {(page.parent / target).resolve() for target in targets} - {page}


def test_a_reader_who_follows_links_from_the_first_page_finds_every_page_but_single_decisions() -> None:
    found: set[Path] = set()
    waiting = {DOCS / "index.md"}
    while waiting:
        page = waiting.pop()
        found.add(page)
        waiting |= {target for target in links_to(page) if target.is_relative_to(DOCS)} - found
    lost = sorted(page.relative_to(DOCS).as_posix() for page in {*DOCS.rglob("*.md")} - found)
    assert [page for page in lost if not page.startswith("decisions/")] == []


def test_a_decision_is_listed_by_its_title() -> None:
    listed = next(entry["Decisions"] for entry in SETTINGS["nav"][-1]["Maintainers"] if "Decisions" in entry)
    for entry in listed:
        ((title, path),) = entry.items()
        assert (DOCS / path).read_text(encoding="utf-8").splitlines()[0] == f"# {title}"


@pytest.mark.parametrize(
    ("text", "page", "shown"),
    [
        ("see [the file](../experiments/a.yaml).", "sweep.md", "see the file (`experiments/a.yaml`)."),
        ("[`slurm/sites`](../slurm/sites/)", "cluster.md", "`slurm/sites`"),
        ("[a.py](../../sam2ft/a.py)", "start/demo.md", "`sam2ft/a.py`"),
        ("[data](../data.md#tables)", "start/demo.md", "[data](../data.md#tables)"),
        ("[x](https://example.org/a)", "index.md", "[x](https://example.org/a)"),
        ("![x](images/qc.jpg)", "index.md", "![x](images/qc.jpg)"),
        ("```\n[x](../a.md)\n```", "index.md", "```\n[x](../a.md)\n```"),
    ],
)
def test_links_out_of_the_site_are_paths(text: str, page: str, shown: str) -> None:
    assert hooks().with_paths(text, page) == shown


def test_nothing_of_the_site_is_fetched_from_a_network() -> None:
    assert SETTINGS["theme"]["font"] is False
    names = {name for entry in SETTINGS["plugins"] for name in ([entry] if isinstance(entry, str) else entry)}
    assert names == {"offline", "search"}
    assert all((DOCS / path).is_file() for path in (*SETTINGS["extra"]["polyfills"], *SETTINGS["extra_css"]))
    assert SETTINGS["use_directory_urls"] is False


@pytest.mark.skipif(not MKDOCS.is_file(), reason="`make docs` was not run")
@pytest.mark.slow
def test_the_built_site_has_every_page_and_asks_no_other_host(tmp_path: Path) -> None:
    subprocess.run(
        [MKDOCS, "build", "-q", "--strict", "--site-dir", tmp_path], cwd=ROOT, check=True, env=os.environ, text=True
    )
    for page in DOCS.rglob("*.md"):
        assert (tmp_path / page.relative_to(DOCS)).with_suffix(".html").is_file()
    for path in tmp_path.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert re.findall(r"<(?:script|img|iframe)[^>]+src=\"?https?:[^>]*", text) == []
        assert re.findall(r"<link[^>]+(?:stylesheet|preconnect|preload)[^>]*https?:[^>]*", text) == []
