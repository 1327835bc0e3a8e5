"""Random parameters of one lumbar spine phantom: sizes, curvature, disc heights, signals of each sequence."""

from collections.abc import Mapping

import numpy as np

from sam2ft.phantom.spine import Body, Disc, Spine, body_distance

SPINE_SEQUENCES: Mapping[str, Mapping[str, float]] = {
    "t2": {"skin": 0.45, "fat": 0.82, "muscle": 0.22, "bowel": 0.45, "vessel": 0.06, "ligament": 0.08, "fluid": 1.0,
           "nerve": 0.42, "cortex": 0.08, "marrow": 0.46, "annulus": 0.20, "nucleus": 0.72},
    "t1": {"skin": 0.50, "fat": 1.0, "muscle": 0.34, "bowel": 0.38, "vessel": 0.08, "ligament": 0.10, "fluid": 0.18,
           "nerve": 0.40, "cortex": 0.09, "marrow": 0.62, "annulus": 0.30, "nucleus": 0.38},
    "stir": {"skin": 0.25, "fat": 0.12, "muscle": 0.34, "bowel": 0.50, "vessel": 0.08, "ligament": 0.07, "fluid": 1.0,
             "nerve": 0.50, "cortex": 0.05, "marrow": 0.25, "annulus": 0.14, "nucleus": 0.66},
}  # fmt: skip

_LEVELS = ("T11", "T12", "L1", "L2", "L3", "L4", "L5", "S1", "S2")
_WEDGES = (1.0, 2.0, 4.0, 5.5, 7.5, 10.0, 13.0, 3.0)
_HEIGHTS = (24.5, 25.5, 26.0, 26.5, 26.5, 26.0, 25.5, 26.0, 20.0)
_DISC_HEIGHTS = (5.5, 6.5, 8.2, 9.2, 10.0, 10.6, 9.6, 3.0)


def spine_signal(rng: np.random.Generator, sequence: str) -> dict[str, float]:
    """Signal of each tissue, randomly varied by up to 10 %."""
    base = {name: value * float(rng.uniform(0.9, 1.1)) for name, value in SPINE_SEQUENCES[sequence].items()}
    marrow = base.pop("marrow")
    same = {"other marrow": marrow, "vertebral marrow": marrow, "vertebral cortex": base["cortex"]}
    return base | same | {"other disc": base["annulus"] * 1.3, "air": 0.0}


def draw_spine(rng: np.random.Generator) -> Spine:
    """A random spine of nine vertebral bodies (L1 to L5 are labelled) with L3 near the origin."""
    size = float(rng.uniform(0.92, 1.08))
    curve = float(rng.uniform(0.6, 1.25))
    half_depth, half_width = 16.5 * size * float(rng.uniform(0.96, 1.06)), 22.5 * size
    disc_size = size * float(rng.uniform(0.9, 1.15))
    turn = 14.0 * curve + float(rng.uniform(-3, 3))
    up = _up(turn)
    centre = np.array([-8.0, 88.0]) * size
    bodies: list[Body] = []
    discs: list[Disc] = []
    for number, level in enumerate(_LEVELS):
        height = _HEIGHTS[number] * size * float(rng.uniform(0.96, 1.04))
        if bodies:
            wedge = _WEDGES[number - 1] * curve * float(rng.uniform(0.75, 1.25))
            # Degenerated discs are lower and darker.
            wear = float(rng.beta(1.3, 2.5))
            disc_height = _DISC_HEIGHTS[number - 1] * disc_size * (1 - 0.28 * wear) * float(rng.uniform(0.94, 1.06))
            middle = centre - up * (bodies[-1].height / 2) - _up(turn - wedge / 2) * (disc_height / 2)
            name = f"{_LEVELS[number - 1]}/{level}"
            labelled = 3 <= number <= 7
            discs.append(
                Disc(name, _pair(middle), turn - wedge / 2, disc_height, wedge, half_depth, half_width, 1 - 0.75 * wear,
                     labelled)
            )  # fmt: skip
            centre = middle - _up(turn - wedge / 2) * (disc_height / 2)
            turn -= wedge
            up = _up(turn)
            centre = centre - up * (height / 2)
        depth = half_depth * (1.0 if level[0] != "S" else 0.92 if level == "S1" else 0.7)
        waist = float(rng.uniform(0.9, 1.9))
        bodies.append(Body(_pair(centre), turn, height, depth, half_width, waist, level[0] == "L"))
    return Spine(tuple(bodies), tuple(discs), 7.0 * size * float(rng.uniform(0.92, 1.1)), float(rng.uniform(4, 16)))


def body_volume_mm3(body: Body) -> float:
    """Volume of a vertebral body, mm3, by midpoint quadrature in steps of about 0.5 mm."""
    x = np.arange(-body.half_depth - 0.75, body.half_depth + 1, 0.5, dtype=np.float32)
    y = np.arange(-body.height / 2 - 0.75, body.height / 2 + 1, 0.5, dtype=np.float32)
    m = (-body.half_width + (np.arange(45) + 0.5) * body.half_width / 22.5).astype(np.float32)
    distance = body_distance(body, x[None, None, :], y[None, :, None], m[:, None, None])
    # A cell that the surface cuts counts with the fraction that is inside.
    inside = np.clip(0.5 - distance / 0.5, 0, 1).mean()
    return float(inside * (len(x) * 0.5) * (len(y) * 0.5) * 2 * body.half_width)


def _up(turn: float) -> np.ndarray:
    return np.array([-np.sin(np.radians(turn)), np.cos(np.radians(turn))])


def _pair(point: np.ndarray) -> tuple[float, float]:
    return float(point[0]), float(point[1])
