"""Folders that are named side by side are told apart as folders below one would be."""

import pytest

from sam2ft.data.scan.found import FoundImage, FoundMask
from sam2ft.data.scan.kinds import mask_kind
from sam2ft.data.scan.pairing import paired_masks
from sam2ft.data.scan.plan import PlannedVolume, ScanPlan, _name_volumes
from sam2ft.data.scan.scanned import scanned
from sam2ft.data.scan.subjects import subjects_of
from tests.fixtures.messy import Place, frames, write_mask, write_patient, write_volume


def _case(folder, number):
    place = Place(0).geometry()
    write_volume(folder / "t1.nii.gz", frames(number, 1)[0], place)
    write_mask(folder / "segmentations/femur.nii.gz", place, (1,))


def _told(roots):
    scan = scanned(roots)
    subjects = subjects_of(scan.images, None, scan.masks, roots)
    pairing = paired_masks(scan.images, scan.masks, subjects)
    return subjects, {pair.mask.path: pair.subject for pair in pairing.pairs}


@pytest.mark.parametrize("names", [("case1", "case2"), ("kim", "lee", "ann"), ("P 4", "Łukasz", "b.c", "d")])
def test_folders_of_one_subject_each_are_the_subjects(tmp_path, names):
    """`sam2ft scan case*`: all lie on one grid, so that only the folder says whose a mask is."""
    for number, name in enumerate(names):
        _case(tmp_path / name, number)
    subjects, masks = _told([tmp_path / name for name in names])
    assert subjects.of_place == {tmp_path / name / "t1.nii.gz": name for name in names}
    assert masks == {tmp_path / name / "segmentations/femur.nii.gz": name for name in names}


@pytest.mark.parametrize("sites", [("siteA", "siteB"), ("x", "y", "z"), ("2019", "2020")])
def test_one_name_in_two_folders_is_two_subjects(tmp_path, sites):
    for number, site in enumerate(sites):
        for subject in ("001", "002"):
            _case(tmp_path / site / subject, 10 * number + int(subject))
    subjects, masks = _told([tmp_path / site for site in sites])
    expected = {tmp_path / site / name / "t1.nii.gz": f"{site}-{name}" for site in sites for name in ("001", "002")}
    assert subjects.of_place == expected
    assert {masks[path.parent / "segmentations/femur.nii.gz"]: name for path, name in expected.items()} == {
        name: name for name in expected.values()
    }


@pytest.mark.parametrize("folders", [("images", "masks"), ("a", "b"), ("in", "labels")])
def test_a_folder_of_masks_alone_is_no_subject(tmp_path, folders):
    images, masks = folders
    for number, name in enumerate(("kim", "lee")):
        write_volume(tmp_path / images / f"{name}.nii.gz", frames(number, 1)[0], Place(number).geometry())
        write_mask(tmp_path / masks / f"{name}.nii.gz", Place(number).geometry())
    subjects, found = _told([tmp_path / images, tmp_path / masks])
    assert subjects.names == ["kim", "lee"]
    assert {path.name: subject for path, subject in found.items()} == {"kim.nii.gz": "kim", "lee.nii.gz": "lee"}


@pytest.mark.parametrize("names", [("kim", "lee"), ("a b", "c", "d"), ("Łukasz", "Zoë")])
@pytest.mark.parametrize("apart", [False, True])
def test_files_named_by_persons_are_persons(tmp_path, names, apart):
    """By masks of their names, or by their places."""
    for number, name in enumerate(names):
        place = Place(number if apart else 0).geometry()
        write_volume(tmp_path / "images" / f"{name}.nii.gz", frames(number, 1)[0], place)
        write_mask(tmp_path / "masks" / (f"mask_{'xyz'[number]}.nii.gz" if apart else f"{name}_seg.nii.gz"), place)
    subjects, _ = _told([tmp_path])
    assert subjects.names == sorted(names)


@pytest.mark.parametrize("kinds", [("fat", "water"), ("in phase", "opposed"), ("a", "b", "c")])
def test_files_at_one_place_with_one_mask_are_of_one_person(tmp_path, kinds):
    for number, kind in enumerate(kinds):
        write_volume(tmp_path / "kim" / f"{kind}.nii.gz", frames(number, 1)[0], Place(0).geometry())
    write_mask(tmp_path / "kim" / "labels.nii.gz", Place(0).geometry())
    subjects, _ = _told([tmp_path])
    assert len(subjects.names) == 1


def test_kinds_of_images_and_one_person_are_no_subjects(tmp_path):
    for kind in ("T1", "T2"):
        for number, name in enumerate(("kim", "lee", "ann")):
            write_volume(tmp_path / kind / f"{name}.nii.gz", frames(number, 1)[0], Place(number).geometry())
    subjects, _ = _told([tmp_path / "T1", tmp_path / "T2"])
    assert subjects.names == ["ann", "kim", "lee"]
    write_patient(tmp_path / "one", 1)
    study = tmp_path / "one/study_202401"
    subjects, _ = _told([study / "SAG_PD", study / "COR"])
    assert len(subjects.names) == 1


def test_the_same_patient_in_two_folders_stays_one(tmp_path):
    write_patient(tmp_path / "a/P1", 1)
    write_patient(tmp_path / "a/P2", 2)
    write_patient(tmp_path / "b/P1", 3)
    subjects, _ = _told([tmp_path / "a", tmp_path / "b"])
    assert subjects.names == ["P1", "P2"]


@pytest.mark.parametrize(
    ("subject", "path", "kind"),
    [
        ("L", "femoral/L_mask.nii.gz", "femoral/*_mask.nii.gz"),
        ("1", "s/12_1.nii.gz", "s/12_*.nii.gz"),
        ("P01", "m/p01sag.nii.gz", "m/*sag.nii.gz"),
        ("kim", "Kimono/kim.nii.gz", "Kimono/*.nii.gz"),
        ("(x)", "(x)/a(x).nii.gz", "*/a*.nii.gz"),
    ],
)
def test_the_kind_of_a_mask_has_a_star_where_the_subject_is_named(tmp_path, subject, path, kind):
    mask = FoundMask(tmp_path / path, tmp_path, "NIfTI")
    assert mask_kind(mask, subject) == kind


@pytest.mark.parametrize("sides", [("L", "R"), ("left knee", "right knee"), ("visit1", "visit2", "visit3")])
def test_volumes_of_one_series_are_named_by_the_folders_that_tell_them_apart(tmp_path, sides):
    images = [
        FoundImage(tmp_path / "kim" / side / f"study{number}" / "SAG", tmp_path, "DICOM", (4, 4, 4), echo_ms=10.0)
        for number, side in enumerate(sides)
    ]
    plan = ScanPlan(volumes=[PlannedVolume("kim", "", image, ()) for image in images])
    _name_volumes(plan)
    assert [volume.volume for volume in plan.volumes] == [f"{side} SAG 10 ms" for side in sides]
    plan = ScanPlan(volumes=[PlannedVolume("kim", "", images[0], ()), PlannedVolume("kim", "", images[0], ())])
    _name_volumes(plan)
    assert [volume.volume for volume in plan.volumes] == ["SAG 10 ms", "SAG 10 ms 2"]
