"""Evaluation with a model whose answer is known: the inside of each box, as strong as its slice is bright there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.box_filler import BoxFiller
from torch import Tensor

from sam2ft.config.schema.evaluation import Evaluation, PromptNoise
from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.core.prompts import Box, Prompts
from sam2ft.core.tables.rows import Row, stamped
from sam2ft.data.samples.batch import to_model_frame
from sam2ft.data.samples.detections import DetectedBox
from sam2ft.data.samples.evaluation_slices import SliceView
from sam2ft.evaluation.prediction.composition import Composition
from sam2ft.evaluation.prediction.tester import Tester
from sam2ft.evaluation.protocols.boxes_file import DetectedBoxes
from sam2ft.evaluation.protocols.protocol import protocol_class
from sam2ft.metrics.factory import load_metrics
from sam2ft.metrics.measurement import ScoreSettings
from sam2ft.metrics.scoring import Scene

STUDY = PromptNoise(shifts=(0, 2, 4), seeds=(0, 1))
LABELS = LabelTable((Label(1, "bone"), Label(2, "disc")))


@dataclass
class ArrayVolume:
    """A volume from a label map; its image is zero."""

    reference_zyx: Any
    key: VolumeKey = field(default_factory=lambda: VolumeKey("toy", "s1", "v1"))
    labels: LabelTable = LABELS
    ids_zyx: Any = None

    @property
    def scene(self) -> Scene:
        geometry = Geometry.axis_aligned(self.reference_zyx.shape, (2.0, 1.0, 1.0))
        return Scene(geometry, self.labels, reference_instances_zyx=self.ids_zyx)

    def views(self, image_size: int, slices: Sequence[int], prefetch: int) -> Iterator[SliceView]:
        for index in slices:
            image = np.zeros(self.reference_zyx.shape[1:], dtype=np.float32)
            ids_yx = None if self.ids_zyx is None else self.ids_zyx[index]
            image_1hw = to_model_frame(image, image_size)
            yield SliceView(self.key.slice(index), image_1hw, self.reference_zyx[index], ids_yx)


def evaluator(model: Any, *, detections: Any = None, metrics: Any = (), **section: Any) -> Tester:
    if detections is not None:
        chosen = Evaluation(protocol="boxes_file", boxes_file=Path("boxes.csv"), **{"precision": "fp32"} | section)
        return Tester(model, DetectedBoxes(chosen, detections), metrics, ScoreSettings())
    chosen = Evaluation(**{"precision": "fp32"} | section)
    return Tester(model, protocol_class(chosen.protocol)(chosen), metrics, ScoreSettings())


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


def test_touching_instances_that_were_given_are_prompted_and_counted_apart() -> None:
    ids = rectangles([(7, 0, 0, 3, 3), (9, 4, 0, 7, 3), (7, 12, 12, 13, 13)], [(3, 1, 1, 2, 2)]).astype(np.uint16)
    mask = rectangles([(1, 0, 0, 7, 3), (1, 12, 12, 13, 13)], [(2, 1, 1, 2, 2)])
    (given,) = evaluator(BoxFiller()).evaluate([ArrayVolume(mask, ids_zyx=ids)])
    assert [(one.slice, one.label, one.instance, tuple(one.box)) for one in given.prompted] == [
        (0, 1, 7, (0, 0, 13, 13)), (0, 1, 9, (4, 0, 7, 3)), (1, 2, 3, (1, 1, 2, 2)),
    ]  # fmt: skip
    rows = {(row["slice"], row["label"]): row["num_instances"] for row in given.rows["slice"]}
    assert rows == {(0, 1): 2, (0, 2): 0, (1, 1): 0, (1, 2): 1}
    (whole,) = evaluator(BoxFiller(), instances="per_label").evaluate([ArrayVolume(mask, ids_zyx=ids)])
    assert [(one.slice, one.label, one.instance) for one in whole.prompted] == [(0, 1, 1), (1, 2, 1)]


def test_given_instances_in_a_slice_where_a_detector_found_nothing_are_missed_one_by_one() -> None:
    ids = rectangles([(1, 0, 0, 3, 3), (2, 4, 0, 7, 3)], [(5, 1, 1, 2, 2)]).astype(np.uint16)
    volume = ArrayVolume((ids > 0).astype(np.uint8), ids_zyx=ids)
    (result,) = evaluator(BoxFiller(), detections={}).evaluate([volume])
    found = [(row["slice"], row["instance"], row["status"]) for row in result.rows["instance"]]
    assert found == [(0, 1, "missed"), (0, 2, "missed"), (1, 5, "missed")]


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
    composed = Composition.empty((1, 5), torch.device("cpu"))
    composed.add(1, torch.tensor([[3.0, 3.0, 1.0, -1.0, -9.0]]))
    composed.add(2, torch.tensor([[1.0, 5.0, 2.0, -2.0, 0.0]]))
    composed.add(1, torch.tensor([[-1.0, 4.0, 3.0, -1.0, 0.5]]))
    assert composed.label_map_yx.tolist() == [[1, 2, 1, 0, 1]]
    tied = Composition.empty((1, 1), torch.device("cpu"))
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


def test_k_points_are_the_interior_ones_and_a_small_instance_has_fewer() -> None:
    volume = ArrayVolume(rectangles([(1, 4, 6, 8, 10), (2, 12, 1, 13, 1)]))
    points = evaluator(BoxFiller(), protocol="points", points_k=3)
    (result,) = points.evaluate([volume])
    assert np.argwhere(result.label_map_zyx[0] == 1).tolist() == [[7, 5], [7, 7], [8, 6]]
    assert np.argwhere(result.label_map_zyx[0] == 2).tolist() == [[1, 12], [1, 13]]
    assert points.protocol == "points(k=3)"
    assert {row["box"] for row in result.rows["instance"]} == {None}
    in_chunks = evaluator(BoxFiller(), protocol="points", points_k=3, prompt_chunk=1)
    assert (next(in_chunks.evaluate([volume])).label_map_zyx == result.label_map_zyx).all()


def test_the_mask_protocol_hands_over_the_reference() -> None:
    volume = ArrayVolume(rectangles([(1, 4, 4, 7, 11), (2, 8, 0, 15, 3)]))
    leaking = evaluator(BoxFiller(), protocol="mask")
    (result,) = leaking.evaluate([volume])
    assert (result.label_map_zyx == volume.reference_zyx).all()
    assert leaking.protocol == "mask"


def test_every_protocol_works_through_both_doors() -> None:
    volume = ArrayVolume(rectangles([(1, 0, 0, 3, 3), (1, 8, 8, 11, 11)]))
    boxes = {volume.key.slice(0): (DetectedBox(1, Box(0, 0, 3, 3)), DetectedBox(1, Box(8, 8, 11, 11)))}
    for protocol in ("box", "point", "points", "mask", "boxes_file"):
        given = {"detections": boxes} if protocol == "boxes_file" else {"protocol": protocol}
        per_label = evaluator(BoxFiller(), instances="per_label", **given)
        (result,) = per_label.evaluate_single_label_test_set([volume])
        assert [(one.label, one.instance) for one in result.prompted] == [(1, 1)]
        assert per_label.protocol.startswith(f"{protocol}_per_label")
        whole = {"box": 144, "point": 1, "points": 3, "mask": 32, "boxes_file": 144}[protocol]
        assert (result.label_map_zyx == 1).sum() == whole


def test_boxes_of_a_detector_find_miss_and_invent() -> None:
    volume = ArrayVolume(
        rectangles(
            [(1, 0, 0, 3, 3), (1, 8, 8, 11, 11), (2, 0, 12, 2, 14)],  # the first found, the second invented elsewhere
            [(1, 5, 5, 6, 6)],  # no box at all: missed
            [],  # a box where nothing is: spurious
            [],
        )
    )
    boxes = {
        volume.key.slice(0): (DetectedBox(1, Box(0, 0, 3, 2)), DetectedBox(1, Box(13, 0, 14, 1))),
        volume.key.slice(2): (DetectedBox(2, Box(4, 4, 5, 5)),),
        VolumeKey("toy", "other", "v1").slice(0): (DetectedBox(1, Box(0, 0, 9, 9)),),
    }
    model = BoxFiller()
    (result,) = evaluator(model, detections=boxes).evaluate([volume])
    assert model.num_encoded == 2
    rows = [
        (row["slice"], row["label"], row["instance"], row["box"], row["tp"], row["fp"], row["fn"], row["status"])
        for row in result.rows["instance"]
    ]
    assert rows == [
        (0, 1, 1, "0 0 3 2", 12, 0, 4, "ok"),
        (0, 1, 2, None, 0, 0, 16, "missed"),
        (0, 1, 3, "13 0 14 1", 0, 4, 0, "spurious"),
        (0, 2, 1, None, 0, 0, 9, "missed"),
        (1, 1, 1, None, 0, 0, 4, "missed"),
        (2, 2, 1, "4 4 5 5", 0, 4, 0, "spurious"),
    ]
    statuses = {(row["slice"], row["label"]): row["status"] for row in result.rows["slice"]}
    assert [statuses[key] for key in ((0, 1), (0, 2), (1, 1), (2, 2), (3, 1))] == [
        "ok", "missed", "missed", "spurious", "absent",
    ]  # fmt: skip
    nonempty = evaluator(BoxFiller(), detections=boxes, include_empty_slices=False)
    (result,) = nonempty.evaluate([volume])
    assert {row["slice"] for row in result.rows["instance"]} == {0, 1}


def without_specks(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "num_specks"}


def test_a_noise_study_encodes_each_slice_once_and_gives_what_single_evaluations_give() -> None:
    volume = ArrayVolume(rectangles([(1, 5, 5, 9, 9), (2, 1, 12, 4, 14)], [(1, 2, 3, 9, 9)], []))
    for direction in ("outward", "both"):
        model = BoxFiller()
        (result,) = evaluator(model, prompt_noise=STUDY, direction=direction).evaluate([volume])
        assert model.num_encoded == 2
        noise = result.rows["prompt_noise"]
        asked = [(0, None), (2, 0), (2, 1), (4, 0), (4, 1)]
        assert list(dict.fromkeys((row["shift_px"], row["seed"]) for row in noise)) == asked
        own = {"shift_px": 0, "seed": None, "protocol": "box"}
        assert noise[:2] == [without_specks(row) | own for row in result.rows["volume"]]
        for shift in (2, 4):
            (alone,) = evaluator(BoxFiller(), bbox_shift=shift, direction=direction).evaluate([volume])
            key = {"shift_px": shift, "seed": 0}
            key["protocol"] = evaluator(BoxFiller(), bbox_shift=shift, direction=direction).protocol
            of_seed = [row for row in noise if (row["shift_px"], row["seed"]) == (shift, 0)]
            assert of_seed == [without_specks(row) | key for row in alone.rows["volume"]]
            assert of_seed[0]["dice"] < 1
    without = evaluator(BoxFiller()).evaluate([volume])
    assert "prompt_noise" not in next(without).rows


def test_a_noise_study_measures_what_the_evaluation_measures_but_no_biomarkers() -> None:
    volume = ArrayVolume(rectangles([(1, 5, 5, 9, 9), (2, 1, 12, 4, 14)]))
    metrics = load_metrics({"hd95": True, "tissuevolume": True})
    (result,) = evaluator(BoxFiller(), prompt_noise=STUDY, metrics=metrics).evaluate([volume])
    assert all(row["hd95_mm"] > 0 for row in result.rows["prompt_noise"] if row["shift_px"] == 4)
    assert len(result.rows["biomarker_volume"]) == 4


def test_slices_of_a_volume_are_encoded_together_those_of_two_never() -> None:
    volumes = [ArrayVolume(rectangles(*[[(1, 5, 5, 9, 9)]] * count)) for count in (5, 1, 2)]
    model, alone = BoxFiller(), BoxFiller()
    together = list(evaluator(model, encode_batch=2).evaluate(volumes))
    assert model.encoded == [2, 2, 1, 1, 2]
    one_by_one = list(evaluator(alone).evaluate(volumes))
    assert alone.encoded == [1] * 8
    for first, second in zip(together, one_by_one, strict=True):
        assert (first.label_map_zyx == second.label_map_zyx).all()
        assert first.rows == second.rows


def test_prompts_of_a_batch_meet_the_features_of_their_own_slice() -> None:
    class Brightness(BoxFiller):
        def decode(self, features: Tensor, prompts: Prompts) -> tuple[Tensor, Tensor]:
            logits, iou = super().decode(features, prompts)
            dark = features[prompts.slice_of_n].mean((1, 2, 3)) < 0.5
            return torch.where(dark[:, None, None, None], -4.0, logits), iou

    class Lit(ArrayVolume):
        def views(self, image_size: int, slices: Sequence[int], prefetch: int) -> Iterator[SliceView]:
            for view in super().views(image_size, slices, prefetch):
                yield replace(view, image_1hw=torch.full_like(view.image_1hw, float(view.key.index in (1, 2))))

    volume = Lit(rectangles(*[[(1, 5, 5, 9, 9)]] * 5))
    for size in (1, 2, 4):
        (result,) = evaluator(Brightness(), encode_batch=size).evaluate([volume])
        assert [bool(mask_yx.any()) for mask_yx in result.label_map_zyx] == [False, True, True, False, False]


def test_scoring_beside_the_next_prediction_changes_neither_rows_nor_order() -> None:
    volumes = [ArrayVolume(rectangles([(1, n, 5, n + 4, 9)]), VolumeKey("toy", f"s{n}", "v")) for n in range(4)]
    plain, beside = evaluator(BoxFiller()), evaluator(BoxFiller())
    beside.scores_beside = True
    for first, second in zip(plain.evaluate(volumes), beside.evaluate(volumes), strict=True):
        assert (first.key, first.rows) == (second.key, second.rows)


def test_instances_added_together_are_as_those_added_in_turn() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels = sorted(rng.integers(1, 4, size=7).tolist())
        logits = torch.from_numpy(rng.integers(-3, 4, size=(7, 5, 6)).astype(np.float32))  # with many ties
        at_once, in_turn = (Composition.empty((5, 6), torch.device("cpu")) for _ in range(2))
        at_once.add_all(labels[:4], logits[:4])
        at_once.add_all(labels[4:], logits[4:])
        for label, logits_yx in zip(labels, logits, strict=True):
            in_turn.add(label, logits_yx)
        assert torch.equal(at_once.label_map_yx, in_turn.label_map_yx)


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
