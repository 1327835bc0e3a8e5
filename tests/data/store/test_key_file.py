"""The key file: made once, readable by its owner alone, and never guessed from a hash."""

import hmac
import os
import stat
from pathlib import Path

import pytest

from sam2ft.core.errors import DataError
from sam2ft.data.store.key_file import key_id, keyed_hash, others_can_read, read_key, write_key

KEY = bytes(range(32))


def test_a_new_key_is_random_for_its_owner_alone_and_never_replaced(tmp_path: Path) -> None:
    os.umask(before := os.umask(0))  # whatever the umask allows
    try:
        os.umask(0)
        first, second = write_key(tmp_path / "new" / "a.key"), write_key(tmp_path / "b.key")
    finally:
        os.umask(before)
    assert len(first) == 32
    assert first != second
    assert stat.S_IMODE((tmp_path / "b.key").stat().st_mode) == 0o600
    assert not others_can_read(tmp_path / "b.key")
    assert read_key(tmp_path / "new" / "a.key") == first
    with pytest.raises(FileExistsError):
        write_key(tmp_path / "b.key")
    assert read_key(tmp_path / "b.key") == second
    (tmp_path / "b.key").chmod(0o640)
    assert others_can_read(tmp_path / "b.key")


@pytest.mark.parametrize("content", [b"", b"abc", b"00" * 31, b"zz" * 32, b"\xff\xfe", b"00" * 33])
def test_what_is_no_key_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.key").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.key: is no key file; allowed: 64 hexadecimal digits.*subject_key"):
        read_key(tmp_path / "a.key")
    with pytest.raises(DataError, match=r"b\.key: no such key file; bring it back"):
        read_key(tmp_path / "b.key")


def test_a_hash_is_an_hmac_of_the_name_for_its_purpose() -> None:
    expected = hmac.new(KEY, b"sam2ft subject\0M\xc3\xbcller", "sha256").hexdigest()
    assert keyed_hash(KEY, "subject", "M\u00fcller") == expected
    # macOS writes names of files in decomposed form: it is the same subject.
    assert keyed_hash(KEY, "subject", "Mu\u0308ller") == expected
    others = {keyed_hash(KEY, "volume", "M\u00fcller"), keyed_hash(bytes(32), "subject", "M\u00fcller"), key_id(KEY)}
    assert expected not in others
    assert len(keyed_hash(KEY, "subject", os.fsdecode(b"caf\xe9"))) == 64  # a name that is not UTF-8
    assert KEY.hex() not in expected + key_id(KEY)
