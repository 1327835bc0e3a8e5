"""What an evaluation left, read back verified: `_SUCCESS`, which carries its digest, and the files that it lists."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sam2ft.core.digests.verified_files import note_unverified, read_sealed_json
from sam2ft.core.errors import DataError
from sam2ft.core.files import sha256_file
from sam2ft.core.keys import VolumeKey
from sam2ft.core.tables.rows import TABLES, Value, parse_csv
from sam2ft.metrics.factory import VERSIONS
from sam2ft.runs.layout import EvalLayout

PREDICTIONS = "predictions"
"""Key of `_SUCCESS`: path of each prediction below the folder `predictions/` -> its sha256."""
_FOREIGN = "was not written by an evaluation of sam2ft"


def success_of(evaluation: EvalLayout) -> dict[str, Any]:
    """As `read_success`; its errors name no remedy."""
    found = read_sealed_json(evaluation.success)
    try:
        texts = [found["run"], found["eval"], *found["tables"].values()]
        others = [found.get(PREDICTIONS, {}), found.get(VERSIONS, {})]
    except (KeyError, TypeError, AttributeError):
        raise DataError(f"{evaluation.success} {_FOREIGN}") from None
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(one, dict) for one in others):
        raise DataError(f"{evaluation.success} {_FOREIGN}")
    return dict(found)


def read_success(evaluation: EvalLayout) -> dict[str, Any]:
    """The verified content of `_SUCCESS`: run, eval, tables (name -> sha256 of its CSV), and what else was recorded.

    Raises:
        DataError: it is missing, damaged, or was not written by an evaluation of sam2ft.
    """
    try:
        return success_of(evaluation)
    except DataError as error:
        raise DataError(f"{error}; {again(evaluation)}") from None


def read_table(evaluation: EvalLayout, name: str) -> list[dict[str, Value]]:
    """The verified rows of a table, a key of rows.TABLES; empty when the evaluation has no such table.

    Raises:
        DataError: the table is missing or damaged.
    """
    if (sha256 := read_success(evaluation)["tables"].get(name)) is None:
        return []
    path = evaluation.table(name)
    try:
        return parse_csv(table_bytes(path, sha256), TABLES[name], path)
    except DataError as error:
        raise DataError(f"{error}; {again(evaluation)}") from None


def table_bytes(path: Path, sha256: str) -> bytes:
    """The bytes of a table with this sha256; read again before it is called damaged.

    Raises:
        DataError: the file is missing or differs.
    """
    for _ in range(2):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise DataError(f"{path} is missing") from None
        if hashlib.sha256(data).hexdigest() == sha256:
            return data
    raise DataError(f"{path} was changed after the evaluation wrote it")


def again(evaluation: EvalLayout) -> str:
    """What to do about damage, for the end of a message."""
    return f"remove {evaluation.success}, then start the same launch/sweep.py or launch/eval.py again"


def verified_prediction(evaluation: EvalLayout, key: VolumeKey) -> Path:
    """The file of a prediction, verified where `_SUCCESS` lists it (an earlier version did not).

    Raises:
        DataError: it is missing or damaged.
    """
    path = evaluation.prediction(key)
    if not evaluation.success.is_file():  # it is being written: the parts were verified
        return path
    try:
        found = read_sealed_json(evaluation.success)
    except DataError as error:
        raise DataError(f"{error}; {again(evaluation)}") from None
    listed = found.get(PREDICTIONS) if isinstance(found, dict) else None
    sha256 = listed.get(prediction_name(evaluation, path)) if isinstance(listed, dict) else None
    if not path.is_file():
        raise DataError(f"{path}: no such file; {again(evaluation)}")
    if sha256 is None:
        note_unverified(path)
    elif sha256_file(path) != sha256:
        raise DataError(f"{path}: damaged, or changed after the evaluation wrote it; {again(evaluation)}")
    return path


def prediction_name(evaluation: EvalLayout, path: Path) -> str:
    """Key of a prediction in `_SUCCESS`."""
    return path.relative_to(evaluation.folder / "predictions").as_posix()


def damaged_files(evaluation: EvalLayout, success: Mapping[str, Any]) -> list[Path]:
    """Tables and predictions that are not as `_SUCCESS` lists them; users may remove predictions to save space."""
    tables = {evaluation.table(name): sha256 for name, sha256 in success["tables"].items()}
    folder = evaluation.folder / "predictions"
    predictions = {folder / name: sha256 for name, sha256 in success.get(PREDICTIONS, {}).items()}
    there = {path: sha256 for path, sha256 in predictions.items() if path.is_file()}
    wanted = (tables | there).items()
    return [path for path, sha256 in wanted if not path.is_file() or sha256_file(path) != sha256]
