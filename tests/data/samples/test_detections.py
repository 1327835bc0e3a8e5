"""Boxes of a detector: what a file may hold, and whose each box is."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam2ft.core.errors import DataError
from sam2ft.core.keys import SliceKey
from sam2ft.core.prompts import Box
from sam2ft.data.samples.detections import (
    DetectedBox,
    box_iou,
    boxes_per_label,
    matched_boxes,
    num_fractions,
    read_detections,
)
from sam2ft.data.samples.instances import instances_of
from sam2ft.data.store.store import Store

HEADER = "subject,volume,slice,label,x0,y0,x1,y1\n"


@pytest.fixture
def shape(store: Store) -> tuple[int, ...]:
    return store.volumes[0].geometry.shape_zyx


def file_of(folder: Path, *lines: str, header: str = HEADER, name: str = "boxes.csv") -> Path:
    path = folder / name
    path.write_text(header + "".join(f"{line}\n" for line in lines))
    return path


def first(store: Store) -> tuple[str, str]:
    key = store.volumes[0].key
    return key.subject, key.volume


def test_boxes_are_read_by_slice_with_labels_by_integer_or_name_and_clipped(
    store: Store, shape: tuple[int, ...], tmp_path: Path
) -> None:
    subject, volume = first(store)
    label = next(iter(store.labels))
    path = file_of(
        tmp_path,
        f"{subject},{volume},1,{label.id},2,3,10,11",
        f"{subject},{volume},1,{label.name},-4,0,900,5.0",
        f"{subject},{volume},0,{label.id},0,0,0,0",
    )
    found = read_detections(path, [store])
    key = store.volumes[0].key
    assert found == {
        key.slice(1): (
            DetectedBox(label.id, Box(2, 3, 10, 11)),
            DetectedBox(label.id, Box(0, 0, shape[2] - 1, 5)),
        ),
        key.slice(0): (DetectedBox(label.id, Box(0, 0, 0, 0)),),
    }
    with_all = file_of(
        tmp_path,
        f"0.9,{store.name},{subject},{volume},1,{label.id},2,3,10,11",
        header="score,dataset,subject,volume,slice,label,x0,y0,x1,y1\n",
    )
    assert read_detections(with_all, [store]) == {key.slice(1): (DetectedBox(label.id, Box(2, 3, 10, 11)),)}


def test_json_is_a_list_of_the_same_keys(store: Store, tmp_path: Path) -> None:
    subject, volume = first(store)
    entry = {"subject": subject, "volume": volume, "slice": 2, "label": store.labels.ids[0]}
    entry |= {"x0": 1, "y0": 2, "x1": 3, "y1": 4, "score": 0.5}
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps([entry]))
    assert read_detections(path, [store]) == {
        store.volumes[0].key.slice(2): (DetectedBox(store.labels.ids[0], Box(1, 2, 3, 4)),)
    }
    path.write_text(json.dumps([entry, entry | {"slice": True}]))
    with pytest.raises(DataError, match=r"boxes\.json: entry 2: slice: found True, allowed: a whole number"):
        read_detections(path, [store])
    path.write_text("[\n{},\n]")
    with pytest.raises(DataError, match=r"boxes\.json:3: not JSON"):
        read_detections(path, [store])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nobody,image,1,1,2,3,4,5", r"boxes\.csv:3: nobody/image: the store \w+ has no such volume"),
        ("{s},{v},4,1,2,3,4,5", r"boxes\.csv:3: slice 4: .* has the slices 0 to 3"),
        ("{s},{v},-1,1,2,3,4,5", r"boxes\.csv:3: slice -1"),
        ("{s},{v},1,77,2,3,4,5", r"boxes\.csv:3: label '77' is not in the label table"),
        ("{s},{v},1.5,1,2,3,4,5", r"boxes\.csv:3: slice: found '1.5', allowed: a whole number"),
        ('{s},{v},1,1,2,3,"4,5",5', r"boxes\.csv:3: x1: found '4,5', allowed: a number"),
        ("{s},{v},1,1,2,3,nan,5", r"boxes\.csv:3: x1: found 'nan', allowed: a number"),
        ("{s},{v},1,1,4.4,3,4.3,5", r"boxes\.csv:3: box 4.4 3 4.3 5; allowed: x0 <= x1"),
        ("{s},{v},1,1,nan,3,4,5", r"boxes\.csv:3: x0: found 'nan'"),
        ("{s},{v},1,1,5,3,4,5", r"boxes\.csv:3: box 5 3 4 5; allowed: x0 <= x1"),
        ("{s},{v},1,1,900,3,901,5", r"boxes\.csv:3: box 900 3 901 5: entirely outside the image"),
        ("{s},{v},1,1,2,3,4", r"boxes\.csv:3: the number of cells differs"),
        ("{s},{v},1,1,2,3,4,5,6", r"boxes\.csv:3: the number of cells differs"),
    ],
)
def test_what_cannot_be_is_refused_with_file_and_line(store: Store, tmp_path: Path, line: str, message: str) -> None:
    subject, volume = first(store)
    good = f"{subject},{volume},1,{store.labels.ids[0]},2,3,10,11"
    path = file_of(tmp_path, good, line.format(s=subject, v=volume))
    with pytest.raises(DataError, match=message):
        read_detections(path, [store])


def test_all_problems_come_at_once_and_columns_are_checked_first(store: Store, tmp_path: Path) -> None:
    path = file_of(tmp_path, *["nobody,image,1,1,2,3,4,5"] * 11)
    with pytest.raises(DataError) as caught:
        read_detections(path, [store])
    assert [line.split(": ")[0][-2:] for line in str(caught.value).splitlines()[:-1]] == [f":{n}" for n in range(2, 10)]
    assert str(caught.value).splitlines()[-1] == "and 3 more"
    for header, message in (
        ("subject,volume,slice,label,x0,y0,x1\n", "no column y1"),
        (HEADER.replace("\n", ",confidence\n"), "unknown or repeated columns"),
        (HEADER.replace("x1", "x0"), "no column x1"),
        ("", "no column subject"),
    ):
        with pytest.raises(DataError, match=rf"boxes\.csv:1: {message}"):
            read_detections(file_of(tmp_path, header=header), [store])
    with pytest.raises(DataError, match="cannot be read"):
        read_detections(tmp_path / "none.csv", [store])


def test_of_several_stores_the_dataset_has_to_be_named(store: Store, tmp_path: Path) -> None:
    subject, volume = first(store)
    path = file_of(tmp_path, f"{subject},{volume},1,1,2,3,4,5")
    other = replace(store, name="other", volumes=())
    with pytest.raises(DataError, match=r"boxes\.csv:2: no dataset; allowed: toy, other"):
        read_detections(path, [store, other])


def test_the_iou_of_boxes_counts_pixels() -> None:
    assert box_iou(Box(0, 0, 3, 3), Box(2, 2, 5, 5)) == 4 / 28
    assert box_iou(Box(0, 0, 3, 3), Box(4, 0, 5, 3)) == 0
    assert box_iou(Box(1, 1, 1, 1), Box(1, 1, 1, 1)) == 1


def test_each_box_goes_to_the_component_it_fits_best_and_the_rest_is_missed_or_spurious() -> None:
    mask = np.zeros((20, 20), dtype=np.uint8)
    mask[1:5, 1:5] = 1
    mask[1:5, 10:14] = 1
    mask[12:16, 1:5] = 1
    mask[12:16, 10:14] = 2
    instances = instances_of(mask, (1, 2))
    boxes = [
        DetectedBox(1, Box(9, 1, 13, 4)),  # component 2, one column too many
        DetectedBox(1, Box(10, 1, 13, 4)),  # component 2 exactly: takes it from the first
        DetectedBox(1, Box(1, 12, 2, 15)),  # half of component 3
        DetectedBox(2, Box(1, 1, 4, 4)),  # where label 1 is: not of its label
    ]
    found = matched_boxes(instances, boxes, (20, 20))
    assert [(one.label, one.instance, bool(one.mask_yx.any()), box) for one, box in found] == [
        (1, 1, True, None),
        (1, 2, True, Box(10, 1, 13, 4)),
        (1, 3, True, Box(1, 12, 2, 15)),
        (1, 4, False, Box(9, 1, 13, 4)),
        (2, 1, True, None),
        (2, 2, False, Box(1, 1, 4, 4)),
    ]
    assert matched_boxes(instances[3:], [], (20, 20)) == [(instances[3], None)]


def test_the_order_of_the_file_decides_nothing_but_ties() -> None:
    mask = np.zeros((20, 20), dtype=np.uint8)
    mask[1:9, 1:9] = 1
    (instance,) = instances_of(mask, (1,))
    good, better = DetectedBox(1, Box(1, 1, 8, 6)), DetectedBox(1, Box(1, 1, 8, 7))
    for order in ([good, better], [better, good]):
        assert matched_boxes([instance], order, (20, 20))[0] == (instance, better.box)


def test_one_box_per_label_is_around_all_of_its_boxes() -> None:
    boxes = [DetectedBox(2, Box(5, 5, 6, 6)), DetectedBox(1, Box(1, 8, 4, 9)), DetectedBox(1, Box(3, 2, 9, 4))]
    assert boxes_per_label(boxes) == [DetectedBox(1, Box(1, 2, 9, 9)), DetectedBox(2, Box(5, 5, 6, 6))]


def test_keys_of_detections_are_those_of_views(store: Store, tmp_path: Path) -> None:
    subject, volume = first(store)
    (key,) = read_detections(file_of(tmp_path, f"{subject},{volume},3,{store.labels.ids[0]},0,0,1,1"), [store])
    assert key == SliceKey(store.name, subject, volume, 3)


def test_corners_with_fractions_are_the_nearest_pixels_and_are_counted(
    store: Store, shape: tuple[int, ...], tmp_path: Path
) -> None:
    subject, volume = first(store)
    label = next(iter(store.labels)).id
    lines = ("4.6,2.4,6.2,7.9", "4.5,2.5,5.5,3.5", "-0.4,-3.7,2.49,1e1", "1,2,3,4")
    path = file_of(tmp_path, *(f"{subject},{volume},0,{label},{line}" for line in lines))
    (boxes,) = read_detections(path, [store]).values()
    wanted = [(5, 2, 6, 8), (5, 3, 6, 4), (0, 0, 2, 10), (1, 2, 3, 4)]
    assert [tuple(one.box) for one in boxes] == [(a, b, c, min(d, shape[1] - 1)) for a, b, c, d in wanted]
    assert num_fractions(path) == 3
