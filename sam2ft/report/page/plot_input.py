"""Input of the plots, gathered from the runs: scores, histories, training subjects, prompt-noise studies. No torch."""

from collections.abc import Mapping, Sequence

from sam2ft.config.load_experiment import load_experiment
from sam2ft.core.errors import DataError
from sam2ft.core.tables.rows import Row
from sam2ft.report.comparison.compare import ComparedEvaluation
from sam2ft.report.comparison.effects import SUBJECTS
from sam2ft.report.comparison.number_text import MEASURE_WORDS
from sam2ft.report.comparison.point_tests import MEASURES
from sam2ft.report.comparison.rank_study import RankStudy
from sam2ft.report.page.content import SubjectScores, label_scores, same_data
from sam2ft.report.plots.page_plots import PlotInput
from sam2ft.report.request import Gathered, RunState
from sam2ft.report.tables.failures import sized_rows
from sam2ft.runs.evaluation_files import read_table
from sam2ft.runs.history import history_if_readable
from sam2ft.runs.stores import labelled_records, max_train_subjects, open_stores
from sam2ft.statistics.cohort import mean_of_labels_values, subject_values

NOISE = "prompt_noise_global"


def plot_input(
    gathered: Gathered, shown: str | None, baseline: str | None, evaluation: ComparedEvaluation | None
) -> PlotInput:
    """Input of the plots of the run `shown` and the baseline; `evaluation` is the one of the plots of labels."""
    names, rows, best = gathered.names, gathered.tables.rows, gathered.comparison.best
    roles = {run: role for run, role in ((baseline, "baseline"), (best, "best")) if run}
    states = {state.planned.run_id: state for state in gathered.states}
    histories = {state.planned.name: history_if_readable(state.layout) for state in gathered.states}
    subjects: list[SubjectScores] = []
    overall: list[SubjectScores] = []
    for run in dict.fromkeys((shown, baseline)):
        if run and evaluation:
            subjects += _of_subjects(rows("volume", run), run, names[run], roles[run], evaluation)
            overall += _overall(rows("volume", run), run, names[run], roles[run], evaluation)
    return PlotInput(
        gathered.comparison,
        gathered.tests,
        label_scores(names, roles, rows("global"), evaluation) if evaluation else (),
        subjects,
        {name: history for name, history in histories.items() if history},
        _num_subjects(gathered, states),
        {names[run]: _noise(states[run], rows("global")) for run in dict.fromkeys((best, baseline)) if run in states},
        gathered.ranks or RankStudy(),
        overall,
        [row for row in sized_rows(gathered.tables, shown) if same_data(row, evaluation)]
        if shown and evaluation
        else [],
    )


def _of_subjects(
    volume_rows: Sequence[Row], run: str, point: str, role: str, evaluation: ComparedEvaluation
) -> list[SubjectScores]:
    """Values per subject of every label and measure of one run, for the dataset, split and protocol of `evaluation`."""
    found = []
    for one in subject_values([row for row in volume_rows if same_data(row, evaluation)]):
        label, measure = one.key["label"], str(one.key["measure"])
        if label not in (None, "") and measure in MEASURE_WORDS:
            values = {str(subject): value for (_, subject), value in one.values.items()}
            found.append(SubjectScores(int(label), str(one.key["label_name"]), point, run, role, measure, values))
    return found


def _overall(
    volume_rows: Sequence[Row], run: str, point: str, role: str, evaluation: ComparedEvaluation
) -> list[SubjectScores]:
    """The mean over labels of every subject, from which `mean_of_labels` in global.csv is computed."""
    found = []
    for one in mean_of_labels_values([row for row in volume_rows if same_data(row, evaluation)], MEASURES):
        values = {str(subject): value for (_, subject), value in one.values.items()}
        found.append(SubjectScores(0, "mean of labels", point, run, role, str(one.key["measure"]), values))
    return found


def _num_subjects(gathered: Gathered, states: Mapping[str, RunState]) -> dict[str, int]:
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
    layouts = [state.layout.evaluation(evaluation) for evaluation in sorted(evaluations)]
    return [row for one in layouts if one.success.is_file() for row in read_table(one, NOISE)]
