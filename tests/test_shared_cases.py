"""Inputs that once went wrong: each does what the README of its case says is right."""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest

from sam2ft.config.load_dataset import load_dataset
from sam2ft.config.schema.evaluation import Evaluation
from sam2ft.core.errors import DataError
from sam2ft.core.files import read_json
from sam2ft.data.prepare.outcomes import PrepareOptions, PrepareSummary
from sam2ft.data.prepare.prepare import prepare_dataset
from sam2ft.data.samples.detections import num_fractions, read_detections
from sam2ft.data.store.store import Store, VolumeRecord
from sam2ft.evaluation.masks.score import score_pair, score_store
from sam2ft.evaluation.masks.settings import Scoring

pytestmark = pytest.mark.real
IN_PROCESS = PrepareOptions(isolated=False)
ELSEWHERE = {"checkpoints", "slurm_site_options", "full_disk"}
"""Cases of checkpoints, of sites of a cluster and of full disks, which have tests of their own."""


@dataclass(frozen=True)
class Case:
    """A copy of a case, whose paths are relative to it."""

    folder: Path

    def prepare(self, more: str = "", *, file: str = "ds.yaml", **replaced: str) -> PrepareSummary:
        """Prepare the case into `store`, with lines added to its dataset file, and texts of it replaced."""
        text = (self.folder / file).read_text(encoding="utf-8") + more
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        (self.folder / "changed.yaml").write_text(text)
        config = load_dataset(self.folder / "changed.yaml")
        return prepare_dataset(config, self.folder, self.folder / "store", lambda *_: None, IN_PROCESS)

    def refused(self, more: str = "") -> str:
        with pytest.raises(DataError) as caught:
            self.prepare(more)
        return str(caught.value)

    @property
    def volumes(self) -> list[VolumeRecord]:
        return list(Store.open(self.folder / "store").volumes)

    def map(self, name: str) -> np.ndarray:
        return np.load(next((self.folder / "store" / "volumes").glob(f"s1__image.map-{name}.npy")))

    def array(self, kind: str) -> np.ndarray:
        return np.load(next((self.folder / "store" / "volumes").glob(f"*.{kind}.npy")))

    def scored(self) -> dict[str, list[float]]:
        """Column of volume.csv -> its values, of the predictions against the store."""
        found = score_store(self.folder / "pred", self.folder / "store", out=self.folder / "ev", scoring=PLAIN)
        rows = found.tables["volume"]
        return {name: [row[name] for row in rows] for name in rows[0]}


PLAIN = Scoring(Evaluation.model_validate({"qc_slices": 0}))


@pytest.fixture
def case(request: pytest.FixtureRequest, shared_cases: Path, tmp_path: Path) -> Callable[[str], Case]:
    def copied(name: str) -> Case:
        shutil.copytree(shared_cases / name, tmp_path / name)
        return Case(tmp_path / name)

    return copied


Make = Callable[[str], Case]


def volume_mm3(one: Case) -> float:
    (record,) = one.volumes
    return float((one.array("mask") == 1).sum() * record.geometry.voxel_volume_mm3)


def test_every_case_is_tried(shared_cases: Path) -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    names = {path.name for path in shared_cases.iterdir() if path.is_dir()} - ELSEWHERE
    assert {name for name in names if f'"{name}"' not in text} == set()
    assert len(names) > 20


def test_a_mask_beside_its_image_by_a_part_of_a_voxel_is_taken_with_a_note(case: Make) -> None:
    one = case("affine_noise")
    (outcome,) = one.prepare().outcomes
    assert any("the mask lies up to 0.03 voxel beside the image" in note for note in outcome.notes)


def test_boxes_with_fractions_are_rounded_and_counted(case: Make) -> None:
    path = case("boxes_float").folder / "boxes.csv"
    one = case("units_micron")
    one.prepare()
    path.write_text(path.read_text().replace("\nt,image,0,one", "\ns1,image,0,a"))
    _, height, width = one.volumes[0].geometry.shape_zyx
    (boxes,) = read_detections(path, [Store.open(one.folder / "store")]).values()
    assert [tuple(box.box) for box in boxes] == [(5, 2, min(20, width - 1), min(13, height - 1))]
    assert num_fractions(path) == 1


def test_a_window_in_hounsfield_units_is_that_of_every_volume(case: Make) -> None:
    one = case("ct_window")
    one.prepare()
    (record,) = (one.folder / "store" / "volumes").glob("*.json")
    assert read_json(record)["window"] == [-160, 240]


def test_a_decimal_comma_is_refused_with_file_attribute_and_value(case: Make) -> None:
    assert re.search(
        r"s1/i000\.dcm: PixelSpacing is '0,5\\0,5'; allowed: 2 finite", case("dcm_decimal_comma").refused()
    )


def test_frames_without_positions_are_refused_with_ways_out_that_exist(case: Make) -> None:
    one = case("dcm_multiframe")
    message = one.refused()
    assert re.search(r"i000\.dcm: holds 8 frames.*believe: spacing.*NIfTI with dcm2niix", message)
    one.prepare("believe: spacing\n")
    (record,) = one.volumes
    assert record.geometry.shape_zyx[0] == 8


def test_files_without_preamble_are_read(case: Make) -> None:
    one = case("dcm_no_preamble")
    assert one.prepare().outcomes[0].result == "stored"
    assert one.volumes[0].geometry.shape_zyx[0] == 8


def test_an_echo_time_of_two_values_is_left_out_with_a_note(case: Make) -> None:
    one = case("dcm_te_range")
    (outcome,) = one.prepare().outcomes
    assert any(note.startswith("EchoTime is left out for 8 of 8 images") for note in outcome.notes)
    assert "TE" not in one.volumes[0].dicom


def test_uneven_gaps_have_one_distance_everywhere(case: Make) -> None:
    one = case("dcm_uneven_10pct")
    (outcome,) = one.prepare().outcomes
    assert any("slice distances vary from 3 to 3.29 mm" in note for note in outcome.notes)
    (record,) = one.volumes
    assert record.geometry.spacing_zyx_mm[0] == pytest.approx(3.116)
    assert np.linalg.norm(record.geometry.affine[:3, 2]) == pytest.approx(3.116)
    pair = score_pair(one.folder / "msk/s1.nii.gz", one.folder / "pred/s1.nii.gz", out=one.folder / "p", scoring=PLAIN)
    of_pair = [row["volume_reference_mm3"] for row in pair.tables["volume"]]
    assert one.scored()["volume_reference_mm3"] == pytest.approx([701.1], abs=0.05) == of_pair


@pytest.mark.parametrize("file", ["ds.yaml", "folder.yaml"])
def test_a_dicom_segmentation_is_a_mask_as_a_file_and_as_a_folder(case: Make, file: str) -> None:
    one = case("dicom_seg_mask")
    one.prepare(file=file)
    assert (one.array("mask") == 1).any()


def test_a_disc_is_8_mm_high_in_every_file_of_it(case: Make) -> None:
    one = case("disc_iso_ras")
    one.prepare()

    def heights(tables: object) -> list[float]:
        rows = tables["biomarker_volume"]  # type: ignore[index]
        return sorted({row["reference"] for row in rows if row["definition"] == "height_middle"})

    for name in ("ras", "sag", "sag09", "sag11"):
        path = one.folder / f"{name}.nii.gz"
        found = score_pair(path, path, out=one.folder / name, scoring=PLAIN)
        assert heights(found.tables) == pytest.approx([8.0], abs=0.5), name
    found = score_store(one.folder / "pred", one.folder / "store", out=one.folder / "ev", scoring=PLAIN)
    assert heights(found.tables) == pytest.approx([8.0], abs=0.1)


def test_a_subject_without_a_map_is_prepared_where_the_map_is_optional(case: Make) -> None:
    one = case("map_missing_for_some")
    refused = [outcome for outcome in one.prepare().outcomes if outcome.result == "refused"]
    assert [outcome.key.subject for outcome in refused] == ["s2"]
    assert "sources.maps.t2.optional: true prepares subjects without this map" in refused[0].reason
    optional = {'{t2: "t2/{subject}.nii.gz"}': '{t2: {file: "t2/{subject}.nii.gz", optional: true}}'}
    assert {outcome.result for outcome in one.prepare(**optional).outcomes} <= {"stored", "unchanged"}
    assert [record.key.subject for record in one.volumes] == ["s1", "s2"]


def test_metaimage_is_read(case: Make) -> None:
    one = case("mha")
    one.prepare()
    assert (one.array("mask") == 1).any()


def test_a_thin_single_slice_stays_one_slice(case: Make) -> None:
    one = case("nifti_xy1_thin")
    one.prepare()
    assert [record.geometry.shape_zyx for record in one.volumes] == [(1, 24, 20)]


def test_folds_of_nnunet_are_named_and_one_is_chosen(case: Make) -> None:
    one = case("nnunet_splits")
    assert "looks like the 2 folds of nnU-Net (a list); choose one with split.fold: 0 to 1" in one.refused()
    image = nibabel.load(one.folder / "img" / "003.nii.gz")  # of which the others are copies, a leak into val
    nibabel.save(nibabel.Nifti1Image(image.get_fdata() ** 2, image.affine), one.folder / "img" / "003.nii.gz")
    one.prepare(**{"{file: splits_final.json}": "{file: splits_final.json, fold: 1}"})
    splits = {record.key.subject: record.split for record in one.volumes}
    assert splits == {"001": "train", "002": "train", "003": "val"}


def test_an_empty_intercept_is_0_and_hinders_nobody(case: Make) -> None:
    one = case("one_bad_stops_all")
    assert {outcome.result for outcome in one.prepare().outcomes} == {"stored"}
    assert [record.key.subject for record in one.volumes] == ["s1", "s2", "s3"]


def test_predictions_are_found_by_the_plain_names_of_subjects(case: Make) -> None:
    one = case("paren_names")
    one.prepare()
    scored = one.scored()
    assert len(scored["dice"]) == 5
    assert set(scored["dice"]) == {1.0}
    assert scored["volume_reference_mm3"] == pytest.approx([162.0] * 5)


def test_a_segmentation_cropped_to_its_segments_is_padded(case: Make) -> None:
    one = case("segnrrd_cropped")
    (outcome,) = one.prepare().outcomes
    assert any("cropped to its segments" in note for note in outcome.notes)
    assert one.array("mask").shape == one.array("image").shape
    assert (one.array("mask") == 1).any()


def test_layers_of_segments_are_composed_by_the_names_of_labels(case: Make) -> None:
    one = case("segnrrd_layers")
    assert "2 segments have the value 1 in different layers, so that names decide" in one.refused()
    named = {"{1: {name: a}}": "{1: {name: cartilage}, 2: {name: meniscus}}"}
    one.prepare("overlaps: first\n", **named)
    assert {1, 2} <= set(np.unique(one.array("mask")).tolist())


@pytest.mark.parametrize(("believe", "distance"), [("sform", 0.8), ("qform", 0.6)])
def test_a_contradiction_of_sform_and_qform_is_decided_by_its_user(case: Make, believe: str, distance: float) -> None:
    one = case("sform_qform")
    assert re.search(r"sform and qform.*\(0\.5, 0\.5, 0\.8\) mm against \(0\.5, 0\.5, 0\.6\) mm", one.refused())
    one.prepare(f"believe: {believe}\n")
    assert one.volumes[0].geometry.spacing_zyx_mm[0] == pytest.approx(distance)


@pytest.mark.parametrize(
    ("name", "of", "wanted"),
    [
        ("t1rho_desc", "t1rho", 40),
        ("t2_nifti_echoes", "t2", 40),
        ("t2_philips_mild", "t2", 40),
        ("t2_separate_echo1", "t2", 40),
        ("t2_map_dicom_file", "t2", 40),
    ],
)
def test_times_of_maps_are_those_of_the_tissue(case: Make, name: str, of: str, wanted: float) -> None:
    one = case(name)
    one.prepare()
    assert np.nanmedian(one.map(of)) == pytest.approx(wanted, abs=0.5)


def test_a_map_in_seconds_needs_its_unit(case: Make) -> None:
    one = case("t2_map_seconds")
    assert re.search(r"the median of its positive values is 0\.04 ms.*sources\.maps\.t2\.unit", one.refused())
    one.prepare(**{'{t2: "map/{subject}.nii.gz"}': '{t2: {file: "map/{subject}.nii.gz", unit: s}}'})
    assert np.nanmedian(one.map("t2")) == pytest.approx(40)


def test_a_table_in_latin_1_is_refused_with_a_way_to_convert_it(case: Make) -> None:
    one = case("table_latin1")
    assert re.search(r"t\.csv:2: byte 0xf6 is not UTF-8.*iconv -f latin1", one.refused())
    text = (one.folder / "t.csv").read_text(encoding="latin-1")
    (one.folder / "t.csv").write_text(text, encoding="utf-8")
    one.prepare()
    assert [record.key.subject for record in one.volumes] == ["J\u00f6rg"]


def test_blanks_after_the_commas_of_a_table_are_no_part_of_names(case: Make) -> None:
    one = case("table_latin1")
    one.prepare(**{"images: t.csv": "images: t_space.csv"})
    assert [record.key.subject for record in one.volumes] == ["001"]


def test_touching_instances_stay_apart_where_ids_are_given(case: Make) -> None:
    one = case("touching_instances")
    one.prepare("instances: {source: as_given}\n")
    assert set(np.unique(one.array("instances")).tolist()) == {0, 1, 2, 3}
    scored = one.scored()
    assert [tp + fn for tp, fn in zip(scored["detection_tp"], scored["detection_fn"], strict=True)] == [3]


def test_lengths_in_micrometres_are_millimetres_in_the_store(case: Make) -> None:
    one = case("units_micron")
    one.prepare()
    assert one.volumes[0].geometry.spacing_zyx_mm == pytest.approx((3, 0.5, 0.5))
    assert volume_mm3(one) == pytest.approx(162)
