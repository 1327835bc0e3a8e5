"""Digests that text files carry themselves: JSON in its last entry, YAML in its first and last line. Pure functions.

A sealed file is written whole by sam2ft and verified by whoever reads it, because a flipped bit or a lost block leaves
many JSON and YAML files valid. The digest covers the text and not the parsed value: that takes microseconds for a
status file, and nothing of the file is left out. Files of versions before seals have none (see `verified_files`).
"""

import hashlib
import re

JSON_KEY = "content_sha256"
"""Last entry of a sealed JSON file; readers remove it."""
_HEX = re.compile("[0-9a-f]{64}")
_JSON_TAIL = ',\n  "' + JSON_KEY + '": "{}"\n}}\n'
_YAML_HEAD = "# sealed: the last line is the sha256 of all lines above; remove both lines to accept an edit by hand\n"
_YAML_TAIL = "# sealed: {}\n"
# A flipped bit or a lost byte in the seal itself must not make a file look like one of a version without seals.
_MOST_DAMAGE = 4


class SealError(ValueError):
    """The text is not what was sealed."""


def sealed_json(text: str) -> str:
    """The text of a JSON object with the digest of `text` as its last entry; `text` ends with "}" and a line end."""
    body = text.rstrip()
    if not body.endswith("}") or body.endswith("{}"):
        raise ValueError("only a JSON object with entries can be sealed")
    body = body[:-1].rstrip()
    return body + _JSON_TAIL.format(_digest(body))


def check_json(text: str) -> bool:
    """Verify a JSON text; False when it has no seal (it is of an earlier version, or of another program).

    Raises:
        SealError: text and digest differ, or the seal is damaged.
    """
    return _check(text, _JSON_TAIL)


def sealed_yaml(text: str) -> str:
    """The text of a YAML file with a first line that explains the seal and a last line with the digest."""
    body = _YAML_HEAD + text + ("" if text.endswith("\n") else "\n")
    return body + _YAML_TAIL.format(_digest(body))


def check_yaml(text: str) -> bool:
    """Verify a YAML text, as `check_json`. One that is cut after its first line does not count as one without seal.

    Raises:
        SealError: text and digest differ, or the seal is damaged.
    """
    if _check(text, _YAML_TAIL):
        return True
    if _differing(text[: len(_YAML_HEAD)], _YAML_HEAD) <= _MOST_DAMAGE:
        raise SealError("its last line, the sha256 of all others, is missing")
    return False


def _check(text: str, tail: str) -> bool:
    before, after = tail.format("\0").split("\0")
    length = len(before) + 64 + len(after)
    body, found = text[:-length], text[-length:]
    digest = found[len(before) : len(before) + 64]
    differing = _differing(found, before + digest + after)
    if differing == 0 and _HEX.fullmatch(digest):
        if digest != _digest(body):
            raise SealError(f"its sha256 is {_digest(body)[:12]}..., and {digest[:12]}... when it was written")
        return True
    if differing <= _MOST_DAMAGE or text.count(before.strip(",\n ")) > 0:
        raise SealError("the sha256 that it carries is damaged or not at its end")
    return False


def _differing(found: str, expected: str) -> int:
    """Number of positions at which two texts differ; all of them for texts of another length."""
    if len(found) != len(expected):
        return max(len(found), len(expected))
    return sum(one != other for one, other in zip(found, expected, strict=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
