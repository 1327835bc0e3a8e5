"""Files of one slice each, all subjects in one folder (the predecessor's `OAI_3454-006.npy`), as a volume per subject.

`python -m sam2ft.tools.slice_files --images 'images/{subject}-{slice}.npy' --masks 'masks/{subject}-{slice}.npy'
--metadata metadata_for_ml.json --out knees` writes a NIfTI file per image and mask, and `knees/cases.csv` for
`sources.images` of a dataset file. The slice files stay as they are.
"""

import argparse
import csv
import io
import re
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.config.schema.dataset import Reading
from sam2ft.core.command import run_command
from sam2ft.core.errors import DataError, IncompleteError, UserError, listed, naming
from sam2ft.core.files import write_text
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.data.export.nifti import write_nifti
from sam2ft.data.formats.picture_stack import read_stack
from sam2ft.data.store.metadata import load_meta

_SHOWN = 5
_PLACES = re.compile(r"\{(subject|slice)\}")
_ARRAY = ".npy"
_UNSIGNED = (np.uint8, np.uint16)

Slices = Mapping[str, Mapping[int, Path]]
"""Subject -> number of the slice -> its file."""


@dataclass(frozen=True)
class SliceFacts:
    """What the metadata of the predecessor say about one subject; what is not there is not compared."""

    spacing_zyx_mm: tuple[float, float, float] | None = None
    split: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """`num_slices`, `rows`, `columns`."""


def slices_of(pattern: str) -> Slices:
    """The files that a pattern stands for; `{slice}` are digits, `{subject}` is whatever is left.

    Raises:
        UserError: the pattern lacks a placeholder, or has one in the name of a folder.
        DataError: nothing matches, or two files are one slice (`7` and `007`).
    """
    folder, name = Path(pattern).parent, Path(pattern).name
    if sorted(_PLACES.findall(name)) != ["slice", "subject"] or _PLACES.search(str(folder)):
        raise UserError(f"{pattern}: allowed: one {{subject}} and one {{slice}}, in the name of the file")
    pieces = [
        re.escape(part) if index % 2 == 0 else rf"(?P<{part}>{r'[0-9]+' if part == 'slice' else '.+?'})"
        for index, part in enumerate(_PLACES.split(name))
    ]
    expression = re.compile("".join(pieces), re.DOTALL)
    found: dict[str, dict[int, Path]] = defaultdict(dict)
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if (match := expression.fullmatch(path.name)) is None:
            continue
        number = int(match["slice"])
        other = found[match["subject"]].setdefault(number, path)
        if other != path:
            raise DataError(f"{path}: is slice {number} of {match['subject']} as {other} is; remove one of them")
    if not found:
        raise DataError(f"{pattern}: no file matches in {folder}{'' if folder.is_dir() else ', which is no folder'}")
    return dict(found)


def facts_of_slices(path: Path) -> dict[str, SliceFacts]:
    """Subject -> what a metadata_for_ml.json says.

    Raises:
        DataError: there is no such file, or a value is of another type.
    """
    found = {}
    for subject, entry in load_meta(path, representative_slice=True).items():
        try:
            between, inside = entry.get("slice_spacing") or entry.get("slice_thickness"), entry.get("pixel_spacing")
            sizes = {
                name: int(entry[name]) for name in ("num_slices", "rows", "columns") if entry.get(name) is not None
            }
            spacing = None if None in (between, inside) else _spacing([between, *inside], f"{path}: {subject}")
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}: {subject}: {error}; expected numbers in mm, as the predecessor writes") from None
        found[subject] = SliceFacts(spacing, str(entry.get("split") or ""), sizes)
    return found


def _spacing(given: Sequence[Any], where: str) -> tuple[float, float, float]:
    dz, dy, dx = (float(edge) for edge in given)
    if not all(0 < edge < np.inf for edge in (dz, dy, dx)):
        raise DataError(f"{where}: distances of {dz:g}, {dy:g}, {dx:g} mm; allowed: three above 0")
    return dz, dy, dx


def stacked_slices(slices: Mapping[int, Path]) -> npt.NDArray[Any]:
    """The slices in the order of their numbers, zyx; of one-hot masks (rows, columns, labels) zyx and labels.

    Raises:
        DataError: a number between the first and the last is missing, a file is damaged or of another size or type.
    """
    numbers = sorted(slices)
    if missing := sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers)):
        shown = listed([str(number) for number in missing], _SHOWN)
        raise DataError(f"{slices[numbers[0]]}: is followed by no slice {shown}; copy all files of the subject")
    arrays = [_slice_in(slices[number]) for number in numbers]
    first = arrays[0]
    for number, array in zip(numbers, arrays, strict=True):
        if (array.shape, array.dtype) != (first.shape, first.dtype):
            raise DataError(
                f"{slices[number]}: is {array.shape} of {array.dtype}, the first slice {first.shape} of {first.dtype}; "
                "allowed: one size and one type in a subject"
            )
    return np.stack(arrays)


def _slice_in(path: Path) -> npt.NDArray[Any]:
    if path.suffix.lower() != _ARRAY:
        return read_stack(path, Reading(spacing_mm=(1.0, 1.0, 1.0))).array[:, :, 0].T
    try:
        with naming(path):
            array = np.load(path, allow_pickle=False)
    except (EOFError, MemoryError, OSError, ValueError) as error:  # a damaged header may declare any size
        raise DataError(f"{path}: not a readable numpy array ({' '.join(str(error).split())}); copy it again") from None
    if array.ndim not in (2, 3) or array.dtype.kind not in "buif":
        raise DataError(
            f"{path}: is {array.shape} of {array.dtype}; allowed: numbers (rows, columns), or one-hot (rows, columns, "
            "labels) in a mask"
        )
    found: npt.NDArray[Any] = array.view(np.uint8) if array.dtype == bool else array
    return found


def gathered(
    subject: str, slices: tuple[Mapping[int, Path], Mapping[int, Path]], facts: SliceFacts, out: Path
) -> list[str]:
    """Write image and mask of one subject; returns its line of the table.

    Raises:
        DataError: the slices of both, or the metadata, contradict each other, or are incomplete.
    """
    of_image, of_mask = slices
    VolumeKey("gathered", subject, "image")  # refuses what cannot be a name
    if set(of_image) != set(of_mask):
        other = sorted(set(of_image) ^ set(of_mask))
        shown = listed([str(number) for number in other], _SHOWN)
        raise DataError(f"{subject}: image or mask lacks slice {shown}; allowed: a mask for each slice")
    if facts.spacing_zyx_mm is None:
        raise DataError(f"{subject}: nothing gives the distances of its voxels; give --spacing-mm, or --metadata")
    image, mask = stacked_slices(of_image), stacked_slices(of_mask)
    if image.ndim != 3:
        raise DataError(f"{of_image[min(of_image)]}: is {image.shape[1:]}; allowed: one channel (rows, columns)")
    found = dict(zip(("num_slices", "rows", "columns"), image.shape, strict=True))
    for what, shape in (("mask", mask.shape[:3]), ("metadata", tuple({**found, **facts.sizes}.values()))):
        if shape != image.shape:
            raise DataError(
                f"{subject}: image has {image.shape} slices, rows and columns, {what} {shape}; allowed: the same"
            )
    labels = _labels_of(of_mask[min(of_mask)], mask)  # before anything of the subject is written
    geometry = Geometry.from_affine(image.shape, np.diag([*facts.spacing_zyx_mm[::-1], 1.0]), oriented=False)
    names = [f"{folder}/{subject}.nii.gz" for folder in ("images", "masks")]
    write_nifti(out / names[0], _as_nifti_holds_it(image), geometry, name_slices=True)
    write_nifti(out / names[1], labels, geometry, name_slices=True)
    return [subject, *(str((out / name).absolute()) for name in names), facts.split]


def _as_nifti_holds_it(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Integers of 8 bytes as float64, which is exact up to 2**53, and float16 as float32."""
    if image.dtype.kind in "iu" and image.dtype.itemsize == 8:
        return image.astype(np.float64)
    return image.astype(np.float32) if image.dtype == np.float16 else image


def _labels_of(first: Path, mask: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A label map, of the smallest unsigned type; one-hot: 1 for the first label."""
    if mask.ndim == 4:
        if not np.isin(mask, (0, 1)).all() or (mask.sum(axis=-1) > 1).any():
            raise DataError(
                f"{first}: it and its other slices are no one-hot masks; allowed: 0, and one 1 at most per pixel"
            )
        mask = (mask * np.arange(1, mask.shape[-1] + 1)).sum(axis=-1)
    if not np.array_equal(mask, np.rint(mask)) or mask.min() < 0 or mask.max() > np.iinfo(np.uint16).max:
        raise DataError(f"{first}: holds {mask.min():g} to {mask.max():g}; allowed: whole numbers of 0 to 65535")
    return mask.astype(_UNSIGNED[int(mask.max() > np.iinfo(np.uint8).max)])


def gather(
    images: str, masks: str, out: Path, facts: Mapping[str, SliceFacts], default: SliceFacts = SliceFacts()
) -> list[str]:
    """Write the volumes and the table of all subjects; returns the refusals.

    Args:
        facts: of the subjects that metadata name.
        default: of the others.
    """
    of_images, of_masks = slices_of(images), slices_of(masks)
    lines, refused = [], []
    for subject in sorted({*of_images, *of_masks}):
        try:
            both = of_images.get(subject, {}), of_masks.get(subject, {})
            lines.append(gathered(subject, both, facts.get(subject, default), out))
        except DataError as error:
            refused.append(str(error))
    if lines:
        columns = ["subject", "image", "mask", "split"]
        kept = columns if all(line[-1] for line in lines) else columns[:-1]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([kept, *(line[: len(kept)] for line in lines)])
        write_text(out / "cases.csv", text.getvalue())
    return refused


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; exit code 3 when a subject was refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    example = "'images/{subject}-{slice}.npy'"
    parser.add_argument("--images", required=True, help=f"files of the images, such as {example}; also PNG and TIFF")
    parser.add_argument("--masks", required=True, help="the same of the masks")
    parser.add_argument("--metadata", type=Path, help="metadata_for_ml.json: spacing, split and numbers of slices")
    parser.add_argument(
        "--spacing-mm", type=float, nargs=3, metavar=("DZ", "DY", "DX"), help="of subjects without metadata"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the volumes and cases.csv")
    given = parser.parse_args(arguments)
    default = SliceFacts(None if given.spacing_mm is None else _spacing(given.spacing_mm, "--spacing-mm"))
    facts = {} if given.metadata is None else facts_of_slices(given.metadata)
    refused = gather(given.images, given.masks, given.out, facts, default)
    print(*refused, sep="\n", end="\n" if refused else "", file=sys.stderr)
    if (given.out / "cases.csv").is_file():
        print(f"sources: {{images: {given.out / 'cases.csv'}}}")
    if refused:
        raise IncompleteError(f"{len(refused)} refused, the others are in {given.out}")


if __name__ == "__main__":
    run_command(main)
