"""Contact sheet of one volume: a few of its slices with the contours of the labels, as one small picture. No torch."""

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sam2ft.data.store.intensity import unit_image
from sam2ft.data.store.store import Store, VolumeRecord
from sam2ft.pictures.palette import colour_of
from sam2ft.pictures.views import ScreenView, view_of

if TYPE_CHECKING:
    from PIL.Image import Image

TILE_PX = 144
"""Width and height of a slice on the sheet."""
TILES = 3
_QUALITY = 60
_GROUND = (20, 23, 26)
"""Behind slices that are not square."""


@dataclass(frozen=True)
class ContactSheet:
    """A WebP picture, and the slices on it from left to right."""

    data: str
    """base64."""
    size: tuple[int, ...]
    """(width, height) in pixels."""
    slices: tuple[int, ...]


def contact_sheet(store: Store, record: VolumeRecord) -> ContactSheet:
    """The sheet of one volume of a store.

    Raises:
        DataError: its image or mask is lost or damaged.
    """
    from PIL import Image

    image_zyx, mask_zyx, view = store.image(record.key), store.mask(record.key), view_of(record.geometry)
    spacing = view.spacing(record.geometry.spacing_zyx_mm[1:])
    colours = {label.id: colour_of(place) for place, label in enumerate(store.labels)}
    chosen = shown_slices(record)
    sheet = Image.new("RGB", (TILE_PX * len(chosen), TILE_PX), _GROUND)
    for place, index in enumerate(chosen):
        slice_yx = view.plane(unit_image(np.asarray(image_zyx[index])))
        tile = _tile(slice_yx, _plane(view, mask_zyx[index]), spacing, colours)
        sheet.paste(tile, (place * TILE_PX + (TILE_PX - tile.width) // 2, (TILE_PX - tile.height) // 2))
    stream = BytesIO()
    sheet.save(stream, "WEBP", quality=_QUALITY, method=4)
    return ContactSheet(b64encode(stream.getvalue()).decode(), sheet.size, chosen)


def shown_slices(record: VolumeRecord) -> tuple[int, ...]:
    """Indices at the quarters of the slices with a label; of all slices, where there is none."""
    own = record.labelled_slices or tuple(range(record.geometry.shape_zyx[0]))
    places = [(len(own) - 1) * (number + 1) / (TILES + 1) for number in range(TILES)]
    return tuple(dict.fromkeys(own[round(place)] for place in places))


def _plane(view: ScreenView, mask_yx: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.ascontiguousarray(view.plane(np.asarray(mask_yx)))


def _tile(
    image_yx: npt.NDArray[Any], mask_yx: npt.NDArray[Any], spacing_yx_mm: tuple[float, float], colours: dict[int, str]
) -> "Image":
    """A slice with square pixels, its longer side TILE_PX; the pixels of a label at its border have its colour."""
    from PIL import Image

    height_mm, width_mm = (count * edge for count, edge in zip(image_yx.shape, spacing_yx_mm, strict=True))
    scale = TILE_PX / max(height_mm, width_mm)
    size = (max(1, round(width_mm * scale)), max(1, round(height_mm * scale)))
    grey = Image.fromarray(np.rint(np.clip(image_yx, 0, 1) * 255).astype(np.uint8))
    pixels = np.array(grey.resize(size, Image.Resampling.BOX if grey.width > size[0] else Image.Resampling.BICUBIC))
    shown = np.repeat(pixels[..., None], 3, axis=2)
    rows = (np.arange(size[1]) + 0.5) * mask_yx.shape[0] / size[1]
    columns = (np.arange(size[0]) + 0.5) * mask_yx.shape[1] / size[0]
    labels = mask_yx[np.ix_(rows.astype(int), columns.astype(int))]
    for label, colour in colours.items():
        shown[_border(labels == label)] = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return Image.fromarray(shown)


def _border(mask_yx: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The pixels of a mask with a neighbour outside of it; beyond the picture nothing is outside."""
    padded = np.pad(mask_yx, 1, mode="edge")
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask_yx & ~inside
