"""A predicted label map, as every writer of this folder takes it; as a NIfTI file.

Writers are pure functions of a `PredictedMask` (and, for DICOM, of the images that it belongs to): they know neither
stores nor evaluations. `dicom_seg.write_dicom_seg` is the other one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import DataError, listed
from sam2ft.core.geometry import Geometry
from sam2ft.core.labels import LabelTable
from sam2ft.data.export.nifti import write_nifti

_SHOWN = 5


@dataclass(frozen=True)
class PredictedMask:
    """A label map on the grid of its image.

    Raises:
        DataError: it has a value that is no label.
        ValueError: its shape is not that of the grid.
    """

    label_map_zyx: npt.NDArray[np.integer[Any]]
    """Ids of `labels`, 0 background."""
    geometry: Geometry
    labels: LabelTable
    about: str = ""
    """What produced it, for headers; cut to what they hold."""

    def __post_init__(self) -> None:
        if self.label_map_zyx.shape != self.geometry.shape_zyx:
            raise ValueError(f"label map is {self.label_map_zyx.shape}, its grid {self.geometry.shape_zyx}")
        present = {int(value) for slice_yx in self.label_map_zyx for value in np.unique(slice_yx)}
        if unknown := sorted(present - {0, *self.labels.ids}):
            raise DataError(
                f"the prediction has values that are no label: {listed([str(one) for one in unknown], _SHOWN)}; "
                f"the label table has {self.labels.describe()}"
            )


def write_nifti_prediction(path: Path, prediction: PredictedMask) -> None:
    """Write a prediction as .nii.gz: uint16 ids of its labels, in the voxel order and with the affine of its grid."""
    write_nifti(path, prediction.label_map_zyx.astype(np.uint16), prediction.geometry)
