"""Six runs whose trainings compute the same; one goes through, the others meet what a cluster does to jobs."""

import re
import time

import pytest

from sam2ft.run.claim import holder

pytestmark = pytest.mark.slurm

EPOCHS = 60
ROLES = ("orphaned", "requeued", "cancelled", "preempted", "uninterrupted", "limited")
PINNED = {"preempted": "n2", "uninterrupted": "n3", "limited": "n3"}
"""The first three start on n1, where nothing may keep them: they have to come back on other nodes."""
CONTINUED = ("orphaned", "preempted", "requeued", "limited")
# The patience makes another run of each, and changes nothing that is computed: nothing is stopped early.
SWEEP = "sweep:\n  points:\n" + "".join(
    f"    {role}: {{module.early_stopping.patience: {1000 + number}}}\n" for number, role in enumerate(ROLES, start=1)
)


class Story:
    """What was done to the runs, and what was seen meanwhile."""

    def __init__(self, experiment):
        self.experiment, self.slurm = experiment, experiment.slurm
        self.places = {role: experiment.named(role) for role in ROLES}
        self.jobs = {role: experiment.job(place) for role, place in self.places.items()}
        self.step_at = {}
        self.old = None
        self.old_was_alive = False
        self.old_log = ""

    def restarts(self, role):
        status = self.experiment.status(self.places[role])
        return status.attempt.restart if status is not None else 0

    def trains_on(self, role, restart):
        """Whether the run has made a step in that attempt."""
        return self.restarts(role) >= restart and self.experiment.step(self.places[role]) > self.step_at[role]

    def wait(self, condition):
        self.experiment.wait(condition, 240)

    def note(self, role):
        self.step_at[role] = self.experiment.step(self.places[role])


@pytest.fixture(scope="module")
def story(slurm, experiment):
    """Everything happens while all of them train, each on the node where it is wanted."""
    runs = experiment("survival", SWEEP, num_epochs=EPOCHS)
    slurm.run("scontrol", "update", "NodeName=ALL", "State=DRAIN", "Reason=placing")
    runs.sweep()
    story = Story(runs)
    for role, node in PINNED.items():
        slurm.run("scontrol", "update", f"JobId={story.jobs[role]}", f"ReqNodeList={node}")
    slurm.run("scontrol", "update", "NodeName=n1", "State=RESUME")
    story.wait(lambda: all(slurm.queue()[story.jobs[role]] == "RUNNING" for role in ROLES[:3]))
    slurm.run("scontrol", "update", "NodeName=n2,n3", "State=RESUME")
    story.wait(lambda: all(runs.step(place) >= 2 for place in story.places.values()))
    for role in ROLES:
        story.note(role)
    _cancel(story)
    _let_its_time_run_out(story)
    _requeue(story)
    _lose_its_node(story)
    _preempt(story)
    _see_the_old_one_stopped(story)
    story.wait(lambda: story.trains_on("requeued", 1))
    _kill_controller(story)
    runs.wait_for_end(400)
    return story


def _cancel(story):
    story.slurm.run("scancel", story.jobs["cancelled"])


def _let_its_time_run_out(story):
    """Sooner than any `hours` could say: the warning comes when Slurm next looks at limits, twice a minute."""
    end = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + 38))
    story.slurm.run("scontrol", "update", f"JobId={story.jobs['limited']}", f"EndTime={end}")


def _requeue(story):
    job = story.jobs["requeued"]
    story.slurm.run("scontrol", "requeue", job)
    story.wait(lambda: story.slurm.queue()[job] == "PENDING")


def _lose_its_node(story):
    """kill -9 of slurmd: its job goes on, while Slurm starts it again elsewhere."""
    story.old = story.experiment.status(story.places["orphaned"]).attempt
    story.slurm.kill("slurmd-n1")


def _preempt(story):
    """A job in the other partition that wants all of the node."""
    options = ("--partition=high", "--exclusive", "--mem=100", "--nodelist=n2", "--output=/dev/null")
    story.slurm.run("sbatch", *options, "--wrap", "sleep 1")


def _see_the_old_one_stopped(story):
    """The old script still runs when the new one takes the claim, and then ends by itself."""
    place = story.places["orphaned"]
    story.wait(lambda: holder(place).restart == 1)
    story.old_was_alive = story.old.is_alive_here()
    story.wait(story.old.is_dead)
    story.old_log = (place.logs / f"{story.old.name}.log").read_text()


def _kill_controller(story):
    """While a job that was warned saves, so that its end finds nobody to ask; then the controller comes back."""
    place = story.places["requeued"]
    story.note("requeued")
    story.slurm.run("scancel", "--signal=USR2", story.jobs["requeued"])
    story.slurm.kill("slurmctld")
    story.wait(place.requeue.exists)
    time.sleep(2)
    # Also slurmd of the lost node, whose old script has ended by now.
    story.slurm.up()


def tensors(path):
    import torch
    from safetensors.torch import load_file

    return torch.load(path, weights_only=True)["model"] if path.suffix == ".pt" else load_file(path)


def last_checkpoint(place):
    return max(place.checkpoints.glob("*.safetensors"))


@pytest.mark.parametrize("role", CONTINUED)
def test_weights_equal_those_of_the_uninterrupted_run(story, role):
    """The best weights, and all that training had when it ended: weights, optimizer."""
    import torch

    ours, other = story.places[role], story.places["uninterrupted"]
    assert story.experiment.status(ours).state == "done"
    assert last_checkpoint(ours).name == last_checkpoint(other).name
    for mine, its in ((ours.best, other.best), (last_checkpoint(ours), last_checkpoint(other))):
        found, expected = tensors(mine), tensors(its)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_they_were_interrupted_and_the_other_was_not(story):
    assert story.restarts("uninterrupted") == 0
    assert story.slurm.job(story.jobs["uninterrupted"])["Restarts"] == "0"
    for role in CONTINUED:
        assert len(story.experiment.attempts(story.places[role])) >= 3, "two attempts to train, one to evaluate"
        assert int(story.slurm.job(story.jobs[role])["Restarts"]) >= 1
        assert story.slurm.job(story.jobs[role])["ExitCode"] == "0:0"
    assert int(story.slurm.job(story.jobs["requeued"])["Restarts"]) >= 2


def test_continued_runs_went_on_from_where_they_had_saved(story):
    """Told in time, a run saves: nothing of it is computed twice."""
    for role in ("preempted", "limited"):
        place = story.places[role]
        second = (place.logs / f"{story.jobs[role]}-1.log").read_text()
        assert re.search(r"continues +after step (\d+)", second), second
        assert int(re.search(r"after step (\d+)", second)[1]) >= story.step_at[role]


def test_evaluations_followed_the_last_end_of_their_training(story):
    for role in (*CONTINUED, "uninterrupted"):
        training, evaluation = story.jobs[role], story.experiment.job(story.places[role], "eval")
        jobs = story.slurm.accounted(training, evaluation)
        assert jobs[evaluation]["State"] == "COMPLETED"
        assert jobs[evaluation]["Start"] >= jobs[training]["End"]


def test_the_claim_stopped_the_old_script_beside_the_requeued_one(story):
    assert story.old_was_alive
    assert story.old.restart == 0
    assert "claim" in story.old_log.splitlines()[-1]
    status = story.experiment.status(story.places["orphaned"])
    assert (status.state, status.failure_class) == ("done", None)


def test_a_job_that_saved_while_the_controller_was_away_was_requeued_by_its_own_script(story):
    text = "\n".join(path.read_text() for path in story.experiment.layout.submissions.glob("1/*.out"))
    job = story.jobs["requeued"]
    assert f"sam2ft: job {job} saved and is to be continued; no answer from squeue (try 1)" in text
    assert f"sam2ft: job {job} saved and is to be continued; requeued after restart" in text


def test_cancelled_stays_cancelled(story):
    place, job = story.places["cancelled"], story.slurm.job(story.jobs["cancelled"])
    assert (job["JobState"], job["Restarts"]) == ("CANCELLED", "0")
    row = next(row for row in story.experiment.states() if row["run"] == place.run_id)
    assert row["state"] == "stopped"
    assert len(story.experiment.attempts(place)) == 1
    coverage = story.experiment.coverage()
    assert (coverage["done"], coverage["failed"], coverage["missing"]) == (5, 0, 1)
