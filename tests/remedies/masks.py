"""Remedies of masks of other kinds: DICOM segmentations, pictures, polygons, channels, layers, files of one label."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from PIL import Image
from pydicom.uid import generate_uid

from sam2ft.data.dicom.series import read_slices
from sam2ft.data.export.source_series import write_segmentation
from sam2ft.data.images.volumes import read_volume, write_nifti
from sam2ft.data.store.store import Store
from tests.remedies.conftest import Raw
from tests.remedies.registry import remedy
from tests.remedies.sources import AB, _nifti_raw, _prepared, _refused

MASKS = "masks/{subject}.nii.gz"
BOTH = "labels: {1: {name: cartilage}, 2: {name: bone}}"


def _array(raw: Raw, subject: str) -> Any:
    return read_volume(raw.mask(subject)).array_zyx.astype(np.uint8)


def _again(raw: Raw) -> None:
    """Everything is prepared anew; nothing remains of the store."""
    shutil.rmtree("store", ignore_errors=True)
    _prepared(raw)


# --- DICOM segmentations --------------------------------------------------------------------------------------------


def _segmentations(raw: Raw) -> None:
    """Masks as sam2ft writes them; the first store is away."""
    if not Path("first").exists():
        for subject in AB:
            raw.edit(subject, FrameOfReferenceUID=generate_uid(), StudyInstanceUID=generate_uid())
        raw.settings()
        raw.prepare(out="first")
    store = Store.open(Path("first"))
    Path("seg").mkdir(exist_ok=True)
    for record in store.volumes:
        mask = np.asarray(store.mask(record.key))
        Path(f"seg/{record.key.subject}.dcm").unlink(missing_ok=True)
        write_segmentation(Path(f"seg/{record.key.subject}.dcm"), mask, store.labels, record, "x")
    raw.settings(MASKS, "seg/{subject}.dcm")


Header = Any


def _no_number(header: Header) -> None:
    del header.SegmentSequence[0].SegmentNumber


def _one_frame_more(header: Header) -> None:
    header.PerFrameFunctionalGroupsSequence.append(copy.deepcopy(header.PerFrameFunctionalGroupsSequence[0]))


def _no_segment(header: Header) -> None:
    del header.SharedFunctionalGroupsSequence[0].SegmentIdentificationSequence


def _other_segment(header: Header) -> None:
    shared = header.SharedFunctionalGroupsSequence[0]
    shared.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 9


def _swapped(header: Header) -> None:
    first, second = header.PerFrameFunctionalGroupsSequence[:2]
    first.DerivationImageSequence, second.DerivationImageSequence = (
        second.DerivationImageSequence,
        first.DerivationImageSequence,
    )


def _orientation(header: Header) -> None:
    shared = header.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 1, 0, 0]


def _fractional(header: Header) -> None:
    header.SegmentationType = "FRACTIONAL"


def _in_one_slice(header: Header) -> None:
    first, second = header.PerFrameFunctionalGroupsSequence[:2]
    second.PlanePositionSequence = first.PlanePositionSequence
    second.DerivationImageSequence = first.DerivationImageSequence


def _tiled(header: Header) -> None:
    header.DimensionOrganizationType = "TILED_FULL"


def _position(header: Header, moved: tuple[float, float, float]) -> None:
    place = header.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    place.ImagePositionPatient = [one + by for one, by in zip(place.ImagePositionPatient, moved, strict=True)]


def _aside(header: Header) -> None:
    _position(header, (5, 0, 0))


def _other_place(header: Header) -> None:
    header.FrameOfReferenceUID = generate_uid()


def _cut(header: Header) -> None:
    header.PixelData = header.PixelData[:2]


@remedy("export it again", of="^a segment has no SegmentNumber", case=_no_number)
@remedy("export it again", of="but describes another number of them", case=_one_frame_more)
@remedy("export it again", of="does not say which segment it is", case=_no_segment)
@remedy("export it again", of="which the file does not describe", case=_other_segment)
@remedy("export it again", of="drawn on an image that lies", case=_swapped)
@remedy("export it again", of="^its ImageOrientationPatient is not two orthogonal", case=_orientation)
@remedy("export it again", of="^its fractions exceed", case=_fractional)
@remedy("export it again", of="^two frames of one segment", case=_in_one_slice)
@remedy("export it again", of="^its frames are tiles", case=_tiled)
@remedy("export it again on the grid of its image", case=_aside)
@remedy("give the one that was drawn on this series", case=_other_place)
@remedy("export it uncompressed", of="^its pixels cannot be decoded", case=_cut)
def a_segmentation_that_is_damaged(raw: Raw, case: Callable[[Header], None]) -> str:
    _segmentations(raw)
    path = Path("seg/b.dcm")
    header = pydicom.dcmread(path)
    case(header)
    header.save_as(path)
    shown = _refused(raw)
    _segmentations(raw)
    _prepared(raw)
    return shown


@remedy("export it as NIfTI on the grid of its image", of="mm beside slices")
def frames_at_uneven_distances(raw: Raw) -> str:
    for subject in AB:
        mask = read_volume(raw.mask(subject))
        mask.array_zyx[3, 1:4, 2:5] = 1
        write_nifti(raw.mask(subject), mask.array_zyx.astype(np.uint8), mask.geometry)
    _segmentations(raw)
    header = pydicom.dcmread("seg/b.dcm")
    _position(header, (0, 0, 0.7))
    for one in header.PerFrameFunctionalGroupsSequence:
        del one.DerivationImageSequence
    header.save_as("seg/b.dcm")
    shown = _refused(raw)
    raw.settings()
    _prepared(raw)
    return shown


@remedy("export it as NIfTI on the grid of its image", of="whether slices without a frame lie between")
def frames_far_apart_without_a_distance(raw: Raw) -> str:
    _segmentations(raw)
    header = pydicom.dcmread("seg/b.dcm")
    measures = header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    if "SpacingBetweenSlices" in measures:
        del measures.SpacingBetweenSlices
    for number, one in enumerate(header.PerFrameFunctionalGroupsSequence):
        place = one.PlanePositionSequence[0].ImagePositionPatient
        place[2] = float(place[2]) + number * 5.43 * float(measures.SliceThickness)
        del one.DerivationImageSequence
    header.save_as("seg/b.dcm")
    shown = _refused(raw)
    raw.settings()
    _prepared(raw)
    return shown


# --- pictures and polygons ------------------------------------------------------------------------------------------


def _pictures(raw: Raw, names: Callable[[str], list[str]]) -> None:
    for subject in AB:
        folder = Path(f"png/{subject}")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, pixels in zip(names(subject), _array(raw, subject), strict=True):
            Image.fromarray(pixels).save(folder / f"{name}.png")


@remedy("rename them so", of="neither the names of the PNG files")
def pictures_of_a_series_with_other_names(raw: Raw) -> str:
    _pictures(raw, lambda _: [f"s{index + 70}" for index in range(5)])
    raw.settings(MASKS, "png/{subject}")
    shown = _refused(raw, 2)
    slices = {subject: read_slices(raw.image(subject)) for subject in AB}
    _pictures(raw, lambda subject: [one.path.stem for one in slices[subject]])
    _again(raw)
    _pictures(raw, lambda subject: [f"x {one.header.InstanceNumber}" for one in slices[subject]])
    _again(raw)
    return shown


@remedy("rename them so", of="the last numbers in the names")
@remedy("export it in the size of the image", of="pixels (rows x columns)")
@remedy("export the masks again", of="compressed with loss")
def pictures_of_a_file(raw: Raw) -> str:
    _nifti_raw(raw)
    raw.yaml.write_text(raw.yaml.read_text().replace(MASKS, "png/{subject}"))

    def right() -> None:
        _pictures(raw, lambda _: [f"slice {index}" for index in range(5)])

    right()
    Path("png/b/slice 4.png").rename("png/b/slice 7.png")
    shown = _refused(raw)
    right()
    Image.new("L", (3, 3)).save("png/b/slice 4.png")
    shown += _refused(raw)
    right()
    Path("png/b/slice 4.png").rename("png/b/slice 4.jpg")
    shown += _refused(raw)
    right()
    _again(raw)
    return shown


@remedy("leave slice_axis out", of="pictures are slices of the series")
@remedy("give the masks as NIfTI", of="pictures are slices of the series")
def pictures_of_a_series_that_is_cut_otherwise(raw: Raw) -> str:
    for subject in AB:
        folder = Path(f"png/{subject}")
        folder.mkdir(parents=True)
        for index in range(read_volume(raw.image(subject)).array_zyx.shape[1]):
            Image.new("L", (8, 5)).save(folder / f"{index}.png")
    raw.settings(MASKS, "png/{subject}", more="slice_axis: coronal\n")
    shown = _refused(raw, 2)
    raw.settings(more="slice_axis: coronal\n")
    _again(raw)
    slices = {subject: read_slices(raw.image(subject)) for subject in AB}
    _pictures(raw, lambda subject: [one.path.stem for one in slices[subject]])
    raw.settings(MASKS, "png/{subject}")
    _again(raw)
    return shown


def _polygons(raw: Raw, subject: str, names: list[str], segmentation: Any = None) -> None:
    depth, height, width = _array(raw, subject).shape
    square = [[2, 1, 5, 1, 5, 4, 2, 4]] if segmentation is None else segmentation
    content = {
        "images": [
            {"id": index, "file_name": name, "height": height, "width": width} for index, name in enumerate(names)
        ],
        "annotations": [{"image_id": index, "category_id": 1, "segmentation": square} for index in (1, 2)],
        "categories": [{"id": 1, "name": "cartilage"}],
    }
    assert depth == 5
    Path("coco").mkdir(exist_ok=True)
    Path(f"coco/{subject}.json").write_text(json.dumps(content))


@remedy("write them as the DICOM files are called", of="are not those of the files of the series")
def polygons_of_a_series_with_other_names(raw: Raw) -> str:
    for subject in AB:
        _polygons(raw, subject, [f"{index}.png" for index in range(5)])
    raw.settings(MASKS, "coco/{subject}.json")
    shown = _refused(raw, 2)
    for subject in AB:
        _polygons(raw, subject, [one.path.name for one in read_slices(raw.image(subject))])
    _prepared(raw)
    return shown


@remedy("list every slice in images")
def polygons_of_a_file(raw: Raw) -> str:
    _nifti_raw(raw)
    plain = raw.yaml.read_text()
    raw.yaml.write_text(plain.replace(MASKS, "coco/{subject}.json"))
    _polygons(raw, "a", [f"{index}.png" for index in range(5)])
    _polygons(raw, "b", [f"{index}.png" for index in range(3)])
    shown = _refused(raw)
    _polygons(raw, "b", [f"{index}.png" for index in range(5)])
    _again(raw)
    return shown


# --- layers, channels, files of one label ---------------------------------------------------------------------------


def _channels(raw: Raw, subject: str, second: Any) -> None:
    volume = read_volume(raw.mask(subject))
    first = volume.array_zyx.T.astype(np.uint8)
    affine = nibabel.load(raw.mask(subject)).affine
    Path("hot").mkdir(exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.stack([first, second(first)], axis=-1), affine), f"hot/{subject}.nii.gz")


@remedy("write probabilities or integers as a mask with one integer per voxel")
@remedy("choose one volume with mask_channel")
def channels_of_integers(raw: Raw) -> str:
    for subject in AB:
        _channels(raw, subject, lambda first: 4 * first)
    raw.settings(MASKS, "hot/{subject}.nii.gz")
    shown = _refused(raw, 2)
    raw.settings(MASKS, "hot/{subject}.nii.gz", more="mask_channel: 0\n")
    _again(raw)
    raw.settings()
    _again(raw)
    return shown


@remedy("say which has them: overlaps: first or overlaps: last in the dataset file, or eval --overlaps")
def channels_that_overlap(raw: Raw) -> str:
    for subject in AB:
        _channels(raw, subject, lambda first: first)
    text = raw.yaml.read_text().replace(MASKS, "hot/{subject}.nii.gz")
    text = text.replace("labels: {1: {name: cartilage}}", BOTH)
    raw.yaml.write_text(text)
    shown = _refused(raw, 2)
    for rule, label in (("first", 1), ("last", 2)):
        raw.yaml.write_text(f"{text}overlaps: {rule}\n")
        _again(raw)
        store = Store.open(Path("store"))
        assert {int(value) for one in store.volumes for value in np.unique(store.mask(one.key))} == {0, label}
    Path("labels.yaml").write_text(f"{BOTH}\n")
    command = f"launch/eval.py --reference {Path('hot/a.nii.gz')} --prediction hot/a.nii.gz --labels labels.yaml"
    assert "segments overlap" in raw.desk.run(command, "--out", "e1").text
    assert raw.desk.run(command, "--overlaps", "first", "--out", "e2").code == 0
    return shown


@remedy("write it so", of="a mask of one label holds 0 and one other value")
@remedy("give one file for all labels", of="a mask of one label holds 0 and one other value")
def a_mask_of_one_label_with_two_values(raw: Raw) -> str:
    for subject in AB:
        volume = read_volume(raw.mask(subject))
        array = volume.array_zyx.astype(np.uint8)
        array[3, 1, 1] = 2
        write_nifti(Path(f"both/{subject}.nii.gz"), array, volume.geometry)
    one = raw.yaml.read_text().replace("labels: {1: {name: cartilage}}", BOTH)
    raw.yaml.write_text(one.replace(f'"{MASKS}"', '{cartilage: "both/{subject}.nii.gz"}'))
    shown = _refused(raw, 2)
    raw.yaml.write_text(one.replace(f'"{MASKS}"', f'{{cartilage: "{MASKS}"}}'))
    _again(raw)
    raw.yaml.write_text(one.replace(MASKS, "both/{subject}.nii.gz"))
    _again(raw)
    return shown
