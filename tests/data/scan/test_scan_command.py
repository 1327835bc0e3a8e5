"""From a messy folder to a store: what is shown, what is written, and that it prepares as it is."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from sam2ft.core.errors import DataError, UserError
from sam2ft.data.store.store import Store
from tests.fixtures.messy import SHAPE, Place, frames, write_mask, write_messy, write_patient, write_volume


def subjects_in(store: str) -> list[str]:
    return sorted({volume.key.subject for volume in Store.open(Path(store)).volumes})


def test_three_commands_lead_from_a_messy_folder_to_a_store(command, in_folder):
    write_messy(in_folder)
    shown, told = command("scan knees --out knees.yaml --unpack unpacked")
    for words in ("6 subjects", "2 echoes 10–20 ms", "localizer"):
        assert words in " ".join(shown.split())
    assert "P05: no mask" in shown
    assert "sam2ft prepare knees.yaml --out data/knees" in told
    command("prepare knees.yaml --out data/knees")
    assert subjects_in("data/knees") == ["P01", "P02", "P03", "P04", "P06"]
    labels = {label.name for label in Store.open(Path("data/knees")).labels}
    assert labels == {"femoral cartilage", "tibial cartilage"}


def test_archives_of_one_name_in_two_folders_are_both_unpacked(command, in_folder):
    write_messy(in_folder)
    for site in ("north", "south"):
        (in_folder / site).mkdir()
        shutil.copy(in_folder / "knees/P06.zip", in_folder / site / "P07.zip")
    command("scan north south --unpack unpacked")
    assert {path.name for path in (in_folder / "unpacked").iterdir()} == {"north", "south"}
    assert all(any((in_folder / "unpacked" / site / "P07").rglob("*")) for site in ("north", "south"))


def test_the_first_echo_is_what_is_stored(command, in_folder):
    write_messy(in_folder)
    command("scan knees --out knees.yaml")
    command("prepare knees.yaml --out first")
    command("scan knees --series echo_ms=20 --out second.yaml")
    command("prepare second.yaml --out second")
    first, second = (Store.open(Path(store)).volumes[0].dicom["TE"] for store in ("first", "second"))
    assert set(first) == {10}
    assert set(second) == {20}


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal(command, in_folder, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    write_messy(in_folder)
    for options in ("knees", "knees --each"):
        assert max(map(len, command(f"scan {options}")[0].splitlines())) <= width


def test_a_regular_tree_gets_patterns(command, in_folder):
    for number in range(1, 4):
        write_patient(Path(f"knees/K{number}"), number, mask=Path(f"masks/K{number}.nii.gz"), echoes=1)
    command("scan knees masks --out knees.yaml")
    text = Path("knees.yaml").read_text()
    assert 'images: "knees/{subject}/*/SAG_PD"' in text.replace("study_*", "*")
    assert 'masks: "masks/{subject}.nii.gz"' in text
    assert not Path("knees.files.csv").exists()
    command("prepare knees.yaml --out store")
    assert subjects_in("store") == ["K1", "K2", "K3"]


def test_all_series_of_a_patient_in_one_folder_are_told_apart(command, in_folder):
    for number in range(1, 4):
        write_patient(Path(f"sorted/K{number}"), number, mask=Path(f"masks/K{number}.nii.gz"))
        heap = Path(f"knees/K{number}")
        heap.mkdir(parents=True)
        for place, path in enumerate(sorted(Path(f"sorted/K{number}").rglob("*.dcm"))):
            shutil.copy(path, heap / f"{place:04d}")
    shutil.rmtree("sorted")
    shown, _ = command("scan knees masks --out knees.yaml")
    assert "SAG PD FS" in shown
    assert "\nseries: {" in Path("knees.yaml").read_text()
    command("prepare knees.yaml --out store")
    volumes = list(Store.open(Path("store")).volumes)
    assert len(volumes) == 3
    assert {time for volume in volumes for time in volume.dicom["TE"]} == {10}


def test_files_without_ending_and_preamble_are_found(command, in_folder):
    write_messy(in_folder)
    for path in sorted(Path("knees").rglob("IM*.dcm")):
        header = pydicom.dcmread(path)
        path.unlink()
        header.preamble = None
        meta = header.file_meta
        header.file_meta = pydicom.dataset.FileMetaDataset()
        pydicom.dcmwrite(path.with_suffix(""), header, implicit_vr=False, little_endian=True, enforce_file_format=False)
        assert meta
    command("scan knees --out knees.yaml")
    command("prepare knees.yaml --out store")
    assert subjects_in("store") == ["P01", "P02", "P03", "P04"]


def test_one_file_per_label_is_seen(command, in_folder):
    for number in range(1, 4):
        write_patient(Path(f"knees/K{number}"), number)
        for place, name in enumerate(("femur", "tibia")):
            empty = np.zeros(SHAPE, dtype=np.uint8)
            empty[1:4, 4 + 8 * place : 9 + 8 * place, 3:9] = 1
            write_volume(Path(f"knees/K{number}/seg/{name}.nii.gz"), empty, Place(number).geometry())
    command("scan knees --out knees.yaml")
    command("prepare knees.yaml --out store")
    store = Store.open(Path("store"))
    assert [label.name for label in store.labels] == ["femur", "tibia"]
    assert set(np.unique(store.mask(store.volumes[0].key))) == {0, 1, 2}


def test_two_readers_of_one_structure_are_not_two_labels(command, in_folder):
    for number in range(1, 4):
        write_patient(Path(f"knees/K{number}"), number)
        for reader in ("anna", "bert"):
            write_mask(Path(f"knees/K{number}/seg_{reader}.nii.gz"), Place(number).geometry(), (1,))
    shown, _ = command("scan knees --out knees.yaml")
    assert "2 masks fit the image; */seg_anna.nii.gz is taken" in " ".join(shown.split())
    command("prepare knees.yaml --out store")
    assert [label.id for label in Store.open(Path("store")).labels] == [1]


def test_images_and_masks_as_files_are_told_apart_by_content(command, in_folder):
    for number in range(1, 4):
        geometry = Place(number).geometry()
        write_volume(Path(f"study/{number:03d}_t1.nii.gz"), frames(number, 1)[0].astype(np.int16), geometry)
        write_mask(Path(f"study/{number:03d}_done.mha"), geometry)
    command("scan study --out study.yaml")
    command("prepare study.yaml --out store")
    assert subjects_in("store") == ["001", "002", "003"]


def test_json_and_csv_hold_a_row_per_series_and_echo(command, in_folder):
    write_messy(in_folder)
    found = json.loads(command("scan knees --json")[0])
    rows = list(csv.DictReader(io.StringIO(command("scan knees --csv")[0])))
    assert len(found["images"]) == len(rows) == 20
    assert {row["used"] for row in rows if row["description"] == "COR T1"} == {"0"}
    assert [volume["subject"] for volume in found["volumes"]] == ["P01", "P02", "P03", "P04"]


def test_no_name_of_a_patient_is_shown_or_written(command, in_folder):
    write_messy(in_folder)
    shown = [*command("scan knees --out knees.yaml --each"), *command("scan knees --json")]
    shown += [Path("knees.yaml").read_text(), Path("knees.files.csv").read_text()]
    assert "Invented" not in "".join(shown)
    assert "MRN" not in "".join(shown)


def test_hash_shows_numbers_and_stores_hashes(command, in_folder):
    write_messy(in_folder)
    shown = "".join(command("scan knees --hash --each --out knees.yaml"))
    assert "P01" not in shown
    assert "subject 1" in shown
    command("prepare knees.yaml --out store")
    assert all(name.startswith("s-") for name in subjects_in("store"))


def test_a_file_that_is_there_is_kept_without_force(command, in_folder):
    write_messy(in_folder)
    Path("knees.yaml").write_text("mine")
    with pytest.raises(DataError, match="--force"):
        command("scan knees --out knees.yaml")
    assert Path("knees.yaml").read_text() == "mine"
    command("scan knees --out knees.yaml --force")
    assert "sources:" in Path("knees.yaml").read_text()


def test_without_masks_nothing_is_written(command, in_folder):
    write_patient(Path("knees/P1"), 1)
    with pytest.raises(DataError, match="name the folder of the masks too"):
        command("scan knees --out knees.yaml")
    assert not Path("knees.yaml").exists()
    write_mask(Path("masks/P1.nii.gz"), Place(1).geometry())
    command("scan knees masks --out knees.yaml")
    command("prepare knees.yaml --out store")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--series number=x", "number is x"),
        ("--series plane=oblique", "plane is oblique"),
        ("--series a --series b", "given twice"),
        ("--series nothing_like_it", "none of the images fits"),
    ],
)
def test_a_choice_that_means_nothing_is_refused(command, in_folder, options, message):
    write_messy(in_folder)
    with pytest.raises(UserError, match=message):
        command(f"scan knees {options}")


def test_a_heap_of_two_persons_is_told_and_not_guessed(command, in_folder):
    for number in (1, 2):
        write_patient(Path(f"sorted/K{number}"), number, mask=Path(f"masks/K{number}.nii.gz"))
    Path("heap").mkdir()
    for place, path in enumerate(sorted(Path("sorted").rglob("*.dcm"))):
        shutil.copy(path, Path("heap") / f"{place:04d}")
    shown = " ".join(command("scan heap masks")[0].split())
    assert "2 persons by PatientID are taken as one subject" in shown
    assert "holds images that no key of series tells apart" in shown


def test_sites_with_equal_names_are_other_subjects(command, in_folder):
    for number, place in enumerate(("A/001", "A/002", "B/001", "B/002"), start=1):
        write_patient(Path(f"sites/{place}"), number, mask=Path(f"sites/{place}/seg.nii.gz"))
        for path in Path(f"sites/{place}").rglob("*.dcm"):
            header = pydicom.dcmread(path)
            header.PatientID = place
            header.save_as(path)
    command("scan sites --out sites.yaml")
    command("prepare sites.yaml --out store")
    assert subjects_in("store") == ["A-001", "A-002", "B-001", "B-002"]


def test_names_that_are_patterns_and_texts_that_are_yaml_change_nothing(command, in_folder):
    names = ["Müller [links] {a}", "O'Neil, x", "über*"]
    for number, name in enumerate(names):
        write_patient(Path(f"odd/{name}"), number, mask=Path(f"odd/{name}/mask.nii.gz"))
    for path in Path("odd").rglob("SAG_PD/*.dcm"):
        header = pydicom.dcmread(path)
        header.SeriesDescription = 'a"}: {b: [1\nlabels: x # \x1b[31m*'
        header.save_as(path)
    shown, _ = command("scan odd --out odd.yaml")
    assert "\x1b" not in shown
    assert "\x1b" not in Path("odd.yaml").read_text()
    command("prepare odd.yaml --out store")
    assert subjects_in("store") == sorted(names)


def test_a_repeated_series_is_chosen_by_the_rule_and_said(command, in_folder):
    for number in (1, 2):
        write_patient(Path(f"dup/K{number}"), number, mask=Path(f"dup/K{number}/seg.nii.gz"), echoes=1)
        first = next(Path(f"dup/K{number}").rglob("SAG_PD"))
        again = first.with_name("AGAIN")
        again.mkdir()
        for path in first.iterdir():
            header = pydicom.dcmread(path)
            header.SeriesInstanceUID, header.SeriesNumber = f"1.2.{number}", 7
            header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = (
                f"1.3.{number}.{header.InstanceNumber}"
            )
            header.save_as(again / path.name)
    shown, _ = command("scan dup --out dup.yaml")
    assert "2 images fit the mask; " in shown
    assert "AGAIN" in shown
    command("scan dup --series number=7 --out seven.yaml")
    assert "AGAIN" in Path("seven.yaml").read_text()
    command("prepare seven.yaml --out store")


def test_masks_beside_every_grid_are_left_out_with_the_reason(command, in_folder):
    for number in (1, 2, 3):
        write_patient(Path(f"knees/K{number}"), number)
        write_mask(Path(f"knees/K{number}/seg.nii.gz"), Place(number if number < 3 else 30).geometry())
    shown, _ = command("scan knees --out knees.yaml")
    assert "knees/K3/seg.nii.gz: on the grid of none of the 4 images of K3" in shown
    command("prepare knees.yaml --out store")
    assert subjects_in("store") == ["K1", "K2"]
