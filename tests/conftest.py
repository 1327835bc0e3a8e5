"""What all tests share; what several folders share besides lies in fixtures/."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam2ft.core.digests import verified_files

SHARED = ("devices", "owners", "points", "processes", "scoring", "stores", "trainings", "workplace")
pytest_plugins = tuple(f"fixtures.{name}" for name in SHARED)

ROOT = Path(__file__).parents[1]


LONGEST = (
    "tests/test_demo.py",
    "tests/torture/test_flips.py",
    "tests/jobs/test_killed.py",
    "tests/test_processors.py",
    "tests/test_benchmarks.py",
    "tests/torture/test_disk_faults.py",
    "tests/remedies/test_remedies.py",
    "tests/report/browser/test_page_in_browser.py",
    "tests/distributed/test_failure_watch.py",
    "tests/test_end_to_end.py",
)
"""Files that take minutes. Each is one worker's, so one that begins last keeps that worker when the others are done."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first; the Makefile tells xdist to keep this order."""
    places = {ROOT / name: place for place, name in enumerate(LONGEST)}
    assert all(path.is_file() for path in places), "LONGEST names a file that is gone"
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked `gpu` are skipped where torch sees none."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no GPU")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of small real images; tests that need it are marked `real`."""
    folder = Path(os.environ.get("SAM2FT_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}; set SAM2FT_REAL_DATA")
    return folder


@pytest.fixture(scope="session")
def shared_cases() -> Path:
    """Folder of inputs that once went wrong; tests that need it are marked `real`."""
    folder = Path(os.environ.get("SAM2FT_SHARED_CASES", ROOT.parent / "shared" / "cases"))
    if not folder.is_dir():
        pytest.skip(f"no shared cases at {folder}; set SAM2FT_SHARED_CASES")
    return folder


@pytest.fixture(autouse=True)
def nothing_told_yet(process_is_left_as_it_was: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test begins as a new process, which has read no file and told no damage."""
    monkeypatch.setattr(verified_files, "_UNVERIFIED", {})
    monkeypatch.setattr(verified_files, "_TOLD", set())


@pytest.fixture
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the test in an empty working directory: paths in a YAML are relative to it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


TOY_SPLITS = {"a": "train", "b": "train", "c": "train", "d": "val", "e": "test", "f": "test"}
TOY_YAML = """\
experiment: {name: toy, seed: 42}
dataset:
  toy: {store: data/toy}
datamodule: {bbox_shift: 2, batch_size: 2, num_workers: 0, metric: {func: {dice: true, iou: true}}}
module:
  sam2_model_cfg: sam2_nano
  sam2_checkpoint: weights/nano.safetensors
  image_size: 64
  trainable: {prompt_encoder: false, image_encoder: false, mask_decoder: true}
  optimizer: {type: AdamW, lr: 1e-3}
  num_epochs: 2
  use_amp: false
  early_stopping: {enabled: false}
eval: {precision: fp32, qc_slices: 4}
resources: {nodes: 1, gpus_per_node: 0, cpus_per_task: 1, mem_gb: 1, hours: 1}
"""


@dataclass(frozen=True)
class Toy:
    """A working directory that everything can be run in: data/toy, weights/nano.safetensors, toy.yaml."""

    folder: Path

    @property
    def experiment(self) -> Path:
        return self.folder / "toy.yaml"

    @property
    def weights(self) -> Path:
        return self.folder / "weights" / "nano.safetensors"

    @property
    def store(self) -> Path:
        return self.folder / "data" / "toy"

    def write(self, changed: str = "", to: str = "", more: str = "") -> Path:
        """The experiment with one piece of text replaced and some added."""
        if changed not in TOY_YAML:
            raise ValueError(f"{changed!r} is not in the experiment")
        self.experiment.write_text(TOY_YAML.replace(changed, to) + more)
        return self.experiment

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Name -> (time of modification, content) of every file, to see that nothing was touched."""
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def write_toy_store(folder: Path, labels: dict[int, str] | None = None) -> Path:
    """Six subjects (3 train, 1 val, 2 test) of 4 slices of 64 x 64 pixels: slice 0 empty, the others with a disc
    (label 1), a bar (label 2) and, in slice 3, a second bar; brighter than the background by label.
    """
    from sam2ft.core.geometry import Geometry
    from sam2ft.core.keys import VolumeKey
    from sam2ft.core.labels import Label, LabelTable
    from sam2ft.data.store.writer import PreparedVolume, StoreWriter

    table = LabelTable(tuple(Label(number, name) for number, name in (labels or {1: "disc", 2: "bar"}).items()))
    writer = StoreWriter(folder, "toy", "knee", table, split_seed=7)
    y, x = np.indices((64, 64))
    keys = []
    for number, subject in enumerate(TOY_SPLITS):
        mask = np.zeros((4, 64, 64), dtype=np.uint8)
        mask[1:, (y - 20 - number) ** 2 + (x - 20) ** 2 <= 100] = 1
        mask[1:, 40:52, 30 + number : 58] = 2
        mask[3, 6:14, 44:60] = 2
        noise = np.random.default_rng(number).integers(0, 9000, size=mask.shape)
        geometry = Geometry.axis_aligned(mask.shape, (3.0, 0.5, 0.75))
        per_slice = {"pixel_spacing": [[0.5, 0.75]] * 4, "slice_thickness": [3.0] * 4, "slice_spacing": [3.0] * 4}
        slices = per_slice | {"rows": [64] * 4, "columns": [64] * 4}
        image = (mask.astype(np.uint16) * 20000 + noise).astype(np.uint16)
        keys.append(VolumeKey("toy", subject, "image"))
        writer.write(PreparedVolume(keys[-1], geometry, image, mask, {}, (0.0, 1.0), slices, {}), source="test")
    writer.finish(keys, TOY_SPLITS)
    return folder


@pytest.fixture(scope="session")
def toy_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy's store and weights (a nano SAM 2 of random weights), made once."""
    from safetensors.torch import save_file

    from sam2ft.model.segmenter import build_untrained

    folder = tmp_path_factory.mktemp("toy")
    write_toy_store(folder / "data" / "toy")
    (folder / "weights").mkdir()
    model = build_untrained("sam2_nano", image_size=64, seed=3)
    save_file(model.sam2_model.state_dict(), folder / "weights" / "nano.safetensors")
    (folder / "toy.yaml").write_text(TOY_YAML)
    return folder


@pytest.fixture
def toy(toy_parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """The toy in a working directory of its own, outside Slurm."""
    for name in [name for name in os.environ if name.startswith("SLURM_")] + ["RANK", "WORLD_SIZE", "LOCAL_RANK"]:
        monkeypatch.delenv(name, raising=False)
    folder = Path(shutil.copytree(toy_parts, tmp_path / "toy"))
    monkeypatch.chdir(folder)
    return Toy(folder)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium; tests are skipped where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium on PATH (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    # Not for the whole session: as long as it lives, no other test of the process can run an event loop.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def _opening(chromium: Any) -> Iterator[Callable[..., Any]]:
    contexts, complaints = [], []

    def open_page(path: Path, **settings: Any) -> Any:
        contexts.append(chromium.new_context(offline=True, **({"viewport": {"width": 1300, "height": 900}} | settings)))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or complaints.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def opened(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page of a report from disk, without a network; fails for any complaint on the console and for any request
    that leaves the disk."""
    with _opening(chromium) as open_page:
        yield open_page


@pytest.fixture(scope="module")
def kept_open(chromium: Any) -> Iterator[Callable[..., Any]]:
    """`opened` for pages that several tests of a module look at."""
    with _opening(chromium) as open_page:
        yield open_page


@pytest.fixture(scope="session")
def walk_down() -> Callable[[Any], None]:
    """Goes through a page as a reader scrolls, with everything unfolded, until all plots and pictures are there."""

    def walk(page: Any) -> None:
        page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
        y = 0
        # Asked again at each step: plots are less or more high than the pictures whose place they take.
        while y < page.evaluate("document.documentElement.scrollHeight"):
            page.evaluate(f"scrollTo(0, {y})")
            page.wait_for_timeout(30)
            y += 600
        drawn = "[...document.querySelectorAll('figure.plot')].every(f => f.querySelector('canvas'))"
        loaded = "[...document.images].every(i => !i.offsetParent || (i.complete && i.naturalWidth))"
        # Not wait_for_function: it evaluates its text inside of the page, whose policy forbids that.
        end = time.monotonic() + 30
        while not (page.evaluate(drawn) and page.evaluate(loaded)):
            assert time.monotonic() < end, "plots or pictures are missing"
            page.wait_for_timeout(50)

    return walk
