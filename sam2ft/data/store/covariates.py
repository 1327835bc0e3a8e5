"""Covariates of the volumes of a store (site, age, sex, ...), which a dataset file lists under `keep_covariates`.

They stand in store.json alone, as the text of the table: no digest covers them, so that a corrected value changes no
run, and no number of an evaluation rests on them.
"""

from collections.abc import Collection, Mapping
from typing import Any

from sam2ft.core.errors import DataError
from sam2ft.core.keys import VolumeKey

Covariates = Mapping[VolumeKey, Mapping[str, str]]
"""Volume -> covariate -> its text."""
ENTRY = "covariates"


def covariates_of(index: Mapping[str, Any]) -> dict[VolumeKey, dict[str, str]]:
    """The covariates in the content of store.json; empty in stores without any.

    Raises:
        DataError: the entry is damaged.
    """
    try:
        return {
            VolumeKey(index["dataset"], subject, volume): {str(name): str(text) for name, text in values.items()}
            for subject, volumes in index.get(ENTRY, {}).items()
            for volume, values in volumes.items()
        }
    except (AttributeError, TypeError) as error:
        raise DataError(f"{ENTRY}: damaged ({error!r})") from None


def covariates_entry(before: Covariates, now: Covariates, kept: Collection[str], keys: Collection[VolumeKey]) -> Any:
    """`covariates` of store.json, as a mapping to be merged into its content: empty where there are none.

    Args:
        before: those that the store has, which stay for volumes that the sources no longer have.
        now: those of the sources.
        kept: covariates that the dataset file lists; no other is written, and those written before go.
        keys: volumes of the store.
    """
    entry: dict[str, dict[str, dict[str, str]]] = {}
    for key in sorted(keys):
        values = now[key] if key in now else before.get(key, {})
        if chosen := {name: values[name] for name in sorted(values) if name in kept}:
            entry.setdefault(key.subject, {})[key.volume] = chosen
    return {ENTRY: entry} if entry else {}
