"""Remedies of files of contours (RTSTRUCT)."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom

from sam2ft.data.images.volumes import read_volume
from tests.fixtures.dicom_files import write_contours
from tests.remedies.conftest import Raw
from tests.remedies.registry import remedy
from tests.remedies.sources import AB, _prepared, _refused

MASKS = "masks/{subject}.nii.gz"


def _contours(raw: Raw, subject: str, lift: float = 0, tilt: float = 0) -> Path:
    """A square in slices 1 and 2; lifted above the slice, or with one side higher than the other, in slices."""
    Path("rt").mkdir(exist_ok=True)
    squares = [
        [(1, 1, z + lift), (4, 1, z + lift), (4, 3, z + lift + tilt), (1, 3, z + lift + tilt)] for z in (1.0, 2.0)
    ]
    return write_contours(Path(f"rt/{subject}.dcm"), read_volume(raw.image(subject)).geometry, {"cartilage": squares})


def _no_contours(header: Any) -> None:
    del header.ROIContourSequence


def _no_number(header: Any) -> None:
    del header.StructureSetROISequence[0].ROINumber


def _other_number(header: Any) -> None:
    header.ROIContourSequence[0].ReferencedROINumber = 99


def _two_points(header: Any) -> None:
    contour = header.ROIContourSequence[0].ContourSequence[0]
    contour.ContourData = list(contour.ContourData[:6])


@remedy("export it again", of="regions and holds no contours", case=_no_contours)
@remedy("export it again", of="^a region has no", case=_no_number)
@remedy("export it again", of="contours of a region that it does not name", case=_other_number)
@remedy("export it again", of="has no ContourData", case=_two_points)
def contours_that_are_damaged(raw: Raw, case: Callable[[Any], None]) -> str:
    for subject in AB:
        path = _contours(raw, subject)
    header = pydicom.dcmread(path)
    case(header)
    header.save_as(path)
    raw.settings(MASKS, "rt/{subject}.dcm")
    shown = _refused(raw)
    _contours(raw, "b")
    _prepared(raw)
    return shown


@remedy("copy it again", of="^{}: not a readable DICOM file ({}); copy it again")
def contours_that_were_cut(raw: Raw) -> str:
    for subject in AB:
        path = _contours(raw, subject)
    raw.settings(MASKS, "rt/{subject}.dcm")
    whole, shown = path.read_bytes(), ""
    for content in (whole[:-30], whole[: len(whole) * 3 // 4], whole + b"added!"):
        path.write_bytes(content)
        shown += _refused(raw)
        path.write_bytes(whole)
        _prepared(raw)
        shutil.rmtree("store")
    return shown


@remedy("export it for this series, or as a segmentation", of="lies in no plane of voxels", case={"tilt": 0.7})
@remedy("export it for this series, or as a segmentation", of="mm beside the nearest slice", case={"lift": 0.4})
def contours_beside_the_slices(raw: Raw, case: dict[str, float]) -> str:
    _contours(raw, "a")
    _contours(raw, "b", **case)
    raw.settings(MASKS, "rt/{subject}.dcm")
    shown = _refused(raw)
    _contours(raw, "b")
    _prepared(raw)
    raw.settings()
    shutil.rmtree("store")
    _prepared(raw)
    return shown
