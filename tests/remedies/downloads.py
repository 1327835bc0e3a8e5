"""Remedies of weights that are not there, not whole or of another program; the server is one of the tests'."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sam2ft.model.weights import read_weights
from sam2ft.tools.download_weights import STAGED, download, main
from sam2ft.tools.real_data import Archive, fetch
from tests.remedies.conftest import Desk, refusal
from tests.remedies.registry import remedy
from tests.tools.test_download_weights import Server


def _anything(_: Path) -> None:
    """A check that any file passes."""


def _served(action: Callable[[Server], str]) -> str:
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        return action(server)
    finally:
        server.shutdown()
        server.server_close()


@remedy("remove both files", of="bytes, but {} were recorded")
@remedy("download again", of="bytes, but {} were recorded")
@remedy("remove both files", of="was recorded at the first download")
@remedy("download again", of="was recorded at the first download")
@remedy("remove it", of="not the record of a download")
@remedy("run again", of="not the record of a download")
def a_download_that_changed_later(tmp_path: Path) -> str:
    def act(server: Server) -> str:
        path, shown = tmp_path / "model.pt", ""
        record = path.with_name("model.pt.json")
        download(server.url, path, _anything)
        for content in (b"short", bytes(len(server.content))):
            path.write_bytes(content)
            shown += refusal(lambda: download(server.url, path, _anything))
            path.unlink()
            record.unlink()
            download(server.url, path, _anything)
            assert path.read_bytes() == server.content
        record.write_text("[]")
        shown += refusal(lambda: download(server.url, path, _anything))
        record.unlink()
        download(server.url, path, _anything)
        assert path.read_bytes() == server.content
        return shown

    return _served(act)


@remedy("run again to continue, or without a network use --from")
def a_download_that_broke_off(tmp_path: Path) -> str:
    def act(server: Server) -> str:
        path = tmp_path / "model.pt"
        server.cut_after = 3_000_000
        shown = refusal(lambda: download(server.url, path, _anything))
        server.cut_after = None
        download(server.url, path, _anything)
        assert path.read_bytes() == server.content
        return shown

    return _served(act)


@remedy("run again", of="the file changed on the server")
def a_file_that_changed_on_the_server(tmp_path: Path) -> str:
    def act(server: Server) -> str:
        path = tmp_path / "model.pt"
        server.content_of_get = server.content + b"more"
        shown = refusal(lambda: download(server.url, path, _anything))
        server.content_of_get = None
        download(server.url, path, _anything)
        assert path.read_bytes() == server.content
        return shown

    return _served(act)


@remedy("--from, or {}")
def staged_weights_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from sam2ft.tools import download_weights as module

    monkeypatch.setattr(module, "_is_of", lambda official: _anything)
    monkeypatch.chdir(tmp_path)
    shown = refusal(lambda: main(["--from", "nowhere"]))
    Path("here").mkdir()
    from sam2ft.model.weights import OFFICIAL

    Path("here", OFFICIAL["sam2.1_hiera_tiny"].file_name).write_bytes(b"weights")
    main(["--from", "here", "--out", "one"])
    monkeypatch.setenv(STAGED, "here")
    main(["--out", "two"])
    assert [path.read_bytes() for path in sorted(Path().glob("[ot][nw][eo]/*.pt"))] == [b"weights"] * 2
    return shown


@remedy("remove the file", of="expected {}; remove the file")
@remedy("try again", of="expected {}; remove the file")
@remedy("copy that file into {} yourself")
def an_archive_of_another_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    content = b"archive"
    archive = Archive("no-such-package==0", "no.tar.gz", hashlib.sha256(content).hexdigest(), ("--no-index",))
    path = tmp_path / archive.file_name
    shown = refusal(lambda: fetch(archive, tmp_path))
    path.write_bytes(content)
    assert fetch(archive, tmp_path) == path
    for wrong in (b"", b"other", content[:-1]):
        path.write_bytes(wrong)
        shown += refusal(lambda: fetch(archive, tmp_path))
        path.unlink()
        path.write_bytes(content)
        fetch(archive, tmp_path)
    return shown


@remedy("save the state dict of the inner model")
def weights_with_a_prefix(toy: Any, desk: Desk) -> str:
    weights = read_weights(Path("weights/nano.safetensors"))
    command = "launch/eval.py --data data/toy --model sam2_nano --set module.image_size=64 --ckpt"
    torch.save({"model": {f"odd.inner.{name}": tensor for name, tensor in weights.items()}}, "weights/outer.pt")
    done = desk.run(command, "weights/outer.pt")
    torch.save({"model": dict(weights)}, "weights/inner.pt")
    desk.works(command, "weights/inner.pt")
    return done.text
