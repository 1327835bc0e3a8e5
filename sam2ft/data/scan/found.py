"""What a scan finds: images and masks by their headers, and whether a mask lies on the grid of an image."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sam2ft.config.schema.series import SeriesPart
from sam2ft.core.geometry import PLANES
from sam2ft.data.images.grids import PLACED_TOLERANCE_VOXELS


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

    @property
    def corners_mm(self) -> npt.NDArray[np.float64]:
        """(8, 3): centres of the voxels in the corners, RAS."""
        ends = np.array(list(product(*((0, size - 1) for size in self.shape))), dtype=np.float64)
        corners: npt.NDArray[np.float64] = ends @ self.affine[:3, :3].T + self.affine[:3, 3]
        return corners


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
    tolerance = PLACED_TOLERANCE_VOXELS * float(image.edges_mm.min())
    if cropped:
        return _is_part(mask, image)
    if sorted(mask.shape) != sorted(image.shape):
        return False
    if not np.allclose(np.sort(mask.edges_mm), np.sort(image.edges_mm), rtol=0.02):
        return False
    distances = np.linalg.norm(mask.corners_mm[:, None] - image.corners_mm[None], axis=2)
    return bool(distances.min(axis=1).max() <= tolerance and distances.min(axis=0).max() <= tolerance)


def _is_part(mask: Grid, image: Grid) -> bool:
    """Whether all voxels of a mask are voxels of an image."""
    to_voxels = np.linalg.inv(image.affine)
    corners = mask.corners_mm @ to_voxels[:3, :3].T + to_voxels[:3, 3]
    steps = to_voxels[:3, :3] @ mask.affine[:3, :3]
    return (
        bool(np.abs(corners - np.round(corners)).max() <= PLACED_TOLERANCE_VOXELS)
        and bool(np.allclose(np.abs(steps).max(axis=0), 1, atol=0.02))
        and bool((np.round(corners) >= 0).all() and (np.round(corners) <= np.array(image.shape) - 1).all())
    )


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
