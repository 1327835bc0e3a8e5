"""launch/eval.py --ckpt: a checkpoint of a run here, one from elsewhere, and what is refused."""

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sam2ft.core.digests.sealed import sealed_yaml
from sam2ft.core.digests.verified_files import write_sealed_json
from sam2ft.core.errors import CheckpointError, ClaimedError, ConfigError, DataError, UserError
from sam2ft.core.files import read_json, sha256_file, write_json
from sam2ft.core.tables.rows import TABLES, read_csv
from sam2ft.evaluation.checkpoints import CheckpointRequest, evaluate_checkpoint
from sam2ft.evaluation.volume_parts import EvaluationParts
from sam2ft.model.files.read import read_weight_file
from sam2ft.runs.attempt.claim import Attempt, holder

pytestmark = pytest.mark.sam2
STOCK = "configs/sam2.1/sam2.1_hiera_t.yaml"
QUICK = ("eval.qc_slices=0", "eval.precision=fp32")


def volume_rows(folder):
    return read_csv(folder / "volume.csv", TABLES["volume"])


def dices(folder):
    return {(row["subject"], row["label"]): row["dice"] for row in volume_rows(folder)}


def test_a_checkpoint_of_a_run_is_evaluated_with_the_runs_own_settings_and_found_done(finished, toy):
    before = toy.files()
    outcome = evaluate_checkpoint(CheckpointRequest(finished.layout.best))
    assert outcome.folder.resolve() == finished.evaluation.folder.resolve()
    assert toy.files() == before


def test_other_settings_go_beside_the_runs_own_evaluation(finished):
    request = CheckpointRequest(finished.layout.best, overrides=("eval.split=val", "eval.qc_slices=0"))
    outcome = evaluate_checkpoint(request)
    assert outcome.folder.parent.resolve() == finished.layout.evaluations.resolve()
    assert {(row["run"], row["subject"], row["split"]) for row in volume_rows(outcome.folder)} == {
        (finished.layout.run_id, "d", "val")
    }
    assert finished.evaluation.success.is_file()


def test_a_best_pt_that_was_carried_elsewhere_says_its_model_and_gives_the_same_numbers(finished, toy):
    foreign = Path(shutil.copy(finished.layout.best, toy.folder / "from-a-friend.pt"))
    outcome = evaluate_checkpoint(CheckpointRequest(foreign, data=(toy.store,), overrides=QUICK))
    digest = sha256_file(foreign)[:12]
    assert outcome.folder.parent == Path("runs/_foreign") / digest
    assert {row["run"] for row in volume_rows(outcome.folder)} == {f"foreign-{digest}"}
    assert dices(outcome.folder) == dices(finished.evaluation.folder)


def test_out_says_where_it_goes(finished, toy):
    foreign = Path(shutil.copy(finished.layout.best, toy.folder / "from-a-friend.pt"))
    out = toy.folder / "elsewhere"
    assert evaluate_checkpoint(CheckpointRequest(foreign, (toy.store,), overrides=QUICK, out=out)).folder == out
    assert (out / "_SUCCESS").is_file()


def test_weights_that_do_not_fit_leave_what_lies_at_out(finished, toy):
    out = toy.folder / "elsewhere"
    shutil.copytree(finished.evaluation.folder, out)
    before = toy.files()
    with pytest.raises(CheckpointError, match="looks like sam2_nano"):
        evaluate_checkpoint(CheckpointRequest(toy.weights, (toy.store,), model=STOCK, overrides=QUICK, out=out))
    assert toy.files() == before


def test_weights_of_a_nano_need_no_name(toy):
    size = ("module.image_size=64",)
    outcome = evaluate_checkpoint(CheckpointRequest(toy.weights, (toy.store,), overrides=(*QUICK, *size)))
    assert volume_rows(outcome.folder)


def test_a_foreign_checkpoint_without_data_is_refused(toy):
    before = toy.files()
    with pytest.raises(UserError, match="belongs to no run in this folder; name the store with --data"):
        evaluate_checkpoint(CheckpointRequest(toy.weights))
    assert toy.files() == before


def test_a_checkpoint_of_another_model_size_names_both(toy):
    before = toy.files()
    with pytest.raises(
        CheckpointError, match=r"looks like sam2_nano, but module\.sam2_model_cfg builds sam2\.1_hiera_t"
    ):
        evaluate_checkpoint(CheckpointRequest(toy.weights, (toy.store,), model=STOCK, overrides=QUICK))
    assert toy.files() == before


def test_a_model_that_no_one_knows_is_refused(toy):
    with pytest.raises((CheckpointError, ConfigError), match="sam9"):
        evaluate_checkpoint(CheckpointRequest(toy.weights, (toy.store,), model="configs/sam9.yaml", overrides=QUICK))


@pytest.mark.parametrize("name", ["garbage.pt", "garbage.safetensors", "missing.pt"])
def test_a_file_that_is_no_checkpoint_is_refused_by_name(toy, name):
    if name != "missing.pt":
        (toy.folder / name).write_bytes(b"this is text")
    before = toy.files()
    with pytest.raises(CheckpointError, match=name):
        evaluate_checkpoint(CheckpointRequest(toy.folder / name, (toy.store,)))
    assert toy.files() == before


def test_a_state_dict_of_something_else_asks_for_the_model(toy):
    torch.save({"model": {"weight": torch.zeros(1)}}, toy.folder / "other.pt")
    with pytest.raises(CheckpointError, match="do not show which SAM 2 model it is; name it with --model"):
        evaluate_checkpoint(CheckpointRequest(toy.folder / "other.pt", (toy.store,)))


def test_a_checkpoint_without_our_info_is_recognised_by_its_keys(toy):
    torch.save({"model": load_file(toy.weights)}, toy.folder / "plain.pt")
    overrides = (*QUICK, "module.image_size=64")
    assert evaluate_checkpoint(CheckpointRequest(toy.folder / "plain.pt", (toy.store,), overrides=overrides)).folder


def test_a_wrong_override_is_named_and_nothing_is_written(finished, toy):
    before = toy.files()
    with pytest.raises(UserError, match=r"eval\.splitt"):
        evaluate_checkpoint(CheckpointRequest(finished.layout.best, overrides=("eval.splitt=val",)))
    assert toy.files() == before


def test_another_image_size_is_another_evaluation(finished, toy):
    foreign = Path(shutil.copy(finished.layout.best, toy.folder / "from-a-friend.pt"))
    sizes = [(), ("module.image_size=96",)]
    folders = [
        evaluate_checkpoint(CheckpointRequest(foreign, (toy.store,), overrides=QUICK + size)).folder for size in sizes
    ]
    assert len(set(folders)) == 2
    assert dices(folders[0]) != dices(folders[1])
    own = evaluate_checkpoint(CheckpointRequest(finished.layout.best, overrides=("module.image_size=96",))).folder
    assert own.resolve() != finished.evaluation.folder.resolve()


def test_a_folder_that_holds_another_evaluation_of_the_weights_is_not_taken_for_done(finished, toy):
    out = toy.folder / "elsewhere"
    for split, subjects in (("val", {"d"}), ("test", {"e", "f"})):
        request = CheckpointRequest(finished.layout.best, overrides=(*QUICK, f"eval.split={split}"), out=out)
        assert {row["subject"] for row in volume_rows(evaluate_checkpoint(request).folder)} == subjects


def test_max_subject_set_limits_the_evaluated_subjects_of_a_foreign_checkpoint(finished, toy):
    foreign = Path(shutil.copy(finished.layout.best, toy.folder / "from-a-friend.pt"))
    limited = (*QUICK, "datamodule.max_subject_set=1")
    outcome = evaluate_checkpoint(CheckpointRequest(foreign, (toy.store,), overrides=limited))
    assert len({row["subject"] for row in volume_rows(outcome.folder)}) == 1


VAL = (*QUICK, "eval.split=val")
ELSEWHERE = Attempt("77", 0, "another-node", 1, "2030-01-01T00:00:00+00:00")


def held_by_a_job(layout, seconds_ago: float, state: str = "evaluating") -> None:
    """Claim and status of a job on another node that was heard of `seconds_ago`."""
    heartbeat = (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat(timespec="seconds")
    write_json(layout.claim, ELSEWHERE.to_json())
    status = read_json(layout.status) | {"attempt": ELSEWHERE.to_json(), "state": state, "heartbeat": heartbeat}
    write_json(layout.status, status)


def test_an_evaluation_holds_the_run_that_it_writes_into(finished):
    before = holder(finished.layout)
    evaluate_checkpoint(CheckpointRequest(finished.layout.best, overrides=VAL))
    assert holder(finished.layout) != before
    assert holder(finished.layout).pid == os.getpid()


def test_a_run_that_a_job_works_on_is_left_alone(finished, toy):
    held_by_a_job(finished.layout, seconds_ago=30)
    before = toy.files()
    with pytest.raises(
        UserError, match=r"job 77 .*another-node.* is working on this run; wait for its end, or .* --out"
    ):
        evaluate_checkpoint(CheckpointRequest(finished.layout.best, overrides=VAL))
    assert toy.files() == before
    out = toy.folder / "beside"
    assert evaluate_checkpoint(CheckpointRequest(finished.layout.best, overrides=VAL, out=out)).folder == out
    assert holder(finished.layout) == ELSEWHERE


@pytest.mark.parametrize(("seconds_ago", "state"), [(3600, "evaluating"), (30, "done")])
def test_a_job_that_ended_or_fell_silent_holds_nothing(finished, seconds_ago, state):
    held_by_a_job(finished.layout, seconds_ago, state)
    assert evaluate_checkpoint(CheckpointRequest(finished.layout.best, overrides=VAL)).global_rows


def test_an_evaluation_stops_when_a_job_takes_the_run(finished, monkeypatch):
    original = EvaluationParts.write

    def write(self, *arguments):
        held_by_a_job(finished.layout, seconds_ago=0)
        original(self, *arguments)

    monkeypatch.setattr(EvaluationParts, "write", write)
    with pytest.raises(ClaimedError, match="now held by job 77"):
        evaluate_checkpoint(CheckpointRequest(finished.layout.best, overrides=VAL))
    assert not list(finished.layout.evaluations.glob("*/_SUCCESS"))[1:]


def test_a_best_pt_of_another_run_is_refused_while_no_status_tells_its_digest(finished):
    from sam2ft.runs.attempt.status import read_status
    from sam2ft.training.checkpoints.checkpoint import save_best

    layout = finished.layout
    found = read_weight_file(layout.best)
    save_best(layout.best, found.tensors, {**found.info, "run": "toy-0123456789abcdef"})
    value = {"run": layout.run_id} | read_status(layout).to_json() | {"trained": False}
    write_sealed_json(layout.status, value)
    with pytest.raises(CheckpointError, match=f"belongs to the run toy-0123456789abcdef, not to {layout.run_id}"):
        evaluate_checkpoint(CheckpointRequest(finished.layout.best, out=Path("again")))
    assert not Path("again").exists()


@pytest.mark.parametrize(("before", "after"), [("image_size: 64", "image_size: 128"), ("seed: 42", "seed: 43")])
def test_a_configuration_of_another_run_is_refused_by_key(finished, before, after):
    config = finished.layout.config
    lines = config.read_text().splitlines(keepends=True)[1:-1]
    text = "".join(lines)
    assert before in text
    config.write_text(sealed_yaml(text.replace(before, after)))
    with pytest.raises(DataError, match=f"(?s)config.yaml: not the configuration.*{before.partition(':')[0]}: "):
        evaluate_checkpoint(CheckpointRequest(finished.layout.best, out=Path("again")))
    config.write_text(sealed_yaml(text))
    assert evaluate_checkpoint(CheckpointRequest(finished.layout.best, out=Path("again"))).folder == Path("again")


def in_folds(store: Path) -> None:
    """Gives the toy's store two folds: as it is, and one in which b is val and d is trained on."""
    path = store / "store.json"
    content = read_json(path)
    splits = {entry["subject"]: entry["split"] for entry in content["volumes"]}
    other = splits | {"b": "val", "d": "train"}
    content.pop("content_sha256", None)
    write_sealed_json(path, content | {"folds": {name: [splits[name], other[name]] for name in splits}})


def test_fold_chooses_whose_split_a_foreign_checkpoint_is_evaluated_on(finished, toy):
    in_folds(toy.store)
    foreign = Path(shutil.copy(finished.layout.best, toy.folder / "from-a-friend.pt"))
    for fold, subject in ((None, "d"), (0, "d"), (1, "b")):
        request = CheckpointRequest(foreign, (toy.store,), overrides=(*QUICK, "eval.split=val"), fold=fold)
        assert {row["subject"] for row in volume_rows(evaluate_checkpoint(request).folder)} == {subject}


@pytest.mark.parametrize("how", [("dataset.toy.fold=1", "eval.split=val"), ("eval.split=val",)])
@pytest.mark.parametrize("data", [(), ("data/toy",)])
def test_a_run_is_not_evaluated_on_subjects_of_another_fold_that_it_was_trained_on(finished, toy, how, data):
    in_folds(toy.store)
    before = toy.files()
    fold = 1 if len(how) == 1 else None
    request = CheckpointRequest(finished.layout.best, tuple(map(Path, data)), overrides=how, fold=fold)
    with pytest.raises(UserError, match=r"trained with fold 0, on subjects that are val in fold 1 \(b\); allowed: 0"):
        evaluate_checkpoint(request)
    assert toy.files() == before


def test_a_test_set_that_folds_share_is_evaluated_with_any(finished, toy):
    in_folds(toy.store)
    outcome = evaluate_checkpoint(CheckpointRequest(finished.layout.best, fold=1))
    assert dices(outcome.folder) == dices(finished.evaluation.folder)


def moved(store: Path, **splits: str) -> None:
    """Gives subjects of the toy's store another split, as a changed split.file does."""
    path = store / "store.json"
    content = read_json(path)
    content.pop("content_sha256", None)
    for entry in content["volumes"]:
        entry["split"] = splits.get(entry["subject"], entry["split"])
    write_sealed_json(path, content)


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("given", [True, False])
def test_a_run_is_not_evaluated_on_subjects_that_it_was_trained_on_and_that_were_moved(finished, toy, split, given):
    store = toy.store
    if given:  # another store of the same dataset, whose splits are others
        store = Path(shutil.copytree(toy.store, toy.folder / "data" / "again"))
    moved(store, b=split)
    before = toy.files()
    request = CheckpointRequest(finished.layout.best, (store,) if given else (), overrides=(f"eval.split={split}",))
    with pytest.raises(DataError, match=rf"was trained on subjects that are {split} in the given store \(toy/b\)"):
        evaluate_checkpoint(request)
    assert toy.files() == before


def test_the_same_images_under_other_names_are_known_by_their_content(finished, toy):
    store = Path(shutil.copytree(toy.store, toy.folder / "data" / "renamed"))
    moved(store, b="test")
    content = read_json(store / "store.json")
    content.pop("content_sha256", None)
    write_sealed_json(store / "store.json", content | {"dataset": "other"})
    with pytest.raises(DataError, match=r"was trained on subjects that are test .*other/b"):
        evaluate_checkpoint(CheckpointRequest(finished.layout.best, (store,)))


def test_subjects_of_the_training_are_evaluated_as_such(finished, toy):
    outcome = evaluate_checkpoint(CheckpointRequest(finished.layout.best, overrides=("eval.split=train", *QUICK)))
    assert "b" in {row["subject"] for row in volume_rows(outcome.folder)}
