"""Cartilage plates of the knee phantom, whose thickness along the bone normal is known at every point of the bone.

A plate lies on a surface that is a curve in the sagittal plane, extruded along m. A point of the surface is (u, v): u
is the arc length along the curve, v = m, both in mm. Tissue above the bone is cartilage where its distance from the
bone is less than thickness(u, v). Offsets of the surfaces used (planes, cylinders) have the same normals, so
thickness(u, v) is the exact length of the normal ray through the plate.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.phantom.shapes import Field, Hull

Values = npt.NDArray[np.float64]
_STEP_MM = 0.2
_DEPTHS = 8
_TAPER_MM = 1.5


@dataclass(frozen=True)
class Plate:
    """One cartilage: its extent on the bone, thickness and relaxation times."""

    tissue: str
    extent_u: tuple[float, float]
    extent_v: tuple[float, float]
    thin_mm: float
    """Smallest thickness, without the tapered rim (1.5 mm wide, in u only)."""
    swell_mm: float
    """Largest increase of the thickness over `thin_mm`."""
    wave: tuple[float, float, float, float]
    """(centre u, half period u, centre v, half period v) of the smooth thickness variation."""
    t2_deep_superficial_ms: tuple[float, float]
    t1rho_deep_superficial_ms: tuple[float, float]
    curves: tuple[Hull, Hull] | None = None
    """Curves in the sagittal plane for v >= 0 and v < 0; None: a straight line (a plane surface)."""
    gap: tuple[float, float, float] | None = None
    """(u start, v low, v high) of the area without cartilage (the intercondylar notch)."""

    def thickness(self, u: Field, v: Field) -> Field:
        """Thickness in mm at each point (u, v) inside the extent; undefined outside it. NaN u gives NaN."""
        centre_u, period_u, centre_v, period_v = (np.float32(value) for value in self.wave)
        swell = np.cos((u - centre_u) * (np.float32(np.pi) / period_u)) * np.float32(0.3) + np.float32(0.3)
        swell = swell + np.cos((v - centre_v) * (np.float32(np.pi) / period_v)) * np.float32(0.2) + np.float32(0.2)
        rim = np.minimum(u - np.float32(self.extent_u[0]), np.float32(self.extent_u[1]) - u)
        taper = np.sqrt(np.clip(rim / np.float32(_TAPER_MM), 0, 1))
        result: Field = (np.float32(self.thin_mm) + np.float32(self.swell_mm) * swell) * taper
        return result

    def outside_extent(self, u: Field, v: Field) -> Field:
        """Signed distance along the surface to the rim of the plate, negative inside; +inf where u is NaN."""
        across = np.maximum(np.float32(self.extent_v[0]) - v, v - np.float32(self.extent_v[1]))
        along = np.maximum(np.float32(self.extent_u[0]) - u, u - np.float32(self.extent_u[1]))
        result = np.maximum(across, along)
        if self.gap is not None:
            start, low, high = (np.float32(value) for value in self.gap)
            result = np.maximum(result, np.minimum(np.minimum(v - low, high - v), u - start))
        return np.where(np.isnan(result), np.float32(np.inf), result)

    def distance(self, from_bone: Field, u: Field, v: Field) -> Field:
        """Distance, negative inside the plate and also inside the bone, which is painted over the plate."""
        result: Field = np.maximum(
            np.nan_to_num(from_bone - self.thickness(u, v), nan=np.inf), self.outside_extent(u, v)
        )
        return result

    def relaxation(self, from_bone: Field, u: Field, v: Field) -> tuple[Field, Field]:
        """(T2, T1rho) in ms: linear in relative depth from bone to articular surface, with a slow variation along u."""
        depth: Field = np.clip(from_bone / np.maximum(self.thickness(u, v), np.float32(1e-3)), 0, 1)
        return self._times(depth, u)

    def _times(self, depth: Field, u: Field) -> tuple[Field, Field]:
        slow = 1 + np.float32(0.05) * np.sin(u * np.float32(np.pi / 25))
        (deep2, top2), (deep1, top1) = self.t2_deep_superficial_ms, self.t1rho_deep_superficial_ms
        t2 = (np.float32(deep2) + np.float32(top2 - deep2) * depth) * slow
        return t2, (np.float32(deep1) + np.float32(top1 - deep1) * depth) * slow

    def truth(self) -> dict[str, Any]:
        """True values of the biomarkers, by midpoint quadrature over (u, v, depth).

        `area_mm2`: bone-cartilage interface; `thickness_mean_mm`: its area-weighted mean thickness (ThCcAB; equal to
        ThCtAB, because no bone is denuded); `thickness_p5_mm`, `thickness_p95_mm`: area-weighted percentiles;
        `volume_mm3`; `t2_mean_ms`, `t1rho_mean_ms`: means over the volume; `t2_mean_deep_ms` and so on: over the half
        (by relative depth) at the bone or at the articular surface. Cells are 0.2 mm x 0.2 mm x thickness / 8.
        """
        u, v = _midpoints(self.extent_u), _midpoints(self.extent_v)
        step_u = (self.extent_u[1] - self.extent_u[0]) / len(u)
        step_v = (self.extent_v[1] - self.extent_v[0]) / len(v)
        uu, vv = (grid.ravel().astype(np.float32) for grid in np.meshgrid(u, v, indexing="ij"))
        inside = self.outside_extent(uu, vv) < 0
        uu, vv = uu[inside], vv[inside]
        thickness = self.thickness(uu, vv).astype(np.float64)
        bend = np.zeros(len(uu))
        if self.curves is not None:
            bend = np.where(vv >= 0, *(curve.curvature(uu.astype(np.float64)) for curve in self.curves))
        cell = step_u * step_v
        result: dict[str, Any] = {
            "area_mm2": cell * len(uu),
            "thickness_mean_mm": float(thickness.mean()),
            "thickness_p5_mm": float(np.percentile(thickness, 5)),
            "thickness_p95_mm": float(np.percentile(thickness, 95)),
            # Volume of a normal column of height t over a cell dA of a cylinder with curvature k: (t + k t^2 / 2) dA.
            "volume_mm3": float((cell * (thickness + bend * thickness**2 / 2)).sum()),
        }
        return result | self._relaxation_truth(uu, thickness, bend)

    def _relaxation_truth(self, u: Field, thickness: Values, bend: Values) -> dict[str, float]:
        depth = (np.arange(_DEPTHS) + 0.5) / _DEPTHS
        weight = (1 + bend[:, None] * depth * thickness[:, None]) * thickness[:, None]
        times = self._times(depth[None, :].astype(np.float32), u[:, None])
        halves = {"": slice(None), "_deep": slice(0, _DEPTHS // 2), "_superficial": slice(_DEPTHS // 2, None)}
        return {
            f"{name}_mean{suffix}_ms": float((weight[:, part] * values[:, part]).sum() / weight[:, part].sum())
            for name, values in zip(("t2", "t1rho"), times, strict=True)
            for suffix, part in halves.items()
        }


def _midpoints(extent: tuple[float, float]) -> Values:
    count = max(1, round((extent[1] - extent[0]) / _STEP_MM))
    shares: Values = (np.arange(count, dtype=np.float64) + 0.5) / count
    return extent[0] + shares * (extent[1] - extent[0])
