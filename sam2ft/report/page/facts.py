"""Facts about the runs for the page: data, settings, code and package versions, machines, GPU-hours. No torch."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.errors import DataError
from sam2ft.core.grouping import grouped
from sam2ft.report.page.content import Facts
from sam2ft.report.request import RunState
from sam2ft.report.tables.coverage import Coverage
from sam2ft.runs.hardware import NOT_RECORDED, computed_in
from sam2ft.runs.provenance import recorded_attempts

if TYPE_CHECKING:
    from sam2ft.data.store.store import Store

_PER = {"per_instance": "one per connected component of a label", "per_label": "one per label"}


def facts_of(states: Sequence[RunState], experiments: Sequence[Experiment], coverage: Coverage) -> tuple[Facts, ...]:
    """Groups of facts; a fact that differs between runs lists all its values."""
    groups = []
    if experiments:
        groups += [_data_facts(experiments), _setting_facts(experiments)]
    attempts, unknown = _attempts(states)
    groups += _machine_facts(attempts) if attempts else []
    groups += [Facts("Not readable", tuple(unknown))] if unknown else []
    return (*groups, *_hours(coverage))


def _attempts(states: Sequence[RunState]) -> tuple[list[Mapping[str, Any]], list[tuple[str, str]]]:
    """Recorded attempts of all runs, and (run, error) for every run whose provenance cannot be read."""
    attempts: list[Mapping[str, Any]] = []
    unknown = []
    for state in states:
        try:
            attempts += recorded_attempts(state.layout)
        except DataError as error:
            unknown.append((state.planned.name, str(error)))
    return attempts, unknown


def _hours(coverage: Coverage) -> tuple[Facts, ...]:
    """Planned and used GPU-hours of all runs together."""
    planned = [run.gpu_hours_planned for run in coverage.runs if run.gpu_hours_planned is not None]
    used = [run.gpu_hours_used for run in coverage.runs if run.gpu_hours_used is not None]
    rows = []
    if planned:
        rows.append(("planned", f"{sum(planned):.3g}, asked for by {_runs(len(planned))}"))
    rows.append(("used", f"{sum(used):.3g} by {_runs(len(used))}, after sacct" if used else "no accounting here"))
    both = [run for run in coverage.runs if run.gpu_hours_planned and run.gpu_hours_used is not None]
    if both:
        share = sum(run.gpu_hours_used or 0 for run in both) / sum(run.gpu_hours_planned or 0 for run in both)
        rows.append(("used of planned", f"{100 * share:.0f} % over {_runs(len(both))}"))
    return (Facts("GPU-hours", tuple(rows)),) if sum(planned) or sum(used) else ()


def _runs(count: int) -> str:
    return f"{count} run{'s' if count != 1 else ''}"


def _data_facts(experiments: Sequence[Experiment]) -> Facts:
    """Current counts of the stores; for a store that cannot be opened, the error."""
    from sam2ft.data.images.slice_axis import plane_of
    from sam2ft.data.store.drawn_labels import partly_drawn
    from sam2ft.runs.stores import open_source

    rows = []
    sources = dict.fromkeys(item for experiment in experiments for item in experiment.dataset.items())
    for (name, path), alike in grouped(sources, lambda item: (item[0], item[1].store)).items():
        try:
            stores = {source.fold: open_source(name, source) for _, source in alike}
        except DataError as error:
            rows.append((name, str(error)))
            continue
        store = next(iter(stores.values()))
        rows.append((name, str(path)))
        for fold, one in stores.items():
            rows.append(("subjects" if fold is None else f"subjects, fold {fold}", _split_sizes(one)))
        grids = [volume.geometry for volume in store.volumes]
        planes = Counter(plane_of(2, grid.affine) if grid.oriented else "unknown" for grid in grids)
        slices = ", ".join(f"{plane} {count}" for plane, count in sorted(planes.items()))
        rows += [("planes of the slices", slices), ("labels", store.labels.describe())]
        if partly := partly_drawn(store.volumes, store.labels):
            rows.append(("labelled in part", ", ".join(one.words for one in partly)))
    return Facts("Data", tuple(rows))


def _split_sizes(store: "Store") -> str:
    """Split and its number of subjects, as text."""
    from sam2ft.data.store.split import SPLITS

    subjects = {split: {v.key.subject for v in store.volumes if v.split == split} for split in SPLITS}
    return ", ".join(f"{split} {len(found)}" for split, found in subjects.items())


def _setting_facts(experiments: Sequence[Experiment]) -> Facts:
    """The most important settings; a setting that differs between runs lists all its values."""
    found: dict[str, dict[str, None]] = {}
    for experiment in experiments:
        for name, value in _settings(experiment).items():
            found.setdefault(name, {})[value] = None
    return Facts("Settings", tuple((name, "; ".join(values)) for name, values in found.items()))


def _settings(experiment: Experiment) -> dict[str, str]:
    module, evaluation = experiment.module, experiment.eval
    trained = [name for name in ("image_encoder", "mask_decoder", "prompt_encoder") if getattr(module.trainable, name)]
    if module.lora is not None:
        trained.append(f"low-rank updates of image_encoder (rank {module.lora.rank})")
    return {
        "model": f"{module.sam2_model_cfg}, {module.image_size} px",
        "trained": ", ".join(trained),
        "optimizer": f"{module.optimizer.type}, lr {module.optimizer.lr:g}",
        "scheduler": module.scheduler.type if module.scheduler else "none",
        "epochs": f"at most {module.num_epochs}",
        "evaluated on": f"{evaluation.split}, prompt {evaluation.protocol}, {_PER[evaluation.instances]}",
        "seed": str(experiment.experiment.seed),
    }


def _machine_facts(attempts: Sequence[Mapping[str, Any]]) -> list[Facts]:
    """Versions and machines of all attempts; different values are all listed."""

    def values(name: str) -> str:
        return ", ".join(sorted({str(attempt[name]) for attempt in attempts if attempt.get(name) is not None}))

    commits = sorted({_code(attempt["code"]) for attempt in attempts})
    packages: dict[str, set[str]] = {}
    for attempt in attempts:
        for name, installed in attempt["packages"].items():
            packages.setdefault(name, set()).add(str(installed))
    versions = [(name, ", ".join(sorted(found))) for name, found in sorted(packages.items())]
    computed = dict.fromkeys(one.stage + ": " + one.text for one in computed_in(attempts))
    hardware = ", ".join(sorted(computed)) or NOT_RECORDED
    machine = [
        (words, values(name)) for words, name in (("hosts", "host"), ("cores", "cores"), ("platform", "platform"))
    ]
    machine.append(("computed on", hardware))
    return [
        Facts("Code and packages", (("commit", ", ".join(commits)), ("python", values("python")), *versions)),
        Facts("Machine", tuple(row for row in machine if row[1])),
    ]


def _code(code: Mapping[str, Any]) -> str:
    if not code.get("commit"):
        return "not a checkout"
    return f"{str(code['commit'])[:12]}{' with changes' if code.get('modified') else ''}"
