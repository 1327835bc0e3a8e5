"""Building blocks of the schema: frozen pydantic sections, keys with metadata (affects, unit), names, paths, values."""

import math
import os.path
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from sam2ft.config.schema.arguments import argument_problems, arguments_with_defaults, shown_value, type_problem

V = TypeVar("V")
K = TypeVar("K")

Affects = Literal["training", "evaluation", "nothing"]
REQUIRED: Any = ...
_NO_LEGACY = object()


def setting(
    default: Any, description: str, *, affects: Affects, unit: str = "", legacy: Any = _NO_LEGACY, **constraints: Any
) -> Any:
    """Declare one key that has a value (a pydantic Field).

    Args:
        affects: whether the value is part of the identity of a training, of an evaluation, or of none (`identity.py`).
        legacy: for a key added after the first release, the value that corresponds to earlier runs. A key with this
            value is left out of the identity, so that old ids stay the same.
        constraints: constraints of the pydantic Field, such as gt or le.
    """
    extra = (
        {"affects": affects} | ({"unit": unit} if unit else {}) | ({} if legacy is _NO_LEGACY else {"legacy": legacy})
    )
    text = f"{description} [{unit}]" if unit else description
    return Field(default, description=text, json_schema_extra=extra, **constraints)


of_training = partial(setting, affects="training")
"""Declare one key that is part of the identity of a training."""
of_evaluation = partial(setting, affects="evaluation")
"""Declare one key that is part of the identity of an evaluation."""
plain = partial(setting, affects="nothing")
"""Declare one key that is part of no identity."""


def section(factory: Callable[[], Any], description: str, **constraints: Any) -> Any:
    """Declare one key whose value is a mapping of further keys, all with defaults."""
    return Field(default_factory=factory, description=description, **constraints)


class Section(BaseModel):
    """An immutable mapping of known keys with strict types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())

    def identity_values(self) -> Mapping[str, Any]:
        """The value of each field as it enters an identity."""
        return {name: getattr(self, name) for name in type(self).model_fields}


class ReadOnlyDict(dict[K, V]):
    """An immutable dict: hashable, picklable, and equal to a dict with the same content."""

    def _refuse(self, *_args: Any, **_kwargs: Any) -> Any:
        raise TypeError("a configuration cannot be changed")

    __setitem__ = __delitem__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse
    __ior__ = _refuse

    def __hash__(self) -> int:  # type: ignore[override]  # None in dict; this one is immutable
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (dict(self),))


ReadOnly = Annotated[Mapping[str, V], AfterValidator(ReadOnlyDict)]


def problem(message: str) -> PydanticCustomError:
    """Error for a validator to raise when its value is wrong."""
    return PydanticCustomError("problem", "{message}", {"message": message})


def problems(found: Mapping[str, str]) -> PydanticCustomError:
    """Error for a validator to raise when keys inside its value are wrong: key -> message."""
    return PydanticCustomError("problems", "{problems}", {"problems": dict(found)})


def frozen(value: Any) -> Any:
    """Immutable copy of a JSON value: tuples for lists, read-only dicts for mappings.

    Raises:
        PydanticCustomError: a number is NaN or infinite.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise problem(f"found {value}; allowed: a finite number")
    if isinstance(value, Mapping):
        return ReadOnlyDict({key: frozen(entry) for key, entry in value.items()})
    if isinstance(value, list | tuple):
        return tuple(frozen(entry) for entry in value)
    return value


Frozen = Annotated[JsonValue, AfterValidator(frozen)]
Arguments = ReadOnly[Frozen]


def _absolute(path: Path) -> Path:
    """Absolute path, relative to the working directory of the command; symbolic links are not resolved."""
    if path == Path() or "\0" in str(path):
        raise problem(f"found {shown_value(str(path))}; allowed: the path of a file or folder")
    return Path(os.path.abspath(path))  # Path.resolve would follow symbolic links


PathFromHere = Annotated[Path, AfterValidator(_absolute)]


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        allowed = "up to 64 letters, digits, dashes and underscores, beginning with a letter or digit"
        raise problem(f"found {shown_value(text)}; allowed: {allowed}")
    return text


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
Name = Annotated[str, AfterValidator(_name)]
"""Name of an experiment, dataset or point: safe in a path, and without dots, which separate keys."""


class ClassSection(Section):
    """A section `type: Name` whose further keys are the arguments of the constructor of that class."""

    table: ClassVar[str]
    """Table of signatures.json that contains the class `type`."""
    type: str
    constructor_arguments: Arguments

    @model_validator(mode="before")
    @classmethod
    def _gather_arguments(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        own = cls.own_keys()
        known = {key: entry for key, entry in value.items() if key in own}
        return known | {"constructor_arguments": {key: entry for key, entry in value.items() if key not in own}}

    @classmethod
    def own_keys(cls) -> list[str]:
        """Keys of the section that are not arguments of the constructor."""
        return [name for name in cls.model_fields if name != "constructor_arguments"]

    @field_validator("type")
    @classmethod
    def _known_type(cls, value: str) -> str:
        if message := type_problem(cls.table, value):
            raise problem(message)
        return value

    @field_validator("constructor_arguments")
    @classmethod
    def _bound_arguments(cls, value: Mapping[str, Any], info: ValidationInfo) -> Mapping[str, Any]:
        name = info.data.get("type")
        if name is not None:
            found = argument_problems(cls.table, name, value, cls.own_keys()) or cls.more_problems(name, value)
            if found:
                raise problems(found)
        return value

    @classmethod
    def more_problems(cls, _name: str, _arguments: Mapping[str, Any]) -> dict[str, str]:
        """Argument -> message, for problems that cannot be found with the signature alone."""
        return {}

    @property
    def arguments(self) -> Mapping[str, Any]:
        """Arguments that are passed to the constructor of `type`."""
        return self.constructor_arguments

    def identity_values(self) -> Mapping[str, Any]:
        return {
            **super().identity_values(),
            "constructor_arguments": arguments_with_defaults(self.table, self.type, self.constructor_arguments),
        }
