"""Linear resampling of a relaxation map to another grid with the affines; no other data of a dataset is resampled."""

import numpy as np
import numpy.typing as npt

from sam2ft.core.geometry import Geometry
from sam2ft.data.images.grids import Volume

# A voxel gets a value when finite neighbours have at least this interpolation weight: 0.5 is halfway to a NaN voxel.
_LEAST_WEIGHT = 0.5


def resampled_linear(volume: Volume, geometry: Geometry) -> npt.NDArray[np.float32]:
    """The values of `volume` at the voxel centres of `geometry`, by linear interpolation in millimetres.

    NaN voxels of the source are ignored: the result is the weighted mean of the finite neighbours. It is NaN where
    these have less than half of the weight, and outside the source.
    """
    from scipy import ndimage

    small = volume.array_zyx.dtype.itemsize <= 2 or volume.array_zyx.dtype == np.float32
    source = np.asarray(volume.array_zyx, dtype=np.float32 if small else np.float64)
    finite = np.isfinite(source)
    # Interpolation computes in float64 whatever the type of a layer.
    layers = (np.where(finite, source, 0), finite.astype(np.uint8))
    steps = np.linalg.solve(volume.geometry.affine, geometry.affine).astype(np.float64)
    result = np.full(geometry.shape_zyx, np.nan, dtype=np.float32)
    for index in range(geometry.shape_zyx[0]):
        places = _places(steps, index, geometry)
        # A source voxel extends half its width beyond its centre, also at the border of the volume.
        value, weight = (
            ndimage.map_coordinates(layer, places, output=np.float64, order=1, mode="nearest") for layer in layers
        )
        inside = _inside(places, source.shape) & (weight >= _LEAST_WEIGHT)
        np.divide(value, weight, out=result[index], where=inside, casting="same_kind")
    return result


def _places(steps: npt.NDArray[np.float64], index: int, geometry: Geometry) -> npt.NDArray[np.float64]:
    """Source voxel coordinates (z, y, x) of each voxel of one slice, shape (3, rows, columns)."""
    _, rows, columns = geometry.shape_zyx
    y, x = np.mgrid[:rows, :columns].astype(np.float64)
    voxels = np.stack([x, y, np.full_like(x, index), np.ones_like(x)])
    found: npt.NDArray[np.float64] = np.tensordot(steps[:3], voxels, axes=1)[::-1]
    return found


def _inside(places: npt.NDArray[np.float64], shape_zyx: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    last = np.array(shape_zyx)[:, None, None] - 0.5
    inside: npt.NDArray[np.bool_] = np.all((places >= -0.5) & (places <= last), axis=0)
    return inside
