"""Evaluating slices with 8 boxes each: the Tester's one encoder pass per slice against an encoder pass per box.

python benchmarks/bench_evaluation.py [--large]      nano at 256 px, or SAM 2.1 tiny at 1024 px (random weights)
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from timing import machine_line, ratio_line, say
from torch import Tensor

from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.core.prompts import Prompts
from sam2ft.data.batch import to_model_frame
from sam2ft.data.slices import SliceView
from sam2ft.engine.prompting import EvaluationChoice
from sam2ft.engine.tester import Segmenter, Tester
from sam2ft.metrics.factory import load_metrics
from sam2ft.metrics.measurement import ScoreSettings
from sam2ft.metrics.scoring import Scene
from sam2ft.model.segmenter import FinetunedSAM2, build_untrained

SIDE, NUM_BOXES = 256, 8
WARM_UP = 1


@dataclass(frozen=True)
class Discs:
    """A volume of slices with 8 discs of one label each."""

    num_slices: int

    key = VolumeKey("bench", "s", "v")

    @property
    def scene(self) -> Scene:
        return Scene(Geometry.axis_aligned(self.reference_zyx.shape, (3.0, 0.5, 0.5)), LabelTable((Label(1, "disc"),)))

    @property
    def reference_zyx(self) -> np.ndarray:
        y, x = np.indices((SIDE, SIDE))
        centres = [(cy, cx) for cy in (64, 190) for cx in (32, 96, 160, 224)]
        slice_yx = np.any([(y - cy) ** 2 + (x - cx) ** 2 < 24 * 24 for cy, cx in centres], axis=0)
        return np.repeat(slice_yx[None].astype(np.uint8), self.num_slices, axis=0)

    def views(self, image_size: int, slices: Sequence[int], prefetch: int) -> Iterator[SliceView]:
        reference = self.reference_zyx
        noise = np.random.default_rng(0)
        for index in slices:
            image = (reference[index] * 0.5 + noise.random((SIDE, SIDE)) * 0.5).astype(np.float32)
            yield SliceView(self.key.slice(index), to_model_frame(image, image_size), reference[index])


class EncoderPerBox:
    """The same model, used as one does box by box: every prompt encodes its slice again."""

    def __init__(self, model: FinetunedSAM2):
        self.model, self.image_size = model, model.image_size

    def eval(self) -> Any:
        return self.model.eval()

    def encode(self, images_bchw: Tensor) -> Tensor:
        return images_bchw

    def project(self, features: Tensor) -> Tensor:
        return features

    def decode(self, features: Tensor, prompts: Prompts) -> tuple[Tensor, Tensor]:
        alone = [
            Prompts(prompts.slice_of_n[n : n + 1], boxes_n4=prompts.boxes_n4[n : n + 1]) for n in range(len(prompts))
        ]
        logits, iou = zip(*(self.model(features, prompt) for prompt in alone), strict=True)
        return torch.cat(logits), torch.cat(iou)


@torch.inference_mode()
def logits_apart(model: FinetunedSAM2, volume: Discs) -> float:
    """Largest difference of a logit between the two ways, in fp32."""
    (view,) = volume.views(model.image_size, [0], 0)
    boxes = [[8.0 + 28 * n, 20.0, 30.0 + 28 * n, 90.0] for n in range(NUM_BOXES)]
    prompts = Prompts(torch.zeros(NUM_BOXES, dtype=torch.int64), boxes_n4=torch.tensor(boxes))
    together, alone = (
        one.decode(one.encode(view.image_1hw[None]), prompts)[0] for one in (model, EncoderPerBox(model))
    )
    return float((together - alone).abs().max())


def seconds_per_slice(model: Segmenter, volume: Discs, precision: Any) -> float:
    """Of a whole evaluation, scoring included."""
    section = EvaluationChoice(precision=precision)
    tester = Tester(model, section, load_metrics({"dice": True, "iou": True}), ScoreSettings())
    started = time.perf_counter()
    list(tester.evaluate([volume]))
    return (time.perf_counter() - started) / volume.num_slices


def compare(config: str, image_size: int, num_slices: int, repetitions: int, precision: str) -> str:
    model, volume = build_untrained(config, image_size=image_size, seed=1), Discs(num_slices)
    ours_s, peer_s = [], []
    for _ in range(WARM_UP + repetitions):
        peer_s.append(seconds_per_slice(EncoderPerBox(model), volume, precision))
        ours_s.append(seconds_per_slice(model, volume, precision))
    name = f"{config.rpartition('/')[2].removesuffix('.yaml')} {image_size} px, {precision}"
    line = ratio_line(name, peer_s[WARM_UP:], ours_s[WARM_UP:], "slice")
    return f"{line}   logits at most {logits_apart(model.eval(), volume):.1e} apart"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="SAM 2.1 tiny at 1024 px (minutes)")
    parser.add_argument("--repetitions", type=int, default=None, help="of each, in turn (default: 7, with --large 3)")
    given = parser.parse_args()
    config, size = ("configs/sam2.1/sam2.1_hiera_t.yaml", 1024) if given.large else ("sam2_nano", 256)
    repetitions = given.repetitions or (3 if given.large else 7)
    say(machine_line())
    say(f"evaluation of slices of {SIDE} x {SIDE} pixels with {NUM_BOXES} boxes, scoring included")
    for precision in ("fp32", "bf16"):
        say(compare(config, size, 1 if given.large else 4, repetitions, precision))


if __name__ == "__main__":
    main()
