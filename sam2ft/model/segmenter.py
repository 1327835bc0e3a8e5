"""SAM 2 as a trainable segmentation model for slices: one encoder pass per slice, any number of prompts per slice."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sam2ft.config.schema.model_names import NANO, model_name
from sam2ft.core.errors import CheckpointError
from sam2ft.core.prompts import LOWER_RIGHT, UPPER_LEFT, Prompts
from sam2ft.model.attention import fastest_attention, windows_of
from sam2ft.model.encoder import BlockLevels, fused_convolutions, lateral, split_levels, trunk_levels
from sam2ft.model.features import Features
from sam2ft.model.nano import overrides as nano
from sam2ft.model.weights import load_weights, verified_nano_weights

# normalisation of stock inference for images in [0, 1] (sam2/utils/transforms.py)
IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FinetunedSAM2(nn.Module):
    """A stock SAM 2 model with a forward pass for training: `forward = decode(encode())`.

    Use `forward` for training: under DDP, `module.encode` would silently skip the averaging of gradients. `encode` and
    `decode` are for inference and for cached features.
    """

    sam2_model: Any  # the sam2 package is untyped
    mean_c11: Tensor
    sd_c11: Tensor
    block_levels: BlockLevels | None = None
    """Compiled form of the encoder's blocks (training/compiled_trunk.py); None: as they are."""

    def __init__(self, sam2_model: Any, image_size: int):
        super().__init__()
        self.sam2_model = sam2_model
        self.image_size = image_size
        self.register_buffer("mean_c11", torch.tensor(IMAGENET_MEAN).reshape(3, 1, 1), persistent=False)
        self.register_buffer("sd_c11", torch.tensor(IMAGENET_SD).reshape(3, 1, 1), persistent=False)

    def forward(self, images_bchw: Tensor, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Predict masks and IoU for n prompts on b slices.

        Args:
            images_bchw: (b, 1 or 3, image_size, image_size) in [0, 1].
            prompts: tensors in the MODEL frame on the same device; n prompts of many slices share one decoder batch.

        Returns:
            Logits (n, 1, image_size / 4, image_size / 4) in the decoder frame and predicted IoU (n,), both float32.
        """
        return self.decode(self.encode(images_bchw), prompts)

    def encode(self, images_bchw: Tensor) -> Features:
        """Image encoder features of b slices.

        Raises:
            ValueError: for images of another size or number of channels than the model accepts.
        """
        channels, height, width = images_bchw.shape[1:]
        if channels not in (1, 3) or (height, width) != (self.image_size, self.image_size):
            raise ValueError(
                f"images are {channels} x {height} x {width}, expected 1 or 3 x {self.image_size} x {self.image_size}"
            )
        normalised = (images_bchw.expand(-1, 3, -1, -1) - self.mean_c11) / self.sd_c11
        image_encoder = self.sam2_model.image_encoder
        with fastest_attention(images_bchw.device.type, windows_of(len(images_bchw), self.image_size)):
            levels = trunk_levels(image_encoder.trunk, normalised, self.block_levels)
        embedding, finer = split_levels(image_encoder, levels)
        if self.sam2_model.directly_add_no_mem_embed:
            embedding = embedding + self.sam2_model.no_mem_embed.reshape(1, -1, 1, 1)
        return Features(embedding, finer)

    def project(self, features: Features) -> Features:
        """Features after the 1x1 convolutions of neck and decoder.

        Call it once before decoding the prompts of a slice in chunks; projected features are returned unchanged.
        """
        if features.projected:
            return features
        decoder, neck = self.sam2_model.sam_mask_decoder, self.sam2_model.image_encoder.neck
        convolutions = (decoder.conv_s0, decoder.conv_s1) if self.sam2_model.use_high_res_features_in_sam else ()
        levels = enumerate(zip(convolutions, features.high_resolution, strict=bool(convolutions)))
        projected = [fused_convolutions(lateral(neck, level), conv, values) for level, (conv, values) in levels]
        return Features(features.embedding_bchw, tuple(projected), projected=True)

    def decode(self, features: Features, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Logits and predicted IoU as `forward` returns them, for n prompts on encoded slices."""
        features = self.project(features)
        if len(prompts) == 0:
            side, empty = 4 * features.embedding_bchw.shape[-1], features.embedding_bchw.new_zeros(0).float()
            return empty.reshape(0, 1, side, side), empty
        sparse, dense, positions = self._embed(prompts)
        groups = _token_groups(prompts, sparse.shape[1])
        if len(groups) == 1:
            return self._decode(features.select(prompts.slice_of_n), sparse[:, : groups[0][0]], dense, positions)
        parts, order = [], []
        for num_tokens, members in groups:
            index = copied_to(prompts.slice_of_n.device, torch.tensor(members))
            order.append(index)
            of_prompts = features.select(prompts.slice_of_n[index])
            parts.append(self._decode(of_prompts, sparse[index, :num_tokens], dense[index], positions))
        back = torch.cat(order).argsort()
        return torch.cat([logits for logits, _ in parts])[back], torch.cat([iou for _, iou in parts])[back]

    def _decode(self, of_prompts: Features, sparse: Tensor, dense: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """One call of stock's decoder, for prompts with the same number of tokens."""
        with fastest_attention(sparse.device.type):
            logits_n1hw, iou_n1, _, _ = self.sam2_model.sam_mask_decoder(
                image_embeddings=of_prompts.embedding_bchw,
                image_pe=positions,
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=False,
                repeat_image=False,
                high_res_features=list(of_prompts.high_resolution),
            )
        return logits_n1hw.float(), iou_n1[:, 0].float()

    def _embed(self, prompts: Prompts) -> tuple[Tensor, Tensor, Tensor]:
        """Sparse and dense embeddings of n prompts, and the position encoding of the image grid, in float32.

        Autocast is off: in bf16 a coordinate has only 8 bits, and the corners of a thin box at 1024 px become equal.
        """
        points, labels = _points_of(prompts)
        encoder = self.sam2_model.sam_prompt_encoder
        with torch.autocast(device_type=prompts.slice_of_n.device.type, enabled=False):
            sparse, dense = encoder(
                points=None if points is None else (points, labels), boxes=None, masks=prompts.masks_n1hw
            )
            if prompts.has_mask_n is not None:
                # As stock embeds a prompt without a mask. Both branches always stay in the graph: under DDP every
                # trained tensor must take part in every step.
                without = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
                dense = torch.where(prompts.has_mask_n[:, None, None, None], dense, without)
            return sparse, dense, encoder.get_dense_pe()


def _token_groups(prompts: Prompts, num_tokens: int) -> list[tuple[int, list[int]]]:
    """(number of tokens, positions of the prompts with that number): each group is one call of the decoder.

    Stock gives c points c + 1 tokens, where the last means "not a point" (prompt_encoder._embed_points: pad), and a
    mask alone none. Padding a point to the number of tokens of a box is not possible: the decoder attends to every
    token, so the mask of the point would change.
    """
    if prompts.num_points_n is None:
        return [(num_tokens, list(range(len(prompts))))]
    corners = 0 if prompts.boxes_n4 is None else 2
    tokens = [corners + count + 1 if corners + count else 0 for count in prompts.num_points_n]
    return [
        (wanted, [i for i, count in enumerate(tokens) if count == wanted])
        for wanted in sorted(set(tokens), reverse=True)
    ]


def copied_to(device: torch.device, on_host: Tensor) -> Tensor:
    """The tensor on a device; a GPU copies it from pinned memory, so that the host need not wait for it."""
    return (on_host.pin_memory() if device.type == "cuda" else on_host).to(device, non_blocking=True)


def _points_of(prompts: Prompts) -> tuple[Tensor | None, Tensor | None]:
    """All points of each prompt, box corners first as in stock: (n, k, 2) and labels (n, k)."""
    coordinates, labels = [], []
    if prompts.boxes_n4 is not None:
        corners = prompts.boxes_n4.float().reshape(-1, 2, 2)
        coordinates.append(corners)
        both = torch.arange(UPPER_LEFT, LOWER_RIGHT + 1, device=corners.device, dtype=torch.int32)
        labels.append(both.expand(len(corners), 2))
    if prompts.points_nk2 is not None:
        coordinates.append(prompts.points_nk2.float())
        labels.append(prompts.point_labels_nk.to(torch.int32))
    if not coordinates:
        if prompts.masks_n1hw is None:
            raise ValueError("prompts contain neither boxes nor points nor masks")
        return None, None
    return torch.cat(coordinates, dim=1), torch.cat(labels, dim=1)


def build_segmenter(
    sam2_model_cfg: str,
    *,
    image_size: int,
    checkpoint: Path | None,
    device: torch.device | str = "cpu",
    kept: Path | None = None,
) -> FinetunedSAM2:
    """Build a segmenter and load its weights; `sam2_nano` without a checkpoint uses the weights of the package.

    Args:
        kept: folder for converted copies of checkpoints of other programs (files/foreign.read_foreign).

    Raises:
        CheckpointError: for weights of another model or damaged ones, or without a checkpoint for a stock model.
    """
    if checkpoint is None:
        if sam2_model_cfg != NANO:
            raise CheckpointError(
                f"module.sam2_checkpoint: none given for {model_name(sam2_model_cfg)}; the package contains weights "
                f"only for {NANO}, `make weights` downloads the official ones"
            )
        checkpoint = verified_nano_weights()
    model = build_untrained(sam2_model_cfg, image_size=image_size)
    load_weights(model.sam2_model, checkpoint, kept)
    return model.to(device)


def build_untrained(
    sam2_model_cfg: str, *, image_size: int, seed: int = 0, overrides: tuple[str, ...] = ()
) -> FinetunedSAM2:
    """Build a segmenter with random weights from `seed`; the state of torch's global generator does not change.

    The schema says which names and image sizes are allowed (`module.sam2_model_cfg`, `module.image_size`).
    """
    from sam2.build_sam import build_sam2

    config, changes = (nano.BASE_CONFIG, nano.OVERRIDES) if sam2_model_cfg == NANO else (sam2_model_cfg, ())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # apply_postprocessing would enable dynamic multimask output in eval() only, so training and evaluation would
        # differ.
        sam2_model = build_sam2(
            config,
            ckpt_path=None,
            device="cpu",
            hydra_overrides_extra=[*changes, *overrides, f"++model.image_size={image_size}"],
            apply_postprocessing=False,
        )
    return FinetunedSAM2(sam2_model, image_size)
