"""Shared parts of the training benchmarks: settings, a batch, and the peer, a plain loop of stock SAM 2 calls."""

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from monai.losses import DiceLoss

from sam2ft.config.schema.model_names import NANO
from sam2ft.config.schema.module import Loss, Module, Trainable
from sam2ft.config.schema.optimizer import Optimizer
from sam2ft.core.keys import SliceKey
from sam2ft.core.prompts import boxes_to_model_frame
from sam2ft.data.samples.batch import Batch, Sample, collate, to_model_frame
from sam2ft.model.losses import SegmentationLoss, build_loss
from sam2ft.model.nano import overrides as nano
from sam2ft.model.segmenter import IMAGENET_MEAN, IMAGENET_SD, FinetunedSAM2, build_untrained
from sam2ft.model.trainable import freeze_unreachable, set_trainable
from sam2ft.training.optimizer import build_optimizer
from sam2ft.training.state import TrainerContext, TrainerSettings
from sam2ft.training.trainer import Trainer

SIDE = 320
"""Pixels per side of a generated slice: the original grid, on which the loss is computed."""
NUM_INSTANCES = 4
LEARNING_RATE = 1e-4
TINY = "configs/sam2.1/sam2.1_hiera_t.yaml"


class Setting(NamedTuple):
    """One row of the tables. Weights are random: speed and memory do not depend on them."""

    name: str
    config: str
    image_size: int
    num_slices: int
    repetitions: int


SETTINGS = (
    Setting("nano-256", NANO, 256, 4, 15),
    Setting("tiny-512", TINY, 512, 2, 5),
    Setting("tiny-1024", TINY, 1024, 1, 3),
)


def make_batch(image_size: int, num_slices: int) -> Batch:
    """Slices with four discs each."""
    rng = np.random.default_rng(0)
    y, x = np.indices((SIDE, SIDE))
    samples = []
    for number in range(num_slices):
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
    return build_loss(Loss())


def make_model(setting: Setting, loss: SegmentationLoss) -> FinetunedSAM2:
    """Model whose image encoder and mask decoder train, as far as the loss reaches."""
    model = build_untrained(setting.config, image_size=setting.image_size, seed=1)
    set_trainable(model, Trainable())
    freeze_unreachable(model, loss, {"box": 1.0})
    return model


def make_trainer(model: FinetunedSAM2, loss: SegmentationLoss, observer: Any, *, bf16: bool) -> Trainer:
    module = Module(sam2_model_cfg=NANO, num_epochs=1, optimizer=Optimizer(lr=LEARNING_RATE), clip_grad=None)
    settings = TrainerSettings(module, seed=0, precision="bf16" if bf16 else "fp32", num_samples=0)
    optimizer = build_optimizer(model, module.optimizer)
    return Trainer(model, loss, optimizer, None, settings, TrainerContext(observer=observer))


class PlainLoop:
    """Fast training loop of stock calls: build_sam2, forward_image once for the batch, then prompt encoder and decoder
    slice by slice with all boxes of the slice, as SAM2ImagePredictor calls them; MONAI's Dice and torch's BCE over the
    batch (its slices have one grid); AdamW with its defaults.
    """

    def __init__(self, sam2: Any, *, bf16: bool):
        self.sam2 = sam2.train()
        self.dice, self.bf16 = DiceLoss(sigmoid=True), bf16
        self.mean, self.sd = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_SD))
        trained = [tensor for tensor in self.sam2.parameters() if tensor.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE)

    def step(self, batch: Batch) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
            logits = self.forward(batch)
        references = torch.cat(batch.masks)[:, None].float()
        logits = F.interpolate(logits.float(), size=references.shape[2:], mode="bilinear", align_corners=False)
        loss = 0.5 * self.dice(logits, references) + 0.5 * F.binary_cross_entropy_with_logits(logits, references)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def forward(self, batch: Batch) -> torch.Tensor:
        images = (batch.images_bchw.expand(-1, 3, -1, -1) - self.mean) / self.sd
        *high_resolution, embedding = self.sam2.forward_image(images)["backbone_fpn"]
        embedding = embedding + self.sam2.no_mem_embed.reshape(1, -1, 1, 1)
        logits = []
        for number in range(len(images)):
            corners = batch.prompts.boxes_n4[batch.prompts.slice_of_n == number].reshape(-1, 2, 2)
            labels = torch.tensor([2, 3], dtype=torch.int32).expand(len(corners), 2)
            sparse, dense = self.sam2.sam_prompt_encoder(points=(corners, labels), boxes=None, masks=None)
            masks, _, _, _ = self.sam2.sam_mask_decoder(
                image_embeddings=embedding[number : number + 1],
                image_pe=self.sam2.sam_prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=False,
                repeat_image=True,
                high_res_features=[level[number : number + 1] for level in high_resolution],
            )
            logits.append(masks)
        return torch.cat(logits)


def stock_like(setting: Setting, model: FinetunedSAM2) -> Any:
    """Stock model with the weights of `model`; the same tensors train."""
    sam2 = stock_model(setting)
    sam2.load_state_dict(model.sam2_model.state_dict())
    for mine, other in zip(sam2.parameters(), model.sam2_model.parameters(), strict=True):
        mine.requires_grad_(other.requires_grad)
    return sam2


def stock_model(setting: Setting) -> Any:
    """Model from the stock builder; the nano is the stock tiny model with other sizes."""
    from sam2.build_sam import build_sam2

    config, changes = (nano.BASE_CONFIG, nano.OVERRIDES) if setting.config == NANO else (setting.config, ())
    return build_sam2(
        config,
        ckpt_path=None,
        device="cpu",
        hydra_overrides_extra=[*changes, f"++model.image_size={setting.image_size}"],
        apply_postprocessing=False,
    )
