"""Evaluation of any checkpoint: best.pt of a run (with the settings of the run as defaults) or a foreign checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam2ft.config.identity import eval_id
from sam2ft.config.load_experiment import plain_values
from sam2ft.config.schema.experiment import Experiment
from sam2ft.config.schema.model_names import MODELS, NANO
from sam2ft.config.yaml.tree import SET, Tree, load_tree, overridden, parse_overrides
from sam2ft.config.yaml.validation import checked
from sam2ft.core.errors import CheckpointError, UserError, listed
from sam2ft.core.files import sha256_file
from sam2ft.core.given.wrong_kind import Wanted, not_there, wrong_kind
from sam2ft.data.store.store import Store, records_digest
from sam2ft.distributed.stop_signal import StopRequest
from sam2ft.evaluation.evaluate_volumes import EvaluationJob
from sam2ft.evaluation.run import EvalOutcome, evaluate_job, evaluated_records
from sam2ft.model.files.read import read_weight_file
from sam2ft.model.weights import describe_weights
from sam2ft.runs.attempt.evaluation_guard import evaluation_guard
from sam2ft.runs.identity_file import refuse_other_settings, refuse_trained_subjects
from sam2ft.runs.layout import RUNS, EvalLayout, RunLayout, converted_weights, foreign_evaluation
from sam2ft.runs.stores import file_digests, max_train_subjects, open_source
from sam2ft.runs.trained_weights import refuse_other_weights

FOREIGN_HEX = 12
_SHOWN = 3
# Weights show the model but not the image size they were used with; official weights use 1024 px.
IMAGE_SIZES = {NANO: 256}
OFFICIAL_IMAGE_SIZE = 1024


@dataclass(frozen=True)
class CheckpointRequest:
    """The request of launch/eval.py --ckpt."""

    checkpoint: Path
    data: tuple[Path, ...] = ()
    """Stores; empty: the stores of the run that the checkpoint belongs to."""
    model: str | None = None
    """module.sam2_model_cfg, if it cannot be derived from the weights."""
    overrides: tuple[str, ...] = ()
    """`key=value` texts of --set (and of options that are short forms of it)."""
    out: Path | None = None
    fold: int | None = None
    """Fold of every store; None: that of the run."""


def evaluate_checkpoint(request: CheckpointRequest, stop: StopRequest | None = None) -> EvalOutcome:
    """Evaluate `request.checkpoint` into the folder of its run, or into runs/_foreign/ (or `out`) if it has no run.

    The errors of `job_of` are raised, too.

    Raises:
        CheckpointError: the weights do not fit; the message names the keys.
        UserError: a job is working on the run.
    """
    return evaluate_job(job_of(request), stop)


def job_of(request: CheckpointRequest, like: Experiment | None = None) -> EvaluationJob:
    """Return the evaluation job of a request; with `like`, on the data and with the evaluation settings of `like`.

    Raises:
        CheckpointError: the file does not exist, is not a checkpoint, is not what the training of its run wrote, or its
            model cannot be determined.
        ProblemsError: settings are invalid.
        UserError: a foreign checkpoint without data.
    """
    if not request.checkpoint.is_file():
        raise CheckpointError(
            not_there(request.checkpoint, Wanted.CHECKPOINT)
            or wrong_kind(request.checkpoint, Wanted.CHECKPOINT)
            or f"{request.checkpoint}: no such file"
        )
    layout = run_of(request.checkpoint)
    if layout is not None:
        refuse_other_weights(layout)
    experiment = _experiment(request, layout, like)
    # For the checkpoint of a run, max_subject_set limited only the training.
    records = evaluated_records(experiment, max_train_subjects(experiment) if layout is None else None)
    if layout is not None:
        refuse_trained_subjects(layout, records)
    files, model = file_digests(experiment), _other_model(experiment, layout)
    identity = eval_id(experiment, records_digest(records), files, model=model)
    if layout is not None:
        run, folder = layout.run_id, layout.evaluation(identity)
    else:
        digest = sha256_file(request.checkpoint)[:FOREIGN_HEX]
        run, folder = f"foreign-{digest}", foreign_evaluation(digest, identity, RUNS)
    evaluation = EvalLayout(request.out) if request.out else folder
    # A folder outside of a run has no other writer than this process.
    guard = evaluation_guard(layout if request.out is None else None)
    return EvaluationJob(experiment, evaluation, run, identity, request.checkpoint, records, guard=guard)


def _other_model(experiment: Experiment, layout: RunLayout | None) -> dict[str, Any] | None:
    """Model and image size, if they differ from those of the training (then part of the eval_id); None: as trained."""
    module = experiment.module
    model = {"sam2_model_cfg": module.sam2_model_cfg, "image_size": module.image_size}
    trained = {} if layout is None else load_tree(layout.config).value["module"]
    return None if all(trained.get(name) == value for name, value in model.items()) else model


def run_of(checkpoint: Path) -> RunLayout | None:
    """Return the run whose best.pt this checkpoint is, or None."""
    layout = RunLayout(checkpoint.resolve().parent.parent)
    return layout if layout.config.is_file() and layout.best == checkpoint.resolve() else None


def _experiment(request: CheckpointRequest, layout: RunLayout | None, like: Experiment | None) -> Experiment:
    """The settings of the run, or the defaults for a foreign checkpoint, with the requested changes."""
    if layout is not None:
        tree = load_tree(layout.config, to_run=True)
        refuse_other_settings(layout, checked(Experiment, tree))
    elif not request.data and like is None:
        raise UserError(f"{request.checkpoint}: belongs to no run in this folder; name the store with --data")
    else:
        tree = Tree(request.checkpoint, _foreign_settings(request), {})
    changes: list[tuple[str, Any]] = []
    if like is not None:
        changes += [("dataset", plain_values(like.dataset)), ("eval", plain_values(like.eval))]
        changes.append(("datamodule.metric", plain_values(like.datamodule.metric)))
    elif request.data:
        changes.append(("dataset", _given_stores(request.data, tree)))
    if request.fold is not None:
        names = overridden(tree, [(key, value, SET) for key, value in changes]).value["dataset"]
        changes += [(f"dataset.{name}.fold", request.fold) for name in names]
    changes += parse_overrides(request.overrides)
    found = checked(Experiment, overridden(tree, [(key, value, SET) for key, value in changes]))
    if layout is not None:
        _refuse_other_folds(checked(Experiment, tree), found)
    return found


def _refuse_other_folds(own: Experiment, found: Experiment) -> None:
    """Refuse val and test subjects of another fold that the run was trained on in its own."""
    for name, source in found.dataset.items():
        ours, theirs = own.dataset[name].fold or 0 if name in own.dataset else None, source.fold or 0
        if ours in (None, theirs) or found.eval.split == "train":
            continue
        in_ours = open_source(name, source.model_copy(update={"fold": ours})).volumes
        trained = {record.key for record in in_ours if record.split == "train"}
        evaluated = [record.key for record in open_source(name, source).volumes if record.split == found.eval.split]
        if subjects := sorted({key.subject for key in evaluated if key in trained}):
            raise UserError(
                f"dataset.{name}.fold: found {theirs}, but the run was trained with fold {ours}, on subjects that are "
                f"{found.eval.split} in fold {theirs} ({listed(subjects, _SHOWN)}); allowed: {ours}"
            )


def _given_stores(paths: Sequence[Path], tree: Tree) -> dict[str, Any]:
    """`dataset:` of the stores of --data. A dataset of the run keeps its fold: in another one are subjects that it
    was trained on."""
    of_run = tree.value.get("dataset", {})
    folds = {name: source["fold"] for name, source in of_run.items() if source.get("fold") is not None}
    names = {Store.open(path).name: str(path) for path in paths}
    return {name: {"store": path, **({"fold": folds[name]} if name in folds else {})} for name, path in names.items()}


def _foreign_settings(request: CheckpointRequest) -> dict[str, Any]:
    # Nothing is written before the request is known to be valid.
    found = read_weight_file(request.checkpoint, converted_weights(RUNS), keep=lambda _: False)
    info = found.info
    model = request.model or str(info.get("sam2_model_cfg") or _model_of(request.checkpoint, found.tensors))
    size = info.get("image_size") or IMAGE_SIZES.get(model, OFFICIAL_IMAGE_SIZE)
    module = {"sam2_model_cfg": model, "image_size": size, "sam2_checkpoint": str(request.checkpoint)}
    return {"experiment": {"name": "foreign"}, "dataset": {}, "module": module}


def _model_of(checkpoint: Path, weights: Mapping[str, Any]) -> str:
    """The stock name of the model of these weights; CheckpointError when the keys do not show it."""
    described = describe_weights(weights)
    if described == NANO:
        return described
    if described is None or described not in MODELS:
        raise CheckpointError(f"{checkpoint}: its keys do not show which SAM 2 model it is; name it with --model")
    return MODELS[described]
