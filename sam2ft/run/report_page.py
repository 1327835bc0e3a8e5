"""What the page of an experiment says: values, charts and pictures gathered from its runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sam2ft.config.experiment import load_experiment
from sam2ft.config.schema import Experiment
from sam2ft.core.files import read_json
from sam2ft.core.layout import RunLayout
from sam2ft.core.rows import Row
from sam2ft.report.charts import dice_by_label, figure_svg, learning_curves
from sam2ft.report.content import Facts, Failure, Picture, ReportData, label_sections, scores_by_label
from sam2ft.run.history import history_values
from sam2ft.run.report_agreement import agreement_of
from sam2ft.run.report_state import Gathered, RunState

TABLE_FILES = (
    ("compare.csv", "one line per point"),
    ("global.csv", "per label and measure, over subjects"),
    ("volume.csv", "per volume and label"),
    ("slice.csv", "per slice and label"),
    ("instance.csv", "per prompt"),
    ("biomarker_global.csv", "agreement of biomarkers"),
    ("biomarker_volume.csv", "biomarkers per volume"),
    ("biomarker_slice.csv", "biomarkers per slice"),
    ("coverage.json", "what was planned and what became of it"),
)


@dataclass(frozen=True)
class Page:
    """The page's values and the files that lie beside it."""

    data: ReportData
    assets: Mapping[str, bytes | Path]
    """Path relative to the page -> its content, or the file to copy."""


def page_of(gathered: Gathered) -> Page:
    """Everything on the page of a report."""
    states, tables, comparison = gathered.states, gathered.tables, gathered.comparison
    cohort_rows, names = tables.rows("global"), gathered.names
    experiments = _experiments(states)
    baseline = next((state.planned.run_id for state in states if state.planned.baseline), None)
    shown = comparison.best or baseline
    sections = label_sections(names[shown], shown, cohort_rows, baseline) if shown else ()
    assets: dict[str, bytes | Path] = {}
    pictures = _pictures(states, shown, assets)
    charts = _learning(states, comparison.best, assets)
    of_shown = (tables.rows("biomarker_global"), tables.rows("biomarker_volume", shown)) if shown else ([], [])
    agreement = agreement_of(names[shown], shown, *of_shown, assets) if shown else ()
    label_charts = _by_label(names, cohort_rows, comparison.best, baseline, assets) if sections else ()
    data = ReportData(
        experiment=gathered.request.title,
        description=experiments[0].experiment.description if experiments else "",
        generated=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        coverage=gathered.coverage,
        comparison=comparison,
        facts=_facts(states, experiments),
        labels=sections,
        charts=charts,
        label_charts=label_charts,
        agreement=agreement,
        pictures=pictures,
        failures=tuple(
            Failure(state.planned.name, state.planned.run_id, state.reason, state.log)
            for state in states
            if state.state in ("failed", "lost")
        ),
        problems=gathered.problems,
        files=tuple(
            (name, what)
            for name, what in TABLE_FILES
            if name.removesuffix(".csv") in (*tables.names, "compare") or name.endswith(".json")
        ),
    )
    return Page(data, assets)


def _experiments(states: Sequence[RunState]) -> list[Experiment]:
    """The resolved configuration of every run that has one."""
    configs = (state.layout.config for state in states)
    return [load_experiment(path).points[0].experiment for path in configs if path.is_file()]


def _pictures(states: Sequence[RunState], shown: str | None, assets: dict[str, bytes | Path]) -> tuple[Picture, ...]:
    """QC pictures of the shown run's evaluations, worst first, as its evaluation ordered and captioned them."""
    found = []
    for state in states:
        if state.planned.run_id != shown:
            continue
        for eval_id in state.planned.eval_ids:
            evaluation = state.layout.evaluation(eval_id)
            index = evaluation.qc / "index.json"
            for entry in read_json(index) if index.is_file() else ():
                name = f"assets/{eval_id}-{entry['file']}"
                assets[name] = evaluation.qc / entry["file"]
                found.append(Picture(name, entry["caption"]))
    return tuple(found)


def _learning(states: Sequence[RunState], best: str | None, assets: dict[str, bytes | Path]) -> tuple[Picture, ...]:
    names = {state.planned.run_id: state.planned.name for state in states}
    histories = {state.planned.name: history_values(state.layout) for state in states}
    histories = {name: rows for name, rows in histories.items() if rows}
    if not histories:
        return ()
    assets["assets/learning.svg"] = figure_svg(learning_curves(histories, names[best] if best else None))
    return (Picture("assets/learning.svg", "Validation loss and Dice after every epoch; the best point is thick."),)


def _by_label(
    names: Mapping[str, str],
    cohort_rows: Sequence[Row],
    best: str | None,
    baseline: str | None,
    assets: dict[str, bytes | Path],
) -> tuple[Picture, ...]:
    scores = scores_by_label(names, cohort_rows)
    if not any(scores.values()):
        return ()
    figure = dice_by_label(scores, names[best] if best else None, names[baseline] if baseline else None)
    assets["assets/labels.svg"] = figure_svg(figure)
    caption = "Dice per slice of every label; the best point with its 95 % interval, the baseline as a ring."
    return (Picture("assets/labels.svg", caption),)


def _facts(states: Sequence[RunState], experiments: Sequence[Experiment]) -> tuple[Facts, ...]:
    groups = []
    if experiments:
        groups += [_data_facts(experiments), _setting_facts(experiments)]
    attempts = [attempt for state in states for attempt in _attempts(state.layout)]
    if attempts:
        groups += _machine_facts(attempts)
    return tuple(groups)


def _data_facts(experiments: Sequence[Experiment]) -> Facts:
    """Counts of the stores as they are now; a store that has gone is named."""
    from sam2ft.core.errors import DataError
    from sam2ft.data.split import SPLITS
    from sam2ft.data.store import Store

    rows = []
    sources = dict.fromkeys(item for experiment in experiments for item in experiment.dataset.items())
    for name, source in sources:
        try:
            store = Store.open(source.store)
        except DataError as error:
            rows.append((name, str(error)))
            continue
        subjects = {split: {v.key.subject for v in store.volumes if v.split == split} for split in SPLITS}
        counts = ", ".join(f"{split} {len(found)}" for split, found in subjects.items())
        rows += [(name, str(source.store)), ("subjects", counts), ("labels", store.labels.describe())]
    return Facts("Data", tuple(rows))


def _setting_facts(experiments: Sequence[Experiment]) -> Facts:
    """The settings that a reader asks for first; what differs between runs has all its values."""
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
        "evaluated on": f"{evaluation.split}, prompt {evaluation.protocol}, {evaluation.instances}",
        "seed": str(experiment.experiment.seed),
    }


def _attempts(run: RunLayout) -> list[dict[str, object]]:
    return list(read_json(run.provenance)["attempts"]) if run.provenance.is_file() else []


def _machine_facts(attempts: Sequence[Mapping[str, object]]) -> list[Facts]:
    """Versions and machines of all attempts; several values are all named."""

    def values(name: str) -> str:
        return ", ".join(sorted({str(attempt[name]) for attempt in attempts if attempt.get(name) is not None}))

    commits = sorted({_code(attempt["code"]) for attempt in attempts})
    packages = {name for attempt in attempts for name in _mapping(attempt["packages"])}
    versions = [
        (
            name,
            ", ".join(
                sorted({str(_mapping(a["packages"])[name]) for a in attempts if name in _mapping(a["packages"])})
            ),
        )
        for name in sorted(packages)
    ]
    machine = (("hosts", values("host")), ("cores", values("cores")), ("platform", values("platform")))
    return [
        Facts("Code and packages", (("commit", ", ".join(commits)), ("python", values("python")), *versions)),
        Facts("Machine", tuple(row for row in machine if row[1])),
    ]


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _code(value: object) -> str:
    code = _mapping(value)
    if not code.get("commit"):
        return "not a checkout"
    return f"{str(code['commit'])[:12]}{' with changes' if code.get('modified') else ''}"
