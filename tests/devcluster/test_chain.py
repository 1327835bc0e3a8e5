"""A sweep of twelve points in chunks: train -> eval -> report, failures included; what a second and a third call do."""

import re

import pytest

pytestmark = pytest.mark.slurm

GOOD = [f"p{number}" for number in range(9)]
BAD = {"slow": "timeout", "memory": "oom", "crash": "error"}
# A step of this size makes the next loss infinite; one skipped step is all that is allowed. p0 trains for longer than
# the other elements of its array.
SWEEP = """\
sweep:
  points:
    slow: {module.num_epochs: 100000, resources.hours: 0.016}
    memory: {resources.mem_gb: 0.4}
    crash: {module.optimizer.lr: 1e+30}
    p0: {module.num_epochs: 15}
""" + "".join(f"    {name}: {{module.optimizer.lr: {number}e-5}}\n" for number, name in enumerate(GOOD) if number)


@pytest.fixture(scope="module")
def submitted(experiment):
    """The sweep, submitted once, and once again while it runs."""
    chain = experiment("chain", SWEEP)
    first = chain.sweep(site="norestart")
    second = chain.sweep(site="norestart")
    return chain, first, second


@pytest.fixture(scope="module")
def ended(submitted):
    chain = submitted[0]
    chain.wait_for_end()
    return chain


def elements(chain, number=1):
    """(stage, position of the array) -> job ids in the order of the runs, of a submission."""
    arrays = chain.records[number - 1].arrays
    return [(array.stage, [array.element(k) for k in range(len(array.runs))], array) for array in arrays]


def test_twelve_points_are_submitted_as_chunks_that_the_cluster_takes_and_not_twice(submitted):
    chain, first, second = submitted
    assert "12 to submit: 0 done, 0 running, 0 failed" in first
    assert re.search(r"\b0 to submit: ", second)
    (record,) = chain.records
    assert [(array.stage, len(array.runs)) for array in record.arrays] == [
        ("train", 1),
        ("eval", 1),
        ("train", 1),
        ("eval", 1),
        ("train", 5),
        ("eval", 5),
        ("train", 5),
        ("eval", 5),
    ]
    assert max(len(array.runs) for array in record.arrays) <= chain.slurm.max_array


def test_every_point_was_trained_and_evaluated_exactly_once(ended):
    for stage in ("train", "eval"):
        runs = [run.run_id for array in ended.records[0].arrays if array.stage == stage for run in array.runs]
        assert sorted(runs) == sorted(place.run_id for place in ended.runs)
        assert len(set(runs)) == 12
    for name in GOOD:
        place = ended.named(name)
        assert ended.attempts(place) == sorted([f"{ended.job(place)}-0", f"{ended.job(place, 'eval')}-0"])
        assert ended.status(place).state == "done"


def test_evaluations_start_as_their_trainings_end_and_the_report_is_last(ended):
    (record,) = ended.records
    jobs = ended.slurm.accounted(*(array.job for array in record.arrays), record.report.job)
    for name in GOOD:
        place = ended.named(name)
        training, evaluation = jobs[ended.job(place)], jobs[ended.job(place, "eval")]
        assert (training["State"], evaluation["State"]) == ("COMPLETED", "COMPLETED")
        assert evaluation["Start"] >= training["End"]
    # p0 trains on while the others of its array are evaluated: aftercorr, not afterok.
    others = [jobs[ended.job(ended.named(name), "eval")]["Start"] for name in ("p1", "p2", "p3")]
    assert min(others) < jobs[ended.job(ended.named("p0"))]["End"]
    assert jobs[record.report.job]["State"] == "COMPLETED"
    assert jobs[record.report.job]["Start"] >= max(
        job["End"] for name, job in jobs.items() if name != record.report.job
    )


def test_evaluations_of_failed_trainings_leave_the_queue_without_having_run(ended):
    for name in BAD:
        place = ended.named(name)
        training = ended.slurm.accounted(ended.job(place))[ended.job(place)]
        assert training["State"] == "FAILED"
        evaluation = ended.slurm.accounted(ended.job(place, "eval"))[ended.job(place, "eval")]
        assert evaluation["State"].startswith("CANCELLED")
        assert evaluation["Start"] in ("None", "Unknown")
        assert not list(place.evaluations.glob("*/_SUCCESS"))


def test_the_report_names_what_failed_with_its_class(ended):
    coverage = ended.coverage()
    assert (coverage["planned"], coverage["done"], coverage["failed"], coverage["missing"]) == (12, 9, 3, 0)
    failed = {run["name"]: run for run in coverage["runs"] if run["state"] == "failed"}
    assert {name: run["class"] for name, run in failed.items()} == BAD, (failed, ended.logs())
    assert "FloatingPointError" in failed["crash"]["reason"]
    assert "memory" in failed["memory"]["reason"]
    assert {row["name"]: row["class"] for row in ended.states() if row["state"] == "failed"} == BAD
    log = (ended.named("crash").logs / f"{ended.job(ended.named('crash'))}-0.log").read_text()
    assert "Traceback (most recent call last)" in log


def test_retry_runs_only_what_failed(ended):
    assert "0 to submit: 9 done, 0 running, 3 failed" in ended.sweep(site="norestart")
    assert "1 to submit: 9 done" in ended.sweep("--retry", "oom", "--dry-run", site="norestart")
    assert len(ended.records) == 1
    before = {name: ended.attempts(ended.named(name)) for name in GOOD}

    assert "3 to submit: 9 done" in ended.sweep("--retry", "failed", site="norestart")
    second = ended.records[1]
    for stage in ("train", "eval"):
        again = [run.run_id for array in second.arrays if array.stage == stage for run in array.runs]
        assert sorted(again) == sorted(ended.named(name).run_id for name in BAD)
    ended.wait(lambda: len(ended.attempts(ended.named("slow"))) == 2)
    ended.launch("status", ended.yaml, "cancel", "slow")
    ended.wait_for_end()

    states = {row["name"]: (row["state"], row["class"]) for row in ended.states()}
    assert [states[name] for name in ("slow", "memory", "crash")] == [
        ("stopped", None),
        ("failed", "oom"),
        ("failed", "error"),
    ]
    assert {name: ended.attempts(ended.named(name)) for name in GOOD} == before
    assert ended.slurm.accounted(second.report.job)[second.report.job]["State"] == "COMPLETED"
