"""What the header of an image file says, and what a dataset file must say where a header leaves it open."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from sam2ft.config.schema.dataset import Reading
from sam2ft.core.errors import DataError
from sam2ft.data.formats.compressed import DAMAGED

_UNITS = {
    1.0: ("mm", "millimeter", "millimeters", "millimetre", "millimetres"),
    1e-6: ("nm", "nanometer", "nanometers", "nanometre", "nanometres"),
    1e-3: ("um", "µm", "μm", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"),
    10.0: ("cm", "centimeter", "centimeters", "centimetre", "centimetres"),
    1000.0: ("m", "meter", "meters", "metre", "metres"),
}
MM_PER_UNIT = {name: factor for factor, names in _UNITS.items() for name in names}
"""Name of a unit of length in small letters, as headers write it -> mm."""
UNIT_LENGTH = 1e-3
"""Directions are unit vectors within this."""
Placement = tuple[npt.NDArray[np.float64], tuple[str, ...]]
"""(affine from voxel index to RAS mm, notes)."""


@dataclass(frozen=True)
class Description:
    """An image file without its voxels."""

    shape: tuple[int, ...]
    """All axes, in the order of the file; those of arrays and stacks are x, y, z."""
    channels: int
    """Volumes in the file: times or channels."""
    num_bytes: int
    """Bytes of the voxels of all volumes when decoded."""
    affine: npt.NDArray[np.float64] | None = None
    """4 x 4, voxel index in the file -> RAS mm; None: unknown or contradictory."""
    problems: tuple[str, ...] = ()
    """Why the file is refused as it is read now: one sentence each, without the path of the file."""

    @property
    def num_voxels(self) -> int:
        return prod(self.shape)


def described(
    shape: tuple[int, ...], channels: int, num_bytes: int, place: Callable[[], Placement], reading: Reading
) -> Description:
    """A description with the affine that `place` gives, or with the reason why it gives none."""
    affine: npt.NDArray[np.float64] | None = None
    problems: list[str] = []
    try:
        chosen_channel(channels, reading, shape)
    except DataError as error:
        problems.append(str(error))
    try:
        affine = place()[0]
    except DataError as error:
        problems.append(str(error))
    except DAMAGED:
        problems.append("a field of its header cannot be understood")
    return Description(shape, channels, num_bytes, affine, tuple(problems))


def chosen_channel(num: int, reading: Reading, shape: tuple[int, ...]) -> int:
    """Index of the volume to read from a file of `num` volumes and the axes `shape`.

    Raises:
        DataError: there are several and none is chosen, or there is no such one.
    """
    if reading.channel is None and num > 1:
        raise DataError(
            f"has shape {shape}; expected one 3-D volume, found {num} (times or channels); choose one of 0 to "
            f"{num - 1} in the dataset file with channel: (images) or mask_channel: (masks), or save one alone"
        )
    if (reading.channel or 0) >= num:
        found = "one volume" if num == 1 else f"{num} volumes"
        raise DataError(
            f"has shape {shape}: {found}, but the dataset file chooses channel {reading.channel}; allowed: 0"
            + (f" to {num - 1}" if num > 1 else ", or leave the key out")
        )
    return reading.channel or 0


def steps_mm(
    directions: npt.NDArray[np.float64], edges_mm: npt.NDArray[np.float64], fields: tuple[str, str], reading: Reading
) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """(columns: steps of the three axes in mm, notes), of a header with directions and voxel edges.

    Args:
        directions: columns, which should be unit vectors.
        fields: names of the fields of directions and of edges.

    Raises:
        DataError: the directions are not unit vectors, which the edges then contradict, and `believe` does not decide.
    """
    lengths = np.linalg.norm(directions, axis=0)
    if not (np.isfinite(directions).all() and np.isfinite(edges_mm).all() and lengths.min() > 0 and edges_mm.min() > 0):
        raise DataError(
            f"its {fields[1]} gives the voxel edges {in_mm(edges_mm)} along directions ({fields[0]}) of the lengths "
            f"{', '.join(f'{length:.6g}' for length in lengths)}; allowed: finite and above 0; mend its header"
        )
    if np.abs(lengths - 1).max() <= UNIT_LENGTH:
        return directions * edges_mm, ()
    problem = f"{fields[0]} and {fields[1]} contradict each other: steps of {in_mm(lengths * edges_mm)} against "
    problem += in_mm(edges_mm)
    if reading.believe == "orientation":
        return directions * edges_mm, (f"{problem}; {fields[0]} is believed",)
    if reading.believe == "spacing":
        return directions * (edges_mm / lengths), (f"{problem}; {fields[1]} is believed",)
    raise DataError(
        f"{problem}; say which is right: believe: orientation ({fields[0]}) or believe: spacing ({fields[1]}) in the "
        "dataset file, or eval --believe"
    )


def in_mm(values: npt.NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ") mm"


def header_text(line: bytes) -> str:
    """A line of a header that is text: UTF-8, or what older programs write."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")


def spacing_zyx_mm(reading: Reading, what: str) -> tuple[float, float, float]:
    """`spacing_mm` of the dataset file.

    Raises:
        DataError: it is not given.
    """
    if reading.spacing_mm is None:
        raise DataError(
            f"{what} does not say how large its voxels are; give distances between slices, rows and columns in mm, "
            "such as spacing_mm: [3, 0.5, 0.5] in the dataset file, or eval --spacing-mm 3 0.5 0.5"
        )
    return reading.spacing_mm


def unplaced_affine(spacing: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    """The affine of voxels x, y, z (columns, rows, slices) with distances z, y, x whose place in a body is unknown."""
    z, y, x = spacing
    return np.diag([-x, -y, z, 1.0])


def without_place(what: str) -> str:
    """Note for a file whose place in the body is unknown."""
    return f"{what} does not say how it lies in the body, so that heights of discs are not measured"
