"""Protocol `box`: the bounding box of each instance, as it is or with its sides moved (jitter, noise study)."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from sam2ft.core.keys import SliceKey
from sam2ft.core.prompts import Prompts, boxes_to_model_frame, shifted_box
from sam2ft.data.samples.instances import keyed_rng
from sam2ft.evaluation.protocols.protocol import Jitter, PromptProtocol, Target, one_slice


class BoxPrompts(PromptProtocol):
    """A box per instance."""

    names_boxes = True

    @cached_property
    def passes(self) -> tuple[Jitter, ...]:
        """See PromptProtocol. Without a shift nothing is random, so all seeds are one pass."""
        own, study = Jitter(self.section.bbox_shift), self.section.prompt_noise
        asked = () if study is None else tuple(Jitter(px, seed) for px in study.shifts for seed in study.seeds)
        return tuple(dict.fromkeys(one if one.shift_px else Jitter() for one in (own, *asked)))

    def parameters(self, jitter: Jitter) -> list[str]:
        if not jitter.shift_px:
            return []
        both = ["direction=both"] if self.section.direction == "both" else []
        return [f"px={jitter.shift_px}", f"seed={jitter.seed}", *both]

    def moved(self, target: Target, key: SliceKey, jitter: Jitter) -> Target:
        """Return the target, each side of its box shifted by the jitter, which depends on (seed, slice, instance)."""
        instance, box = target
        if box is None or jitter.shift_px == 0:
            return target
        rng = keyed_rng("box", jitter.seed, 0, key, instance.label, instance.instance)
        shape_yx, direction = instance.mask_yx.shape, self.section.direction
        return Target(instance, shifted_box(box, shape_yx, shift_px=jitter.shift_px, rng=rng, direction=direction))

    def prompts(self, targets: Sequence[Target], image_size: int) -> Prompts:
        height, width = targets[0].instance.mask_yx.shape
        boxes_n4 = np.array([one.box for one in targets])
        in_model = boxes_to_model_frame(boxes_n4, height=height, width=width, image_size=image_size)
        return one_slice(targets, boxes_n4=in_model)


PROTOCOL = BoxPrompts
