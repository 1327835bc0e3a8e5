"""Remedies of files that are read back: histories, states, metadata and records of a store, and of what is prepared."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK

from sam2ft.core.digests.verified_files import write_with_digest
from sam2ft.core.geometry import Geometry
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.images.grids import Volume
from sam2ft.data.images.volumes import read_volume
from sam2ft.data.prepare.relabel import relabelled_volume
from sam2ft.data.store.index import record_path
from sam2ft.data.store.metadata import read_metadata
from sam2ft.data.store.slice_metadata import MetadataSource
from sam2ft.data.store.store import Store
from sam2ft.data.store.writer import StoreWriter
from sam2ft.evaluation.masks.naming import relabelled
from sam2ft.evaluation.masks.placing import read_prediction
from sam2ft.runs.attempt.status import read_status
from sam2ft.runs.history import history_values, read_history
from sam2ft.runs.layout import ExperimentLayout
from tests.fixtures.file_sets import spoil
from tests.remedies.conftest import Desk, Raw, refusal
from tests.remedies.registry import remedy

HEAD = b"epoch,step,improved,seconds,val_loss\n"


@remedy("remove it to continue without it", of="not UTF-8", case=(HEAD + b"0,4,1,2.0,\xff\n", b"\xfe\xff"))
@remedy(
    "remove it to continue without it", of="not a history of a training", case=(b"a,b\n1,2\n", HEAD + b"x,1,1,1,1\n")
)
@remedy("remove it to continue without it", of="not a history ({})", case=(HEAD + b"0,4,1,2.0,low\n",))
def a_history_that_is_none(tmp_path: Path, case: tuple[bytes, ...]) -> str:
    layout, shown = ExperimentLayout(tmp_path / "toy").run("toy-0123456789abcdef"), ""
    for content in case:
        for sealed in (True, False):
            if sealed:
                write_with_digest(layout.history, content)
            else:
                layout.history.write_bytes(content)
            shown += refusal(lambda: history_values(layout))
            layout.history.unlink()
            assert read_history(layout) == history_values(layout) == []
    return shown


@remedy("start it again", of="if no process is working on the run", slow=True)
def a_state_of_a_run_that_is_damaged(
    stopped: Any, desk: Desk, trains: Callable[..., str], sweeps: Callable[..., str]
) -> str:
    shutil.copytree("runs", "then")
    for again in (lambda: sweeps("--retry", "all"), trains):
        spoil(stopped.layout.status)
        shown = refusal(lambda: read_status(stopped.layout))
        assert "after step 7" in again()
        status = read_status(stopped.layout)
        assert status is not None
        assert (status.state, status.trained) == ("done", True)
        shutil.rmtree("runs")
        shutil.copytree("then", "runs")
    return shown


# --- stores -----------------------------------------------------------------------------------------------------------


@remedy("run launch/prepare.py, which writes it again")
def metadata_of_a_store_that_is_damaged(raw: Raw) -> str:
    raw.prepare()
    shown = ""
    for name in ("metadata_for_ml.json", "metadata_for_stats.json"):
        path = raw.store / name
        whole = path.read_bytes()
        for content in (whole.replace(b"1", b"2", 1), whole[:-20], b"{}"):
            path.write_bytes(content)
            shown += refusal(lambda path=path: read_metadata(path))
            raw.prepare()
            assert path.read_bytes() == whole
            read_metadata(path)
    return shown


@remedy("set datamodule.metric.representative_slice: true", of="described by one representative slice")
def metadata_of_one_slice(toy: Any, tmp_path: Path) -> str:
    file, shown = tmp_path / "m.json", ""
    record = Store.open(toy.store).volumes[0]
    for name in (record.key.subject, f"{record.key.subject}/{record.key.volume}"):
        file.write_text(json.dumps({name: {"TE": 7.0}}))
        shown += refusal(lambda: MetadataSource.of(("TE",), False, file).describe(record))
        told = MetadataSource.of(("TE",), True, file).describe(record).dicom
        assert told == {"TE": [7.0] * record.geometry.shape_zyx[0]}
    return shown


@remedy("run launch/prepare.py again", of="damaged; remove it")
def a_record_that_is_damaged_while_a_store_is_written(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> str:
    original = StoreWriter.write

    def write(self: StoreWriter, volume: Any, source: str) -> None:
        original(self, volume, source)
        path = record_path(self.folder, self._new_stem(volume.key))
        path.write_bytes(path.read_bytes()[:-100])

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "write", write)
        shown = raw.prepare(code=2)
    damaged = sorted(path for path in (raw.store / "volumes").glob("*.json") if str(path.name) in shown)
    assert damaged
    damaged[0].unlink()
    raw.prepare()
    assert raw.whole() == ["a", "b"]
    return " ".join(shown.split())


# --- names and masks of what is prepared ------------------------------------------------------------------------------


@remedy("rename one of the folders, or its subject in subject_table")
def two_subjects_of_one_name(raw: Raw) -> str:
    names = Path("names.csv")
    raw.settings(more="subject_id: table\nsubject_table: names.csv\n")
    names.write_text("given,subject\na,P1\nb,P1\nc,P2\n")
    shown = raw.prepare(code=2)
    names.write_text("given,subject\na,P1\nb,P2\n")
    raw.prepare()
    assert raw.whole() == ["P1", "P2"]
    shutil.rmtree(raw.store)
    names.write_text("given,subject\na,P1\nb,P1\nc,P2\n")
    raw.prepare(code=2)
    raw.image("b").rename(raw.image("c"))
    raw.mask("b").rename(raw.mask("c"))
    raw.prepare()
    assert raw.whole() == ["P1", "P2"]
    return " ".join(shown.split())


@remedy("set instances.source to components")
def instances_without_an_id(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> str:
    def with_more(given: Volume, labels: LabelTable, changes: Any, *_: str) -> tuple[Any, tuple[str, ...]]:
        found, notes = relabelled_volume(given, labels, changes)
        found = found.copy()  # it may be the array of the file
        found[0, 0, 0] = 1
        return found, notes

    monkeypatch.setattr("sam2ft.data.prepare.volume.relabelled_volume", with_more)
    raw.settings(more="instances: {source: as_given}\n")
    shown = raw.prepare(code=2)
    raw.settings(more="instances: {source: components}\n")
    raw.prepare()
    assert raw.whole() == ["a", "b"]
    return " ".join(shown.split())


def _bare(path: Path, values: Any, size: float) -> None:
    """A NIfTI file that does not say how it lies in the body."""
    image = nibabel.Nifti1Image(values, None)
    image.header.set_zooms((size, size, 3.0))
    nibabel.save(image, path)


@remedy("write them, e.g. in Python with SimpleITK: SetOrigin, SetDirection")
def masks_without_positions_on_different_grids(tmp_path: Path) -> str:
    reference, prediction = tmp_path / "reference.nii.gz", tmp_path / "prediction.nii.gz"
    values = np.zeros((12, 12, 3), np.uint8)
    values[2:8, 2:8, 1] = 1
    _bare(reference, values, 0.5)
    _bare(prediction, values[::2, ::2], 1.0)
    shown = refusal(lambda: read_prediction(prediction, read_volume(reference, labels=True), resample=True))
    for path, first in ((reference, -3.0), (prediction, -2.75)):
        image = SimpleITK.ReadImage(str(path))
        image.SetOrigin((first, first, 10.0))
        image.SetDirection(np.eye(3).ravel().tolist())
        SimpleITK.WriteImage(image, str(path))
    found = read_prediction(prediction, read_volume(reference, labels=True), resample=True)
    assert np.array_equal(found.volume.array_zyx, read_volume(reference, labels=True).array_zyx)
    return shown


TWO = LabelTable((Label(1, "femur"), Label(2, "tibia")))


@remedy("write the id of the label for every instance of a prediction")
def a_prediction_with_ids_of_instances() -> str:
    geometry, shown = Geometry.axis_aligned((2, 4, 4), (3.0, 0.5, 0.5)), ""
    for ids in ((3, 4), (1, 3), (700, 2)):
        values = np.zeros(geometry.shape_zyx, np.uint16)
        values[0, :2], values[1, 2:] = ids
        shown += refusal(
            lambda values=values: relabelled(Path("p.nii.gz"), Volume(values, geometry), TWO, as_given=True)
        )
        values[0, :2], values[1, 2:] = 1, 2
        found, _ = relabelled(Path("p.nii.gz"), Volume(values, geometry), TWO, as_given=True)
        assert np.array_equal(found, values)
    return shown
