"""Remedies of sources: patterns with placeholders, tables, and the layouts of other programs."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from openpyxl import Workbook

from sam2ft.data.images.volumes import read_volume, write_nifti
from tests.remedies.conftest import Raw
from tests.remedies.registry import executed_by, remedy
from tests.remedies.sources import AB, _prepared, _refused

SOURCES = '{images: "dicom/{subject}", masks: "masks/{subject}.nii.gz"}'
LABELS = "labels: {1: {name: cartilage}}\n"
SHARES = "split: {train: 1, val: 0, test: 0}\n"
RAW = Path("nnUNet_raw/Dataset001_T")


def _described(raw: Raw, sources: str, labels: str = LABELS, split: str = SHARES, more: str = "") -> None:
    raw.yaml.write_text(f"dataset: {{name: toy}}\nsources: {sources}\n{labels}{split}{more}")


def _json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _nnunet(raw: Raw, labels: Any = None, channels: int = 1) -> None:
    """The images of the raw folder as a dataset of nnU-Net."""
    for subject in AB:
        volume = read_volume(raw.image(subject))
        for channel in range(channels):
            path = RAW / "imagesTr" / f"{subject}_{channel:04d}.nii.gz"
            write_nifti(path, volume.array_zyx.astype(np.int16), volume.geometry)
        (RAW / "labelsTr").mkdir(exist_ok=True)
        shutil.copy(raw.mask(subject), RAW / "labelsTr" / f"{subject}.nii.gz")
    names = {str(number): name for number, name in zip(range(channels), ("T1", "T2"), strict=False)}
    content = {"channel_names": names, "file_ending": ".nii.gz"}
    _json(RAW / "dataset.json", content | {"labels": labels or {"background": 0, "cartilage": 1}})


def _layout(more: str = "") -> str:
    return f"{{layout: {{nnunet: {RAW}{more}}}}}"


# --- layouts --------------------------------------------------------------------------------------------------------


@remedy("give labels: in the dataset file", of="^give labels")
def a_layout_whose_label_table_is_none(raw: Raw) -> str:
    _nnunet(raw, {"background": 0, "cartilage": [1, 2], "meniscus": 3})
    _described(raw, _layout(), labels="")
    shown = _refused(raw, 2)
    _described(raw, _layout())
    shown += _refused(raw, 2)
    _described(raw, _layout(), labels="labels: {1: {name: cartilage, merge: [1, 2]}, 3: {name: meniscus}}\n")
    _prepared(raw)
    return shown


@remedy("list them there, in labels_dropped", of="are not in labels: of the dataset file")
@remedy("leave labels: out", of="are not in labels: of the dataset file")
def a_label_of_the_layout_that_the_dataset_file_lacks(raw: Raw) -> str:
    _nnunet(raw, {"background": 0, "cartilage": 1, "bone": 2})
    _described(raw, _layout())
    shown = _refused(raw, 2)
    for labels, more in (
        (LABELS, "labels_dropped: [2]\n"),
        ("", ""),
        (LABELS.replace("}}", "}, 2: {name: bone}}"), ""),
    ):
        shutil.rmtree("store", ignore_errors=True)
        _described(raw, _layout(), labels=labels, more=more)
        _prepared(raw)
    return shown


@remedy("use one name", of="labels: of the dataset file calls it")
@remedy("leave labels: out", of="labels: of the dataset file calls it")
def a_label_of_two_names(raw: Raw) -> str:
    _nnunet(raw)
    _described(raw, _layout(), labels="labels: {1: {name: bone}}\n")
    shown = _refused(raw, 2)
    for labels in (LABELS, ""):
        _described(raw, _layout(), labels=labels)
        _prepared(raw)
    return shown


@remedy("choose one with sources.layout.channel", of="channels: {}")
def a_case_of_two_channels(raw: Raw) -> str:
    _nnunet(raw, channels=2)
    _described(raw, _layout())
    shown = _refused(raw, 2)
    for channel in ("T2", "0"):
        _described(raw, _layout(f", channel: {channel}"))
        _prepared(raw)
    return shown


@remedy("name it with sources.layout.splits", of="no such file, nor")
@remedy("leave out sources.layout.fold: then subjects are drawn", of="no such file, nor")
def a_fold_without_its_file(raw: Raw) -> str:
    _nnunet(raw)
    _described(raw, _layout(", fold: 0"), split="")
    shown = _refused(raw, 2)
    _json(Path("mine.json"), [{"train": ["a"], "val": ["b"]}])
    _described(raw, _layout(", fold: 0, splits: mine.json"), split="")
    _prepared(raw)
    shutil.rmtree("store")
    _described(raw, _layout())
    _prepared(raw)
    return shown


@remedy("leave out one of the two", of="so that the key would do nothing")
def shares_beside_a_fold(raw: Raw) -> str:
    _nnunet(raw)
    _json(RAW / "splits_final.json", [{"train": ["a"], "val": ["b"]}])
    _described(raw, _layout(", fold: 0"))
    shown = _refused(raw, 2)
    for sources, split in ((_layout(", fold: 0"), ""), (_layout(), SHARES)):
        shutil.rmtree("store", ignore_errors=True)
        _described(raw, sources, split=split)
        _prepared(raw)
    return shown


@remedy("leave out one of them", of="the sources give splits too")
def a_split_file_beside_splits_of_the_sources(raw: Raw) -> str:
    _nnunet(raw)
    _json(RAW / "splits_final.json", [{"train": ["a"], "val": ["b"]}])
    _json(Path("split.json"), {"train": ["a"], "val": ["b"], "test": []})
    _described(raw, _layout(", fold: 0"), split="split: {file: split.json}\n")
    shown = _refused(raw, 2)
    for sources, split in ((_layout(", fold: 0"), ""), (_layout(), "split: {file: split.json}\n")):
        shutil.rmtree("store", ignore_errors=True)
        _described(raw, sources, split=split)
        _prepared(raw)
    return shown


@remedy("leave it out", of="^is used by {} only")
def a_key_of_another_layout(raw: Raw) -> str:
    _nnunet(raw)
    _described(raw, _layout(", suffix: T2w"))
    shown = _refused(raw, 2)
    _described(raw, _layout())
    _prepared(raw)
    return shown


@remedy("choose with sources.layout.entities, such as {desc: manual}")
def two_masks_of_an_image_of_bids(raw: Raw) -> str:
    for subject in AB:
        volume = read_volume(raw.image(subject))
        path = Path(f"study/sub-{subject}/anat/sub-{subject}_T2w.nii.gz")
        write_nifti(path, volume.array_zyx.astype(np.int16), volume.geometry)
        for name in ("manual", "auto"):
            mask = Path(f"study/derivatives/sub-{subject}_desc-{name}_dseg.nii.gz")
            mask.parent.mkdir(exist_ok=True)
            shutil.copy(raw.mask(subject), mask)
    _described(raw, "{layout: {bids: study, suffix: T2w}}")
    shown = _refused(raw, 2)
    _described(raw, "{layout: {bids: study, suffix: T2w, entities: {desc: manual}}}")
    _prepared(raw)
    return shown


# --- splits and labels ----------------------------------------------------------------------------------------------


@remedy("give file", of="is the number of a fold of file")
@remedy("leave the key out", of="is the number of a fold of file")
def a_fold_without_a_split_file(raw: Raw) -> str:
    _described(raw, SOURCES, split="split: {fold: 0}\n")
    shown = _refused(raw, 2)
    _json(Path("folds.json"), [{"train": ["a"], "val": ["b"]}])
    for split in ("split: {file: folds.json, fold: 0}\n", ""):
        _described(raw, SOURCES, split=split)
        _prepared(raw)
    return shown


BOTH = LABELS.replace("}}", "}, 2: {name: bone}}")


def _drawn_table(*cells: str) -> str:
    lines = [
        f"{subject},dicom/{subject},masks/{subject}.nii.gz,{cell}" for subject, cell in zip(AB, cells, strict=True)
    ]
    return "\n".join(["subject,image,mask,labelled", *lines])


@remedy("add it to labelled")
@remedy("remove it from the mask")
def a_mask_with_a_label_that_was_not_drawn(raw: Raw) -> str:
    Path("t.csv").write_text(_drawn_table("1 2", "2"))
    _described(raw, "{images: t.csv}", labels=BOTH)
    shown = _refused(raw)
    Path("t.csv").write_text(_drawn_table("1 2", "2 cartilage"))
    _prepared(raw)
    shutil.rmtree("store")
    Path("t.csv").write_text(_drawn_table("1 2", "2"))
    volume = read_volume(raw.mask("b"))
    write_nifti(raw.mask("b"), np.zeros_like(volume.array_zyx, dtype=np.uint8), volume.geometry)
    _prepared(raw)
    return shown


@remedy("leave it out for all labels", of="a list of ids or names of labels")
def an_item_without_a_list_of_labels(raw: Raw) -> str:
    items = [{"image": f"dicom/{subject}", "label": f"masks/{subject}.nii.gz"} for subject in AB]
    _json(Path("list.json"), {"training": [items[0], items[1] | {"labelled": "cartilage"}]})
    _described(raw, "{layout: {datalist: list.json}}", labels=BOTH)
    shown = _refused(raw, 2)
    for more in ({}, {"labelled": ["cartilage"]}, {"labelled": [1, 2]}):
        shutil.rmtree("store", ignore_errors=True)
        _json(Path("list.json"), {"training": [items[0], items[1] | more]})
        _prepared(raw)
    return shown


@remedy("leave it out for all labels", of="is empty")
def an_empty_list_of_labels(raw: Raw) -> str:
    _described(raw, SOURCES, labels=BOTH, more="labelled: []\n")
    shown = _refused(raw, 2)
    for more in ("", "labelled: [1, bone]\n", "labelled: [1]\n"):
        shutil.rmtree("store", ignore_errors=True)
        _described(raw, SOURCES, labels=BOTH, more=more)
        _prepared(raw)
    return shown


def _of_labels(b: str) -> None:
    for subject in AB:
        shutil.copy(f"masks/{subject}.nii.gz", f"masks/{subject}-1.nii.gz")
        volume = read_volume(Path(f"masks/{subject}.nii.gz"))
        empty = np.zeros_like(volume.array_zyx, dtype=np.uint8)
        write_nifti(Path(f"masks/{subject}-2.nii.gz"), empty, volume.geometry)
    lines = ["a,dicom/a,masks/a-1.nii.gz,masks/a-2.nii.gz,", f"b,dicom/b,{b}"]
    Path("t.csv").write_text("\n".join(["subject,image,mask_1,mask_bone,labelled", *lines]))


@remedy("give the mask, or take it off the list")
def a_label_that_was_drawn_without_a_mask(raw: Raw) -> str:
    _described(raw, "{images: t.csv}", labels=BOTH)
    _of_labels("masks/b-1.nii.gz,,1 2")
    shown = _refused(raw)
    for right in ("masks/b-1.nii.gz,masks/b-2.nii.gz,1 2", "masks/b-1.nii.gz,,1"):
        shutil.rmtree("store", ignore_errors=True)
        _of_labels(right)
        _prepared(raw)
    return shown


@remedy("remove the column", of="is empty in every line")
def a_column_of_masks_without_any(raw: Raw) -> str:
    _described(raw, "{images: t.csv}", labels=BOTH)
    _of_labels("masks/b-1.nii.gz,,1")
    text = Path("t.csv").read_text().replace("masks/a-2.nii.gz,", ",1")
    Path("t.csv").write_text(text)
    shown = _refused(raw, 2)
    Path("t.csv").write_text(text.replace("mask_1,mask_bone", "mask_1").replace("gz,,", "gz,"))
    _prepared(raw)
    return shown


# --- patterns -------------------------------------------------------------------------------------------------------


@remedy("rename what belongs")
def a_file_in_capital_letters(raw: Raw) -> str:
    for subject, ending in zip(AB, ("nii", "NII"), strict=True):
        volume = read_volume(raw.image(subject))
        write_nifti(Path(f"i/{subject}.nii.gz"), volume.array_zyx.astype(np.int16), volume.geometry)
        Path(f"i/{subject}.nii.gz").rename(f"i/{subject}.{ending}.gz")
    _described(raw, SOURCES.replace("dicom/{subject}", "i/{subject}.nii.gz"))
    shown = " ".join(raw.prepare().split())
    assert raw.whole() == ["a"]
    Path("i/b.NII.gz").rename("i/b.nii.gz")
    _prepared(raw)
    return shown


@remedy("name volumes apart by {volume} or sources.volume, subjects by sources.subject")
def two_files_of_one_subject(raw: Raw) -> str:
    for subject, side in zip(AB, ("left", "right"), strict=True):
        shutil.copytree(raw.image(subject), f"knees/p/{side}")
        Path("m").mkdir(exist_ok=True)
        shutil.copy(raw.mask(subject), f"m/p_{side}.nii.gz")
    _described(raw, '{images: "knees/{subject}/*", masks: "m/{subject}_*.nii.gz"}')
    shown = _refused(raw, 2)
    for images, masks, more, names in (
        ("{subject}/{volume}", "{subject}_{volume}", "", ["p", "p"]),
        ("{subject}/{side}", "{subject}_{side}", ', volume: "{side}"', ["p", "p"]),
        ("{id}/{side}", "{id}_{side}", ', subject: "{id}-{side}"', ["p-left", "p-right"]),
    ):
        shutil.rmtree("store", ignore_errors=True)
        _described(raw, f'{{images: "knees/{images}", masks: "m/{masks}.nii.gz"{more}}}')
        raw.prepare()
        assert raw.whole() == names
    return shown


@remedy("rename the file", of="give a table as sources.images")
@remedy("give a table as sources.images", of="rename the file")
def a_file_whose_name_names_no_subject(raw: Raw) -> str:
    for folder, ending in (("dicom", ""), ("masks", ".nii.gz")):
        Path(f"{folder}/b{ending}").rename(f"{folder}/ b{ending}")
    shown = _refused(raw, 2)
    lines = [f'{subject},"dicom/{name}","masks/{name}.nii.gz"' for subject, name in zip(AB, ("a", " b"), strict=True)]
    Path("t.csv").write_text("\n".join(["subject,image,mask", lines[0]]))
    _described(raw, "{images: t.csv}")
    raw.prepare()
    for folder, ending in (("dicom", ""), ("masks", ".nii.gz")):
        Path(f"{folder}/ b{ending}").rename(f"{folder}/b{ending}")
    Path("t.csv").write_text("\n".join(["subject,image,mask", *(line.replace(" b", "b") for line in lines)]))
    _prepared(raw)
    _described(raw, SOURCES)
    _prepared(raw)
    return shown


@remedy("rename one of them", of="in two Unicode forms")
def one_person_in_two_forms(raw: Raw) -> str:
    given = ("Jos\u00e9", "Jose\u0301")
    for subject, name in zip(AB, given, strict=True):
        raw.image(subject).rename(raw.image(name))
        raw.mask(subject).rename(raw.mask(name))
    shown = _refused(raw, 2)
    raw.image(given[1]).rename(raw.image("b"))
    raw.mask(given[1]).rename(raw.mask("b"))
    raw.prepare()
    assert len(raw.whole()) == 2
    return shown


# --- tables ---------------------------------------------------------------------------------------------------------


def _lines() -> list[list[Any]]:
    return [["subject", "image", "mask"], *([one, f"dicom/{one}", f"masks/{one}.nii.gz"] for one in AB)]


def _workbook(path: Path, *sheets: list[list[Any]]) -> None:
    book = Workbook()
    book.remove(book.active)
    for lines in sheets:
        sheet = book.create_sheet()
        for line in lines:
            sheet.append(line)
    book.save(path)


def _csv(path: Path) -> None:
    path.write_text("\n".join(",".join(line) for line in _lines()), encoding="utf-8")


@remedy("save it as one of these", of="allowed: a table as {}")
def a_table_of_another_program(raw: Raw) -> str:
    _workbook(Path("t.xlsx"), _lines())
    shutil.copy("t.xlsx", "t.xls")
    _described(raw, "{images: t.xls}")
    shown = _refused(raw, 2)
    _csv(Path("t.csv"))
    for name in ("t.xlsx", "t.csv"):
        _described(raw, f"{{images: {name}}}")
        _prepared(raw)
    return shown


@remedy("save it with the ending .xlsx")
@remedy("export it as CSV UTF-8", of="is a spreadsheet, not text")
def a_workbook_that_is_called_csv(raw: Raw) -> str:
    _workbook(Path("t.xlsx"), _lines())
    shutil.copy("t.xlsx", "t.csv")
    _described(raw, "{images: t.csv}")
    shown = _refused(raw, 2)
    _csv(Path("t.csv"))
    _prepared(raw)
    _described(raw, "{images: t.xlsx}")
    _prepared(raw)
    return shown


@remedy("save it anew as .xlsx")
@remedy("export it as CSV UTF-8", of="^save it anew as .xlsx")
def a_damaged_workbook(raw: Raw) -> str:
    Path("t.xlsx").write_bytes(b"PK\x03\x04 and nothing more")
    _described(raw, "{images: t.xlsx}")
    shown = _refused(raw, 2)
    _workbook(Path("t.xlsx"), _lines())
    _prepared(raw)
    _csv(Path("t.csv"))
    _described(raw, "{images: t.csv}")
    _prepared(raw)
    return shown


@remedy("remove the others", of="sheets with content")
@remedy("export the one that lists the volumes as CSV UTF-8")
def a_workbook_of_two_sheets(raw: Raw) -> str:
    _workbook(Path("t.xlsx"), _lines(), [["notes"]])
    _described(raw, "{images: t.xlsx}")
    shown = _refused(raw, 2)
    _workbook(Path("t.xlsx"), _lines())
    _prepared(raw)
    _csv(Path("t.csv"))
    _described(raw, "{images: t.csv}")
    _prepared(raw)
    return shown


@remedy("mend its formula")
def a_cell_with_an_error(raw: Raw) -> str:
    lines = _lines()
    for line, cell in zip(lines, ("age", "#DIV/0!", 60), strict=True):
        line.append(cell)
    _workbook(Path("t.xlsx"), lines)
    _described(raw, "{images: t.xlsx}")
    shown = _refused(raw, 2)
    lines[1][3] = 61
    _workbook(Path("t.xlsx"), lines)
    _prepared(raw)
    return shown


executed_by(
    "use one name for both",
    of="but labels: of the dataset file calls it {}",
    test="tests/data/sources/test_layouts.py::test_the_label_table_of_a_mask_must_say_what_the_dataset_file_says",
)
