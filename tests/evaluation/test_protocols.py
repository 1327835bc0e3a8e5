from types import SimpleNamespace

import numpy as np
import pytest

from sam2ft.config.schema.evaluation_checks import refuse_unsupported, unavailable_in_evaluation
from sam2ft.core.errors import ConfigError
from sam2ft.core.keys import SliceKey
from sam2ft.core.prompts import Box
from sam2ft.data.samples.instances import Instance
from sam2ft.evaluation.protocols import (
    EvaluationChoice,
    Jitter,
    model_frame_prompts,
    passes_of,
    prompt_box,
    protocol_name,
)


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        (EvaluationChoice(), "box"),
        (EvaluationChoice(bbox_shift=5), "box_jitter(px=5,seed=0)"),
        (EvaluationChoice(instances="per_label"), "box_per_label"),
        (EvaluationChoice(instances="per_label", bbox_shift=2), "box_jitter_per_label(px=2,seed=0)"),
        (EvaluationChoice(include_empty_slices=False), "box+nonempty"),
        (EvaluationChoice(bbox_shift=5, direction="both"), "box_jitter(px=5,seed=0,direction=both)"),
        (EvaluationChoice(direction="both"), "box"),
        (EvaluationChoice(protocol="point"), "point"),
        (EvaluationChoice(protocol="points", points_k=4), "points(k=4)"),
        (EvaluationChoice(protocol="points", instances="per_label"), "points_per_label(k=3)"),
        (EvaluationChoice(protocol="mask", include_empty_slices=False), "mask+nonempty"),
        (EvaluationChoice(protocol="boxes_file"), "boxes_file"),
    ],
)
def test_rows_name_the_protocol_with_its_parameters(choice: EvaluationChoice, name: str) -> None:
    assert protocol_name(choice) == name


def test_points_keep_their_pixel_centre_in_the_model_frame() -> None:
    mask = np.zeros((10, 20), dtype=bool)
    mask[4:7, 2:5] = True
    instance = Instance(1, 1, mask, Box(2, 4, 4, 6))
    prompts = model_frame_prompts(EvaluationChoice(protocol="point"), [instance], [instance.box], (10, 20), 40)
    # Pixel (3, 5) of 20 x 10 has its centre at (3.5, 5.5); times (2, 4) is (7, 22), the centre of pixel (6.5, 21.5).
    assert prompts.points_nk2.tolist() == [[[6.5, 21.5]]]
    assert prompts.point_labels_nk.tolist() == [[1]]
    assert prompts.boxes_n4 is None


def test_boxes_go_to_the_model_frame_as_the_resized_mask_would() -> None:
    mask = np.zeros((10, 20), dtype=bool)
    mask[4:7, 2:5] = True
    instance = Instance(1, 1, mask, Box(2, 4, 4, 6))
    prompts = model_frame_prompts(
        EvaluationChoice(), [instance, instance], [instance.box, Box(0, 0, 19, 9)], (10, 20), 40
    )
    assert prompts.boxes_n4.tolist() == [[4, 16, 9, 27], [0, 0, 39, 39]]


def test_jitter_is_keyed_by_slice_instance_and_seed() -> None:
    mask = np.zeros((50, 50), dtype=bool)
    mask[20:30, 20:30] = True
    instances = [Instance(1, number, mask, Box(20, 20, 29, 29)) for number in (1, 2)]
    keys = [SliceKey("d", "s", "v", index) for index in (0, 1)]
    boxes = [prompt_box(instance, key, Jitter(9, seed)) for instance in instances for key in keys for seed in (0, 1)]
    assert len(set(boxes)) == 8
    assert prompt_box(instances[0], keys[0], Jitter(9, 0)) == boxes[0]
    assert prompt_box(instances[0], keys[0], Jitter(0, 5)) == instances[0].box


def test_what_a_protocol_has_no_use_for_is_named_key_by_key() -> None:
    study = SimpleNamespace(shifts=(0, 2), seeds=(0,))
    evaluation = EvaluationChoice(protocol="mask", bbox_shift=3, prompt_noise=study)
    keys = [key for key, _ in unavailable_in_evaluation(evaluation)]
    assert keys == ["eval.bbox_shift", "eval.prompt_noise"]
    with pytest.raises(ConfigError, match=r"eval\.bbox_shift: it moves boxes of protocol box, not of mask"):
        refuse_unsupported(evaluation)
    for protocol in ("box", "point", "points", "mask", "boxes_file", "propagate"):
        refuse_unsupported(EvaluationChoice(protocol=protocol))
    refuse_unsupported(EvaluationChoice(bbox_shift=3, direction="both", prompt_noise=study))


def test_sides_that_move_both_ways_cover_the_whole_range_and_leave_a_box() -> None:
    mask = np.zeros((40, 40), dtype=bool)
    mask[10:20, 30:39] = True
    mask[10:11, 5:6] = True
    whole, pixel = Instance(1, 1, mask, Box(30, 10, 38, 19)), Instance(1, 2, mask, Box(5, 10, 5, 10))
    keys = [SliceKey("d", "s", "v", index) for index in range(400)]
    moved = np.array([prompt_box(whole, key, Jitter(3), "both") for key in keys]) - [30, 10, 38, 19]
    # The right side is one pixel from the border of the picture.
    assert moved.min(axis=0).tolist() == [-3, -3, -3, -3]
    assert moved.max(axis=0).tolist() == [3, 3, 1, 3]
    far = [prompt_box(one, key, Jitter(60), "both") for one in (whole, pixel) for key in keys]
    assert all(0 <= x0 <= x1 < 40 and 0 <= y0 <= y1 < 40 for x0, y0, x1, y1 in far)
    assert {box.x0 for box in far[:400]} >= {0, 34}


def test_passes_are_the_evaluation_itself_and_what_a_study_adds() -> None:
    study = SimpleNamespace(shifts=(0, 2, 5), seeds=(0, 1))
    assert passes_of(EvaluationChoice()) == (Jitter(0),)
    assert passes_of(EvaluationChoice(prompt_noise=study)) == (
        Jitter(0), Jitter(2, 0), Jitter(2, 1), Jitter(5, 0), Jitter(5, 1),
    )  # fmt: skip
    own = passes_of(EvaluationChoice(prompt_noise=study, bbox_shift=2))
    assert own == (Jitter(2, 0), Jitter(0), Jitter(2, 1), Jitter(5, 0), Jitter(5, 1))


def test_a_mask_is_given_as_stock_takes_it() -> None:
    mask = np.zeros((8, 8), dtype=bool)
    mask[:, :3] = True
    prompts = model_frame_prompts(
        EvaluationChoice(protocol="mask"), [Instance(1, 1, mask, Box(0, 0, 2, 7))], [], (8, 8), 16
    )
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
    prompts = model_frame_prompts(EvaluationChoice(protocol="points"), [pair, square], [], (9, 9), 9)
    assert prompts.points_nk2.tolist() == [[[1, 1], [2, 1], [0, 0]], [[6, 6], [5, 5], [7, 5]]]
    assert prompts.point_labels_nk.tolist() == [[1, 1, -1], [1, 1, 1]]
    assert prompts.num_points_n == (2, 3)
