"""Collection of the facts for the methods text, the CLAIM checklist and the model card from the files of the runs.

No torch.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from sam2ft.config.load_experiment import load_experiment
from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.errors import DataError
from sam2ft.data.store.index import index_path
from sam2ft.data.store.metadata import read_metadata
from sam2ft.data.store.store import Store, VolumeRecord
from sam2ft.report.papers.study import SPLITS, DatasetFacts, Study
from sam2ft.report.request import Gathered, RunState
from sam2ft.runs.hardware import EVALUATION, TRAINING, hardware_texts
from sam2ft.runs.identity_file import own_identity
from sam2ft.runs.provenance import recorded_attempts

FIELDS = {
    "field_strength": "field strength (T)",
    "series_desc": "series",
    "TE": "echo time (ms)",
    "TR": "repetition time (ms)",
    "flip_angle": "flip angle (degrees)",
}
"""Metadata field -> its name in the checklist."""
_MOST_VALUES = 6


def study_of(gathered: Gathered) -> Study | None:
    """The study, described by its best point or else its baseline; None when that run has no configuration."""
    shown = shown_state(gathered)
    if shown is None or not shown.layout.config.is_file():
        return None
    experiment = load_experiment(shown.layout.config).points[0].experiment
    stores = _stores(experiment)
    attempts = recorded_attempts(shown.layout)
    run = shown.planned.run_id
    global_rows = gathered.tables.rows("global", run)
    return Study(
        experiment=gathered.request.title,
        settings=experiment,
        data=tuple(_data(store) for store in stores),
        comparison=gathered.comparison,
        shown=run,
        **_identity(shown),
        epochs=None if shown.status is None or shown.status.epoch is None else shown.status.epoch + 1,
        versions=_versions(attempts),
        commits=tuple(sorted({_commit(one["code"]) for one in attempts if one["code"].get("commit")})),
        machines=tuple(sorted({f"{one['cores']} cores, {one['platform']}" for one in attempts})),
        training_hardware=_hardware([state for state in gathered.states if not state.planned.baseline], TRAINING),
        evaluation_hardware=_hardware(gathered.states, EVALUATION),
        measures=tuple(dict.fromkeys(str(row["measure"]) for row in global_rows)),
        biomarkers=tuple(
            dict.fromkeys(
                (str(row["biomarker"]), str(row["definition"])) for row in gathered.tables.rows("biomarker_global", run)
            )
        ),
        demographics=_demographics(stores),
    )


def shown_state(gathered: Gathered) -> RunState | None:
    """The best point by validation, else the baseline, else None."""
    states = gathered.states
    best = next((state for state in states if state.planned.run_id == gathered.comparison.best), None)
    return best or next((state for state in states if state.planned.baseline), None)


def _stores(experiment: Experiment) -> list[Store]:
    """The stores that can still be opened."""
    found = []
    for source in experiment.dataset.values():
        try:
            found.append(Store.open(source.store))
        except DataError as error:
            if index_path(source.store).is_file():
                print(f"note: {error}; the texts for papers describe the study without this store", file=sys.stderr)
    return found


def _data(store: Store) -> DatasetFacts:
    by_split = {split: [volume for volume in store.volumes if volume.split == split] for split in SPLITS}
    spacings = [volume.geometry.spacing_zyx_mm for volume in store.volumes]
    return DatasetFacts(
        name=store.name,
        anatomy=store.anatomy,
        labels=tuple(label.name for label in store.labels),
        subjects={split: len({one.key.subject for one in volumes}) for split, volumes in by_split.items()},
        volumes={split: len(volumes) for split, volumes in by_split.items()},
        slices={split: sum(one.geometry.shape_zyx[0] for one in volumes) for split, volumes in by_split.items()},
        pixel_mm=_ends(length for _, row, column in spacings for length in (row, column)),
        slice_mm=_ends(distance for distance, _, _ in spacings),
        split_seed=store.split_seed,
        fields=_fields(store.volumes),
    )


def _ends(lengths: Iterable[float]) -> tuple[float, float] | None:
    known = list(lengths)
    return (min(known), max(known)) if known else None


def _fields(volumes: Sequence[VolumeRecord]) -> dict[str, tuple[str, ...]]:
    """The values of FIELDS that occur, the most frequent first, at most _MOST_VALUES per field."""
    counted: dict[str, Counter[str]] = {}
    for volume in volumes:
        for name in FIELDS.keys() & volume.dicom.keys():
            values = {_text(value) for value in volume.dicom[name] if value not in (None, "")}
            counted.setdefault(name, Counter()).update(values)
    return {
        words: tuple(value for value, _ in counted[name].most_common(_MOST_VALUES))
        for name, words in FIELDS.items()
        if counted.get(name)
    }


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _demographics(stores: Sequence[Store]) -> dict[str, dict[str, str]]:
    """Age and sex of the subjects of each split, where metadata_for_ml.json contains them."""
    entries: dict[str, dict[tuple[str, str], Mapping[str, Any]]] = {split: {} for split in SPLITS}
    for store in stores:
        for entry in read_metadata(store.metadata_for_ml).values():
            if entry.get("split") in entries:
                entries[entry["split"]].setdefault((store.name, str(entry["subject_id"])), entry)
    found = {split: _described(list(of.values())) for split, of in entries.items()}
    return {split: words for split, words in found.items() if words}


def _described(entries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    words = {}
    ages = [age for entry in entries if (age := _years(entry.get("age"))) is not None]
    if ages:
        spread = f" ± {stdev(ages):.1f}" if len(ages) > 1 else ""
        words["age"] = f"{fmean(ages):.1f}{spread} years (n = {len(ages)})"
    sexes = Counter(str(entry["sex"]) for entry in entries if entry.get("sex"))
    if sexes:
        words["sex"] = ", ".join(f"{count} {sex}" for sex, count in sorted(sexes.items()))
    return words


def _years(age: Any) -> float | None:
    """Age in years from a number or a DICOM age string (PS3.5, VR AS) such as `045Y`; None for other units."""
    if isinstance(age, int | float):
        return float(age)
    found = re.fullmatch(r"(\d{3})Y", str(age or ""))
    return float(found[1]) if found else None


def _identity(state: RunState) -> dict[str, Any]:
    """Digest of the weights and slices per step from the run's identity; a baseline has the digest in its status."""
    identity = own_identity(state.layout)
    if identity is None:
        return {"weights_sha256": state.status.best_sha256 if state.status and state.planned.baseline else None}
    content = identity["content"]
    return {"weights_sha256": content.get("weights"), "slices_per_step": content.get("slices_per_step")}


def _versions(attempts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Package -> version; all versions are listed when attempts differ."""
    found: dict[str, dict[str, None]] = {}
    for attempt in attempts:
        for name, version in {"python": attempt["python"], **attempt["packages"]}.items():
            found.setdefault(name, {})[str(version)] = None
    return {name: " and ".join(versions) for name, versions in found.items()}


def _commit(code: Mapping[str, Any]) -> str:
    return f"{code['commit']}{' with uncommitted changes' if code.get('modified') else ''}"


def _hardware(states: Sequence[RunState], stage: str) -> tuple[str, ...]:
    """What all runs were computed with: those that are compared, and not only the shown one."""
    runs: list[Sequence[Mapping[str, Any]]] = []
    for state in states:
        try:
            attempts: Sequence[Mapping[str, Any]] = recorded_attempts(state.layout)
        except DataError:  # the page names it; here it counts as an attempt that recorded nothing
            attempts = [{}]
        runs += [attempts] if attempts else []
    return hardware_texts(runs, stage)
