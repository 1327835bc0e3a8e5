"""Table of the real files of other projects: read or refused, and compared with nibabel or SimpleITK (docs/explain).

`python -m sam2ft.tools.readings NAME=FOLDER ...` prints the table of the files below each folder. A DICOM series is the
files of a folder with one SeriesInstanceUID, each of which is another image; copies of one image, and files of several
images, are read one by one. What needs a choice is read with the one that its refusal proposes.
"""

import argparse
import gzip
import re
import shutil
import sys
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.config.yaml.loading import parse_value
from sam2ft.core.command import run_command
from sam2ft.core.errors import DataError
from sam2ft.data.dicom.file import header_of_any, is_dicom
from sam2ft.data.dicom.mosaic import is_mosaic
from sam2ft.data.dicom.read_segmentation import dicom_kind, slices_of_image
from sam2ft.data.images.grids import LPS_TO_RAS, Volume
from sam2ft.data.images.volumes import read_volume
from sam2ft.data.masks.read_masks import MaskReader

LANDMARK_MM = 2e-3
"""Landmarks of two readers are one within this; headers and nibabel's placing of frames round at 1e-3 mm."""
_NO_IMAGES = (".py", ".pyc", ".txt", ".md", ".rst", ".json", ".gitignore", ".dump", ".icc", ".m", ".csv")
_NO_IMAGES_OF_NIBABEL = (".trk", ".tck", ".gii", ".bin", ".bin.gz", ".v")
_NIBABEL = (".nii", ".nii.gz", ".mgz", ".mgh", ".hdr", ".img")
Placed = tuple[npt.NDArray[Any], npt.NDArray[np.float64]]
"""(array xyz, 4 x 4 voxel index -> RAS mm)."""


@dataclass(frozen=True)
class Read:
    """What became of one file or series."""

    name: str
    problem: str = ""
    """Why it was refused, without its path; empty: it was read."""
    shape_zyx: tuple[int, ...] = ()
    spacing_zyx_mm: tuple[float, ...] = ()
    choice: str = ""
    """What its refusal proposed, and it was then read with."""
    compared: str = ""
    """With which reader it was compared, and what differs; `nothing` when no other reads it."""

    @property
    def differs(self) -> bool:
        return "differ" in self.compared


def readings_below(folder: Path) -> list[Read]:
    """What becomes of every file and DICOM series below a folder, sorted by name."""
    with tempfile.TemporaryDirectory() as scratch:
        found = [_reading(name, path) for name, path in _candidates(folder, Path(scratch))]
    return sorted(found, key=lambda one: one.name)


def _candidates(folder: Path, scratch: Path) -> Iterator[tuple[str, Path]]:
    """(name, file, or folder with the files of one series)."""
    series: dict[tuple[Path, str], list[tuple[str, Path]]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        if path.name.lower().endswith(".dcm.gz"):
            unpacked = scratch / path.name.removesuffix(path.suffix)
            unpacked.write_bytes(gzip.decompress(path.read_bytes()))
            yield f"{path.relative_to(folder).as_posix()}, unpacked", unpacked
        if not path.is_file() or path.name.lower().endswith((*_NO_IMAGES, *_NO_IMAGES_OF_NIBABEL)):
            continue
        if is_dicom(path) and dicom_kind(path) is None:
            header = header_of_any(path)
            uid = str(header.get("SeriesInstanceUID", ""))
            image = f"{header.get('SOPInstanceUID')} {header.get('ImagePositionPatient')}"
            if is_mosaic(header) or "PerFrameFunctionalGroupsSequence" in header:
                yield path.relative_to(folder).as_posix(), path
            else:
                series[path.parent, uid].append((image, path))
        else:
            yield path.relative_to(folder).as_posix(), path
    for number, images in enumerate(series.values()):
        one = len({image for image, _ in images}) == len(images)
        groups = [[path for _, path in images]] if one else [[path] for _, path in images]
        for part, group in enumerate(groups):
            place = scratch / f"{number}-{part}"
            place.mkdir()
            for path in group:
                shutil.copy(path, place)
            more = "" if len(group) == 1 else f" and {len(group) - 1} more of its series"
            yield group[0].relative_to(folder).as_posix() + more, place


def _reading(name: str, path: Path) -> Read:
    try:
        try:
            volume, choice = _read(path, AS_IS), ""
        except DataError as error:
            proposed = _proposed(str(error))
            if not proposed:
                raise
            volume, choice = _read(path, Reading.model_validate(parse_value(f"{{{proposed}}}", name))), proposed
    except DataError as error:
        reason = " ".join(str(error).replace(f"{path}/", "").replace(f"{path}: ", "").splitlines())
        return Read(name, re.sub(r"^\S+: ", "", reason))
    shape, spacing = volume.array_zyx.shape, volume.geometry.spacing_zyx_mm
    return Read(name, "", shape, spacing, choice, _compared(path, volume))


def _read(path: Path, reading: Reading) -> Volume:
    if path.is_file() and is_dicom(path) and dicom_kind(path) is not None:
        return MaskReader(reading=reading).read(path)
    return read_volume(path, reading=reading)


def _proposed(message: str) -> str:
    """The choice that a refusal proposes, as YAML; empty: none."""
    found = re.search(r"such as (series: \{.*\})$", message)
    if found is not None:
        return found[1]
    return "channel: 0" if re.search(r"one of 0 to \d+ in the dataset file with channel:", message) else ""


def _compared(path: Path, volume: Volume) -> str:
    for name, read in (("nibabel", _by_nibabel), ("SimpleITK", _by_simpleitk)):
        others: list[Placed] = []
        with suppress(Exception):  # whatever the other reader raises: it does not read this file
            others = read(path, volume)
        if others:
            differences = [_difference(volume, other) for other in others]
            return name if "" in differences else f"{name}: {differences[0]}"
    return "nothing"


def _by_nibabel(path: Path, volume: Volume) -> list[Placed]:
    """Each volume of a file as nibabel reads it; none of what it does not read."""
    import nibabel
    from nibabel.nicom.dicomwrappers import wrapper_from_file

    if path.is_file() and path.name.lower().endswith(_NIBABEL):
        image: Any = nibabel.load(path)
        array, affine = np.asanyarray(image.dataobj), image.affine
    elif (parts := slices_of_image(volume)) and parts[0].part is not None:
        wrapper: Any = wrapper_from_file(parts[0].path)
        array, affine = wrapper.get_data(), LPS_TO_RAS @ wrapper.affine
    else:
        return []
    array = array.reshape(*array.shape[:3], -1)
    return [(array[..., index], affine) for index in range(array.shape[3])]


def _by_simpleitk(path: Path, volume: Volume) -> list[Placed]:
    """The volume as SimpleITK reads it; of a series the files that were chosen."""
    import SimpleITK

    if path.is_dir():
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames([str(one.path) for one in slices_of_image(volume)])
        image = reader.Execute()
        if volume.array_zyx.shape[0] == 1:
            # SimpleITK gives a single slice a depth of 1 mm, whatever its header says.
            image.SetSpacing((*image.GetSpacing()[:2], volume.geometry.spacing_zyx_mm[0]))
    else:
        image = SimpleITK.ReadImage(str(path))
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        return []
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return [(SimpleITK.GetArrayFromImage(image).T, LPS_TO_RAS @ affine)]


def _difference(volume: Volume, other: Placed) -> str:
    """What two readers disagree about: spacing, five landmarks or voxels; empty: nothing."""
    array, affine = other
    if sorted(array.shape) != sorted(volume.array_zyx.shape):
        return f"shapes differ, {array.shape}"
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.allclose(sorted(edges), sorted(volume.geometry.spacing_zyx_mm), rtol=1e-4):
        return "spacings differ, " + " x ".join(f"{edge:.5g}" for edge in edges)
    z, y, x = np.indices(volume.array_zyx.shape).reshape(3, -1)
    places = volume.geometry.affine @ np.stack([x, y, z, np.ones_like(x)])
    index = np.rint(np.linalg.solve(affine, places)[:3]).astype(int)
    landmarks = _landmarks(volume.array_zyx.shape)
    there = affine @ np.vstack([index[:, landmarks], np.ones((1, len(landmarks)))])
    if (far := np.abs(there - places[:, landmarks]).max()) > LANDMARK_MM:
        return f"landmarks differ by {far:.3g} mm"
    if index.min() < 0 or (index.max(axis=1) >= array.shape).any():
        return "places differ"
    values, own = array[tuple(index)].astype(np.float64), volume.array_zyx.ravel().astype(np.float64)
    known = np.isfinite(own)  # padding has no value here
    if not np.allclose(values[known], own[known], rtol=1e-5, atol=1e-5):
        return f"{np.count_nonzero(~np.isclose(values[known], own[known], rtol=1e-5, atol=1e-5))} voxels differ"
    return ""


def _landmarks(shape: Sequence[int]) -> list[int]:
    """Flat indices of five voxels: a corner, the three corners beside it, and the middle."""
    corners = [(0, 0, 0), (shape[0] - 1, 0, 0), (0, shape[1] - 1, 0), (0, 0, shape[2] - 1)]
    middle = tuple(size // 2 for size in shape)
    return [int(np.ravel_multi_index(one, tuple(shape))) for one in (*corners, middle)]


def table_of_readings(folders: Mapping[str, Path]) -> str:
    """The table in Markdown: a row per file that is read, and one per reason of those that are refused."""
    lines = []
    for name, folder in folders.items():
        found = readings_below(folder)
        read = [one for one in found if not one.problem]
        lines += [f"### {name}", "", f"{len(read)} of {len(found)} are read.", ""]
        lines += ["| read | slices, rows, columns | mm | compared with |", "|---|---|---|---|"]
        for one in read:
            grid = " x ".join(str(size) for size in one.shape_zyx)
            edges = " x ".join(f"{edge:.5g}" for edge in one.spacing_zyx_mm)
            chosen = f", `{one.choice}`" if one.choice else ""
            lines.append(f"| {one.name}{chosen} | {grid} | {edges} | {one.compared} |")
        reasons: dict[str, list[str]] = defaultdict(list)
        for one in found:
            if one.problem:
                reasons[one.problem.partition("; ")[0]].append(one.name)
        lines += ["", "| refused | why |", "|---|---|"] if reasons else []
        lines += [f"| {', '.join(names)} | {reason.replace('|', '/')} |" for reason, names in reasons.items()]
        lines.append("")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="NAME=FOLDER", help="name in the table, and folder with files")
    pairs = [text.partition("=") for text in parser.parse_args(arguments).folders]
    folders = {name: Path(folder) for name, _, folder in pairs}
    for name, folder in folders.items():
        if not folder.is_dir():
            raise DataError(f"{name}={folder}: no such folder (allowed: NAME=FOLDER)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.stdout.write(table_of_readings(folders))
    return 0


if __name__ == "__main__":
    run_command(main)
