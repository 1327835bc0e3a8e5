"""Quality of the nano model: mean slice Dice on unseen phantoms, and its README (model card)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sam2ft.core.files import sha256_file, write_json, write_text
from sam2ft.data.samples.batch import collate
from sam2ft.model.segmenter import FinetunedSAM2
from sam2ft.tools.nano_pictures import TrainingPicture, boxed, pictures_of

# Subjects that no training uses: the seed differs from those of the recipe and of all shipped experiments.
UNSEEN_SEED = 977_001
UNSEEN_SUBJECTS = 8
MEAN_AT_LEAST, LABEL_AT_LEAST = 0.80, 0.60
PHANTOMS = ("knee", "spine")

Measured = Mapping[str, Mapping[int, float]]
"""Phantom -> label -> mean slice Dice."""


@torch.inference_mode()
def slice_dice(model: FinetunedSAM2, slices: Sequence[TrainingPicture]) -> dict[int, float]:
    """Mean slice Dice per label on the ORIGINAL grid; one box per instance, overlaps go to the larger logit."""
    scores: dict[int, list[float]] = {}
    for picture in slices:
        batch = collate([boxed(picture, model.image_size)])
        logits_n1hw, _ = model(batch.images_bchw, batch.prompts)
        fine_nhw = torch.nn.functional.interpolate(
            logits_n1hw, size=picture.labels_yx.shape, mode="bilinear", align_corners=False
        )[:, 0]
        best_hw, which_hw = fine_nhw.max(dim=0)
        predicted = np.where((best_hw > 0).numpy(), batch.labels_n.numpy()[which_hw.numpy()], 0)
        for label in np.unique(batch.labels_n.numpy()).tolist():
            prediction, reference = predicted == label, picture.labels_yx == label
            dice = 2 * (prediction & reference).sum() / (prediction.sum() + reference.sum())
            scores.setdefault(label, []).append(float(dice))
    return {label: float(np.mean(values)) for label, values in sorted(scores.items())}


def evaluate_nano(
    model: FinetunedSAM2, *, subjects: int = UNSEEN_SUBJECTS, processes: int = 1
) -> dict[str, dict[int, float]]:
    """Phantom -> label -> mean slice Dice on subjects that no training used."""
    return {
        source: slice_dice(model, pictures_of(source, seed=UNSEEN_SEED, indices=range(subjects), processes=processes))
        for source in PHANTOMS
    }


def mean_over_labels(by_label: Mapping[int, float]) -> float:
    return float(np.mean(list(by_label.values())))


def shortfalls(measured: Measured) -> list[str]:
    """Messages for scores below the thresholds; empty when the model is good enough for tests and demos."""
    found = []
    for source, by_label in measured.items():
        mean = mean_over_labels(by_label)
        if mean < MEAN_AT_LEAST:
            found.append(f"{source}: mean slice Dice {mean:.3f} < {MEAN_AT_LEAST}")
        found += [
            f"{source}: label {label} has slice Dice {value:.3f} < {LABEL_AT_LEAST}"
            for label, value in by_label.items()
            if value < LABEL_AT_LEAST
        ]
    return found


README = """\
# sam2_nano: for tests and demos only

A SAM 2.1 of {parameters:,} parameters, trained from nothing by `make nano` on drawings of shapes and on generated knee
and spine phantoms. It has never seen a person's image and is of no use on one; it exists so that tests, demos and CI
run a real SAM 2 in seconds on a CPU.

- architecture: `overrides.py`, a stock configuration and a list of Hydra overrides; {side} px
- weights: `sam2_nano.safetensors`, 16 bit, sha256 `{sha256}`
- recipe, seed, versions and time of the training: `sam2_nano.json`
- trained: box prompts on single slices. Points, masks, several masks per prompt and memory are not trained.

Mean slice Dice on {subjects} unseen subjects of each phantom, one box per instance, on the original grid:

| phantom | mean over labels | by label |
|---|---|---|
{rows}
"""


def describe_quality(path: Path, model: FinetunedSAM2, measured: Measured, made: Mapping[str, Any]) -> None:
    """Write README.md and sam2_nano.json next to the weights at `path`; `made` has the recipe, versions and time."""
    sha256 = sha256_file(path)
    scores = {source: {str(label): value for label, value in values.items()} for source, values in measured.items()}
    rows = [
        f"| {source} | {mean_over_labels(values):.3f} | "
        + ", ".join(f"{label}: {value:.3f}" for label, value in values.items())
        + " |"
        for source, values in measured.items()
    ]
    text = README.format(
        parameters=sum(tensor.numel() for tensor in model.sam2_model.parameters()),
        side=model.image_size,
        sha256=sha256,
        subjects=UNSEEN_SUBJECTS,
        rows="\n".join(rows),
    )
    write_json(path.with_suffix(".json"), {"sha256": sha256, **made, "slice_dice": scores})
    write_text(path.parent / "README.md", text)
