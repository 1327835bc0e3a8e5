"""Remedies of reports of what was evaluated elsewhere, of pictures, and of DICOM segmentations."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from sam2ft.config.load_dataset import load_dataset
from sam2ft.config.schema.dataset import Reading
from sam2ft.data.images.volumes import read_volume, write_nifti
from sam2ft.data.prepare.prepare import prepare_dataset
from sam2ft.data.store.store import Store
from sam2ft.phantom.dicom import DicomSeries, write_series
from tests.fixtures.file_sets import spoil
from tests.fixtures.stores import _edit
from tests.remedies.conftest import Desk
from tests.remedies.evaluations import _predictions
from tests.remedies.registry import remedy

Command = Callable[..., str]


@remedy("score again into {}", slow=True)
def a_folder_of_scores_that_is_damaged(toy: Any, desk: Desk) -> str:
    _predictions(Path("masks"))
    scores = "launch/eval.py --predictions masks --data data/toy --out scores"
    report, shown = "launch/aggregate.py scores --out report", ""
    desk.works(scores)
    success, table = Path("scores/_SUCCESS"), Path("scores/volume.csv")
    for damage in (lambda: spoil(table), lambda: table.write_bytes(b""), table.unlink):
        damage()
        said = " ".join(desk.run(report).text.split())
        assert f"remove {success} and evaluate or score again into scores" in said
        shown += said
        success.unlink()
        desk.works(scores)
        assert "not counted" not in desk.works(report)
        shutil.rmtree("report")
    return shown


# --- DICOM segmentations ----------------------------------------------------------------------------------------------

DATASET = """\
dataset: {name: toy, anatomy: knee}
sources: {images: "dicom/{subject}", masks: "masks/{subject}.nii.gz"}
labels: {1: {name: disc}, 2: {name: bar}}
split: {file: split.json}
"""


@dataclass(frozen=True)
class Series:
    """What the dataset file says more, and what happens to the series before and after they are prepared."""

    more: str = ""
    before: Callable[[Path], Any] = lambda folder: None
    after: Callable[[Path], Any] = lambda folder: None
    settings: str = ""


def _uneven(folder: Path) -> None:
    """The last slice of each test series twice as far away."""
    for subject in "ef":
        placed = {
            tuple(map(float, pydicom.dcmread(path).ImagePositionPatient)): path for path in (folder / subject).iterdir()
        }
        *_, before, last = sorted(placed, key=lambda position: position[2])
        _edit(placed[last], ImagePositionPatient=[2 * b - a for a, b in zip(before, last, strict=True)])


def _prepare(toy: Any, case: Series) -> None:
    """The store of the toy again, from DICOM series of the same images."""
    store = Store.open(toy.store)
    for record in store.volumes:
        image = np.asarray(store.image(record.key), dtype=np.float32)[None]
        folder = Path("dicom") / record.key.subject
        write_series(folder, image, record.geometry, DicomSeries(record.key.subject, 1, "PD", seed=3))
        write_nifti(Path("masks") / f"{record.key.subject}.nii.gz", store.mask(record.key), record.geometry)
    splits = {name: [r.key.subject for r in store.volumes if r.split == name] for name in ("train", "val", "test")}
    Path("split.json").write_text(str(splits).replace("'", '"'))
    Path("dataset.yaml").write_text(DATASET + case.more)
    case.before(Path("dicom"))
    if "irregular" in case.more:
        for subject in "abcdef":
            geometry = read_volume(Path("dicom") / subject, reading=Reading(irregular="resample")).geometry
            write_nifti(Path("masks") / f"{subject}.nii.gz", np.ones(geometry.shape_zyx, np.uint8), geometry)
    shutil.rmtree(toy.store)
    prepare_dataset(load_dataset(Path("dataset.yaml")), Path(), toy.store, lambda *_: None)
    case.after(Path("dicom"))


HASHED, SOURCES = "subject_id: hash\n", "--set 'eval.dicom_sources=[dataset.yaml]'"


@remedy("set eval.dicom_seg: false", of="^name the dataset file", case=Series(HASHED))
@remedy("set eval.dicom_seg: false", of="its original images are not where", case=Series(after=shutil.rmtree))
@remedy(
    "set eval.dicom_seg: false",
    of="its DICOM series is not the one",
    case=Series(HASHED, after=lambda folder: next((folder / "e").iterdir()).unlink(), settings=SOURCES),
)
@remedy(
    "set eval.dicom_seg: false",
    of="needs slices as they were acquired",
    case=Series("irregular: resample\n", before=_uneven),
)
def segmentations_that_cannot_be_written(toy: Any, desk: Desk, case: Series) -> str:
    _prepare(toy, case)
    command = "launch/eval.py --ckpt weights/nano.safetensors --data data/toy --set module.image_size=64"
    shown = desk.refused(f"{command} --set module.visualize=false {case.settings} --set eval.dicom_seg=true")
    desk.works(f"{command} --set module.visualize=false {case.settings} --set eval.dicom_seg=false")
    return shown
