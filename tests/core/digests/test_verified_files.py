from pathlib import Path

import pytest

from sam2ft.core.digests import verified_files
from sam2ft.core.digests.verified_files import (
    digest_file,
    read_sealed_json,
    read_with_digest,
    unverified_note,
    write_sealed_json,
    write_with_digest,
)
from sam2ft.core.errors import DataError
from sam2ft.core.files import read_json, write_json


@pytest.fixture(autouse=True)
def _nothing_noted(monkeypatch) -> None:
    monkeypatch.setattr(verified_files, "_UNVERIFIED", {})


def test_a_sealed_file_reads_back_as_its_value_and_an_edit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "claim.json"
    write_sealed_json(path, {"spacing": [1.0, 0.5]})
    assert read_json(path) == read_sealed_json(path) == {"spacing": [1.0, 0.5]}
    assert unverified_note() is None
    path.write_text(path.read_text().replace("0.5", "0.6"))
    with pytest.raises(DataError, match=r"claim\.json: damaged, or edited"):
        read_json(path)


def test_files_of_earlier_versions_are_read_and_noted(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        write_json(tmp_path / name, {"a": 1})
        assert read_json(tmp_path / name) == {"a": 1}
    assert unverified_note() is None
    assert read_sealed_json(tmp_path / "a.json") == {"a": 1}
    assert unverified_note() == (
        "note: unverified, because it has no digest (of an earlier version, or edited and accepted): "
        f"{tmp_path / 'a.json'}"
    )
    read_sealed_json(tmp_path / "b.json")
    assert str(unverified_note()).endswith("a.json and 1 more files")


def test_a_torn_read_is_read_again(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "status.json"
    write_sealed_json(path, {"a": 1})
    whole, reads = path.read_bytes(), []

    def torn(self: Path) -> bytes:
        reads.append(self)
        return whole[:20] if len(reads) == 1 else whole

    monkeypatch.setattr(Path, "read_bytes", torn)
    assert read_json(path) == {"a": 1}
    assert len(reads) == 2


def test_a_file_with_a_digest_beside_it_is_verified_whenever_its_writer_is_killed(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "history.csv"
    write_with_digest(path, b"epoch\n0\n")
    write_with_digest(path, b"epoch\n0\n1\n")
    assert read_with_digest(path) == b"epoch\n0\n1\n"

    def killed(_path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verified_files, "replacing", killed)  # after the digest file, before the file
    with pytest.raises(KeyboardInterrupt):
        write_with_digest(path, b"epoch\n0\n1\n2\n")
    assert read_with_digest(path) == b"epoch\n0\n1\n"


def test_any_change_beside_a_digest_is_found_and_accepted_as_the_message_says(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    write_with_digest(path, b"epoch\n0\n1\n")
    for data in (b"", b"epoch\n0\n", b"epoch\n0\n2\n"):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"remove .*history\.csv\.sha256 to accept it"):
            read_with_digest(path)
    digest_file(path).unlink()
    assert read_with_digest(path) == b"epoch\n0\n2\n"
    assert "history.csv" in str(unverified_note())
