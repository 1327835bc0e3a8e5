"""What is handed over for each run, from where it stands."""

from dataclasses import replace

import pytest

from sam2ft.core.files import write_json
from sam2ft.runs.attempt.status import read_status
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import Plan
from sam2ft.runs.states import State
from sam2ft.slurm.lookup import SubmissionError
from sam2ft.slurm.queue import QueueEntry
from sam2ft.slurm.states import SlurmState
from sam2ft.sweeps.state.reconcile import ReconciledRun
from sam2ft.sweeps.submit.records import Element
from sam2ft.sweeps.submit.wanted_jobs import WantedJobs, wanted_of

PENDING = QueueEntry(SlurmState.PENDING, "Dependency", "")
STUCK = QueueEntry(SlurmState.PENDING, "DependencyNeverSatisfied", "")
TRAIN, EVAL = Element("7_0", "train", 1), Element("8_0", "eval", 1, ("000000000000",))


@pytest.fixture
def wanted(tmp_path, runs_of):
    """wanted(state, jobs=(), queue={}, chosen=True, trained=False, fresh=False, baseline=False) for one run."""
    layout = ExperimentLayout(tmp_path)

    def make(state, *, jobs=(), queue=None, chosen=True, trained=False, fresh=False, baseline=False):
        run = replace(runs_of(1)[0], baseline=baseline)
        run_layout = layout.run(run.run_id)
        if trained:
            now = "2026-01-01T00:00:00+00:00"
            attempt = {"job": "7_0", "restart": 0, "host": "n1", "pid": 1, "started": now}
            write_json(run_layout.status, {"state": "done", "attempt": attempt, "heartbeat": now, "trained": True,
                                      "best_sha256": "b"})  # fmt: skip
            run_layout.best.parent.mkdir(parents=True)
            run_layout.best.write_bytes(b"best")
        reconciled = ReconciledRun(run, State(state), "", read_status(run_layout), jobs=tuple(jobs))
        plan = Plan("toy", "/toy.yaml", fresh, (run,))
        found = wanted_of(layout, plan, [reconciled], [run] if chosen else [], queue or {})
        return [(entry.train, entry.after) for entry in found]

    return make


def test_a_new_run_is_trained_and_a_baseline_is_only_evaluated(wanted):
    assert wanted("new") == [(True, ())]
    assert wanted("new", baseline=True) == [(False, ())]
    assert wanted("new", chosen=False) == []


def test_a_trained_run_is_only_evaluated_unless_it_is_to_be_trained_again(wanted):
    assert wanted("new", trained=True) == [(False, ())]


def test_force_trains_again(wanted):
    assert wanted("done", trained=True, fresh=True) == [(True, ())]


def test_a_run_in_training_whose_evaluation_is_queued_needs_nothing(wanted):
    assert wanted("queued", jobs=[TRAIN, EVAL], queue={"7_0": PENDING, "8_0": PENDING}, chosen=False) == []


def test_a_run_in_training_that_nobody_will_evaluate_gets_an_evaluation_behind_it(wanted):
    assert wanted("running", jobs=[TRAIN, EVAL], queue={"7_0": PENDING}, chosen=False) == [(False, ("7_0",))]


def test_an_evaluation_that_can_never_start_counts_for_nothing(wanted):
    queue = {"7_0": PENDING, "8_0": STUCK}
    assert wanted("running", jobs=[TRAIN, EVAL], queue=queue, chosen=False) == [(False, ("7_0",))]
    assert wanted("failed", jobs=[TRAIN, EVAL], queue={"8_0": STUCK}) == [(True, ())]


def test_other_evaluations_than_those_queued_wait_for_these(wanted):
    other = replace(EVAL, eval_ids=("ffffffffffff",))
    queue = {"7_0": PENDING, "8_0": PENDING}
    assert wanted("queued", jobs=[TRAIN, other], queue=queue, chosen=False) == [(False, ("7_0", "8_0"))]
    assert wanted("queued", jobs=[other], queue={"8_0": PENDING}, chosen=False, trained=True) == [(False, ("8_0",))]


def test_a_job_of_a_record_of_before_makes_all_evaluations(wanted):
    whole = Element("7_0", "train_eval", 1)
    assert wanted("running", jobs=[whole], queue={"7_0": PENDING}, chosen=False) == []


def test_without_a_queue_nothing_is_wanted_because_it_might_be_there_already(tmp_path, runs_of):
    run = runs_of(1)[0]
    plan = Plan("toy", "/toy.yaml", False, (run,))
    with pytest.raises(SubmissionError, match="squeue does not answer"):
        wanted_of(ExperimentLayout(tmp_path), plan, [ReconciledRun(run, State.NEW, "", None)], [run], None)
    assert WantedJobs(run, train=True).after == ()
