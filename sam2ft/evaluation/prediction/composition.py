"""How the masks of many prompts become one label map."""

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor


class Composition:
    """One label map out of overlapping masks: a pixel gets the label with the largest logit, if that is above 0.

    So the masks of one label unite (the label's logit is the largest of its instances'), and between labels neither the
    order nor the integer decides. Equal logits go to the label that came first.
    """

    def __init__(self, shape_yx: Sequence[int], device: torch.device):
        self._best_yx = torch.zeros(tuple(shape_yx), device=device)
        self.label_map_yx = torch.zeros(tuple(shape_yx), dtype=torch.int32, device=device)

    @classmethod
    def on(cls, best_yx: Tensor, label_map_yx: Tensor) -> "Composition":
        """One that goes on from the largest logits and labels so far, and writes into these tensors."""
        composition = cls.__new__(cls)
        composition._best_yx, composition.label_map_yx = best_yx, label_map_yx
        return composition

    def add(self, label: int, logits_yx: Tensor) -> None:
        # Not indexing by a mask: on a GPU the host would wait for the number of pixels.
        self.label_map_yx.masked_fill_(logits_yx > self._best_yx, label)
        torch.maximum(self._best_yx, logits_yx, out=self._best_yx)

    def add_all(self, labels: Sequence[int], logits_nyx: Tensor) -> None:
        """`add` of every instance in turn; instances of one label that follow each other are one step."""
        start = 0
        for label, same in groupby(labels):
            count = len(list(same))
            self.add(label, logits_nyx[start : start + count].amax(0))
            start += count
