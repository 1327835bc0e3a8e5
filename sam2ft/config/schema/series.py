"""Schema of the choice among the series of a DICOM folder: by description, number, plane, echo, part, phase or tags."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue, field_validator

from sam2ft.config.schema.arguments import shown_value
from sam2ft.config.schema.base import ReadOnlyDict, Section, plain, problem, problems

SeriesPart = Literal[
    "magnitude", "phase", "real", "imaginary", "water", "fat", "in_phase", "out_phase", "fat_fraction", "map"
]
_KEYWORD = re.compile(r"[A-Z][A-Za-z0-9]+")


def _tags(value: Mapping[str, Any]) -> Mapping[str, Any]:
    found = {}
    for keyword, wanted in value.items():
        if not _KEYWORD.fullmatch(keyword):
            found[keyword] = "allowed: the keyword of a DICOM attribute, such as EchoNumbers or SequenceName"
        elif isinstance(wanted, bool) or not isinstance(wanted, str | int | float):
            found[keyword] = f"found {shown_value(wanted)}; allowed: a number, or text with * for any text"
    if found:
        raise problems(found)
    return ReadOnlyDict(value)


class SeriesChoice(Section):
    """Which images of a DICOM folder are meant; what is not given does not matter."""

    description: str | None = plain(
        None, "SeriesDescription: text with * for any text and ? for any letter, whatever the case", min_length=1
    )
    number: int | None = plain(None, "SeriesNumber", ge=0)
    plane: Literal["sagittal", "coronal", "axial"] | None = plain(
        None, "anatomical plane that is nearest to the slices"
    )
    echo_ms: Annotated[float, Field(ge=0)] | None = plain(None, "EchoTime, within 0.1 ms and 1 %", unit="ms")
    part: SeriesPart | None = plain(
        None, "part of a complex image or of a Dixon series, by ImageType and ComplexImageComponent"
    )
    phase: int | None = plain(
        None, "number of the phase, from 1 in the order of time, of images repeated at the same positions", ge=1
    )
    tags: Annotated[Mapping[str, JsonValue], AfterValidator(_tags)] = plain(
        ReadOnlyDict(), "DICOM attribute -> its value: a number, or text with * for any text"
    )

    @field_validator("description")
    @classmethod
    def _of_one_line(cls, value: str | None) -> str | None:
        if value is not None and not value.strip("*? "):
            raise problem(f"found {shown_value(value)}; allowed: text that a description has, with * around it")
        return value

    @property
    def chosen(self) -> Mapping[str, Any]:
        """The keys that are given."""
        values = {name: getattr(self, name) for name in SeriesChoice.model_fields}
        return {name: dict(value) if name == "tags" else value for name, value in values.items() if value or value == 0}


ANY_SERIES = SeriesChoice()
"""No choice: a folder must hold one stack of images."""
