"""Every path of runs and experiments. No other module joins these names."""

from dataclasses import dataclass
from pathlib import Path

from sam2ft.core.keys import SliceKey, VolumeKey, path_component

RUNS = Path("runs")


@dataclass(frozen=True)
class EvalLayout:
    """One evaluation: `<run>/eval/<eval_id>/`."""

    folder: Path

    @property
    def success(self) -> Path:
        return self.folder / "_SUCCESS"

    def table(self, name: str) -> Path:
        """`name` is a key of rows.TABLES: slice, instance, volume, global, biomarker_slice, ..."""
        return self.folder / f"{name}.csv"

    @property
    def parts(self) -> Path:
        """Rows of finished volumes, until the evaluation is complete."""
        return self.folder / "parts"

    @property
    def stop(self) -> Path:
        """There when a rank was told to stop: the others stop after the volume they are at."""
        return self.parts / "stop"

    def part(self, key: VolumeKey, name: str) -> Path:
        """One finished volume's rows of one table."""
        return self.parts / path_component(key.dataset) / f"{key.file_stem}.{name}.csv"

    def part_done(self, key: VolumeKey) -> Path:
        """Written last: the digests of this volume's parts."""
        return self.parts / path_component(key.dataset) / f"{key.file_stem}.json"

    def prediction(self, key: VolumeKey) -> Path:
        return self.folder / "predictions" / path_component(key.dataset) / f"{key.file_stem}.nii.gz"

    def segmentation(self, key: VolumeKey) -> Path:
        """The prediction as DICOM-SEG (eval.dicom_seg)."""
        return self.folder / "predictions" / path_component(key.dataset) / f"{key.file_stem}.seg.dcm"

    @property
    def qc(self) -> Path:
        return self.folder / "qc"

    @property
    def noise_chart(self) -> Path:
        """The plot of a prompt-noise study."""
        return self.folder / "prompt_noise.svg"

    @property
    def config(self) -> Path:
        """The resolved experiment whose `eval:` this evaluation is."""
        return self.folder / "config.yaml"


@dataclass(frozen=True)
class RunLayout:
    """One run: `runs/<experiment>/<run_id>/`."""

    folder: Path

    @property
    def run_id(self) -> str:
        return self.folder.name

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def identity(self) -> Path:
        """What the run's name is the hash of, and the volumes of its stores, as of its first attempt."""
        return self.folder / "identity.json"

    @property
    def provenance(self) -> Path:
        return self.folder / "provenance.json"

    @property
    def status(self) -> Path:
        return self.folder / "status.json"

    @property
    def claim(self) -> Path:
        return self.folder / "claim.json"

    @property
    def requeue(self) -> Path:
        """Stop marker: the attempt that saved and wants to be continued."""
        return self.folder / "requeue.json"

    @property
    def history(self) -> Path:
        return self.folder / "history.csv"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def best(self) -> Path:
        return self.checkpoints / "best.pt"

    def resume(self, step: int) -> Path:
        return self.checkpoints / f"{step:09d}.safetensors"

    @property
    def qc(self) -> Path:
        return self.folder / "qc"

    def picture(self, key: SliceKey, epoch: int) -> Path:
        """A validation slice after an epoch (counted from 1): a folder per slice, in which to flip through epochs."""
        folder = self.qc / path_component(key.dataset) / f"{key.volume_key.file_stem}__{key.index:03d}"
        return folder / f"epoch-{epoch:03d}.png"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def child_output(self) -> Path:
        """What a child of the local pool prints before it opens its own log."""
        return self.logs / "child.out"

    @property
    def tensorboard(self) -> Path:
        return self.folder / "tensorboard"

    def evaluation(self, eval_id: str) -> EvalLayout:
        return EvalLayout(self.folder / "eval" / eval_id)

    @property
    def evaluations(self) -> Path:
        return self.folder / "eval"


@dataclass(frozen=True)
class CalibrationLayout:
    """One measured speed: `<experiment>/calibration/<key>.*`."""

    folder: Path
    key: str

    @property
    def task(self) -> Path:
        """What is to be measured."""
        return self.folder / f"{self.key}.task.json"

    @property
    def experiment(self) -> Path:
        """The point that it is measured on."""
        return self.folder / f"{self.key}.yaml"

    @property
    def result(self) -> Path:
        return self.folder / f"{self.key}.json"

    @property
    def scratch(self) -> Path:
        """Checkpoints and tables that are written to be timed; removed after it."""
        return self.folder / f"{self.key}.tmp"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.key}.log"


@dataclass(frozen=True)
class ExperimentLayout:
    """One experiment: `runs/<experiment>/`."""

    folder: Path

    @classmethod
    def of(cls, name: str, runs: Path = RUNS) -> "ExperimentLayout":
        return cls(runs / path_component(name))

    def plan(self, plan_id: str) -> Path:
        return self.folder / f"plan-{plan_id}.json"

    def submission(self, number: int) -> Path:
        return self.folder / "submissions" / f"{number}.json"

    @property
    def submissions(self) -> Path:
        return self.folder / "submissions"

    def scripts(self, number: int) -> Path:
        """What a submission gave to Slurm: scripts, pickles and, later, what the jobs print before their own logs."""
        return self.submissions / str(number)

    @property
    def submission_lock(self) -> Path:
        """Held by whoever talks to sbatch, and by a running sbatch itself when its launcher is killed."""
        return self.submissions / ".lock"

    @property
    def lock(self) -> Path:
        return self.folder / ".lock"

    @property
    def launcher(self) -> Path:
        """Who holds the lock, for the message to whoever has to wait."""
        return self.folder / ".launcher.json"

    @property
    def calibrations(self) -> Path:
        """Measured speeds."""
        return self.folder / "calibration"

    def calibration(self, key: str) -> CalibrationLayout:
        return CalibrationLayout(self.calibrations, key)

    def run(self, run_id: str) -> RunLayout:
        return RunLayout(self.folder / run_id)

    @property
    def report(self) -> Path:
        return self.folder / "report"


def foreign_evaluation(checkpoint_id: str, eval_id: str, runs: Path = RUNS) -> EvalLayout:
    """Where the evaluation of a checkpoint that no run here made goes by default."""
    return EvalLayout(runs / "_foreign" / checkpoint_id / eval_id)


def scored(run_id: str, runs: Path = RUNS) -> EvalLayout:
    """Where the scoring of masks made elsewhere goes by default."""
    return EvalLayout(runs / "_scored" / run_id)


def compared(comparison_id: str, runs: Path = RUNS) -> Path:
    """Folder of a comparison of checkpoints; their evaluations lie where they would alone."""
    return runs / "_compared" / comparison_id


def digest_cache(runs: Path = RUNS) -> Path:
    """Digests of large files that are known already."""
    return runs / ".digests.json"
