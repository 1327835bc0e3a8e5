"""Remedies for the files that a store is prepared from: images, masks, maps, tables, splits."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import SimpleITK
from pydicom.uid import generate_uid

from sam2ft.data.images.volumes import read_volume, write_nifti
from sam2ft.data.store.store import Store
from tests.fixtures.stores import _edit, _write_series
from tests.remedies.conftest import Raw
from tests.remedies.registry import remedy

AB = ["a", "b"]


def _nifti_raw(raw: Raw) -> None:
    """The raw folder with NIfTI images instead of series."""
    for subject in AB:
        volume = read_volume(raw.image(subject))
        write_nifti(Path("nifti") / f"{subject}.nii.gz", volume.array_zyx.astype(np.int16), volume.geometry)
    raw.settings("dicom/{subject}", "nifti/{subject}.nii.gz")


def _refused(raw: Raw, code: int = 3) -> str:
    """What prepare prints, in one line as it is compared with a message."""
    return " ".join(raw.prepare(code=code).split())


def _prepared(raw: Raw, *more: str) -> None:
    raw.prepare(*more)
    assert raw.whole() == AB


# --- DICOM series ---------------------------------------------------------------------------------------------------


def _header(raw: Raw, number: int = 0) -> pydicom.Dataset:
    return pydicom.dcmread(sorted(raw.image("b").iterdir())[number])


@remedy("give the folder that holds all slices of its series")
@remedy("name the folder of the series, not a file")
def one_file_of_a_series(raw: Raw) -> str:
    shown = ""
    for subject in AB:
        shutil.copy(raw.image(subject) / "001.dcm", raw.image(subject).with_suffix(".dat"))
        Path("other").mkdir(exist_ok=True)
        Path(f"other/{subject}.dcm").write_bytes(b"no DICOM")
    for pattern in ("dicom/{subject}/001.dcm", "dicom/{subject}.dat", "other/{subject}.dcm"):
        raw.settings("dicom/{subject}", pattern)
        shown += _refused(raw, 2)
    for path in Path("dicom").glob("*.dat"):
        path.unlink()
    raw.settings()
    _prepared(raw)
    return shown


@remedy("believe: orientation", of="which PixelSpacing contradicts")
@remedy("believe: positions", of="believe: positions, or believe: spacing")
@remedy("believe: spacing", of="believe: positions, or believe: spacing")
def headers_that_contradict_themselves(raw: Raw) -> str:
    shown = ""
    for values, words in (
        ({"ImageOrientationPatient": [1, 0, 0, 0, 2, 0]}, ("orientation",)),
        ({"SpacingBetweenSlices": 3.0}, ("positions", "spacing")),
    ):
        raw.edit("b", **values)
        shown += _refused(raw)
        for word in words:
            if word == "spacing":
                geometry = read_volume(raw.image("b"), reading=_reading(believe="spacing")).geometry
                write_nifti(raw.mask("b"), np.ones(geometry.shape_zyx, np.uint8), geometry)
            raw.settings(more=f"believe: {word}\n")
            _prepared(raw)
        raw.settings()
        shutil.rmtree(raw.image("b"))
        raw.add("b")
        shutil.rmtree("store")
    return shown


def _reading(**values: Any) -> Any:
    from sam2ft.config.schema.dataset import Reading

    return Reading(**values)


@dataclass(frozen=True)
class Series:
    """Attributes of all files of a series that are refused, and those that it is exported with again."""

    wrong: dict[str, Any]
    right: dict[str, Any]
    count: int = 5


@remedy(
    "export the series again with this attribute",
    case=(Series({"Rows": None}, {"Rows": 6}), Series({"PixelSpacing": None}, {"PixelSpacing": [0.5, 0.75]}),
          Series({"ImagePositionPatient": None}, {}),),
)  # fmt: skip
@remedy("export the series again with one of them", case=(Series({"SliceThickness": None}, {}, count=1),))
def an_attribute_that_is_missing(raw: Raw, case: tuple[Series, ...]) -> str:
    for one in case:
        raw.add("b", count=max(one.count, 4) if one.count > 1 else 5)
        if one.count == 1:
            for path in sorted(raw.image("b").iterdir())[1:]:
                path.unlink()
        whole = shutil.copytree(raw.image("b"), raw.folder / "whole", dirs_exist_ok=False)
        for path in raw.image("b").iterdir():
            header = pydicom.dcmread(path)
            for name in one.wrong:
                delattr(header, name)
            header.save_as(path, enforce_file_format=True)
        shown = _refused(raw)
        shutil.rmtree(raw.image("b"))
        shutil.move(whole, raw.image("b"))
        geometry = read_volume(raw.image("b")).geometry
        write_nifti(raw.mask("b"), np.ones(geometry.shape_zyx, np.uint8), geometry)
        _prepared(raw)
        shutil.rmtree("store")
    return shown


@remedy("keep one of them per folder")
def two_echoes_in_a_folder(raw: Raw) -> str:
    raw.settings(more="folders: strict\n")
    for path in sorted(raw.image("b").iterdir()):
        second = path.with_name(f"second-{path.name}")
        shutil.copy(path, second)
        _edit(second, EchoTime=30.0, SOPInstanceUID=generate_uid())
    shown = _refused(raw)
    for path in raw.image("b").glob("second-*"):
        path.unlink()
    _prepared(raw)
    return shown


@remedy("in the dataset file of launch/prepare.py")
def a_series_with_a_missing_slice(raw: Raw) -> str:
    sorted(raw.image("b").iterdir())[2].unlink()
    shown = _refused(raw)
    raw.settings(more="irregular: resample\n")
    geometry = read_volume(raw.image("b"), reading=_reading(irregular="resample")).geometry
    write_nifti(raw.mask("b"), np.ones(geometry.shape_zyx, np.uint8), geometry)
    _prepared(raw)
    return shown


def _resampled(path: Path, out: Path) -> None:
    """A series or file on an orthogonal grid, by SimpleITK."""
    image = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(path))) if path.is_dir() else (
        SimpleITK.ReadImage(str(path))
    )  # fmt: skip
    image.SetDirection(np.eye(3).ravel().tolist())
    SimpleITK.WriteImage(image, str(out))


@remedy("resample the series to an orthogonal grid")
def a_tilted_gantry(raw: Raw) -> str:
    def tilt(header: Any, z: int) -> None:
        header.ImagePositionPatient = [-10.0, -20.0 + z, 5.0 + 2 * z]

    shutil.rmtree(raw.image("b"))
    raw.image("b").parent.mkdir(exist_ok=True)
    _write_series(raw.image("b"), change=tilt)
    shown = _refused(raw)
    _write_series(raw.folder / "straight")
    for subject, folder in (("a", raw.image("a")), ("b", raw.folder / "straight")):
        Path("nifti").mkdir(exist_ok=True)
        _resampled(folder, Path("nifti") / f"{subject}.nii.gz")
    raw.settings("dicom/{subject}", "nifti/{subject}.nii.gz")
    _prepared(raw)
    return shown


@remedy("convert it to NIfTI with dcm2niix", of="^convert it to NIfTI with dcm2niix")
@remedy("give the .nii.gz file instead", of="^convert it to NIfTI with dcm2niix")
def a_file_of_several_frames(raw: Raw) -> str:
    write = Path("nifti")
    write.mkdir()
    for subject in AB:
        SimpleITK.WriteImage(
            SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(raw.image(subject)))),
            str(write / f"{subject}.nii.gz"),
        )
    _edit(sorted(raw.image("b").iterdir())[0], NumberOfFrames=2)
    shown = _refused(raw)
    raw.settings("dicom/{subject}", "nifti/{subject}.nii.gz")
    _prepared(raw)
    return shown


# --- damaged and foreign files --------------------------------------------------------------------------------------


@remedy("copy it again", of="damaged (CRC)")
@remedy("copy it again", of="it ends too early; copy it again")
@remedy("download it again", of="not a readable NIfTI file")
@remedy("name it {}")
def a_nifti_file_that_is_damaged(raw: Raw) -> str:
    _nifti_raw(raw)
    path, shown = Path("nifti/b.nii.gz"), ""
    whole = path.read_bytes()
    for content in (whole[:-8] + bytes(4) + whole[-4:], whole[: len(whole) // 2], b"<html>not found</html>", b""):
        path.write_bytes(content)
        shown += _refused(raw)
        path.write_bytes(whole)
        _prepared(raw)
        shutil.rmtree("store")
    import gzip

    path.write_bytes(gzip.decompress(whole))
    hint = _refused(raw)
    right = hint.partition("; name it ")[2].split()[0]
    assert right == ".nii"
    raw.settings("dicom/{subject}", "nifti/{subject}.nii")
    for subject in AB:
        content = (Path("nifti") / f"{subject}.nii.gz").read_bytes()
        (Path("nifti") / f"{subject}.nii").write_bytes(gzip.decompress(content) if subject == "a" else content)
    _prepared(raw)
    return shown + hint


@remedy("convert it: 3D Slicer")
def an_image_of_an_unknown_kind(raw: Raw) -> str:
    for subject in AB:
        volume = read_volume(raw.image(subject))
        image = SimpleITK.GetImageFromArray(volume.array_zyx.astype(np.int16))
        reference = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(raw.image(subject))))
        image.CopyInformation(reference)
        Path("vtk").mkdir(exist_ok=True)
        SimpleITK.WriteImage(image, f"vtk/{subject}.vtk")
    raw.settings("dicom/{subject}", "vtk/{subject}.vtk")
    shown = _refused(raw, 2)
    for subject in AB:
        line = next(part for part in shown.split("WriteImage(ReadImage('")[1:] if part.startswith(f"{subject}.vtk"))
        target = line.split("'")[2]
        # As a user runs it. In this process ITK's reader of VTK would leave the locale C, and thus ASCII, behind.
        code = f"from SimpleITK import *; WriteImage(ReadImage('{subject}.vtk'), '{target}')"
        subprocess.run([sys.executable, "-c", code], cwd="vtk", check=True)
    raw.settings("dicom/{subject}", f"vtk/{{subject}}{target[1:]}")
    _prepared(raw)
    return shown


def _spoil_nifti(path: Path, change: Callable[[Any], Any]) -> bytes:
    """Change the header of a NIfTI file; returns the file as it was."""
    before = path.read_bytes()
    image = nibabel.load(path)
    data = np.asarray(image.dataobj)
    made = change(nibabel.Nifti1Image(data, None, image.header))
    nibabel.save(made, path)
    return before


def _unplaced(image: Any) -> Any:
    image.header["sform_code"] = image.header["qform_code"] = 0
    made = nibabel.Nifti1Image(np.asarray(image.dataobj), None, image.header)
    made.header["sform_code"] = made.header["qform_code"] = 0
    return made


@remedy("copy the header of the image, e.g. in Python with SimpleITK: {}.CopyInformation")
@remedy("copy its header to the image, e.g. in Python with SimpleITK: image.CopyInformation")
def a_header_without_a_position(raw: Raw) -> str:
    _nifti_raw(raw)
    image, mask, shown = Path("nifti/b.nii.gz"), raw.mask("b"), ""
    for unplaced in (mask, image):
        whole = image.read_bytes(), mask.read_bytes()
        _spoil_nifti(unplaced, _unplaced)
        shown += _refused(raw)
        one, other = SimpleITK.ReadImage(str(image)), SimpleITK.ReadImage(str(mask))
        (other if unplaced is mask else one).CopyInformation(one if unplaced is mask else other)
        SimpleITK.WriteImage(other if unplaced is mask else one, str(unplaced))
        _prepared(raw)
        shutil.rmtree("store")
        image.write_bytes(whole[0])
        mask.write_bytes(whole[1])
    return shown


@remedy("say which is right: {}", of="^{}; say which is right: {}")
@remedy("{} in the dataset file, or eval --believe")
def affines_that_contradict_each_other(raw: Raw) -> str:
    _nifti_raw(raw)

    def shifted(image: Any) -> Any:
        affine = image.header.get_best_affine()
        image.set_sform(affine, 1)
        affine = affine.copy()
        affine[:3, 3] += 5
        image.set_qform(affine, 1)
        return image

    _spoil_nifti(Path("nifti/b.nii.gz"), shifted)
    shown = _refused(raw)
    for word in ("sform", "qform"):
        assert f"believe: {word}" in shown
        raw.settings("dicom/{subject}", "nifti/{subject}.nii.gz", more=f"believe: {word}\n")
        placed = read_volume(Path("nifti/b.nii.gz"), reading=_reading(believe=word)).geometry
        write_nifti(raw.mask("b"), np.ones(placed.shape_zyx, np.uint8), placed)
        _prepared(raw)
    return shown


@remedy("give the index of an axis, slice_axis: 0, 1 or 2", of="its header does not say how the axes lie")
def a_plane_of_an_image_without_a_position(raw: Raw) -> str:
    _nifti_raw(raw)
    for path in (Path("nifti/b.nii.gz"), raw.mask("b")):
        _spoil_nifti(path, _unplaced)
    raw.settings("dicom/{subject}", "nifti/{subject}.nii.gz", more="slice_axis: sagittal\n")
    shown = _refused(raw)
    for index in (0, 1, 2):
        raw.settings("dicom/{subject}", "nifti/{subject}.nii.gz", more=f"slice_axis: {index}\n")
        _prepared(raw)
    return shown


# --- sizes and limits -----------------------------------------------------------------------------------------------


@remedy("raise it with --max-volume-gb", of="if the header is right")
def a_volume_that_is_too_large(raw: Raw) -> str:
    raw.settings(more="max_volume_gb: 1e-7\n")
    shown = _refused(raw, 2)
    _prepared(raw, "--max-volume-gb", "1")
    raw.settings(more="max_volume_gb: 1\n")
    _prepared(raw)
    return shown


# --- splits ---------------------------------------------------------------------------------------------------------


def _split_file(raw: Raw, value: Any) -> None:
    Path("split.json").write_text(json.dumps(value))
    raw.settings("split: {train: 1, val: 0, test: 0}", "split: {file: split.json}")


@remedy("choose one with split.fold: 0 to {}", of="folds of nnU-Net")
def folds_of_nnunet(raw: Raw) -> str:
    folds = [{"train": ["a"], "val": ["b"]}, {"train": ["b"], "val": ["a"]}]
    _split_file(raw, folds)
    shown = _refused(raw, 2)
    for fold in (0, 1):
        raw.settings("split: {train: 1, val: 0, test: 0}", f"split: {{file: split.json, fold: {fold}}}")
        _prepared(raw)
    return shown


@remedy("leave split.fold out", of="and split.fold is {}")
def a_fold_of_what_has_none(raw: Raw) -> str:
    Path("split.json").write_text(json.dumps({"train": ["a"], "val": ["b"], "test": []}))
    raw.settings("split: {train: 1, val: 0, test: 0}", "split: {file: split.json, fold: 0}")
    shown = _refused(raw, 2)
    raw.settings("split: {train: 1, val: 0, test: 0}", "split: {file: split.json}")
    _prepared(raw)
    return shown


@remedy("write it in quotes")
def a_subject_that_is_a_number(raw: Raw) -> str:
    for subject, name in (("a", "007"), ("b", "12")):
        shutil.move(raw.image(subject), raw.image(name))
        shutil.move(raw.mask(subject), raw.mask(name))
    _split_file(raw, {"train": ["007", 12]})
    shown = _refused(raw, 2)
    _split_file(raw, {"train": ["007", "12"]})
    raw.prepare()
    assert raw.whole() == ["007", "12"]
    return shown


@remedy("prepare into a new folder to draw all again")
@remedy("name every subject in split.file")
def shares_that_the_stored_subjects_do_not_have(raw: Raw) -> str:
    for subject in "cdef":
        raw.add(subject)
    raw.prepare()
    half = ("split: {train: 1, val: 0, test: 0}", "split: {train: 0.5, val: 0.5, test: 0}")
    raw.settings(*half)
    shown = " ".join(raw.prepare().split())
    raw.prepare(out="new")
    assert sorted(record.split for record in Store.open(Path("new")).volumes) == ["train"] * 3 + ["val"] * 3
    _split_file(raw, {"train": ["a", "b", "c"], "val": ["d", "e", "f"]})
    raw.prepare()
    assert [record.split for record in Store.open(raw.store).volumes] == ["train"] * 3 + ["val"] * 3
    return shown


@remedy("name both one subject")
@remedy("list both in one split of split.file")
@remedy("remove one of them{}")
@remedy("if {} was renamed to {}, --prune removes the old one")
def the_same_image_in_two_splits(raw: Raw) -> str:
    def twins() -> None:
        for subject in ("a", "z"):
            shutil.copytree(raw.image("b"), raw.image(subject), dirs_exist_ok=True)
            shutil.copy(raw.mask("b"), raw.mask(subject))

    twins()
    shutil.rmtree(raw.image("b"))
    _split_file(raw, {"train": ["a"], "val": ["z"]})
    shown = _refused(raw)
    _split_file(raw, {"train": ["a", "z"]})
    raw.prepare()
    shutil.rmtree("store")
    _split_file(raw, {"train": ["a"]})
    shutil.rmtree(raw.image("z"))
    raw.prepare()
    assert raw.whole() == ["a"]
    # The image of a comes back under another name.
    shutil.move(raw.image("a"), raw.image("z"))
    _split_file(raw, {"train": ["a"], "val": ["z"]})
    shown += " ".join(raw.desk.run("launch/prepare.py ds.yaml --out store").text.split())
    raw.prepare("--prune", "--yes")
    assert raw.whole() == ["z"]
    shutil.rmtree("store")
    Path("table.csv").write_text("subject,volume,image,mask\na,1,dicom/z,masks/a.nii.gz\na,2,dicom/z,masks/z.nii.gz\n")
    raw.settings('{images: "dicom/{subject}", masks: "masks/{subject}.nii.gz"}', "{images: table.csv}")
    raw.prepare()
    assert raw.whole() == ["a", "a"]
    return shown


# --- masks and tables -----------------------------------------------------------------------------------------------


@remedy("export it as integers, without a scale")
def a_mask_of_fractions(raw: Raw) -> str:
    geometry = read_volume(raw.image("b")).geometry
    for values in (0.5, 0.3, 1.2):
        write_nifti(raw.mask("b"), np.full(geometry.shape_zyx, values, np.float32), geometry)
        shown = _refused(raw)
    write_nifti(raw.mask("b"), np.ones(geometry.shape_zyx, np.uint8), geometry)
    _prepared(raw)
    return shown


@remedy("give a table", of="can be read")
def names_that_can_be_read_in_two_ways(raw: Raw) -> str:
    for subject in AB:
        shutil.move(raw.image(subject), raw.image(f"{subject}_x_1"))
        shutil.move(raw.mask(subject), raw.mask(f"{subject}_x_1"))
    raw.settings('{subject}", masks: "masks/{subject}', '{subject}_{volume}", masks: "masks/{subject}_{volume}')
    shown = _refused(raw, 2)
    lines = [f"{subject},1,dicom/{subject}_x_1,masks/{subject}_x_1.nii.gz" for subject in AB]
    Path("table.csv").write_text("\n".join(["subject,volume,image,mask", *lines]) + "\n")
    raw.settings('{images: "dicom/{subject}", masks: "masks/{subject}.nii.gz"}', "{images: table.csv}")
    _prepared(raw)
    return shown


@remedy("save the table as UTF-8")
def a_table_in_latin_1(raw: Raw) -> str:
    text = "subject,image,mask\nä,dicom/a,masks/a.nii.gz\nb,dicom/b,masks/b.nii.gz\n"
    raw.settings('{images: "dicom/{subject}", masks: "masks/{subject}.nii.gz"}', "{images: table.csv}")
    Path("table.csv").write_bytes(text.encode("latin-1"))
    shown = _refused(raw, 2)
    command = shown.partition("from Latin-1: ")[2].rpartition(")")[0]
    import subprocess

    subprocess.run(command.replace("table.csv", str(Path("table.csv"))), shell=True, check=True)
    shutil.move("new.csv", "table.csv")
    assert Path("table.csv").read_text(encoding="utf-8") == text
    raw.prepare()
    assert raw.whole() == ["b", "ä"]
    return shown


@remedy("give a window in the unit of the images")
@remedy("widen intensity.clip_percentiles")
def a_window_that_holds_nothing(raw: Raw) -> str:
    shown = ""
    for wrong, right in (
        ("window: [-5000, -4000]", "window: [0, 400]"),
        ("clip_percentiles: [0, 0.001]", "clip_percentiles: [0, 99]"),
    ):
        geometry = read_volume(raw.image("b")).geometry
        raw.settings(more=f"intensity: {{{wrong}}}\n")
        if "clip" in wrong:
            for path in raw.image("b").iterdir():
                header = pydicom.dcmread(path)
                pixels = np.zeros((6, 8), "<u2")
                pixels[0, 0] = 100
                header.PixelData = pixels.tobytes()
                header.save_as(path, enforce_file_format=True)
        shown += " ".join(raw.desk.run("launch/prepare.py ds.yaml --out store").text.split())
        raw.settings(more=f"intensity: {{{right}}}\n")
        _prepared(raw)
        assert geometry.shape_zyx == (5, 6, 8)
    return shown


@remedy("give the labels of the dataset file the names of the segments")
@remedy("rename these")
def segments_of_other_names(raw: Raw) -> str:
    import nrrd

    def save(subject: str, name: str, value: int) -> None:
        volume = read_volume(raw.mask(subject))
        lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.geometry.affine
        header = {
            "space": "left-posterior-superior",
            "space directions": lps[:3, :3].T,
            "space origin": lps[:3, 3],
            "Segment0_ID": "s0",
            "Segment0_Name": name,
            "Segment0_LabelValue": str(value),
            "Segment0_Layer": "0",
            "Segment1_ID": "s1",
            "Segment1_Name": "odd",
            "Segment1_LabelValue": "2",
            "Segment1_Layer": "0",
        }
        values = (volume.array_zyx > 0).astype(np.uint8) * value
        values[0, 0, 0] = 2
        nrrd.write(f"masks/{subject}.seg.nrrd", values.transpose(2, 1, 0), header)

    for subject in AB:
        save(subject, "cartilage", 1)
    labels, before = "labels: {1: {name: cartilage}, 2: {name: bone}}", "labels: {1: {name: cartilage}}"
    segments = ('.nii.gz"}\n' + before, '.seg.nrrd"}\n' + labels)
    raw.settings(*segments)
    shown = _refused(raw, 2)
    raw.settings(segments[0], segments[1].replace("bone", "odd"))
    _prepared(raw)
    shutil.rmtree("store")
    raw.settings(*segments)
    for subject in AB:
        path = Path(f"masks/{subject}.seg.nrrd")
        path.write_bytes(path.read_bytes().replace(b"Segment1_Name:=odd", b"Segment1_Name:=bone"))
    _prepared(raw)
    return shown
