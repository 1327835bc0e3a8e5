"""Archives that would write elsewhere, hold links, lie about their sizes or are damaged."""

import stat
import zipfile
from pathlib import Path

import pytest

from sam2ft.core.errors import DataError
from sam2ft.data.scan.archives import is_archive, listed_archive, unpack_zip


def packed(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def one(path: Path, name: str, content: bytes = b"x", mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        archive.writestr(member, content)
    return path


def test_an_archive_is_unpacked_at_its_place_once(tmp_path):
    (tmp_path / "in/site").mkdir(parents=True)
    path = packed(tmp_path / "in/site/P01.zip", **{"a/1.dcm": b"one", "2.dcm": b"two"})
    assert is_archive(path)
    archive = listed_archive(path)
    assert (archive.num_files, archive.num_bytes) == (2, 6)
    folder = unpack_zip(archive, tmp_path / "in", tmp_path / "out")
    assert folder == tmp_path / "out/site/P01"
    assert (folder / "a/1.dcm").read_bytes() == b"one"
    written = (folder / "2.dcm").stat().st_mtime_ns
    (folder / "notes.txt").write_text("mine")
    assert unpack_zip(archive, tmp_path / "in", tmp_path / "out") == folder
    assert (folder / "2.dcm").stat().st_mtime_ns == written
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("content", [b"ONE", None])
def test_a_folder_that_holds_something_else_is_not_taken_for_the_archive(tmp_path, content):
    """Of the archive P01.zip of another site, or changed since."""
    (tmp_path / "in").mkdir()
    path = packed(tmp_path / "in/P01.zip", **{"a/1.dcm": b"one", "2.dcm": b"two"})
    file = unpack_zip(listed_archive(path), tmp_path / "in", tmp_path / "out") / "a/1.dcm"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(DataError, match=r"P01\.zip: 1 of its 2 files are not in .*out/P01 .*'a/1\.dcm'; scan that"):
        unpack_zip(listed_archive(path), tmp_path / "in", tmp_path / "out")
    assert (file.read_bytes() if file.exists() else None) == content


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "C:\\x", "..\\x", "\\\\server\\x", "a/../x"])
def test_names_that_lead_out_are_refused_and_nothing_is_written(tmp_path, name):
    path = one(tmp_path / "P.zip", name)
    with pytest.raises(DataError, match="leads out"):
        listed_archive(path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["P.zip"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path, kind):
    with pytest.raises(DataError, match=r"P\.zip: 'x' is"):
        listed_archive(one(tmp_path / "P.zip", "x", b"/etc/passwd", kind | 0o777))


def test_more_bytes_than_declared_are_refused_and_nothing_stays(tmp_path):
    path = packed(tmp_path / "P.zip", bomb=bytes(100_000))
    content = path.read_bytes()
    size = (100_000).to_bytes(4, "little")
    assert content.count(size) == 2
    path.write_bytes(content.replace(size, (10).to_bytes(4, "little")))
    with pytest.raises(DataError, match=r"P\.zip"):
        unpack_zip(listed_archive(path), tmp_path, tmp_path / "out")
    assert not [entry for entry in (tmp_path / "out").rglob("*") if entry.is_file()]


def test_more_than_the_free_space_is_refused_before_it_is_written(tmp_path, monkeypatch):
    path = packed(tmp_path / "P.zip", a=bytes(1000))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 999})())
    with pytest.raises(DataError, match="more space"):
        unpack_zip(listed_archive(path), tmp_path, tmp_path / "out")


@pytest.mark.parametrize("damage", ["cut", "flipped", "text"])
def test_damaged_archives_are_refused_by_name(tmp_path, damage):
    path = packed(tmp_path / "P.zip", a=bytes(range(256)) * 40)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flipped":
        content[60] ^= 0xFF
    else:
        content = bytearray(b"PK but no archive")
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"P\.zip"):
        unpack_zip(listed_archive(path), tmp_path, tmp_path / "out")
    assert not list(tmp_path.glob("out/P"))


def test_twins_by_case_are_refused(tmp_path):
    with pytest.raises(DataError, match="twice"):
        listed_archive(packed(tmp_path / "P.zip", **{"a.dcm": b"1", "A.DCM": b"2"}))
