"""Anatomy of the lumbar spine phantom: parameters of bodies and discs, and painting of one sagittal plane."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from sam2ft.core.labels import Label, LabelTable
from sam2ft.phantom.render import Canvas, Tissue
from sam2ft.phantom.shapes import Field, capsule, ellipse, from_frame, norm, rotated, rounded_box

SPINE_LABELS = LabelTable((Label(1, "vertebra"), Label(2, "disc")))

SPINE_TISSUES = (
    Tissue("air", texture=0.0),
    Tissue("skin"),
    Tissue("fat", texture=0.09, t2_ms=90),
    Tissue("muscle", texture=0.10, t2_ms=38),
    Tissue("bowel", texture=0.22, t2_ms=70),
    Tissue("vessel", texture=0.06, t2_ms=150),
    Tissue("ligament", texture=0.08, t2_ms=12),
    Tissue("fluid", texture=0.03, t2_ms=900),
    Tissue("nerve", texture=0.06, t2_ms=90),
    Tissue("cortex", texture=0.05, t2_ms=5),
    Tissue("other marrow", texture=0.08, t2_ms=70),
    Tissue("other disc", texture=0.06, t2_ms=60),
    Tissue("vertebral cortex", 1, 0.05, t2_ms=5),
    Tissue("vertebral marrow", 1, 0.08, t2_ms=70),
    Tissue("annulus", 2, 0.06, t2_ms=35),
    Tissue("nucleus", 2, 0.06, t2_ms=90),
)

# Length of the elliptical ends of a disc in the sagittal plane.
_RIM_MM = 2.5
_CORTEX_MM = 1.0


@dataclass(frozen=True)
class Body:
    """One vertebral body; its frame has its origin at the centre and is rotated by `turn` degrees."""

    centre: tuple[float, float]
    turn: float
    height: float
    half_depth: float
    half_width: float
    waist: float
    labelled: bool


@dataclass(frozen=True)
class Disc:
    """One disc between two end plates that diverge anteriorly; its frame is midway between them."""

    level: str
    centre: tuple[float, float]
    turn: float
    height: float
    """Distance between the end plates midway between front and back, mm."""
    wedge: float
    """Angle between the end plates, degrees."""
    half_depth: float
    half_width: float
    hydration: float
    """Scales the signal of the nucleus."""
    labelled: bool

    def height_at(self, a: Field, m: Field | float = 0.0) -> Field:
        """Height along s' (mm) at a' = a in the sagittal plane m; 0 outside the disc. Ends are round over 2.5 mm."""
        depth = half_depth_at(self.half_depth, self.half_width, m)
        into_rim = np.clip((np.abs(a) - (depth - np.float32(_RIM_MM))) / np.float32(_RIM_MM), 0, 1)
        open_forwards = np.float32(2 * np.tan(np.radians(self.wedge / 2)))
        result: Field = (np.float32(self.height) + open_forwards * a) * np.sqrt(1 - into_rim**2) * (depth > _RIM_MM)
        return result

    def truth(self) -> dict[str, Any]:
        """True values, by midpoint quadrature in steps of about 0.1 mm.

        In the mid-sagittal plane: `area_mm2`, `length_mm` (front to back), `height_mean_mm` = area / length, mean
        heights of the anterior, middle and posterior third of the length, `height_profile_mm` (41 equally spaced points
        from back to front). Of the whole disc: `volume_mm3`.
        """
        length = 2 * self.half_depth
        a = (-self.half_depth + (np.arange(3000) + 0.5) * length / 3000).astype(np.float32)
        height = self.height_at(a).astype(np.float64)
        m = (-self.half_width + (np.arange(460) + 0.5) * self.half_width / 230).astype(np.float32)
        cells = self.height_at(a[None, ::10], m[:, None]).astype(np.float64)
        profile = self.height_at(np.linspace(-self.half_depth, self.half_depth, 41, dtype=np.float32))
        thirds = {"posterior": height[:1000], "middle": height[1000:2000], "anterior": height[2000:]}
        return {
            "level": self.level,
            "area_mm2": float(height.mean() * length),
            "length_mm": length,
            "height_mean_mm": float(height.mean()),
            **{f"height_{third}_mm": float(values.mean()) for third, values in thirds.items()},
            "wedge_degrees": self.wedge,
            "volume_mm3": float(cells.mean() * length * 2 * self.half_width),
            "height_profile_mm": [round(float(value), 5) for value in profile],
        }


@dataclass(frozen=True)
class Spine:
    """Bodies and discs from top to bottom; mm in the frame (a anterior, s superior, m left)."""

    bodies: tuple[Body, ...]
    discs: tuple[Disc, ...]
    canal: float
    """Half width of the spinal canal."""
    skin_back: float
    """Distance between the skin and the spinous processes."""


def half_depth_at(half_depth: float, half_width: float, m: Field | float) -> Field:
    """Half extent along a of a body or disc in the sagittal plane m (axial cross-section: a rounded rectangle)."""
    square = (np.asarray(m, dtype=np.float32) / np.float32(half_width)) ** 2
    result: Field = np.float32(half_depth) * np.sqrt(np.maximum(1 - square * square, 0))
    return result


def paint_spine(spine: Spine, canvas: Canvas, a: Field, s: Field, m: Field) -> None:
    """Paint one plane, from the outside of the body to the discs."""
    _paint_trunk(spine, canvas, a, s, m)
    _paint_canal(spine, canvas, a, s, m)
    for body in spine.bodies:
        rows = _rows_near(s, body.centre[1], 34.0)
        _paint_posterior(spine, body, canvas.rows(rows), a[rows], s[rows], m[rows])
    for body in spine.bodies:
        rows = _rows_near(s, body.centre[1], 30.0)
        _paint_body(body, canvas.rows(rows), a[rows], s[rows], m[rows])
    for disc in spine.discs:
        rows = _rows_near(s, disc.centre[1], 24.0)
        _paint_disc(disc, canvas.rows(rows), a[rows], s[rows], m[rows])


def _rows_near(s: Field, centre: float, reach: float) -> slice:
    low, high = np.minimum(s[:, 0], s[:, -1]), np.maximum(s[:, 0], s[:, -1])
    rows = np.flatnonzero((low < centre + reach) & (high > centre - reach))
    return slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 1)


def _axis_at(spine: Spine, s: Field) -> Field:
    """Position along a of the centre of the spine at each height."""
    centres = np.array([body.centre for body in spine.bodies])[::-1]
    result: Field = np.interp(s, centres[:, 1], centres[:, 0]).astype(np.float32)
    return result


def _paint_trunk(spine: Spine, canvas: Canvas, a: Field, s: Field, m: Field) -> None:
    """Skin, fat, muscles, vessels and bowel."""
    axis = _axis_at(spine, s)
    front = a - axis
    depth = np.float32(spine.bodies[3].half_depth)
    back = np.float32(-(depth + 44 + spine.skin_back)) + np.float32(0.25) * axis
    canvas.paint(back - a, "skin")
    canvas.paint(back + np.float32(2.2) - a, "fat")
    stripes = 1 + np.float32(0.12) * np.sin(s * np.float32(0.55) + a * np.float32(0.35)) * np.sin(a * np.float32(0.45))
    behind = np.maximum(-front - (depth + 46), front + depth + 17)
    canvas.paint(np.maximum(behind, canvas.beyond(m * 0 + 7, np.abs(m))), "muscle", stripes)
    psoas = np.maximum(np.abs(front + 3) - np.float32(21), canvas.beyond(m * 0 + 18, np.abs(m)))
    canvas.paint(np.maximum(psoas, s - np.float32(spine.bodies[1].centre[1])), "muscle", stripes)
    first, second = (
        np.sin(a * np.float32(0.19) + s * np.float32(0.07)),
        np.sin(s * np.float32(0.13) - a * np.float32(0.05)),
    )
    loops = np.sin(2 * first + 2 * second + (m + s) * np.float32(0.11))
    canvas.paint(np.float32(depth + 27) - front, "bowel", 0.8 + np.float32(0.45) * loops)
    bottom = np.float32(spine.bodies[5].centre[1]) - s
    for centre, radius in ((8.0, 8.5), (-13.0, 9.5)):
        tube = norm(front - (depth + np.float32(11)), m - np.float32(centre)) - np.float32(radius)
        canvas.paint(np.maximum(tube, bottom), "vessel")


def _paint_canal(spine: Spine, canvas: Canvas, a: Field, s: Field, m: Field) -> None:
    """Ligaments along the bodies, spinal fluid, cord and roots."""
    points = [from_frame((-body.half_depth - spine.canal - 2.0, 0.0), body.centre, body.turn) for body in spine.bodies]
    chain = np.full_like(a, np.inf)
    for start, end in pairwise(points):
        rows = _rows_near(s, (start[1] + end[1]) / 2, 32.0)
        chain[rows] = np.minimum(chain[rows], capsule(a[rows], s[rows], start, end, 0.0))
    canvas.paint(norm(chain, m) - np.float32(spine.canal + 2.2), "ligament")
    canvas.paint(norm(chain, m) - np.float32(spine.canal), "fluid")
    conus = np.float32(spine.bodies[2].centre[1]) - s
    canvas.paint(np.maximum(norm(chain, m) - np.float32(spine.canal * 0.52), conus), "nerve")
    for side in (-3.0, 0.0, 3.0):
        root = np.maximum(norm(chain + np.float32(0.4), m - np.float32(side)) - np.float32(0.9), -conus)
        canvas.paint(root, "nerve", 0.8)


def _paint_posterior(spine: Spine, body: Body, canvas: Canvas, a: Field, s: Field, m: Field) -> None:
    """Pedicles, articular pillars, spinous process and the ligaments in front of and behind the body."""
    x, y = rotated(a, s, body.centre, body.turn)
    back, half = -body.half_depth, body.height / 2
    wall = np.minimum(np.abs(x - np.float32(body.half_depth)), np.abs(x + np.float32(body.half_depth)))
    line = np.maximum(np.maximum(wall - np.float32(1.4), np.abs(y) - np.float32(half + 6)), canvas.beyond(m, 10))
    canvas.paint(line, "ligament")
    pillar_m = canvas.beyond(np.abs(m) - 15, 5)
    pedicle = capsule(x, y, (back + 2, half * 0.35), (back - 13, half * 0.30), 4.6)
    pillar = capsule(x, y, (back - 15, half + 3), (back - 20, -half - 4), 4.8)
    spinous = canvas.beyond(m, 3.5)
    process = rounded_box(*rotated(x, y, (back - 2 * spine.canal - 17, -6.0), 14.0), 13.0, 8.0, 6.0)
    bone = np.minimum(np.maximum(np.minimum(pedicle, pillar), pillar_m), np.maximum(process, spinous))
    canvas.paint(bone, "cortex")
    canvas.paint(bone + np.float32(_CORTEX_MM), "other marrow")
    root = ellipse(x, y, (back - 6, -half * 0.25), (3.0, 3.6))
    canvas.paint(np.maximum(root, canvas.beyond(np.abs(m) - 16, 4)), "nerve")


def body_distance(body: Body, x: Field, y: Field, m: Field) -> Field:
    """Approximate signed distance to a body in its own frame: rounded corners, a waist in front and behind."""
    waist = np.float32(body.waist) * np.clip(1 - (y / np.float32(body.height / 2)) ** 2, 0, 1)
    depth = half_depth_at(body.half_depth, body.half_width, m)
    return rounded_box(x, y, depth - waist, body.height / 2, 2.0)


def _paint_body(body: Body, canvas: Canvas, a: Field, s: Field, m: Field) -> None:
    x, y = rotated(a, s, body.centre, body.turn)
    distance = np.maximum(body_distance(body, x, y, m), canvas.beyond(m, body.half_width))
    canvas.paint(distance, "vertebral cortex" if body.labelled else "cortex")
    veins = 1 + np.float32(0.35) * np.exp(-((y / 2.2) ** 2) - ((x + np.float32(body.half_depth)) / 9) ** 2)
    shade = np.where(np.abs(m) < 4, veins, np.float32(1))
    canvas.paint(distance + np.float32(_CORTEX_MM), "vertebral marrow" if body.labelled else "other marrow", shade)


def _paint_disc(disc: Disc, canvas: Canvas, a: Field, s: Field, m: Field) -> None:
    x, y = rotated(a, s, disc.centre, disc.turn)
    half_height = disc.height_at(x, m) / 2
    depth = half_depth_at(disc.half_depth, disc.half_width, m)
    distance = np.maximum(np.maximum(np.abs(y) - half_height, np.abs(x) - depth), canvas.beyond(m, disc.half_width))
    canvas.paint(distance, "annulus" if disc.labelled else "other disc")
    if disc.labelled:
        core = ellipse(x, y, (-1.0, 0.0), (disc.half_depth * 0.66, disc.height * 0.36))
        core = np.maximum(core, canvas.beyond(m, disc.half_width * 0.6))
        canvas.paint(core, "nucleus", disc.hydration)
