"""Protocol `mask`: the reference mask of each instance, which measures how well the model preserves a mask."""

from collections.abc import Sequence

import numpy as np

from sam2ft.core.prompts import Prompts
from sam2ft.evaluation.protocols.protocol import PromptProtocol, Target, one_slice


class MaskPrompts(PromptProtocol):
    """A mask per instance."""

    def prompts(self, targets: Sequence[Target], image_size: int) -> Prompts:
        # Imported here because resizing a mask needs torch.
        from sam2ft.data.samples.dataset import mask_logits

        logits = np.stack([mask_logits(one.instance.mask_yx, image_size // 4) for one in targets])
        return one_slice(targets, masks_n1hw=logits[:, None])


PROTOCOL = MaskPrompts
