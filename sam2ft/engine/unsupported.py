"""What a configuration may ask for and this version does not do: refused by name, never ignored. No torch."""

from sam2ft.core.errors import ConfigError
from sam2ft.engine.prompting import EvaluationSection, unavailable_in_evaluation


def refuse_unsupported(evaluation: EvaluationSection) -> None:
    """Errors: ConfigError naming every key that asks for what this version does not do."""
    if found := unavailable_in_evaluation(evaluation):
        raise ConfigError("; ".join(f"{key}: {message}" for key, message in found))
