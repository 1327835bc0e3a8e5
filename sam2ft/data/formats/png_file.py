"""Reading one grey PNG image: every checksum of the file is compared, its voxels are decoded by Pillow."""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import DataError
from sam2ft.data.formats.compressed import not_readable, refusing_damage

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _GREY_ALPHA, _PALETTE = 0, 4, 3
# Pillow spreads samples of 2 and 4 bits over 0..255.
_SPREAD = {2: 85, 4: 17}


@dataclass(frozen=True)
class PngHeader:
    """Size and kind of a PNG image."""

    rows: int
    columns: int
    bits: int
    colours: int

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint16 if self.bits == 16 else np.uint8)


def png_header(path: Path, *, palette: bool = False) -> PngHeader:
    """The header of a grey PNG file, or with `palette` of one whose integers count the colours of a palette.

    Raises:
        DataError: it is none, or has colours.
    """
    with refusing_damage(path, "PNG"):
        with path.open("rb") as stream:
            start = stream.read(33)
        if len(start) < 33 or start[:8] != _SIGNATURE or start[8:16] != b"\0\0\0\x0dIHDR":
            raise not_readable("PNG", "it does not begin as one")
        columns, rows, bits, colours = struct.unpack(">IIBB", start[16:26])
        if zlib.crc32(start[12:29]) != int.from_bytes(start[29:33], "big") or min(rows, columns) < 1:
            raise not_readable("PNG", "damaged (CRC)")
        if colours != _GREY and not (palette and colours == _PALETTE):
            what = {_PALETTE: "a palette", _GREY_ALPHA: "a channel of transparency"}.get(colours, "colours")
            allowed = "grey or a palette" if palette else "grey"
            raise DataError(f"is a PNG with {what}; allowed: {allowed} (one number per pixel); export it as grey")
        return PngHeader(rows, columns, bits, colours)


def read_png(path: Path, *, palette: bool = False) -> npt.NDArray[Any]:
    """The pixels of a grey PNG file, rows by columns, as its integers are; with `palette` of one with a palette too.

    Raises:
        DataError: naming the file, when it is damaged or has colours.
    """
    from PIL import Image

    header = png_header(path, palette=palette)
    with refusing_damage(path, "PNG", SyntaxError, Image.DecompressionBombError):
        _check_chunks(path.read_bytes())
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # the size was judged before
        try:
            with Image.open(path, formats=["PNG"]) as image:
                pixels = np.array(image)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
        if pixels.shape != (header.rows, header.columns):
            raise not_readable("PNG", "its pixels are not those of its header")
        if header.colours == _GREY and header.bits in _SPREAD:
            pixels = pixels // _SPREAD[header.bits]
        return pixels.astype(header.dtype)


def _check_chunks(content: bytes) -> None:
    """DataError when a chunk is cut, its checksum does not hold, or anything follows the last one."""
    at, last = len(_SIGNATURE), b""
    while at < len(content) and last != b"IEND":
        length = int.from_bytes(content[at : at + 4], "big")
        body, check = content[at + 4 : at + 8 + length], content[at + 8 + length : at + 12 + length]
        if len(check) < 4:
            raise EOFError
        if zlib.crc32(body) != int.from_bytes(check, "big"):
            raise not_readable("PNG", "damaged (CRC)")
        last, at = body[:4], at + 12 + length
    if last != b"IEND":
        raise EOFError
    if at < len(content):
        raise not_readable("PNG", "bytes follow its end")
