"""Names of protocols in tables, and what each of them prompts with."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam2ft.config.schema.evaluation import MADE_ELSEWHERE, PROTOCOLS, Evaluation, PromptNoise, protocol_headline
from sam2ft.core.keys import SliceKey
from sam2ft.core.prompts import Box
from sam2ft.data.samples.instances import Instance
from sam2ft.evaluation.protocols.box import BoxPrompts
from sam2ft.evaluation.protocols.mask import MaskPrompts
from sam2ft.evaluation.protocols.point import PointPrompts
from sam2ft.evaluation.protocols.points import SeveralPoints
from sam2ft.evaluation.protocols.protocol import Jitter, PromptProtocol, Target, VolumeProtocol, protocol_class


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ({}, "box"),
        ({"bbox_shift": 5}, "box_jitter(px=5,seed=0)"),
        ({"instances": "per_label"}, "box_per_label"),
        ({"instances": "per_label", "bbox_shift": 2}, "box_jitter_per_label(px=2,seed=0)"),
        ({"include_empty_slices": False}, "box+nonempty"),
        ({"bbox_shift": 5, "direction": "both"}, "box_jitter(px=5,seed=0,direction=both)"),
        ({"direction": "both"}, "box"),
        ({"protocol": "point"}, "point"),
        ({"protocol": "points", "points_k": 4}, "points(k=4)"),
        ({"protocol": "points", "instances": "per_label"}, "points_per_label(k=3)"),
        ({"protocol": "mask", "include_empty_slices": False}, "mask+nonempty"),
        ({"protocol": "propagate"}, "propagate(seed=largest)"),
    ],
)
def test_rows_name_the_protocol_with_its_parameters(section: Any, name: str) -> None:
    chosen = Evaluation(**section)
    assert protocol_class(chosen.protocol)(chosen).name() == name


def test_boxes_of_a_file_are_named_so() -> None:
    chosen = Evaluation(protocol="boxes_file", boxes_file=Path("boxes.csv"))
    assert protocol_class("boxes_file")(chosen, {}).name() == "boxes_file"  # type: ignore[call-arg]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_file_of_every_protocol_in_the_schema_defines_what_it_prompts(name: str) -> None:
    found = protocol_class(name)
    assert issubclass(found, PromptProtocol)
    base = VolumeProtocol if issubclass(found, VolumeProtocol) else PromptProtocol
    what = "predict" if base is VolumeProtocol else "prompts"
    assert getattr(found, what) is not getattr(base, what)
    assert "{" not in Evaluation.model_construct(protocol=name).prompted_with


def test_the_methods_text_says_what_has_a_prompt_and_which() -> None:
    def words(**section: Any) -> str:
        return Evaluation(**section).prompted_with

    component, label = "each connected component of each label", "each label of a slice"
    assert words() == f"the bounding box of {component} in the reference"
    assert words(protocol="points", points_k=4, instances="per_label") == f"4 points inside {label} of the reference"
    assert words(protocol="mask") == f"the reference mask of {component}"


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("instances", ["per_instance", "per_label"])
@pytest.mark.parametrize("empty", [True, False])
def test_every_name_in_tables_has_the_sentence_of_its_protocol_and_of_its_parameters(
    name: str, instances: Any, empty: bool
) -> None:
    section = Evaluation.model_construct(protocol=name, instances=instances, include_empty_slices=empty)
    sentence = protocol_headline(_named(section))
    assert sentence.startswith(PROTOCOLS[name].headline)
    assert ("one prompt for all of a label" in sentence) == (instances == "per_label")
    assert ("only in slices that hold a label" in sentence) != empty


def _named(section: Evaluation) -> str:
    found = protocol_class(section.protocol)
    given: tuple[Any, ...] = (section, {}) if section.protocol == "boxes_file" else (section,)
    return found(*given).name()


@pytest.mark.parametrize(("shift", "direction"), [(1, "outward"), (17, "both")])
def test_a_jittered_box_is_no_upper_bound(shift: int, direction: Any) -> None:
    sentence = protocol_headline(_named(Evaluation(bbox_shift=shift, direction=direction)))
    assert f"up to {shift} px" in sentence
    assert "upper bound" not in sentence


def test_numbers_from_the_reference_are_called_an_upper_bound_and_the_mask_no_evidence() -> None:
    for name in ("box", "point", "points(k=3)", "propagate(seed=middle)"):
        assert "an upper bound" in protocol_headline(name)
        assert "reference" in protocol_headline(name)
    assert "does not show" in protocol_headline("mask")
    assert "upper bound" not in protocol_headline("boxes_file")
    assert protocol_headline("masks") == protocol_headline("masks+nonempty") == MADE_ELSEWHERE


def test_points_keep_their_pixel_centre_in_the_model_frame() -> None:
    mask = np.zeros((10, 20), dtype=bool)
    mask[4:7, 2:5] = True
    instance = Instance(1, 1, mask, Box(2, 4, 4, 6))
    prompts = PointPrompts(Evaluation(protocol="point")).prompts([Target(instance, instance.box)], 40)
    # Pixel (3, 5) of 20 x 10 has its centre at (3.5, 5.5); times (2, 4) is (7, 22), the centre of pixel (6.5, 21.5).
    assert prompts.points_nk2.tolist() == [[[6.5, 21.5]]]
    assert prompts.point_labels_nk.tolist() == [[1]]
    assert prompts.boxes_n4 is None


def test_boxes_go_to_the_model_frame_as_the_resized_mask_would() -> None:
    mask = np.zeros((10, 20), dtype=bool)
    mask[4:7, 2:5] = True
    instance = Instance(1, 1, mask, Box(2, 4, 4, 6))
    targets = [Target(instance, instance.box), Target(instance, Box(0, 0, 19, 9))]
    prompts = BoxPrompts(Evaluation()).prompts(targets, 40)
    assert prompts.boxes_n4.tolist() == [[4, 16, 9, 27], [0, 0, 39, 39]]


def moved_box(instance: Instance, key: SliceKey, jitter: Jitter, direction: Any = "outward") -> Any:
    return BoxPrompts(Evaluation(direction=direction)).moved(Target(instance, instance.box), key, jitter).box


def test_jitter_is_keyed_by_slice_instance_and_seed() -> None:
    mask = np.zeros((50, 50), dtype=bool)
    mask[20:30, 20:30] = True
    instances = [Instance(1, number, mask, Box(20, 20, 29, 29)) for number in (1, 2)]
    keys = [SliceKey("d", "s", "v", index) for index in (0, 1)]
    boxes = [moved_box(instance, key, Jitter(9, seed)) for instance in instances for key in keys for seed in (0, 1)]
    assert len(set(boxes)) == 8
    assert moved_box(instances[0], keys[0], Jitter(9, 0)) == boxes[0]
    assert moved_box(instances[0], keys[0], Jitter(0, 5)) == instances[0].box


def test_sides_that_move_both_ways_cover_the_whole_range_and_leave_a_box() -> None:
    mask = np.zeros((40, 40), dtype=bool)
    mask[10:20, 30:39] = True
    mask[10:11, 5:6] = True
    whole, pixel = Instance(1, 1, mask, Box(30, 10, 38, 19)), Instance(1, 2, mask, Box(5, 10, 5, 10))
    keys = [SliceKey("d", "s", "v", index) for index in range(400)]
    moved = np.array([moved_box(whole, key, Jitter(3), "both") for key in keys]) - [30, 10, 38, 19]
    # The right side is one pixel from the border of the picture.
    assert moved.min(axis=0).tolist() == [-3, -3, -3, -3]
    assert moved.max(axis=0).tolist() == [3, 3, 1, 3]
    far = [moved_box(one, key, Jitter(60), "both") for one in (whole, pixel) for key in keys]
    assert all(0 <= x0 <= x1 < 40 and 0 <= y0 <= y1 < 40 for x0, y0, x1, y1 in far)
    assert {box.x0 for box in far[:400]} >= {0, 34}


def test_passes_are_the_evaluation_itself_and_what_a_study_adds() -> None:
    study = PromptNoise(shifts=(0, 2, 5), seeds=(0, 1))
    assert BoxPrompts(Evaluation()).passes == (Jitter(0),)
    assert BoxPrompts(Evaluation(prompt_noise=study)).passes == (
        Jitter(0), Jitter(2, 0), Jitter(2, 1), Jitter(5, 0), Jitter(5, 1),
    )  # fmt: skip
    own = BoxPrompts(Evaluation(prompt_noise=study, bbox_shift=2)).passes
    assert own == (Jitter(2, 0), Jitter(0), Jitter(2, 1), Jitter(5, 0), Jitter(5, 1))


def test_a_mask_is_given_as_stock_takes_it() -> None:
    mask = np.zeros((8, 8), dtype=bool)
    mask[:, :3] = True
    target = Target(Instance(1, 1, mask, Box(0, 0, 2, 7)), None)
    prompts = MaskPrompts(Evaluation(protocol="mask")).prompts([target], 16)
    # Four of two pixels each: all inside, half inside, none inside twice.
    assert prompts.masks_n1hw.tolist() == [[[[10.0, 0.0, -10.0, -10.0]] * 4]]
    assert prompts.boxes_n4 is None
    assert prompts.points_nk2 is None


def test_a_small_instance_gives_the_points_it_has() -> None:
    mask = np.zeros((9, 9), dtype=bool)
    mask[1, 1:3] = True
    mask[4:9, 4:9] = True
    pair, square = (
        Instance(1, 1, mask & (np.indices((9, 9))[0] < 3), Box(1, 1, 2, 1)),
        Instance(1, 2, mask & (np.indices((9, 9))[0] > 3), Box(4, 4, 8, 8)),
    )
    targets = [Target(pair, pair.box), Target(square, square.box)]
    prompts = SeveralPoints(Evaluation(protocol="points")).prompts(targets, 9)
    assert prompts.points_nk2.tolist() == [[[1, 1], [2, 1], [0, 0]], [[6, 6], [5, 5], [7, 5]]]
    assert prompts.point_labels_nk.tolist() == [[1, 1, -1], [1, 1, 1]]
    assert prompts.num_points_n == (2, 3)
