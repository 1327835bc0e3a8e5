"""Everything that can be known before a job, on a small store."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from sam2ft.config.load_experiment import load_experiment
from sam2ft.core.errors import ProblemsError
from sam2ft.core.files import read_json, write_json
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.store.writer import PreparedVolume, StoreWriter
from sam2ft.jobs.preflight.preflight import resolve
from sam2ft.runs.resources.resources import local_resources
from sam2ft.slurm.site import Site

YAML = """\
experiment: {name: toy, seed: 42}
dataset:
  toy: {store: data/toy}
datamodule:
  batch_size: 2
  metric:
    func: {dice: true}
module:
  sam2_model_cfg: configs/sam2.1/sam2.1_hiera_t.yaml
  sam2_checkpoint: weights/tiny.pt
  optimizer: {type: AdamW, lr: 1e-4}
  num_epochs: 2
resources: {gpus_per_node: 0}
"""
LABELS = LabelTable((Label(1, "cartilage", interface="bone"), Label(5, "bone")))


def write_store(folder, splits, *, name="toy", shift=0, labelled=None):
    writer = StoreWriter(folder, name, "knee", LABELS, split_seed=7)
    mask = np.zeros((2, 8, 8), dtype=np.uint8)
    mask[:, 2:5, 2:5] = 1
    keys = [VolumeKey(name, subject, "image") for subject in splits]
    for key in keys:
        volume = PreparedVolume(
            key=key,
            geometry=Geometry.axis_aligned(mask.shape, (3.0, 0.5, 0.5)),
            image_zyx=np.full(mask.shape, ord(key.subject[0]) + shift, dtype=np.uint16),
            mask_zyx=mask,
            maps={},
            window=(0.0, 1.0),
            slices={"rows": [8, 8], "columns": [8, 8]},
            subject_fields={},
            labelled=(labelled or {}).get(key.subject),
        )
        writer.write(volume, source=f"test {shift}")
    writer.finish(keys, splits)


@pytest.fixture
def place(in_empty_folder):
    write_store(Path("data/toy"), {"a": "train", "b": "train", "c": "val", "d": "test"})
    Path("weights").mkdir()
    Path("weights/tiny.pt").write_bytes(b"weights")
    Path("toy.yaml").write_text(YAML)
    return in_empty_folder


def resolved(*overrides, **settings):
    return resolve(load_experiment(Path("toy.yaml"), overrides), **settings)


def ids(*overrides):
    return [(run.planned.run_id, run.planned.eval_ids) for run in resolved(*overrides).runs]


def problems(*overrides, **settings):
    with pytest.raises(ProblemsError) as caught:
        resolved(*overrides, **settings)
    return [str(problem) for problem in caught.value.problems]


def test_a_point_and_the_baseline_have_ids_before_any_training(place):
    runs = resolved().runs
    assert [(run.planned.name, run.planned.stage) for run in runs] == [("toy", "train_eval"), ("baseline", "eval")]
    assert all(len(run.planned.run_id) == len("toy-") + 16 for run in runs)
    # Both are evaluated on the same subjects in the same way.
    assert runs[0].planned.eval_ids == runs[1].planned.eval_ids


def test_what_determines_the_result_changes_the_id_and_nothing_else_does(place):
    (trained, evaluated), baseline = ids()[0], ids()[1]
    same = ids("datamodule.num_workers=7", "resources.hours=3", "experiment.description=other")[0]
    assert same == (trained, evaluated)
    # Two slices per step either way.
    assert ids("datamodule.batch_size=1", "module.grad_accum=2")[0] == (trained, evaluated)
    assert ids("module.optimizer.lr=2e-4")[0][0] != trained
    assert ids("module.optimizer.lr=2e-4")[1] == baseline
    assert ids("eval.bbox_shift=3")[0] == (trained, ids("eval.bbox_shift=3")[0][1])
    assert ids("eval.bbox_shift=3")[0][1] != evaluated


def test_another_content_of_the_data_or_weights_is_another_run(place):
    before = ids()
    write_store(Path("data/toy"), {"a": "train", "b": "train", "c": "val", "d": "test"}, shift=1)
    after = ids()
    assert before[0][0] != after[0][0]
    assert before[0][1] != after[0][1]
    Path("weights/tiny.pt").write_bytes(b"other weights")
    assert ids()[0][0] != after[0][0]
    assert ids()[1][0] != after[1][0]


def test_the_same_data_elsewhere_is_the_same_run(place):
    before = ids()
    shutil.move("data/toy", "moved")
    assert ids("dataset.toy.store=moved") == before


def test_a_subset_of_subjects_is_another_training_with_the_same_evaluation(place):
    full, one = ids()[0], ids("datamodule.max_subject_set=1")[0]
    assert full[0] != one[0]
    assert full[1] == one[1]


@pytest.mark.parametrize(("limit", "warned"), [("full", 0), (1, 0), (2, 0), (3, 1), (40, 1)])
def test_more_subjects_than_there_are_is_a_warning(place, limit, warned):
    found = resolved(f"datamodule.max_subject_set={limit}").warnings
    assert len(found) == warned
    assert all(f"found {limit}, but dataset toy has 2 training subjects, and all are used" in one for one in found)


@pytest.mark.parametrize(("corners", "told"), [("1,1,3,3", False), ("1.0,1,3,3", False), ("0.6,1,2.5,3", True)])
def test_boxes_with_fractions_are_told_before_anything_runs(place, corners, told):
    Path("boxes.csv").write_text(f"subject,volume,slice,label,x0,y0,x1,y1\nd,image,0,1,{corners}\n")
    found = resolved("eval.protocol=boxes_file", "eval.boxes_file=boxes.csv").warnings
    words = "boxes.csv: 1 of its boxes have fractions; each corner is the nearest pixel"
    assert any(words in warning for warning in found) == told


def test_points_that_are_one_run_are_merged_and_that_is_said(place):
    text = YAML + "sweep: {grid: {module.optimizer.lr: [1e-4, 0.0001, 2e-4], eval.bbox_shift: [0, 3]}}\n"
    Path("toy.yaml").write_text(text)
    found = resolved()
    assert len(found.points) == 7
    assert [len(run.planned.points) for run in found.runs] == [4, 2, 1]
    assert [len(run.planned.eval_ids) for run in found.runs] == [2, 2, 1]
    assert found.merged[0].endswith(f"are one run ({found.runs[0].planned.run_id}), evaluated 2 times")
    shifts = [experiment.eval.bbox_shift for experiment in found.runs[0].evaluations.values()]
    assert sorted(shifts) == [0, 3]


def test_all_problems_of_all_points_come_at_once_with_their_lines(place):
    text = YAML.replace("func: {dice: true}", "func: {dice: true, dicee: true}").replace("tiny.pt", "gone.pt")
    text += "sweep: {grid: {eval.split: [test, train], datamodule.num_classes: [2, 7]}}\n"
    Path("toy.yaml").write_text(text)
    found = problems()
    assert len(found) == 3
    assert any(line.startswith("toy.yaml:7: datamodule.metric.func: metric 'dicee' is unknown") for line in found)
    assert any(line.startswith("toy.yaml:10: module.sam2_checkpoint: found ") and "gone.pt" in line for line in found)
    assert any("datamodule.num_classes: 7, but the label table has 2" in line for line in found)


def test_a_missing_store_is_an_error_and_only_a_warning_in_a_dry_run(place):
    shutil.rmtree("data/toy")
    assert problems() == [line for line in problems() if line.startswith("toy.yaml:3: dataset.toy.store: ")]
    shown = resolved(dry_run=True)
    assert shown.points[0].run_id is None
    assert [point.eval_id for point in shown.points] == [None, None]
    assert shown.runs == ()
    assert "no store in this folder" in shown.warnings[0]


def test_a_store_of_another_version_is_an_error_in_a_dry_run_too(place):
    index = read_json(Path("data/toy/store.json"))
    write_json(Path("data/toy/store.json"), index | {"version": 99})
    assert "store version 99" in problems(dry_run=True)[0]


def test_missing_weights_of_a_dry_run_leave_the_points_without_ids(place):
    Path("weights/tiny.pt").unlink()
    assert "weights/tiny.pt" in problems()[0]
    assert [point.run_id for point in resolved(dry_run=True).points] == [None, None]


def test_a_split_without_subjects_is_named(place):
    write_store(Path("data/bare"), {"a": "train", "b": "val"})
    assert "split test has no volume" in problems("dataset.toy.store=data/bare")[0]


def test_a_metric_whose_map_no_volume_has_is_refused(place):
    Path("toy.yaml").write_text(YAML.replace("func: {dice: true}", "func: {t2: true}"))
    assert "needs a t2 map; maps here: none" in problems()[0]


def test_a_tissue_that_is_no_label_is_refused(place):
    assert "known: 1 cartilage, 5 bone" in problems("datamodule.metric.tissues=[1, 2]")[0]


def metadata_file(**changes):
    """meta.json describing subject d, the evaluated one, slice by slice; `changes` to every slice."""
    grid = {"pixel_spacing": [0.5, 0.5], "slice_thickness": 3.0, "slice_spacing": 3.0, "rows": 8, "columns": 8}
    slices = dict.fromkeys(("001", "002"), grid | changes)
    write_json(Path("meta.json"), {"d": {"subject_id": "d", "slices": slices}})
    return "datamodule.stats_metadata_file=meta.json"


def test_metadata_of_another_file_are_part_of_an_evaluations_identity(place):
    (plain,) = ids("experiment.baseline=false")
    (other,) = ids("experiment.baseline=false", metadata_file())
    (changed,) = ids("experiment.baseline=false", metadata_file(slice_thickness=2.0))
    assert plain[0] == other[0] == changed[0]
    assert len({plain[1], other[1], changed[1]}) == 3


def test_metadata_of_another_file_must_describe_every_evaluated_volume(place):
    overrides = metadata_file()
    assert "stats_metadata_file: found" in problems("datamodule.stats_metadata_file=none.json")[0]
    whole = read_json(Path("meta.json"))
    write_json(Path("meta.json"), {"dd": whole["d"]})
    assert "no subject 'd' (nor 'd/image') among 1" in problems(overrides)[0]
    del whole["d"]["slices"]["002"]
    write_json(Path("meta.json"), whole)
    assert "metadata of d: no slice '002'" in problems(overrides, "datamodule.metric.representative_slice=false")[0]
    assert "d has 8 rows x 9 columns, the image 8 x 8" in problems(metadata_file(columns=9))[0]
    assert "d has pixel_spacing [0, 0.5]" in problems(metadata_file(pixel_spacing=[0, 0.5]))[0]
    assert len(problems(metadata_file(columns=9))) == 1


def test_distances_of_slices_that_disagree_are_a_warning_where_a_biomarker_is_measured(place):
    file = metadata_file(slice_thickness=2.0)
    assert resolved(file).warnings == ()
    volume = "datamodule.metric.func={tissuevolume: true}"
    (warning,) = resolved(file, volume).warnings
    assert "slice_thickness gives 2 mm, positions 3 mm (used) in toy/d/image" in warning
    assert resolved(metadata_file(slice_thickness=3.02), volume).warnings == ()


def test_a_bone_that_the_mask_of_one_subject_lacks_is_refused_naming_the_subject(place):
    """The toy's masks hold cartilage only."""
    (problem,) = problems("datamodule.metric.func={cartilagethickness: true}", "experiment.baseline=false")
    assert "toy/d/image: cartilagethickness of cartilage needs label 5 bone, which the mask lacks" in problem


@pytest.mark.parametrize(
    ("labelled", "told"),
    [
        ({"d": (1,)}, ["split test: bone was drawn in none of its volumes"]),
        ({"a": (1,), "b": (1,)}, ["split train: bone was drawn in none of its volumes"]),
        ({"a": (1,)}, []),
    ],
)
def test_a_label_that_was_drawn_in_no_volume_of_a_split_is_a_warning_and_no_bone_is_lost(place, labelled, told):
    shutil.rmtree("data/toy")
    write_store(Path("data/toy"), {"a": "train", "b": "train", "c": "val", "d": "test"}, labelled=labelled)
    assert [text.partition("dataset: ")[2] for text in resolved().warnings] == told
    if "d" in labelled:  # its bone is not lost, but unknown: nothing is measured from it
        assert resolved("datamodule.metric.func={cartilagethickness: true}").runs


def test_a_tissue_without_an_interface_is_measured_by_another_definition_and_that_is_said(place):
    only_bone = ("datamodule.metric.func={cartilagethickness: true}", "datamodule.metric.tissues=[5]")
    (warning,) = resolved(*only_bone).warnings
    assert "labels.5 bone has no interface: cartilagethickness will be its local_thickness" in warning


def test_a_tissue_without_a_value_in_its_map_is_a_warning(place, monkeypatch):
    nowhere = {"t2": {"valid_of_label": {"1": [0, 18], "5": [3, 4]}}}
    monkeypatch.setattr("sam2ft.data.store.store.VolumeRecord.map_facts", nowhere)
    monkeypatch.setattr("sam2ft.data.store.store.VolumeRecord.maps", ("t2",))
    (warning,) = resolved("datamodule.metric.func={t2: true}").warnings
    assert "toy/d/image: map t2 has no value in the 18 voxels of cartilage; its t2 is empty" in warning


def test_a_metric_is_checked_against_the_fields_that_it_will_be_handed(place, monkeypatch):
    """The toy's volumes have rows, and no echo time."""
    lines = [f"{need.lower()} = metric('{need}', ['dicom:{need}'])(lambda pair: ())" for need in ("rows", "TE")]
    header = "from sam2ft.metrics.measurement import metric"
    Path("of_my_own.py").write_text("\n".join([header, *lines]))
    monkeypatch.syspath_prepend(str(place))

    def ask(name, fields):
        Path("toy.yaml").write_text(
            YAML.replace("func: {dice: true}", f"func: {{'of_my_own:{name}': true}}\n    dicom_fields: [{fields}]")
        )

    ask("rows", "rows, TE")
    assert resolved().runs
    ask("rows", "columns")
    assert "d/image: rows needs the DICOM field rows" in problems()[0]
    ask("te", "rows, TE")
    assert "d/image: TE needs the DICOM field TE" in problems()[0]


def test_a_metric_from_outside_is_tried_on_made_up_masks_before_a_run(place, monkeypatch):
    header = "from sam2ft.metrics.measurement import Measurement, metric\n"
    lines = {
        "good": "yield Measurement('volume', 'good', 1.0)",
        "raises": "yield Measurement('volume', 'bad', 1 / pair.overlap.prediction)",
        "clashes": "yield Measurement('slice', 'dice', 1.0, slice=0)",
        "loses": "yield Measurement('volume', 'lost', 1.0 if pair.status == 'ok' else float('nan'))",
    }
    functions = [f"@metric('{name}')\ndef {name}(pair):\n    {line}\n" for name, line in lines.items()]
    Path("of_others.py").write_text(header + "".join(functions))
    monkeypatch.syspath_prepend(str(place))

    def ask(*names):
        func = ", ".join(f"'{name}': true" for name in names)
        Path("toy.yaml").write_text(YAML.replace("func: {dice: true}", f"func: {{{func}}}"))

    ask("of_others:good", "of_others:loses")
    found = resolved()
    assert found.runs
    where = "toy.yaml:7: datamodule.metric.func: "
    assert set(found.warnings) == {
        f"{where}metric 'of_others:loses': lost is NaN for a label with status {status}; it is excluded from means"
        for status in ("missed", "spurious")
    }
    ask("of_others:raises", "of_others:clashes")
    raised, clash = sorted(problems(), key=lambda line: "clashes" in line)
    tried = where + "tried on made-up masks: metric 'of_others:"
    assert raised.startswith(tried + "raises', label 2 missed (missed): ZeroDivisionError")
    assert raised.endswith("(of_others.py:7)")
    assert clash == f"{tried}clashes', label 1 ok (ok): dice is a fixed column of slice.csv; choose another name"
    ask("nowhere.at:all")
    assert problems() == [
        f"{where}metric 'nowhere.at:all': no module named 'nowhere' can be imported here; install it, or name its "
        "folder in PYTHONPATH"
    ]


def test_a_run_is_named_by_the_number_of_processes_that_train_it(place):
    """Two processes take two batches per step: another training than one process with the same settings."""
    alone = resolved("resources.gpus_per_node=4")
    assert alone.runs[0].planned.resources.world_size == 1
    assert alone.runs[0].planned.run_id == ids()[0][0]

    def two(experiment):
        return local_resources(experiment, 2)

    assert resolved(fill=two).runs[0].planned.run_id == resolved("datamodule.batch_size=4").runs[0].planned.run_id


def with_site(text):
    """Resources of a point as on a cluster with this `resources:` in its site file."""
    site = Site.model_validate_json(json.dumps({"site": {"name": "here"}, "resources": yaml.safe_load(text)}))
    return site.fill


@pytest.mark.parametrize(("asked", "site", "refused"), [
    ("{gpus_per_node: 1, tasks_per_node: 4}", "{}", ["resources.tasks_per_node: found 4 processes per node for 1 GPU"]),
    ("{gpus_per_node: 2, tasks_per_node: 3}", "{}", ["resources.tasks_per_node: found 3 processes per node for 2"]),
    ("{tasks_per_node: 4}", "{gpus_per_node: 2}", ["resources.tasks_per_node: found 4 processes per node for 2 GPUs,"]),
    ("{hours: 1}", "{gpus_per_node: 2, tasks_per_node: 4}", ["resources.tasks_per_node: found 4 processes per node"]),
    ("{gpus_per_node: 4, eval: {tasks_per_node: 8}}", "{}", ["resources.eval.tasks_per_node: found 8 processes"]),
    ("{gpus_per_node: 4, tasks_per_node: 4, eval: {gpus_per_node: 2, tasks_per_node: 4}}", "{}",
     ["resources.eval.tasks_per_node: found 4 processes per node for 2 GPUs"]),
    ("{gpus_per_node: 2, tasks_per_node: 4, eval: {hours: 1}}", "{}",
     ["resources.tasks_per_node: found 4", "resources.eval.tasks_per_node: found 4"]),
    # The default is a process per GPU, also of an evaluation that asks for fewer, and one without GPUs.
    ("{gpus_per_node: 4}", "{}", []),
    ("{gpus_per_node: 4, eval: {gpus_per_node: 1}}", "{}", []),
    ("{gpus_per_node: 4, tasks_per_node: 4, eval: {gpus_per_node: 0}}", "{}", []),
    ("{gpus_per_node: 4, tasks_per_node: 1}", "{}", []),
    ("{gpus_per_node: 0, tasks_per_node: 8}", "{}", []),
    ("{gpus_per_node: 0, tasks_per_node: 8}", "{gpus_per_node: 2}", []),
    ("{hours: 1}", "{gpus_per_node: 4}", []),
])  # fmt: skip
def test_more_processes_than_gpus_are_refused_once_each_with_what_is_allowed(place, asked, site, refused):
    text = YAML.replace("resources: {gpus_per_node: 0}", f"resources: {asked}")
    assert text != YAML or asked == "{gpus_per_node: 0}"
    Path("toy.yaml").write_text(text)
    if not refused:
        assert resolved(fill=with_site(site)).runs
        return
    found = problems(fill=with_site(site))
    assert len(found) == len(refused)
    for problem, words in zip(found, refused, strict=True):
        assert words in problem
        assert problem.startswith("toy.yaml:")
        assert "allowed: 1 to " in problem
        assert problem.endswith("or gpus_per_node: 0 to train on the CPU")


@pytest.mark.parametrize("processes", [1, 2, 8])
def test_on_this_machine_each_process_counts_one_gpu_whatever_the_cluster_has(place, processes):
    Path("toy.yaml").write_text(YAML.replace("{gpus_per_node: 0}", "{gpus_per_node: 2, tasks_per_node: 2}"))
    found = resolved(fill=lambda experiment: local_resources(experiment, processes)).runs[0].planned.resources
    assert (found.nodes, found.tasks_per_node, found.gpus_per_node >= processes) == (1, processes, True)
