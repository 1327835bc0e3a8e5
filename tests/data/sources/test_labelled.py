"""Which labels were drawn in a volume: by id or name, of a dataset, a subject, a line of a table, an item of a list."""

import json
from pathlib import Path
from typing import Any

import pytest

from sam2ft.config.load_dataset import load_dataset
from sam2ft.core.errors import DataError, ProblemsError
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.sources.find import find_sources
from sam2ft.data.sources.row import VolumeFiles
from sam2ft.data.sources.table import find_by_table, write_table

LABELS = "{1: {name: femur}, 2: {name: medial meniscus}, 7: {name: patella}}"
PATTERNS = "images: 'i/{subject}.nii.gz', masks: 'm/{subject}.nii.gz'"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for name in "abc":
        for folder in ("i", "m"):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{name}.nii.gz").touch()
    return tmp_path


def rows(folder: Path, sources: str, rest: str = "") -> dict[str, VolumeFiles]:
    path = folder / "ds.yaml"
    path.write_text(f"dataset: {{name: t}}\nsources: {{{sources}}}\nlabels: {LABELS}\n{rest}\n")
    return {row.key.subject: row for row in find_sources(load_dataset(path, (folder,)), folder)}


def drawn(folder: Path, sources: str, rest: str = "") -> dict[str, Any]:
    return {name: row.labelled for name, row in rows(folder, sources, rest).items()}


def table(folder: Path, *cells: str, header: str = "subject;image;mask;labelled") -> str:
    lines = [f"{name};i/{name}.nii.gz;m/{name}.nii.gz;{cell}" for name, cell in zip("abc", cells, strict=True)]
    (folder / "t.csv").write_text("\n".join([header, *lines]) + "\n")
    return "images: t.csv"


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        ([1, 7], (1, 7)),
        (["patella", "femur"], (1, 7)),
        (["1", "medial meniscus"], (1, 2)),
        (["femur patella"], (1, 7)),
        ([2, "medial meniscus"], (2,)),
    ],
)
def test_labels_are_meant_by_id_or_name(given: list[int | str], ids: tuple[int, ...]) -> None:
    labels = LabelTable((Label(1, "femur"), Label(2, "medial meniscus"), Label(7, "patella")))
    assert labels.ids_meant(given) == ids
    assert [label.id for label in labels.drawn(ids)] == list(ids)
    assert labels.drawn(None) == tuple(labels)


@pytest.mark.parametrize("given", [[3], ["tibia"], ["medial"], ["femur tibia"], [0], ["femur", ""]])
def test_what_is_no_label_is_refused(given: list[int | str]) -> None:
    labels = LabelTable((Label(1, "femur"), Label(2, "medial meniscus")))
    with pytest.raises(DataError, match="is no label; allowed: 1 femur, 2 medial meniscus"):
        labels.ids_meant(given)


def test_a_text_that_means_two_labels_is_refused() -> None:
    with pytest.raises(DataError, match="'2' is the id of one label and the name of another"):
        LabelTable((Label(1, "2"), Label(2, "1"))).ids_meant(["2"])
    assert LabelTable((Label(1, "1"), Label(2, "2"))).ids_meant(["2"]) == (2,)


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("", (None, None, None)),
        ("labelled: [1, patella]", ((1, 7),) * 3),
        ("labelled: [patella, 1, femur, 2]", (None,) * 3),
        ("labelled: {b: [femur]}", (None, (1,), None)),
        ("labelled: {a: [7, 2], c: [medial meniscus]}", ((2, 7), None, (2,))),
    ],
)
def test_the_dataset_file_says_it_of_all_or_of_subjects(raw: Path, key: str, found: tuple[Any, ...]) -> None:
    assert drawn(raw, PATTERNS, key) == dict(zip("abc", found, strict=True))
    assert drawn(raw, table(raw, "", "", ""), key) == dict(zip("abc", found, strict=True))


@pytest.mark.parametrize(
    ("cell", "ids"),
    [
        ("1 7", (1, 7)),
        ("[7, 1]", (1, 7)),
        ("medial meniscus", (2,)),
        ("patella, medial meniscus", (2, 7)),
        ("patella | 1", (1, 7)),
        ("femur patella", (1, 7)),
        ("1, 2, 7", None),
        ("", None),
    ],
)
def test_a_line_of_a_table_says_it_of_its_volume(raw: Path, cell: str, ids: tuple[int, ...] | None) -> None:
    assert drawn(raw, table(raw, "", cell, "7")) == {"a": None, "b": ids, "c": (7,)}
    # What the dataset file says of all is for the lines that say nothing.
    every = drawn(raw, table(raw, "", cell, "7"), "labelled: [femur]")
    assert every == {"a": (1,), "b": ids if cell else (1,), "c": (7,)}


@pytest.mark.parametrize("cell", ["tibia", "1 3", "femur; tibia", "0"])
def test_a_line_with_another_label_is_the_problem_of_its_volume_alone(raw: Path, cell: str) -> None:
    found = rows(raw, table(raw, "", f'"{cell}"', "1"))
    assert [row.problem == "" for row in found.values()] == [True, False, True]
    assert "is no label; allowed: 1 femur" in found["b"].problem


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("labelled: [tibia]", r"ds\.yaml: labelled: 'tibia' is no label; allowed: 1 femur"),
        ("labelled: {b: [3]}", r"ds\.yaml: labelled: '3' is no label"),
        ("labelled: {B: [1]}", r"labelled: B is no subject of the sources \(did you mean b\?\); allowed: a, b, c"),
    ],
)
def test_labels_and_subjects_that_are_none_are_refused(raw: Path, key: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        drawn(raw, PATTERNS, key)


@pytest.mark.parametrize("key", ["labelled: []", "labelled: {b: []}", "labelled: 1", "labelled: [1.5]"])
def test_a_list_that_is_none_is_refused_with_its_line(raw: Path, key: str) -> None:
    with pytest.raises(ProblemsError, match=r"ds\.yaml:4: labelled"):
        drawn(raw, PATTERNS, key)


def test_a_table_and_a_dataset_file_that_differ_are_refused(raw: Path) -> None:
    sources = table(raw, "", "femur", "")
    assert drawn(raw, sources, "labelled: {b: [1]}") == {"a": None, "b": (1,), "c": None}
    with pytest.raises(DataError, match=r"labelled\.b: the labels of the dataset file and those .* differ; allowed"):
        drawn(raw, sources, "labelled: {b: [1, 2]}")


def test_items_of_a_datalist_say_it(raw: Path) -> None:
    lists: tuple[Any, ...] = (["femur"], None, [2, 7])
    items = [
        {"image": f"i/{name}.nii.gz", "label": f"m/{name}.nii.gz", **({} if of is None else {"labelled": of})}
        for name, of in zip("abc", lists, strict=True)
    ]
    (raw / "list.json").write_text(json.dumps({"training": items}))
    found = rows(raw, "layout: {datalist: list.json}")
    assert {name: row.labelled for name, row in found.items()} == {"a": (1,), "b": None, "c": (2, 7)}
    assert all("labelled" not in row.described for row in found.values())
    for wrong in ("femur", [], [True], {"femur": 1}):
        (raw / "list.json").write_text(json.dumps({"training": [items[0] | {"labelled": wrong}]}))
        with pytest.raises(DataError, match=r"training\[0\]: labelled: allowed: a list"):
            rows(raw, "layout: {datalist: list.json}")


HEADER = "subject;image;mask_femur;mask_2;labelled"


@pytest.fixture
def masks(raw: Path) -> None:
    for name in "abc":
        for label in ("f", "m"):
            (raw / "m" / f"{name}-{label}.nii.gz").touch()


def of_labels(folder: Path, *lines: str) -> dict[str, VolumeFiles]:
    (folder / "t.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    return rows(folder, "images: t.csv")


@pytest.mark.usefixtures("masks")
def test_the_mask_of_a_label_that_was_not_drawn_may_be_left_out(raw: Path) -> None:
    full, partly = "a;i/a.nii.gz;m/a-f.nii.gz;m/a-m.nii.gz;", "b;i/b.nii.gz;m/b-f.nii.gz;;femur"
    found = of_labels(raw, full, partly, "c;i/c.nii.gz;;m/c-m.nii.gz;2")
    assert [list(row.masks) for row in found.values()] == [["femur", "2"], ["femur"], ["2"]]
    assert [row.labelled for row in found.values()] == [None, (1,), (2,)]
    assert [row.problem for row in found.values()] == [""] * 3
    assert found["c"].mask == raw / "m" / "c-m.nii.gz"


@pytest.mark.usefixtures("masks")
@pytest.mark.parametrize("listed", ["femur 2", "2, 7", "1 2 7"])
def test_the_mask_of_a_label_that_was_drawn_may_not(raw: Path, listed: str) -> None:
    found = of_labels(raw, "a;i/a.nii.gz;m/a-f.nii.gz;m/a-m.nii.gz;", f'b;i/b.nii.gz;m/b-f.nii.gz;;"{listed}"')
    assert "has no mask of 2, which labelled lists" in found["b"].problem
    with pytest.raises(DataError, match=r"t\.csv:3: mask_2 is empty; where a label was not drawn"):
        of_labels(raw, "a;i/a.nii.gz;m/a-f.nii.gz;m/a-m.nii.gz;", "b;i/b.nii.gz;m/b-f.nii.gz;;")
    with pytest.raises(DataError, match="mask_2 is empty in every line; remove the column"):
        of_labels(raw, "a;i/a.nii.gz;m/a-f.nii.gz;;1", "b;i/b.nii.gz;m/b-f.nii.gz;;1")


@pytest.mark.usefixtures("masks")
def test_of_patterns_a_mask_that_is_away_is_needed_where_its_label_was_drawn(raw: Path) -> None:
    (raw / "m" / "b-m.nii.gz").unlink()
    sources = "images: 'i/{subject}.nii.gz', masks: {femur: 'm/{subject}-f.nii.gz', 2: 'm/{subject}-m.nii.gz'}"
    found = rows(raw, sources, "labelled: {b: [femur], c: [femur]}")
    # A file that is there is read, so that a label in it is found although it was not drawn.
    assert {name: list(row.masks) for name, row in found.items()} == {
        "a": ["femur", "2"], "b": ["femur"], "c": ["femur", "2"],
    }  # fmt: skip


def test_rows_come_back_from_a_table(raw: Path) -> None:
    found = [*rows(raw, table(raw, "", "femur", "2 7")).values()]
    write_table(raw / "again.csv", found, raw)
    assert find_by_table("t", raw / "again.csv", raw) == found
