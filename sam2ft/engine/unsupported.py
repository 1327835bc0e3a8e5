"""What a configuration may ask for and this version does not do yet: refused by name, never ignored. No torch."""

from typing import Any, Protocol

from sam2ft.core.errors import ConfigError
from sam2ft.engine.prompting import EvaluationSection, unavailable_in_evaluation


class DatamoduleSection(Protocol):
    """What is looked at of `datamodule`."""

    @property
    def stats_metadata_file(self) -> Any: ...


def unavailable(evaluation: EvaluationSection, datamodule: DatamoduleSection) -> list[tuple[str, str]]:
    """(key, message) of everything that is asked for and not available, for a report of all problems at once."""
    found = []
    if datamodule.stats_metadata_file is not None:
        message = "not available in this version, the store's own metadata are used; allowed: null"
        found.append(("datamodule.stats_metadata_file", message))
    return found + unavailable_in_evaluation(evaluation)


def refuse_unsupported(evaluation: EvaluationSection, datamodule: DatamoduleSection) -> None:
    """Errors: ConfigError naming every key that asks for what this version does not do."""
    if found := unavailable(evaluation, datamodule):
        raise ConfigError("; ".join(f"{key}: {message}" for key, message in found))
