"""Masks made elsewhere on the grid of their reference; a cropped reference and its prediction on a grid of both."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.core.errors import DataError, naming
from sam2ft.core.geometry import Geometry
from sam2ft.core.labels import LabelTable
from sam2ft.data.images.grid_policy import LEAST_INSIDE, share_inside
from sam2ft.data.images.grids import (
    Volume,
    on_grid,
    refuse_one_unoriented,
    refuse_unoriented_resampling,
    resampled_nearest,
    united_grid,
)
from sam2ft.data.images.volumes import grid_fields
from sam2ft.data.masks.layers import Meaning
from sam2ft.data.masks.read_masks import MaskReader
from sam2ft.data.store.store import VolumeRecord
from sam2ft.runs.evaluation_files import verified_prediction
from sam2ft.runs.layout import EvalLayout

MOST_UNITED = 2**30
"""Voxels of the grid that holds two cropped masks; a larger one is that of two images."""


@dataclass(frozen=True)
class PlacedMask:
    """A mask in the voxel order of its reference, its values as in the file."""

    volume: Volume
    inside: float | None = None
    """Resampled masks: share of the labelled voxels that lies inside the grid of the reference; None: not resampled."""
    covered: float | None = None
    """Resampled masks: share of the reference's labelled voxels inside the grid of the mask; None: not resampled, or
    a mask that is cropped to its segments."""


def read_labels(
    path: Path, reading: Reading, table: LabelTable | None = None, reference: Volume | None = None
) -> Volume:
    """Read a label map from a mask of any kind; its integers are labels, not signals.

    Args:
        table: what names of segments that overlap, or have equal values, mean; None: every value is a label.
        reference: what contours and pictures are drawn on; None: they are refused.

    Raises:
        DataError: naming the file or folder, when it cannot be read exactly.
    """
    return MaskReader(reference, reading, Meaning(table)).read(path)


def read_prediction(
    path: Path,
    reference: Volume,
    *,
    resample: bool,
    reading: Reading = AS_IS,
    table: LabelTable | None = None,
) -> PlacedMask:
    """Read a mask in the voxel order of `reference`; axes are permuted and flipped by the affine, without resampling.

    Args:
        resample: a mask on another grid is resampled with nearest neighbours (0 outside of its grid).
        reading: which field of its header is right where two contradict each other.
        table: see `read_labels`.

    Raises:
        DataError: the mask is on another grid, without `resample`, and the message contains both geometries; or less
            than half of the labelled voxels of either mask lie inside the grid of the other.
    """
    volume = read_labels(path, reading.of_masks, table, reference)
    return placed(path, volume, reference, resample=resample)


def placed(path: Path, volume: Volume, reference: Volume, *, resample: bool) -> PlacedMask:
    """Place the mask `volume` of the file `path` as `read_prediction` does."""
    geometry = reference.geometry
    with naming(path):
        refuse_one_unoriented(volume, geometry, what="prediction", image="the reference")
    try:
        return PlacedMask(on_grid(volume, geometry, what="prediction", target="reference"))
    except DataError as error:
        if not resample:
            raise DataError(
                f"{path}: {error}; reference: {geometry.describe()}; prediction: {volume.geometry.describe()}; "
                "export it on the grid of the reference, or resample it to the nearest voxel with --resample"
            ) from None
    with naming(path):
        refuse_unoriented_resampling(volume, geometry, what="prediction")
    inside = share_inside(volume, geometry)
    # Beyond a mask that is cropped to its segments is background, and not another image.
    covered = None if volume.segments else share_inside(reference, volume.geometry)
    _refuse_little(path, inside, covered)
    moved = Volume(resampled_nearest(volume, geometry), geometry, notes=volume.notes, segments=volume.segments)
    return PlacedMask(moved, inside, covered)


def placed_pair(
    reference_path: Path, reference: Volume, path: Path, prediction: Volume, *, resample: bool
) -> tuple[Volume, PlacedMask]:
    """(the reference, the prediction on its grid). A reference with segments may be cropped to them: both are then
    padded to a grid that holds both, so that nothing of the prediction is left out.

    Raises:
        DataError: as `read_prediction`; or such a reference shares no lattice with the prediction, or has labels beyond
            the grid of the prediction, without `resample`.
    """
    if not reference.segments:
        return reference, placed(path, prediction, reference, resample=resample)
    with naming(path):
        refuse_one_unoriented(prediction, reference.geometry, what="prediction", image="the reference")
    united = _united(reference_path, reference, path, prediction)
    covered = 1.0 if prediction.segments else share_inside(reference, prediction.geometry)
    if covered < 1 and not resample:
        raise DataError(
            f"{path}: only {covered:.1%} of the labelled voxels of the reference lie inside the grid of the "
            "prediction; export the prediction on the grid of the image, or count the rest as missed with --resample"
        )
    _refuse_little(path, 1.0, covered)
    if united != reference.geometry:
        reference = replace(
            on_grid(reference, united, what="reference", target="prediction"), slices=grid_fields(united)
        )
    moved = on_grid(prediction, united, what="prediction", target="reference", pad=True)
    return reference, PlacedMask(moved) if covered == 1 else PlacedMask(moved, 1.0, covered)


def _united(reference_path: Path, reference: Volume, path: Path, prediction: Volume) -> Geometry:
    """The grid of both masks of a pair; DataError when there is none."""
    united = united_grid(reference, prediction)
    if united is not None and np.prod(united.shape_zyx, dtype=np.float64) <= MOST_UNITED:
        return united
    found = "shares no lattice with" if united is None else "lies far away from"
    raise DataError(
        f"{reference_path}: the reference has segments, may be cropped to them, and {found} the prediction {path} "
        f"(reference: {reference.geometry.describe()}; prediction: {prediction.geometry.describe()}); allowed: whole "
        "voxels apart, within 0.1 voxel; export the reference as a labelmap (.nii.gz) on the grid of its image"
    )


def _refuse_little(path: Path, inside: float, covered: float | None) -> None:
    """Refuse two masks that are hardly of one image."""
    shares = (
        (inside, "prediction lie inside the grid of the reference"),
        (1.0 if covered is None else covered, "reference lie inside the grid of the prediction"),
    )
    for share, where in shares:
        if share < LEAST_INSIDE:
            raise DataError(
                f"{path}: only {share:.0%} of the labelled voxels of the {where}; --resample needs "
                f"{LEAST_INSIDE:.0%}; it is another image, or its affine is wrong"
            )


def read_stored_prediction(
    path: Path,
    record: VolumeRecord,
    reference: Volume,
    *,
    resample: bool,
    reading: Reading = AS_IS,
    table: LabelTable | None = None,
    on_slices_of_store: bool = False,
) -> PlacedMask:
    """Read the prediction of a volume of a store, as `read_prediction`.

    Where the series of the volume was resampled to even slices, the prediction follows its slices as masks do: another
    program draws on the slices of the series. What sam2ft predicted lies on the even slices already.

    Args:
        on_slices_of_store: another program predicted from what sam2ft exported (`sam2ft export`).
    """
    if is_of_evaluation(path):
        verified_prediction(EvalLayout(path.resolve().parents[2]), record.key)
    nearest = record.nearest
    if nearest is None:
        return read_prediction(path, reference, resample=resample, reading=reading, table=table)
    even = reading.model_copy(update={"irregular": "resample"})
    mask = read_prediction(path, reference, resample=resample, reading=even, table=table)
    if on_slices_of_store or is_of_evaluation(path):
        origin = "from an export" if on_slices_of_store else "of an evaluation"
        note = f"prediction {origin} of sam2ft: it lies on the even slices of the store and is taken as it is"
        return replace(mask, volume=replace(mask.volume, notes=(*mask.volume.notes, note)))
    indices, axis = nearest
    note = (
        "the series was resampled to even slices; the prediction is read on the slices of the series and follows them, "
        "as masks do"
    )
    moved = np.take(mask.volume.array_zyx, indices, axis=axis)
    return replace(mask, volume=replace(mask.volume, array_zyx=moved, notes=(*mask.volume.notes, note)))


def is_of_evaluation(path: Path) -> bool:
    """Whether a mask lies in `predictions/<dataset>/` of a finished evaluation of sam2ft, beside its `config.yaml`."""
    folder = path.resolve().parent.parent
    beside = folder.parent
    return folder.name == "predictions" and all((beside / name).is_file() for name in ("_SUCCESS", "config.yaml"))
