from types import SimpleNamespace

import numpy as np
import pytest

from sam2ft.core.errors import ConfigError
from sam2ft.core.keys import SliceKey
from sam2ft.core.prompts import Box
from sam2ft.data.prompts import Instance
from sam2ft.engine.prompting import (
    EvaluationChoice,
    interior_point,
    model_frame_prompts,
    prompt_box,
    protocol_name,
)
from sam2ft.engine.unsupported import refuse_unsupported, unavailable


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        (EvaluationChoice(), "box"),
        (EvaluationChoice(bbox_shift=5), "box_jitter(px=5,seed=0)"),
        (EvaluationChoice(instances="per_label"), "box_per_label"),
        (EvaluationChoice(instances="per_label", bbox_shift=2), "box_jitter_per_label(px=2,seed=0)"),
        (EvaluationChoice(include_empty_slices=False), "box+nonempty"),
        (EvaluationChoice(protocol="point"), "point"),
    ],
)
def test_rows_name_the_protocol_with_its_parameters(choice: EvaluationChoice, name: str) -> None:
    assert protocol_name(choice) == name


def picture(text: str) -> np.ndarray:
    return np.array([[character == "#" for character in line] for line in text.split()])


def test_the_interior_point_is_off_the_border_and_next_to_the_centroid() -> None:
    # 63 pixels with their centroid at (4, 279 / 63 = 4.43), between the arms. Off the border, (2, 6) and (6, 6) are
    # nearest (2.53 px), before (4, 7) (2.57 px); the first in raster order is taken.
    horseshoe = picture("###...### " * 6 + "######### " * 3)
    assert not horseshoe[4, 4]
    assert interior_point(horseshoe) == (2, 6)
    assert interior_point(picture("..... .###. .###. .###. .....")) == (2, 2)


def test_a_mask_one_pixel_thick_gives_a_pixel_of_its_own() -> None:
    assert interior_point(picture("....... .#####. .......")) == (3, 1)


def test_points_keep_their_pixel_centre_in_the_model_frame() -> None:
    mask = np.zeros((10, 20), dtype=bool)
    mask[4:7, 2:5] = True
    instance = Instance(1, 1, mask, Box(2, 4, 4, 6))
    prompts = model_frame_prompts("point", [instance], [instance.box], (10, 20), 40)
    # Pixel (3, 5) of 20 x 10 has its centre at (3.5, 5.5); times (2, 4) is (7, 22), the centre of pixel (6.5, 21.5).
    assert prompts.points_nk2.tolist() == [[[6.5, 21.5]]]
    assert prompts.point_labels_nk.tolist() == [[1]]
    assert prompts.boxes_n4 is None


def test_boxes_go_to_the_model_frame_as_the_resized_mask_would() -> None:
    mask = np.zeros((10, 20), dtype=bool)
    mask[4:7, 2:5] = True
    instance = Instance(1, 1, mask, Box(2, 4, 4, 6))
    prompts = model_frame_prompts("box", [instance, instance], [instance.box, Box(0, 0, 19, 9)], (10, 20), 40)
    assert prompts.boxes_n4.tolist() == [[4, 16, 9, 27], [0, 0, 39, 39]]


def test_jitter_is_keyed_by_slice_instance_and_seed() -> None:
    mask = np.zeros((50, 50), dtype=bool)
    mask[20:30, 20:30] = True
    instances = [Instance(1, number, mask, Box(20, 20, 29, 29)) for number in (1, 2)]
    keys = [SliceKey("d", "s", "v", index) for index in (0, 1)]
    boxes = [
        prompt_box(instance, key, shift_px=9, seed=seed) for instance in instances for key in keys for seed in (0, 1)
    ]
    assert len(set(boxes)) == 8
    assert prompt_box(instances[0], keys[0], shift_px=9, seed=0) == boxes[0]
    assert prompt_box(instances[0], keys[0], shift_px=0, seed=5) == instances[0].box


def test_what_this_version_lacks_is_named_key_by_key() -> None:
    evaluation = EvaluationChoice(protocol="mask")
    own, other = SimpleNamespace(stats_metadata_file=None), SimpleNamespace(stats_metadata_file="meta.json")
    keys = [key for key, _ in unavailable(evaluation, other)]
    assert keys == ["datamodule.stats_metadata_file", "eval.protocol"]
    with pytest.raises(ConfigError, match=r"eval\.protocol: mask"):
        refuse_unsupported(evaluation, own)
    refuse_unsupported(EvaluationChoice(), own)
