"""Signed distance functions of plane shapes in millimetres, with exactly known normals and offsets.

Frame of the phantoms: a = anterior, s = superior, m = medial (knee) or left (spine), all in mm.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]


def norm(x: Field, y: Field) -> Field:
    """Length of (x, y). Several times faster than np.hypot, whose overflow protection is not needed for millimetres."""
    return np.sqrt(x * x + y * y)


@dataclass(frozen=True)
class Hull:
    """The convex hull of two circles in a plane (a stadium with unequal ends).

    `distance` is the exact Euclidean signed distance (negative inside). `arc` is the arc length of the foot point along
    the side to the right in the direction from circle 0 to circle 1 (the lower side if 1 is anterior of 0). Offsets of
    the outline have the same normals, so `arc` is constant along each normal.
    """

    a0: float
    s0: float
    r0: float
    a1: float
    s1: float
    r1: float

    @cached_property
    def length(self) -> float:
        """Distance between the two centres, mm."""
        return float(np.hypot(self.a1 - self.a0, self.s1 - self.s0))

    @cached_property
    def _slant(self) -> tuple[float, float]:
        """(sine, cosine) of the angle between the axis and the straight sides."""
        sine = (self.r0 - self.r1) / self.length
        return sine, float(np.sqrt(1 - sine**2))

    @property
    def flat_length(self) -> float:
        """Length of the straight side, where `arc` is 0 to this length."""
        return self._slant[1] * self.length

    def _axes(self, a: Field, s: Field) -> tuple[Field, Field]:
        """(across, along): coordinates from circle 0, across is positive on the side of `arc`."""
        ea, es = (self.a1 - self.a0) / self.length, (self.s1 - self.s0) / self.length
        da, ds = a - np.float32(self.a0), s - np.float32(self.s0)
        return da * np.float32(-es) + ds * np.float32(ea), da * np.float32(ea) + ds * np.float32(es)

    def distance(self, a: Field, s: Field) -> Field:
        """Exact signed distance in mm, negative inside."""
        across, along = self._axes(a, s)
        return self._distance(np.abs(across), along)

    def _distance(self, x: Field, y: Field) -> Field:
        b, c = (np.float32(value) for value in self._slant)
        k = c * y - b * x
        first = norm(x, y) - np.float32(self.r0)
        second = norm(x, y - np.float32(self.length)) - np.float32(self.r1)
        flat = c * x + b * y - np.float32(self.r0)
        return np.where(k < 0, first, np.where(k > c * np.float32(self.length), second, flat))

    def distance_and_arc(self, a: Field, s: Field) -> tuple[Field, Field]:
        """(signed distance, arc length of the foot point), both mm; the arc length is NaN on the other side."""
        x, y = self._axes(a, s)
        b, c = (np.float32(value) for value in self._slant)
        length, flat = np.float32(self.length), np.float32(self.flat_length)
        k = c * y - b * x
        before = -np.float32(self.r0) * np.arctan2(-k, c * x + b * y)
        after = flat + np.float32(self.r1) * np.arctan2(k - flat, c * x + b * (y - length))
        straight = np.where(x > 0, k, np.float32(np.nan))
        arc = np.where(k < 0, before, np.where(k > flat, after, straight))
        return self._distance(np.abs(x), y), arc

    def curvature(self, arc: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Curvature (1 / radius) at each arc length, 1/mm."""
        return np.where(arc < 0, 1 / self.r0, np.where(arc > self.flat_length, 1 / self.r1, 0.0))

    def outline(
        self, arc: npt.NDArray[np.float64], offset: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(a, s) of the points `offset` mm outside the outline at each arc length."""
        b, c = self._slant
        first, second = np.minimum(arc, 0) / self.r0, np.maximum(arc - self.flat_length, 0) / self.r1
        turn = first + second
        normal_x = c * np.cos(turn) - b * np.sin(turn)
        normal_y = b * np.cos(turn) + c * np.sin(turn)
        straight = np.clip(arc, 0, self.flat_length)
        core = np.where(arc > self.flat_length, self.length, 0.0)
        radius = np.where(arc > self.flat_length, self.r1, self.r0)
        along_flat = np.where((arc >= 0) & (arc <= self.flat_length), straight, 0.0)
        x = normal_x * (radius + offset) - b * along_flat
        y = core + normal_y * (radius + offset) + c * along_flat
        ea, es = (self.a1 - self.a0) / self.length, (self.s1 - self.s0) / self.length
        return self.a0 - es * x + ea * y, self.s0 + ea * x + es * y


def capsule(a: Field, s: Field, start: tuple[float, float], end: tuple[float, float], radius: float) -> Field:
    """Signed distance to a band of half width `radius` with round ends around a line segment."""
    da, ds = end[0] - start[0], end[1] - start[1]
    pa, ps = a - np.float32(start[0]), s - np.float32(start[1])
    share: Field = np.clip((pa * np.float32(da) + ps * np.float32(ds)) / np.float32(da * da + ds * ds), 0, 1)
    return norm(pa - share * np.float32(da), ps - share * np.float32(ds)) - np.float32(radius)


def ellipse(a: Field, s: Field, centre: tuple[float, float], radii: tuple[float, float]) -> Field:
    """Approximate signed distance to an ellipse: exact zero and sign, approximate scale near it."""
    pa, ps = (a - np.float32(centre[0])) / np.float32(radii[0]), (s - np.float32(centre[1])) / np.float32(radii[1])
    return (norm(pa, ps) - 1) * np.float32(min(radii))


def extruded(plane_distance: Field, across: Field, half_width: float, rounding: float) -> Field:
    """Signed distance to a plane shape extruded over |across| <= half_width, with edges rounded by `rounding` mm.

    Exact outside if the plane distance is exact and the radius of every convex corner exceeds `rounding`.
    """
    return _rounded(plane_distance + np.float32(rounding), np.abs(across) - np.float32(half_width - rounding), rounding)


def domed(plane_distance: Field, across: Field, half_width: Field | float, height: float, depth: float) -> Field:
    """Signed distance to a plane shape extruded over |across| <= half_width whose two ends are domes, not flat faces.

    Over the last `height` mm the shape shrinks onto its middle, as half an ellipse, so that a slightly oblique plane
    cuts an end as a smaller shape and not through the middle of a flat face. `plane_distance` itself where |across| is
    below half_width - height; approximate on the domes: exact zero and sign, right to first order near it.

    Args:
        depth: distance of the middle of the shape from its outline, mm.
    """
    up = (np.abs(across) - np.asarray(half_width, dtype=np.float32) + np.float32(height)) / np.float32(height)
    inward = np.maximum(plane_distance / np.float32(depth) + 1, 0)
    radius = norm(inward, up)
    slope = norm(inward / np.float32(depth), up / np.float32(height)) / np.maximum(radius, np.float32(1e-6))
    dome = (radius - 1) / np.maximum(slope, np.float32(1e-6))
    # Deep inside, where neither side is near, the slope says nothing about the distance.
    result: Field = np.where(up > 0, np.maximum(dome, np.float32(-depth)), plane_distance)
    return result


def rounded_box(a: Field, s: Field, half_a: Field | float, half_s: float, rounding: float) -> Field:
    """Exact signed distance to a rectangle around 0 with rounded corners (approximate for a varying width)."""
    within_a = np.abs(a) - np.asarray(half_a - rounding, dtype=np.float32)
    return _rounded(within_a, np.abs(s) - np.float32(half_s - rounding), rounding)


def _rounded(first: Field, second: Field, rounding: float) -> Field:
    """Signed distance to the intersection of two shapes at a right angle, whose edge is rounded by `rounding` mm."""
    outside = norm(np.maximum(first, 0), np.maximum(second, 0))
    result: Field = np.minimum(np.maximum(first, second), 0) + outside - np.float32(rounding)
    return result


def rotated(a: Field, s: Field, origin: tuple[float, float], degrees: float) -> tuple[Field, Field]:
    """Coordinates in a frame at `origin` whose first axis is rotated by `degrees` from a towards s."""
    cosine, sine = np.float32(np.cos(np.radians(degrees))), np.float32(np.sin(np.radians(degrees)))
    pa, ps = a - np.float32(origin[0]), s - np.float32(origin[1])
    return pa * cosine + ps * sine, ps * cosine - pa * sine


def from_frame(point: tuple[float, float], origin: tuple[float, float], degrees: float) -> tuple[float, float]:
    """(a, s) of a point that is given in the frame of `rotated`."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return origin[0] + point[0] * cosine - point[1] * sine, origin[1] + point[0] * sine + point[1] * cosine
