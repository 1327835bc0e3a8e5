"""Protocol `points`: `eval.points_k` points inside each instance."""

from sam2ft.evaluation.protocols.point import PointPrompts
from sam2ft.evaluation.protocols.protocol import Jitter


class SeveralPoints(PointPrompts):
    """The deepest pixel, then one after another the pixel farthest from those before it."""

    @property
    def num_points(self) -> int:
        return self.section.points_k

    def parameters(self, _jitter: Jitter) -> list[str]:
        return [f"k={self.section.points_k}"]


PROTOCOL = SeveralPoints
