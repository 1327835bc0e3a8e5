"""Whose files run: by owner, mode, group, access list and links, with remedies that work."""

import grp
import os
import pwd
import re
import shlex
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sam2ft.config import trust
from sam2ft.config.trust import VARIABLE, is_trusted, refuse_untrusted
from sam2ft.core.errors import ConfigError, UserError

Give = Callable[[Path], None]
OWN = os.geteuid()
LAB, FRIEND = 43210, 54320
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Answers about users and groups are kept for a whole process."""
    monkeypatch.delenv(VARIABLE, raising=False)
    caches = (trust._trusted, trust._is_private, trust._groups_of)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir(mode=0o755)
    path = tmp_path / "in" / "toy.yaml"
    path.write_text("x: 1\n")
    path.chmod(0o644)
    return path


def message(path: Path) -> str:
    """The refusal of `path`, which has to be one line."""
    with pytest.raises(UserError) as refused:
        refuse_untrusted(path, "plan")
    assert "\n" not in str(refused.value)
    assert not is_trusted(path)
    return str(refused.value)


def test_ones_own_files_and_those_of_root_run(file: Path) -> None:
    refuse_untrusted(file, "plan")
    refuse_untrusted(Path("/etc/passwd"), "plan")
    assert is_trusted(file)


@pytest.mark.parametrize("name", ["in/none.yaml", "none/toy.yaml", "none/none/toy.yaml"])
def test_a_missing_file_is_left_to_its_reader(file: Path, name: str) -> None:
    refuse_untrusted(file.parents[1] / name, "plan")


@pytest.mark.parametrize("which", ["file", "folder"])
def test_what_belongs_to_another_user_is_refused(file: Path, belongs_to_another: Give, which: str) -> None:
    belongs_to_another(file if which == "file" else file.parent)
    text = message(file)
    assert re.search(r"belongs to user \S+ \(uid \d+, mode 0\d{3}\)", text)
    assert "copy it to a folder of yours" in text
    assert f"set {VARIABLE}=" in text


@as_root
def test_the_remedies_for_a_file_of_another_user_work(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(file, 54321, -1)
    found = re.search(rf"set ({VARIABLE})=(\S+)", message(file))
    assert found is not None
    copy = tmp_path / "copy.yaml"
    subprocess.run(["cp", file, copy], check=True)
    refuse_untrusted(copy, "plan")
    monkeypatch.setenv(found[1], found[2])
    refuse_untrusted(file, "plan")


@pytest.mark.parametrize("mode", [0o646, 0o666, 0o602])
@pytest.mark.parametrize("which", ["file", "folder"])
def test_what_all_users_can_write_is_refused_and_the_remedy_works(file: Path, which: str, mode: int) -> None:
    place = file if which == "file" else file.parent
    place.chmod(mode | 0o100)
    text = message(file)
    assert f"mode {mode | 0o100:04o}" in text
    command = re.search(r"chmod o-w .*", text)
    assert command is not None
    subprocess.run(shlex.split(command[0]), check=True)
    assert "by all users" not in (message(file) if not is_trusted(file) else "")


def test_in_a_sticky_folder_the_file_alone_counts(file: Path) -> None:
    file.parent.chmod(0o1777)
    refuse_untrusted(file, "plan")
    file.chmod(0o666)
    assert "by all users" in message(file)


def test_a_folder_that_is_to_be_trusted_itself_is_not_saved_by_its_sticky_bit(file: Path) -> None:
    file.parent.chmod(0o1777)
    assert "by all users" in message(file.parent)


def groups(monkeypatch: pytest.MonkeyPatch, gid: int, name: str, *members: str) -> None:
    """The group database of another machine, for one group; its users: this one as `own`, `friend` and `eve`."""
    users = {"own": (OWN, gid), "friend": (FRIEND, LAB), "eve": (54322, gid), "lab": (54323, 1)}

    def getgrgid(asked: int) -> grp.struct_group:
        if asked != gid:
            raise KeyError(asked)
        return grp.struct_group((name, "x", gid, list(members)))

    def getpwnam(asked: str) -> pwd.struct_passwd:
        uid, main = users[asked]
        return pwd.struct_passwd((asked, "x", uid, main, "", "/", "/bin/sh"))

    monkeypatch.setattr(grp, "getgrgid", getgrgid)
    monkeypatch.setattr(pwd, "getpwnam", getpwnam)


@pytest.mark.parametrize("members", [(), ("own",)])
def test_a_private_group_may_write(file: Path, monkeypatch: pytest.MonkeyPatch, members: tuple[str, ...]) -> None:
    """umask 002 with a group for each user is the default of Red Hat and Debian."""
    groups(monkeypatch, file.stat().st_gid, "own", *members)
    for place in (file, file.parent):
        place.chmod(place.stat().st_mode | 0o020)
    refuse_untrusted(file, "plan")


@pytest.mark.parametrize(("name", "members"), [
    ("users", ()),  # the main group of everybody, who are not listed
    ("own", ("own", "eve")),  # somebody was added
    ("own", ("nobody knows",)),
    ("lab", ()),  # a user of this name has another main group
    ("nobody knows", ()),
])  # fmt: skip
@pytest.mark.parametrize("which", ["file", "folder"])
def test_a_group_that_others_can_be_in_may_not_write(
    file: Path, monkeypatch: pytest.MonkeyPatch, name: str, members: tuple[str, ...], which: str
) -> None:
    groups(monkeypatch, file.stat().st_gid, name, *members)
    place = file if which == "file" else file.parent
    place.chmod(place.stat().st_mode | 0o020)
    text = message(file)
    assert f"by group {name}" in text
    assert f"{VARIABLE}=@{name}" in text
    with monkeypatch.context() as trusting:
        monkeypatch.setattr(grp, "getgrnam", lambda _: grp.struct_group((name, "x", file.stat().st_gid, [])))
        trusting.setenv(VARIABLE, f"@{name}")
        refuse_untrusted(file, "plan")
    assert not is_trusted(file)
    command = re.search(r"chmod g-w [^,]*", text)
    assert command is not None
    subprocess.run(shlex.split(command[0]), check=True)
    refuse_untrusted(file, "plan")


def test_a_group_without_a_name_may_not_write(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gid = file.stat().st_gid
    groups(monkeypatch, gid + 1, "other")
    file.chmod(0o664)
    assert f"by group {gid}" in message(file)
    monkeypatch.setenv(VARIABLE, f"@{gid}")
    refuse_untrusted(file, "plan")


@pytest.mark.parametrize("link", ["file", "folder", "two links"])
def test_a_link_to_a_file_of_another_user_is_refused(
    file: Path, tmp_path: Path, belongs_to_another: Give, link: str
) -> None:
    path = tmp_path / "link"
    if link == "folder":
        path.symlink_to(file.parent)
        path = path / file.name
    elif link == "file":
        path.symlink_to(file)
    else:
        (tmp_path / "second").symlink_to("in/toy.yaml")
        path.symlink_to("second")
    refuse_untrusted(path, "plan")
    belongs_to_another(file)
    assert "belongs to user" in message(path)


def test_a_link_of_another_user_to_ones_own_file_is_refused(
    file: Path, tmp_path: Path, belongs_to_another: Give
) -> None:
    """In a sticky folder anybody can lay a link to another of one's files."""
    path = tmp_path / "link"
    path.symlink_to(file)
    belongs_to_another(path)
    assert "link" in message(path)


def test_a_link_to_a_file_that_all_users_can_write_is_refused(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "link"
    path.symlink_to(file)
    file.parent.chmod(0o777)
    assert str(file.parent) in message(path)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert is_trusted(tmp_path / "a")  # nothing can be read from it


def access_list(path: Path, *entries: tuple[int, int, int]) -> None:
    """Write a POSIX access list of (tag, permission, id) as setfacl does; skips where the file system has none."""
    whole = [(0x01, 6, 2**32 - 1), *entries, (0x10, 7, 2**32 - 1), (0x20, 4, 2**32 - 1)]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in sorted(whole))
    try:
        os.setxattr(path, "system.posix_acl_access", value)
    except OSError as error:
        pytest.skip(f"no access lists here: {error}")


@pytest.mark.parametrize(("entry", "allowed", "trusting"), [
    ((0x02, 6, FRIEND), False, str(FRIEND)),
    ((0x08, 7, LAB), False, f"@{LAB}"),
    ((0x02, 4, FRIEND), True, ""),
    ((0x08, 5, LAB), True, ""),
])  # fmt: skip
def test_users_and_groups_of_an_access_list_count(
    file: Path, monkeypatch: pytest.MonkeyPatch, entry: tuple[int, int, int], allowed: bool, trusting: str
) -> None:
    access_list(file, (0x04, 4, 2**32 - 1), entry)
    assert file.stat().st_mode & 0o020
    assert is_trusted(file) == allowed
    if not allowed:
        assert f"{VARIABLE}={trusting}" in message(file)
        monkeypatch.setenv(VARIABLE, trusting)
    refuse_untrusted(file, "plan")


@as_root
@pytest.mark.parametrize("text", ["54321", " 54321 , 17", "daemon,54321,", "@1, 54321"])
def test_users_that_are_trusted(file: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    os.chown(file, 54321, -1)
    monkeypatch.setenv(VARIABLE, text)
    refuse_untrusted(file, "plan")
    file.chmod(0o646)
    assert "by all users" in message(file)


@as_root
def test_members_of_a_group_that_is_trusted(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = pwd.getpwnam("daemon")
    os.chown(file, daemon.pw_uid, daemon.pw_gid)
    file.chmod(0o664)
    assert f"{VARIABLE}=daemon" in message(file)
    monkeypatch.setenv(VARIABLE, f"@{grp.getgrgid(daemon.pw_gid).gr_name}")
    refuse_untrusted(file, "plan")
    os.chown(file, 54321, daemon.pw_gid)
    assert "belongs to user 54321" in message(file)


@pytest.mark.parametrize(("text", "unknown"), [
    ("no-such-user", "user 'no-such-user'"),
    ("root,@no-such-group", "group 'no-such-group'"),
    ("@", "group ''"),
    ("root;daemon", "user 'root;daemon'"),
])  # fmt: skip
def test_a_name_that_nobody_has_is_an_error_and_no_silence(
    file: Path, monkeypatch: pytest.MonkeyPatch, text: str, unknown: str
) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(ConfigError, match=f"no {unknown} on this machine; allowed: users and @groups"):
        refuse_untrusted(file, "plan")


@as_root
def test_the_owner_of_the_installed_package_is_trusted_but_not_the_user_of_all_unknown_files(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose code runs already needs no second trust; in a user namespace, strangers' files all have one owner."""
    package = tmp_path / "package"
    package.mkdir()
    monkeypatch.setattr(trust, "_PACKAGE", package)
    for uid, trusted in ((54321, True), (trust._overflow_uid(), False)):
        os.chown(package, uid, -1)
        os.chown(file, uid, -1)
        trust._trusted.cache_clear()
        assert is_trusted(file) == trusted
