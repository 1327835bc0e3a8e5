"""Benchmark of all overlap and surface metrics of one volume against MONAI's four calls (HD, HD95, ASSD, NSD).

python benchmarks/bench_metrics.py [--repetitions N]      one label like femoral cartilage, 384 x 384 x 160 voxels
"""

import argparse
import time
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from monai import metrics as monai_metrics
from timing import machine_line, ratio_line, say

from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.metrics.factory import load_metrics
from sam2ft.metrics.masks.surface import surface_distances
from sam2ft.metrics.regions import bounding_block
from sam2ft.metrics.scoring import Scene, ScoreSettings, score_volume

Mask = npt.NDArray[np.bool_]
SHAPE_ZYX, SPACING_ZYX_MM = (160, 384, 384), (0.7, 0.365, 0.365)
OVERLAP = ("dice", "iou", "precision", "recall", "specificity", "volume_similarity")
VOXEL = ("hd", "hd95", "assd", "nsd")
SURFEL = tuple(f"{name}_surfel" for name in VOXEL)
WARM_UP = 1


def cartilage() -> Mask:
    """Two condyles: shells 2.5 mm thick on the back and underside of two ellipsoids side by side, 228,000 voxels."""
    z, y, x = np.ogrid[tuple(slice(0, size) for size in SHAPE_ZYX)]
    mask = np.zeros(SHAPE_ZYX, dtype=np.bool_)
    for centre in (45, 115):
        radius_mm = np.sqrt(((y - 180) * 0.365) ** 2 + ((x - 190) * 0.365) ** 2 + ((z - centre) * 0.42) ** 2)
        mask |= (radius_mm > 24) & (radius_mm < 26.5) & (y > 150) & (abs(z - centre) < 30)
    return mask


def shifted(mask: Mask) -> Mask:
    """The mask shifted by one column, joined with the mask shifted by one slice."""
    return np.roll(mask, 1, axis=2) | np.roll(mask, 1, axis=0)


def monai_four(prediction: Mask, reference: Mask) -> dict[str, float]:
    y_pred, y = (torch.from_numpy(mask)[None, None] for mask in (prediction, reference))
    common = {"include_background": True, "spacing": list(SPACING_ZYX_MM)}
    return {
        "hd_mm": float(monai_metrics.compute_hausdorff_distance(y_pred, y, **common)),
        "hd95_mm": float(monai_metrics.compute_hausdorff_distance(y_pred, y, percentile=95, **common)),
        "assd_mm": float(monai_metrics.compute_average_surface_distance(y_pred, y, symmetric=True, **common)),
        "nsd": float(monai_metrics.compute_surface_dice(y_pred, y, [1.0], **common)),
    }


def scored(prediction: Mask, reference: Mask, names: Sequence[str]) -> dict[str, float]:
    """The volume row of `score_volume`, which also makes the rows of all 160 slices."""
    scene = Scene(Geometry.axis_aligned(SHAPE_ZYX, SPACING_ZYX_MM), LabelTable((Label(1, "femoral cartilage"),)))
    maps = (prediction.view(np.uint8), reference.view(np.uint8))
    metrics = load_metrics(dict.fromkeys(names, True))
    (row,) = score_volume(VolumeKey("bench", "s", "v"), *maps, scene, (), metrics, ScoreSettings())["volume"]
    return {name: value for name, value in row.items() if isinstance(value, float)}


def distances_alone(prediction: Mask, reference: Mask) -> dict[str, float]:
    """HD, HD95, ASSD and NSD in 3-D only, as computed by MONAI's four calls."""
    block = bounding_block(prediction | reference)
    found = surface_distances(prediction[block], reference[block], SPACING_ZYX_MM)
    return {"hd_mm": found.hd_mm, "hd95_mm": found.hd95_mm, "assd_mm": found.assd_mm, "nsd": found.nsd(1.0)}


def seconds(of: Callable[[], dict[str, float]]) -> tuple[float, dict[str, float]]:
    started = time.perf_counter()
    values = of()
    return time.perf_counter() - started, values


def compare(name: str, ours: Callable[[Mask, Mask], dict[str, float]], repetitions: int) -> str:
    reference = cartilage()
    prediction = shifted(reference)
    peer_s, ours_s = [], []
    for _ in range(WARM_UP + repetitions):
        peer, theirs = seconds(lambda: monai_four(prediction, reference))
        own, values = seconds(lambda: ours(prediction, reference))
        peer_s.append(peer)
        ours_s.append(own)
    apart = max(abs(values[column] - value) for column, value in theirs.items())
    line = ratio_line(name, peer_s[WARM_UP:], ours_s[WARM_UP:], "volume")
    return f"{line}   at most {apart:.1e} apart"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=7, help="measurements of each side, alternating")
    given = parser.parse_args()
    # MONAI warns of an option that it sets itself.
    warnings.filterwarnings("ignore", message=".*always_return_as_numpy")
    torch.set_num_threads(1)
    say(machine_line())
    say("peer: MONAI's HD, HD95, ASSD and NSD of one volume in 3-D")
    for name, ours in (
        ("the same four", distances_alone),
        ("overlap + voxel, 2-D and 3-D", lambda *pair: scored(*pair, (*OVERLAP, *VOXEL))),
        ("overlap + voxel + surfel", lambda *pair: scored(*pair, (*OVERLAP, *VOXEL, *SURFEL))),
    ):
        say(compare(name, ours, given.repetitions))


if __name__ == "__main__":
    main()
