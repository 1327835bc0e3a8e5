"""Drawings without anatomy: blobs, plates and rings of random contrast, to teach a model that a box means one object."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam2ft.data.phantom_shapes3d import Field, norm

_GAP_PX = 3.0


def shapes_slice(rng: np.random.Generator, size: int = 256) -> tuple[Field, npt.NDArray[np.uint8]]:
    """(image_yx float32 in [0, 1], mask_yx uint8) of 1 to 6 objects that do not touch; object i is label i, from 1.

    Objects are blobs (wavy ellipses), plates (bent bands at least 5 px thick at 256 px) and rings, on a smooth background.
    """
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    scale = size / 256
    background = 0.15 + 0.6 * float(rng.random())
    image = background + _waves(rng, x, y, scale) * np.float32(rng.uniform(0.02, 0.12))
    mask = np.zeros((size, size), dtype=np.uint8)
    wanted = int(rng.integers(1, 7))
    for _ in range(6 * wanted):
        distance = _object(rng, x, y, size, scale)
        inside = distance < 0
        if inside.sum() < 90 * scale**2 or bool(((distance < _GAP_PX * scale) & (mask > 0)).any()):
            continue
        level = _contrasting(rng, background)
        fill = np.float32(level) * (1 + np.float32(0.08) * _waves(rng, x, y, scale))
        if rng.random() < 0.3:
            image += np.clip(2 - np.abs(distance) / np.float32(scale), 0, 1) * np.float32(0.05 - image.mean())
        image += np.clip(0.5 - distance, 0, 1) * (fill - image)
        mask[inside] = mask.max() + 1
        if mask.max() == wanted:
            break
    if not mask.any():
        return shapes_slice(rng, size)
    return _finished(rng, image), mask


def _finished(rng: np.random.Generator, image: Field) -> Field:
    """Slight blur, noise, stretched to [0, 1]."""
    image = ndimage.gaussian_filter(image, float(rng.uniform(0.3, 0.9)))
    image = image + np.float32(rng.uniform(0.01, 0.06)) * rng.standard_normal(image.shape, dtype=np.float32)
    low, high = np.percentile(image[::4, ::4], [0.5, 99.5])
    return np.clip((image - low) / max(high - low, 1e-3), 0, 1).astype(np.float32)


def _contrasting(rng: np.random.Generator, background: float) -> float:
    """A signal in [0.02, 1] at least 0.12 from the background."""
    level = background
    while abs(level - background) < 0.12:
        level = float(rng.uniform(0.02, 1.0))
    return level


def _waves(rng: np.random.Generator, x: Field, y: Field, scale: float) -> Field:
    """A smooth pattern between -1 and 1."""
    fx, fy, gx, gy = (rng.uniform(-0.06, 0.06, size=4) / scale).astype(np.float32)
    first, second = rng.uniform(0, 6.28, size=2).astype(np.float32)
    row, column = y[:, :1], x[:1]
    return np.sin(fx * column + fy * row + first) * np.cos(gx * column + gy * row + second)


def _object(rng: np.random.Generator, x: Field, y: Field, size: int, scale: float) -> Field:
    """About the distance (px) to one blob, plate or ring."""
    cx, cy = rng.uniform(0.1, 0.9, size=2) * size
    turn = float(rng.uniform(0, np.pi))
    cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    dx, dy = x - np.float32(cx), y - np.float32(cy)
    u, v = dx * cosine + dy * sine, dy * cosine - dx * sine
    kind = rng.choice(3, p=(0.4, 0.4, 0.2))
    if kind == 0:
        return _blob(rng, u, v, scale)
    if kind == 1:
        return _plate(rng, u, v, scale)
    radius, half = float(rng.uniform(14, 50)) * scale, float(rng.uniform(3, 7)) * scale
    return np.abs(norm(u, v * np.float32(rng.uniform(0.7, 1.0))) - np.float32(radius)) - np.float32(half)


def _blob(rng: np.random.Generator, u: Field, v: Field, scale: float) -> Field:
    """An ellipse with a wavy rim."""
    first, second = rng.uniform(8, 48, size=2) * scale
    share = norm(u / np.float32(first), v / np.float32(second))
    # (u + iv)^3 / |u + iv|^3 without trigonometry: cos(3 angle) of the direction.
    direction = u / np.maximum(norm(u, v), np.float32(1e-3))
    wave = np.float32(rng.uniform(-0.12, 0.12)) * (4 * direction**3 - 3 * direction)
    return (share - 1 - wave) * np.float32(min(first, second))


def _plate(rng: np.random.Generator, u: Field, v: Field, scale: float) -> Field:
    """A band bent to a parabola, with varying thickness."""
    length, half = float(rng.uniform(22, 75)) * scale, float(rng.uniform(2.8, 8.0)) * scale
    bend = float(rng.uniform(-1, 1)) * 0.45 / length
    slope = np.float32(2 * bend) * u
    beside = np.abs(v - np.float32(bend) * u * u) / np.sqrt(1 + slope * slope)
    thickness = np.float32(half) * (1 + np.float32(0.25) * np.sin(u * np.float32(3.0 / length)))
    return np.maximum(beside - thickness, np.abs(u) - np.float32(length))
