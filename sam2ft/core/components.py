"""Instances: the connected components of one label."""

import numpy as np
import numpy.typing as npt

from sam2ft.core.prompts import Mask


def components(mask: Mask) -> tuple[npt.NDArray[np.int32], int]:
    """(numbered components, their count) of a 2-D or 3-D mask; 0 is background, numbers start at 1 in raster order.

    Pixels that touch by a corner belong together (8 neighbours in 2-D, 26 in 3-D), as a reader would count them.
    """
    from scipy import ndimage  # 0.2 s, which a plan on a login node need not wait for

    numbered, count = ndimage.label(mask, structure=np.ones((3,) * mask.ndim, dtype=np.int8))
    return numbered.astype(np.int32, copy=False), int(count)
