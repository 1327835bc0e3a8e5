"""The Apptainer recipe cannot be built here: every section, path and command of it is held against the repository."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "slurm" / "container" / "sam2ft.def"
KNOWN_SECTIONS = {"files", "post", "environment", "runscript", "test", "labels", "help"}


def sections(text: str) -> dict[str, list[str]]:
    """Section -> its lines, stripped, without comments; the header is the section ``."""
    found: dict[str, list[str]] = {"": []}
    name = ""
    for line in text.splitlines():
        if match := re.match(r"%(\w+)\s*$", line):
            name = match[1]
            assert name not in found, f"%{name} twice"
            found[name] = []
        elif line.strip() and not line.strip().startswith("#"):
            found[name].append(line.strip())
    return found


@pytest.fixture
def recipe() -> dict[str, list[str]]:
    return sections(RECIPE.read_text())


def pip_installs(lines: list[str]) -> list[list[str]]:
    """The arguments of each `pip install`, in order, without the name of the Python that runs it."""
    found = []
    for line in lines:
        words = shlex.split(line.strip().removeprefix("@"))
        if "pip" in words and "install" in words:
            found.append([word for word in words[words.index("install") + 1 :] if word != "-q"])
    return found


def test_the_header_names_one_exact_image(recipe):
    header = dict(line.split(": ", 1) for line in recipe[""])
    assert header.keys() == {"Bootstrap", "From"}
    assert header["Bootstrap"] == "docker"
    version = re.fullmatch(r"python:3\.(\d+)\.\d+-slim-bookworm", header["From"])
    assert version
    low, high = re.search(r"python_requires = >=3\.(\d+),<3\.(\d+)", (ROOT / "setup.cfg").read_text()).groups()
    assert int(low) <= int(version[1]) < int(high)


def test_sections_are_those_of_apptainer(recipe):
    assert recipe.keys() - {""} <= KNOWN_SECTIONS
    assert {"files", "post", "environment", "runscript", "test"} <= recipe.keys()


def test_every_file_is_in_the_repository_and_lands_where_it_is_used(recipe):
    pairs = [line.split() for line in recipe["files"]]
    assert all(len(pair) == 2 for pair in pairs)
    for source, target in pairs:
        assert (ROOT / source).exists(), source
        assert target == f"/opt/sam2ft/{source}"
    assert "cd /opt/sam2ft" in recipe["post"]
    copied = {source for source, _ in pairs}
    named = {word for words in pip_installs(recipe["post"]) for word in words if word.endswith(".txt")}
    # setup.cfg reads README.md as the long description and LICENSE as the licence.
    assert named | {"setup.cfg", "pyproject.toml", "README.md", "LICENSE", "sam2ft"} == copied


def test_packages_are_installed_as_make_setup_does(recipe):
    makefile = (ROOT / "Makefile").read_text()
    of_make = pip_installs(makefile[makefile.index("$(READY): setup.cfg") : makefile.index("\n\ndemo:")].splitlines())
    of_recipe = pip_installs(recipe["post"])
    # The tools of developers and an editable install there; what jobs need and the package itself here.
    of_make = [[word.replace("dev.txt", "run.txt") for word in words if word != "-e"] for words in of_make]
    assert of_recipe == of_make
    assert [words[-1] for words in of_recipe] == [
        "requirements/build.txt",
        "requirements/run.txt",
        "requirements-sam2.txt",
        ".",
    ]
    assert any(line.startswith("SAM2_BUILD_CUDA=0 ") for line in recipe["post"])


def test_python_lines_of_the_recipe_compile_and_import_modules_that_exist(recipe):
    for line in [*recipe["post"], *recipe["test"]]:
        words = shlex.split(line)
        if "-c" in words and words[0] == "python3" and words[1] == "-c":
            code = words[2]
            compile(code, str(RECIPE), "exec")
            for name in re.findall(r"sam2ft(?:\.\w+)+", code):
                assert (ROOT / (name.replace(".", "/") + ".py")).is_file(), name
    assert recipe["runscript"] == ['exec python3 "$@"']


def test_the_readme_builds_the_file_that_is_there():
    text = RECIPE.with_name("README.md").read_text()
    assert f"apptainer build sam2ft.sif {RECIPE.relative_to(ROOT)}" in text
