"""Input of the statistics section from the runs: number of training subjects, prompt-noise studies. No torch."""

from collections.abc import Mapping, Sequence

from sam2ft.config.load_experiment import load_experiment
from sam2ft.core.errors import DataError
from sam2ft.core.tables.rows import TABLES, Row, read_csv
from sam2ft.report.comparison.effects import SUBJECTS
from sam2ft.report.page.statistics import StatisticsSection, statistics_section
from sam2ft.report.request import Gathered, RunState
from sam2ft.runs.stores import labelled_records, max_train_subjects, open_stores

NOISE = "prompt_noise_global"


def statistics_of(gathered: Gathered, shown: Sequence[str | None]) -> StatisticsSection | None:
    """The statistics section; `shown`: run_ids (best point, baseline) whose prompt-noise studies are plotted."""
    states = {state.planned.run_id: state for state in gathered.states}
    counted = gathered.tables.rows("global")
    noise = {states[run].planned.name: _noise(states[run], counted) for run in dict.fromkeys(shown) if run in states}
    return statistics_section(gathered.comparison, gathered.tests, _subjects(gathered, states), noise)


def _subjects(gathered: Gathered, states: Mapping[str, RunState]) -> dict[str, int]:
    """run_id -> number of training subjects, if the sweep changes it and the stores still exist."""
    if SUBJECTS not in gathered.comparison.override_keys:
        return {}
    found = {}
    for run, state in states.items():
        if state.planned.baseline or not state.layout.config.is_file():
            continue
        experiment = load_experiment(state.layout.config).points[0].experiment
        try:
            records = labelled_records(open_stores(experiment), "train", max_train_subjects(experiment))
        except DataError:
            continue
        found[run] = len({(record.key.dataset, record.key.subject) for record in records})
    return found


def _noise(state: RunState, counted: Sequence[Row]) -> list[Row]:
    """Rows of the prompt-noise studies of a run; only of evaluations that count in the report."""
    evaluations = {str(row["eval"]) for row in counted if row["run"] == state.planned.run_id}
    paths = [state.layout.evaluation(evaluation).table(NOISE) for evaluation in sorted(evaluations)]
    return [row for path in paths if path.is_file() for row in read_csv(path, TABLES[NOISE])]
