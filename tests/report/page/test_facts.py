"""What the page says about the data of its experiments."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sam2ft.config.schema.datamodule import DatasetSource
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.store.index import read_index
from sam2ft.data.store.writer import PreparedVolume, StoreWriter
from sam2ft.report.page.facts import _data_facts
from sam2ft.report.page.first_screen import data_lines

AXIAL, CORONAL, SAGITTAL = ((0, 1, 2), (0, 2, 1), (1, 2, 0))
"""RAS axes of x, y and z of the arrays."""


def write_store(folder: Path, planes: list[tuple[int, int, int]], given: str = "", *codes: str) -> None:
    """A store of volumes in these planes, with the modality of the dataset file and those of the series."""
    writer = StoreWriter(folder, "toy", "knee", LabelTable((Label(1, "a"),)), 1, modality=given)
    keys = [VolumeKey("toy", f"s{number}", "image") for number in range(len(planes))]
    for key, axes in zip(keys, planes, strict=True):
        affine = np.eye(4)
        affine[:3, :3] = np.eye(3)[:, axes]
        image = np.arange(24, dtype=np.uint16).reshape(2, 3, 4) + int(key.subject[1:])
        volume: dict[str, Any] = {"slices": {"rows": [3, 3], "columns": [4, 4]}, "subject_fields": {}}
        geometry = Geometry.from_affine((2, 3, 4), affine)
        mask = np.ones((2, 3, 4), np.uint8)
        number = int(key.subject[1:])
        facts = {"modality": codes[number]} if number < len(codes) else {}
        writer.write(PreparedVolume(key, geometry, image, mask, {}, (0.0, 1.0), facts=facts, **volume), "source")
    writer.finish(keys, dict.fromkeys((key.subject for key in keys), "train"))


@pytest.mark.parametrize(
    ("planes", "text"),
    [
        ([SAGITTAL, SAGITTAL, AXIAL], "axial 1, sagittal 2"),
        ([CORONAL], "coronal 1"),
        ([AXIAL, CORONAL, SAGITTAL], "axial 1, coronal 1, sagittal 1"),
    ],
)
def test_the_planes_of_the_slices_are_counted(tmp_path: Path, planes: list[tuple[int, int, int]], text: str) -> None:
    write_store(tmp_path, planes)
    source = DatasetSource(store=tmp_path)
    experiment: Any = SimpleNamespace(dataset={"toy": source})
    rows = dict(_data_facts([experiment]).rows)
    assert rows["planes of the slices"] == text
    assert rows["subjects"] == f"train {len(planes)}, val 0, test 0"


@pytest.mark.parametrize(
    ("given", "codes", "about"),
    [
        ("", (), "knee"),
        ("", ("MR", "MR"), "knee; MRI"),
        ("", ("MR", "CT"), "knee"),
        ("", ("MR",), "knee"),
        ("3 T MRI", ("MR", "CT"), "knee; 3 T MRI"),
        ("micro-CT", (), "knee; micro-CT"),
    ],
)
def test_the_first_screen_says_the_modality_that_is_recorded_and_guesses_none(
    tmp_path: Path, given: str, codes: tuple[str, ...], about: str
) -> None:
    write_store(tmp_path, [AXIAL, AXIAL], given, *codes)
    experiment: Any = SimpleNamespace(dataset={"toy": DatasetSource(store=tmp_path)})
    (line,) = data_lines(experiment, trained=False)
    assert line.about == about
    index = read_index(tmp_path) or {}
    assert index.get("modality", "") == given
    assert ("modality" in index) == bool(given), "the index of a store without one stays as it was"
