"""Protocol `boxes_file`: the boxes of a detector, from a file, matched to the instances of the reference."""

from collections.abc import Collection

from sam2ft.config.schema.evaluation import Evaluation
from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.keys import SliceKey
from sam2ft.data.samples.detections import Detections, boxes_per_label, matched_boxes, read_detections
from sam2ft.evaluation.protocols.box import BoxPrompts
from sam2ft.evaluation.protocols.protocol import Target
from sam2ft.metrics.counts import LabelMap
from sam2ft.runs.stores import open_stores


class DetectedBoxes(BoxPrompts):
    """The boxes of a detector; an instance without a box is missed, a box without an instance is spurious."""

    def __init__(self, section: Evaluation, detections: Detections):
        super().__init__(section)
        self._detections = detections

    @classmethod
    def of(cls, experiment: Experiment) -> "DetectedBoxes":
        file = experiment.eval.boxes_file
        assert file is not None
        return cls(experiment.eval, read_detections(file, open_stores(experiment)))

    def is_prompted(self, key: SliceKey, *, labelled: bool) -> bool:
        return key in self._detections

    def targets(
        self, key: SliceKey, mask_yx: LabelMap, label_ids: Collection[int], ids_yx: LabelMap | None = None
    ) -> list[Target]:
        found = self._detections.get(key, ())
        boxes = found if self.section.instances == "per_instance" else boxes_per_label(found)
        height, width = mask_yx.shape
        pairs = matched_boxes(self.instances(mask_yx, label_ids, ids_yx), boxes, (height, width))
        return [Target(instance, box) for instance, box in pairs]


PROTOCOL = DetectedBoxes
