"""What the documentation says exists: links, commands, make targets, YAML, names."""

import argparse
import ast
import importlib
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from sam2ft.cli.main import COMMANDS
from sam2ft.config.load_dataset import load_dataset, load_label_table
from sam2ft.config.load_experiment import load_experiment
from sam2ft.config.yaml.loading import load_yaml
from sam2ft.core.errors import DataError
from sam2ft.core.generated_files import generate, with_block
from sam2ft.slurm.site import load_site
from sam2ft.tools.tree import expected

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md")]
    + [page for folder in ("docs", "benchmarks", "slurm", "sam2ft") for page in (ROOT / folder).rglob("*.md")]
)
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
FRAGMENT = "# fragment"
BASE = """\
experiment: {name: base}
dataset:
  base: {store: data/base}
module:
  sam2_model_cfg: sam2_nano
  image_size: 256
"""


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def fenced(text: str) -> list[tuple[str, str]]:
    """(language, content) of every fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def without_fences(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def code_lines(text: str) -> list[str]:
    """Lines of shell blocks without their comments, and pieces of inline code."""
    blocks = [content for language, content in fenced(text) if language in ("", "sh", "bash")]
    lines = [re.sub(r"\s+#.*", "", line) for block in blocks for line in block.splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", without_fences(text))


# --- links ------------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Anchors of the headings, as GitHub and GitLab make them."""
    headings = re.findall(r"^#+ (.+)$", without_fences(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    text = re.sub(r"`[^`\n]*`", "", without_fences(page.read_text(encoding="utf-8")))
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
            broken.append(target)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(page):
    assert broken_links(page) == []


def test_a_broken_link_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A heading, or two\n[here](page.md) [there](nowhere.md) [part](#a-heading-or-two) [no](#none)\n")
    assert broken_links(page) == ["nowhere.md", "#none"]


def test_named_files_exist():
    """Files named in full in inline code, such as `sam2ft/core/tables/rows.py`."""
    pattern = re.compile(r"`((?:sam2ft|launch|docs|experiments|slurm|benchmarks|tests)/[\w./-]+\.(?:py|md|yaml|json))`")
    named = {(name_of(page), path) for page in PAGES for path in pattern.findall(page.read_text(encoding="utf-8"))}
    assert sorted(entry for entry in named if not (ROOT / entry[1]).is_file()) == []
    assert len(named) > 10


# --- commands ---------------------------------------------------------------------------------------------------------


@cache
def parser_of(script: str) -> argparse.ArgumentParser:
    parser = importlib.import_module(f"sam2ft.cli.{script}").parser()
    assert isinstance(parser, argparse.ArgumentParser)
    return parser


def problem_of_command(script: str, arguments: str) -> str | None:
    """Why the command would not be taken, or None. Usage lines ([--option], {a,b}) are checked by option names."""
    if script not in COMMANDS:
        return "no such command"
    if not re.search(r"\w", arguments):
        return None
    parser = parser_of(script)
    if re.search(r"[\[\]{}|…]|\.\.\.", arguments):
        unknown = sorted(set(re.findall(r"--[a-z-]+", arguments)) - parser._option_string_actions.keys())
        return f"unknown {', '.join(unknown)}" if unknown else None
    try:
        parser.parse_args(shlex.split(arguments))
    except SystemExit:
        return "refused by the parser"
    return None


def commands() -> list[tuple[str, str, str]]:
    """(page, script, arguments) of every command of launch/ with arguments."""
    found = []
    for page in [*PAGES, *sorted((ROOT / "experiments").rglob("*.yaml"))]:
        text = page.read_text(encoding="utf-8")
        # In a YAML they stand in comments, at the end of a line.
        lines = code_lines(text) if page.suffix == ".md" else re.findall(r"(python launch/.*|make \w.*)$", text, re.M)
        for line in lines:
            calls = re.findall(r"launch/(\w+)\.py(?:[ \t]+([^`#;)]*))?", line)
            # As a line of its own or a piece of inline code; not `sam2ft doctor` in running text.
            calls += re.findall(r"^\s*sam2ft ([a-z]+)(?:[ \t]+([^`#;)]*))?", line)
            found += [(name_of(page), script, arguments.strip()) for script, arguments in calls]
    return found


def test_every_command_of_the_documentation_is_taken_by_its_parser(capsys):
    wrong = [
        (page, f"launch/{script}.py {arguments}", problem)
        for page, script, arguments in commands()
        if (problem := problem_of_command(script, arguments))
    ]
    assert wrong == []
    assert len(commands()) > 20


def test_an_option_that_a_script_does_not_have_is_seen(capsys):
    assert problem_of_command("sweep", "EXP.yaml [--dry-run] [--no-such]") == "unknown --no-such"
    assert problem_of_command("sweep", "EXP.yaml --local many") == "refused by the parser"
    assert problem_of_command("sweep", "EXP.yaml --local 2") is None


def make_calls() -> list[tuple[str, list[str]]]:
    sources = {name_of(page): code_lines(page.read_text(encoding="utf-8")) for page in PAGES}
    sources[".ci/run"] = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    found = []
    for name, lines in sources.items():
        for line in lines:
            if match := re.match(r"\s*make +(.+)$", line):
                found.append((name, match[1].split()))
    return found


def test_every_make_target_and_variable_of_the_documentation_exists():
    targets = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
    variables = set(re.findall(r"\$[({](\w+)[)}]|\$\(if \$\((\w+)\)", MAKEFILE))
    known = {name for pair in variables for name in pair}
    wrong = []
    for page, words in make_calls():
        for word in words:
            assigned = re.match(r"\[?([A-Z]+)=", word)
            if (assigned and assigned[1] not in known) or (re.fullmatch(r"[a-z][a-z-]*", word) and word not in targets):
                wrong.append((page, word))
    assert wrong == []
    assert len(make_calls()) > 10


# --- YAML -------------------------------------------------------------------------------------------------------------

YAML_BLOCKS = [
    pytest.param(content, id=f"{name_of(page)}-{number}")
    for page in PAGES
    for number, (language, content) in enumerate(fenced(page.read_text(encoding="utf-8")))
    if language == "yaml"
]


def load_block(content: str, folder: Path) -> None:
    """Load a block as what it is; one marked as a fragment is laid over the smallest experiment."""
    path = folder / "block.yaml"
    path.write_text(content, encoding="utf-8")
    value = load_yaml(path).value
    if "site" in value:
        named = folder / f"{value['site']['name']}.yaml"
        named.write_text(content, encoding="utf-8")
        load_site(named.stem, folder)
    elif "sources" in value:
        load_dataset(path)
    elif set(value) == {"labels"}:
        load_label_table(path)
    elif content.startswith(FRAGMENT):
        (folder / "base.yaml").write_text(BASE, encoding="utf-8")
        path.write_text(f"extends: base.yaml\n{content}", encoding="utf-8")
        load_experiment(path)
    else:
        load_experiment(path)


@pytest.mark.parametrize("content", YAML_BLOCKS)
def test_every_yaml_of_the_documentation_loads(content, in_empty_folder):
    load_block(content, in_empty_folder)


# --- names ------------------------------------------------------------------------------------------------------------

DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
# Settings of other engines that have no symbol of their own here.
NO_SYMBOL = {"data_type", "model_save_path", "class_names", "tissue_labels"}


def section(number: int) -> str:
    match = re.search(rf"^## {number}\. .*?(?=^## |\Z)", DESIGN, re.MULTILINE | re.DOTALL)
    assert match is not None
    return match[0]


def defined_in(path: Path) -> set[str]:
    """Names of the classes, functions and methods of a module."""
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, kinds)}


def name_rows() -> list[tuple[list[str], list[str]]]:
    """(names, places) of the table of known names."""
    rows = [line.split("|") for line in section(11).splitlines() if line.startswith("| `")]
    return [(re.findall(r"`([^`]+)`", row[1]), re.findall(r"`([^`]+)`", row[2])) for row in rows]


@pytest.mark.parametrize(("names", "places"), name_rows(), ids=lambda value: value[0])
def test_every_known_name_lives_where_the_design_page_says(names, places):
    folder, files, symbols = ROOT / "sam2ft", [], []
    for place in places:
        file, _, symbol = place.partition(": ")
        if file.endswith(".py"):
            path = (
                ROOT / file if file.startswith("sam2ft/") else ROOT / "sam2ft" / file if "/" in file else folder / file
            )
            folder = path.parent
            files.append(path)
            symbols += [symbol] if symbol else []
        else:
            symbols.append(file)
    assert [path for path in files if not path.is_file()] == []
    wanted = symbols or [name for name in names if name.isidentifier() and name not in NO_SYMBOL]
    assert set(wanted) - {name for path in files for name in defined_in(path)} == set()


def test_the_tree_of_the_design_page_and_the_index_are_what_the_docstrings_say():
    assert [name_of(path) for path, text in expected().items() if path.read_text(encoding="utf-8") != text] == []


def test_only_the_block_of_a_page_is_generated_and_a_page_without_it_is_refused():
    begin, end = "<!-- tree: written by `make schema` -->", "<!-- end of the tree -->"
    page = f"a\n{begin}\nold\n{end}\nb"
    assert with_block(page, "tree", ["new"]).split("\n") == ["a", begin, "", "new", "", end, "b"]
    with pytest.raises(ValueError, match="no lines"):
        with_block(page, "tables", ["new"])


def test_a_generator_writes_what_is_out_of_date_and_names_it_with_check(tmp_path, monkeypatch):
    fresh, stale, absent = (tmp_path / name for name in ("fresh", "stale", "absent"))
    fresh.write_text("a")
    stale.write_text("old")
    expected_texts = {fresh: "a", stale: "b", absent: "c"}
    monkeypatch.setattr("sys.argv", ["generator", "--check"])
    with pytest.raises(DataError, match=r"stale: out of date(?s:.*)absent: out of date"):
        generate(expected_texts, "")
    assert stale.read_text() == "old"
    monkeypatch.setattr("sys.argv", ["generator"])
    generate(expected_texts, "")
    monkeypatch.setattr("sys.argv", ["generator", "--check"])
    generate(expected_texts, "")


def too_long(page: Path) -> list[int]:
    """Numbers of lines of more than 120 characters; a row of a table and a link cannot be broken."""
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), start=1)
    return [number for number, line in lines if len(line) > 120 and line[0] != "|" and "](" not in line]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name_of)
def test_lines_are_short_enough_to_be_read_in_a_terminal(page):
    assert too_long(page) == []


def test_decisions_are_numbered_without_gaps():
    numbers = [int(path.name[:4]) for path in sorted((ROOT / "docs" / "decisions").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))


def test_pictures_stay_small():
    pictures = [*(ROOT / "docs").rglob("*.png"), *(ROOT / "docs").rglob("*.jpg")]
    assert [name_of(path) for path in pictures if path.stat().st_size > 150_000] == []
