"""JSON Schemas for editors."""

from collections.abc import Mapping
from typing import Any


def editor_schemas(signatures: Mapping[str, Any]) -> dict[str, Any]:
    return {}
