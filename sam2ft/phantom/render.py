"""Rendering of implicit tissue shapes as an MR-like image: partial volume, texture, bias field, Rician noise."""

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam2ft.core.geometry import Geometry
from sam2ft.phantom.shapes import Field, norm

# Three planes per slice, for partial volume across a thick slice; this takes three times as long as one plane.
_SUBSLICES = (0.0, -1 / 3, 1 / 3)


@dataclass(frozen=True)
class Tissue:
    """One kind of material of a scene."""

    name: str
    label: int = 0
    """Label of the mask, 0 for a tissue that is not labelled."""
    texture: float = 0.05
    """Standard deviation of the signal inside, as a fraction of the signal."""
    t2_ms: float = 40.0
    t1rho_ms: float = 45.0
    """Relaxation times, except of cartilage, whose relaxation times vary in space."""


class Canvas:
    """One plane on which tissues are painted; later ones cover earlier ones."""

    def __init__(
        self,
        shape_yx: tuple[int, int],
        edge_mm: float,
        across_mm: float,
        signal: Mapping[str, float],
        order: Mapping[str, int],
    ):
        self.signal_yx: Field = np.zeros(shape_yx, dtype=np.float32)
        self.tissue_yx = np.zeros(shape_yx, dtype=np.uint8)
        self.t2_yx: Field = np.full(shape_yx, np.nan, dtype=np.float32)
        self.t1rho_yx: Field = np.full(shape_yx, np.nan, dtype=np.float32)
        self._edge_mm = np.float32(edge_mm)
        self._across = np.float32(edge_mm / across_mm)
        self._signal, self._order = signal, order

    def rows(self, part: slice) -> "Canvas":
        """A view of these rows: painting on it changes this canvas."""
        result = copy(self)
        for name in ("signal_yx", "tissue_yx", "t2_yx", "t1rho_yx"):
            setattr(result, name, getattr(self, name)[part])
        return result

    def beyond(self, m: Field, limit: Field | float) -> Field:
        """|m| - limit, scaled so that `paint` blends a face parallel to the slices over the slice, not over a pixel."""
        return (np.abs(m) - np.asarray(limit, dtype=np.float32)) * self._across

    def paint(self, distance: Field, tissue: str, shade: Field | float = 1.0) -> npt.NDArray[np.bool_]:
        """Paint `tissue` where `distance` (mm) is below 0, blended over one pixel width; `shade` scales the signal.

        Returns:
            Pixels whose centre is inside the tissue.
        """
        inside: npt.NDArray[np.bool_] = distance < 0
        if float(distance.min()) < self._edge_mm:
            cover = np.clip(np.float32(0.5) - distance / self._edge_mm, 0, 1)
            self.signal_yx += cover * (np.float32(self._signal[tissue]) * shade - self.signal_yx)
            self.tissue_yx[inside] = self._order[tissue]
        return inside

    def set_relaxation(self, where: npt.NDArray[np.bool_], t2_ms: Field, t1rho_ms: Field) -> None:
        """Set T2 and T1rho of the pixels `where`."""
        self.t2_yx[where], self.t1rho_yx[where] = t2_ms[where], t1rho_ms[where]


Paint = Callable[[Canvas, Field, Field, Field], None]
"""Function that paints one plane, given the coordinates (a, s, m) in mm of its pixels."""


@dataclass(frozen=True)
class PhantomScene:
    """Tissues of a phantom, and their appearance in one sequence."""

    paint: Paint
    tissues: tuple[Tissue, ...]
    signal: Mapping[str, float]
    """Signal of each tissue, about 0 to 1."""
    bias: float
    """Strength of the receive (bias) field: the signal varies by exp(+-bias)."""
    noise: float
    """Standard deviation of the noise of each channel, in the units of `signal`."""
    texture_px: float
    gain: float
    to_anatomy: npt.NDArray[np.float64]
    """4 x 4: RAS mm -> (a, s, m, 1) mm."""


@dataclass(frozen=True)
class Rendered:
    """The planes of a scene on a grid; arrays are zyx."""

    image: Field
    """As a scanner would give it: with texture, receive field, blur and noise."""
    signal: Field
    """Without noise, texture or receive field."""
    tissue: npt.NDArray[np.uint8]
    t2_ms: Field
    t1rho_ms: Field
    volumes_mm3: Mapping[int, float]
    """Label -> its volume inside the field of view, counted on three planes per slice."""


def render_scene(scene: PhantomScene, geometry: Geometry, rng: np.random.Generator) -> Rendered:
    """Paint every slice of the grid (mean of three planes), then add texture, bias field, blur and noise."""
    order = {tissue.name: number for number, tissue in enumerate(scene.tissues)}
    depth, height, width = geometry.shape_zyx
    signal, t2_ms, t1rho_ms = (np.empty(geometry.shape_zyx, dtype=np.float32) for _ in range(3))
    tissue = np.empty(geometry.shape_zyx, dtype=np.uint8)
    counts = np.zeros(len(scene.tissues), dtype=np.int64)
    edge, across = float(np.mean(geometry.spacing_zyx_mm[1:])), geometry.spacing_zyx_mm[0] / len(_SUBSLICES)
    for index in range(depth):
        total = np.zeros((height, width), dtype=np.float32)
        for shift in _SUBSLICES:
            canvas = Canvas((height, width), edge, across, scene.signal, order)
            scene.paint(canvas, *plane_coordinates(geometry, scene.to_anatomy, index + shift))
            total += canvas.signal_yx
            counts += np.bincount(canvas.tissue_yx.ravel(), minlength=len(counts))
            if shift == 0.0:
                tissue[index], t2_ms[index], t1rho_ms[index] = canvas.tissue_yx, canvas.t2_yx, canvas.t1rho_yx
        signal[index] = total / np.float32(len(_SUBSLICES))
    volumes: dict[int, float] = {}
    for number, kind in enumerate(scene.tissues):
        volume = counts[number] * geometry.voxel_volume_mm3 / len(_SUBSLICES)
        volumes[kind.label] = volumes.get(kind.label, 0.0) + float(volume)
    return Rendered(_scanner_image(signal, tissue, scene, rng), signal, tissue, t2_ms, t1rho_ms, volumes)


def plane_coordinates(
    geometry: Geometry, to_anatomy: npt.NDArray[np.float64], index: float
) -> tuple[Field, Field, Field]:
    """(a, s, m) in mm of the pixel centres of the plane at slice position `index`, each (y, x) float32."""
    matrix = to_anatomy @ geometry.affine
    y = np.arange(geometry.shape_zyx[1], dtype=np.float64)[:, None]
    x = np.arange(geometry.shape_zyx[2], dtype=np.float64)[None, :]
    a, s, m = (
        (matrix[i, 0] * x + matrix[i, 1] * y + (matrix[i, 2] * index + matrix[i, 3])).astype(np.float32)
        for i in range(3)
    )
    return a, s, m


def _scanner_image(
    signal: Field, tissue: npt.NDArray[np.uint8], scene: PhantomScene, rng: np.random.Generator
) -> Field:
    texture = np.array([kind.texture for kind in scene.tissues], dtype=np.float32)[tissue]
    clean = signal * (1 + texture * smooth_noise(rng, signal.shape, scene.texture_px))
    clean *= receive_field(rng, signal.shape, scene.bias)
    clean = ndimage.gaussian_filter(clean, (0, 0.45, 0.45))
    return (rician(clean, scene.noise, rng) * np.float32(scene.gain)).astype(np.float32)


def smooth_noise(rng: np.random.Generator, shape_zyx: tuple[int, ...], sigma_px: float) -> Field:
    """Smooth random texture of mean 0 and standard deviation 1, on two scales."""
    fine = _unit(ndimage.gaussian_filter(rng.standard_normal(shape_zyx, dtype=np.float32), (0.0, sigma_px, sigma_px)))
    small = (shape_zyx[0], -(-shape_zyx[1] // 8), -(-shape_zyx[2] // 8))
    coarse = ndimage.gaussian_filter(rng.standard_normal(small, dtype=np.float32), (0.7, 1.0, 1.0))
    coarse = ndimage.zoom(coarse, (1, 8, 8), order=1)[:, : shape_zyx[1], : shape_zyx[2]]
    return _unit(np.float32(0.7) * fine + np.float32(0.7) * _unit(coarse))


def _unit(values: Field) -> Field:
    return np.asarray((values - values.mean()) / values.std(), dtype=np.float32)


def receive_field(rng: np.random.Generator, shape_zyx: tuple[int, ...], strength: float) -> Field:
    """exp of a random second-order polynomial that spans [-strength, strength] over the volume."""
    z, y, x = (np.linspace(-1, 1, size, dtype=np.float32) for size in shape_zyx)
    c = rng.normal(size=8).astype(np.float32)
    plane = c[0] * y[:, None] + c[1] * x[None, :] + c[2] * y[:, None] * x[None, :]
    plane = plane + c[3] * y[:, None] ** 2 + c[4] * x[None, :] ** 2
    values = plane[None] + (np.float32(0.5) * c[5] * z + np.float32(0.3) * c[6] * z**2)[:, None, None]
    values = values - (values.max() + values.min()) / 2
    result: Field = np.exp(values * np.float32(strength) / np.maximum(values.max(), np.float32(1e-6)))
    return result


def rician(signal: Field, sigma: float, rng: np.random.Generator) -> Field:
    """Magnitude of a complex signal whose two channels carry Gaussian noise of standard deviation `sigma`."""
    if sigma == 0:
        return signal
    real = signal + np.float32(sigma) * rng.standard_normal(signal.shape, dtype=np.float32)
    return norm(real, np.float32(sigma) * rng.standard_normal(signal.shape, dtype=np.float32))
