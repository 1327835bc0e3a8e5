"""One training step: the Trainer against a plain loop of stock SAM 2 calls. Same weights, batch, loss and optimizer.

python benchmarks/bench_training_step.py [--large]      nano at 256 px, or SAM 2.1 tiny at 512 px (random weights)
"""

import argparse
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from timing import machine_line, ratio_line, say

from sam2ft.core.events import Observers, StepDone
from sam2ft.core.keys import SliceKey
from sam2ft.core.prompts import boxes_to_model_frame
from sam2ft.data.batch import Batch, Sample, collate, to_model_frame
from sam2ft.engine.optim import OptimizerChoice, build_optimizer
from sam2ft.engine.train_state import Surroundings, TrainerSettings, TrainState
from sam2ft.engine.trainer import Trainer
from sam2ft.model.losses import SegmentationLoss, build_loss
from sam2ft.model.parts import freeze_unreachable, set_trainable
from sam2ft.model.segmenter import IMAGENET_MEAN, IMAGENET_SD, FinetunedSAM2, build_untrained

SIDE = 320
"""Pixels of a generated slice: its own grid, on which the loss lives."""
NUM_SLICES, NUM_INSTANCES = 4, 4
WARM_UP = 2


def make_batch(image_size: int) -> Batch:
    """Four slices with four discs each."""
    rng = np.random.default_rng(0)
    y, x = np.indices((SIDE, SIDE))
    samples = []
    for number in range(NUM_SLICES):
        centres, radii = rng.integers(60, SIDE - 60, size=(NUM_INSTANCES, 2)), rng.integers(15, 50, size=NUM_INSTANCES)
        masks = np.stack([(y - cy) ** 2 + (x - cx) ** 2 < r * r for (cy, cx), r in zip(centres, radii, strict=True)])
        boxes = np.array(
            [[cx - r + 1, cy - r + 1, cx + r - 1, cy + r - 1] for (cy, cx), r in zip(centres, radii, strict=True)]
        )
        image = (masks.any(axis=0) * 0.5 + rng.random((SIDE, SIDE)) * 0.5).astype(np.float32)
        in_model = boxes_to_model_frame(boxes, height=SIDE, width=SIDE, image_size=image_size)
        samples.append(
            Sample(
                key=SliceKey("bench", "s", "v", number),
                image_1hw=to_model_frame(image, image_size),
                masks_nhw=torch.from_numpy(masks),
                labels_n=torch.ones(NUM_INSTANCES, dtype=torch.int64),
                instances_n=torch.arange(1, NUM_INSTANCES + 1),
                boxes_n4=torch.from_numpy(in_model),
                original_boxes_n4=torch.from_numpy(boxes),
            )
        )
    return collate(samples)


def make_loss() -> SegmentationLoss:
    section = {"seg": "DiceLoss", "seg_args": {}, "ce": "BCE", "ce_args": {}, "seg_loss_weight": 0.5}
    return build_loss(SimpleNamespace(**section, ce_loss_weight=0.5, frame="original", iou_weight=0.0))


def make_model(config: str, image_size: int, loss: SegmentationLoss) -> FinetunedSAM2:
    model = build_untrained(config, image_size=image_size, seed=1)
    set_trainable(model, SimpleNamespace(image_encoder=True, prompt_encoder=False, mask_decoder=True))
    freeze_unreachable(model, loss, SimpleNamespace(box=1.0, point=0.0, mask=0.0))
    return model


class PlainLoop:
    """What one writes with stock calls: forward_image for the batch, prompt encoder and decoder slice by slice."""

    def __init__(self, model: FinetunedSAM2, loss: SegmentationLoss, lr: float, *, bf16: bool):
        self.sam2: Any = model.sam2_model.train()
        self.loss, self.bf16 = loss, bf16
        self.mean, self.sd = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_SD))
        self.optimizer = torch.optim.AdamW([tensor for tensor in model.parameters() if tensor.requires_grad], lr=lr)

    def step(self, batch: Batch) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
            logits, iou = self.forward(batch)
        loss = self.loss(logits.float(), iou.float(), batch)["loss"].mean()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        images = (batch.images_bchw.expand(-1, 3, -1, -1) - self.mean) / self.sd
        *high_resolution, embedding = self.sam2.forward_image(images)["backbone_fpn"]
        embedding = embedding + self.sam2.no_mem_embed.reshape(1, -1, 1, 1)
        logits, iou = [], []
        for number in range(len(images)):
            corners = batch.prompts.boxes_n4[batch.prompts.slice_of_n == number].reshape(-1, 2, 2)
            labels = torch.tensor([2, 3], dtype=torch.int32).expand(len(corners), 2)
            sparse, dense = self.sam2.sam_prompt_encoder(points=(corners, labels), boxes=None, masks=None)
            masks, quality, _, _ = self.sam2.sam_mask_decoder(
                image_embeddings=embedding[number : number + 1],
                image_pe=self.sam2.sam_prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=False,
                repeat_image=True,
                high_res_features=[level[number : number + 1] for level in high_resolution],
            )
            logits.append(masks)
            iou.append(quality[:, 0])
        return torch.cat(logits), torch.cat(iou)


class Times:
    """An observer that keeps seconds and losses of the Trainer's steps, the wait for data left out."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []

    def on_step(self, event: StepDone, state: TrainState) -> None:
        self.seconds.append(event.seconds - event.data_seconds)
        self.losses.append(event.losses["loss"])

    def on_epoch(self, *_: Any) -> None: ...

    def on_samples(self, *_: Any) -> None: ...


def compare(config: str, image_size: int, repetitions: int, *, bf16: bool) -> str:
    """Both train the same weights on the same batch, in turn: the plain step runs while the Trainer waits for data."""
    loss, batch, lr = make_loss(), make_batch(image_size), 1e-4
    plain = PlainLoop(make_model(config, image_size, loss), loss, lr, bf16=bf16)
    ours = make_model(config, image_size, loss)
    times, seconds, losses = Times(), [], []

    def batches(_epoch: int, _skip: int) -> Iterator[Batch]:
        for _ in range(WARM_UP + repetitions):
            started = time.perf_counter()
            losses.append(plain.step(batch))
            seconds.append(time.perf_counter() - started)
            yield batch

    optimizer = build_optimizer(ours, OptimizerChoice(lr=lr, arguments={"lr": lr}))
    settings = TrainerSettings(num_epochs=1, seed=0, precision="bf16" if bf16 else "fp32", num_samples=0)
    trainer = Trainer(ours, loss, optimizer, None, settings, Surroundings(observer=Observers((times,))))
    trainer.fit(batches, lambda: [batch])
    apart = max(abs(a - b) for a, b in zip(losses, times.losses, strict=True))
    name = f"{config.rpartition('/')[2].removesuffix('.yaml')} {image_size} px, {'bf16' if bf16 else 'fp32'}"
    line = ratio_line(name, seconds[WARM_UP:], times.seconds[WARM_UP:], "step")
    return f"{line}   losses at most {apart:.1e} apart"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="SAM 2.1 tiny at 512 px (minutes)")
    parser.add_argument("--repetitions", type=int, default=None, help="of each, in turn (default: 10, with --large 5)")
    given = parser.parse_args()
    config, size = ("configs/sam2.1/sam2.1_hiera_t.yaml", 512) if given.large else ("sam2_nano", 256)
    repetitions = given.repetitions or (5 if given.large else 10)
    say(machine_line())
    say(f"training step, {NUM_SLICES} slices of {NUM_INSTANCES} boxes, image encoder and mask decoder trained")
    for bf16 in (False, True):
        say(compare(config, size, repetitions, bf16=bf16))


if __name__ == "__main__":
    main()
