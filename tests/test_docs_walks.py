"""The walks of the documentation, done literally in an empty folder: files saved, commands run, their output seen."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fixtures.exams import exams, structures
from fixtures.messy import write_messy

ROOT = Path(__file__).parents[1]
SAVED = re.compile(r"Save this as `([\w./-]+)`:\s*\Z")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[-+\u2212]?\d+\.\d+")
TOLERANCE = 0.1
"""Last digits of a short training depend on the processor."""


@dataclass(frozen=True)
class Step:
    """A file to save, or a command and the lines that the page shows of its output."""

    file: str
    text: str
    shown: tuple[str, ...] = ()


def steps_of(page: str) -> list[Step]:
    """The steps of a page, in order: files to save, and `sh` blocks, each with the `text` block after it."""
    steps: list[Step] = []
    for found in BLOCK.finditer(page):
        language, content = found.groups()
        if saved := SAVED.search(page[: found.start()]):
            steps.append(Step(saved[1], content))
        elif language == "sh":
            steps.append(Step("", content))
        elif language == "text" and steps and not steps[-1].file:
            steps[-1] = Step("", steps[-1].text, (*steps[-1].shown, *content.splitlines()))
    return steps


def words_of(line: str) -> list[str]:
    return re.sub(r"\u2500+", "\u2500", line).split()


def is_shown(expected: str, lines: list[str]) -> bool:
    """Whether a line of a page is among the lines of an output; `...` stands for the rest of a line."""
    wanted, _, _ = expected.partition(" ...") if expected.endswith("...") else (expected, "", "")
    return any(_same(words_of(wanted), words_of(line), cut=expected.endswith("...")) for line in lines)


def _same(wanted: list[str], found: list[str], *, cut: bool) -> bool:
    found = found[: len(wanted)] if cut else found
    return len(wanted) == len(found) and all(map(_same_word, wanted, found))


def _same_word(wanted: str, found: str) -> bool:
    ours, theirs = NUMBER.findall(wanted), NUMBER.findall(found)
    if NUMBER.sub("#", wanted) != NUMBER.sub("#", found) or len(ours) != len(theirs):
        return False
    pairs = zip(map(_value, ours), map(_value, theirs), strict=True)
    return all(abs(one - other) <= TOLERANCE for one, other in pairs)


def _value(text: str) -> float:
    return float(text.replace("\u2212", "-"))


def run(command: str, folder: Path) -> list[str]:
    """Lines of everything that a command prints; `python` is this one."""
    bin_folder = Path(sys.executable).parent
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euc", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [*done.stdout.splitlines(), *done.stderr.splitlines()]


def walk(page: str, folder: Path) -> Iterator[str]:
    """Do all steps of a page; yields the lines that it shows and that did not appear."""
    for step in steps_of(page):
        if step.file:
            (folder / step.file).write_text(step.text, encoding="utf-8")
            continue
        lines = run(step.text, folder)
        yield from (expected for expected in step.shown if expected.strip() and not is_shown(expected, lines))


def empty_checkout(folder: Path) -> Path:
    """A folder with the commands and nothing else of the checkout."""
    (folder / "launch").symlink_to(ROOT / "launch")
    return folder


@pytest.mark.slow
def test_your_data_in_ten_minutes_works_as_it_is_written(tmp_path: Path) -> None:
    page = (ROOT / "docs/start/your-data.md").read_text(encoding="utf-8")
    assert [bool(step.file) for step in steps_of(page)] == [False, True, False, True, False, False]
    assert all(step.shown for step in steps_of(page) if not step.file)
    folder = empty_checkout(tmp_path)
    assert list(walk(page, folder)) == []
    assert (folder / "runs/my_first/report/index.html").is_file()


@pytest.mark.parametrize(
    ("page", "raw", "steps"),
    [
        pytest.param("several-series", exams, "fcfcffcfc", marks=pytest.mark.slow),
        ("file-per-structure", structures, "fccffc"),
    ],
)
def test_a_how_to_page_works_as_it_is_written(page: str, raw: Callable[..., None], steps: str, tmp_path: Path) -> None:
    raw(tmp_path, "p1", "p2")
    text = (ROOT / f"docs/howto/{page}.md").read_text(encoding="utf-8")
    assert "".join("f" if step.file else "c" for step in steps_of(text)) == steps
    assert list(walk(text, empty_checkout(tmp_path))) == []


def test_the_walk_from_a_messy_folder_to_a_store_works_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    page = (ROOT / "docs/howto/scan.md").read_text(encoding="utf-8")
    assert len(steps_of(page)) == 3
    assert all(step.shown for step in steps_of(page))
    write_messy(tmp_path)
    assert list(walk(page, tmp_path)) == []
    assert len(list((tmp_path / "data/knees/volumes").glob("*.image.npy"))) == 5


def test_steps_are_found_in_order_and_a_file_is_no_command() -> None:
    saved, command = (
        "Save this as `a.txt`:\n\n```yaml\nx: 1\n```\n\n",
        "```sh\ncat a.txt\n```\nprints\n```text\nx: 1\n```\n",
    )
    page = f"{saved}{command}```\nmake x\n```\n"
    assert steps_of(page) == [Step("a.txt", "x: 1\n"), Step("", "cat a.txt\n", ("x: 1",))]


@pytest.mark.parametrize(
    ("shown", "output", "missing"),
    [
        ("x: 1", "x: 1", []),
        ("x: 2", "x: 1", ["x: 2"]),
        ("dice 0.91 of n 4", "dice   0.89  of n 4", []),
        ("dice 0.91 of n 4", "dice 0.91 of n 5", ["dice 0.91 of n 4"]),
        ("dice 0.91", "dice 0.41", ["dice 0.91"]),
        ("made: keep it, ...", "made: keep it, and pass it on to nobody", []),
        ("made: lose it, ...", "made: keep it, and pass it on to nobody", ["made: lose it, ..."]),
    ],
)
def test_what_a_page_shows_has_to_appear(shown: str, output: str, missing: list[str], tmp_path: Path) -> None:
    page = f"```sh\necho '{output}'\n```\n\n```text\n{shown}\n```\n"
    assert list(walk(page, tmp_path)) == missing


def test_a_command_that_fails_is_seen(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        list(walk("```sh\nls nothing\n```\n", tmp_path))


def test_a_saved_file_is_what_the_next_command_reads(tmp_path: Path) -> None:
    page = "Save this as `a.txt`:\n\n```yaml\nx: 1\n```\n\n```sh\ncat a.txt\n```\n\n```text\nx: 1\n```\n"
    assert list(walk(page, tmp_path)) == []
