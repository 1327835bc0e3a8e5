"""Propagation: slices encoded once for both directions, against once per direction, and objects in batches.

Both sides are the same code with the same results, on a phantom subject that the nano was not trained on. Repetitions
alternate between the sides, so that both are measured under the same load.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from timing import machine_line, ratio_line, say
from torch import Tensor

from sam2ft.data.samples.batch import to_model_frame
from sam2ft.evaluation.protocols.propagate import objects_of
from sam2ft.model.propagator import ObjectPrompt, Propagator, VolumePredictor
from sam2ft.model.segmenter import build_segmenter
from sam2ft.tools.nano_pictures import pictures_of
from sam2ft.tools.nano_quality import UNSEEN_SEED

SIDE = 256
Logits = dict[tuple[int, int], Tensor]
"""(slice, object) -> logits."""


class Bench:
    """One phantom subject."""

    def __init__(self, source: str, device: torch.device):
        self.model = build_segmenter("sam2_nano", image_size=SIDE, checkpoint=None, device=device)
        pictures = pictures_of(source, seed=UNSEEN_SEED, indices=[0])
        self.labels_zyx = np.stack([picture.labels_yx for picture in pictures])
        self.images = [to_model_frame(picture.image_yx, SIDE) for picture in pictures]
        labels = [int(label) for label in np.unique(self.labels_zyx)[1:]]
        listed = objects_of(self.labels_zyx, labels, "per_instance", "largest").listed
        self.seeds = [ObjectPrompt(number, one.seed_slice, one.box) for number, one in enumerate(listed)]
        self.device = device

    def logits(self, **settings: Any) -> Logits:

        def images(order: Sequence[int]) -> Iterator[Tensor]:
            return (self.images[index] for index in order)

        nz, ny, nx = self.labels_zyx.shape
        found = Propagator(self.model).propagate(images, self.seeds, (nz, ny, nx), **settings)
        return {
            (one.slice, number): yx for one in found for number, yx in zip(one.object_ids, one.logits_nyx, strict=True)
        }

    def seconds(self, **settings: Any) -> float:
        started = time.perf_counter()
        self.logits(**settings)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    def counted(self, **settings: Any) -> tuple[int, Logits]:
        """(encoder passes, the logits)."""
        calls, original = [0], VolumePredictor.forward_image

        def counted(predictor: VolumePredictor, images: Tensor) -> Any:
            calls[0] += 1
            return original(predictor, images)

        VolumePredictor.forward_image = counted
        try:
            logits = self.logits(**settings)
        finally:
            VolumePredictor.forward_image = original
        return calls[0], logits


def apart(ours: Logits, others: Logits) -> str:
    """How far results are from those of the default settings."""
    largest = max(float((ours[key] - others[key]).abs().max()) for key in ours)
    flipped = sum(int(((ours[key] > 0) != (others[key] > 0)).sum()) for key in ours)
    return f"logits differ by at most {largest:.1e}, {flipped} pixels of the masks"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the spine, one pair: a short trial")
    parser.add_argument("--repetitions", type=int, default=5, help="measurements of each side, alternating")
    given = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    say(f"{machine_line()}, {torch.cuda.get_device_name() if device.type == 'cuda' else 'CPU'}")
    sides: dict[str, dict[str, int]] = {"default": {}, "once per direction": {"kept_bytes": 0}}
    sides["16 objects per call"] = {"object_batch": 16}
    for source in ("spine",) if given.quick else ("spine", "knee"):
        bench = Bench(source, device)
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(1 if given.quick else given.repetitions):
            for name, settings in sides.items():
                seconds[name].append(bench.seconds(**settings))
        say(f"nano on the {source} phantom: {len(bench.images)} slices, {len(bench.seeds)} objects")
        _, ours = bench.counted()
        for name, settings in sides.items():
            passes, others = bench.counted(**settings)
            say(f"  {name}: {passes} encoder passes, {apart(ours, others)}")
            if settings:
                say("  " + ratio_line(f"default / {name}", seconds[name], seconds["default"], "volume"))


if __name__ == "__main__":
    main()
