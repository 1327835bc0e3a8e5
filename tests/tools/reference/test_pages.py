"""The reference: every key of every schema is in it, once, and every example is taken by the loader."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from sam2ft.cli.main import COMMANDS
from sam2ft.config.load_dataset import load_dataset
from sam2ft.config.load_experiment import load_experiment
from sam2ft.config.schema.dataset import DatasetFile
from sam2ft.config.schema.experiment import Experiment
from sam2ft.config.yaml.loading import dump_yaml, load_yaml
from sam2ft.slurm.site import Site, load_site
from sam2ft.tools.reference.key_list import schema_keys
from sam2ft.tools.reference.pages import FILES, commands_page, example_of, keys_page, reference_pages

MISSING = object()
BASES: dict[str, dict[str, Any]] = {
    "experiment": {
        "experiment": {"name": "base"},
        "dataset": {"base": {"store": "data/base"}},
        "module": {"sam2_model_cfg": "sam2_nano", "image_size": 256},
    },
    "dataset": {
        "dataset": {"name": "base"},
        "sources": {"images": "images/{subject}/{volume}", "masks": "masks/{subject}_{volume}.nii.gz"},
        "labels": {1: {"name": "tissue"}},
    },
    "site": {"site": {"name": "mine"}},
}


def models_below(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation holds; found in another way than schema_keys finds them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_below(argument)


def every_field(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[tuple[type[BaseModel], str]]:
    for name, field in model.model_fields.items():
        if name != "constructor_arguments":
            yield model, field.alias or name
        for below in models_below(field.annotation):
            if below not in seen:
                seen.add(below)
                yield from every_field(below, seen)


@pytest.mark.parametrize("model", [Experiment, DatasetFile, Site])
def test_every_field_of_the_schema_is_listed(model: type[BaseModel]) -> None:
    fields = list(every_field(model, {model}))
    listed = schema_keys(model)
    assert len({entry.dotted for entry in listed}) == len(listed)
    names = [entry.dotted.rpartition(".")[2] for entry in listed]
    for name in {name for _, name in fields}:
        assert names.count(name) >= len({owner for owner, known in fields if known == name}), name
    assert len(listed) >= len(fields) > 20


@pytest.mark.parametrize("name", FILES)
def test_a_page_has_every_key_with_its_meaning_and_an_example(name: str) -> None:
    page = keys_page(name)
    for entry in schema_keys(FILES[name][1]):
        assert page.count(f"`{entry.dotted}`\n" if not entry.is_section else f" {entry.dotted}\n") >= 1, entry.dotted
        assert entry.meaning
    assert "null}`" not in page.replace("clip_grad: null}`", ""), "an example that only says null shows nothing"


@pytest.mark.parametrize("name", FILES)
def test_an_example_shows_more_than_the_default(name: str, in_empty_folder: Path) -> None:
    _, model, known, _ = FILES[name]
    same = []
    for entry in schema_keys(model):
        Path("example.yaml").write_text(example_of(entry, known))
        shown: Any = load_yaml(Path("example.yaml")).value
        for key in entry.dotted.split("."):
            shown = shown.get(key, MISSING) if isinstance(shown, dict) else MISSING
        if not entry.is_section and not entry.required and shown == entry.default:
            same.append(entry.dotted)
    # It has one allowed value.
    assert same == (["eval.checkpoint"] if name == "experiment" else [])


@pytest.mark.parametrize("name", FILES)
def test_a_number_whose_key_names_a_quantity_has_its_unit(name: str) -> None:
    units = {"_gb": "GB", "_mm": "mm", "_ms": "ms", "_mm3": "mm3", "_s": "s", "hours": "h", "_minutes": "min"}
    named = [
        (entry, unit)
        for entry in schema_keys(FILES[name][1])
        for end, unit in units.items()
        if entry.dotted.endswith(end) and "number" in entry.allowed
    ]
    wrong = [entry.dotted for entry, unit in named if entry.unit not in (unit, "GiB")]
    assert wrong == []
    assert named


def test_the_name_of_a_key_is_not_written_with_a_capital() -> None:
    for text in reference_pages().values():
        assert re.findall(r"^[A-Z]\w*[._][a-z]\w*.*", text, re.MULTILINE) == []


def test_actions_and_examples_of_a_command_are_listed() -> None:
    page = commands_page()
    for line in ("why RUN        explain the state of a run", "export-best ", "call it again to continue"):
        assert line.lower() in page.lower()


def merged(base: dict[Any, Any], over: dict[Any, Any]) -> dict[Any, Any]:
    both = {key: merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
            for key, value in over.items()}  # fmt: skip
    return base | both


def load_as(kind: str, value: dict[Any, Any]) -> None:
    path = Path("mine.yaml")
    path.write_text(dump_yaml(value))
    if kind == "experiment":
        load_experiment(path)
    elif kind == "dataset":
        load_dataset(path)
    else:
        load_site("mine", Path())


def examples() -> list[Any]:
    found = []
    for kind, (_, model, known, _) in FILES.items():
        lines = dict.fromkeys(
            [*known.values(), *(example_of(e, known) for e in schema_keys(model) if not e.is_section)]
        )
        found += [pytest.param(kind, line, id=f"{kind}-{number}") for number, line in enumerate(lines)]
    return found


@pytest.mark.parametrize(("kind", "line"), examples())
def test_every_example_loads(kind: str, line: str, in_empty_folder: Path) -> None:
    Path("example.yaml").write_text(line)
    over = load_yaml(Path("example.yaml")).value
    base = BASES[kind]
    if kind == "dataset" and "labels" in over:
        base = {key: value for key, value in base.items() if key != "labels"}
    if kind == "dataset" and {"layout", "keep_covariates"} & over.get("sources", {}).keys():
        base = base | {"sources": {}}
    load_as(kind, merged(base, over))


@pytest.mark.parametrize("kind", FILES)
def test_an_example_of_a_key_that_does_not_exist_would_be_seen(kind: str, in_empty_folder: Path) -> None:
    with pytest.raises(Exception, match="nonsense"):
        load_as(kind, merged(BASES[kind], {"nonsense": 1}))


def test_every_option_of_every_command_is_listed() -> None:
    page = commands_page()
    for name in COMMANDS:
        assert f"\n## {name}\n" in page
    for option in ("--dry-run", "--ckpt FILE", "--retry", "--max-volume-gb", "--require-complete"):
        assert f"`{option}" in page


def test_the_pages_are_up_to_date() -> None:
    assert [path.name for path, text in reference_pages().items() if path.read_text("utf-8") != text] == []


def test_what_stands_in_angle_brackets_is_no_html() -> None:
    """`map_<name>` in the description of a key would be an unknown element, which browsers do not show."""
    for text in reference_pages().values():
        assert re.findall(r"<(?!!--)", re.sub(r"`[^`]*`", "", text)) == []
    assert "map_&lt;name>" in keys_page("dataset")
