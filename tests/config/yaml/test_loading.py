"""YAML 1.2 scalars, one line per key, and what is refused."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam2ft.config.yaml import loading
from sam2ft.config.yaml.loading import dump_yaml, load_yaml, parse_scalar, parse_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        (".5", 0.5),
        ("5.", 5.0),
        ("-0.25", -0.25),
        ("12", 12),
        ("+12", 12),
        ("-0", 0),
        ("0x1F", 31),
        ("0o17", 15),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("true", True),
        ("False", False),
        ("", None),
        ("~", None),
        ("null", None),
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("12:00:00", "12:00:00"),
        ("2024-01-02", "2024-01-02"),
        ("0001234", "0001234"),
        ("007.5", "007.5"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("1e", "1e"),
        ("9" * 200, 1e200),
    ],
)
def test_scalars_are_read_as_yaml_1_2_says(text: str, value: Any) -> None:
    found = parse_scalar(text)
    assert found == value
    assert type(found) is type(value)


def test_nan_is_a_number_and_quotes_make_text(write: Any) -> None:
    assert math.isnan(load_yaml(write("a: .nan")).value["a"])
    assert load_yaml(write("a: '1e-4'\nb: \"no\"\nc: 'null'")).value == {"a": "1e-4", "b": "no", "c": "null"}


def test_every_key_and_entry_has_its_line(write: Any) -> None:
    document = load_yaml(write("a:\n  b: 1\n\n  c: [x,\n      y]\nd:\n- {e: 1}\n"))
    assert document.lines[("a", "b")] == 2
    assert document.lines[("a", "c")] == 4
    assert document.lines[("a", "c", "1")] == 5
    assert document.lines[("d", "0", "e")] == 7
    assert document.where(("a", "b", "not", "there")) == "file.yaml:2"
    assert document.where(("zzz",)) == "file.yaml:1"


def test_keys_are_text_as_written(write: Any) -> None:
    assert load_yaml(write("1: a\n01: b\nno: c")).value == {"1": "a", "01": "b", "no": "c"}


def test_a_duplicate_key_names_both_lines(write: Any, problems_of: Any) -> None:
    path = write("a: 1\nb:\n  c: 2\n  d: 3\n  c: 4\na: 5\n")
    assert problems_of(load_yaml, path) == [
        "file.yaml:5: b.c: duplicate key, already on line 3",
        "file.yaml:6: a: duplicate key, already on line 1",
    ]


def test_one_and_quoted_one_are_the_same_key(write: Any, problems_of: Any) -> None:
    assert problems_of(load_yaml, write("1: a\n'1': b")) == ["file.yaml:2: 1: duplicate key, already on line 1"]


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("a: !!python/object:os.system {x: 1}", "!!python/object:os.system"),
        ("a: !!python/object/apply:os.system ['true']", "!!python/object/apply:os.system"),
        ("a: !env HOME", "!env"),
        ("a: !!str 1", "!!str"),
        ("a: !!binary aGk=", "!!binary"),
    ],
)
def test_a_tag_is_refused_by_name(write: Any, problems_of: Any, text: str, tag: str) -> None:
    assert problems_of(load_yaml, write(text)) == [
        f"file.yaml:1: a: tag {tag}; tags are not allowed, write the value itself"
    ]


def test_aliases_stand_for_their_value(write: Any) -> None:
    assert load_yaml(write("a: &x {b: [1, 2]}\nc: *x")).value == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<<: {a: 1}", "file.yaml:1: `<<` is not part of YAML 1.2; write the keys, or use extends:"),
        ("a: 1\n? [x]\n: 2", "file.yaml:2: a key must be a word or a number, without a tag"),
        ("a: &x [*x]", "file.yaml:1: a.0: an alias inside the value that it refers to"),
    ],
)
def test_what_yaml_allows_and_we_do_not(write: Any, problems_of: Any, text: str, message: str) -> None:
    assert problems_of(load_yaml, write(text)) == [message]


@pytest.mark.parametrize("text", ["a: [1\nb: 2", "\ta: 1", "a: *nowhere", "a: 1\n---\nb: 2", "a: b: c", "a: \x01"])
def test_broken_yaml_says_where(write: Any, problems_of: Any, text: str) -> None:
    (message,) = problems_of(load_yaml, write(text))
    assert message.startswith("file.yaml")
    assert "not valid YAML" in message


def test_a_file_that_is_not_utf_8_names_the_line_and_the_byte(write: Any, problems_of: Any) -> None:
    path = write("a: 1\nb: Müller\n".encode("latin-1"))
    assert problems_of(load_yaml, path) == ["file.yaml:2: not UTF-8: byte 0xfc; save the file as UTF-8"]


def test_a_byte_order_mark_is_no_part_of_the_first_key(write: Any) -> None:
    assert load_yaml(write("﻿a: ü")).value == {"a": "ü"}


def test_a_missing_file_and_a_folder_are_named(in_empty_folder: Path, problems_of: Any) -> None:
    assert problems_of(load_yaml, Path("none.yaml")) == ["none.yaml: No such file or directory"]
    assert problems_of(load_yaml, Path()) == [".: Is a directory"]


def test_a_short_text_cannot_stand_for_an_endless_value(write: Any, problems_of: Any) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert problems_of(load_yaml, write("\n".join(lines))) == ["file.yaml: more than 200000 values, counting aliases"]


def test_deep_nesting_is_an_error_and_not_a_crash(write: Any, problems_of: Any) -> None:
    (message,) = problems_of(load_yaml, write("a: " + "[" * 100_000))
    assert message.startswith("file.yaml")


def test_values_on_the_command_line_are_yaml() -> None:
    assert parse_value("1e-4", "--set") == 1e-4
    assert parse_value("{type: SGD, nesterov: true}", "--set") == {"type": "SGD", "nesterov": True}
    assert parse_value("[1, no]", "--set") == [1, "no"]
    assert parse_value("", "--set") is None


scalars = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)


@given(values)
def test_what_is_dumped_is_read_back(value: Any) -> None:
    assert parse_value(dump_yaml(value), "here") == value


@pytest.mark.parametrize(
    "text", ["1e-4", "no", "0001234", "12:00:00", "2024-01-02", "<<", "null", "", " x", "a: b", "é\n"]
)
def test_text_that_looks_like_something_else_stays_text(text: str) -> None:
    assert parse_value(dump_yaml({"key": text, text: 1}), "here") == {"key": text, text: 1}


def test_a_small_float_keeps_its_value_for_readers_of_yaml_1_1() -> None:
    assert dump_yaml({"lr": 1e-5}) == "{lr: 1.0e-05}\n"


def test_without_libyaml_the_same_values_and_lines_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib
    import sys

    text = "a: &x {b: 1e-4}\nc: [no, *x, '1']\n1: ~\n"
    fast = loading._parse(text, "f", numbered=True)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "yaml._yaml", None)
        slow = importlib.reload(loading)._parse(text, "f", numbered=True)
    importlib.reload(loading)
    assert slow == fast
