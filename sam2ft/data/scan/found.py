"""What a scan finds: images and masks by their headers, and whether a mask lies on the grid of an image."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sam2ft.config.schema.series import SeriesPart
from sam2ft.core.errors import DataError
from sam2ft.core.geometry import PLANES, Geometry
from sam2ft.data.images.grids import PLACED_TOLERANCE_VOXELS, Volume, on_axes_of, shifted_grid


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a file or series lie."""

    shape: tuple[int, ...]
    """Voxels along its three axes, in the order of the columns of `affine`."""
    affine: npt.NDArray[np.float64]
    """4 x 4, voxel index -> RAS mm."""
    oriented: bool | None = True
    """False: its voxel edges are known, its place and directions are not; None: reading the voxels would tell."""

    @property
    def edges_mm(self) -> npt.NDArray[np.float64]:
        edges: npt.NDArray[np.float64] = np.linalg.norm(self.affine[:3, :3], axis=0)
        return edges

    @cached_property
    def volume(self) -> Volume:
        """A volume without values at this place."""
        x, y, z = self.shape
        return Volume(np.broadcast_to(np.uint8(0), (z, y, x)), Geometry.from_affine((z, y, x), self.affine))

    @cached_property
    def centre_mm(self) -> npt.NDArray[np.float64]:
        """The middle of the grid, RAS."""
        middle: npt.NDArray[np.float64] = self.affine[:3, :3] @ (np.array(self.shape) - 1) / 2 + self.affine[:3, 3]
        return middle


def same_place(mask: Grid, image: Grid, *, cropped: bool = False) -> bool:
    """Whether a mask lies on the grid of an image, in any order of its axes, as `prepare` asks by default.

    Args:
        cropped: the mask may be a part of the image, on its lattice (a segmentation that is cropped to its segments).
    """
    known = {grid.oriented for grid in (mask, image)} - {None}
    if len(known) > 1:
        return False
    if known == {False}:
        return mask.shape == image.shape and bool(np.allclose(mask.edges_mm, image.edges_mm, rtol=1e-3))
    if not cropped and (sorted(mask.shape) != sorted(image.shape) or _lie_apart(mask, image)):
        return False
    try:
        there = image.volume.geometry
        _, moved, start_xyz = on_axes_of(mask.volume, there, "mask and image")
    except (DataError, np.linalg.LinAlgError):
        return False
    if not cropped:
        return there.difference(moved, PLACED_TOLERANCE_VOXELS) is None
    is_inside = start_xyz.min() >= 0 and (start_xyz + moved.shape_zyx[::-1] <= image.shape).all()
    # On the whole image, as a cropped segmentation is padded to it.
    whole = shifted_grid(moved, -start_xyz, there.shape_zyx)
    return bool(is_inside) and there.difference(whole, PLACED_TOLERANCE_VOXELS) is None


def _lie_apart(first: Grid, second: Grid) -> bool:
    """Whether the middles say already that the corners do not agree: a mask without a name is held to every image."""
    apart = np.abs(first.centre_mm - second.centre_mm).max()
    return bool(apart > PLACED_TOLERANCE_VOXELS * second.edges_mm.min())


@dataclass(frozen=True, eq=False)
class FoundImage:
    """A stack of a DICOM folder, or an image file."""

    place: Path
    """What `sources.images` would name: a folder or a file."""
    root: Path
    """The folder that was scanned."""
    kind: str
    shape: tuple[int, ...]
    """Columns, rows and slices; axes of a file in its order."""
    grid: Grid | None = None
    plane: str = ""
    description: str = ""
    """SeriesDescription: shown by a scan, and nowhere else."""
    number: int | None = None
    part: SeriesPart | None = None
    echo_ms: float | None = None
    phase: int | None = None
    tags: Mapping[str, float] = field(default_factory=dict)
    localizer: bool = False
    uids: tuple[str, str, str] = ("", "", "")
    """Of series and study, and the digest of PatientID; to compare them, never shown."""
    problems: tuple[str, ...] = ()
    """Why it is refused as it is; one sentence each."""
    num_files: int = 1

    @property
    def is_dicom(self) -> bool:
        return self.kind == "DICOM"

    @property
    def parts(self) -> tuple[str, ...]:
        """The folders and the name by which it may be told apart, below the scanned folder."""
        return self.place.relative_to(self.root).parts

    @property
    def order(self) -> tuple[object, ...]:
        return (
            str(self.place),
            self.localizer,
            -1 if self.number is None else self.number,
            self.part or "",
            self.echo_ms or 0.0,
            self.phase or 0,
        )


@dataclass(frozen=True, eq=False)
class FoundMask:
    """A mask file, by its header and its voxels."""

    path: Path
    root: Path
    kind: str
    grid: Grid | None = None
    """None: it has no grid of its own (contours)."""
    values: tuple[int, ...] = ()
    """Integers of its voxels besides 0."""
    names: Mapping[int, str] = field(default_factory=dict)
    """Value -> name, where the file names its segments."""
    references: tuple[str, ...] = ()
    """SeriesInstanceUID of the images that it was drawn on, where it says so."""
    by_names: bool = False
    """Its numbers mean nothing: names of segments alone say which label each is."""
    known_as: str = "name"
    """By what it was taken as a mask: its name, or its content."""

    @property
    def parts(self) -> tuple[str, ...]:
        return self.path.relative_to(self.root).parts

    @property
    def may_be_cropped(self) -> bool:
        return bool(self.names)


def plane_of_grid(grid: Grid) -> str:
    """The anatomical plane of the slices, for the axis with the largest edge; empty where the place is unknown."""
    if not grid.oriented:
        return ""
    along = grid.affine[:3, int(np.argmax(grid.edges_mm))]
    return PLANES[int(np.abs(along).argmax())]
