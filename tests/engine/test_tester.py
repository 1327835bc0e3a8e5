"""Evaluation with a model whose answer is known: the inside of each box, as strong as its slice is bright there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sam2ft.core.errors import ConfigError, DataError
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.core.prompts import Prompts
from sam2ft.core.rows import stamped
from sam2ft.data.batch import to_model_frame
from sam2ft.data.slices import SliceView
from sam2ft.engine.composition import Composition
from sam2ft.engine.prompting import EvaluationChoice
from sam2ft.engine.tester import Tester
from sam2ft.metrics.measurement import ScoreSettings
from sam2ft.metrics.scoring import Scene

STUDY = SimpleNamespace(shifts=(0, 2, 4), seeds=(0, 1))
LABELS = LabelTable((Label(1, "bone"), Label(2, "disc")))


class BoxFiller(torch.nn.Module):
    """Logits 4 inside a box and -4 outside, in a decoder frame of the image's own size; counts its passes."""

    def __init__(self, image_size: int = 16):
        super().__init__()
        self.image_size = image_size
        self.num_encoded = 0
        self.decoded: list[int] = []

    def encode(self, images_bchw: Tensor) -> Tensor:
        self.num_encoded += len(images_bchw)
        return images_bchw

    def project(self, features: Tensor) -> Tensor:
        return features

    def decode(self, features: Tensor, prompts: Prompts) -> tuple[Tensor, Tensor]:
        self.decoded.append(len(prompts))
        logits = torch.full((len(prompts), 1, self.image_size, self.image_size), -4.0)
        if prompts.boxes_n4 is None:
            for number, (x, y) in enumerate(prompts.points_nk2[:, 0].round().long().tolist()):
                logits[number, 0, y, x] = 4.0
            return logits, torch.zeros(len(prompts))
        for number, (x0, y0, x1, y1) in enumerate(prompts.boxes_n4.round().long().tolist()):
            logits[number, 0, y0 : y1 + 1, x0 : x1 + 1] = 4.0
        return logits, torch.zeros(len(prompts))


@dataclass
class ArrayVolume:
    """A volume from a label map; its image is zero."""

    reference_zyx: Any
    key: VolumeKey = field(default_factory=lambda: VolumeKey("toy", "s1", "v1"))
    labels: LabelTable = LABELS

    @property
    def scene(self) -> Scene:
        return Scene(Geometry.axis_aligned(self.reference_zyx.shape, (2.0, 1.0, 1.0)), self.labels)

    def views(self, image_size: int, slices: Sequence[int], prefetch: int) -> Iterator[SliceView]:
        for index in slices:
            image = np.zeros(self.reference_zyx.shape[1:], dtype=np.float32)
            yield SliceView(self.key.slice(index), to_model_frame(image, image_size), self.reference_zyx[index])


def evaluator(model: Any, **section: Any) -> Tester:
    return Tester(model, EvaluationChoice(**section), (), ScoreSettings())


def rectangles(*slices: Sequence[tuple[int, int, int, int, int]]) -> Any:
    """uint8 (len(slices), 16, 16) of rectangles (label, x0, y0, x1, y1)."""
    mask = np.zeros((len(slices), 16, 16), dtype=np.uint8)
    for index, shapes in enumerate(slices):
        for label, x0, y0, x1, y1 in shapes:
            mask[index, y0 : y1 + 1, x0 : x1 + 1] = label
    return mask


def test_eight_boxes_on_one_slice_are_one_encoder_pass() -> None:
    eight = [(1 + n % 2, 4 * (n % 4), 8 * (n // 4), 4 * (n % 4) + 1, 8 * (n // 4) + 2) for n in range(8)]
    model = BoxFiller()
    (result,) = evaluator(model, prompt_chunk=3).evaluate_multilabel_test_set([ArrayVolume(rectangles(eight))])
    assert len(result.prompted) == 8
    assert model.num_encoded == 1
    assert model.decoded == [3, 3, 2]
    assert (result.label_map_zyx == rectangles(eight)).all()
    assert {row["dice"] for row in result.rows["instance"]} == {1.0}


def test_empty_slices_are_evaluated_without_an_encoder_pass_or_left_out_and_named() -> None:
    volume = ArrayVolume(rectangles([], [(1, 2, 2, 5, 5)], []))
    model = BoxFiller()
    everything = evaluator(model)
    (result,) = everything.evaluate([volume])
    assert model.num_encoded == 1
    assert [row["slice"] for row in result.rows["slice"]] == [0, 0, 1, 1, 2, 2]
    assert [row["status"] for row in result.rows["slice"]] == ["absent"] * 2 + ["ok", "absent"] + ["absent"] * 2
    filled = evaluator(model, include_empty_slices=False)
    (result,) = filled.evaluate([volume])
    assert [row["slice"] for row in result.rows["slice"]] == [1, 1]
    assert (everything.protocol, filled.protocol) == ("box", "box+nonempty")


def test_the_two_doors_prompt_components_and_whole_labels() -> None:
    volume = ArrayVolume(rectangles([(1, 0, 0, 3, 3), (1, 8, 8, 11, 11), (2, 0, 12, 2, 14)]))
    model = BoxFiller()
    (components,) = evaluator(model).evaluate_multilabel_test_set([volume])
    assert [(one.label, one.instance, tuple(one.box)) for one in components.prompted] == [
        (1, 1, (0, 0, 3, 3)), (1, 2, (8, 8, 11, 11)), (2, 1, (0, 12, 2, 14)),
    ]  # fmt: skip
    whole_labels = evaluator(model, instances="per_label")
    (labels,) = whole_labels.evaluate_single_label_test_set([volume])
    assert [(one.label, one.instance, tuple(one.box)) for one in labels.prompted] == [
        (1, 1, (0, 0, 11, 11)), (2, 1, (0, 12, 2, 14)),
    ]  # fmt: skip
    # One box around both squares fills 144 pixels, of which 32 are bone.
    assert (labels.label_map_zyx == 1).sum() == 144
    assert labels.rows["instance"][0]["dice"] == pytest.approx(2 * 32 / (144 + 32))
    assert whole_labels.protocol == "box_per_label"
    with pytest.raises(ValueError, match="per_label"):
        next(whole_labels.evaluate_multilabel_test_set([volume]))


def test_overlaps_go_to_the_largest_logit_and_a_label_is_the_union_of_its_instances() -> None:
    composed = Composition((1, 5), torch.device("cpu"))
    composed.add(1, torch.tensor([[3.0, 3.0, 1.0, -1.0, -9.0]]))
    composed.add(2, torch.tensor([[1.0, 5.0, 2.0, -2.0, 0.0]]))
    composed.add(1, torch.tensor([[-1.0, 4.0, 3.0, -1.0, 0.5]]))
    assert composed.label_map_yx.tolist() == [[1, 2, 1, 0, 1]]
    tied = Composition((1, 1), torch.device("cpu"))
    tied.add(2, torch.tensor([[1.0]]))
    tied.add(1, torch.tensor([[1.0]]))
    assert tied.label_map_yx.tolist() == [[2]]


def test_masks_come_back_on_the_original_grid_when_the_model_has_another() -> None:
    mask = np.zeros((1, 48, 32), dtype=np.uint8)
    mask[0, 12:36, 8:24] = 2
    (result,) = evaluator(BoxFiller(16)).evaluate([ArrayVolume(mask)])
    assert result.label_map_zyx.shape == (1, 48, 32)
    assert (result.label_map_zyx == mask).mean() > 0.97


def test_jitter_is_the_same_at_every_evaluation_and_boxes_only_grow() -> None:
    volume = ArrayVolume(rectangles([(1, 5, 5, 9, 9)], [(1, 5, 5, 9, 9)]))
    jittered = evaluator(BoxFiller(), bbox_shift=3)
    first, second = (next(jittered.evaluate([volume])) for _ in range(2))
    boxes = [tuple(one.box) for one in first.prompted]
    assert boxes == [tuple(one.box) for one in second.prompted]
    assert boxes[0] != boxes[1]
    assert all(2 <= x0 <= 5 and 2 <= y0 <= 5 and 9 <= x1 <= 12 and 9 <= y1 <= 12 for x0, y0, x1, y1 in boxes)
    assert jittered.protocol == "box_jitter(px=3,seed=0)"


def test_the_point_protocol_prompts_an_inner_pixel() -> None:
    (result,) = evaluator(BoxFiller(), protocol="point").evaluate([ArrayVolume(rectangles([(1, 4, 6, 8, 10)]))])
    assert np.argwhere(result.label_map_zyx[0] == 1).tolist() == [[8, 6]]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"protocol": "points", "prompt_noise": STUDY},
            "eval.prompt_noise: it moves boxes of protocol box, not of points",
        ),
        ({"protocol": "point", "bbox_shift": 2}, "eval.bbox_shift"),
    ],
)
def test_what_a_protocol_has_no_use_for_is_refused_by_name(section: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluator(BoxFiller(), **section)


def test_a_label_that_the_table_lacks_stops_with_the_volume_and_the_label() -> None:
    with pytest.raises(DataError, match=r"toy/s1/v1 slice 0: reference: label 7 is not in the label table"):
        next(evaluator(BoxFiller()).evaluate([ArrayVolume(rectangles([(7, 1, 1, 2, 2)]))]))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_precision_is_obeyed(precision: Any) -> None:
    seen = []

    class Probe(BoxFiller):
        def encode(self, images_bchw: Tensor) -> Tensor:
            seen.append((torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")))
            return super().encode(images_bchw)

    next(evaluator(Probe(), precision=precision).evaluate([ArrayVolume(rectangles([(1, 0, 0, 3, 3)]))]))
    assert seen == [(True, {"bf16": torch.bfloat16, "fp16": torch.float16}[precision])]


def test_wide_tables_have_one_column_per_label_name(tmp_path: Path) -> None:
    one = evaluator(BoxFiller())
    (result,) = one.evaluate([ArrayVolume(rectangles([(1, 0, 0, 3, 3), (2, 5, 5, 7, 7)], [(2, 5, 5, 7, 7)]))])
    tables = {
        name: stamped(rows, run="r", eval="e", split="test", protocol=one.protocol)
        for name, rows in result.rows.items()
    }
    files = Tester.save_metric_scores_to_csv(tmp_path, "dice", tables)
    assert [file.name for file in files] == ["slice_dice.csv", "volume_dice.csv"]
    assert files[0].read_text() == (
        "run,eval,dataset,subject,volume,split,protocol,slice,bone,disc\n"
        "r,e,toy,s1,v1,test,box,0,1.0,1.0\n"
        "r,e,toy,s1,v1,test,box,1,,1.0\n"
    )


def test_wide_biomarker_tables_have_reference_and_prediction_per_tissue(tmp_path: Path) -> None:
    key = {"run": "r", "eval": "e", "dataset": "d", "subject": "s", "volume": "v", "split": "test", "protocol": "box"}
    rows = [
        {
            **key, "label": label, "tissue": tissue, "instance": None, "biomarker": "t2", "definition": "mean",
            "unit": "ms", "reference": 40.0 + label, "prediction": float("nan"),
        }
        for label, tissue in ((2, "disc"), (1, "bone"))
    ]  # fmt: skip
    (file,) = Tester.save_custom_metric_scores(tmp_path, "t2", {"biomarker_volume": rows})
    assert file.name == "volume_t2.csv"
    assert file.read_text().splitlines() == [
        "run,eval,dataset,subject,volume,split,protocol,instance,definition,unit,"
        "bone reference,bone prediction,disc reference,disc prediction",
        "r,e,d,s,v,test,box,,mean,ms,41.0,,42.0,",
    ]
