"""Masks made elsewhere: files in, the tables of an evaluation out."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np
import pytest

from sam2ft.cli.prepare import prepare_phantom
from sam2ft.config.schema.dataset import Reading
from sam2ft.config.schema.evaluation import Evaluation
from sam2ft.core.errors import DataError, ProblemsError
from sam2ft.core.files import read_json
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.core.tables.rows import TABLES, read_csv
from sam2ft.data.images.grids import Volume
from sam2ft.data.images.maps import PreparedMap
from sam2ft.data.images.volumes import write_nifti
from sam2ft.data.store.store import Store
from sam2ft.data.store.writer import PreparedVolume, StoreWriter
from sam2ft.evaluation.masks.placing import share_inside
from sam2ft.evaluation.masks.score import score_pair, score_store
from sam2ft.evaluation.masks.settings import Scoring, scoring_of
from sam2ft.evaluation.summary import summary_lines

SPACING = (3.0, 0.5, 0.5)
NO_PICTURES = Scoring(Evaluation(qc_slices=0))
LABELS = LabelTable((Label(1, "plate", interface="bone"), Label(2, "bone")))


def anatomy() -> np.ndarray:
    """Six slices with a plate of 4 rows (2 mm) on a bone of 10 rows."""
    mask = np.zeros((6, 24, 20), np.uint8)
    mask[:, 2:12, 2:18], mask[:, 12:16, 2:18] = 2, 1
    return mask


def thinner() -> np.ndarray:
    mask = anatomy()
    mask[:, 14:16] = 0
    return mask


def write_mask(path: Path, mask: np.ndarray, spacing=SPACING) -> Path:
    write_nifti(path, mask, Geometry.axis_aligned(mask.shape, spacing))
    return path


def value(rows, **key):
    (found,) = [one for one in rows if all(one[name] == wanted for name, wanted in key.items())]
    return found


def write_store(folder: Path, *subjects: str, **given: Any) -> Store:
    writer = StoreWriter(folder, "toy", "knee", LABELS, split_seed=1)
    mask = anatomy()
    keys = [VolumeKey("toy", subject, "v1") for subject in subjects]
    for key in keys:
        slices = {
            "pixel_spacing": [[0.5, 0.5]] * 6,
            "slice_thickness": [3.0] * 6,
            "slice_spacing": [3.0] * 6,
            "rows": [24] * 6,
            "columns": [20] * 6,
        }
        maps = {"t2": PreparedMap(np.full(mask.shape, 40, np.float32), None, {})}
        volume = PreparedVolume(
            key,
            Geometry.axis_aligned(mask.shape, SPACING),
            mask.astype(np.uint16),
            mask,
            maps,
            (0.0, 1.0),
            slices,
            {},
            **given,
        )
        writer.write(volume, source="test")
    writer.finish(keys, dict.fromkeys(subjects, "test"))
    return Store.open(folder)


def test_a_pair_without_a_table_scores_every_integer_as_a_label(tmp_path: Path):
    reference = write_mask(tmp_path / "reader.nii.gz", anatomy())
    prediction = write_mask(tmp_path / "model.nii.gz", thinner())
    result = score_pair(reference, prediction, out=tmp_path / "out")
    rows = read_csv(tmp_path / "out" / "volume.csv", TABLES["volume"])
    plate = value(rows, label_name="1")
    assert (plate["subject"], plate["volume"], plate["dataset"]) == ("reader", "model", "files")
    assert plate["dice"] == pytest.approx(2 / 3)
    assert plate["hd_mm"] == 1.0
    assert (plate["volume_reference_mm3"], plate["volume_prediction_mm3"]) == (6 * 64 * 0.75, 6 * 32 * 0.75)
    assert result.run.startswith("scored-")
    assert value(rows, label_name="2")["dice"] == 1.0
    assert not (tmp_path / "out" / "instance.csv").read_text().splitlines()[1:]
    assert "cartilagethickness" not in (tmp_path / "out" / "biomarker_volume.csv").read_text()


def test_a_pair_with_a_table_has_names_and_thickness(tmp_path: Path):
    table = tmp_path / "labels.yaml"
    table.write_text("labels:\n  1: {name: plate, interface: bone}\n  2: {name: bone}\n")
    reference = write_mask(tmp_path / "reader.nii.gz", anatomy())
    prediction = write_mask(tmp_path / "model.nii.gz", thinner())
    score_pair(reference, prediction, labels=table, out=tmp_path / "out")
    rows = read_csv(tmp_path / "out" / "biomarker_volume.csv", TABLES["biomarker_volume"])
    found = value(rows, tissue="plate", definition="ThCcAB")
    # The bone is 8 mm wide: on slices of 3 mm its edges are rounded, and rays there run slanted through the plate.
    assert (found["reference"], found["prediction"]) == (pytest.approx(2.0, abs=0.12), pytest.approx(1.0, abs=0.12))
    volume = value(rows, tissue="plate", definition="volume", unit="mm3")
    assert (volume["reference"], volume["prediction"]) == (288.0, 144.0)


def test_masks_stored_with_other_axes_are_brought_onto_the_grid(tmp_path: Path):
    geometry = Geometry.axis_aligned(anatomy().shape, SPACING)
    flipped = geometry.affine.copy()
    flipped[0, 0], flipped[0, 3] = -0.5, 19 * 0.5
    reference = write_mask(tmp_path / "reader.nii.gz", anatomy())
    other = tmp_path / "model.nii.gz"
    write_nifti(other, anatomy()[:, :, ::-1], Geometry.from_affine(anatomy().shape, flipped))
    rows = score_pair(reference, other, out=tmp_path / "out").tables["volume"]
    assert {one["dice"] for one in rows} == {1.0}


def files_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_default_folder_is_named_by_the_run_and_the_same_input_gives_the_same_bytes(in_empty_folder: Path):
    reference = write_mask(in_empty_folder / "a.nii.gz", anatomy())
    prediction = write_mask(in_empty_folder / "b.nii.gz", thinner())
    first = score_pair(reference, prediction)
    assert first.evaluation.folder == Path("runs/_scored") / first.run
    before = files_in(first.evaluation.folder)
    second = score_pair(reference, prediction)
    assert files_in(second.evaluation.folder) == before
    assert score_pair(reference, reference).run != first.run


def test_grids_that_differ_are_refused_with_numbers(tmp_path: Path):
    reference = write_mask(tmp_path / "a.nii.gz", anatomy())
    prediction = write_mask(tmp_path / "b.nii.gz", anatomy(), spacing=(3.0, 0.6, 0.5))
    with pytest.raises(DataError, match=r"b\.nii\.gz: .*different grids: corners lie up to"):
        score_pair(reference, prediction, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_empty_masks_and_a_label_that_the_table_lacks_are_refused(tmp_path: Path):
    empty = write_mask(tmp_path / "a.nii.gz", 0 * anatomy())
    with pytest.raises(DataError, match="neither mask holds a label"):
        score_pair(empty, empty, out=tmp_path / "out")
    table = tmp_path / "labels.yaml"
    table.write_text("labels:\n  1: {name: plate}\n")
    full = write_mask(tmp_path / "b.nii.gz", anatomy())
    with pytest.raises(DataError, match=r"b\.nii\.gz: unknown label id 2 \(960 voxels\); the label table has 1 plate"):
        score_pair(full, full, labels=table, out=tmp_path / "out")
    table.write_text("labels:\n  1: {nome: plate}\n")
    with pytest.raises(ProblemsError):
        score_pair(full, full, labels=table, out=tmp_path / "out")


def test_a_folder_is_scored_against_a_split_with_maps_and_statistics(tmp_path: Path):
    write_store(tmp_path / "store", "anna", "bert")
    write_mask(tmp_path / "masks" / "anna__v1.nii.gz", anatomy())
    write_mask(tmp_path / "masks" / "toy" / "bert__v1.nii.gz", thinner())
    result = score_store(tmp_path / "masks", tmp_path / "store", out=tmp_path / "out", scoring=NO_PICTURES)
    mean = value(result.tables["global"], label=1, measure="dice")
    assert (mean["n"], mean["mean"]) == (2, pytest.approx((1 + 2 / 3) / 2))
    t2 = value(result.tables["biomarker_global"], tissue="plate", biomarker="t2", definition="mean")
    assert (t2["n"], t2["bias"]) == (2, 0.0)
    thickness = value(result.tables["biomarker_global"], tissue="plate", definition="ThCcAB")
    assert thickness["bias"] == pytest.approx(-0.5, abs=0.05)
    assert value(result.tables["volume"], subject="bert", label=1)["split"] == "test"
    assert (tmp_path / "out" / "_SUCCESS").is_file()
    lines = summary_lines(result.tables["global"])
    # Of many measures each has a line, and of few each label.
    assert lines[0].split()[:3] == ["measure", "plate", "bone"]
    assert lines[1].split()[:2] == ["dice", "0.833"]
    few = summary_lines([row for row in result.tables["global"] if row["measure"] == "dice"])
    assert few[0].split() == ["label", "dice"]
    assert few[1].split() == ["plate", "0.833"]


def test_a_table_names_predictions_that_have_other_names(tmp_path: Path):
    write_store(tmp_path / "store", "anna")
    write_mask(tmp_path / "elsewhere" / "case_1.nii.gz", anatomy())
    (tmp_path / "table.csv").write_text("subject,volume,path\nanna,v1,elsewhere/case_1.nii.gz\n")
    result = score_store(tmp_path / "table.csv", tmp_path / "store", out=tmp_path / "out", scoring=NO_PICTURES)
    assert value(result.tables["volume"], label=1)["dice"] == 1.0
    (tmp_path / "table.csv").write_text("subject,file\nanna,x\n")
    with pytest.raises(DataError, match=r"table\.csv: no column path, volume"):
        score_store(tmp_path / "table.csv", tmp_path / "store", out=tmp_path / "out")


def test_a_missing_prediction_is_named_and_nothing_is_written(tmp_path: Path):
    write_store(tmp_path / "store", "anna", "bert")
    write_mask(tmp_path / "masks" / "anna__v1.nii.gz", anatomy())
    with pytest.raises(
        DataError, match=r"no prediction of 1 of 2 volumes: toy/bert/v1; expected files such as anna__v1"
    ):
        score_store(tmp_path / "masks", tmp_path / "store", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_scoring_does_not_import_torch():
    program = "import sys, sam2ft.evaluation.masks.score; print('torch' in sys.modules, 'pandas' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]


def test_a_store_has_the_wide_views_and_a_picture_per_label(tmp_path: Path):
    write_store(tmp_path / "store", "anna", "bert")
    write_mask(tmp_path / "masks" / "anna__v1.nii.gz", thinner())
    write_mask(tmp_path / "masks" / "bert__v1.nii.gz", anatomy())
    score_store(tmp_path / "masks", tmp_path / "store", out=tmp_path / "out", scoring=Scoring(Evaluation(qc_slices=2)))
    wide = (tmp_path / "out" / "wide" / "volume_dice.csv").read_text().splitlines()
    assert wide[0].endswith("plate,bone")
    assert (tmp_path / "out" / "wide" / "global_tissuevolume.csv").is_file()
    files = {path.name for path in (tmp_path / "out" / "qc").iterdir()}
    lists = {f"{name}.json{suffix}" for name in ("index", "volumes") for suffix in ("", ".sha256")}
    assert files == {"label-1.png", "label-2.png", "001.png", "002.png", "volumes", *lists}


@pytest.mark.parametrize(("texts", "shown"), [((), "'=plate"), (("eval.plain_cells=true",), "=plate")])
def test_names_that_a_spreadsheet_would_run_are_marked_in_wide_tables_alone(tmp_path: Path, texts, shown: str):
    reference = write_mask(tmp_path / "a.nii.gz", anatomy())
    (tmp_path / "labels.yaml").write_text('labels: {1: {name: "=plate"}, 2: {name: bone}}\n')
    scoring = scoring_of(("eval.qc_slices=0", *texts))
    result = score_pair(reference, reference, labels=tmp_path / "labels.yaml", out=tmp_path / "out", scoring=scoring)
    head = (tmp_path / "out" / "wide" / "volume_dice.csv").read_text().splitlines()[0]
    assert head.split(",")[-2:] == [shown, "bone"]
    tidy = read_csv(tmp_path / "out" / "volume.csv", TABLES["volume"])
    assert {row["label_name"] for row in tidy} == {"=plate", "bone"}
    assert result.run == score_pair(reference, reference, labels=tmp_path / "labels.yaml", out=tmp_path / "other").run


def test_a_file_may_be_named_by_the_subject_alone_and_foreign_masks_are_named(tmp_path: Path, capsys):
    write_store(tmp_path / "store", "anna", "bert")
    for name in ("anna", "bert__v1", "carl__v1"):
        write_mask(tmp_path / "masks" / f"{name}.nii.gz", anatomy())
    (tmp_path / "masks" / "dataset.json").write_text("{}")
    result = score_store(tmp_path / "masks", tmp_path / "store", out=tmp_path / "out", scoring=NO_PICTURES)
    assert {row["subject"] for row in result.tables["volume"]} == {"anna", "bert"}
    assert "not scored, of no volume of split test: carl__v1.nii.gz\n" in capsys.readouterr().err


def test_two_masks_of_one_volume_are_refused(tmp_path: Path):
    write_store(tmp_path / "store", "anna")
    for name in ("anna.nii.gz", "anna__v1.nii.gz"):
        write_mask(tmp_path / "masks" / name, anatomy())
    with pytest.raises(DataError, match=r"toy/anna/v1: 2 predictions, .*keep one"):
        score_store(tmp_path / "masks", tmp_path / "store", out=tmp_path / "out")
    line = "anna,v1,masks/anna.nii.gz\n"
    (tmp_path / "table.csv").write_text("subject,volume,path\n" + 2 * line)
    with pytest.raises(DataError, match=r"table\.csv:3: toy/anna/v1 is listed twice"):
        score_store(tmp_path / "table.csv", tmp_path / "store", out=tmp_path / "out")


def test_another_grid_is_refused_with_both_geometries_and_resampled_on_request(tmp_path: Path, capsys):
    write_store(tmp_path / "store", "anna")
    finer = np.repeat(np.repeat(anatomy(), 2, axis=1), 2, axis=2)
    # Each voxel of 0.5 mm is four of 0.25 mm whose centres lie 0.125 mm beside its own.
    affine = np.diag([0.25, 0.25, 3.0, 1.0])
    affine[:2, 3] = -0.125
    write_nifti(tmp_path / "masks" / "anna.nii.gz", finer, Geometry.from_affine(finer.shape, affine))
    with pytest.raises(DataError) as caught:
        score_store(tmp_path / "masks", tmp_path / "store", out=tmp_path / "out")
    message = str(caught.value)
    assert "anna.nii.gz" in message
    assert "reference: shape (z, y, x) (6, 24, 20), spacing (3, 0.5, 0.5) mm, from (0, 0, 0)" in message
    assert "prediction: shape (z, y, x) (6, 48, 40), spacing (3, 0.25, 0.25) mm, from (-0.125, -0.125, 0)" in message
    assert "--resample" in message
    assert not (tmp_path / "out").exists()
    scoring = Scoring(Evaluation(qc_slices=0), resample=True)
    result = score_store(tmp_path / "masks", tmp_path / "store", out=tmp_path / "out", scoring=scoring)
    assert {row["dice"] for row in result.tables["volume"]} == {1.0}
    assert "scored toy/anna/v1 (1/1), resampled from another grid" in capsys.readouterr().err
    assert read_json(tmp_path / "out" / "_SUCCESS")["resampled"] == ["toy/anna/v1"]


def test_the_settings_of_an_evaluation_are_obeyed(tmp_path: Path):
    write_store(tmp_path / "store", "anna")
    write_mask(tmp_path / "masks" / "anna.nii.gz", np.where(anatomy() == 1, 0, anatomy()))

    def scored_with(*texts: str):
        return score_store(
            tmp_path / "masks",
            tmp_path / "store",
            out=tmp_path / "out",
            scoring=scoring_of(("eval.qc_slices=0", *texts)),
        )

    far = scored_with("eval.missed_distance=7", "datamodule.metric.func.assd=true")
    plate = value(far.tables["volume"], label=1)
    assert (plate["status"], plate["assd_mm"]) == ("missed", 7.0)
    assert "biomarker_volume" not in far.tables
    assert far.run != scored_with("eval.missed_distance=8", "datamodule.metric.func.assd=true").run


def test_the_settings_of_biomarkers_are_obeyed():
    chosen = scoring_of(["datamodule.metric.t1rho_upper_ms=120", "datamodule.metric.sensitivity=true"]).settings
    assert (chosen.t1rho_upper_ms, chosen.sensitivity) == (120.0, True)
    assert (scoring_of([]).settings.t1rho_upper_ms, scoring_of([]).settings.sensitivity) == (500.0, False)
    assert scoring_of([]).settings.t2_upper_ms == 100.0
    assert scoring_of(["datamodule.metric.t2_upper_ms=250"]).settings.upper_ms == {"t2": 250.0, "t1rho": 500.0}
    with pytest.raises(ProblemsError, match=r"datamodule\.metric\.t2_upper_ms"):
        scoring_of(["datamodule.metric.t2_upper_ms=0"])


def test_the_end_of_a_scoring_names_the_versions_of_its_metrics(tmp_path: Path):
    write_store(tmp_path / "store", "anna")
    write_mask(tmp_path / "masks" / "anna.nii.gz", anatomy())
    score_store(tmp_path / "masks", tmp_path / "store", out=tmp_path / "out", scoring=NO_PICTURES)
    assert read_json(tmp_path / "out" / "_SUCCESS")["metric_versions"] == {"tissueheight": 2}


def test_settings_of_a_model_are_refused():
    with pytest.raises(
        ProblemsError, match=r"--set: eval\.protocol: does not apply to masks made elsewhere; allowed: eval\."
    ):
        scoring_of(("eval.protocol=point",))
    with pytest.raises(ProblemsError, match=r"eval\.missed_distance"):
        scoring_of(("eval.missed_distance=far",))


def test_slice_metadata_of_another_file_are_checked_and_part_of_what_a_scoring_is(tmp_path: Path):
    write_store(tmp_path / "store", "anna")
    write_mask(tmp_path / "masks" / "anna__v1.nii.gz", anatomy())
    rows, columns = anatomy().shape[1:]

    def score(rows: int, out: str) -> str:
        (tmp_path / "m.json").write_text(json.dumps({"anna": {"rows": rows, "columns": columns}}))
        scoring = scoring_of(
            (
                "eval.qc_slices=0",
                f"datamodule.stats_metadata_file={tmp_path / 'm.json'}",
                "datamodule.metric.dicom_fields=[rows]",
            )
        )
        return score_store(tmp_path / "masks", tmp_path / "store", out=tmp_path / out, scoring=scoring).run

    plain = score_store(tmp_path / "masks", tmp_path / "store", out=tmp_path / "plain", scoring=NO_PICTURES).run
    assert score(rows, "one") not in ("", plain)
    with pytest.raises(DataError, match=r"m\.json: anna has 1 rows x"):
        score(1, "two")
    with pytest.raises(ProblemsError, match=r"stats_metadata_file: found .*none\.json, which is not a file"):
        scoring_of((f"datamodule.stats_metadata_file={tmp_path / 'none.json'}",))


def test_slices_without_reference_may_be_left_out(tmp_path: Path):
    write_store(tmp_path / "store", "anna")
    store = Store.open(tmp_path / "store")
    (record,) = store.volumes
    assert np.asarray(store.mask(record.key)).any(axis=(1, 2)).all()
    write_mask(tmp_path / "masks" / "anna.nii.gz", anatomy())
    scoring = Scoring(Evaluation(include_empty_slices=False, qc_slices=0))
    result = score_store(tmp_path / "masks", tmp_path / "store", out=tmp_path / "out", scoring=scoring)
    assert {row["protocol"] for row in result.tables["slice"]} == {"masks+nonempty"}


COMMAND = """
import runpy, sys
sys.argv = ["eval.py", *sys.argv[2:]]
try:
    runpy.run_path(ROOT, run_name="__main__")
except SystemExit as end:
    print("code", end.code or 0)
print("torch", "torch" in sys.modules)
"""


def test_the_whole_command_does_without_torch(tmp_path: Path):
    write_store(tmp_path / "store", "anna")
    mask = write_mask(tmp_path / "masks" / "anna.nii.gz", thinner())
    program = COMMAND.replace("ROOT", repr(str(Path(__file__).parents[3] / "launch" / "eval.py")))
    for options in (
        ("--predictions", "masks", "--data", "store", "--set", "eval.qc_slices=1"),
        ("--reference", mask, "--prediction", mask, "--out", "pair"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", program, "-", *options], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.stdout.splitlines()[-2:] == ["code 0", "torch False"], done.stderr
        assert "plate" in done.stderr or options[0] == "--reference"


@pytest.mark.slow
def test_every_number_of_agreement_is_finite_on_phantom_knees(tmp_path: Path):
    """Four knees, each predicted as its reference moved by a pixel in a direction of its own."""
    prepare_phantom("knee", 6, 42, tmp_path / "store")
    store = Store.open(tmp_path / "store")
    records = store.split_volumes("train")
    assert len(records) >= 3
    for number, record in enumerate(records):
        mask = np.roll(np.asarray(store.mask(record.key)), (1, -1)[number % 2], axis=1 + number // 2 % 2)
        write_nifti(tmp_path / "masks" / f"{record.key.subject}.nii.gz", mask, record.geometry)
    result = score_store(
        tmp_path / "masks", tmp_path / "store", split="train", out=tmp_path / "out", scoring=NO_PICTURES
    )
    rows = read_csv(tmp_path / "out" / "biomarker_global.csv", TABLES["biomarker_global"])
    assert len(rows) == len(result.tables["biomarker_global"])
    main = [("cartilagethickness", "ThCcAB"), ("tissuevolume", "volume"), ("t2", "mean")]
    of_cartilage = [
        row for row in rows if "cartilage" in row["tissue"] and (row["biomarker"], row["definition"]) in main
    ]
    assert len({(row["tissue"], row["biomarker"]) for row in of_cartilage}) == 4 * 3
    for row in of_cartilage:
        assert row["n"] == len(records)
        # Beside the cartilage the phantom has no T2, so that moved masks hold some voxels without a value.
        assert row["reason"] == "" or (row["biomarker"] == "t2" and "valid_share below 0.9" in row["reason"])
        for column in TABLES["biomarker_global"].measures:
            assert column.kind == "text" or np.isfinite(row[column.name]), (row["tissue"], row["biomarker"], column)


def shifted(path: Path, mask: np.ndarray, columns: float) -> Path:
    affine = np.diag([*SPACING[::-1], 1.0])
    affine[0, 3] = columns * 0.5
    write_nifti(path, mask, Geometry.from_affine(mask.shape, affine))
    return path


@pytest.mark.parametrize(("columns", "inside"), [(4.5, 14 / 16), (8.5, 10 / 16), (-8.5, 10 / 16)])
def test_resampling_reports_the_share_of_the_mask_inside_the_grid(tmp_path: Path, capsys, columns, inside):
    # The labels take columns 2 to 17 of 20; shifted by 4.5 columns, those of 2 to 15 still lie inside (up to 19.5).
    reference = write_mask(tmp_path / "reader.nii.gz", anatomy())
    prediction = shifted(tmp_path / "model.nii.gz", anatomy(), columns)
    with pytest.raises(DataError, match="--resample"):
        score_pair(reference, prediction, out=tmp_path / "out")
    score_pair(reference, prediction, out=tmp_path / "out", scoring=Scoring(resample=True))
    assert f"resampled from another grid, {inside:.1%} of its labelled voxels lie inside" in capsys.readouterr().err
    assert read_json(tmp_path / "out" / "_SUCCESS")["share_inside"] == {"files/reader/model": pytest.approx(inside)}


@pytest.mark.parametrize(("columns", "inside"), [(10.5, "50%"), (11.5, "44%"), (40.5, "0%"), (-12.5, "38%")])
def test_resampling_refuses_grids_that_share_less_than_half_of_the_mask(tmp_path: Path, columns, inside):
    reference = write_mask(tmp_path / "reader.nii.gz", anatomy())
    prediction = shifted(tmp_path / "model.nii.gz", anatomy(), columns)
    if inside == "50%":
        score_pair(reference, prediction, out=tmp_path / "out", scoring=Scoring(resample=True))
        return
    with pytest.raises(DataError, match=rf"model\.nii\.gz: only {inside} of the labelled voxels .* needs 50%"):
        score_pair(reference, prediction, out=tmp_path / "out", scoring=Scoring(resample=True))


def test_a_grid_of_finer_voxels_has_its_share_in_voxels_of_the_mask():
    fine = Volume(np.ones((2, 4, 4), np.uint8), Geometry.axis_aligned((2, 4, 4), (1.0, 0.5, 0.5)))
    # Centres at 0, 0.5, 1 and 1.5 mm; the grid reaches from -0.5 to 1 mm (a voxel of 1 mm, one of 0.5 mm beside).
    assert share_inside(fine, Geometry.axis_aligned((2, 4, 1), (1.0, 0.5, 1.9))) == 0.5
    assert share_inside(Volume(np.zeros((2, 4, 4), np.uint8), fine.geometry), fine.geometry) == 1.0


@pytest.mark.parametrize("subject", ["patient (1)", "P#4", "P+3", "a=b,c", "100 %", "é"])
@pytest.mark.parametrize("name", ["{}", "{}__v1"])
def test_a_file_may_have_the_letters_of_its_subject(tmp_path: Path, subject: str, name: str):
    write_store(tmp_path / "store", subject, "other")
    write_mask(tmp_path / "masks" / f"{name.format(subject)}.nii.gz", anatomy())
    write_mask(tmp_path / "masks" / "other.nii.gz", anatomy())
    found = score_store(tmp_path / "masks", tmp_path / "store", out=tmp_path / "out", scoring=NO_PICTURES)
    assert {row["subject"] for row in found.tables["volume"]} == {subject, "other"}


def write_segments(path: Path, mask: np.ndarray, names: dict[int, str]) -> Path:
    header = {"space": "RAS", "space directions": np.diag(SPACING[::-1]), "encoding": "gzip"}
    for number, (label, name) in enumerate(names.items()):
        header |= {f"Segment{number}_Name": name, f"Segment{number}_LabelValue": str(label)}
    nrrd.write(str(path), mask.transpose(2, 1, 0), header, index_order="F")
    return path


def test_segments_of_a_prediction_are_the_labels_of_their_names(tmp_path: Path, capsys):
    write_store(tmp_path / "store", "anna")
    swapped = np.array([0, 2, 1], np.uint8)[anatomy()]
    (tmp_path / "masks").mkdir()
    write_segments(tmp_path / "masks" / "anna.seg.nrrd", swapped, {1: "bone", 2: "plate"})
    found = score_store(tmp_path / "masks", tmp_path / "store", out=tmp_path / "out", scoring=NO_PICTURES)
    assert {row["dice"] for row in found.tables["volume"]} == {1.0}
    note = "toy/anna/v1: labels follow the names of the segments: 1 -> 2 bone, 2 -> 1 plate"
    assert f"note: {note}" in capsys.readouterr().err
    assert read_json(tmp_path / "out" / "_SUCCESS")["notes"] == [note]


def test_two_files_whose_segments_have_other_values_need_a_label_table(tmp_path: Path):
    reference = write_segments(tmp_path / "a.seg.nrrd", anatomy(), {1: "plate", 2: "bone"})
    swapped = np.array([0, 2, 1], np.uint8)[anatomy()]
    prediction = write_segments(tmp_path / "b.seg.nrrd", swapped, {1: "bone", 2: "plate"})
    with pytest.raises(DataError, match=r"segment 'bone' has value 2 in the first and 1 in the second; .*--labels"):
        score_pair(reference, prediction, out=tmp_path / "out")
    (tmp_path / "labels.yaml").write_text("labels: {1: {name: plate}, 2: {name: bone}}\n")
    found = score_pair(reference, prediction, labels=tmp_path / "labels.yaml", out=tmp_path / "out")
    assert {row["dice"] for row in found.tables["volume"]} == {1.0}


@pytest.mark.parametrize(("believe", "mm3"), [("sform", 1.0), ("qform", 0.75), ("pixdim", 0.75)])
def test_what_is_believed_decides_the_volume_of_both_masks(tmp_path: Path, believe: str, mm3: float):
    image = nibabel.Nifti1Image(anatomy().transpose(2, 1, 0), np.diag([0.5, 0.5, 4.0, 1.0]))
    image.set_qform(np.diag([0.5, 0.5, 3.0, 1.0]), 1)
    nibabel.save(image, tmp_path / "a.nii.gz")
    with pytest.raises(DataError, match=r"a\.nii\.gz: sform and qform .* eval --believe"):
        score_pair(tmp_path / "a.nii.gz", tmp_path / "a.nii.gz", out=tmp_path / "out")
    scoring = Scoring(reading=Reading(believe=believe))
    found = score_pair(tmp_path / "a.nii.gz", tmp_path / "a.nii.gz", out=tmp_path / "out", scoring=scoring)
    volume = value(found.tables["volume"], label=1)
    assert volume["volume_reference_mm3"] == pytest.approx(volume["tp"] * mm3)


@pytest.mark.parametrize(("chosen", "slices"), [("auto", 6), ("axial", 6), ("coronal", 24), ("0", 20)])
def test_the_slice_axis_of_a_pair_may_be_chosen_and_is_part_of_its_identity(tmp_path: Path, chosen: str, slices: int):
    path = write_mask(tmp_path / "a.nii.gz", anatomy())
    scoring = Scoring(reading=Reading(slice_axis=chosen))
    found = score_pair(path, path, out=tmp_path / "out", scoring=scoring)
    assert value(found.tables["volume"], label=1)["num_slices"] == slices
    same = found.run == score_pair(path, path, out=tmp_path / "two").run
    assert same == (chosen == "auto")


def test_instances_of_a_store_are_counted_as_given(tmp_path: Path):
    ids = anatomy().astype(np.uint16)
    ids[:, 12:16, 2:10], ids[:, 12:16, 10:18] = 7, 1000  # the plate, in two halves that touch
    given = write_store(tmp_path / "given", "a", instances_zyx=ids, instances_min_mm3=2.5)
    plain = write_store(tmp_path / "plain", "a")
    write_mask(tmp_path / "masks" / "a.nii.gz", anatomy())
    for store, expected in ((given, [2, 1]), (plain, [1, 1])):
        rows = score_store(tmp_path / "masks", store.path, out=tmp_path / "out").tables["slice"]
        assert [row["num_instances"] for row in rows] == expected * 6
    assert given.record(VolumeKey("toy", "a", "v1")).instances_min_mm3 == 2.5
