"""Configuration of a run or an evaluation (config.yaml): the resolved experiment that planning wrote there."""

from pathlib import Path

from sam2ft.config.load_experiment import load_experiment
from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.digests.sealed import SealError, check_yaml
from sam2ft.core.digests.verified_files import note_unverified
from sam2ft.core.errors import ConfigError, ProblemsError


def planned_experiment(path: Path) -> Experiment:
    """Return the experiment of a config.yaml.

    Raises:
        ConfigError: the file is missing, damaged, edited without accepting the edit, or not an experiment.
        UserError: somebody else could have written it.
    """
    try:
        experiment = load_experiment(path, to_run=True).points[0].experiment
    except ConfigError as error:
        # What to give instead is advice for a file that a user named.
        kind = "holds no experiment" if path.is_file() else "no such file"
        found = error if isinstance(error, ProblemsError) else f"{path}: {kind}"
        raise ConfigError(f"{found}; `make sweep` or launch/train.py writes the planned one again") from None
    if not is_sealed(path):
        note_unverified(path)
    return experiment


def is_sealed(path: Path) -> bool:
    """Whether a YAML file carries the digest of what it holds; False for one of an earlier version, or damaged."""
    try:
        return check_yaml(path.read_bytes().decode("utf-8-sig"))
    except (SealError, UnicodeDecodeError):
        return False


def is_damaged(path: Path) -> bool:
    """Whether a YAML file carries the digest of something else; False for one that has none, or is not there."""
    try:
        check_yaml(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        return False
    except (SealError, UnicodeDecodeError):
        return True
    return False
