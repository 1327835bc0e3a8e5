"""What the header of an image file says, and what a dataset file must say where a header leaves it open."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from sam2ft.config.schema.dataset import Reading
from sam2ft.core.errors import DataError
from sam2ft.data.formats.compressed import DAMAGED

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
    affine, problems = None, []
    try:
        chosen_channel(channels, reading)
    except DataError as error:
        problems.append(str(error))
    try:
        affine = place()[0]
    except DataError as error:
        problems.append(str(error))
    except DAMAGED:
        problems.append("a field of its header cannot be understood")
    return Description(shape, channels, num_bytes, affine, tuple(problems))


def chosen_channel(num: int, reading: Reading) -> int:
    """Index of the volume to read from a file of `num` volumes.

    Raises:
        DataError: there are several and none is chosen, or there is no such one.
    """
    if reading.channel is None and num > 1:
        raise DataError(
            f"holds {num} volumes (times or channels); expected one 3-D volume; choose one: channel: 0 to {num - 1} in "
            "the dataset file"
        )
    if (reading.channel or 0) >= num:
        found = "one volume" if num == 1 else f"{num} volumes"
        raise DataError(
            f"holds {found} (times or channels), but the dataset file has channel: {reading.channel}; allowed: 0"
            + (f" to {num - 1}" if num > 1 else ", or leave the key out")
        )
    return reading.channel or 0


def spacing_zyx_mm(reading: Reading, what: str) -> tuple[float, float, float]:
    """`spacing_mm` of the dataset file.

    Raises:
        DataError: it is not given.
    """
    if reading.spacing_mm is None:
        raise DataError(
            f"{what} does not say how large its voxels are; give spacing_mm in the dataset file: distances between "
            "slices, rows and columns in mm, such as spacing_mm: [3, 0.5, 0.5]"
        )
    return reading.spacing_mm


def unplaced_affine(spacing: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    """The affine of voxels x, y, z (columns, rows, slices) with distances z, y, x whose place in a body is unknown."""
    z, y, x = spacing
    return np.diag([-x, -y, z, 1.0])


def without_place(what: str) -> str:
    """Note for a file whose place in the body is unknown."""
    return f"{what} does not say how it lies in the body, so that heights of discs are not measured"
