"""Tissue volume in mm3 and mL: number of voxels x voxel volume."""

from collections.abc import Iterator
from dataclasses import dataclass

from sam2ft.metrics.biomarkers.both_masks import on_both_masks
from sam2ft.metrics.counts import Overlap
from sam2ft.metrics.measurement import MaskPair, Measurement

MM3_PER_ML = 1000.0


@dataclass(frozen=True)
class TissueVolumeMetric:
    """Voxels x row spacing x column spacing x dz: per volume in mm3 and mL, per slice in mm3.

    A missed tissue has volume 0 and keeps its status: 0 mm3 is a valid measurement, unlike the thickness of an empty
    mask.
    """

    name: str = "tissuevolume"
    needs: tuple[str, ...] = ()
    biomarker: bool = True

    def measure(self, pair: MaskPair) -> Iterator[Measurement]:
        for index, counts in pair.slice_overlaps.items():
            if counts.status != "absent":
                yield self._volume(pair, counts, "mm3", slice_index=index)
        for unit in ("mm3", "mL"):
            yield self._volume(pair, pair.overlap, unit)

    def _volume(self, pair: MaskPair, counts: Overlap, unit: str, slice_index: int | None = None) -> Measurement:
        one_voxel = pair.geometry.voxel_volume_mm3 / (MM3_PER_ML if unit == "mL" else 1.0)
        sides = ((number * one_voxel, number) for number in (counts.reference, counts.prediction))
        return on_both_masks(self.name, "volume", unit, *sides, slice=slice_index)
