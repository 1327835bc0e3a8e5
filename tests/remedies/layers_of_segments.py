"""Remedies of segmentations of 3D Slicer, whose segments lie in layers (.seg.nrrd)."""

from pathlib import Path
from typing import Any

import nrrd
import numpy as np

from sam2ft.data.images.volumes import read_volume
from tests.remedies.conftest import Raw
from tests.remedies.registry import remedy
from tests.remedies.sources import AB, _prepared, _refused

MASKS, SEGMENTS = "masks/{subject}.nii.gz", "seg/{subject}.seg.nrrd"


def _segments(raw: Raw, names: tuple[str, ...], layers: tuple[int, ...] = (0, 1)) -> None:
    """A segment of value 1 for each name, in the layer that the header names."""
    Path("seg").mkdir(exist_ok=True)
    for subject in AB:
        mask = read_volume(raw.mask(subject))
        both = np.stack([mask.array_zyx.T == 1, np.roll(mask.array_zyx.T == 1, 3, axis=0)])[: len(names)]
        lps = np.diag([-1, -1, 1, 1]) @ mask.geometry.affine
        header: dict[str, Any] = {
            "space": "left-posterior-superior",
            "kinds": ["list", "domain", "domain", "domain"],
            "space directions": np.vstack([[np.nan] * 3, lps[:3, :3].T]),
            "space origin": lps[:3, 3],
        }
        for number, (name, layer) in enumerate(zip(names, layers, strict=True)):
            header |= {f"Segment{number}_ID": f"S{number}", f"Segment{number}_Name": name}
            header |= {f"Segment{number}_LabelValue": "1", f"Segment{number}_Layer": str(layer)}
        nrrd.write(f"seg/{subject}.seg.nrrd", both.astype(np.uint8), header)


@remedy("give each label of the dataset file the name of its segment", of="and {} is no label")
def segments_that_no_label_is_called_like(raw: Raw) -> str:
    _segments(raw, ("first", "second"))
    raw.settings(MASKS, SEGMENTS)
    shown = _refused(raw, 2)
    text = raw.yaml.read_text()
    raw.yaml.write_text(text.replace("labels: {1: {name: cartilage}}", "labels: {1: {name: first}, 2: {name: second}}"))
    _prepared(raw)
    return shown


@remedy("save the segmentation again", of="a segment is in layer")
def a_segment_in_a_layer_that_is_not_there(raw: Raw) -> str:
    labels = "labels: {1: {name: cartilage}, 2: {name: bone}}"
    raw.settings(MASKS, SEGMENTS)
    raw.yaml.write_text(raw.yaml.read_text().replace("labels: {1: {name: cartilage}}", labels))
    _segments(raw, ("cartilage", "bone"), (0, 5))
    shown = _refused(raw, 2)
    _segments(raw, ("cartilage", "bone"))
    _prepared(raw)
    return shown


@remedy("save the segmentation again", of="no segment has this value there")
def a_value_of_no_segment(raw: Raw) -> str:
    labels = "labels: {1: {name: cartilage}, 2: {name: bone}}"
    raw.settings(MASKS, SEGMENTS)
    raw.yaml.write_text(raw.yaml.read_text().replace("labels: {1: {name: cartilage}}", labels))
    _segments(raw, ("cartilage", "bone"), (0, 0))
    shown = _refused(raw, 2)
    _segments(raw, ("cartilage", "bone"))
    _prepared(raw)
    return shown
