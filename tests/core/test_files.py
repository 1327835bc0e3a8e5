import json
import math
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sam2ft.core.errors import ClaimedError, DataError
from sam2ft.core.files import (
    DigestCache,
    canonical_json,
    fenced,
    listed_files,
    listed_names,
    read_json,
    remove_partial,
    replacing,
    sha256_file,
    sha256_text,
    write_json,
    write_text,
)


def test_a_file_is_what_it_was_when_writing_fails(tmp_path: Path):
    path = tmp_path / "table.csv"
    write_text(path, "old")

    def fail():
        with replacing(path) as partial:
            partial.write_text("half of the ne")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["table.csv"]


def test_a_file_is_written_in_a_folder_of_its_own_and_synced_with_its_folder(tmp_path: Path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    with replacing(tmp_path / "new" / "a.csv") as partial:
        partial.write_text("x")
        assert partial.parent.parent == tmp_path / "new" / ".partial"
        assert partial.name == "a.csv"
        (partial.parent / "of a library").write_text("too")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.csv"]
    assert synced == [str(partial), str(tmp_path / "new")]


def test_text_is_utf8_with_lf(tmp_path: Path):
    write_text(tmp_path / "a", "µm\n")
    assert (tmp_path / "a").read_bytes() == "µm\n".encode()


def test_json_holds_no_nan_and_bad_json_is_named(tmp_path: Path):
    path = tmp_path / "status.json"
    write_json(path, {"b": 1, "a": [0.1, None]})
    assert read_json(path) == {"b": 1, "a": [0.1, None]}
    assert list(json.loads(path.read_text())) == ["b", "a"]
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"loss": math.nan})
    path.write_text('{"a": 1,\n}')
    with pytest.raises(DataError, match=r"status\.json: not a JSON file .*line 2"):
        read_json(path)
    with pytest.raises(DataError, match=r"other\.json: no such file"):
        read_json(tmp_path / "other.json")


def test_one_value_has_one_canonical_text():
    assert canonical_json({"b": 1.0, "a": (1e-4, 0.0001)}) == '{"a":[0.0001,0.0001],"b":1}'
    assert canonical_json({"x": True}) == '{"x":true}'
    assert canonical_json({"x": 1.5}) != canonical_json({"x": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json([math.inf])


def test_a_remembered_digest_is_dropped_when_the_file_changes(tmp_path: Path):
    file, cache = tmp_path / "weights", tmp_path / "digests.json"
    file.write_bytes(b"one")
    assert DigestCache(cache).sha256(file) == sha256_file(file) == sha256_text("one")
    os.utime(file, ns=(1, 1))
    DigestCache(cache).sha256(file)
    file.write_bytes(b"two")
    assert DigestCache(cache).sha256(file) == sha256_text("two")


def test_a_remembered_digest_is_not_computed_again(tmp_path: Path, monkeypatch):
    file, cache = tmp_path / "weights", tmp_path / "digests.json"
    file.write_bytes(b"one")
    known = DigestCache(cache).sha256(file)
    monkeypatch.setattr("sam2ft.core.files.sha256_file", lambda path: pytest.fail("read again"))
    assert DigestCache(cache).sha256(file) == known


def test_a_fence_is_asked_before_anything_appears_behind_it(tmp_path: Path) -> None:
    """Right before: when the new file is whole. One that says no leaves everything as it was."""
    asked: list[str] = []
    write_text(tmp_path / "run" / "kept", "old")

    def check() -> None:
        asked.append((tmp_path / "run" / "kept").read_text())
        if len(asked) > 1:
            raise ClaimedError("somebody else's")

    with fenced(tmp_path / "run", check):
        write_text(tmp_path / "elsewhere", "free")
        write_text(tmp_path / "run" / "kept", "new")
        with pytest.raises(ClaimedError), replacing(tmp_path / "run" / "below" / "more") as partial:
            partial.write_text("whole")
    assert asked == ["old", "new"]
    assert [path.name for path in (tmp_path / "run").rglob("*") if path.is_file()] == ["kept"]
    write_text(tmp_path / "run" / "kept", "after it")


def test_digests_are_found_where_nothing_can_be_remembered(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("weights")
    (tmp_path / "in the way").write_text("a file, where the cache wants its folder")
    cache = DigestCache(tmp_path / "in the way" / "digests.json")
    assert cache.sha256(tmp_path / "data") == sha256_text("weights")


def test_temporary_files_of_killed_writers_are_removed_by_the_next_writer(tmp_path: Path) -> None:
    """Those of writers that run, of other machines and of other processes stay, until the only writer sweeps."""
    path, process = tmp_path / "status.json", subprocess.Popen(["sleep", "60"])
    code = f"""
import os, signal
from pathlib import Path
from sam2ft.core.files import replacing
with replacing(Path({str(path)!r})) as partial:
    partial.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    (left,) = (tmp_path / ".partial").iterdir()
    place = left.name.rsplit("-", 2)[0]
    for name in (f"{place}-{process.pid}-00000000", "elsewhere-1-1-00000000"):
        (tmp_path / ".partial" / name).mkdir()
    assert listed_files(tmp_path) == {}
    write_text(path, "whole")
    assert sorted(one.name for one in (tmp_path / ".partial").iterdir()) == [
        "elsewhere-1-1-00000000",
        f"{place}-{process.pid}-00000000",
    ]
    process.kill()
    process.wait()
    write_text(path, "whole")
    assert [one.name for one in (tmp_path / ".partial").iterdir()] == ["elsewhere-1-1-00000000"]
    os.utime(tmp_path / ".partial" / "elsewhere-1-1-00000000", (0, 0))
    write_text(path, "whole")
    assert [one.name for one in tmp_path.iterdir()] == ["status.json"]


def test_the_only_writer_removes_all_temporary_files_also_of_earlier_versions(tmp_path: Path) -> None:
    names = (".partial/a-1-2-3/x.csv", "below/.partial/b-1-2-3/.tmpAbCdEf", "below/.x.csv.77-0123abcd.partial.csv")
    for name in (*names, "below/kept.csv", ".hidden"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("half")
    remove_partial(tmp_path)
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert found == [".hidden", "below", "below/kept.csv"]


def test_writers_of_one_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Each removes the folder of temporary files when it is the last one in it."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: write_text(tmp_path / f"{number}", "x" * number), range(400)))
    assert sorted(len(path.read_text()) for path in tmp_path.iterdir()) == list(range(400))


def test_one_who_was_replaced_is_told_so_when_its_temporary_file_is_gone(tmp_path: Path) -> None:
    def refuse() -> None:
        raise ClaimedError("somebody else's")

    def write() -> None:
        with fenced(tmp_path, refuse), replacing(tmp_path / "a") as partial:
            partial.write_text("whole")
            remove_partial(tmp_path)

    with pytest.raises(ClaimedError):
        write()


def test_hidden_and_vanishing_files_are_not_listed(tmp_path: Path, monkeypatch) -> None:
    for name in ("2.json", "1.json", ".3.json", "4.csv"):
        (tmp_path / name).write_text(name)
    assert [path.name for path in listed_files(tmp_path, "*.json")] == ["1.json", "2.json"]
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: [*listdir(folder), "gone.json"])
    assert [path.name for path in listed_files(tmp_path, "*.json")] == ["1.json", "2.json"]
    assert listed_names(tmp_path / "none") == []


def test_a_file_that_replaces_the_listed_ones_is_listed(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "1.json").write_text("old")
    listdir, steps = os.listdir, iter(("2.json", "3.json"))

    def overtaken(folder: Path) -> list[str]:
        """The names, of which a writer replaces every file before anybody looks at one; twice."""
        names = listdir(folder)
        if step := next(steps, None):
            (tmp_path / step).write_text("new")
            (tmp_path / names[0]).unlink()
        return names

    monkeypatch.setattr(os, "listdir", overtaken)
    assert {path.name: stat.st_size for path, stat in listed_files(tmp_path).items()} == {"3.json": 3}
