"""A small study on disk with a file of every kind that is read back, and the commands that read them."""

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam2ft.core.errors import StopRequestedError
from sam2ft.core.files import sha256_file
from sam2ft.data.store.metadata import load_meta
from sam2ft.data.store.store import Store

ROOT = Path(__file__).parents[2]
DATASET = """\
dataset: {name: toy, anatomy: knee}
sources: {images: "raw/images/{subject}.nii.gz", masks: "raw/masks/{subject}.nii.gz"}
labels: {1: {name: disc}, 2: {name: bar}}
split: {train: 0.5, val: 0.17, test: 0.33, seed: 1}
"""
RUNS = "runs/toy/toy-*"

Numbers = frozenset[tuple[str, ...]]
"""Everything that a command gives out: rows of tables, lines of texts, digests."""


def build(folder: Path, parts: Path, experiment: str) -> None:
    """Prepare, sweep, report, and an evaluation that was stopped, in `folder`, which is the working directory."""
    from sam2ft.config.load_dataset import load_dataset
    from sam2ft.data.images.volumes import write_nifti
    from sam2ft.data.prepare.prepare import prepare_dataset

    shutil.copytree(parts / "weights", folder / "weights")
    given = Store.open(parts / "data" / "toy")
    for record in given.volumes:
        for kind, array in (("images", given.image(record.key)), ("masks", given.mask(record.key))):
            (folder / "raw" / kind).mkdir(parents=True, exist_ok=True)
            write_nifti(folder / "raw" / kind / f"{record.key.subject}.nii.gz", array, record.geometry)
    (folder / "dataset.yaml").write_text(DATASET)
    prepare_dataset(load_dataset(folder / "dataset.yaml"), folder, folder / "data" / "toy", lambda *_: None)
    (folder / "toy.yaml").write_text(experiment)
    done = subprocess.run(
        [sys.executable, ROOT / "launch" / "sweep.py", "toy.yaml", "--local", "1"],
        cwd=folder, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    try:
        _continued(Asked())
    except StopRequestedError:
        return
    raise RuntimeError("the evaluation was not stopped")


class Asked:
    """A stop request that is there from the start: one volume is evaluated."""

    requested = True


def rows_of(path: Path) -> Iterator[tuple[str, ...]]:
    """The rows of a CSV file, each with the name of its table and its columns."""
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            yield (path.name, *(f"{name}={value}" for name, value in row.items()))


def _best() -> Path:
    (best,) = Path().glob(f"{RUNS}/checkpoints/best.pt")
    return best


def read_store() -> Numbers:
    store = Store.open(Path("data/toy"))
    store.verify(store.volumes)
    found = {("store", store.name, store.anatomy, store.labels.describe(), str(store.split_seed))}
    for record in store.volumes:
        arrays = [int(store.image(record.key).sum()), int(store.mask(record.key).sum())]
        found.add((str(record.key), str(record.to_json()), str(record.dicom), str(record.map_facts), str(arrays)))
    for representative in (True, False):
        found |= {("meta", name, str(entry)) for name, entry in load_meta(store.path, representative).items()}
    return frozenset(found)


def prepared() -> Numbers:
    """`prepare --verify`, which heals what it can; then what the store holds."""
    from sam2ft.config.load_dataset import load_dataset
    from sam2ft.data.prepare.outcomes import PrepareOptions
    from sam2ft.data.prepare.prepare import prepare_dataset

    config = load_dataset(Path("dataset.yaml"))
    summary = prepare_dataset(config, Path(), Path("data/toy"), lambda *_: None, PrepareOptions(verify=True))
    again = [f"{one.key.file_stem} was prepared again" for one in summary.outcomes if one.result == "stored"]
    print(*summary.notes, *again, sep="\n", file=sys.stderr)
    # A volume that is prepared again has files of another stem.
    return frozenset(tuple(text.replace("'stem'", "").split("@")[0] for text in one) for one in read_store())


def evaluated() -> Numbers:
    """An evaluation into a new folder."""
    from sam2ft.evaluation.checkpoints import CheckpointRequest, evaluate_checkpoint

    outcome = evaluate_checkpoint(CheckpointRequest(_best(), out=Path("again")))
    return frozenset(row for path in outcome.folder.glob("*.csv") for row in rows_of(path))


def evaluated_here() -> Numbers:
    """An evaluation that is finished already."""
    from sam2ft.evaluation.checkpoints import CheckpointRequest, evaluate_checkpoint

    outcome = evaluate_checkpoint(CheckpointRequest(_best()))
    return frozenset(row for path in outcome.folder.glob("*.csv") for row in rows_of(path))


def _continued(stop: Any = None) -> Numbers:
    from sam2ft.evaluation.checkpoints import CheckpointRequest, evaluate_checkpoint

    outcome = evaluate_checkpoint(CheckpointRequest(_best(), out=Path("partial")), stop)
    return frozenset(row for path in outcome.folder.glob("*.csv") for row in rows_of(path))


def continued() -> Numbers:
    """The evaluation that was stopped goes on."""
    return _continued()


def scored() -> Numbers:
    """The stored predictions are scored as masks made elsewhere."""
    from sam2ft.evaluation.masks.score import score_store

    (predictions,) = Path().glob(f"{RUNS}/eval/*/predictions")
    outcome = score_store(predictions, Path("data/toy"), out=Path("scored"))
    return frozenset(row for path in outcome.evaluation.folder.glob("*.csv") for row in rows_of(path))


def reported() -> Numbers:
    """The report, and the best point exported from it."""
    from sam2ft.report.request import PaperFormats
    from sam2ft.sweeps.aggregate import aggregate_sources

    formats = PaperFormats(markdown=True)
    aggregate_sources(
        ["toy.yaml"], None, export=True, require_complete=False, papers=formats, tensorboard=False, wandb=None
    )
    report = Path("runs/toy/report")
    print(*json.loads((report / "coverage.json").read_text())["problems"], sep="\n", file=sys.stderr)
    tables = {row for path in report.glob("*.csv") for row in rows_of(path)}
    texts = {("text", path.name, line) for path in report.glob("*.md") for line in path.read_text().splitlines()}
    weights = {("best.pt", sha256_file(report / "best" / "best.pt"))}
    return frozenset(tables | texts | weights)


def shown() -> Numbers:
    """`status --json`."""
    from sam2ft.sweeps.status.table import show_status

    stream = io.StringIO()
    with redirect_stdout(stream):
        show_status(Path("toy.yaml"), as_json=True)
    return frozenset((str(sorted(row.items())),) for row in json.loads(stream.getvalue()))


def in_notebook() -> Numbers:
    import sam2ft

    found = sam2ft.results("runs/toy")
    rows = {(name, *map(str, row)) for name in found.tables for row in found[name].itertuples(index=False)}
    return frozenset(rows | {("points", *map(str, row)) for row in found.points.itertuples(index=False)})


@dataclass(frozen=True)
class Outcome:
    """What came of a command."""

    numbers: Numbers | None
    """None where it was refused."""
    said: str
    """Its message, or what it told beside its result."""
    error: BaseException | None = None


def outcome_of(command: Callable[[], Numbers]) -> Outcome:
    stream = io.StringIO()
    try:
        with redirect_stderr(stream), redirect_stdout(io.StringIO()):
            numbers = command()
    except Exception as error:  # noqa: BLE001 (whatever it raises is judged)
        return Outcome(None, str(error), error)
    return Outcome(numbers, stream.getvalue())
