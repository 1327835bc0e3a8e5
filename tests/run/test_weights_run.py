"""A download is whole, can be continued, and is the same file for ever after."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sam2ft.core.errors import CheckpointError, ConfigError
from sam2ft.core.files import read_json
from sam2ft.run import weights_run
from sam2ft.run.weights_run import download, fetch_official

CONTENT = bytes(range(256)) * 40_000  # 10 MB: several blocks


class Server(ThreadingHTTPServer):
    """Serves CONTENT with ranges; `cut_after` closes the connection early, `tag` names the version."""

    cut_after: int | None = None
    tag = '"v1"'
    content = CONTENT

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges: list[str | None] = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/model.pt"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        if self.path != "/model.pt":
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if asked and self.headers.get("If-Range") != self.server.tag:
            start = 0
        if start and start >= len(self.server.content):
            self.send_error(416)
            return
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", self.server.tag)
        self.end_headers()
        self.wfile.write(body if self.server.cut_after is None else body[: self.server.cut_after])

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
    with pytest.raises(CheckpointError, match="3000000 of 10240000 bytes arrived; run again to continue"):
        download(server.url, path)
    assert not path.exists()
    server.cut_after = None
    download(server.url, path)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=3000000-"]


def test_bytes_of_two_versions_are_never_joined(server, tmp_path):
    path = tmp_path / "model.pt"
    server.cut_after = 3_000_000
    with pytest.raises(CheckpointError):
        download(server.url, path)
    server.cut_after, server.tag, server.content = None, '"v2"', CONTENT[::-1]
    download(server.url, path)
    assert path.read_bytes() == CONTENT[::-1]


def test_a_file_that_changed_since_its_record_is_refused(server, tmp_path):
    path = tmp_path / "model.pt"
    download(server.url, path)
    path.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(CheckpointError, match="was recorded at the first download"):
        download(server.url, path)


def test_what_the_server_refuses_or_cannot_be_reached_is_a_sentence(server, tmp_path):
    with pytest.raises(CheckpointError, match="the server says 404"):
        download(server.url.replace("model", "other"), tmp_path / "model.pt")
    server.shutdown()
    server.server_close()
    with pytest.raises(CheckpointError, match="run again to continue from the start"):
        download(server.url, tmp_path / "model.pt")


def test_official_names_are_known(server, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"'sam3' is no official model; known: sam2_hiera_tiny"):
        fetch_official(["sam3"], tmp_path)
    official = weights_run.OFFICIAL["sam2.1_hiera_tiny"]
    monkeypatch.setitem(weights_run.OFFICIAL, "sam2.1_hiera_tiny", type(official)(official.config, server.url))
    assert fetch_official(["sam2.1_hiera_tiny"], tmp_path) == [tmp_path / "model.pt"]
