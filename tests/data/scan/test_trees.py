"""Trees that go in circles, are closed, damaged or empty end no scan; everything is counted."""

import os
import shutil

import pydicom
import pytest

from sam2ft.core.errors import DataError
from sam2ft.data.scan.scanned import scanned
from sam2ft.data.scan.walk import walked
from tests.fixtures.messy import Place, write_mask, write_messy, write_patient


def test_links_that_lead_back_and_nowhere_are_told(tmp_path):
    write_patient(tmp_path / "P1", 1)
    (tmp_path / "P1/again").symlink_to(tmp_path)
    (tmp_path / "lost.nii.gz").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop").symlink_to("loop")
    found = walked(tmp_path)
    assert [reason for _, reason in found.left_out] == ["a link to a folder that was looked through already"]
    assert {path.name for path, _ in found.unreadable} == {"lost.nii.gz", "loop"}
    assert len(set(found.folders)) == len(found.folders)


def test_a_closed_folder_is_told_and_the_others_are_found(tmp_path, monkeypatch):
    write_patient(tmp_path / "P1", 1)
    closed = tmp_path / "closed"
    closed.mkdir()
    listdir = os.listdir

    def refuses(path):
        if path == closed:
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuses)
    found = scanned([tmp_path])
    assert set(found.unreadable) == {(closed, "Permission denied")}
    assert len(found.images) == 4


def test_special_files_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.dcm")
    os.mkfifo(tmp_path / "pipe")
    found = scanned([tmp_path])
    assert {path.name for path, _ in found.unreadable} == {"pipe.dcm", "pipe"}


def test_a_store_is_not_looked_into(tmp_path):
    write_patient(tmp_path / "P1", 1)
    (tmp_path / "store").mkdir()
    (tmp_path / "store/store.json").write_text("{}")
    write_mask(tmp_path / "store/mask.nii.gz", Place(1).geometry())
    found = scanned([tmp_path])
    assert found.masks == []
    assert [(path.name, why) for path, why in found.left_out] == [("store", "a prepared store")]


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "no_position", "header_only"])
def test_a_damaged_image_is_counted_and_the_others_are_found(tmp_path, damage):
    write_patient(tmp_path / "P1", 1)
    path = sorted((tmp_path / "P1").rglob("SAG_PD/*.dcm"))[2]
    if damage == "no_position":
        header = pydicom.dcmread(path)
        del header.ImagePositionPatient
        header.save_as(path)
    else:
        content = path.read_bytes()
        garbage = content[:132] + b"\xff" * 300
        path.write_bytes({"cut": content[:200], "garbage": garbage, "empty": b"", "header_only": content[:400]}[damage])
    found = scanned([tmp_path])
    known = [one for one, _ in found.unreadable] + found.stray
    assert path in known
    assert {image.description for image in found.images} == {"SAG PD FS", "COR T1", "3-plane loc"}


def test_a_scan_opens_no_file_for_writing(tmp_path):
    knees = write_messy(tmp_path)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in knees.rglob("*")}
    scanned([knees])
    assert before == {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in knees.rglob("*")}


@pytest.mark.parametrize("what", ["absent", "file", "empty"])
def test_what_is_no_folder_is_refused(tmp_path, what):
    path = tmp_path / what
    if what == "empty":
        path.mkdir()
        assert scanned([path]).images == []
        return
    if what == "file":
        path.write_text("x")
    with pytest.raises(DataError, match="give the folder that holds"):
        scanned([path])


def test_a_copied_image_counts_once(tmp_path):
    write_patient(tmp_path / "P1", 1)
    series = next((tmp_path / "P1").rglob("COR"))
    first = sorted(series.iterdir())[0]
    shutil.copy(first, series / "copy.dcm")
    found = scanned([tmp_path])
    assert found.copies == 1
    assert next(image for image in found.images if image.description == "COR T1").shape[2] == 6


def test_a_dicomdir_that_lists_missing_files_is_told(tmp_path):
    from pydicom.fileset import FileSet

    write_patient(tmp_path / "raw/P1", 1)
    files = FileSet()
    for place, path in enumerate(sorted((tmp_path / "raw").rglob("*.dcm"))):
        header = pydicom.dcmread(path)
        header.StudyID, header.StudyTime, header.AccessionNumber = "1", "120000", ""
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{place + 1}"
        files.add(header)
    files.write(tmp_path / "media")
    found = scanned([tmp_path / "media"])
    assert found.others["DICOMDIR"] == 1
    assert found.notes == []
    next(path for path in (tmp_path / "media").rglob("*") if path.is_file() and path.name != "DICOMDIR").unlink()
    (note,) = scanned([tmp_path / "media"]).notes
    assert "1 are not there" in note
