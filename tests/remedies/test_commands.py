"""What messages name exists: options, commands, scripts, make targets and keys of the configuration."""

import argparse
import re
import shlex
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from sam2ft.cli.main import COMMANDS
from sam2ft.config.schema.base import Section
from sam2ft.config.schema.dataset import DatasetFile
from sam2ft.config.schema.experiment import Experiment
from sam2ft.config.schema.maps import MapSource
from sam2ft.slurm.site import Site
from tests.remedies.catalogue import ROOT, Message, messages

OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
SCRIPT = re.compile(r"launch/([a-z]+)\.py")
TARGET = re.compile(r"`?\bmake ([a-z][a-z-]*)\b(?= ARGS|`)")
FOREIGN = {
    "--version": "of sbatch",
    "--logdir": "of tensorboard",
    "--nproc-per-node": "of torchrun",
    "--ntasks-per-node": "of srun",
    "--ntasks": "of srun",
    "--nodes": "of srun",
    "--test-only": "of sbatch",
    "--raw": "of gdcmconv",
    "--upgrade-package": "of uv, by make lock",
    "--from": "of sam2ft.tools.download_weights",
    "--metadata": "of sam2ft.tools.slice_files",
}
"""Options of programs that are not commands of this package."""
SCRIPTS = frozenset({"slurm/batch_script.py", "slurm/requeue.py"})
"""Modules whose texts are lines of a shell script."""


@cache
def parsers() -> dict[str, argparse.ArgumentParser]:
    return {name: import_module(f"sam2ft.cli.{name}").parser() for name in COMMANDS}


@cache
def options_of(command: str) -> frozenset[str]:
    return frozenset(option for action in parsers()[command]._actions for option in action.option_strings)


@cache
def options() -> frozenset[str]:
    return frozenset(option for command in COMMANDS for option in options_of(command))


def read_messages() -> Iterator[Message]:
    return (one for one in messages() if one.where.partition(":")[0].removeprefix("sam2ft/") not in SCRIPTS)


def test_every_option_that_a_message_names_exists() -> None:
    named = {(option, one.where) for one in read_messages() for option in OPTION.findall(one.text)}
    assert len(named) > 50
    unknown = sorted(pair for pair in named if pair[0] not in options() and pair[0] not in FOREIGN)
    assert not unknown, f"no command has such an option: {unknown}"


def test_an_option_beside_a_script_is_one_of_that_script() -> None:
    pairs = [
        (name, option, one.where)
        for one in read_messages()
        for name, rest in re.findall(r"launch/([a-z]+)\.py((?: [^;()]*)?)", one.text)
        for option in OPTION.findall(rest)
    ]
    pairs += [
        (name, option, one.where)
        for one in read_messages()
        for option, name in re.findall(r"(--[a-z-]+) \(launch/([a-z]+)\.py\)", one.text)
    ]
    assert len(pairs) > 15
    assert not [pair for pair in pairs if pair[1] not in options_of(pair[0]) and pair[1] not in FOREIGN]


def test_every_script_that_a_message_names_exists() -> None:
    named = {(name, one.where) for one in messages() for name in SCRIPT.findall(one.text)}
    assert len(named) > 10
    assert not [pair for pair in named if not (ROOT / "launch" / f"{pair[0]}.py").is_file()]


def test_every_target_of_make_that_a_message_names_exists() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {(name, one.where) for one in messages() for name in TARGET.findall(one.text)}
    assert len(named) > 5
    assert not [pair for pair in named if pair[0] not in targets]


def test_options_that_make_is_given_are_those_of_its_script() -> None:
    scripts = {"sweep": "sweep", "status": "status", "prepare": "prepare", "aggregate": "aggregate"}
    named = [found for one in messages() for found in re.findall(r"make ([a-z]+) ARGS='([^']*)'", one.text)]
    assert named
    for target, arguments in [pair for pair in named if pair[0] in scripts]:
        given = shlex.split(arguments.replace("{}", "all"))
        # Only the options: what make adds of its own is the experiment.
        parsers()[scripts[target]].parse_args(["toy.yaml", *given])


def _keys(section: type[Section], prefix: str = "") -> Iterator[str]:
    """Every dotted key of a section, sections included."""
    for name, field in section.model_fields.items():
        dotted = f"{prefix}{field.alias or name}"
        yield dotted
        for kind in _sections(field.annotation):
            yield from _keys(kind, f"{dotted}.")


def _sections(annotation: object) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _sections(inner)


KEY = re.compile(
    r"(?<![\w./-])((?:module|eval|datamodule|resources|slurm|report|sources|intensity|instances|split)\.[a-z_.<>{}]*[a-z_])"
    r"(?![\w/(])"
)


def test_every_key_that_a_message_names_exists() -> None:
    known = {key for root in (Experiment, DatasetFile, Site) for key in _keys(root)}
    known |= {f"sources.maps.t2.{name}" for name in MapSource.model_fields}
    # An argument of a class of torch.
    known |= {"module.scheduler.total_steps"}
    named = {(key, one.where) for one in messages() for key in KEY.findall(one.text)}
    assert len(named) > 40
    unknown = sorted(
        pair
        for pair in named
        if not _is_key(pair[0], known) and not pair[0].endswith((".yaml", ".csv", ".py", ".json"))
    )
    assert not unknown, f"no such key of an experiment, a dataset or a site: {unknown}"


def _is_key(named: str, known: set[str]) -> bool:
    """Whether a key is one of the schema; `{}` and `<name>` stand for any one."""
    pattern = re.compile(re.sub(r"\\\{\\\}|<[a-z]+>", "[^.]+", re.escape(named)))
    return any(pattern.fullmatch(key) for key in known) or any(key.startswith(f"{named}.") for key in known)


@pytest.mark.parametrize("text", ["module.no_such_key", "eval.protocoll"])
def test_a_key_that_does_not_exist_is_seen(text: str) -> None:
    known = {key for root in (Experiment, DatasetFile) for key in _keys(root)}
    assert KEY.findall(f"set {text}: false") == [text]
    assert not _is_key(text, known)


def test_paths_of_documents_exist() -> None:
    named = {(name, one.where) for one in messages() for name in re.findall(r"docs/[a-z_]+\.md", one.text)}
    assert named
    assert not [pair for pair in named if not Path(ROOT / pair[0]).is_file()]
