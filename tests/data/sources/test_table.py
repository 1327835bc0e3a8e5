"""Tables: any separator, Excel's files, covariates; what is nearly right is refused and never guessed."""

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from openpyxl import Workbook

from sam2ft.config.schema.series import SeriesChoice
from sam2ft.core.errors import DataError
from sam2ft.core.keys import VolumeKey
from sam2ft.data.sources.row import VolumeFiles
from sam2ft.data.sources.table import find_by_table, write_table


def table(folder: Path, text: str, name: str = "cases.csv") -> list[VolumeFiles]:
    (folder / name).write_text(text, encoding="utf-8")
    return find_by_table("oai", folder / name, folder)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_the_header_tells_the_separator(tmp_path: Path, separator: str, start: str) -> None:
    lines = [["subject", "image", "mask", "age"], ["a", "b.nii", "c.nii", "61"]]
    (row,) = table(tmp_path, start + "\n".join(separator.join(line) for line in lines))
    assert (row.key.subject, row.image, row.covariates) == ("a", tmp_path / "b.nii", {"age": "61"})


def test_excels_line_about_the_separator_is_obeyed(tmp_path: Path) -> None:
    (row,) = table(tmp_path, "sep=;\nsubject;image;mask\na;b;c\n")
    assert row.mask == tmp_path / "c"


@pytest.mark.parametrize("text", ['a,b,c,"3,5"', "a, b, c, '3.5'", 'a,b,c,"say ""x"""'])
def test_quoted_cells_hold_separators(tmp_path: Path, text: str) -> None:
    (row,) = table(tmp_path, f"subject,image,mask,dose\n{text}\n")
    assert row.covariates["dose"] in ("3,5", "'3.5'", 'say "x"')


def test_a_decimal_comma_without_quotes_would_shift_cells_and_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cases\.csv:3: has 5 cells, the header 4; .*double quotes"):
        table(tmp_path, "subject,image,mask,dose\na,b,c,1\nb,b,c,3,5\n")


def test_split_site_labelled_and_other_columns_are_read(tmp_path: Path) -> None:
    text = "Subject,Image,Mask,split,site,labelled,Age at scan\na,b,c,Training,Ulm,2 1,61\nb,d,e,val,,,\n"
    first, second = table(tmp_path, text)
    assert (first.split, first.site, first.labelled, first.covariates) == (
        "train",
        "Ulm",
        (1, 2),
        {"Age at scan": "61"},
    )
    assert (second.split, second.site, second.labelled, second.covariates) == ("val", None, None, {})
    assert first.described == {"Age at scan": "61", "site": "Ulm"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subject,image,mask,spilt\na,b,c,train\n", r"column spilt \(did you mean split\?\)"),
        ("subject,image,mask,labeled\na,b,c,1\n", r"column labeled \(did you mean labelled\?\)"),
        (
            "subject,image,mask,map_t3\na,b,c,d\n",
            r"column map_t3 \(did you mean map_t2\?\); allowed: map_t2, map_t1rho",
        ),
        ("subject,image,mask,mask\na,b,c,d\n", "mask is there twice"),
        ("subject,image,,mask\na,b,c,d\n", "number 3 has no name"),
        ("subject,image,mask,split\na,b,c,dev\n", r"cases\.csv:2: split is dev; allowed: train, val, test"),
        (
            "subject,image,mask,split\na,b,c,train\nb,d,e,\n",
            r"cases\.csv:3: split is empty; allowed: train, val, test in",
        ),
        ("subject,volume,image,mask,split\na,l,b,c,train\na,r,d,e,val\n", "subject a is in the splits train and val"),
        ("subject,image,mask,labelled\na,b,c,[]\n", r"cases\.csv:2: labelled is \[\]; allowed: ids or names"),
        ("subject,image,mask\n a\u0301,b,c\n\u00e1,d,e\n", "in two Unicode forms"),
        ("subject,image,mask\na\x01,b,c\n", r"cases\.csv:2: .*printable"),
        ("", "empty; its first line must name the columns subject, image, mask"),
        ("subject,image,mask,mask_femur\na,b,c,d\n", "columns mask and mask_femur; allowed: mask .*, or mask_<label>"),
        ("subject,image,mask_femur,mask_tibia\na,b,c,\n", r"cases\.csv:2: mask_tibia is empty"),
        ("subject,image,mask,series.nummer\na,b,c,3\n", r"column series\.nummer \(did you mean series\.number\?\)"),
        ("subject,image,mask,series.number\na,b,c,three\n", r"cases\.csv:2: series\.number is three; allowed"),
        ("subject,image,mask,series.part\na,b,c,fase\n", r"cases\.csv:2: series\.part is fase; allowed"),
        ("subject,image,mask,series.echo_ms\na,b,c,-1\n", r"cases\.csv:2: series\.echo_ms is -1; allowed"),
        ('subject,image,mask\n"a,b,c\n', r"cases\.csv:2"),
    ],
)
def test_a_table_that_is_nearly_right_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        table(tmp_path, text)


@pytest.mark.parametrize("name", ["side", "size", "set", "visit", "volume_mm3", "sex"])
def test_a_covariate_may_look_a_little_like_a_known_column(tmp_path: Path, name: str) -> None:
    (row,) = table(tmp_path, f"subject,image,mask,{name}\na,b,c,x\n")
    assert row.covariates == {name: "x"}


def test_empty_lines_and_the_empty_cells_of_spreadsheets_are_no_volumes(tmp_path: Path) -> None:
    rows = table(tmp_path, "subject;image;mask;;\na;b;c;;\n;;;;\n\nd;e;f;;\n")
    assert [row.key.subject for row in rows] == ["a", "d"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252"])
def test_another_encoding_is_named_with_a_command_that_mends_it(tmp_path: Path, encoding: str) -> None:
    folder = tmp_path / "my tables"
    folder.mkdir()
    text = (
        "subject,image,mask\nK\u00f6ln\u201d,b,c\n" if encoding != "latin-1" else "subject,image,mask\nK\u00f6ln,b,c\n"
    )
    path = folder / "cases.csv"
    path.write_bytes(text.encode(encoding))
    with pytest.raises(DataError) as found:
        find_by_table("oai", path, folder)
    command = str(found.value).split(": iconv ")[1].removesuffix(")")
    subprocess.run(f"iconv {command}", shell=True, check=True, cwd=folder)
    assert shlex.quote(str(path)) in command
    (row,) = find_by_table("oai", folder / "new.csv", folder)
    assert row.key.subject == text.splitlines()[1].split(",")[0]


def workbook(path: Path, lines: list[list[object]], formats: dict[str, str] | None = None) -> None:
    book = Workbook()
    for line in lines:
        book.active.append(line)
    for place, shape in (formats or {}).items():
        book.active[place].number_format = shape
    book.save(path)


def test_an_excel_workbook_is_read_as_it_is_shown(tmp_path: Path) -> None:
    lines = [
        ["subject", "image", "mask", "age", "dose"],
        [12, "b.nii", "c.nii", 61, 3.5],
        [None] * 5,
        [7, "d", "e", None, 1],
    ]
    workbook(tmp_path / "cases.xlsx", lines, {"A2": "0000"})
    rows = find_by_table("oai", tmp_path / "cases.xlsx", tmp_path)
    assert [(row.key.subject, row.covariates) for row in rows] == [
        ("0012", {"age": "61", "dose": "3.5"}),
        ("7", {"dose": "1"}),
    ]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and nothing", b"subject,image,mask\na,b,c\n"])
def test_a_damaged_workbook_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cases.xlsx").write_bytes(content)
    with pytest.raises(DataError, match=r"cases\.xlsx: cannot be read as an Excel workbook"):
        find_by_table("oai", tmp_path / "cases.xlsx", tmp_path)


def test_every_flipped_byte_of_a_workbook_is_a_refusal_or_a_table(tmp_path: Path) -> None:
    workbook(tmp_path / "cases.xlsx", [["subject", "image", "mask"], ["a", "b", "c"]])
    whole = (tmp_path / "cases.xlsx").read_bytes()
    refused = 0
    for place in range(0, len(whole), max(1, len(whole) // 60)):
        (tmp_path / "cases.xlsx").write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            find_by_table("oai", tmp_path / "cases.xlsx", tmp_path)
        except DataError:
            refused += 1
    assert refused > 10


def test_a_spreadsheet_that_is_called_csv_is_named(tmp_path: Path) -> None:
    workbook(tmp_path / "cases.csv", [["subject", "image", "mask"], ["a", "b", "c"]])
    with pytest.raises(DataError, match=r"is a spreadsheet, not text; save it with the ending \.xlsx"):
        find_by_table("oai", tmp_path / "cases.csv", tmp_path)


def test_two_sheets_with_content_are_refused(tmp_path: Path) -> None:
    book = Workbook()
    book.active.append(["subject", "image", "mask"])
    book.create_sheet("notes").append(["by hand"])
    book.save(tmp_path / "cases.xlsx")
    with pytest.raises(DataError, match="has 2 sheets with content"):
        find_by_table("oai", tmp_path / "cases.xlsx", tmp_path)


def test_written_rows_are_read_again_as_they_were(tmp_path: Path) -> None:
    rows = [
        VolumeFiles(
            VolumeKey("oai", "P #1, \u00e9", "left"),
            tmp_path / "i" / "x, y.nii",
            Path("/elsewhere/m.nii"),
            {"t2": tmp_path / "t2.nii"},
            split="train",
            site="Ulm; Nord",
            covariates={"age": "61", "note": 'said "no"'},
            labelled=(1, 5),
            series=SeriesChoice(number=3, echo_ms=12.5, part="magnitude", description="sag *"),
        ),
        VolumeFiles(
            VolumeKey("oai", "b", "image"), tmp_path / "x", tmp_path / "y", split="val", covariates={"age": "7"}
        ),
    ]
    write_table(tmp_path / "table.csv", rows, tmp_path)
    assert find_by_table("oai", tmp_path / "table.csv", tmp_path, ["t2"]) == rows
    assert "i/x, y.nii" in (tmp_path / "table.csv").read_text()


def test_rows_with_a_mask_for_each_label_are_written_and_read_again(tmp_path: Path) -> None:
    masks = {"femoral cartilage": tmp_path / "f.nii", "2": Path("/elsewhere/t.nii")}
    rows = [VolumeFiles(VolumeKey("oai", "a", "image"), tmp_path / "x", tmp_path / "f.nii", masks=masks)]
    write_table(tmp_path / "table.csv", rows, tmp_path)
    assert find_by_table("oai", tmp_path / "table.csv", tmp_path) == rows
    other = VolumeFiles(VolumeKey("oai", "b", "image"), tmp_path / "y", tmp_path / "z")
    with pytest.raises(DataError, match="mask files of different labels"):
        write_table(tmp_path / "table.csv", [*rows, other], tmp_path)
    tagged = replace(other, series=SeriesChoice(tags={"EchoNumbers": 1}))
    with pytest.raises(DataError, match="chosen by tags of DICOM"):
        write_table(tmp_path / "table.csv", [tagged], tmp_path)


def test_a_table_of_ten_thousand_lines(tmp_path: Path) -> None:
    text = "".join(f"s{number},i/{number}.nii,m/{number}.nii\n" for number in range(10_000))
    assert len(table(tmp_path, f"subject,image,mask\n{text}")) == 10_000
