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
from sam2ft.config.schema.evaluation import Evaluation
from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.digests.verified_files import tell_damage
from sam2ft.core.errors import DataError
from sam2ft.core.files import canonical_json
from sam2ft.core.grouping import grouped
from sam2ft.core.tables.rows import TABLES, Row
from sam2ft.data.store.drawn_labels import partly_drawn
from sam2ft.data.store.index import index_path
from sam2ft.data.store.metadata import read_metadata
from sam2ft.data.store.store import Store, VolumeRecord
from sam2ft.report.comparison.compare import number_or_none
from sam2ft.report.comparison.misses import LabelFailures
from sam2ft.report.papers.study import SPLITS, DatasetFacts, EvaluationFacts, PairedTests, Study
from sam2ft.report.request import Gathered, RunState
from sam2ft.report.tables.frames import frame_of_csv
from sam2ft.runs.hardware import EVALUATION, TRAINING, computed_in, hardware_texts
from sam2ft.runs.identity_file import own_identity
from sam2ft.runs.initial_weights import initial_weights
from sam2ft.runs.provenance import recorded_attempts
from sam2ft.runs.stores import max_train_subjects, open_source

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
    run, status = shown.planned.run_id, shown.status
    global_rows = gathered.tables.rows("global", run)
    biomarker_rows = gathered.tables.rows("biomarker_global", run)
    return Study(
        experiment=gathered.request.title,
        settings=experiment,
        data=tuple(
            _data(store, None if shown.planned.baseline else _trained(store, shown, experiment)) for store in stores
        ),
        comparison=gathered.comparison,
        shown=run,
        **_identity(shown),
        epochs=None if status is None or status.epoch is None else status.epoch + 1,
        best_epoch=None if status is None or status.best_epoch is None else status.best_epoch + 1,
        weights_name=None if (weights := initial_weights(experiment)) is None else weights.name,
        precision=tuple(dict.fromkeys(one.precision for one in computed_in(attempts) if one.stage == TRAINING)),
        evaluated_in=tuple(dict.fromkeys(one.precision for one in computed_in(attempts) if one.stage == EVALUATION)),
        evaluations=_evaluations(shown, gathered, experiment),
        tests=paired_tests(gathered),
        sample_sizes=_sample_sizes(gathered, global_rows),
        biomarker_subjects=max((int(row["n"] or 0) for row in biomarker_rows), default=0),
        versions=_versions(attempts),
        commits=tuple(sorted({_commit(one["code"]) for one in attempts if one["code"].get("commit")})),
        machines=tuple(sorted({f"{one['cores']} cores, {one['platform']}" for one in attempts})),
        training_hardware=_hardware([state for state in gathered.states if not state.planned.baseline], TRAINING),
        evaluation_hardware=_hardware(gathered.states, EVALUATION),
        measures=tuple(dict.fromkeys(str(row["measure"]) for row in global_rows)),
        biomarkers=tuple(dict.fromkeys((str(row["biomarker"]), str(row["definition"])) for row in biomarker_rows)),
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
    for name, source in experiment.dataset.items():
        try:
            found.append(open_source(name, source))
        except DataError as error:
            if index_path(source.store).is_file():
                print(f"note: {error}; the texts for papers describe the study without this store", file=sys.stderr)
    return found


def _trained(store: Store, state: RunState, experiment: Experiment) -> int:
    """Training subjects of a store that the run used, chosen as the training chooses them."""
    if not any(volume.split == "train" for volume in store.volumes):
        return 0
    used = store.split_volumes("train", max_train_subjects(experiment))
    return len({volume.key.subject for volume in used})


def _evaluated(volume_rows: Sequence[Row]) -> dict[str, tuple[int, int]]:
    """Dataset -> (subjects, volumes) in rows of volume.csv."""
    subjects: dict[str, set[Any]] = {}
    volumes: dict[str, set[Any]] = {}
    for row in volume_rows:
        subjects.setdefault(str(row["dataset"]), set()).add(row["subject"])
        volumes.setdefault(str(row["dataset"]), set()).add((row["subject"], row["volume"]))
    return {name: (len(found), len(volumes[name])) for name, found in subjects.items()}


def _evaluations(state: RunState, gathered: Gathered, experiment: Experiment) -> tuple[EvaluationFacts, ...]:
    """The evaluations of a run that are in the comparison, each with its own settings."""
    run = state.planned.run_id
    lines = [line for line in gathered.comparison.lines if line.point.run == run and line.scores]
    rows = grouped(gathered.tables.rows("volume", run), lambda row: str(row["eval"]))
    found = []
    for eval_id, own in grouped(lines, lambda line: line.evaluation.eval).items():
        missed, spurious = labels_of_slices(state, eval_id)
        evaluations = dict.fromkeys(line.evaluation for line in own)
        failed = sum((gathered.misses.total(run, one) for one in evaluations), start=LabelFailures())
        found.append(
            EvaluationFacts(
                settings=_settings_of(state, eval_id, experiment),
                protocol=own[0].evaluation.protocol,
                evaluated=_evaluated(rows.get(eval_id, [])),
                # Points that share a run have a line each, of the same numbers.
                n_missed=sum({line.evaluation: line.n_missed for line in own}.values()),
                n_spurious=sum({line.evaluation: line.n_spurious for line in own}.values()),
                missed_slices=missed,
                spurious_slices=spurious,
                elsewhere_slices=failed.slices.elsewhere,
                elsewhere_volumes=failed.volumes.elsewhere,
            )
        )
    return tuple(found)


def _settings_of(state: RunState, eval_id: str, experiment: Experiment) -> Evaluation:
    """The section `eval` of an evaluation; that of the run where the evaluation does not have its own."""
    path = state.evaluation(eval_id).config
    return load_experiment(path).points[0].experiment.eval if path.is_file() else experiment.eval


def labels_of_slices(state: RunState, eval_id: str) -> tuple[int | None, int | None]:
    """(missed, spurious) labels in single slices of an evaluation; None where its table is no longer there.

    From its file: the collected table has the slices of all runs, which may be millions.
    """
    path = state.evaluation(eval_id).table("slice")
    if not path.is_file():
        return None, None
    frame = frame_of_csv(TABLES["slice"], path.read_bytes(), str(path))
    counts = Counter(str(status) for status in frame["status"].to_pylist())
    return counts["missed"], counts["spurious"]


def paired_tests(gathered: Gathered) -> PairedTests:
    """What point_tests.csv and improvement.csv have."""
    tested = [row for row in gathered.tests if number_or_none(row["p_wilcoxon"]) is not None]
    families = grouped(tested, lambda row: tuple(row[name] for name in ("dataset", "split", "protocol", "measure")))
    labels = Counter((one.evaluation, one.measure) for one in gathered.improvements if one.label is not None and one.n)
    return PairedTests(
        num_points=len({row["run"] for row in tested if row["point"] is not None}),
        baseline=any(row["point"] is None for row in tested),
        largest_family=max(map(len, families.values()), default=0),
        sizes=tuple(sorted({int(row["n_paired"] or 0) for row in tested})),
        num_labels=max(labels.values(), default=0),
        ranked=max((int(row["n"] or 0) for row in gathered.tests if row["rank"] is not None), default=0),
    )


def _sample_sizes(gathered: Gathered, global_rows: Sequence[Row]) -> tuple[int, ...]:
    compared = {score.n for line in gathered.comparison.lines for score in line.scores.values()}
    return tuple(sorted(compared | {int(row["n"] or 0) for row in global_rows if row["n"]}))


def _data(store: Store, trained: int | None) -> DatasetFacts:
    by_split = {split: [volume for volume in store.volumes if volume.split == split] for split in SPLITS}
    spacings = [volume.geometry.spacing_zyx_mm for volume in store.volumes]
    window = window_rule(store.volumes)
    return DatasetFacts(
        name=store.name,
        anatomy=store.anatomy,
        modality=store.modality,
        labels=tuple(label.name for label in store.labels),
        subjects={split: len({one.key.subject for one in volumes}) for split, volumes in by_split.items()},
        volumes={split: len(volumes) for split, volumes in by_split.items()},
        slices={split: sum(one.geometry.shape_zyx[0] for one in volumes) for split, volumes in by_split.items()},
        pixel_mm=_ends(length for _, row, column in spacings for length in (row, column)),
        slice_mm=_ends(distance for distance, _, _ in spacings),
        split_seed=store.split_seed,
        fields=_fields(store.volumes),
        trained=trained,
        intensity=intensity_words(store.volumes, window),
        window=window,
        drawn=", ".join(one.words for one in partly_drawn(store.volumes, store.labels)),
    )


def window_rule(volumes: Sequence[VolumeRecord]) -> dict[str, tuple[float, ...]]:
    """The rule of the intensity window if all volumes record the same; of older stores a window that all share."""
    rules = {canonical_json(one.stored.get("intensity")): one.stored.get("intensity") for one in volumes}
    if len(rules) == 1 and (rule := next(iter(rules.values()))) is not None:
        return {name: tuple(ends) for name, ends in rule.items()}
    windows = {tuple(one.stored.get("window", ())) for one in volumes}
    return {"window": windows.pop()} if len(volumes) > 1 and len(windows) == 1 and windows != {()} else {}


def intensity_words(volumes: Sequence[VolumeRecord], rule: Mapping[str, Sequence[float]]) -> str:
    """The rule of the intensity window as words; without one the ranges of the windows; empty without both."""
    if rule:
        ((name, (low, high)),) = rule.items()
        return {
            "clip_percentiles": f"Intensities between percentiles {low:g} and {high:g} of each volume were "
            "scaled to 0 to 1",
            "zscore": f"Intensities from {low:g} to {high:g} standard deviations around the mean of each volume were "
            "scaled to 0 to 1",
            "window": f"Intensities from {low:g} to {high:g} were scaled to 0 to 1, the same window for all volumes",
        }[name]
    windows = [one.stored["window"] for one in volumes if "window" in one.stored]
    if not windows:
        return ""
    lows, highs = zip(*windows, strict=True)
    return (
        f"Intensities were scaled to 0 to 1 with a window of each volume (lower ends {min(lows):g} to {max(lows):g}, "
        f"upper ends {min(highs):g} to {max(highs):g})"
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
        except DataError as error:
            tell_damage(f"{error}; its hardware is not counted in the texts for papers, which say not recorded")
            attempts = [{}]
        runs += [attempts] if attempts else []
    return hardware_texts(runs, stage)
