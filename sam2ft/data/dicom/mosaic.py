"""Siemens mosaics: the slices of a volume as tiles of one image, placed by the maker's private header (CSA).

Positions as in nibabel (doc/theory, "DICOM mosaic"): ImagePositionPatient is that of a slice as large as the mosaic
around the centre of the first slice, and slices follow the normal of the private header, which may be opposite to that
of rows and columns.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from sam2ft.core.errors import DataError
from sam2ft.data.dicom.file import TO_NIFTI, image_of
from sam2ft.data.dicom.header import DAMAGE, image_kinds, like, put, required, required_whole, without_sequences


def is_mosaic(header: Dataset) -> bool:
    """Whether ImageType names a mosaic."""
    return "MOSAIC" in image_kinds(header)


def tile_headers(path: Path, header: Dataset) -> tuple[int, list[Dataset]]:
    """(tiles along each side, one header per slice, as if each slice were a file).

    Raises:
        DataError: naming the file; when its private header does not say how many slices there are and where.
    """
    count, normal = _private_facts(path, header)
    tiles = math.ceil(math.sqrt(count))
    rows, columns = required_whole(path, header, "Rows"), required_whole(path, header, "Columns")
    if rows % tiles or columns % tiles:
        raise DataError(
            f"{path}: is a mosaic of {count} slices in {tiles} x {tiles} tiles, into which its {rows} x {columns} "
            f"pixels cannot be divided; {TO_NIFTI}"
        )
    (distance,) = required(path, header, "SpacingBetweenSlices", 1, "the distance of its slices is unknown")
    if distance <= 0:
        raise DataError(f"{path}: SpacingBetweenSlices is {distance:g}; allowed: a length above 0")
    whole = image_of(path, header)
    if abs(abs(float(whole.normal @ normal)) - 1) > _PARALLEL:
        raise DataError(f"{path}: is a mosaic whose private normal is not that of its image; {TO_NIFTI}")
    size = rows // tiles, columns // tiles
    across, down = whole.cosines[:3] * whole.spacing[1], whole.cosines[3:] * whole.spacing[0]
    first = whole.position_mm + across * (columns - size[1]) / 2 + down * (rows - size[0]) / 2
    common, flats = without_sequences(header), []
    for index in range(count):
        flat = like(common, header)
        put(flat, "ImagePositionPatient", [float(value) for value in first + index * distance * normal])
        put(flat, "Rows", size[0])
        put(flat, "Columns", size[1])
        flats.append(flat)
    return tiles, flats


# The two normals differ by rounding.
_PARALLEL = 1e-3


def _private_facts(path: Path, header: Dataset) -> tuple[int, np.ndarray[Any, np.dtype[np.float64]]]:
    """(number of slices, direction in which they follow each other, LPS)."""
    from nibabel.nicom import csareader

    try:
        private: Any = csareader.get_csa_header(header)
        count, normal = csareader.get_n_mosaic(private), csareader.get_slice_normal(private)
    except (*DAMAGE, csareader.CSAError):
        count = normal = None
    if not count or normal is None or len(normal) != 3 or not np.isfinite(normal).all():
        raise DataError(
            f"{path}: is a Siemens mosaic without the private header (0029,1010) that says how many slices it has and "
            f"in which order; export it with its private attributes or as an image per slice, or {TO_NIFTI}"
        )
    return int(count), np.asarray(normal, dtype=np.float64)
