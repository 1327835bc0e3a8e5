"""A download is whole, can be continued, and is the same file for ever after."""

import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from io import BytesIO

import pytest
import torch

from sam2ft.core.errors import CheckpointError, ConfigError
from sam2ft.core.files import read_json
from sam2ft.model.weights import OFFICIAL, OfficialWeights
from sam2ft.tools.download_weights import STAGED, download, main

CONTENT = bytes(range(256)) * 40_000  # 10 MB: several blocks


class Server(ThreadingHTTPServer):
    """Serves CONTENT at every path. `cut_after` closes the connection early, `tag` names the version."""

    cut_after: int | None = None
    tag: str | None = '"v1"'
    content = CONTENT
    content_of_get: bytes | None = None
    tag_of_get: str | None = None
    knows_ranges = True
    knows_if_range = True
    says_length = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges: list[str | None] = []
        self.paths: list[str] = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/model.pt"


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        server = self.server
        self.send_response(404 if self.path == "/none.pt" else 200)
        if server.says_length:
            self.send_header("Content-Length", str(len(server.content)))
        if server.knows_ranges:
            self.send_header("Accept-Ranges", "bytes")
        self._send_tag()
        self.end_headers()

    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.ranges.append(asked)
        server.paths.append(self.path)
        if self.path == "/none.pt":
            self.send_error(404)
            return
        content, tag = server.content_of_get or server.content, server.tag_of_get or server.tag
        total = len(content)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.knows_ranges else 0
        if server.knows_if_range and self.headers.get("If-Range") != tag:
            start = 0
        body = content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("Content-Length", str(len(body)))
        self._send_tag()
        self.end_headers()
        self.wfile.write(body if server.cut_after is None else body[: server.cut_after])

    def _send_tag(self):
        if self.server.tag is not None:
            self.send_header("ETag", self.server.tag)

    def log_message(self, *args):
        """Quiet."""


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_download_leaves_the_file_and_its_record(server, tmp_path):
    path = tmp_path / "weights" / "model.pt"
    record = download(server.url, path)
    assert path.read_bytes() == CONTENT
    assert record == {"url": server.url, "size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}
    assert read_json(path.with_name("model.pt.json")) == record
    assert sorted(file.name for file in path.parent.iterdir()) == ["model.pt", "model.pt.json"]


def test_a_second_call_asks_the_server_for_nothing(server, tmp_path):
    path = tmp_path / "model.pt"
    assert download(server.url, path) == download(server.url, path)
    assert server.ranges == [None]


def test_a_cut_download_continues_where_it_stopped(server, tmp_path):
    path = tmp_path / "model.pt"
    server.cut_after = 3_000_000
    with pytest.raises(CheckpointError, match=r"IncompleteRead\(3000000 bytes read, 7240000 .*; run again to continue"):
        download(server.url, path)
    assert not path.exists()
    (partial,) = tmp_path.iterdir()
    have = partial.stat().st_size
    assert 2_900_000 < have <= 3_000_000, "all but the last block"
    server.cut_after = None
    download(server.url, path)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={have}-"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.pt", "model.pt.json"]


@pytest.fixture
def cut(server, tmp_path):
    """A download of which 3 MB arrived."""
    path = tmp_path / "model.pt"
    server.cut_after = 3_000_000
    with pytest.raises(CheckpointError):
        download(server.url, path)
    server.cut_after = None
    return path


def test_bytes_of_two_versions_are_never_joined(server, cut):
    server.tag, server.content = '"v2"', CONTENT[::-1]
    download(server.url, cut)
    assert cut.read_bytes() == CONTENT[::-1]
    assert server.ranges == [None, None]
    assert sorted(file.name for file in cut.parent.iterdir()) == ["model.pt", "model.pt.json"], "no rest of the other"


@pytest.mark.parametrize("knows_if_range", [True, False])
def test_a_version_that_appears_between_question_and_download_is_not_joined(server, cut, knows_if_range):
    """If-Range: the server sends all of the new one, and more bytes arrive than were announced."""
    server.content_of_get = CONTENT[::-1] if knows_if_range else CONTENT[:-1]
    server.tag_of_get, server.knows_if_range = '"v2"', knows_if_range
    with pytest.raises(CheckpointError, match="the file changed on the server during the download; run again"):
        download(server.url, cut)
    assert not list(cut.parent.iterdir())


def test_a_file_that_became_shorter_than_what_had_arrived_is_fetched_anew(server, cut):
    server.tag, server.content = '"v2"', CONTENT[:1000]
    assert download(server.url, cut)["size"] == 1000
    assert cut.read_bytes() == CONTENT[:1000]


def test_a_server_without_ranges_sends_all_of_it_again(server, cut):
    server.knows_ranges = False
    download(server.url, cut)
    assert cut.read_bytes() == CONTENT
    assert server.ranges == [None, None]


def test_without_a_tag_or_with_a_weak_one_nothing_is_continued(server, tmp_path):
    for number, tag in enumerate((None, 'W/"v1"')):
        path = tmp_path / f"{number}.pt"
        server.tag, server.cut_after = tag, 3_000_000
        with pytest.raises(CheckpointError, match="run again"):
            download(server.url, path)
        server.cut_after = None
        download(server.url, path)
        assert path.read_bytes() == CONTENT
    assert server.ranges == [None] * 4


def test_all_of_it_had_arrived_when_the_connection_broke(server, cut):
    (partial,) = cut.parent.glob("model.pt.*.part")
    partial.write_bytes(CONTENT)
    download(server.url, cut)
    assert cut.read_bytes() == CONTENT
    assert server.ranges == [None], "asked for nothing more"


def test_a_server_that_does_not_say_how_long_the_file_is_is_refused(server, tmp_path):
    server.says_length = False
    with pytest.raises(CheckpointError, match="does not report the length of the file"):
        download(server.url, tmp_path / "model.pt")
    assert not (tmp_path / "model.pt").exists()


def test_the_first_download_says_what_its_checksum_is_worth(server, tmp_path, capsys):
    download(server.url, tmp_path / "model.pt")
    assert "they check the file from now on, not this download" in capsys.readouterr().err
    download(server.url, tmp_path / "model.pt")
    assert capsys.readouterr().err == ""


def test_a_file_of_another_size_than_recorded_is_refused_with_both(server, tmp_path):
    path = tmp_path / "model.pt"
    download(server.url, path)
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(CheckpointError, match="10239999 bytes, but 10240000 were recorded at the first download"):
        download(server.url, path)


def test_a_file_that_changed_since_its_record_is_refused(server, tmp_path):
    path = tmp_path / "model.pt"
    download(server.url, path)
    path.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(CheckpointError, match="was recorded at the first download"):
        download(server.url, path)


def test_what_the_server_refuses_or_cannot_be_reached_is_a_sentence(server, tmp_path):
    with pytest.raises(CheckpointError, match="the server returned 404"):
        download(server.url.replace("model", "none"), tmp_path / "model.pt")
    server.shutdown()
    server.server_close()
    with pytest.raises(CheckpointError, match="run again to continue, or without a network use --from"):
        download(server.url, tmp_path / "model.pt")


# --- official models ----------------------------------------------------------------------------------------------

# Trunk width and blocks of the four sizes (facebookresearch/sam2, configs).
SIZES = {"tiny": (96, 12), "small": (96, 16), "base_plus": (112, 24), "large": (144, 48)}


def checkpoint(name: str) -> bytes:
    """A file with the few tensors by which a model is told."""
    version, _, size = name.partition("_hiera_")
    width, blocks = SIZES[size]
    state = {
        "image_encoder.trunk.patch_embed.proj.weight": torch.zeros(width, 3, 7, 7),
        "no_mem_embed": torch.zeros(1, 1, 256),
        **{f"image_encoder.trunk.blocks.{i}.norm1.weight": torch.zeros(1) for i in range(blocks)},
    }
    if version == "sam2.1":
        state["no_obj_embed_spatial"] = torch.zeros(1, 64)
    stream = BytesIO()
    torch.save({"model": state}, stream)
    return stream.getvalue()


@pytest.fixture
def local(server, monkeypatch):
    """The eight official models, each at its own file name, on the local server."""
    here = server.url.rsplit("/", 1)[0]
    for name, official in list(OFFICIAL.items()):
        monkeypatch.setitem(OFFICIAL, name, OfficialWeights(official.config, f"{here}/{official.file_name}"))
    return server


def test_there_are_eight_official_models_each_with_a_config_of_the_package():
    versions = [f"{version}_hiera_{size}" for version in ("sam2", "sam2.1") for size in SIZES]
    assert sorted(OFFICIAL) == sorted(versions)
    for official in OFFICIAL.values():
        assert (resources.files("sam2") / official.config).is_file()


@pytest.mark.parametrize("name", sorted(OFFICIAL))
def test_every_official_model_is_fetched_by_its_name_and_is_what_it_says(local, tmp_path, name, capsys):
    local.content = checkpoint(name)
    assert main([name, "--out", str(tmp_path)]) == 0
    path = tmp_path / OFFICIAL[name].file_name
    said = capsys.readouterr()
    assert said.out == f"{path}\n"
    assert f"module.sam2_model_cfg: {name}, module.sam2_checkpoint: {path}\n" in said.err
    assert local.paths == [f"/{path.name}"]
    assert read_json(path.with_name(path.name + ".json"))["sha256"] == hashlib.sha256(local.content).hexdigest()


def test_an_unknown_name_lists_the_known_ones(local, tmp_path):
    with pytest.raises(
        ConfigError, match=r"'sam3' is not an official model; known: sam2_hiera_tiny, .*sam2.1_hiera_large"
    ):
        main(["sam3", "--out", str(tmp_path)])
    assert local.paths == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sam2.1_tiny", "'sam2.1_tiny' is not an official model (did you mean sam2.1_hiera_tiny?); known: "),
        ("sam2.1_hiera_small.pt", "(did you mean sam2.1_hiera_small?); known: "),
        ("SAM2-Large", "(did you mean sam2_hiera_large?); known: "),
        ("sam2_nano", "'sam2_nano' is not an official model, but part of sam2ft: it needs no file; known: "),
        ("best.pt", "'best.pt' is not an official model; known: "),
    ],
)
def test_the_model_that_is_meant_is_named(local, tmp_path, name, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        main([name, "--out", str(tmp_path)])
    assert local.paths == []


@pytest.mark.parametrize("content", [b"<html>log in to the proxy</html>", checkpoint("sam2.1_hiera_small")])
def test_what_arrived_whole_but_is_another_thing_is_refused_and_not_kept(local, tmp_path, content):
    local.content = content
    with pytest.raises(
        CheckpointError,
        match=r"a web page or answer|expected the weights of sam2.1_hiera_tiny, found sam2.1_hiera_small",
    ):
        main(["sam2.1_hiera_tiny", "--out", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


# --- a folder on a node without a network -------------------------------------------------------------------------


@pytest.fixture
def staged(local, tmp_path):
    """A folder into which sam2.1_hiera_tiny was fetched where there was a network."""
    local.content = checkpoint("sam2.1_hiera_tiny")
    main(["sam2.1_hiera_tiny", "--out", str(tmp_path / "staged")])
    local.paths.clear()
    return tmp_path / "staged"


@pytest.mark.parametrize("by", ["option", "variable"])
def test_staged_files_are_copied_and_verified_and_nothing_is_fetched(local, staged, tmp_path, monkeypatch, by):
    if by == "variable":
        monkeypatch.setenv(STAGED, str(staged))
    arguments = ["--from", str(staged)] if by == "option" else []
    assert main(["sam2.1_hiera_tiny", "--out", str(tmp_path / "weights"), *arguments]) == 0
    for name in ("sam2.1_hiera_tiny.pt", "sam2.1_hiera_tiny.pt.json"):
        assert (tmp_path / "weights" / name).read_bytes() == (staged / name).read_bytes()
    assert local.paths == []


def test_a_staged_file_may_be_used_where_it_lies(local, staged):
    before = {path.name: path.read_bytes() for path in staged.iterdir()}
    assert main(["sam2.1_hiera_tiny", "--out", str(staged), "--from", str(staged)]) == 0
    assert {path.name: path.read_bytes() for path in staged.iterdir()} == before


def test_a_staged_file_without_a_record_is_looked_at_and_recorded(local, staged, tmp_path, capsys):
    (staged / "sam2.1_hiera_tiny.pt.json").unlink()
    main(["sam2.1_hiera_tiny", "--out", str(tmp_path / "weights"), "--from", str(staged)])
    assert "has no sam2.1_hiera_tiny.pt.json: size and sha256 are recorded now" in capsys.readouterr().err
    record = read_json(tmp_path / "weights" / "sam2.1_hiera_tiny.pt.json")
    assert record["size"] == (staged / "sam2.1_hiera_tiny.pt").stat().st_size


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "were recorded at the first download"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"!"), "was recorded at the first download"),
        (lambda path: (path.with_name(path.name + ".json").unlink(), path.write_bytes(b"PK")), "not a checkpoint"),
        (lambda path: path.unlink(), "no such file; download it on a machine with a network: http"),
        (lambda path: path.with_name(path.name + ".json").write_text("[]"), "not the record of a download"),
    ],
)  # fmt: skip
def test_a_staged_file_that_is_not_whole_is_refused_and_nothing_is_written(local, staged, tmp_path, spoil, said):
    spoil(staged / "sam2.1_hiera_tiny.pt")
    with pytest.raises(CheckpointError, match=said):
        main(["sam2.1_hiera_tiny", "--out", str(tmp_path / "weights"), "--from", str(staged)])
    assert not (tmp_path / "weights").exists()
    assert local.paths == []


def test_a_folder_that_is_not_there_is_a_message(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere: no such folder \(--from, or SAM2FT_WEIGHTS\)"):
        main(["sam2.1_hiera_tiny", "--from", str(tmp_path / "nowhere")])
