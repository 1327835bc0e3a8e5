"""An evaluation on disk: its tables, its predictions, and that nothing finished is done twice."""

import math
import signal
from collections import Counter

import nibabel
import numpy as np
import pytest
from fixtures.trainers import read_best

from sam2ft.core.errors import DataError, StopRequestedError
from sam2ft.core.files import read_json, sha256_file
from sam2ft.core.keys import VolumeKey
from sam2ft.core.tables.rows import TABLES, read_csv
from sam2ft.data.store.store import Store
from sam2ft.distributed.stop_signal import StopFlag
from sam2ft.evaluation.prediction.tester import Tester
from sam2ft.metrics import factory
from sam2ft.runs.attempt.status import update_status
from sam2ft.training.checkpoints.checkpoint import save_best

pytestmark = pytest.mark.sam2
TIDY = ("slice", "instance", "volume", "global")


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


def stop_after_first(tested):
    """A stop request that comes while the first volume is evaluated."""

    class Stop:
        @property
        def requested(self):
            return len(tested) == 1

    return Stop()


def test_every_slice_and_label_of_the_test_split_has_one_row(finished):
    found = Counter((row["subject"], row["slice"], row["label"]) for row in rows(finished.evaluation, "slice"))
    assert found == Counter((subject, index, label) for subject in "ef" for index in range(4) for label in (1, 2))


@pytest.mark.parametrize("name", TIDY)
def test_tables_have_their_columns_their_stamp_and_sorted_unique_keys(finished, name):
    found = rows(finished.evaluation, name)
    assert found
    assert list(found[0]) == [*TABLES[name].column_names(), *(column.name for column in TABLES[name].later)]
    stamp = {"run": finished.layout.run_id, "eval": finished.eval_id, "dataset": "toy", "split": "test"}
    assert all(row | stamp | {"protocol": "box"} == row for row in found)
    keys = [tuple((value is not None, value or 0) for value in map(row.get, TABLES[name].key_names())) for row in found]
    assert len(set(keys)) == len(keys)
    assert all(row["status"] in ("ok", "absent", "missed", "spurious") for row in found if "status" in row)


def test_absent_labels_have_rows_without_ratios(finished):
    empty = [row for row in rows(finished.evaluation, "slice") if row["slice"] == 0]
    assert {row["status"] for row in empty} == {"absent"}
    assert all(row["dice"] is None and row["tn"] == 64 * 64 for row in empty)


def test_counts_of_volumes_are_sums_of_slices_and_cohort_means_are_means_of_volumes(finished):
    slices, volumes = rows(finished.evaluation, "slice"), rows(finished.evaluation, "volume")
    for volume in volumes:
        mine = [row for row in slices if (row["subject"], row["label"]) == (volume["subject"], volume["label"])]
        assert {name: sum(row[name] for row in mine) for name in ("tp", "fp", "fn", "tn")} == {
            name: volume[name] for name in ("tp", "fp", "fn", "tn")
        }
        dices = [row["dice"] for row in mine if row["status"] != "absent"]
        assert volume["dice_slice_mean"] == pytest.approx(sum(dices) / len(dices))
    for row in rows(finished.evaluation, "global"):
        if row["label"] is not None:
            behind = [volume[row["measure"]] for volume in volumes if volume["label"] == row["label"]]
            assert (row["n"], row["mean"]) == (2, pytest.approx(sum(behind) / 2))


def test_predictions_lie_on_the_grid_of_the_image_and_are_what_was_scored(finished, toy):
    store = Store.open(toy.store)
    for subject in "ef":
        record = store.record(VolumeKey("toy", subject, "image"))
        image = nibabel.load(finished.evaluation.prediction(record.key))
        spacing_zyx = record.geometry.spacing_zyx_mm
        # NIfTI has the axes x, y, z and looks from the other side: x and y of the affine change sign.
        assert np.allclose(np.abs(np.diag(image.affine)), [*spacing_zyx[::-1], 1])
        assert image.header.get_zooms() == pytest.approx(spacing_zyx[::-1])
        predicted_zyx = np.asarray(image.dataobj).T
        assert predicted_zyx.shape == record.geometry.shape_zyx
        reference_zyx = store.mask(record.key)
        for row in rows(finished.evaluation, "slice"):
            if row["subject"] == subject:
                both = (predicted_zyx[row["slice"]] == row["label"]) & (reference_zyx[row["slice"]] == row["label"])
                assert both.sum() == row["tp"]


def test_the_affine_of_a_prediction_is_that_of_the_volume(finished, toy):
    from sam2ft.data.images.volumes import read_volume

    record = Store.open(toy.store).record(VolumeKey("toy", "e", "image"))
    found = read_volume(finished.evaluation.prediction(record.key)).geometry
    assert np.allclose(found.affine, record.geometry.affine)


def test_the_wide_views_and_pictures_are_there(finished):
    names = {path.name for path in finished.evaluation.wide.iterdir()}
    assert {f"{level}_{measure}.csv" for level in ("slice", "volume", "global") for measure in ("dice", "iou")} <= names
    assert len(list(finished.evaluation.folder.iterdir())) <= 12, "few enough to be read at a glance"
    index = read_json(finished.evaluation.qc / "index.json")
    slices = [entry for entry in index if not entry["file"].startswith("label-")]
    assert len(slices) == 4
    assert all((finished.evaluation.qc / entry["file"]).is_file() for entry in index)
    assert slices[0]["caption"].split(": ")[1].startswith("worst")


def test_success_names_the_weights_and_every_table(finished):
    success = read_json(finished.evaluation.success)
    assert success["checkpoint_sha256"] == sha256_file(finished.layout.best)
    assert success["tables"] == {name: sha256_file(finished.evaluation.table(name)) for name in TIDY}
    assert not finished.evaluation.parts.exists()


def test_a_second_call_does_nothing(finished, tested, toy):
    before = {name: entry for name, entry in toy.files().items() if "/eval/" in name}
    outcome = finished.evaluate()
    assert tested == []
    assert {name: entry for name, entry in toy.files().items() if "/eval/" in name} == before
    assert outcome.global_rows == rows(finished.evaluation, "global")


def test_an_interrupted_evaluation_goes_on_where_it_stopped_and_ends_with_the_same_bytes(finished, tested):
    before = contents(finished.evaluation)
    finished.evaluation.success.unlink()
    with pytest.raises(StopRequestedError, match="after 1 of 2 volumes"):
        finished.evaluate(stop_after_first(tested))
    assert not finished.evaluation.success.exists()
    finished.evaluate()
    assert tested == ["e", "f"]
    assert contents(finished.evaluation) == before
    assert read_json(finished.evaluation.success)["num_volumes"] == 2


def test_a_stop_after_the_last_volume_is_no_reason_not_to_finish(finished, tested):
    finished.evaluation.success.unlink()
    stop = StopFlag()
    stop.handle(signal.SIGTERM, None)
    with pytest.raises(StopRequestedError):
        finished.evaluate(stop)
    finished.evaluate(stop)
    assert finished.evaluation.success.is_file()


def test_a_damaged_part_is_done_again(finished, tested):
    before = contents(finished.evaluation)
    finished.evaluation.success.unlink()
    with pytest.raises(StopRequestedError):
        finished.evaluate(stop_after_first(tested))
    part = finished.evaluation.part(VolumeKey("toy", "e", "image"), "volume")
    part.write_text(part.read_text().replace("0.5", "0.6", 1) + "\n")
    finished.evaluate()
    assert tested == ["e", "e", "f"]
    assert contents(finished.evaluation) == before


def test_what_an_earlier_definition_of_a_metric_measured_is_done_again(finished, tested, monkeypatch):
    """A finished evaluation and the parts of an unfinished one: values of two definitions are never in one table."""
    assert read_json(finished.evaluation.success)["metric_versions"] == {}
    monkeypatch.setattr(factory, "METRIC_VERSIONS", {"dice": 2})
    finished.evaluate()
    assert tested == ["e", "f"]
    assert read_json(finished.evaluation.success)["metric_versions"] == {"dice": 2}
    finished.evaluate()
    assert tested == ["e", "f"]
    finished.evaluation.success.unlink()
    tested.clear()
    with pytest.raises(StopRequestedError):
        finished.evaluate(stop_after_first(tested))
    monkeypatch.setattr(factory, "METRIC_VERSIONS", {"dice": 3})
    finished.evaluate()
    assert tested == ["e", "e", "f"]


def test_a_part_whose_prediction_is_gone_is_done_again(finished, tested):
    finished.evaluation.success.unlink()
    with pytest.raises(StopRequestedError):
        finished.evaluate(stop_after_first(tested))
    finished.evaluation.prediction(VolumeKey("toy", "e", "image")).unlink()
    finished.evaluate()
    assert tested == ["e", "e", "f"]
    assert finished.evaluation.prediction(VolumeKey("toy", "e", "image")).is_file()


def test_other_weights_make_an_evaluation_stale(finished, tested):
    before = contents(finished.evaluation)
    weights, info = read_best(finished.layout.best)
    changed = {name: tensor + 0.01 if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    save_best(finished.layout.best, changed, info)
    # As a training that was repeated records them.
    update_status(finished.layout, finished.attempt(), best_sha256=sha256_file(finished.layout.best))
    finished.evaluate()
    assert tested == ["e", "f"]
    assert contents(finished.evaluation)["slice.csv"] != before["slice.csv"]
    assert read_json(finished.evaluation.success)["checkpoint_sha256"] == sha256_file(finished.layout.best)


def test_a_table_that_was_changed_by_hand_is_made_again(finished, tested):
    before = contents(finished.evaluation)
    table = finished.evaluation.table("slice")
    table.write_text(table.read_text().replace("toy,e,", "toy,e ,", 1))
    finished.evaluate()
    assert tested == ["e", "f"]
    assert contents(finished.evaluation) == before


def test_parts_whose_removal_failed_are_removed_by_the_next_call(finished, tested):
    """The file system may fail after `_SUCCESS` was written, when nothing is missing any more."""
    before = contents(finished.evaluation)
    left = finished.evaluation.part(VolumeKey("toy", "e", "image"), "slice")
    left.parent.mkdir(parents=True)
    left.write_text("left")
    finished.evaluate()
    assert tested == []
    assert not finished.evaluation.parts.exists()
    assert contents(finished.evaluation) == before


def test_one_box_per_component_and_one_per_label_are_two_evaluations(finished, point_with, toy):
    prompted = Counter(row["slice"] for row in rows(finished.evaluation, "instance") if row["subject"] == "e")
    assert prompted == {1: 2, 2: 2, 3: 3}
    per_label = point_with("eval.instances=per_label", "module.visualize=false")
    assert (per_label.layout, per_label.eval_id == finished.eval_id) == (finished.layout, False)
    per_label.evaluate()
    found = rows(per_label.evaluation, "instance")
    assert Counter(row["slice"] for row in found if row["subject"] == "e") == {1: 2, 2: 2, 3: 2}
    assert {row["protocol"] for row in found} == {"box_per_label"}
    (around_all,) = [row["box"] for row in found if (row["subject"], row["slice"], row["label"]) == ("e", 3, 2)]
    assert around_all == "34 6 59 51"


def test_empty_slices_can_be_left_out_and_the_protocol_says_so(finished, point_with):
    nonempty = point_with("eval.include_empty_slices=false", "module.visualize=false")
    nonempty.evaluate()
    found = rows(nonempty.evaluation, "slice")
    assert {row["slice"] for row in found} == {1, 2, 3}
    assert {row["protocol"] for row in found} == {"box+nonempty"}
    assert {row["num_slices"] for row in rows(nonempty.evaluation, "volume")} == {3}
    full = {(row["subject"], row["label"]): row["dice"] for row in rows(finished.evaluation, "volume")}
    assert {(row["subject"], row["label"]): row["dice"] for row in rows(nonempty.evaluation, "volume")} == full


def test_the_jitter_of_evaluation_is_obeyed_and_named(finished, point_with):
    jittered = point_with("eval.bbox_shift=4", "module.visualize=false")
    assert jittered.layout == finished.layout
    jittered.evaluate()
    found = rows(jittered.evaluation, "instance")
    assert {row["protocol"] for row in found} == {"box_jitter(px=4,seed=0)"}
    exact = {
        (row["subject"], row["slice"], row["label"], row["instance"]): row["box"]
        for row in rows(finished.evaluation, "instance")
    }
    moved = [(row["box"], exact[row["subject"], row["slice"], row["label"], row["instance"]]) for row in found]
    outward = np.array([[np.array(box.split(), int), np.array(old.split(), int)] for box, old in moved])
    shift = (outward[:, 0] - outward[:, 1]) * [-1, -1, 1, 1]
    assert shift.min() == 0
    assert 0 < shift.max() <= 4


def test_propagation_prompts_one_slice_of_each_object_and_fills_the_same_tables(finished, point_with, toy):
    carried = point_with("eval.protocol=propagate", "module.visualize=false")
    assert (carried.layout, carried.eval_id == finished.eval_id) == (finished.layout, False)
    carried.evaluate()
    found = Counter((row["subject"], row["slice"], row["label"]) for row in rows(carried.evaluation, "slice"))
    assert found == Counter((subject, index, label) for subject in "ef" for index in range(4) for label in (1, 2))
    instances = rows(carried.evaluation, "instance")
    assert {row["protocol"] for row in instances} == {"propagate(seed=largest)"}
    # Three objects: a disc and a bar in slices 1 to 3, and a bar in slice 3 alone; the lowest of equal slices is first.
    prompted = {(row["label"], row["instance"]): row["slice"] for row in instances if row["box"]}
    assert prompted == {(1, 1): 1, (2, 1): 1, (2, 2): 3}
    reference = {
        key: sum(row["tp"] + row["fn"] for row in instances if (row["subject"], row["label"], row["instance"]) == key)
        for key in (("e", 2, 1), ("e", 2, 2))
    }
    assert reference == {("e", 2, 1): 3 * 12 * 24, ("e", 2, 2): 8 * 16}
    # Where it is prompted, an object is what protocol box finds in that slice.
    boxed = {
        (row["subject"], row["slice"], row["label"], row["box"]): row["dice"]
        for row in rows(finished.evaluation, "instance")
    }
    for row in instances:
        if row["box"]:
            assert row["dice"] == pytest.approx(boxed[row["subject"], row["slice"], row["label"], row["box"]], abs=1e-3)
    before = contents(carried.evaluation)
    carried.evaluation.success.unlink()
    carried.evaluate()
    assert contents(carried.evaluation) == before


def test_rows_that_are_not_those_of_the_split_are_an_error(finished, monkeypatch):
    finished.evaluation.success.unlink()
    original = Tester._volume

    def without_a_slice(self, source):
        result = original(self, source)
        table = result.rows["slice"]
        table[:] = [row for row in table if row["slice"] != 2]
        return result

    monkeypatch.setattr(Tester, "_volume", without_a_slice)
    with pytest.raises(DataError, match=r"slice rows: 4 missing, 0 not expected.*'e', 'image', 2, 1"):
        finished.evaluate()
    assert not finished.evaluation.success.exists()


def test_no_number_is_infinite(finished):
    for name in TIDY:
        for row in rows(finished.evaluation, name):
            assert not any(isinstance(value, float) and math.isinf(value) for value in row.values())
