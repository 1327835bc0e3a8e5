"""Messages for something known that was given where something else is expected: what it is, and what to give instead.

A door (a place that takes a path of a user) calls `wrong_kind` when the path is not what it needs.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from shlex import quote

from sam2ft.core.given.near import near_path
from sam2ft.core.given.recognise import BEST, RUN_CONFIG, Kind, kind_of, some_inside

_SHOWN = 3
_HOLDERS = (Kind.FOLDERS, Kind.FOLDER)
_DEPTH = 3
"""Levels of folders below a given one in which a series is looked for."""
_DATASET_FILE = (
    "describe the images in a dataset file (docs/sources.md), run launch/prepare.py on it, and give its store"
)


class Wanted(StrEnum):
    """What a door needs; the value is its name in a message."""

    CHECKPOINT = "a checkpoint"
    STORE = "a prepared store"
    EXPERIMENT = "an experiment file"
    DATASET = "a dataset file"
    REPORTED = "an experiment file, or the folder of its runs, of a run or of an evaluation"
    RUNS = "an experiment file or the folder of its runs"
    PREDICTIONS = "a folder of predicted masks"
    MASK = "an image or mask"
    LABELS = "a label table"


ALLOWED: Mapping[Wanted, frozenset[Kind]] = {
    Wanted.CHECKPOINT: frozenset({Kind.WEIGHTS}),
    Wanted.STORE: frozenset({Kind.STORE, Kind.EMPTY}),
    # A file of keys that is no other one of ours is read, and its reader names line and key.
    Wanted.EXPERIMENT: frozenset({Kind.EXPERIMENT, Kind.KEYS, Kind.EMPTY_FILE}),
    Wanted.DATASET: frozenset({Kind.DATASET, Kind.KEYS, Kind.EMPTY_FILE}),
    # An empty folder may be that of an experiment without a plan, which the door says better.
    Wanted.REPORTED: frozenset(
        {Kind.EXPERIMENT, Kind.KEYS, Kind.EMPTY_FILE, Kind.RUNS, Kind.RUN, Kind.EVALUATION, Kind.EMPTY}
    ),
    Wanted.RUNS: frozenset(
        {Kind.EXPERIMENT, Kind.KEYS, Kind.EMPTY_FILE, Kind.RUNS, Kind.FOLDERS, Kind.FOLDER, Kind.EMPTY}
    ),
    Wanted.PREDICTIONS: frozenset({Kind.IMAGES, Kind.TABLE, Kind.FOLDER, Kind.EMPTY}),
    # A file of an unknown format is said how to convert.
    Wanted.MASK: frozenset({Kind.IMAGE, Kind.SERIES, Kind.DICOM, Kind.BINARY, Kind.PICTURE, Kind.TEXT}),
    Wanted.LABELS: frozenset({Kind.LABELS, Kind.KEYS, Kind.EMPTY_FILE}),
}
"""What a door takes, or whose own message is better."""

_GENERAL: Mapping[Wanted, str] = {
    Wanted.CHECKPOINT: "give a file of weights, such as runs/EXPERIMENT/RUN/checkpoints/best.pt, or an official one of "
    "`make weights`",
    Wanted.STORE: "give the folder that launch/prepare.py wrote",
    Wanted.EXPERIMENT: "give an experiment file, such as experiments/quickstart.yaml",
    Wanted.DATASET: "give a dataset file, such as those in experiments/datasets",
    Wanted.REPORTED: "give the experiment file, or the folder of its runs below runs/",
    Wanted.RUNS: "give the experiment file, or the folder of its runs below runs/",
    Wanted.PREDICTIONS: "give a folder with one mask per volume (such as NIfTI), or a table that lists them",
    Wanted.MASK: "give an image file such as NIfTI, or the folder of one DICOM series",
    Wanted.LABELS: "give a label table: a YAML file with the single key labels",
}


_USUAL: Mapping[Wanted, tuple[Path, ...]] = {
    Wanted.CHECKPOINT: (Path("weights"),),
    Wanted.STORE: (Path("data"),),
    Wanted.EXPERIMENT: (Path("experiments"),),
    Wanted.DATASET: (Path("experiments/datasets"), Path("experiments")),
    Wanted.REPORTED: (Path("experiments"), Path("runs")),
    Wanted.RUNS: (Path("experiments"), Path("runs")),
}
"""Folders in which the things that a door takes mostly are."""


def not_there(path: Path, wanted: Wanted) -> str | None:
    """The whole message, in one line, if there is nothing at `path`, with what is there instead; else None."""
    try:
        if path.exists() or path.is_symlink():
            return None
    except OSError:
        # A folder that may not be entered: what is in it is not known.
        return None
    return f"{path}: no such file or folder{there_is(path, wanted) or f'; {_GENERAL[wanted]}'}"


def there_is(path: Path, wanted: Wanted) -> str:
    """Text such as `; there is weights/sam2.1_hiera_tiny.pt` where nothing is at `path`; empty without a near name."""
    near = near_path(path, _USUAL.get(wanted, ()))
    takes_it = near is not None and kind_of(near) in {*ALLOWED[wanted], None}
    return f"; there is {near}" if takes_it else ""


def wrong_kind(path: Path, wanted: Wanted) -> str | None:
    """The whole message, in one line, if `path` is something known that the door does not take; else None."""
    kind = kind_of(path)
    if kind is None or kind in ALLOWED[wanted]:
        return None
    advice = _ADVICE.get((wanted, kind), _general(wanted))(path)
    return f"{path}: is {kind.value}, not {wanted.value}; {advice}"


Advice = Callable[[Path], str]


def _general(wanted: Wanted) -> Advice:
    return lambda _: _GENERAL[wanted]


def _weights_of_run(run: Path) -> str:
    best = run / BEST
    if best.is_file():
        return f"give its weights, {best}"
    never = "a baseline never does: its weights are the initial ones"
    return f"it has no weights yet: {best} appears when it trains ({never})"


def _weights_of_runs(folder: Path) -> str:
    runs = [run for run in some_inside(folder, Kind.RUN) if (run / BEST).is_file()]
    return f"give the weights of one run, such as {runs[0] / BEST}" if runs else _GENERAL[Wanted.CHECKPOINT]


def _weights_of_all_runs(folder: Path) -> str:
    found = (run for runs in some_inside(folder, Kind.RUNS) for run in some_inside(runs, Kind.RUN))
    best = next((run / BEST for run in found if (run / BEST).is_file()), None)
    return _GENERAL[Wanted.CHECKPOINT] if best is None else f"give the weights of one run, such as {best}"


def _one_of(kind: Kind) -> Advice:
    def advice(folder: Path) -> str:
        found = some_inside(folder, kind)
        shown = ", ".join(str(path) for path in found[:_SHOWN])
        return f"give one of them: {shown}{' ...' if len(found) > _SHOWN else ''}"

    return advice


def _series_inside(folder: Path) -> str:
    series = _first_series(folder, _DEPTH)
    such = f", such as {series}" if series is not None else ""
    return f"give the folder that holds the files of one series{such}"


def _first_series(folder: Path, depth: int) -> Path | None:
    series = some_inside(folder, Kind.SERIES)
    if series or not depth:
        return series[0] if series else None
    deeper = (_first_series(inside, depth - 1) for kind in _HOLDERS for inside in some_inside(folder, kind))
    return next((found for found in deeper if found is not None), None)


def _weights_beside(file: Path) -> str:
    """Advice for the copy of an experiment file in a run."""
    return _weights_of_run(file.parent) if kind_of(file.parent) is Kind.RUN else _GENERAL[Wanted.CHECKPOINT]


def _config_of_run(run: Path) -> str:
    return f"give the experiment file that it was started from, or its copy {run / RUN_CONFIG}"


def _config_of_runs(folder: Path) -> str:
    return f"give the experiment file; launch/status.py and launch/aggregate.py take {folder} too"


def _run_of_evaluation(folder: Path) -> Path | None:
    return next((parent for parent in folder.parents if kind_of(parent) is Kind.RUN), None)


def _weights_of_evaluation(folder: Path) -> str:
    run = _run_of_evaluation(folder.absolute())
    return _GENERAL[Wanted.CHECKPOINT] if run is None else _weights_of_run(run)


def _predictions_of_run(run: Path) -> str:
    return (
        f"give the predictions of one of its evaluations, {run / 'eval'}/EVALUATION/predictions; its weights are "
        "evaluated with --ckpt"
    )


def _predictions_of_evaluation(folder: Path) -> str:
    kept = folder / "predictions"
    return f"give {kept}" if kept.is_dir() else "it holds no predictions; give a folder of masks"


def _predictions_of_evaluations(folder: Path) -> str:
    found = [one for one in some_inside(folder, Kind.EVALUATION) if (one / "predictions").is_dir()]
    return f"give {found[0] / 'predictions'}" if found else "it holds no predictions; give a folder of masks"


def _runs_of_run(run: Path) -> str:
    return f"give the folder of the experiment, {run.parent}"


def _written_by_scan(path: Path) -> str:
    folder = path if path.is_dir() else path.parent
    return f"write a dataset file for it: sam2ft scan {quote(str(folder))} --out dataset.yaml"


_PREPARED = "it is prepared already: name it in an experiment file under dataset, and give that to launch/train.py"


def _constant(text: str) -> Advice:
    return lambda _: text


_ADVICE: Mapping[tuple[Wanted, Kind], Advice] = {
    (Wanted.CHECKPOINT, Kind.RUN): _weights_of_run,
    (Wanted.CHECKPOINT, Kind.CHECKPOINTS): lambda folder: _weights_of_run(folder.parent),
    (Wanted.CHECKPOINT, Kind.RUN_FILE): lambda file: _weights_of_run(file.parent),
    (Wanted.CHECKPOINT, Kind.RUNS): _weights_of_runs,
    (Wanted.CHECKPOINT, Kind.EVALUATION): _weights_of_evaluation,
    (Wanted.CHECKPOINT, Kind.EVALUATIONS): lambda folder: _weights_of_run(folder.parent),
    (Wanted.CHECKPOINT, Kind.EXPERIMENT): _weights_beside,
    (Wanted.CHECKPOINT, Kind.ALL_RUNS): _weights_of_all_runs,
    (Wanted.CHECKPOINT, Kind.WEIGHTS_FOLDER): _one_of(Kind.WEIGHTS),
    (Wanted.STORE, Kind.STORE_FILE): lambda file: (
        f"give its folder, {file.parent.parent if file.parent.name == 'volumes' else file.parent}"
    ),
    (Wanted.STORE, Kind.STORES): _one_of(Kind.STORE),
    (Wanted.STORE, Kind.EXPERIMENT): _constant("its stores are those under dataset: give the folder of one"),
    (Wanted.STORE, Kind.DATASET): lambda file: f"run launch/prepare.py {file} --out FOLDER, and give that folder",
    **{
        (Wanted.STORE, kind): _constant(_DATASET_FILE)
        for kind in (Kind.DICOM, Kind.SERIES, Kind.IMAGE, Kind.IMAGES, Kind.FOLDERS)
    },
    (Wanted.EXPERIMENT, Kind.RUN): _config_of_run,
    (Wanted.EXPERIMENT, Kind.RUNS): _config_of_runs,
    (Wanted.EXPERIMENT, Kind.STORE): _constant("name it in an experiment file under dataset, and give that file"),
    (Wanted.EXPERIMENT, Kind.DATASET): _constant(
        "give it to launch/prepare.py, and here an experiment file that names its store under dataset"
    ),
    (Wanted.EXPERIMENT, Kind.WEIGHTS): _constant(
        "name it in an experiment file as module.sam2_checkpoint, and give that; launch/eval.py --ckpt evaluates it"
    ),
    (Wanted.DATASET, Kind.EXPERIMENT): _constant(
        "give it to launch/train.py or launch/sweep.py, and here the dataset file: the one with sources and labels"
    ),
    (Wanted.DATASET, Kind.STORE): _constant(_PREPARED),
    (Wanted.DATASET, Kind.STORE_FILE): _constant(_PREPARED),
    **{
        (Wanted.DATASET, kind): _written_by_scan
        for kind in (Kind.DICOM, Kind.SERIES, Kind.IMAGE, Kind.IMAGES, Kind.FOLDERS)
    },
    (Wanted.REPORTED, Kind.DATASET): _constant("give the experiment file that names its store under dataset"),
    (Wanted.REPORTED, Kind.REPORT): lambda folder: (
        f"open its {folder / 'index.html'}, or give the folder of the runs, {folder.parent}, to make it anew"
    ),
    (Wanted.REPORTED, Kind.EVALUATIONS): lambda folder: f"give the folder of the run, {folder.parent}",
    (Wanted.REPORTED, Kind.ALL_RUNS): _one_of(Kind.RUNS),
    (Wanted.RUNS, Kind.ALL_RUNS): _one_of(Kind.RUNS),
    (Wanted.RUNS, Kind.EVALUATIONS): lambda folder: _runs_of_run(folder.parent),
    (Wanted.RUNS, Kind.CHECKPOINTS): lambda folder: _runs_of_run(folder.parent),
    (Wanted.RUNS, Kind.RUN): _runs_of_run,
    (Wanted.RUNS, Kind.REPORT): _runs_of_run,
    (Wanted.PREDICTIONS, Kind.RUN): _predictions_of_run,
    (Wanted.PREDICTIONS, Kind.EVALUATION): _predictions_of_evaluation,
    (Wanted.PREDICTIONS, Kind.EVALUATIONS): _predictions_of_evaluations,
    (Wanted.MASK, Kind.FOLDERS): _series_inside,
    (Wanted.MASK, Kind.FOLDER): _series_inside,
    (Wanted.MASK, Kind.IMAGES): _constant("give one file of it, or all with --predictions FOLDER --data STORE"),
    (Wanted.MASK, Kind.ARCHIVE): _constant(
        "unpack it (unzip, tar -xf, gunzip), and give the image file, or the folder of one DICOM series, that was in "
        "it; zip archives in a folder are unpacked by: sam2ft scan FOLDER --unpack DIR"
    ),
    (Wanted.MASK, Kind.STORE): _constant("masks of a whole store are scored with --predictions FOLDER --data STORE"),
}
"""What to give instead, where more is known than the general advice of a door."""
