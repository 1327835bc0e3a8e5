"""Protocol `point`: the pixel deepest inside each instance."""

from collections.abc import Sequence

import numpy as np

from sam2ft.core.prompts import INSIDE, PADDING, Prompts, points_to_model_frame
from sam2ft.data.samples.instances import interior_pixels
from sam2ft.evaluation.protocols.protocol import PromptProtocol, Target, one_slice


class PointPrompts(PromptProtocol):
    """Interior points of each instance."""

    @property
    def num_points(self) -> int:
        """Points per instance; a smaller instance has fewer."""
        return 1

    def prompts(self, targets: Sequence[Target], image_size: int) -> Prompts:
        height, width = targets[0].instance.mask_yx.shape
        points_n = [interior_pixels(one.instance, self.num_points) for one in targets]
        room = max(len(points) for points in points_n)
        points_nk2 = np.zeros((len(points_n), room, 2), dtype=np.float32)
        labels_nk = np.full((len(points_n), room), PADDING, dtype=np.int32)
        for number, points in enumerate(points_n):
            in_model = points_to_model_frame(points, height=height, width=width, image_size=image_size)
            points_nk2[number, : len(points)], labels_nk[number, : len(points)] = in_model, INSIDE
        counts = tuple(len(points) for points in points_n)
        of_each = None if set(counts) == {room} else counts
        return one_slice(targets, points_nk2=points_nk2, point_labels_nk=labels_nk, num_points_n=of_each)


PROTOCOL = PointPrompts
