"""Composition of the masks of all prompts into one label map (largest logit)."""

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor


class Composition:
    """One label map from overlapping masks: a pixel gets the label with the largest logit, if that is above 0.

    The masks of one label are therefore united (its logit is the maximum over its instances), and between labels
    neither the order nor the integer decides. For equal logits the label added first is kept.
    """

    def __init__(self, best_yx: Tensor, label_map_yx: Tensor):
        """Continue with these largest logits and labels; both tensors are written into."""
        self._best_yx, self.label_map_yx = best_yx, label_map_yx

    @classmethod
    def empty(cls, shape_yx: Sequence[int], device: torch.device) -> "Composition":
        """Return a composition without any label."""
        best_yx = torch.zeros(tuple(shape_yx), device=device)
        return cls(best_yx, torch.zeros_like(best_yx, dtype=torch.int32))

    def add(self, label: int, logits_yx: Tensor) -> None:
        """Add one instance of `label`. No indexing with a mask: a GPU's host would wait for the number of pixels."""
        self.label_map_yx.masked_fill_(logits_yx > self._best_yx, label)
        torch.maximum(self._best_yx, logits_yx, out=self._best_yx)

    def add_all(self, labels: Sequence[int], logits_nyx: Tensor) -> None:
        """Add every instance in order; consecutive instances of the same label are added in one step."""
        start = 0
        for label, same in groupby(labels):
            count = len(list(same))
            self.add(label, logits_nyx[start : start + count].amax(0))
            start += count
