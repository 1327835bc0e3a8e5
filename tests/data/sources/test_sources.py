"""Subjects and volumes are found by pattern or by table, and never guessed."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from sam2ft.core.errors import DataError
from sam2ft.core.keys import VolumeKey
from sam2ft.data.sources.patterns import find_by_patterns
from sam2ft.data.sources.row import VolumeFiles, fingerprint
from sam2ft.data.sources.table import find_by_table


def files(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_folders_and_files_are_found_and_masks_follow_from_their_names(tmp_path: Path) -> None:
    files(tmp_path, ["dicom/b/right/1.dcm", "dicom/a/left/1.dcm", "dicom/a/right/1.dcm", "dicom/.hidden/x/1.dcm"])
    found = find_by_patterns(
        "oai", "dicom/{subject}/{volume}", "masks/{subject}_{volume}.nii.gz", {"t2": "t2/{subject}.nii"}, tmp_path
    )
    assert [str(source.key) for source in found] == ["oai/a/left", "oai/a/right", "oai/b/right"]
    assert found[1].image == tmp_path / "dicom/a/right"
    assert found[1].mask == tmp_path / "masks/a_right.nii.gz"
    assert found[1].maps == {"t2": tmp_path / "t2/a.nii"}


def test_a_pattern_without_volume_names_it_image(tmp_path: Path) -> None:
    files(tmp_path, ["images/OAI_12.nii.gz", "images/OAI_123.nii.gz", "images/readme.txt"])
    found = find_by_patterns("oai", "images/{subject}.nii.gz", "masks/{subject}.nii.gz", {}, tmp_path)
    assert [source.key for source in found] == [VolumeKey("oai", name, "image") for name in ("OAI_12", "OAI_123")]


def test_an_absolute_pattern_is_taken_as_it_is(tmp_path: Path) -> None:
    files(tmp_path, ["images/a.nii"])
    found = find_by_patterns("oai", f"{tmp_path}/images/{{subject}}.nii", "m/{subject}", {}, Path("elsewhere"))
    assert found[0].image == tmp_path / "images/a.nii"


def test_a_placeholder_that_comes_twice_stands_for_the_same(tmp_path: Path) -> None:
    files(tmp_path, ["a/a.nii", "a/b.nii", "b/b.nii"])
    found = find_by_patterns("oai", "{subject}/{subject}.nii", "m/{subject}", {}, tmp_path)
    assert [source.image.relative_to(tmp_path).as_posix() for source in found] == ["a/a.nii", "b/b.nii"]


def test_a_name_that_can_be_read_in_two_ways_is_refused(tmp_path: Path) -> None:
    files(tmp_path, ["images/OAI_12_left.nii.gz"])
    with pytest.raises(DataError, match=r"OAI_12_left\.nii\.gz: .*can be read as .*OAI_12.* and as .*'OAI'.*table"):
        find_by_patterns("oai", "images/{subject}_{volume}.nii.gz", "m/{subject}", {}, tmp_path)


def test_names_that_look_alike_when_joined_are_two_volumes(tmp_path: Path) -> None:
    files(tmp_path, ["a/b__c/1.dcm", "a__b/c/1.dcm"])
    found = find_by_patterns("oai", "{subject}/{volume}", "m/{subject}", {}, tmp_path)
    assert len({source.key.file_stem for source in found}) == 2


def test_nothing_found_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"sources\.images: no file matches .*/dicom/\{subject\}"):
        find_by_patterns("oai", "dicom/{subject}", "m/{subject}", {}, tmp_path)


def table(folder: Path, text: str) -> list[VolumeFiles]:
    (folder / "cases.csv").write_text(text)
    return find_by_table("oai", folder / "cases.csv", folder)


def test_a_table_names_everything(tmp_path: Path) -> None:
    found = table(tmp_path, "subject,volume,image,mask,map_t2\n0012,left,i/x.nii,m/y.nii,t/z.nii\n")
    assert found == [
        VolumeFiles(
            VolumeKey("oai", "0012", "left"), tmp_path / "i/x.nii", tmp_path / "m/y.nii", {"t2": tmp_path / "t/z.nii"}
        )
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subject,image\na,b\n", "columns subject, image; needed: subject, image, mask"),
        ("subject,image,mask,sex\na,b,c,f\n", "columns subject, image, mask, sex"),
        ("subject,image,mask\na,b,c\nd,,f\n", r"cases\.csv:3: image is empty"),
        ("subject,image,mask\na,b\n", r"cases\.csv:2: mask is empty"),
        ("subject,image,mask\na,b,c\na,d,e\n", "both have the key oai/a/image; a key must name one volume"),
        ("subject,image,mask\n", "no line below the header"),
    ],
)
def test_a_table_that_is_wrong_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        table(tmp_path, text)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cases\.csv: no such file"):
        find_by_table("oai", tmp_path / "cases.csv", tmp_path)


def test_a_fingerprint_changes_with_files_and_settings(tmp_path: Path) -> None:
    files(tmp_path, ["dicom/a/1.dcm", "dicom/a/2.dcm", "masks/a.nii"])
    (source,) = find_by_patterns("oai", "dicom/{subject}", "masks/{subject}.nii", {}, tmp_path)
    seen = [fingerprint(source, {"keep": []}), fingerprint(source, {"keep": []})]
    assert seen[0] == seen[1]
    seen.append(fingerprint(source, {"keep": ["PatientAge"]}))
    (tmp_path / "masks/a.nii").write_text("another mask")
    seen.append(fingerprint(source, {"keep": []}))
    (tmp_path / "dicom/a/3.dcm").write_text("x")
    seen.append(fingerprint(source, {"keep": []}))
    assert len(set(seen)) == 4


@pytest.mark.parametrize("word", ["Köln", "José", "Zoë"])
def test_a_table_that_is_not_utf_8_is_refused_with_its_line(tmp_path: Path, word: str) -> None:
    (tmp_path / "cases.csv").write_bytes(f"subject,image,mask\na,b,c\n{word},b,c\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"cases\.csv:3: byte 0x[0-9a-f]{2} is not UTF-8; .*iconv -f latin1"):
        find_by_table("oai", tmp_path / "cases.csv", tmp_path)
    (tmp_path / "cases.csv").write_text(f"subject,image,mask\n{word},b,c\n", encoding="utf-8-sig")
    assert find_by_table("oai", tmp_path / "cases.csv", tmp_path)[0].key.subject == word


@pytest.mark.parametrize(
    "text",
    [
        "subject, image, mask\n a , b.nii, c.nii\n",
        "subject ,image ,mask\na ,b.nii ,c.nii \n",
        'subject, image, mask\r\na, "b.nii", c.nii\r\n',
    ],
)
def test_blanks_around_commas_are_no_part_of_a_name(tmp_path: Path, text: str) -> None:
    (found,) = table(tmp_path, text)
    assert (found.key.subject, found.image.name, found.mask.name) == ("a", "b.nii", "c.nii")
