"""Numbers of one stored volume for the integrity report, measured from its arrays: intensities, labels, contact sheet.

They depend on the content of the volume alone (`VolumeRecord.digest`), and so are kept for as long as it is the same.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry
from sam2ft.data.store.likeness import block_means
from sam2ft.data.store.store import IMAGE_LEVELS, Store, VolumeRecord
from sam2ft.metrics.instances import mask_instances
from sam2ft.report.integrity.contact_sheet import ContactSheet, contact_sheet

PERCENTILES = (1, 99)
"""Ends of the range of intensities that the report shows."""
CUT_SHARE = 0.1
"""A label is cut by a side of the image when its section there is at least this part of its largest one along that
axis; what ends there by itself has a smaller one."""

_BODY = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))
_IN_FILE = (("left border", "right border"), ("top border", "bottom border"), ("first slice", "last slice"))


@dataclass(frozen=True)
class MeasuredLabel:
    """One label of one volume."""

    voxels: int
    specks: int
    """Components that are specks (`metrics.instances`)."""
    cut_at: tuple[str, ...]
    """Sides of the image that cut it: sides of the body, or of the file where the header does not say them."""
    centre_ras_mm: tuple[float, float, float]
    """Mean position of its voxels; without meaning where the header says no orientation."""


@dataclass(frozen=True)
class MeasuredVolume:
    """One volume."""

    low: int
    """Percentile PERCENTILES[0] of its voxels, in levels of the store (65535 is the upper end of its window)."""
    typical: int
    """Median of the voxels above the mean, in levels: of the body, without the air around it."""
    high: int
    labels: Mapping[int, MeasuredLabel]
    """Only those that it has."""
    means: tuple[int, ...]
    """`block_means` of its image."""
    sheet: ContactSheet

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "MeasuredVolume":
        """The volume of `to_json`, as JSON gives it back."""
        labels = {
            int(label): MeasuredLabel(one["voxels"], one["specks"], tuple(one["cut_at"]), tuple(one["centre_ras_mm"]))
            for label, one in value["labels"].items()
        }
        sheet = ContactSheet(value["sheet"]["data"], tuple(value["sheet"]["size"]), tuple(value["sheet"]["slices"]))
        return cls(value["low"], value["typical"], value["high"], labels, tuple(value["means"]), sheet)


def measured_volume(store: Store) -> MeasuredVolume:
    """The numbers of the only volume of `store`.

    Raises:
        DataError: an array is lost or damaged.
    """
    (record,) = store.volumes
    store.verify([record])
    image_zyx, mask_zyx, given = (
        store.image(record.key),
        store.mask(record.key),
        store.instances(record.key),
    )
    low, typical, high = intensities(image_zyx)
    labels = labels_of_mask(mask_zyx, record.geometry, record.instances_min_mm3, given)
    sheet = contact_sheet(store, record)
    return MeasuredVolume(low, typical, high, labels, _means(record, image_zyx), sheet)


def _means(record: VolumeRecord, image_zyx: npt.NDArray[np.uint16]) -> tuple[int, ...]:
    """Those of its record, which they take long to compute again; of the image where the record is lost or older."""
    with suppress(DataError):
        if found := record.stored.get("block_means"):
            return tuple(found)
    return tuple(block_means(image_zyx))


def intensities(image_zyx: npt.NDArray[np.uint16]) -> tuple[int, int, int]:
    """(low, typical, high) of an image in levels: see `MeasuredVolume`; each is the level of a voxel."""
    counts = np.zeros(IMAGE_LEVELS + 1, np.int64)
    for image_yx in image_zyx:
        counts += np.bincount(image_yx.ravel(), minlength=IMAGE_LEVELS + 1)
    mean = float(counts @ np.arange(IMAGE_LEVELS + 1)) / max(1, int(counts.sum()))
    body = np.where(np.arange(IMAGE_LEVELS + 1) > mean, counts, 0)
    typical = _percentile(body, 50) if body.any() else round(mean)
    return _percentile(counts, PERCENTILES[0]), typical, _percentile(counts, PERCENTILES[1])


def _percentile(counts: npt.NDArray[np.int64], percent: float) -> int:
    """The smallest level that at least `percent` of the voxels do not exceed."""
    return int(np.searchsorted(np.cumsum(counts), percent / 100 * counts.sum()))


def labels_of_mask(
    mask_zyx: npt.NDArray[np.integer[Any]],
    geometry: Geometry,
    min_mm3: float | None = None,
    given_zyx: npt.NDArray[np.integer[Any]] | None = None,
) -> dict[int, MeasuredLabel]:
    """Label -> its numbers, of those in the mask.

    Args:
        min_mm3: size below which an instance is a speck; None: 5 % of the largest component.
        given_zyx: ids of given instances.
    """
    from scipy import ndimage

    found = {}
    for label, box in enumerate(ndimage.find_objects(mask_zyx), start=1):
        if box is None:
            continue
        mask = mask_zyx[box] == label
        given = None if given_zyx is None else np.where(mask, given_zyx[box], 0)
        # Ids are above 0 in all or in no voxels of a label.
        instances = given if given is not None and given.any() else None
        specks = _count(mask_instances(mask, geometry.voxel_volume_mm3, min_mm3, instances).specks)
        places = np.array([np.arange(one.start, one.stop) @ _sections(mask, axis) for axis, one in enumerate(box)])
        voxels = int(np.count_nonzero(mask))
        centre = geometry.affine @ [*(places / voxels)[::-1], 1.0]
        cut = tuple(_cut_at(mask, box, geometry))
        found[label] = MeasuredLabel(voxels, specks, cut, (float(centre[0]), float(centre[1]), float(centre[2])))
    return found


def _count(specks: npt.NDArray[np.bool_]) -> int:
    from sam2ft.core.components import components

    return components(specks)[1] if specks.any() else 0


def _sections(mask: npt.NDArray[np.bool_], axis: int) -> npt.NDArray[np.intp]:
    """Number of voxels in each plane across an axis."""
    return np.asarray(np.count_nonzero(mask, axis=tuple(other for other in range(3) if other != axis)))


def _cut_at(mask: npt.NDArray[np.bool_], box: tuple[slice, ...], geometry: Geometry) -> list[str]:
    sides = sides_of(geometry)
    found = []
    for axis, (extent, size) in enumerate(zip(box, geometry.shape_zyx, strict=True)):
        sections = _sections(mask, axis)
        enough = CUT_SHARE * sections.max()
        found += [sides[axis][0]] if extent.start == 0 and sections[0] >= enough else []
        found += [sides[axis][1]] if extent.stop == size and sections[-1] >= enough else []
    return found


def sides_of(geometry: Geometry) -> tuple[tuple[str, str], ...]:
    """Names of the sides at the beginning and at the end of each axis (z, y, x)."""
    if not geometry.oriented:
        return _IN_FILE[::-1]
    named = []
    for column in (2, 1, 0):
        direction = geometry.affine[:3, column]
        axis = int(np.argmax(np.abs(direction)))
        sides = _BODY[axis]
        named.append(sides if direction[axis] > 0 else sides[::-1])
    return tuple(named)
