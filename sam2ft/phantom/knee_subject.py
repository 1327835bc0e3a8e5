"""Random parameters of one knee phantom: sizes, poses, cartilage thickness, signals of each sequence."""

from collections.abc import Mapping

import numpy as np

from sam2ft.phantom.knee import Knee
from sam2ft.phantom.plates import Plate
from sam2ft.phantom.shapes import Hull

# Signals of common sequences, about 0 to 1; the marrow of all bones has the same signal.
KNEE_SEQUENCES: Mapping[str, Mapping[str, float]] = {
    "dess": {
        "skin": 0.35, "fat": 0.28, "muscle": 0.36, "vessel": 0.62, "fluid": 1.0, "synovium": 0.50, "tendon": 0.13,
        "meniscus": 0.18, "cartilage": 0.66, "cortex": 0.05, "marrow": 0.15,
    },
    "pd": {
        "skin": 0.55, "fat": 0.92, "muscle": 0.42, "vessel": 0.20, "fluid": 0.78, "synovium": 0.60, "tendon": 0.10,
        "meniscus": 0.14, "cartilage": 0.54, "cortex": 0.07, "marrow": 0.72,
    },
    "pd_fs": {
        "skin": 0.30, "fat": 0.17, "muscle": 0.40, "vessel": 0.85, "fluid": 1.0, "synovium": 0.55, "tendon": 0.10,
        "meniscus": 0.16, "cartilage": 0.74, "cortex": 0.05, "marrow": 0.28,
    },
    "t1": {
        "skin": 0.50, "fat": 1.0, "muscle": 0.38, "vessel": 0.15, "fluid": 0.26, "synovium": 0.42, "tendon": 0.09,
        "meniscus": 0.13, "cartilage": 0.47, "cortex": 0.06, "marrow": 0.76,
    },
}  # fmt: skip

_BONES = ("femoral", "tibial", "patellar", "other")
_CARTILAGES = ("femoral", "medial tibial", "lateral tibial", "patellar")


def knee_signal(rng: np.random.Generator, sequence: str) -> dict[str, float]:
    """Signal of each tissue, each randomly varied by a few percent."""
    base = {name: value * float(rng.uniform(0.92, 1.08)) for name, value in KNEE_SEQUENCES[sequence].items()}
    cartilage, cortex, marrow = base.pop("cartilage"), base.pop("cortex"), base.pop("marrow")
    signal = base | {"air": 0.0}
    signal |= {f"{name} cartilage": cartilage * float(rng.uniform(0.95, 1.05)) for name in _CARTILAGES}
    signal |= {f"{name} cortex": cortex for name in _BONES[:3]}
    return signal | {f"{name} marrow": marrow * float(rng.uniform(0.95, 1.05)) for name in _BONES}


def draw_knee(rng: np.random.Generator, thinnest_mm: float) -> Knee:
    """A random knee whose cartilage plates are at least `thinnest_mm` thick, except at their rims."""
    size = float(rng.uniform(0.92, 1.08))
    trochlea = (12.5 * size, float(rng.uniform(0, 2)), 17.5 * size * float(rng.uniform(0.95, 1.05)))
    medial = Hull(*trochlea, -12.5 * size, float(rng.uniform(-1, 1)), 19.5 * size * float(rng.uniform(0.95, 1.05)))
    lateral = Hull(*trochlea, -11.0 * size, float(rng.uniform(-0.5, 1)), 18.5 * size * float(rng.uniform(0.95, 1.05)))
    half_width, rounding = 30.0 * size * float(rng.uniform(0.96, 1.04)), 7.0
    notch = float(rng.uniform(4.5, 6.0))
    edge = half_width - rounding
    femoral = _plate(
        rng, "femoral cartilage", thinnest_mm,
        (-1.45 * trochlea[2], medial.flat_length + 1.75 * lateral.r1), (-edge, edge),
        curves=(medial, lateral), gap=(-6.0, -notch - 1.5, notch + 1.5),
    )  # fmt: skip
    turn, half_depth = float(rng.uniform(-4, 4)), 24.0 * size
    plates = tuple(
        _plate(rng, f"{side} tibial cartilage", thinnest_mm, (-half_depth + 4.5, half_depth - 5.0), extent)
        for side, extent in (("medial", (notch + 1.5, edge + 2)), ("lateral", (-edge - 2, -notch - 1.5)))
    )
    patellar = _plate(rng, "patellar cartilage", thinnest_mm, (-14.0 * size, 16.0 * size), (-15.0 * size, 15.0 * size))
    tibia_origin = _tibia_position(medial, lateral, femoral, plates, turn, float(rng.uniform(0.3, 0.9)), half_depth)
    patella_turn = float(rng.uniform(-12, 2))
    patella_origin = _patella_position(medial, femoral, patellar, patella_turn, float(rng.uniform(2, 11)), size)
    depth = 17.5 * size * float(rng.uniform(0.93, 1.05))
    return Knee(
        medial, lateral, half_width, rounding, notch, tibia_origin, turn, half_depth, patella_origin, patella_turn,
        19.5 * size, depth, femoral, (plates[0], plates[1]), patellar,
        patella_origin[0] + depth + float(rng.uniform(5, 9)), float(rng.uniform(56, 64)),
    )  # fmt: skip


def _plate(
    rng: np.random.Generator,
    tissue: str,
    thinnest_mm: float,
    extent_u: tuple[float, float],
    extent_v: tuple[float, float],
    curves: tuple[Hull, Hull] | None = None,
    gap: tuple[float, float, float] | None = None,
) -> Plate:
    thin = thinnest_mm * float(rng.uniform(1.0, 1.12))
    swell = float(rng.uniform(0.5, 1.2)) * (1.25 if tissue.startswith("patellar") else 1.0)
    wave = tuple(float(rng.uniform(*limits)) for limits in ((-12, 24), (16, 26), (-10, 10), (14, 26)))
    deep2, deep1 = float(rng.uniform(30, 36)), float(rng.uniform(36, 42))
    return Plate(
        tissue, extent_u, extent_v, thin, swell, (wave[0], wave[1], wave[2], wave[3]),
        (deep2, deep2 + float(rng.uniform(8, 20))), (deep1, deep1 + float(rng.uniform(10, 24))), curves, gap,
    )  # fmt: skip


def _femoral_surface(
    outlines: tuple[Hull, ...], plate: Plate, v_values: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(a, s, v) of points on the articular surface of the femur."""
    u = np.linspace(plate.extent_u[0] + 0.1, plate.extent_u[1] - 0.1, 400)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for v in v_values:
        outline = outlines[0] if v >= 0 else outlines[-1]
        thickness = plate.thickness(u.astype(np.float32), np.full(len(u), v, dtype=np.float32)).astype(np.float64)
        found.append((*outline.outline(u, thickness), np.full(len(u), v)))
    a, s, v = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return a, s, v


def _tibia_position(
    medial: Hull, lateral: Hull, femoral: Plate, plates: tuple[Plate, ...], turn: float, gap_mm: float, half: float
) -> tuple[float, float]:
    """Origin of the tibial plateau, so that femoral and tibial cartilage are at least `gap_mm` apart."""
    a, s, v = _femoral_surface((medial, lateral), femoral, np.linspace(*femoral.extent_v, 24))
    centre_a = (medial.a0 + medial.a1) / 2
    cosine, sine = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    along, height = (a - centre_a) * cosine + s * sine, s * cosine - (a - centre_a) * sine
    reach = np.abs(along) < half
    need = [np.inf]
    for plate in plates:
        low, high = plate.extent_v
        on = reach & (v > low - 3) & (v < high + 3)
        u = np.clip(along[on], plate.extent_u[0], plate.extent_u[1]).astype(np.float32)
        need.append(float((height[on] - plate.thickness(u, v[on].astype(np.float32))).min()))
    shift = min(need) - gap_mm
    return centre_a - shift * sine, shift * cosine


def _patella_position(
    outline: Hull, femoral: Plate, patellar: Plate, turn: float, height: float, size: float
) -> tuple[float, float]:
    """Origin of the posterior face of the patella, so that its cartilage is at least 0.5 mm from that of the femur."""
    a, s, v = _femoral_surface((outline, outline), femoral, np.linspace(*patellar.extent_v, 16))
    cosine, sine = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    origin_s = outline.s0 + height * size
    front, along = a * cosine + (s - origin_s) * sine, (s - origin_s) * cosine - a * sine
    on = (along > patellar.extent_u[0] - 4) & (along < patellar.extent_u[1] + 4)
    u = np.clip(along[on], patellar.extent_u[0], patellar.extent_u[1]).astype(np.float32)
    face = float((front[on] + patellar.thickness(u, v[on].astype(np.float32))).max()) + 0.5
    return face * cosine, origin_s + face * sine
