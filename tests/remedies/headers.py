"""Remedies of headers of NIfTI and NRRD files: each file is refused, mended as its message says, and read."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK
from nibabel.processing import resample_to_output

from sam2ft.data.images.volumes import read_volume
from tests.data.formats.test_nifti_file import save, turned
from tests.data.formats.test_nifti_size import save as save_sized
from tests.data.formats.test_nrrd_file import SHAPE, seg, values, write
from tests.data.images.test_slice_axis import save as save_axes
from tests.remedies.conftest import refusal
from tests.remedies.registry import remedy
from tests.remedies.sources import _reading


@dataclass(frozen=True)
class Header:
    """A file that is refused, and what is done with it; `settings` is how it is read then."""

    name: str
    wrong: Callable[[Path], Any]
    right: Callable[[Path], Any]
    settings: tuple[dict[str, Any], ...] = ({},)
    first: dict[str, Any] | None = None


def _itk(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """What a message advises to do in Python with SimpleITK."""

    def act(path: Path) -> None:
        image = SimpleITK.ReadImage(str(path))
        made = change(image)
        SimpleITK.WriteImage(image if made is None else made, str(path))

    return act


def _keep(path: Path) -> None:
    """The file stays as it is: the remedy is a setting."""


def _quaternion(path: Path) -> None:
    save(path, None, turned(0))
    content = bytearray(path.read_bytes())
    content[256:268] = np.array((0.9, 0.9, 0.9), "<f4").tobytes()
    path.write_bytes(content)


def _spaced(image: Any) -> None:
    image.SetSpacing((0.5, 0.75, 3.0))
    image.SetDirection(np.eye(3).ravel().tolist())


def _two_d(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.ones((7, 6), np.int16), np.eye(4)), path)
    content = bytearray(path.read_bytes())
    content[88:92] = np.zeros(1, "<f4").tobytes()
    path.write_bytes(content)


def _pair(path: Path) -> None:
    image = nibabel.Nifti1Pair(values(), turned(0))
    nibabel.save(image, path.with_suffix(".hdr"))
    shutil.copy(path.with_suffix(".hdr"), path)


def _whole(path: Path) -> None:
    image = nibabel.load(path.with_suffix(".hdr"))
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine), path)


OBLIQUE = np.array([[0.5, 0.3, 0, 0], [0, 0.5, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1.0]])


def _orthogonal(path: Path) -> None:
    image = nibabel.load(path)
    made = resample_to_output(nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine), order=0)
    nibabel.save(made, path)


def _sheared(path: Path) -> None:
    save(path, OBLIQUE, None, pixdim=np.linalg.norm(OBLIQUE[:3, :3], axis=0))


def _diagonal(path: Path) -> None:
    c = np.cos(np.pi / 4)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -c, 0], [c, c, 0], [0, 0, 1]])
    first = np.eye(4)
    first[:3, :3] = np.array([[1, 0, 0], [0, c, -c], [0, c, c]])
    save_axes(path, (7, 6, 5), first @ affine)


def _layers(path: Path) -> None:
    directions = "none (0.5,0,0) (0,0.5,0) (0,0,3)"
    text = "Segment0_Name:=a; Segment0_LabelValue:=1; Segment0_Layer:=0; Segment1_Name:=b; Segment1_LabelValue:=1"
    seg(path, np.ones((2, *SHAPE), np.uint8), f"{text}; Segment1_Layer:=1", space_directions=directions)


def _labelmap(path: Path) -> None:
    seg(path, np.ones(SHAPE, np.uint8), "Segment0_Name:=a; Segment0_LabelValue:=1; Segment0_Layer:=0")


@remedy("write a valid qform", case=Header("a.nii", _quaternion, lambda path: save(path, None, turned(0))))
@remedy(
    "write edges and directions, e.g. in Python with SimpleITK: image.SetSpacing",
    case=Header("a.nii", lambda path: save_sized(path, (0, 0, 0), s=0, q=0), _itk(_spaced)),
)
@remedy(
    "say which is right: {}",
    of="^{}, {}; say which is right",
    case=Header(
        "a.nii",
        lambda path: save(path, turned(1), turned(0)),
        _keep,
        ({"believe": "sform"}, {"believe": "qform"}),
        {"believe": "pixdim"},
    ),
)
@remedy(
    "write it, e.g. in Python with SimpleITK: JoinSeries",
    case=Header("a.nii", _two_d, _itk(lambda image: SimpleITK.JoinSeries([image], 0, 3.0))),
)
@remedy("save it as one .nii file", case=Header("a.nii", _pair, _whole))
@remedy("resample it to an orthogonal grid", case=Header("a.nii", _sheared, _orthogonal))
@remedy(
    "write the right unit of lengths to its header",
    case=Header(
        "a.nii",
        lambda path: save(path, turned(0), turned(0), unit="meter"),
        lambda path: save(path, turned(0), turned(0), unit="mm"),
    ),
)
@remedy(
    "give the index of an axis, slice_axis: 0, 1 or 2",
    of="degrees from the normal",
    case=Header(
        "a.nii",
        _diagonal,
        _keep,
        ({"slice_axis": 0}, {"slice_axis": 1}, {"slice_axis": 2}),
        {"slice_axis": "coronal"},
    ),
)
@remedy(
    "write it to the header",
    case=Header(
        "a.nrrd",
        lambda path: write(path, **{"space_units": '"inch" "inch" "inch"'}),
        lambda path: write(path, **{"space_units": '"mm" "mm" "mm"'}),
    ),
)
@remedy(
    "save it as one .nrrd file",
    case=Header("a.nhdr", lambda path: write(path, data=b"", data_file="LIST"), write),
)
@remedy("export it as a labelmap", of="layers of segments", case=Header("a.seg.nrrd", _layers, _labelmap))
@remedy("save the labelmap", of="layers of segments", case=Header("a.seg.nrrd", _layers, _labelmap))
@remedy(
    "export one layer, without colours",
    case=Header(
        "a.nrrd",
        lambda path: write(
            path, data=bytes(630), type="uint8", dimension="4", sizes="3 7 6 5", kinds="vector domain domain domain",
            space_directions="none (0.5,0,0) (0,0.5,0) (0,0,3)",
        ),
        write,
    ),
)  # fmt: skip
@remedy(
    "save it without them",
    case=Header(
        "a.nrrd",
        lambda path: write(path, encoding="gzip", byte_skip="-1"),
        write,
    ),
)
@remedy("say which is right", of="orientation (space directions)", case="nrrd")
@remedy("believe: orientation", of="orientation (space directions)", case="nrrd")
@remedy("believe: spacing", of="orientation (space directions)", case="nrrd")
@remedy("in the dataset file, or eval --believe", of="orientation (space directions)", case="nrrd")
def a_header(tmp_path: Path, case: Header | str) -> str:
    if isinstance(case, str):
        case = Header(
            "a.nrrd",
            lambda path: write(path, **{"spacings": "0.5 0.5 2"}),
            _keep,
            ({"believe": "orientation"}, {"believe": "spacing"}),
        )
    path = tmp_path / case.name
    case.wrong(path)
    shown = refusal(lambda: read_volume(path, reading=_reading(**(case.first or {}))))
    case.right(path)
    for settings in case.settings:
        assert read_volume(path, reading=_reading(**settings)).array_zyx.size > 1
    return shown
