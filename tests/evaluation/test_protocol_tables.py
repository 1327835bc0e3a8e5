"""What the tables of an evaluation say of each protocol; a study of noise; a full disk; a rank that is told to stop."""

import errno
import math
from collections import Counter

import pytest

from sam2ft.core import files
from sam2ft.core.errors import DataError, ProblemsError, StopRequestedError
from sam2ft.core.files import read_json, sha256_file
from sam2ft.core.keys import VolumeKey
from sam2ft.core.tables.rows import TABLES, read_csv
from sam2ft.evaluation.checkpoints import CheckpointRequest, evaluate_checkpoint
from sam2ft.evaluation.prediction.tester import Tester
from sam2ft.evaluation.volume_parts import EvaluationParts
from sam2ft.model.segmenter import FinetunedSAM2

pytestmark = pytest.mark.sam2
QUICK = "module.visualize=false"


def rows(evaluation, name):
    return read_csv(evaluation.table(name), TABLES[name])


def contents(evaluation):
    return {path.name: path.read_bytes() for path in sorted(evaluation.folder.rglob("*.csv"))}


@pytest.fixture
def tested(monkeypatch):
    """The volumes that a Tester was given, in order."""
    seen, original = [], Tester._volume

    def volume(self, source):
        seen.append(source.key.subject)
        return original(self, source)

    monkeypatch.setattr(Tester, "_volume", volume)
    return seen


@pytest.fixture
def encoded(monkeypatch):
    """One entry per encoder pass: the number of slices in it."""
    seen, original = [], FinetunedSAM2.encode

    def encode(self, images):
        seen.append(len(images))
        return original(self, images)

    monkeypatch.setattr(FinetunedSAM2, "encode", encode)
    return seen


@pytest.mark.parametrize(("setting", "name"), [("eval.protocol=points", "points(k=3)"), ("eval.protocol=mask", "mask")])
def test_every_protocol_fills_the_same_tables(finished, point_with, setting, name):
    point = point_with(setting, QUICK)
    assert (point.layout, point.eval_id == finished.eval_id) == (finished.layout, False)
    point.evaluate()
    for table in ("slice", "instance", "volume"):
        found, own = rows(point.evaluation, table), rows(finished.evaluation, table)
        assert {row["protocol"] for row in found} == {name}
        keys = [column for column in TABLES[table].key_names() if column not in ("eval", "protocol")]
        assert [[row[key] for key in keys] for row in found] == [[row[key] for key in keys] for row in own]


def test_a_noise_study_is_one_table_one_summary_and_one_plot_of_one_encoder_pass_per_slice(
    finished, point_with, encoded
):
    study = point_with("eval.prompt_noise={shifts: [0, 3, 9], seeds: [0, 1]}", QUICK)
    assert study.eval_id != finished.eval_id
    study.evaluate()
    assert encoded == [1] * 6  # three slices with labels of each of two subjects
    found = rows(study.evaluation, "prompt_noise")
    key = Counter((row["subject"], row["shift_px"], row["seed"], row["label"], row["protocol"]) for row in found)
    passes = [(0, None, "box"), *((px, seed, f"box_jitter(px={px},seed={seed})") for px in (3, 9) for seed in (0, 1))]
    assert key == Counter(
        (subject, px, seed, label, name) for subject in "ef" for px, seed, name in passes for label in (1, 2)
    )
    own = {(row["subject"], row["label"]): row["dice"] for row in rows(finished.evaluation, "volume")}
    assert {(row["subject"], row["label"]): row["dice"] for row in found if row["shift_px"] == 0} == own
    jittered = point_with("eval.bbox_shift=9", QUICK)
    jittered.evaluate()
    alone = {(row["subject"], row["label"]): row["dice"] for row in rows(jittered.evaluation, "volume")}
    of_seed = [row for row in found if (row["shift_px"], row["seed"]) == (9, 0)]
    assert {(row["subject"], row["label"]): row["dice"] for row in of_seed} == alone

    summary = rows(study.evaluation, "prompt_noise_global")
    assert {(row["shift_px"], row["num_seeds"], row["protocol"]) for row in summary} == {
        (0, 1, "box"), (3, 2, "box_jitter(px=3)"), (9, 2, "box_jitter(px=9)"),
    }  # fmt: skip
    (disc,) = [row for row in summary if (row["shift_px"], row["label"], row["measure"]) == (9, 1, "dice")]
    behind = {
        seed: [row["dice"] for row in found if (row["shift_px"], row["seed"], row["label"]) == (9, seed, 1)]
        for seed in (0, 1)
    }
    assert disc["n"] == 2
    assert disc["mean"] == pytest.approx(sum(map(sum, behind.values())) / 4)
    means = [sum(values) / 2 for values in behind.values()]
    assert disc["sd_seeds"] == pytest.approx(abs(means[0] - means[1]) / math.sqrt(2))
    assert disc["ci_low"] <= disc["mean"] <= disc["ci_high"]
    unmoved = {(row["label_name"], row["measure"]): row["mean"] for row in rows(finished.evaluation, "global")}
    assert {(row["label_name"], row["measure"]): row["mean"] for row in summary if row["shift_px"] == 0} == unmoved

    assert study.evaluation.noise_chart.read_text().startswith("<?xml")
    success = read_json(study.evaluation.success)
    assert {"prompt_noise", "prompt_noise_global"} < success["tables"].keys()
    plain = {name: text for name, text in contents(study.evaluation).items() if not name.startswith("prompt_noise")}
    assert plain.keys() == contents(finished.evaluation).keys()


def boxes_of(evaluation, path, *, without=()):
    """The boxes that were prompted, as a detector would write them."""
    lines = ["subject,volume,slice,label,x0,y0,x1,y1"]
    for row in rows(evaluation, "instance"):
        if (row["subject"], row["slice"], row["label"], row["instance"]) not in without:
            corners = row["box"].replace(" ", ",")
            lines.append(f"{row['subject']},{row['volume']},{row['slice']},{row['label_name']},{corners}")
    path.write_text("\n".join(lines) + "\n")


def test_boxes_from_a_file_give_the_numbers_of_those_boxes(finished, point_with, toy):
    path = toy.folder / "boxes.csv"
    boxes_of(finished.evaluation, path)
    same = point_with("eval.protocol=boxes_file", "eval.boxes_file=boxes.csv", QUICK)
    same.evaluate()
    keys = ("subject", "slice", "label", "instance", "box", "tp", "fp", "fn", "status")
    assert [[row[key] for key in keys] for row in rows(same.evaluation, "instance")] == [
        [row[key] for key in keys] for row in rows(finished.evaluation, "instance")
    ]
    assert {row["protocol"] for row in rows(same.evaluation, "slice")} == {"boxes_file"}

    # The file's content, not its name, is part of what the evaluation is.
    path.rename(toy.folder / "moved.csv")
    moved = point_with("eval.protocol=boxes_file", "eval.boxes_file=moved.csv", QUICK)
    assert moved.eval_id == same.eval_id
    boxes_of(finished.evaluation, path, without={("e", 1, 1, 1)})
    fewer = point_with("eval.protocol=boxes_file", "eval.boxes_file=boxes.csv", QUICK)
    assert fewer.eval_id != same.eval_id
    fewer.evaluate()
    (missed,) = [row for row in rows(fewer.evaluation, "instance") if row["box"] == ""]
    assert (missed["subject"], missed["slice"], missed["label"], missed["status"]) == ("e", 1, 1, "missed")
    asked = ("eval.protocol=boxes_file", f"eval.boxes_file={path}", "eval.qc_slices=0")
    by_hand = evaluate_checkpoint(CheckpointRequest(finished.layout.best, overrides=asked))
    assert by_hand.folder.name == fewer.eval_id
    path.write_text(path.read_text() + "e,image,1,disc,0,0,5,5\n")
    with pytest.raises(DataError, match="not what this evaluation was planned for"):
        fewer.evaluate()


def test_a_file_of_boxes_that_names_unknown_slices_is_refused_before_anything_runs(finished, point_with, toy):
    path = toy.folder / "boxes.csv"
    path.write_text("subject,volume,slice,label,x0,y0,x1,y1\ne,image,1,disc,0,0,5,5\ne,image,9,disc,0,0,5,5\n")
    with pytest.raises(
        ProblemsError, match=r"eval\.boxes_file: .*boxes\.csv:3: slice 9: toy/e/image has the slices 0 to 3"
    ):
        point_with("eval.protocol=boxes_file", "eval.boxes_file=boxes.csv", QUICK)
    asked = ("eval.protocol=boxes_file", f"eval.boxes_file={path}", "eval.qc_slices=0")
    with pytest.raises(DataError, match=r"boxes\.csv:3: slice 9"):
        evaluate_checkpoint(CheckpointRequest(finished.layout.best, overrides=asked))
    missing = ("eval.protocol=boxes_file", "eval.boxes_file=none.csv")
    with pytest.raises(DataError, match=r"eval\.boxes_file: found .*none\.csv, which is not a file"):
        evaluate_checkpoint(CheckpointRequest(finished.layout.best, overrides=missing))


@pytest.mark.parametrize("name", ["f__image.volume.csv", "f__image.json", "f__image.nii.gz"])
def test_a_full_disk_leaves_what_was_finished_and_the_next_start_goes_on(finished, tested, monkeypatch, name):
    before = contents(finished.evaluation)
    finished.evaluation.success.unlink()
    original = files.os.fsync

    def fsync(descriptor):
        if name.removesuffix(".gz") in files.os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        original(descriptor)

    with monkeypatch.context() as full:
        full.setattr(files.os, "fsync", fsync)
        with pytest.raises(OSError, match="No space left"):
            finished.evaluate()
    assert tested == ["e", "f"]
    assert not finished.evaluation.success.exists()
    parts = EvaluationParts(finished.evaluation, finished.eval_id, sha256_file(finished.layout.best))
    keys = [VolumeKey("toy", subject, "image") for subject in "ef"]
    assert parts.evaluation.part_done(keys[0]).is_file()
    assert not parts.evaluation.part_done(keys[1]).is_file()
    assert not list(finished.evaluation.folder.rglob("*.partial*"))
    finished.evaluate()
    assert tested == ["e", "f", "f"]
    assert contents(finished.evaluation) == before


def test_a_rank_stops_after_its_volume_when_another_was_told_to(finished, tested, monkeypatch):
    before = contents(finished.evaluation)
    finished.evaluation.success.unlink()
    original = EvaluationParts.write

    def write(self, *given):
        original(self, *given)
        finished.evaluation.stop.touch()  # as another rank would

    with monkeypatch.context() as told:
        told.setattr(EvaluationParts, "write", write)
        with pytest.raises(StopRequestedError, match="after 1 of 2 volumes"):
            finished.evaluate()
    # What an earlier attempt was told is nothing to this one.
    finished.evaluation.part_done(VolumeKey("toy", "e", "image")).unlink()
    assert finished.evaluation.stop.exists()
    finished.evaluate()
    assert tested == ["e", "e", "f"]
    assert contents(finished.evaluation) == before
