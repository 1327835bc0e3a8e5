"""Run directory layout: every path of runs and experiments. No other module builds these paths."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam2ft.core.keys import SliceKey, VolumeKey, path_component

RUNS = Path("runs")


class Below:
    """A path below the folder of a layout: `status = Below("status.json")`, with fields of the layout in braces."""

    def __init__(self, path: str):
        self._path = path

    def __get__(self, layout: Any, _kind: type | None = None) -> Path:
        return Path(layout.folder, self._path.format_map(vars(layout)))


@dataclass(frozen=True)
class EvalLayout:
    """One evaluation: `<run>/eval/<eval_id>/`."""

    folder: Path

    success = Below("_SUCCESS")
    wide = Below("wide")
    """Folder of the wide tables (one column per label), which are derived from the tidy ones."""
    parts = Below("parts")
    """Table rows of finished volumes; removed when the evaluation is complete."""
    stop = Below("parts/stop")
    """Exists when a rank was asked to stop: the other ranks stop after their current volume."""
    qc = Below("qc")
    qc_volumes = Below("qc/volumes.json")
    """List of the slices that the page can scroll."""
    noise_chart = Below("prompt_noise.svg")
    """The plot of a prompt-noise study."""
    config = Below("config.yaml")
    """Resolved experiment with the `eval:` section of this evaluation."""

    def table(self, name: str) -> Path:
        """`name` is a key of rows.TABLES: slice, instance, volume, global, biomarker_slice, ..."""
        return self.folder / f"{name}.csv"

    def part(self, key: VolumeKey, name: str) -> Path:
        """Return the file with the rows of one table for one finished volume."""
        return self.parts / path_component(key.dataset) / f"{key.file_stem}.{name}.csv"

    def part_done(self, key: VolumeKey) -> Path:
        """Return the file with the digests of this volume's parts; it is written last."""
        return self.parts / path_component(key.dataset) / f"{key.file_stem}.json"

    def prediction(self, key: VolumeKey) -> Path:
        return self.folder / "predictions" / path_component(key.dataset) / f"{key.file_stem}.nii.gz"

    def segmentation(self, key: VolumeKey) -> Path:
        """Return the file of the prediction as DICOM-SEG (eval.dicom_seg)."""
        return self.folder / "predictions" / path_component(key.dataset) / f"{key.file_stem}.seg.dcm"


@dataclass(frozen=True)
class RunLayout:
    """One run: `runs/<experiment>/<run_id>/`."""

    folder: Path

    config = Below("config.yaml")
    identity = Below("identity.json")
    """Content that the run_id is the hash of, and the volumes of the stores, at the first attempt."""
    provenance = Below("provenance.json")
    status = Below("status.json")
    claim = Below("claim.json")
    requeue = Below("requeue.json")
    """Requeue marker: the attempt that saved its state and requests to be continued."""
    history = Below("history.csv")
    checkpoints = Below("checkpoints")
    best = Below("checkpoints/best.pt")
    qc = Below("qc")
    logs = Below("logs")
    child_output = Below("logs/child.out")
    """Output of a child process of the local pool before it opens its own log."""
    tensorboard = Below("tensorboard")
    evaluations = Below("eval")

    @property
    def run_id(self) -> str:
        return self.folder.name

    def resume(self, step: int) -> Path:
        return self.checkpoints / f"{step:09d}.safetensors"

    def picture(self, key: SliceKey, epoch: int) -> Path:
        """Return the picture of a validation slice after an epoch (counted from 1); one folder per slice."""
        folder = self.qc / path_component(key.dataset) / f"{key.volume_key.file_stem}__{key.index:03d}"
        return folder / f"epoch-{epoch:03d}.png"

    def evaluation(self, eval_id: str) -> EvalLayout:
        return EvalLayout(self.evaluations / eval_id)


@dataclass(frozen=True)
class CalibrationLayout:
    """One calibration (measured timing): `<experiment>/calibration/<key>.*`."""

    folder: Path
    key: str

    task = Below("{key}.task.json")
    """Description of the measurement."""
    experiment = Below("{key}.yaml")
    """Resolved experiment of the point that is measured."""
    result = Below("{key}.json")
    scratch = Below("{key}.tmp")
    """Checkpoints and tables that are written only for timing; removed afterwards."""
    log = Below("{key}.log")


@dataclass(frozen=True)
class ExperimentLayout:
    """One experiment: `runs/<experiment>/`."""

    folder: Path

    submissions = Below("submissions")
    submission_lock = Below("submissions/.lock")
    """Held by the process that calls sbatch, and by a running sbatch when its launcher is killed."""
    lock = Below(".lock")
    launcher = Below(".launcher.json")
    """Holder of the lock, for the message to a process that waits."""
    calibrations = Below("calibration")
    """Folder of all calibrations (measured timings)."""
    report = Below("report")

    @classmethod
    def of(cls, name: str, runs: Path = RUNS) -> "ExperimentLayout":
        return cls(runs / path_component(name))

    def plan(self, plan_id: str) -> Path:
        return self.folder / f"plan-{plan_id}.json"

    def submission(self, number: int) -> Path:
        return self.submissions / f"{number}.json"

    def scripts(self, number: int) -> Path:
        """Return the Slurm folder of a submission: scripts, job files, output of jobs before they open their logs."""
        return self.submissions / str(number)

    def calibration(self, key: str) -> CalibrationLayout:
        return CalibrationLayout(self.calibrations, key)

    def run(self, run_id: str) -> RunLayout:
        return RunLayout(self.folder / run_id)


def foreign_evaluation(checkpoint_id: str, eval_id: str, runs: Path = RUNS) -> EvalLayout:
    """Return the default folder for the evaluation of a foreign checkpoint (one that belongs to no run)."""
    return EvalLayout(runs / "_foreign" / checkpoint_id / eval_id)


def scored_evaluation(run_id: str, runs: Path = RUNS) -> EvalLayout:
    """Return the default folder for the scoring of masks made elsewhere (by another program)."""
    return EvalLayout(runs / "_scored" / run_id)


def comparison_folder(comparison_id: str, runs: Path = RUNS) -> Path:
    """Return the folder of a comparison of checkpoints; each evaluation is stored as without the comparison."""
    return runs / "_compared" / comparison_id


def digest_cache(runs: Path = RUNS) -> Path:
    """Return the cache file with digests of large files."""
    return runs / ".digests.json"


def converted_weights(runs: Path = RUNS) -> Path:
    """Return the folder with converted copies of checkpoints of other programs; it may be removed at any time."""
    return runs / ".weights"
