"""Six runs whose trainings compute the same; one goes through, the others meet what a cluster does to jobs."""

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from sam2ft.runs.attempt.claim import holder

pytestmark = pytest.mark.slurm

EPOCHS = 140
"""Time for a node to be given up (half a minute) and its run to start elsewhere, also on a machine twice as fast."""
INTERRUPTED = ("orphaned", "preempted", "requeued", "limited")
# The patience makes another run of each, and changes nothing that is computed: nothing is stopped early.
FOUR = "sweep: {grid: {module.early_stopping.patience: [1001, 1002, 1003, 1004]}}\n"


class Story:
    """What was done to the runs, and what was seen meanwhile."""

    def __init__(self, slurm, moved, limited, uninterrupted):
        self.slurm = slurm
        self.experiments = {"limited": limited, "uninterrupted": uninterrupted}
        self.places = {"limited": limited.runs[0], "uninterrupted": uninterrupted.runs[0]}
        self.moved = moved
        self.step_at = {}
        self.old = None
        self.old_was_alive = False
        self.old_log = ""

    def cast(self):
        """Give the four that may be moved their roles, by where Slurm has put them: two of them on different nodes."""
        nodes = {place: self.slurm.job(self.moved.job(place))["NodeList"] for place in self.moved.runs}
        orphaned = next(iter(nodes))
        preempted = next(place for place, node in nodes.items() if node != nodes[orphaned])
        requeued, cancelled = (place for place in nodes if place not in (orphaned, preempted))
        self.lost_node, self.wanted_node = nodes[orphaned], nodes[preempted]
        self.places |= {"orphaned": orphaned, "preempted": preempted, "requeued": requeued, "cancelled": cancelled}
        self.step_at = {role: self.experiment(role).step(place) for role, place in self.places.items()}

    def experiment(self, role):
        return self.experiments.get(role, self.moved)

    def job(self, role, stage="train"):
        return self.experiment(role).job(self.places[role], stage)

    def status(self, role):
        return self.experiment(role).status(self.places[role])

    def step(self, role):
        return self.experiment(role).step(self.places[role])

    def printed(self):
        """What the batch scripts of the four said."""
        return "\n".join(path.read_text() for path in self.moved.layout.submissions.glob("1/*.out"))

    def wait(self, condition):
        self.moved.wait(condition, 240)


@pytest.fixture(scope="module")
def story(slurm, experiment):
    """Everything happens while all of them train."""
    moved = experiment("moved", FOUR, num_epochs=EPOCHS)
    limited, uninterrupted = experiment("limited", num_epochs=EPOCHS), experiment("uninterrupted", num_epochs=EPOCHS)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda runs, site: runs.sweep(site=site), (moved, limited, uninterrupted), ("n1n2", "n3", "n3")))
    story = Story(slurm, moved, limited, uninterrupted)
    everyone = [(runs, place) for runs in (moved, limited, uninterrupted) for place in runs.runs]
    story.wait(lambda: all(runs.step(place) >= 2 for runs, place in everyone))
    story.cast()
    _cancel(story)
    _let_its_time_run_out(story)
    _requeue(story)
    _lose_its_node(story)
    _preempt(story)
    _see_the_old_one_stopped(story)
    moved.wait_for_progress(story.places["requeued"], restart=1)
    _kill_controller(story)
    moved.wait_for_end(400)
    return story


def _cancel(story):
    story.slurm.run("scancel", story.job("cancelled"))


def _let_its_time_run_out(story):
    """Sooner than any `hours` could say: the warning comes when Slurm next looks at limits, twice a minute."""
    end = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + 38))
    story.slurm.run("scontrol", "update", f"JobId={story.job('limited')}", f"EndTime={end}")


def _requeue(story):
    job = story.job("requeued")
    story.slurm.run("scontrol", "requeue", job)
    story.wait(lambda: story.slurm.queue()[job] == "PENDING")


def _lose_its_node(story):
    """kill -9 of slurmd: its job goes on, while Slurm starts it again elsewhere."""
    story.old = story.status("orphaned").attempt
    story.slurm.kill(f"slurmd-{story.lost_node}")


def _preempt(story):
    """A job in the other partition that wants all of the node."""
    options = ("--partition=high", "--exclusive", "--mem=100", f"--nodelist={story.wanted_node}", "--output=/dev/null")
    story.slurm.run("sbatch", *options, "--wrap", "sleep 1")


def _see_the_old_one_stopped(story):
    """The old script still runs when the new one takes the claim, and then ends by itself."""
    place = story.places["orphaned"]
    story.wait(lambda: holder(place).restart > 0)
    story.old_was_alive = story.old.is_alive_here()
    story.wait(story.old.is_dead)
    story.old_log = (place.logs / f"{story.old.name}.log").read_text()


def _kill_controller(story):
    """While a job that was warned saves, so that its end finds nobody to ask; then the controller comes back."""
    place = story.places["requeued"]
    story.slurm.run("scancel", "--signal=USR2", story.job("requeued"))
    story.slurm.kill("slurmctld")
    story.wait(place.requeue.exists)
    said = f"job {story.job('requeued')} saved and is to be continued; no answer from squeue (try 1)"
    story.wait(lambda: said in story.printed())
    # Also slurmd of the lost node, whose old script has ended by now.
    story.slurm.up()


def tensors(path):
    import torch
    from safetensors.torch import load_file

    return torch.load(path, weights_only=True)["model"] if path.suffix == ".pt" else load_file(path)


def last_checkpoint(place):
    return max(place.checkpoints.glob("*.safetensors"))


@pytest.mark.parametrize("role", INTERRUPTED)
def test_weights_equal_those_of_the_uninterrupted_run(story, role):
    """The best weights, and all that training had when it ended: weights, optimizer."""
    import torch

    ours, other = story.places[role], story.places["uninterrupted"]
    assert story.status(role).state == "done"
    assert last_checkpoint(ours).name == last_checkpoint(other).name
    for mine, its in ((ours.best, other.best), (last_checkpoint(ours), last_checkpoint(other))):
        found, expected = tensors(mine), tensors(its)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_they_were_interrupted_and_the_other_was_not(story):
    assert story.slurm.job(story.job("uninterrupted"))["Restarts"] == "0"
    for role in INTERRUPTED:
        job = story.slurm.job(story.job(role))
        assert (job["JobState"], job["ExitCode"]) == ("COMPLETED", "0:0")
        assert int(job["Restarts"]) >= (2 if role == "requeued" else 1)
        # Not every restart becomes an attempt: Slurm also tried the node that was lost.
        trained = [name for name in story.experiment(role).attempts(story.places[role]) if story.job(role) in name]
        assert len(trained) >= (3 if role == "requeued" else 2)


@pytest.mark.parametrize("role", ["preempted", "limited"])
def test_told_in_time_it_saves_and_goes_on_from_there(story, role):
    logs = story.places[role].logs.glob(f"{story.job(role)}-*.log")
    second = sorted(logs, key=lambda path: int(path.stem.rpartition("-")[2]))[1].read_text()
    continues = re.search(r"continues +after step (\d+)", second)
    assert continues, second
    assert int(continues[1]) >= story.step_at[role]


def test_evaluations_followed_the_last_end_of_their_training(story):
    for role in (*INTERRUPTED, "uninterrupted"):
        training, evaluation = story.job(role), story.job(role, "eval")
        jobs = story.slurm.accounted(training, evaluation)
        assert jobs[evaluation]["State"] == "COMPLETED"
        assert jobs[evaluation]["Start"] >= jobs[training]["End"]


def test_the_claim_stopped_the_old_script_beside_the_requeued_one(story):
    assert story.old_was_alive
    assert story.old.restart == 0
    assert "stops without writing" in story.old_log.splitlines()[-1]
    assert (story.status("orphaned").state, story.status("orphaned").failure_class) == ("done", None)


def test_a_job_that_saved_while_the_controller_was_away_was_requeued_by_its_own_script(story):
    text = story.printed()
    said = f"sam2ft: job {story.job('requeued')} saved and is to be continued; "
    assert f"{said}no answer from squeue (try 1)" in text
    assert re.search(rf"{said}requeued after restart [1-9]", text)


def test_cancelled_stays_cancelled(story):
    place, job = story.places["cancelled"], story.slurm.job(story.job("cancelled"))
    assert (job["JobState"], job["Restarts"]) == ("CANCELLED", "0")
    row = next(row for row in story.moved.states() if row["run"] == place.run_id)
    assert row["state"] == "stopped"
    assert len(story.moved.attempts(place)) == 1
    coverage = story.moved.coverage()
    assert (coverage["done"], coverage["failed"], coverage["missing"]) == (3, 0, 1)
