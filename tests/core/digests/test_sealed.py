"""Seals: any damage to a sealed text is found, and texts of other programs are not taken for sealed ones."""

import json
import random

import pytest

from sam2ft.config.yaml.loading import dump_yaml, load_yaml
from sam2ft.core.digests.sealed import JSON_KEY, SealError, check_json, check_yaml, sealed_json, sealed_yaml
from sam2ft.core.errors import ProblemsError
from sam2ft.core.files import indented_json

JSON = sealed_json(indented_json({"state": "done", "steps": [1, 2.5], "name": "Müller", "nested": {"a": None}}))
YAML = sealed_yaml(dump_yaml({"experiment": {"name": "a"}, "rate": 1e-4, "names": ["x", "µ"]}))


def _json_is_refused(data: bytes) -> bool:
    try:
        text = data.decode()
        return not check_json(text) or json.loads(text) is None
    except ValueError:
        return True


def _yaml_is_refused(data: bytes) -> bool:
    try:
        return not check_yaml(data.decode()) and bool(data.strip())
    except ValueError:
        return True


@pytest.mark.parametrize(("text", "is_refused"), [(JSON, _json_is_refused), (YAML, _yaml_is_refused)])
def test_every_flipped_bit_is_found(text: str, is_refused) -> None:
    data = text.encode()
    assert not is_refused(data)
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            assert is_refused(bytes(damaged)), (position, bit)


@pytest.mark.parametrize(("text", "is_refused"), [(JSON, _json_is_refused), (YAML, _yaml_is_refused)])
def test_a_flipped_bit_never_makes_a_file_one_without_a_seal(text: str, is_refused) -> None:
    """It would be read as one of an earlier version."""
    check = check_json if text is JSON else check_yaml
    data = text.encode()
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 4
        try:
            damaged_text = bytes(damaged).decode()
        except UnicodeDecodeError:
            continue
        with pytest.raises(SealError):
            check(damaged_text)


def test_a_cut_text_is_never_a_whole_one() -> None:
    assert all(_json_is_refused(JSON[:length].encode()) for length in range(len(JSON)))
    for length in range(30, len(YAML) - 1):
        with pytest.raises(SealError):
            check_yaml(YAML[:length])


def test_lost_repeated_and_swapped_blocks_are_found() -> None:
    rng = random.Random(1)
    for _ in range(2000):
        text = rng.choice((JSON, YAML))
        start, size = rng.randrange(len(text)), rng.randrange(1, 40)
        block = text[start : start + size]
        damaged = rng.choice(
            (text.replace(block, "", 1), text.replace(block, block * 2, 1), text.replace(block, "x", 1))
        )
        if damaged != text:
            is_refused = _json_is_refused if text is JSON else _yaml_is_refused
            assert is_refused(damaged.encode()), damaged


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1}\n',
        '{\n  "sha256": "' + "0" * 64 + '"\n}\n',
        '{\n  "a": 1,\n  "digest": "' + "0" * 64 + '"\n}\n',
        "{}",
        "[1, 2]\n",
        "",
    ],
)
def test_texts_of_other_programs_have_no_seal(text: str) -> None:
    assert not check_json(text)
    assert not check_yaml(text)


def test_a_seal_is_the_last_entry_and_the_rest_is_unchanged() -> None:
    value = json.loads(JSON)
    assert list(value)[-1] == JSON_KEY
    assert JSON.startswith('{\n  "state": "done",\n')
    compact = sealed_json('{"a": 1,\n"runs": [\n{"b": 2}\n]}\n')
    assert check_json(compact)
    assert json.loads(compact)["runs"] == [{"b": 2}]
    for empty in ("{}", "[1]", "1"):
        with pytest.raises(ValueError, match="JSON object"):
            sealed_json(empty)


def test_an_edited_yaml_file_is_refused_and_accepted_as_its_message_says(tmp_path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(YAML)
    assert load_yaml(path).value["rate"] == 1e-4
    path.write_text(YAML.replace("0.0001", "0.001"))
    with pytest.raises(ProblemsError, match="remove its lines that begin with `# sealed`"):
        load_yaml(path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("# sealed")))
    assert load_yaml(path).value["rate"] == 1e-3
