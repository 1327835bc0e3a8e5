"""Patterns of paths: placeholders in braces, which name what they stand for, and the wildcards of a shell."""

import re
from collections.abc import Collection, Mapping
from typing import Annotated

from pydantic import AfterValidator

from sam2ft.config.schema.arguments import shown_value
from sam2ft.config.schema.base import problem

PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
FOLDERS = "**"
"""A part of a pattern that stands for any number of folders."""


def placeholders(text: str) -> list[str]:
    """Names in braces, in their order, each once."""
    return list(dict.fromkeys(PLACEHOLDER.findall(text)))


def _checked(text: str) -> str:
    rest = PLACEHOLDER.sub("", text)
    if "{" in rest or "}" in rest or not all(map(_NAME.fullmatch, placeholders(text))):
        raise problem(
            f"found {shown_value(text)}; allowed: a path with {{subject}}; names in braces are letters, digits and "
            "underscores, and begin with a letter"
        )
    return text


def path_pattern(text: str) -> str:
    """Check a path pattern; which placeholders it needs depends on the other keys (see `Sources`)."""
    if any(FOLDERS in part and part != FOLDERS for part in _checked(text).split("/")):
        raise problem(
            f"found {shown_value(text)}; allowed: ** as a whole part of a path (any number of folders), * inside of one"
        )
    return text


def _template(text: str) -> str:
    if not placeholders(_checked(text)):
        raise problem(f"found {shown_value(text)}; allowed: text with placeholders of images, such as {{site}}-{{id}}")
    return text


Pattern = Annotated[str, AfterValidator(path_pattern)]
Template = Annotated[str, AfterValidator(_template)]


def filled(text: str, values: Mapping[str, str]) -> str:
    """`text` with the values of its placeholders; those without a value stay."""
    return PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), text)


def in_braces(names: Collection[str]) -> str:
    """Placeholders for a message."""
    return ", ".join(f"{{{name}}}" for name in names)
