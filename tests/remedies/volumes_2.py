"""Remedies of images, masks and maps that cannot be prepared, of metadata, and of masks that are compared."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from sam2ft.core.keys import VolumeKey
from sam2ft.data.prepare import volume as volume_module
from sam2ft.data.store.metadata import ML_NAMES, STATS_NAMES, extract_meta, load_meta
from sam2ft.data.store.store import Store, record_path
from sam2ft.data.store.writer import StoreWriter
from sam2ft.metrics.factory import load_metrics
from sam2ft.metrics.scoring import Scene, ScoreSettings, score_volume
from tests.data.formats.test_nrrd_file import SHAPE, seg
from tests.remedies.conftest import Desk, Raw, refusal
from tests.remedies.registry import remedy

KEY = VolumeKey("toy", "a", "image")


def _refused(raw: Raw, *more: str, code: int = 3) -> str:
    return " ".join(raw.prepare(*more, code=code).split())


def _prepared(raw: Raw, *more: str) -> None:
    raw.prepare(*more)
    assert raw.whole() == ["a", "b"]


@remedy("give the images from which it was made")
def an_image_of_colours(raw: Raw) -> str:
    whole = {path: pydicom.dcmread(path) for path in sorted(raw.image("b").iterdir())}
    for path, header in whole.items():
        coloured = pydicom.dcmread(path)
        coloured.PhotometricInterpretation = "PALETTE COLOR"
        coloured.save_as(path, enforce_file_format=True)
        assert header.PhotometricInterpretation == "MONOCHROME2"
    shown = _refused(raw)
    for path, header in whole.items():
        header.save_as(path, enforce_file_format=True)
    _prepared(raw)
    return shown


@remedy("raise it with --max-volume-gb", of="times the limit of")
def a_volume_that_needs_more_memory(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> str:
    original = volume_module.read_volume

    def hungry(path: Path, *more: Any, **named: Any) -> Any:
        held = np.ones(2**29 if path.name == "b" else 1, np.uint8)
        return original(path, *more, **named) if held.any() else None

    monkeypatch.setattr(volume_module, "read_volume", hungry)
    shown = _refused(raw, "--max-volume-gb", "0.05")
    _prepared(raw, "--max-volume-gb", "2")
    return shown


@remedy("mend the header", of="is infinite or NaN and cannot be stored")
def a_number_that_is_not_finite(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> str:
    """No reader lets such a number through today; one does here, for the headers that have another EchoTime."""
    original, wrong = volume_module.read_volume, {77.0: np.inf, 78.0: np.nan, 79.0: -np.inf}

    def reader(path: Path, *more: Any, **named: Any) -> Any:
        echo = float(pydicom.dcmread(path / "001.dcm").EchoTime)
        found = original(path, *more, **named)
        return replace(found, facts={**found.facts, "echo": float(wrong[echo])}) if echo in wrong else found

    monkeypatch.setattr(volume_module, "read_volume", reader)
    for echo in wrong:
        raw.edit("b", EchoTime=echo)
        shown = _refused(raw)
        raw.edit("b", EchoTime=10.0)
        _prepared(raw)
    return shown


@remedy("remove it", of="damaged; remove it, then run launch/prepare.py again")
def a_damaged_record_that_the_index_does_not_know(raw: Raw) -> str:
    raw.prepare()
    store = Store.open(raw.store)
    writer = StoreWriter(raw.store, "toy", "", store.labels, 0)
    for content in ("", "{}", "[1"):
        path = record_path(raw.store, "a__image@2")
        path.write_text(content)
        shown = refusal(lambda: writer.record(KEY, "a__image@2"))
        path.unlink()
        _prepared(raw)
    return shown


# --- metadata -------------------------------------------------------------------------------------------------------


@remedy("give {}", of="is described {}; give {}")
def metadata_of_the_other_kind(raw: Raw) -> str:
    raw.prepare()
    shown = ""
    for names, representative in ((ML_NAMES, True), (STATS_NAMES, False)):
        other = raw.store / (STATS_NAMES if representative else ML_NAMES)[0]
        meta = json.loads(other.read_text())
        shown = refusal(lambda meta=meta, kind=representative: load_meta(meta, kind))
        given = shown.rpartition("give ")[2]
        assert given == names[0]
        assert set(load_meta(raw.store / given, representative)) == {"a", "b"}
    return shown


@remedy("name a slice", of="described slice by slice")
def metadata_of_slices(raw: Raw) -> str:
    raw.prepare()
    meta = load_meta(raw.store, representative_slice=False)
    shown = refusal(lambda: extract_meta(meta, "a", ["rows"]))
    first, last = shown.rpartition("name a slice (")[2].rstrip(")").split(" to ")
    for number in (first, "003", last):
        assert extract_meta(meta, "a", ["rows"], slice_id=number) == {"rows": 6}
    return shown


# --- masks ----------------------------------------------------------------------------------------------------------


@remedy("prepare with instances: {source: components}")
def voxels_without_an_instance(raw: Raw) -> str:
    raw.settings(more="instances: {source: components}\n")
    _prepared(raw)
    store = Store.open(raw.store)
    mask = np.asarray(store.mask(KEY))

    def scored(ids: Any) -> Any:
        scene = Scene(store.record(KEY).geometry, store.labels, reference_instances_zyx=ids)
        return score_volume(KEY, mask, mask, scene, (), load_metrics({"dice": True}), ScoreSettings())

    for lacking in ((1, 1, 2), (2, 3, 4), (slice(2, 3),)):
        ids = (mask > 0).astype(np.int32)
        ids[lacking] = 0
        shown = refusal(lambda ids=ids: scored(ids))
    scored(store.instances(KEY))
    return shown


@remedy("give the label table with --labels, and the names decide")
def segments_with_other_integers(tmp_path: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    text = "Segment0_Name:=femur; Segment0_LabelValue:={}\nSegment1_Name:=tibia; Segment1_LabelValue:={}"
    Path("labels.yaml").write_text("labels: {1: {name: femur}, 2: {name: tibia}}\n")
    for number, values in enumerate(((1, 2), (2, 1))):
        array = np.zeros(SHAPE, np.uint8)
        array[0], array[1] = values
        seg(Path(f"{number}.seg.nrrd"), array, text.format(*values).replace("\n", "; "))
    command = "launch/eval.py --reference 0.seg.nrrd --prediction 1.seg.nrrd"
    shown = desk.refused(command)
    desk.works(f"{command} --labels labels.yaml --out scored")
    assert Path("scored/volume.csv").is_file()
    return shown


@remedy("prepare it from this folder: launch/prepare.py dataset.yaml --out STORE", slow=True)
def a_generated_cohort(tmp_path: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    desk.works("launch/prepare.py --phantom spine --subjects 1 --out made")
    (path,) = tmp_path.rglob("dataset.yaml")
    shown = path.read_text()
    monkeypatch.chdir(path.parent)
    desk.works(shown.partition("from this folder: ")[2].partition("\n")[0])
    assert Store.open(path.parent / "STORE").volumes
    return shown
