"""Synthetic images of random shapes (blobs, plates, rings) without anatomy, to train that a box means one object."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam2ft.phantom.shapes import Field, norm

_GAP_PX = 3.0
# Whether a candidate fits is tested on every fourth pixel per axis, which costs a sixteenth of drawing it.
_COARSE = 4

Shape = Callable[[Field, Field], Field]
"""Function: approximate signed distance (px, negative inside) at offsets (u, v) from the centre, along its axes."""


def shapes_slice(rng: np.random.Generator, size: int = 256) -> tuple[Field, npt.NDArray[np.uint8]]:
    """A random image with 1 to 6 objects that do not touch, and its mask: (image_yx, mask_yx).

    The image is float32 in [0, 1]; the mask is uint8, object i has label i, from 1. Objects are blobs (wavy ellipses),
    plates (bent bands at least 5 px thick at 256 px) and rings, on a smooth background.
    """
    scale = size / 256
    background = 0.15 + 0.6 * float(rng.random())
    image = background + _waves(rng, size) * np.float32(rng.uniform(0.02, 0.12))
    mask = np.zeros((size, size), dtype=np.uint8)
    wanted = int(rng.integers(1, 7))
    for _ in range(6 * wanted):
        shape = _placed(rng, size, scale)
        if _fits(shape, mask, size, scale):
            mask_value = int(mask.max()) + 1
            _draw(rng, image, mask, shape, _contrasting(rng, background))
            if mask_value == wanted:
                break
    if not mask.any():
        return shapes_slice(rng, size)
    return _finished(rng, image), mask


def _grid(size: int, rows: slice, columns: slice) -> tuple[Field, Field]:
    """(x, y) pixel indices, as a row and a column."""
    ticks = np.arange(size, dtype=np.float32)
    return ticks[None, columns], ticks[rows, None]


def _fits(shape: Shape, mask: npt.NDArray[np.uint8], size: int, scale: float) -> bool:
    """Whether enough of an object is inside the image and away from the objects already drawn."""
    every = slice(0, size, _COARSE)
    distance = shape(*_grid(size, every, every))
    near = distance < (_GAP_PX + _COARSE) * scale
    return bool((distance < 0).sum() * _COARSE**2 > 90 * scale**2 and not (mask[::_COARSE, ::_COARSE][near] > 0).any())


def _draw(rng: np.random.Generator, image: Field, mask: npt.NDArray[np.uint8], shape: Shape, level: float) -> None:
    """Paint one object into `image`, sometimes with a dark rim, and its number into `mask`."""
    size = len(mask)
    every = slice(0, size, _COARSE)
    hit = shape(*_grid(size, every, every)) < 2 * _COARSE
    rows, columns = (_span(np.atleast_1d(hit.any(axis=axis)), size) for axis in (1, 0))
    distance = shape(*_grid(size, rows, columns))
    part = image[rows, columns]
    if rng.random() < 0.3:
        part += np.clip(2 - np.abs(distance) * np.float32(256 / size), 0, 1) * (np.float32(0.05) - part)
    fill = np.float32(level) * (1 + np.float32(0.08) * _waves(rng, size)[rows, columns])
    part += np.clip(0.5 - distance, 0, 1) * (fill - part)
    mask[rows, columns][distance < 0] = mask.max() + 1


def _span(hit: npt.NDArray[np.bool_], size: int) -> slice:
    found = np.flatnonzero(hit) * _COARSE
    return slice(max(0, int(found[0]) - _COARSE), min(size, int(found[-1]) + 2 * _COARSE))


def _finished(rng: np.random.Generator, image: Field) -> Field:
    """The image with slight blur and noise, rescaled to [0, 1]."""
    image = ndimage.gaussian_filter(image, float(rng.uniform(0.3, 0.9)), truncate=3)
    image = image + np.float32(rng.uniform(0.01, 0.06)) * rng.standard_normal(image.shape, dtype=np.float32)
    low, high = np.percentile(image[::4, ::4], [0.5, 99.5])
    result: Field = np.clip((image - low) / max(high - low, 1e-3), 0, 1).astype(np.float32)
    return result


def _contrasting(rng: np.random.Generator, background: float) -> float:
    """A signal in [0.02, 1] that differs by at least 0.12 from the background."""
    level = background
    while abs(level - background) < 0.12:
        level = float(rng.uniform(0.02, 1.0))
    return level


def _waves(rng: np.random.Generator, size: int) -> Field:
    """A smooth pattern between -1 and 1: the product of two plane waves, each from one-dimensional sines."""
    ticks = np.arange(size, dtype=np.float32) * np.float32(256 / size)
    waves = []
    for _ in range(2):
        fx, fy, phase = (float(value) for value in rng.uniform((-0.06, -0.06, 0), (0.06, 0.06, 6.28)))
        along, across = np.float32(fx) * ticks, np.float32(fy) * ticks + np.float32(phase)
        waves.append(np.sin(along)[None] * np.cos(across)[:, None] + np.cos(along)[None] * np.sin(across)[:, None])
    return np.asarray(waves[0] * waves[1], dtype=np.float32)


def _placed(rng: np.random.Generator, size: int, scale: float) -> Shape:
    """One blob, plate or ring at a random place; takes pixel indices (x, y)."""
    cx, cy = rng.uniform(0.1, 0.9, size=2) * size
    turn = float(rng.uniform(0, np.pi))
    cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    shape = (_blob, _plate, _ring)[int(rng.choice(3, p=(0.4, 0.4, 0.2)))](rng, scale)

    def distance(x: Field, y: Field) -> Field:
        dx, dy = x - np.float32(cx), y - np.float32(cy)
        return shape(dx * cosine + dy * sine, dy * cosine - dx * sine)

    return distance


def _ring(rng: np.random.Generator, scale: float) -> Shape:
    radius, half = np.float32(rng.uniform(14, 50) * scale), np.float32(rng.uniform(3.6, 7) * scale)
    squeeze = np.float32(rng.uniform(1.0, 1.35))
    return lambda u, v: np.abs(norm(u, v * squeeze) - radius) - half


def _blob(rng: np.random.Generator, scale: float) -> Shape:
    """An ellipse with a wavy outline."""
    first, second = (np.float32(value) for value in rng.uniform(8, 48, size=2) * scale)
    swing, smaller = np.float32(rng.uniform(-0.12, 0.12)), np.float32(min(first, second))

    def distance(u: Field, v: Field) -> Field:
        share = norm(u / first, v / second)
        # cos(3 * angle) of the direction, without trigonometric functions.
        direction = u / np.maximum(norm(u, v), np.float32(1e-3))
        wave = 4 * direction**3 - 3 * direction
        return np.asarray((share - 1 - swing * wave) * smaller, dtype=np.float32)

    return distance


def _plate(rng: np.random.Generator, scale: float) -> Shape:
    """A band along a parabola, with varying thickness."""
    length, half = float(rng.uniform(22, 75)) * scale, np.float32(rng.uniform(3.4, 8.0) * scale)
    bend = np.float32(rng.uniform(-0.45, 0.45) / length)

    def distance(u: Field, v: Field) -> Field:
        slope = 2 * bend * u
        beside = np.abs(v - bend * u * u) / np.sqrt(1 + slope * slope)
        thickness = half * (1 + np.float32(0.25) * np.sin(u * np.float32(3.0 / length)))
        result: Field = np.maximum(beside - thickness, np.abs(u) - np.float32(length))
        return result

    return distance
