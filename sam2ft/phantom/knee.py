"""Anatomy of the knee phantom: shape parameters of bones and cartilage, and painting of one sagittal plane."""

from dataclasses import dataclass

import numpy as np

from sam2ft.core.labels import Label, LabelTable
from sam2ft.phantom.plates import Plate
from sam2ft.phantom.render import Canvas, Tissue
from sam2ft.phantom.shapes import Field, Hull, capsule, domed, ellipse, extruded, from_frame, norm, rotated, rounded_box

KNEE_LABELS = LabelTable(
    (
        Label(1, "femoral cartilage", "femur"),
        Label(2, "medial tibial cartilage", "tibia"),
        Label(3, "lateral tibial cartilage", "tibia"),
        Label(4, "patellar cartilage", "patella"),
        Label(5, "femur"),
        Label(6, "tibia"),
        Label(7, "patella"),
    )
)

KNEE_TISSUES = (
    Tissue("air", texture=0.0),
    Tissue("skin", t2_ms=30, t1rho_ms=35),
    Tissue("fat", texture=0.08, t2_ms=90, t1rho_ms=110),
    Tissue("muscle", texture=0.10, t2_ms=34, t1rho_ms=40),
    Tissue("vessel", texture=0.05, t2_ms=140, t1rho_ms=150),
    Tissue("fluid", texture=0.03, t2_ms=350, t1rho_ms=380),
    Tissue("synovium", texture=0.08, t2_ms=60, t1rho_ms=70),
    Tissue("tendon", texture=0.10, t2_ms=9, t1rho_ms=11),
    Tissue("meniscus", texture=0.10, t2_ms=12, t1rho_ms=15),
    Tissue("femoral cartilage", 1, 0.04),
    Tissue("medial tibial cartilage", 2, 0.04),
    Tissue("lateral tibial cartilage", 3, 0.04),
    Tissue("patellar cartilage", 4, 0.04),
    Tissue("femoral cortex", 5, 0.05, t2_ms=5, t1rho_ms=6),
    Tissue("femoral marrow", 5, 0.09, t2_ms=70, t1rho_ms=80),
    Tissue("tibial cortex", 6, 0.05, t2_ms=5, t1rho_ms=6),
    Tissue("tibial marrow", 6, 0.09, t2_ms=70, t1rho_ms=80),
    Tissue("patellar cortex", 7, 0.05, t2_ms=5, t1rho_ms=6),
    Tissue("patellar marrow", 7, 0.09, t2_ms=70, t1rho_ms=80),
    Tissue("other marrow", 0, 0.09, t2_ms=70, t1rho_ms=80),
)

_CORTEX_MM = 0.9
_PLATEAU_MM = 17.0
"""Height of the tibial plateau."""
_SHAFT_MM = 13.5
"""Radius of the femoral shaft."""
_DOME_MM, _RIM_MM = 10.0, 4.0
"""Height of the rounded ends of the shafts, and of tibial plateau and patella beyond their cartilage."""


@dataclass(frozen=True)
class Knee:
    """One knee; mm in the frame (a anterior, s superior, m medial) around the centre of the femoral condyles."""

    medial: Hull
    """Sagittal outline of the femur on the medial side: circle 0 is the trochlea, circle 1 the posterior condyle."""
    lateral: Hull
    half_width: float
    """Half extent of femur and tibia along m."""
    rounding: float
    notch_half_width: float
    tibia_origin: tuple[float, float]
    tibia_turn: float
    """Degrees; the tibial plateau is the line s' = 0 of the frame at tibia_origin rotated by this angle."""
    tibia_half_depth: float
    patella_origin: tuple[float, float]
    patella_turn: float
    """Degrees; the posterior face of the patella is the line a' = 0 of its frame."""
    patella_half_height: float
    patella_depth: float
    femoral: Plate
    tibial: tuple[Plate, Plate]
    patellar: Plate
    skin_front: float
    skin_back: float

    @property
    def plates(self) -> tuple[Plate, ...]:
        return (self.femoral, *self.tibial, self.patellar)


@dataclass(frozen=True)
class _Plane:
    """Coordinates and distances of one plane that several tissues use."""

    a: Field
    s: Field
    m: Field
    femur: Field
    """Distance to the femur without its notch: exact near the cartilage."""
    arc: Field
    tibia_a: Field
    tibia_s: Field
    patella_a: Field
    patella_s: Field


def paint_knee(knee: Knee, canvas: Canvas, a: Field, s: Field, m: Field) -> None:
    """Paint one plane, from the outside of the leg to the bones."""
    outline, arc = _femur_outline(knee, a, s, m)
    tibia_a, tibia_s = rotated(a, s, knee.tibia_origin, knee.tibia_turn)
    patella_a, patella_s = rotated(a, s, knee.patella_origin, knee.patella_turn)
    # Cartilage ends where the dome begins: below it the bone is the extruded outline, on which its truth rests.
    femur = domed(outline, m, knee.half_width, knee.rounding, min(knee.medial.r1, knee.lateral.r1, knee.medial.r0))
    plane = _Plane(a, s, m, femur, arc, tibia_a, tibia_s, patella_a, patella_s)
    _paint_leg(knee, canvas, plane)
    _paint_joint(knee, canvas, plane)
    _paint_cartilage(knee, canvas, plane)
    _paint_femur(knee, canvas, plane)
    _paint_tibia(knee, canvas, plane)
    _paint_patella(knee, canvas, plane)


def _femur_outline(knee: Knee, a: Field, s: Field, m: Field) -> tuple[Field, Field]:
    """(distance, arc length of the foot point) in the sagittal plane, for the condyle to which each pixel belongs."""
    if m.min() >= 0:
        return knee.medial.distance_and_arc(a, s)
    if m.max() < 0:
        return knee.lateral.distance_and_arc(a, s)
    medial, lateral = knee.medial.distance_and_arc(a, s), knee.lateral.distance_and_arc(a, s)
    return np.where(m >= 0, medial[0], lateral[0]), np.where(m >= 0, medial[1], lateral[1])


def _paint_leg(knee: Knee, canvas: Canvas, p: _Plane) -> None:
    """Skin, fat, muscles and vessels."""
    a, s, m = p.a, p.s, p.m
    narrowing = np.sqrt(np.clip(1 - (m / np.float32(knee.half_width * 1.9)) ** 2, 0.1, 1))
    px, py = knee.patella_origin
    bulge = np.float32(9) * np.exp(-(((s - np.float32(py)) / 26) ** 2))
    slope = np.where(s < py, (s - np.float32(py)) * np.float32(0.10), (s - np.float32(py)) * np.float32(-0.02))
    front = (np.float32(knee.skin_front - 9) + bulge + slope) * narrowing
    back = np.float32(-knee.skin_back) * narrowing
    body = np.maximum(a - front, back - a)
    canvas.paint(body, "skin")
    canvas.paint(body + np.float32(1.6), "fat")
    deep = body + np.float32(6)
    stripes = 1 + np.float32(0.10) * np.sin(a * np.float32(1.1) + s * np.float32(0.12) + m)
    back_upper = capsule(a, s, (-31.0, 8.0), (-27.0, 90.0), 15.0)
    back_lower = capsule(a, s, (-38.0, -28.0), (-33.0, -110.0), 16.0)
    off_centre = np.float32(5) - np.abs(m)
    canvas.paint(np.maximum(np.maximum(back_upper, deep), off_centre), "muscle", stripes)
    canvas.paint(np.maximum(back_lower, deep), "muscle", stripes)
    canvas.paint(np.maximum(capsule(a, s, (px - 14, py + 48), (px - 26, py + 120), 11.0), deep), "muscle", stripes)
    canvas.paint(np.maximum(capsule(a, s, (22.0, -75.0), (24.0, -140.0), 7.0), deep), "muscle", stripes)
    tube = norm(capsule(a, s, (-39.0, 70.0), (-36.0, -80.0), 0.0), m + 3) - np.float32(3.6)
    canvas.paint(tube, "vessel")


def _paint_joint(knee: Knee, canvas: Canvas, p: _Plane) -> None:
    """Fluid, tendons, menisci and cruciate ligaments."""
    plate = knee.femoral
    layer = np.maximum(p.femur - np.float32(plate.thin_mm + plate.swell_mm + 0.7), plate.outside_extent(p.arc, p.m) - 2)
    canvas.paint(np.where(np.isnan(layer), np.inf, layer), "fluid")
    px, py = knee.patella_origin
    top, half = knee.patella_depth, knee.patella_half_height
    middle = canvas.beyond(p.m, 13)
    pouch = np.maximum(capsule(p.a, p.s, (px - 3, py + half - 4), (px - 16, py + half + 22), 1.1), middle)
    canvas.paint(pouch, "fluid")
    quadriceps = capsule(p.patella_a, p.patella_s, (top * 0.5, half - 2), (top * 0.1 - 4, half + 60), 3.0)
    canvas.paint(np.maximum(quadriceps, middle), "tendon")
    # The tibial tuberosity is anterior to and below the plateau.
    foot = from_frame((knee.tibia_half_depth - 1.0, -29.0), knee.tibia_origin, knee.tibia_turn)
    pole = from_frame((top * 0.55, -half + 4), knee.patella_origin, knee.patella_turn)
    canvas.paint(np.maximum(capsule(p.a, p.s, pole, foot, 2.4), middle), "tendon")
    # Two wedges in the middle of a condyle; one band at its outer side, where the meniscus bends around it.
    horns = np.abs(np.abs(p.tibia_a) - np.float32(16)) - np.float32(8)
    horns = np.where(np.abs(p.m) > knee.half_width - 8, np.abs(p.tibia_a) - np.float32(22), horns)
    wedge = np.maximum(horns, p.femur - np.float32(10))
    wedge = np.maximum(np.maximum(wedge, p.tibia_s - 9), -p.tibia_s)
    wedge = np.maximum(wedge, np.float32(knee.notch_half_width - 1) - np.abs(p.m))
    wedge = np.maximum(wedge, np.abs(p.m) - np.float32(knee.half_width - 1))
    canvas.paint(wedge - np.float32(1.6), "synovium")
    canvas.paint(wedge, "meniscus")
    inner = canvas.beyond(p.m + 1, 3)
    cruciate = capsule(p.tibia_a, p.tibia_s, (7.0, 1.0), (-16.0, 24.0), 3.2)
    canvas.paint(np.maximum(cruciate, inner), "tendon")
    inner = canvas.beyond(p.m - 3, 3)
    first = capsule(p.tibia_a, p.tibia_s, (-24.0, -6.0), (-17.0, 11.0), 3.4)
    second = capsule(p.tibia_a, p.tibia_s, (-17.0, 11.0), (2.0, 22.0), 3.4)
    canvas.paint(np.maximum(np.minimum(first, second), inner), "tendon")


def _paint_cartilage(knee: Knee, canvas: Canvas, p: _Plane) -> None:
    surfaces = (
        (knee.femoral, p.femur, p.arc),
        (knee.tibial[0], p.tibia_s, p.tibia_a),
        (knee.tibial[1], p.tibia_s, p.tibia_a),
        (knee.patellar, -p.patella_a, p.patella_s),
    )
    for plate, from_bone, u in surfaces:
        # Below the surface is bone, which is painted later, or nothing where a flat plate extends beyond the bone.
        distance = np.maximum(plate.distance(from_bone, u, p.m), -from_bone - np.float32(0.5))
        inside = canvas.paint(distance, plate.tissue)
        if inside.any():
            canvas.set_relaxation(inside, *plate.relaxation(from_bone, u, p.m))


def _paint_bone(canvas: Canvas, distance: Field, name: str, s: Field) -> None:
    canvas.paint(distance, f"{name} cortex")
    canvas.paint(distance + np.float32(_CORTEX_MM), f"{name} marrow", 1 - np.float32(0.0015) * np.abs(s))


def _paint_femur(knee: Knee, canvas: Canvas, p: _Plane) -> None:
    a, s, m = p.a, p.s, p.m
    first = knee.medial
    roof = Hull(-3.0, -first.r0 * 0.45, first.r0 * 0.62, -42.0, 7.0, first.r0 * 1.2)
    notch = np.maximum(roof.distance(a, s), canvas.beyond(m, knee.notch_half_width))
    condyles = np.maximum(p.femur, -notch)
    taper = np.sqrt(np.clip((s + 6) / np.float32(48), 0, 1)) * np.float32(knee.half_width * 0.42)
    flare = Hull(0.0, 9.0, first.r0 + 2.5, -3.0, 46.0, 13.5).distance(a, s)
    shaft = capsule(a, s, (-3.0, 46.0), (-5.0, 150.0), 13.5)
    upper = domed(np.minimum(flare, shaft), m, np.float32(knee.half_width - 1) - taper, _DOME_MM, _SHAFT_MM)
    upper = np.maximum(upper, 3 - s)
    _paint_bone(canvas, np.minimum(condyles, np.maximum(upper, -p.femur - 30)), "femoral", s)


def _paint_tibia(knee: Knee, canvas: Canvas, p: _Plane) -> None:
    a, s, m = p.tibia_a, p.tibia_s, p.m
    half = knee.tibia_half_depth
    plateau = rounded_box(a, s + np.float32(_PLATEAU_MM / 2), half, _PLATEAU_MM / 2, 4.0)
    flare = Hull(0.0, -14.0, half - 1.5, 4.0, -56.0, 13.0).distance(a, s)
    shaft = capsule(a, s, (4.0, -56.0), (5.0, -160.0), 13.0)
    tuberosity = ellipse(a, s, (half - 7.0, -28.0), (5.5, 13.0))
    tuberosity = np.maximum(tuberosity, canvas.beyond(m, 11))
    taper = np.sqrt(np.clip((-s - 8) / np.float32(52), 0, 1)) * np.float32(knee.half_width * 0.45)
    width = np.float32(knee.half_width + _RIM_MM / 2) - taper
    body = np.minimum(
        domed(plateau, m, width, _RIM_MM, _PLATEAU_MM / 2),
        np.minimum(domed(flare, m, width, _DOME_MM, half - 1.5), domed(shaft, m, width, _DOME_MM, 13.0)),
    )
    body = np.maximum(np.minimum(body, tuberosity), s)
    spine = extruded(ellipse(a, s, (-1.0, -1.0), (11.0, 8.0)), m, 5.5, 3.0)
    _paint_bone(canvas, np.minimum(body, spine), "tibial", s)
    fibula = norm(capsule(a, s, (-half - 1, -20.0), (-half + 3, -160.0), 0.0), m + np.float32(knee.half_width - 5))
    canvas.paint(fibula - 7, "tendon")
    canvas.paint(fibula - np.float32(5.8), "other marrow")


def _paint_patella(knee: Knee, canvas: Canvas, p: _Plane) -> None:
    depth, half = knee.patella_depth, knee.patella_half_height
    radius = (depth**2 + half**2) / (2 * depth)
    arc = norm(p.patella_a - np.float32(depth - radius), p.patella_s) - np.float32(radius)
    face = np.maximum(arc, -p.patella_a)
    width = 0.62 * knee.half_width + _RIM_MM
    _paint_bone(canvas, domed(face, p.m, width, _RIM_MM, depth / 2), "patellar", p.patella_s)
