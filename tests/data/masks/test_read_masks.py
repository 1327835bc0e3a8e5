"""Every kind of mask of one subject gives the same stored label map."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np
import pydicom
import pytest
from PIL import Image

from sam2ft.config.load_dataset import load_dataset
from sam2ft.config.schema.dataset import Reading
from sam2ft.config.schema.series import SeriesChoice
from sam2ft.core.errors import DataError, ProblemsError
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.data.dicom.series import read_slices
from sam2ft.data.formats.declared_size import needed_bytes
from sam2ft.data.images.grids import Volume
from sam2ft.data.images.volumes import read_volume, write_nifti
from sam2ft.data.masks.coco import _decompressed
from sam2ft.data.masks.layers import Meaning
from sam2ft.data.masks.read_masks import read_placed_mask
from sam2ft.data.prepare.prepare import prepare_dataset
from sam2ft.data.store.store import Store
from sam2ft.phantom.dicom import DicomSeries, write_series

SHAPE = (5, 12, 10)
DATASET = """\
dataset: {{name: toy, anatomy: knee}}
sources: {{images: "{images}", masks: {masks}}}
labels: {{3: {{name: cartilage}}, 7: {{name: bone}}}}
split: {{train: 0.0, val: 0.0, test: 1.0}}
{more}
"""


def geometry() -> Geometry:
    affine = np.diag([0.4, 0.6, 2.5, 1.0])
    affine[:3, 3] = (-31.2, 14.7, 88.05)
    return Geometry.from_affine(SHAPE, affine)


def label_map() -> Any:
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[1, 2:5, 1:7] = 3
    mask[2, 6:11, 5:7] = 7
    mask[3, 0:2, 8:10], mask[3, 11, 0] = 7, 3
    return mask


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Subject s as a DICOM series and as one NIfTI file."""
    values = np.random.default_rng(0).integers(0, 900, size=SHAPE).astype(np.float32)
    write_series(tmp_path / "dicom" / "s", values[None], geometry(), DicomSeries("s", 4, "PD", seed=11))
    write_nifti(tmp_path / "nifti" / "s.nii.gz", values.astype(np.uint16), geometry())
    return tmp_path


def stored(folder: Path, masks: str, images: str = "nifti/{subject}.nii.gz", more: str = "") -> Any:
    (folder / "ds.yaml").write_text(DATASET.format(images=images, masks=masks, more=more))
    prepare_dataset(load_dataset(folder / "ds.yaml"), folder, folder / "store", lambda *_: None)
    return Store.open(folder / "store")


def mask_of(store: Store) -> Any:
    return np.asarray(store.mask(VolumeKey("toy", "s", "image")))


IMAGES = ["nifti/{subject}.nii.gz", "dicom/{subject}"]


@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("key", ["name", "id"])
@pytest.mark.parametrize("value", [1, 255, 7])
def test_one_file_per_label(folder: Path, images: str, key: str, value: int) -> None:
    for name, label in (("cart", 3), ("bone", 7)):
        write_nifti(folder / name / "s.nii.gz", (label_map() == label).astype(np.uint8) * value, geometry())
    names = {"name": ("cartilage", "bone"), "id": ('"3"', '"7"')}[key]
    masks = f'{{{names[0]}: "cart/{{subject}}.nii.gz", {names[1]}: "bone/{{subject}}.nii.gz"}}'
    assert np.array_equal(mask_of(stored(folder, masks, images)), label_map())


MASKS = '{cartilage: "cart/{subject}.nii.gz", bone: "bone/{subject}.nii.gz"}'


def test_wildcards_and_placeholders_find_one_file_per_label(folder: Path) -> None:
    (folder / "named").mkdir()
    (folder / "nifti" / "s.nii.gz").rename(folder / "named" / "left_s_2020.nii.gz")
    for name, value in (("cartilage", 3), ("bone", 7)):
        write_nifti(folder / "m" / f"s-left-{name}-v2.nii.gz", label_map() == value, geometry())
    masks = '{cartilage: "m/{subject}-{side}-cartilage-*.nii.gz", bone: "m/{subject}-{side}-bone-v?.nii.gz"}'
    images = "named/{side}_{subject}_*.nii.gz"
    assert np.array_equal(mask_of(stored(folder, masks, images)), label_map())
    write_nifti(folder / "m" / "s-left-bone-v3.nii.gz", label_map() == 7, geometry())
    with pytest.raises(DataError, match=r"is one of 2 that match m/\{subject\}-\{side\}-bone-v\?\.nii\.gz"):
        stored(folder, masks, images)


def test_a_table_lists_a_mask_for_each_label(folder: Path) -> None:
    for name, value in (("a", 3), ("b", 7)):
        write_nifti(folder / "m" / f"s_{name}.nii.gz", label_map() == value, geometry())
    table = "subject,image,mask_{},mask_bone\ns,nifti/s.nii.gz,m/s_a.nii.gz,m/s_b.nii.gz\n"
    for name in ("cartilage", "3"):
        (folder / "t.csv").write_text(table.format(name))
        assert np.array_equal(mask_of(stored(folder, "null", "t.csv")), label_map())
    (folder / "t.csv").write_text(table.format("cartilag"))
    with pytest.raises(DataError, match=r"t\.csv: column mask_cartilag: found .*did you mean cartilage"):
        stored(folder, "null", "t.csv")


def test_a_table_chooses_the_series_of_each_volume(folder: Path) -> None:
    values = np.random.default_rng(1).integers(0, 900, size=(2, *SHAPE)).astype(np.float32)
    both = DicomSeries("s", 5, "T2", seed=3, frames=({"EchoTime": 10.0}, {"EchoTime": 30.0}))
    write_series(folder / "echoes", values, geometry(), both)
    write_nifti(folder / "m.nii.gz", label_map(), geometry())
    lines = [f"s,echo{echo},echoes,m.nii.gz,{echo}" for echo in (10, 30)]
    (folder / "t.csv").write_text("\n".join(["subject,volume,image,mask,series.echo_ms", *lines]))
    whole = needed_bytes(folder / "echoes")
    store = stored(folder, "null", "t.csv", f"max_volume_gb: {0.6 * whole / 2**30}")
    for index, record in enumerate(store.volumes):
        assert set(record.dicom["TE"]) == {(10, 30)[index]}
        order = np.argsort(values[index].ravel(), kind="stable")
        assert (np.diff(store.image(record.key).ravel()[order].astype(int)) >= 0).all()
    (folder / "t.csv").write_text((folder / "t.csv").read_text().replace("m.nii.gz,10", "m.nii.gz,30"))
    changed = prepare_dataset(load_dataset(folder / "ds.yaml"), folder, folder / "store", lambda *_: None)
    assert [one.result for one in changed.outcomes] == ["stored", "unchanged"]
    assert {te for record in Store.open(folder / "store").volumes for te in record.dicom["TE"]} == {30}


def test_files_that_become_other_labels_are_prepared_again(folder: Path) -> None:
    for name, value in (("a", 3), ("b", 7)):
        write_nifti(folder / "m" / f"s_{name}.nii.gz", label_map() == value, geometry())
    masks = '{cartilage: "m/{subject}_a.nii.gz", bone: "m/{subject}_b.nii.gz"}'
    assert np.array_equal(mask_of(stored(folder, masks)), label_map())
    other = masks.replace("cartilage", "x").replace("bone", "cartilage").replace("x:", "bone:")
    swapped = np.select([label_map() == 3, label_map() == 7], [7, 3])
    assert np.array_equal(mask_of(stored(folder, other)), swapped)
    prepared = prepare_dataset(load_dataset(folder / "ds.yaml"), folder, folder / "store", lambda *_: None)
    assert [one.result for one in prepared.outcomes] == ["unchanged"]


def write_overlapping(folder: Path) -> None:
    bigger = label_map() == 3
    bigger[2, 6:8, 5:7] = True
    write_nifti(folder / "cart" / "s.nii.gz", bigger.astype(np.uint8), geometry())
    write_nifti(folder / "bone" / "s.nii.gz", (label_map() == 7).astype(np.uint8), geometry())


@pytest.mark.parametrize(("rule", "label"), [("first", 3), ("last", 7)])
def test_files_of_labels_that_overlap_follow_the_rule(folder: Path, rule: str, label: int) -> None:
    write_overlapping(folder)
    found = mask_of(stored(folder, MASKS, more=f"overlaps: {rule}"))
    assert (found[2, 6:8, 5:7] == label).all()
    assert np.array_equal(found == 3, label_map() == 3) == (label == 7)


def test_overlapping_files_are_refused_with_counts(folder: Path) -> None:
    write_overlapping(folder)
    with pytest.raises(DataError, match="4 voxels in both cartilage and bone; say which has them: overlaps: first"):
        stored(folder, MASKS)


def test_a_file_of_a_label_that_is_absent_or_holds_several_values_is_named(folder: Path) -> None:
    write_nifti(folder / "cart" / "s.nii.gz", label_map(), geometry())
    with pytest.raises(DataError, match=r"bone/s\.nii\.gz: no such file"):
        stored(folder, MASKS)
    write_nifti(folder / "bone" / "s.nii.gz", label_map(), geometry())
    with pytest.raises(DataError, match=r"cart/s\.nii\.gz: the mask holds the values 3, 7; a mask of one label"):
        stored(folder, MASKS)


@pytest.mark.parametrize(
    ("masks", "more", "message"),
    [
        ('{cartilag: "c/{subject}.nii"}', "", "cartilag.*did you mean.*cartilage"),
        ('{cartilage: "c/{subject}.nii", "3": "d/{subject}.nii"}', "", "given by name and by id"),
        ("{}", "", "is empty"),
        ('{cartilage: "c/x.nii"}', "", "a path with {subject}"),
        ('{cartilage: "c/{subject}.nii"}', "instances: {source: as_given}", "holds no ids of instances"),
        ('"c/{subject}.nii"', "overlaps: both", "overlaps"),
        ('"c/{subject}.nii"', "grid: {snap_mm: 0}", "snap_mm"),
        ('"c/{subject}.nii"', "grid: snap", "grid"),
        ('"c/{subject}.nii"', "segment_from: 0", "segment_from"),
    ],
)
def test_wrong_keys_are_named(folder: Path, masks: str, more: str, message: str) -> None:
    (folder / "ds.yaml").write_text(DATASET.format(images=IMAGES[0], masks=masks, more=more))
    with pytest.raises(ProblemsError, match=message):
        load_dataset(folder / "ds.yaml")


def test_the_defaults_are_in_no_fingerprint_and_a_choice_is(folder: Path) -> None:
    chosen = {"": {}, "grid: {snap_mm: 0.1}": {"grid": {"snap_mm": 0.1}}, "overlaps: last": {"overlaps": "last"}}
    for more, expected in chosen.items():
        (folder / "ds.yaml").write_text(DATASET.format(images=IMAGES[0], masks='"m/{subject}.nii"', more=more))
        conversion = load_dataset(folder / "ds.yaml").conversion
        assert {key: conversion[key] for key in ("grid", "overlaps", "segment_from") if key in conversion} == expected


def write_layers(path: Path, segments: list[tuple[str, int, Any]], crop: tuple[slice, ...] = ()) -> None:
    """A segmentation of 3D Slicer: (name, value, mask zyx) in a layer each, cut to `crop` (zyx)."""
    path.parent.mkdir(exist_ok=True)
    crop = crop or (slice(0, None),) * 3
    start = np.array([one.start for one in crop[::-1]])
    layers = np.stack([(mask[crop] * value).transpose(2, 1, 0) for _, value, mask in segments]).astype(np.uint8)
    to_lps = np.diag([-1, -1, 1, 1]) @ geometry().affine
    header: dict[str, Any] = {
        "space": "left-posterior-superior",
        "kinds": ["list", "domain", "domain", "domain"],
        "space directions": np.vstack([[np.nan] * 3, to_lps[:3, :3].T]),
        "space origin": to_lps[:3, :3] @ start + to_lps[:3, 3],
        "encoding": "gzip",
    }
    for number, (name, value, _) in enumerate(segments):
        header |= {f"Segment{number}_ID": f"Segment_{number}", f"Segment{number}_Name": name}
        header |= {f"Segment{number}_LabelValue": str(value), f"Segment{number}_Layer": str(number)}
    nrrd.write(str(path), layers, header)


@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("values", [(1, 1), (2, 1), (3, 7)])
@pytest.mark.parametrize(
    "crop", [(), (slice(1, 4), slice(0, 12), slice(0, 10)), (slice(1, 5), slice(0, 12), slice(0, 10))]
)
def test_layers_of_segments_by_their_names_cropped_or_not(folder: Path, images: str, values: Any, crop: Any) -> None:
    segments = [("Bone", values[1], label_map() == 7), ("cartilage", values[0], label_map() == 3)]
    write_layers(folder / "seg" / "s.seg.nrrd", segments, crop)
    assert np.array_equal(mask_of(stored(folder, '"seg/{subject}.seg.nrrd"', images)), label_map())


def test_layers_by_values_where_no_name_is_a_label(folder: Path) -> None:
    segments = [("a", 7, label_map() == 7), ("b", 3, label_map() == 3)]
    write_layers(folder / "seg" / "s.seg.nrrd", segments)
    assert np.array_equal(mask_of(stored(folder, '"seg/{subject}.seg.nrrd"')), label_map())
    write_layers(folder / "seg" / "s.seg.nrrd", [("a", 3, label_map() == 7), ("b", 3, label_map() == 3)])
    with pytest.raises(DataError, match=r"'a', 'b' is no label; give each label of the dataset file the name"):
        stored(folder, '"seg/{subject}.seg.nrrd"')


@pytest.mark.parametrize(("layer", "value"), [(0, 2), (1, 5), (1, 1)])
@pytest.mark.parametrize("more", ["", "labels_dropped: others"])
def test_voxels_of_no_segment_in_a_layer_are_not_lost(folder: Path, layer: int, value: int, more: str) -> None:
    """A value counts in the layer of its segment alone."""
    path = folder / "seg" / "s.seg.nrrd"
    write_layers(path, [("cartilage", 1, label_map() == 3), ("bone", 4, label_map() == 7)])
    assert np.array_equal(mask_of(stored(folder, '"seg/{subject}.seg.nrrd"')), label_map())
    layers, header = nrrd.read(str(path))
    layers[layer, :, 0, 4] = value
    nrrd.write(str(path), layers, header)
    with pytest.raises(DataError, match=rf"layer {layer} \(from 0\) holds {value} in 10 voxels, and no segment has"):
        stored(folder, '"seg/{subject}.seg.nrrd"', more=more)


def test_a_segment_in_a_layer_that_is_not_there_is_refused(folder: Path) -> None:
    path = folder / "seg" / "s.seg.nrrd"
    write_layers(path, [("a", 7, label_map() == 7), ("b", 3, label_map() == 3)])
    content = path.read_bytes().replace(b"Segment1_Layer:=1", b"Segment1_Layer:=5")
    path.write_bytes(content)
    with pytest.raises(DataError, match="a segment is in layer 5"):
        stored(folder, '"seg/{subject}.seg.nrrd"')


def dicom_names(folder: Path) -> list[str]:
    return [one.path.stem for one in read_slices(folder / "dicom" / "s")]


def instance_numbers(folder: Path) -> list[int]:
    series = read_slices(folder / "dicom" / "s", Reading(irregular="resample"))
    return [int(one.header.InstanceNumber) for one in series]


def names_of_slices(folder: Path, how: str) -> list[str]:
    return {
        "from 0": [f"slice_{index:02d}" for index in range(SHAPE[0])],
        "from 1": [f"s12_{index + 1}" for index in range(SHAPE[0])],
        "dicom names": dicom_names(folder),
        "instances": [f"scan7 {number}" for number in instance_numbers(folder)],
    }[how]


WAYS = [(IMAGES[0], "from 0"), (IMAGES[0], "from 1"), (IMAGES[1], "dicom names"), (IMAGES[1], "instances")]


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
@pytest.mark.parametrize(("images", "how"), WAYS)
def test_a_png_per_slice(folder: Path, images: str, how: str, mode: str) -> None:
    (folder / "png" / "s").mkdir(parents=True)
    for name, pixels in zip(names_of_slices(folder, how), label_map(), strict=True):
        picture = Image.fromarray(pixels.astype(np.uint16) if mode == "I;16" else pixels)
        if mode == "P":
            picture = Image.fromarray(pixels, mode="P")
            picture.putpalette([255, 0, 0, 0, 255, 0, 9, 9, 9, 200, 0, 0] * 4)
        picture.save(folder / "png" / "s" / f"{name}.png")
    assert np.array_equal(mask_of(stored(folder, '"png/{subject}"', images)), label_map())


@pytest.mark.parametrize("how", ["dicom names", "instances"])
@pytest.mark.parametrize("echo", [10, 30])
def test_a_png_per_slice_of_a_chosen_echo(folder: Path, how: str, echo: int) -> None:
    values = np.random.default_rng(1).integers(0, 900, size=(2, *SHAPE)).astype(np.float32)
    both = DicomSeries("s", 5, "T2", seed=3, frames=({"EchoTime": 10.0}, {"EchoTime": 30.0}))
    write_series(folder / "echoes" / "s", values, geometry(), both)
    chosen = read_slices(folder / "echoes" / "s", Reading(series=SeriesChoice(echo_ms=echo)))
    (folder / "png" / "s").mkdir(parents=True)
    for one, pixels in zip(chosen, label_map(), strict=True):
        name = one.path.stem if how == "dicom names" else f"mask {one.header.InstanceNumber}"
        Image.fromarray(pixels).save(folder / "png" / "s" / f"{name}.png")
    store = stored(folder, '"png/{subject}"', "echoes/{subject}", f"series: {{echo_ms: {echo}}}")
    assert np.array_equal(mask_of(store), label_map())
    with pytest.raises(DataError, match="neither the names of the PNG files are those of the files of the series"):
        stored(folder, '"png/{subject}"', "echoes/{subject}", f"series: {{echo_ms: {40 - echo}}}")


def test_a_png_per_slice_of_a_series_whose_slices_were_resampled(folder: Path) -> None:
    places = np.array([0, 2.5, 5, 9, 12.5])
    for path in (folder / "dicom" / "s").iterdir():
        header = pydicom.dcmread(path)
        index = round((header.ImagePositionPatient[2] - 88.05) / 2.5)
        header.ImagePositionPatient[2] = 88.05 + places[index]
        header.SliceLocation = header.ImagePositionPatient[2]
        del header.SpacingBetweenSlices
        header.save_as(path)
    (folder / "png" / "s").mkdir(parents=True)
    for number, pixels in zip(instance_numbers(folder), label_map(), strict=True):
        Image.fromarray(pixels).save(folder / "png" / "s" / f"{number}.png")
    store = stored(folder, '"png/{subject}"', IMAGES[1], "irregular: resample")
    nearest = [int(np.abs(places - at).argmin()) for at in np.linspace(0, 12.5, 5)]
    assert np.array_equal(mask_of(store), label_map()[nearest])


def write_pngs(folder: Path, change: Callable[[Path], None]) -> None:
    (folder / "png" / "s").mkdir(parents=True)
    for index, pixels in enumerate(label_map()):
        Image.fromarray(pixels).save(folder / "png" / "s" / f"{index}.png")
    change(folder / "png" / "s")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda png: (png / "4.png").unlink(), "holds 4 PNG files, but the image has 5 slices"),
        (lambda png: (png / "4.png").rename(png / "7.png"), "are not 0 to 4 or 1 to 5"),
        (lambda png: (png / "4.png").rename(png / "4.jpg"), "compressed with loss"),
        (lambda png: (png / "4.png").write_bytes(b"\x89PNG\r\n\x1a\nrest"), r"4\.png: not a readable PNG file"),
        (lambda png: Image.new("RGB", (10, 12)).save(png / "4.png"), r"4\.png: is a PNG with colours"),
        (lambda png: Image.new("L", (12, 10)).save(png / "4.png"), r"4\.png: has 10 x 12 pixels"),
    ],
)
def test_pictures_that_are_not_the_slices_are_refused(folder: Path, change: Any, message: str) -> None:
    write_pngs(folder, change)
    with pytest.raises(DataError, match=message):
        stored(folder, '"png/{subject}"')


def test_pictures_of_a_series_need_its_names_or_numbers(folder: Path) -> None:
    write_pngs(folder, lambda png: None)
    with pytest.raises(DataError, match="neither the names of the PNG files are those of the files of the series"):
        stored(folder, '"png/{subject}"', IMAGES[1])


def coco(folder: Path, how: str) -> dict[str, Any]:
    """Rectangles of both labels as polygons round the corners of their pixels, and one run length."""
    names = names_of_slices(folder, how)
    images = [{"id": 100 + z, "file_name": f"x/{name}.png", "height": 12, "width": 10} for z, name in enumerate(names)]
    boxes = [(1, 3, 2, 5, 1, 7), (2, 7, 6, 11, 5, 7), (3, 7, 0, 2, 8, 10)]
    annotations: list[dict[str, Any]] = [
        {"image_id": 100 + z, "category_id": label, "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]]}
        for z, label, y0, y1, x0, x1 in boxes
    ]
    annotations.append({"image_id": 103, "category_id": 3, "segmentation": {"size": [12, 10], "counts": [11, 1, 108]}})
    categories = [{"id": 3, "name": "Cartilage"}, {"id": 7, "name": "bone"}]
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.mark.parametrize(("images", "how"), [way for way in WAYS if way[1] != "instances"])
def test_polygons(folder: Path, images: str, how: str) -> None:
    (folder / "coco").mkdir()
    (folder / "coco" / "s.json").write_text(json.dumps(coco(folder, how)))
    assert np.array_equal(mask_of(stored(folder, '"coco/{subject}.json"', images)), label_map())


def instances_of(folder: Path, more: str = "", categories: tuple[str, str] = ("Cartilage", "bone")) -> Any:
    """(label map, ids of instances) of touching squares of one category, and one of another."""
    content = coco(folder, "from 0")
    squares = [(1, 3, 2, 5, 1, 4), (1, 3, 2, 5, 4, 7), (2, 3, 2, 5, 1, 4), (2, 7, 7, 9, 1, 4)]
    content["annotations"] = [
        {"image_id": 100 + z, "category_id": label, "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]]}
        for z, label, y0, y1, x0, x1 in squares
    ]
    if more:
        for annotation, track in zip(content["annotations"], (5, 6, 5, 5), strict=True):
            annotation["track_id"] = track
    for category, name in zip(content["categories"], categories, strict=True):
        category["name"] = name
    (folder / "coco").mkdir(exist_ok=True)
    (folder / "coco" / "s.json").write_text(json.dumps(content))
    store = stored(folder, '"coco/{subject}.json"', more="instances: {source: as_given}")
    ids = next((folder / "store" / "volumes").glob("*.instances.npy"))
    return mask_of(store), np.load(ids), squares


@pytest.mark.parametrize("categories", [("Cartilage", "bone"), ("x", "y")])
@pytest.mark.parametrize("more", ["", "tracks"])
def test_annotations_are_instances_where_ids_are_given(folder: Path, more: str, categories: tuple[str, str]) -> None:
    labels, ids, squares = instances_of(folder, more, categories)
    found = [(labels[z, y0:y1, x0:x1], ids[z, y0:y1, x0:x1]) for z, _, y0, y1, x0, x1 in squares]
    assert [set(np.unique(label).tolist()) for label, _ in found] == [{label} for _, label, *_ in squares]
    numbers = [np.unique(one).tolist() for _, one in found]
    assert all(len(one) == 1 and one[0] > 0 for one in numbers)
    first, second, third, other = (one[0] for one in numbers)
    assert first != second
    assert (first == third) is bool(more)
    assert len({first, second, third, other}) == (3 if more else 4)
    assert ((ids > 0) == (labels > 0)).all()
    assert (labels > 0).sum() == 3 * 9 + 6


def test_instances_of_annotations_that_overlap_are_refused_and_follow_the_rule(folder: Path) -> None:
    content = coco(folder, "from 0")
    content["annotations"] = [
        {"image_id": 101, "category_id": 3, "segmentation": [[x, 2, x + 4, 2, x + 4, 5, x, 5]]} for x in (1, 3)
    ]
    (folder / "coco").mkdir()
    (folder / "coco" / "s.json").write_text(json.dumps(content))
    given = "instances: {source: as_given}\n"
    with pytest.raises(DataError, match="segments overlap: 6 voxels in both"):
        stored(folder, '"coco/{subject}.json"', more=given)
    stored(folder, '"coco/{subject}.json"', more=given + "overlaps: first")
    ids = np.load(next((folder / "store" / "volumes").glob("*.instances.npy")))
    assert sorted(np.unique(ids, return_counts=True)[1].tolist()) == [6, 12, ids.size - 18]


def test_names_of_files_that_are_in_several_folders_name_no_slice(folder: Path) -> None:
    for index, path in enumerate(sorted((folder / "dicom" / "s").iterdir())):
        (folder / "dicom" / "s" / str(index)).mkdir()
        path.rename(folder / "dicom" / "s" / str(index) / "IM1")
    (folder / "coco").mkdir()
    content = coco(folder, "from 0")
    for image in content["images"]:
        image["file_name"] = "IM1"
    (folder / "coco" / "s.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="file_name of its images are not those of the files of the series"):
        stored(folder, '"coco/{subject}.json"', IMAGES[1])


def changed(content: Any, keys: list[Any], value: Any) -> Any:
    at = content
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = value
    return content


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["annotations", 0, "image_id"], 7, r"annotations\[0\]: image_id 7 is in no entry"),
        (["annotations", 1, "category_id"], 5, r"annotations\[1\]: category_id 5 is in no entry"),
        (["annotations", 1, "segmentation"], [[1, 2, 3]], "a list of x and y of three or more points"),
        (["annotations", 3, "segmentation", "counts"], "aXb", "do not cover the 12 x 10 pixels"),
        (["annotations", 3, "segmentation", "counts"], [11, 1], "do not cover the 12 x 10 pixels"),
        (["images", 2, "width"], 12, r"images\[2\]: is 12 x 12"),
        (["images", 2, "file_name"], "none.png", "file_name without a number"),
        (["images", 2, "file_name"], "9.png", "not known which slices"),
        (["images"], {}, "it needs the lists"),
    ],
)
def test_annotations_that_are_wrong_are_named(folder: Path, keys: Any, value: Any, message: str) -> None:
    (folder / "coco").mkdir()
    (folder / "coco" / "s.json").write_text(json.dumps(changed(coco(folder, "from 0"), keys, value)))
    with pytest.raises(DataError, match=message):
        stored(folder, '"coco/{subject}.json"')


def test_what_a_grid_policy_changed_is_noted_and_recorded(folder: Path) -> None:
    affine = geometry().affine
    affine[:3, 3] += (0.4 * 0.3, 0, 0)
    write_nifti(folder / "m" / "s.nii.gz", label_map(), Geometry.from_affine(SHAPE, affine))
    with pytest.raises(DataError, match=r"m/s\.nii\.gz: .*grid: \{snap_mm: 0\.12\}"):
        stored(folder, '"m/{subject}.nii.gz"')
    store = stored(folder, '"m/{subject}.nii.gz"', more="grid: {snap_mm: 0.12}")
    assert np.array_equal(mask_of(store), label_map())
    record = store.record(VolumeKey("toy", "s", "image")).stored
    assert record["mask_grid"] == {"policy": {"snap_mm": 0.12}, "shift_mm": pytest.approx(0.12, abs=1e-5)}


@pytest.mark.real
def test_a_map_on_the_grid_of_another_header(real_data: Path) -> None:
    """The two Dixon images: edges 1.018518 and 1.0185 mm, and an origin that one of them lacks."""
    fat, water = (read_volume(real_data / "dixon_muscle" / f"{name}.nii.gz") for name in ("fat", "water"))
    labels = real_data / "dixon_muscle" / "labels.nii.gz"
    table = Meaning()
    on_fat = read_placed_mask(labels, fat, meaning=table)
    assert on_fat.array_zyx.any()
    with pytest.raises(DataError, match="grid: trust-array"):
        read_placed_mask(labels, water)
    from sam2ft.config.schema.dataset import Reading

    trusted = read_placed_mask(labels, water, Reading(grid="trust-array"))
    given = np.asarray(nibabel.load(labels).dataobj)
    assert np.array_equal(trusted.array_zyx.transpose(2, 1, 0), given)
    assert isinstance(trusted, Volume)


@pytest.mark.parametrize("rule", ["refuse", "first", "last"])
@pytest.mark.parametrize("content", ["drawn", "empty"])
def test_one_file_is_not_the_mask_of_two_labels(folder: Path, rule: str, content: str) -> None:
    mask = (label_map() == 3) * np.uint8(content == "drawn")
    write_nifti(folder / "m" / "s.nii.gz", mask.astype(np.uint8), geometry())
    masks = '{cartilage: "m/{subject}.nii.gz", bone: "m/{subject}.nii.gz"}'
    with pytest.raises(DataError, match="is the mask of cartilage and of bone"):
        stored(folder, masks, more=f"overlaps: {rule}")


def text_of_runs(counts: list[int]) -> str:
    """Compressed run lengths as rleToString of cocoapi writes them."""
    text = ""
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + bits + 32 * more)
    return text


@pytest.mark.parametrize("density", [0.03, 0.5, 0.97])
def test_compressed_run_lengths_are_those_of_the_list(folder: Path, density: float) -> None:
    drawn = np.random.default_rng(8).random(SHAPE) < density
    content = coco(folder, "from 0")
    content["annotations"] = []
    for z in range(SHAPE[0]):
        flat = drawn[z].ravel(order="F")
        ends = np.flatnonzero(np.diff(flat)) + 1
        counts = np.diff([0, *([0] if flat[0] else []), *ends, flat.size]).tolist()
        runs = {"size": [12, 10], "counts": text_of_runs(counts)}
        content["annotations"].append({"image_id": 100 + z, "category_id": 3, "segmentation": runs})
    (folder / "coco").mkdir()
    (folder / "coco" / "s.json").write_text(json.dumps(content))
    assert np.array_equal(mask_of(stored(folder, '"coco/{subject}.json"')) == 3, drawn)


def test_a_text_of_run_lengths_by_cocoapi() -> None:
    """A mask of 3 x 3 whose middle column is drawn, and one with a long run."""
    assert _decompressed("333") == [3, 3, 3]
    assert _decompressed(text_of_runs([1000, 70, 3, 5000, 1])) == [1000, 70, 3, 5000, 1]
    assert [_decompressed(text) for text in ("é", " 3", "3Q")] == [None, None, None]


def with_annotation(folder: Path, *polygons: list[float], **more: Any) -> None:
    content = coco(folder, "from 0")
    content["annotations"].append({"image_id": 104, "category_id": 7, "segmentation": [*polygons], **more})
    (folder / "coco").mkdir(exist_ok=True)
    (folder / "coco" / "s.json").write_text(json.dumps(content))


@pytest.mark.parametrize("polygon", [[20, 1, 25, 1, 25, 5], [1, -9, 5, -9, 5, -2], [1, 14, 5, 14, 5, 18]])
def test_a_polygon_outside_of_its_slice_is_refused(folder: Path, polygon: list[float]) -> None:
    with_annotation(folder, polygon)
    with pytest.raises(DataError, match=r"annotations\[4\]: a polygon lies outside of the 12 x 10 pixels"):
        stored(folder, '"coco/{subject}.json"')


@pytest.mark.parametrize(
    ("polygons", "note"),
    [
        ([[7, 1, 14, 1, 14, 5, 7, 5]], "1 polygons reach over a pixel beyond their slice"),
        ([[1, 1, 9, 1, 9, 9, 1, 9], [3, 3, 5, 3, 5, 5]], "1 polygons lie in another one of their annotation"),
        ([[0, 0, 10.4, 0, 10.4, 12.3, 0, 12.3]], ""),
    ],
)
def test_what_polygons_lose_is_noted(folder: Path, polygons: list[list[float]], note: str) -> None:
    with_annotation(folder, *polygons)
    image = read_volume(folder / "nifti" / "s.nii.gz")
    notes = read_placed_mask(folder / "coco" / "s.json", image).notes
    assert any(note in one for one in notes) if note else len(notes) == 1


@pytest.mark.parametrize("crowd", [1, True])
def test_a_crowd_is_no_instance(folder: Path, crowd: Any) -> None:
    with_annotation(folder, [1, 1, 5, 1, 5, 5], iscrowd=crowd)
    stored(folder, '"coco/{subject}.json"')
    with pytest.raises(DataError, match=r"annotations\[4\]: is a crowd"):
        stored(folder, '"coco/{subject}.json"', more="instances: {source: as_given}")
