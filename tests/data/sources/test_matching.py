"""Wildcards and placeholders: every reading is the only one, or the name is refused."""

import time
import unicodedata
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest

from sam2ft.config.schema.sources import Sources
from sam2ft.core.errors import DataError
from sam2ft.data.sources.matching import matches
from sam2ft.data.sources.paths import Folders
from sam2ft.data.sources.patterns import find_by_patterns
from sam2ft.data.sources.row import VolumeFiles


def files(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def rows(folder: Path, images: str, masks: str, **more: object) -> list[VolumeFiles]:
    return find_by_patterns("oai", Sources.model_validate({"images": images, "masks": masks, **more}), folder)


@pytest.mark.parametrize(
    "images",
    [
        "study/*/{subject}/T2*/img.nii",
        "study/2021-??/{subject}/T2_*/img.nii",
        "study/202[0-2]-0[!9]/{subject}/T2_[st]*/img.nii",
        "study/**/{subject}/T2_*/img.nii",
        "**/{subject}/T2_*/img.nii",
        "study/**/{subject}/**/img.nii",
    ],
)
def test_wildcards_stand_for_what_names_nothing(tmp_path: Path, images: str) -> None:
    files(tmp_path, ["study/2021-03/p1/T2_sag/img.nii", "study/2021-04/p2/T2_tra/img.nii"])
    if images == "study/**/{subject}/**/img.nii":  # p1 could be the folder of the month, too
        with pytest.raises(DataError, match="can be read as"):
            rows(tmp_path, images, "m/{subject}.nii")
        return
    found = rows(tmp_path, images, "m/{subject}.nii")
    assert [(row.key.subject, row.key.volume, row.mask.name) for row in found] == [
        ("p1", "image", "p1.nii"),
        ("p2", "image", "p2.nii"),
    ]


def test_placeholders_of_any_name_make_subject_volume_site_and_covariates(tmp_path: Path) -> None:
    files(
        tmp_path,
        [f"{site}/{number}/{visit}_{side}.nii" for site, number, visit, side in product("AB", "12", "xy", "lr")],
    )
    found = rows(
        tmp_path,
        "{site}/{id}/{visit}_{side}.nii",
        "masks/{site}/{id}_{side}.{visit}.nii",
        subject="{site}-{id}",
        volume="{visit}{side}",
        keep_covariates=("visit",),
    )
    assert len(found) == 16
    row = found[0]
    assert (str(row.key), row.site, row.covariates) == ("oai/A-1/xl", "A", {"id": "1", "visit": "x", "side": "l"})
    assert row.mask == tmp_path / "masks/A/1_l.x.nii"
    assert {row.key.subject for row in found} == {"A-1", "A-2", "B-1", "B-2"}


@pytest.mark.parametrize(
    ("names", "images"),
    [
        (["a_b_c.nii"], "{subject}_*.nii"),
        (["a_b_c.nii"], "*_{subject}.nii"),
        (["aba"], "*{subject}*"),
        (["a_1_b_1_c"], "{subject}_1_*"),
        (["x/y/img.nii"], "**/{subject}/**"),
    ],
)
def test_a_name_that_can_be_read_in_two_ways_is_refused(tmp_path: Path, names: list[str], images: str) -> None:
    files(tmp_path, names)
    with pytest.raises(DataError, match=r"can be read as .*give a table"):
        rows(tmp_path, images, "m/{subject}")


def test_readings_are_those_that_trying_all_of_them_gives(tmp_path: Path) -> None:
    """Every name over two letters, against every split of the name into the parts of a pattern."""
    names = ["".join(letters) for size in range(1, 6) for letters in product("a_", repeat=size)]
    files(tmp_path, names)
    for pattern in ("{s}_{v}", "{s}_*", "?{s}_{v}", "*_{s}a", "{s}{s}", "[a_]_{s}"):
        for name in names:
            readings = {frozenset(reading.items()) for reading in all_readings(pattern, name)}
            spans = len(all_readings(pattern, name))
            folders = Folders({tmp_path: (name,)})
            if spans > 1 and (len(readings) > 1 or "*" in pattern):
                with pytest.raises(DataError, match="can be read as"):
                    matches(tmp_path, pattern, folders)
            else:
                found = [frozenset(values.items()) for _, values in matches(tmp_path, pattern, folders)]
                assert set(found) == readings, (pattern, name)


def all_readings(pattern: str, name: str, known: tuple[tuple[str, str], ...] = ()) -> list[dict[str, str]]:
    """By trying: every way in which a pattern fits a name."""
    if not pattern:
        return [dict(known)] if not name else []
    if pattern[0] == "{":
        key, rest = pattern[1:].split("}", 1)
        values = dict(known)
        lengths = [len(values[key])] if key in values else range(1, len(name) + 1)
        return [
            one
            for length in lengths
            if values.get(key, name[:length]) == name[:length] and len(name) >= length
            for one in all_readings(rest, name[length:], (*known, (key, name[:length])))
        ]
    if pattern[0] == "*":
        return [one for length in range(len(name) + 1) for one in all_readings(pattern[1:], name[length:], known)]
    if pattern[0] == "[":
        inside, rest = pattern[1:].split("]", 1)
        return all_readings(rest, name[1:], known) if name and name[0] in inside else []
    return all_readings(pattern[1:], name[1:], known) if name and pattern[0] in (name[0], "?") else []


@pytest.mark.parametrize("folder", ["knees [2019]", "what?", "a*b", "[ab]"])
def test_a_name_with_wildcards_is_found_by_itself_first(tmp_path: Path, folder: str) -> None:
    files(tmp_path, [f"{folder}/p1 [MR].nii", f"{folder}/p2.nii", "knees 2/p3 M.nii", "a/p4 R.nii"])
    (row,) = rows(tmp_path, f"{folder}/{{subject}} [MR].nii", f"{folder}/{{subject}}.nii")
    assert row.key.subject == "p1"


def test_a_subject_whose_name_is_a_wildcard_finds_its_own_mask_only(tmp_path: Path) -> None:
    files(tmp_path, ["i/[ab].nii", "i/a.nii", "m/a_1.nii", "m/[ab]_2.nii"])
    found = rows(tmp_path, "i/{subject}.nii", "m/{subject}_*.nii")
    assert {row.key.subject: row.mask.name for row in found} == {"a": "a_1.nii", "[ab]": "[ab]_2.nii"}


def test_two_masks_for_one_volume_are_a_problem_of_this_volume_alone(tmp_path: Path) -> None:
    files(tmp_path, ["i/a.nii", "i/b.nii", "i/c.nii", "m/a_1.nii", "m/a_2.nii", "m/b_1.nii"])
    a, b, c = rows(tmp_path, "i/{subject}.nii", "m/{subject}_*.nii")
    assert "a_1.nii: is one of 2 that match m/{subject}_*.nii" in a.problem
    assert (b.problem, c.problem) == ("", "")
    assert (b.mask.exists(), c.mask.exists()) == (True, False)


def test_a_link_to_a_folder_above_ends(tmp_path: Path) -> None:
    files(tmp_path, ["study/a/img.nii", "study/b/img.nii"])
    (tmp_path / "study/a/up").symlink_to(tmp_path / "study")
    (tmp_path / "study/c").symlink_to(tmp_path / "study/b")
    found = rows(tmp_path, "study/{subject}/img.nii", "m/{subject}")
    assert [row.key.subject for row in found] == ["a", "b", "c"]
    assert matches(tmp_path, "study/**/img.nii", Folders())


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_an_accent_in_another_unicode_form_is_the_same_name(tmp_path: Path, form: str) -> None:
    other = "NFD" if form == "NFC" else "NFC"
    name = unicodedata.normalize(form, "Jos\u00e9")
    folder = "m\u00e9"
    files(tmp_path, [f"i/{name}.nii", unicodedata.normalize(other, f"{folder}/{name}.nii")])
    (row,) = rows(tmp_path, "i/{subject}.nii", unicodedata.normalize(form, folder) + "/{subject}.nii")
    assert row.key.subject == name
    assert row.mask.is_file()


@pytest.mark.parametrize("name", ["a\nb", " a", "x" * 129])
def test_a_file_whose_name_cannot_name_a_subject_is_named(tmp_path: Path, name: str) -> None:
    files(tmp_path, ["i/ok.nii", f"i/{name}.nii"])
    with pytest.raises(DataError, match=r"i/.*: subject .*a name is 1 to 128 printable .*rename the file"):
        rows(tmp_path, "i/{subject}.nii", "m/{subject}")


def test_one_person_in_two_unicode_forms_is_refused(tmp_path: Path) -> None:
    files(tmp_path, ["i/Jose\u0301.nii", "i/Jos\u00e9.nii"])
    with pytest.raises(DataError, match="in two Unicode forms"):
        rows(tmp_path, "i/{subject}.nii", "m/{subject}")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("i/{subject}.nii.gz", r"nothing called \{subject\}\.nii\.gz in .*/i; files there end in \.NII, \.nii$"),
        ("x/{subject}.nii", r"no file matches .*: nothing called x in .*[0-9]$"),
        ("*/{subject}.mha", r"nothing called \{subject\}\.mha in any of the 1 that match \*; files there end in"),
    ],
)
def test_nothing_found_says_where_it_ends(tmp_path: Path, images: str, message: str) -> None:
    files(tmp_path, ["i/a b.NII", "i/c.nii"])
    with pytest.raises(DataError, match=message):
        rows(tmp_path, images, "m/{subject}")


@pytest.mark.parametrize("bad", ["i/{subject}[z-a].nii"])
def test_a_set_that_is_none_is_named(tmp_path: Path, bad: str) -> None:
    files(tmp_path, ["i/a.nii"])
    with pytest.raises(DataError, match=r"its \[\.\.\.\] is no set of characters"):
        rows(tmp_path, bad, "m/{subject}")


@pytest.mark.slow
def test_ten_thousand_files_take_seconds(tmp_path: Path) -> None:
    (tmp_path / "i").mkdir()
    (tmp_path / "m").mkdir()
    for number in range(10_000):
        (tmp_path / f"i/s{number}_x.nii").touch()
        (tmp_path / f"m/s{number}_y.nii").touch()
    start = time.process_time()
    found = rows(tmp_path, "i/{subject}_x.*", "m/{subject}_?.nii")
    assert (len(found), sum(row.mask.exists() for row in found)) == (10_000, 10_000)
    assert time.process_time() - start < 15  # by looking at all masks for each image: over a minute
