"""Objects of a volume, their seed slices, and protocol `propagate` through the Tester."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sam2ft.config.schema.evaluation import Evaluation
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.core.prompts import Box
from sam2ft.data.samples.batch import to_model_frame
from sam2ft.data.samples.evaluation_slices import SliceView
from sam2ft.evaluation.prediction.tester import Tester
from sam2ft.evaluation.protocols.propagate import Propagation, objects_of, seed_slice
from sam2ft.metrics.measurement import ScoreSettings
from sam2ft.metrics.scoring import Scene
from sam2ft.model import propagator
from sam2ft.model.propagator import SliceLogits

LABELS = LabelTable((Label(1, "bone"), Label(2, "disc")))


def blocks() -> Any:
    """(6, 16, 16): label 1 moves through slices 1 to 3 and has a pixel apart in slice 4; label 2: slices 3, 4."""
    mask = np.zeros((6, 16, 16), dtype=np.uint8)
    mask[1, 2:4, 2:4] = 1
    mask[2, 4:7, 4:8] = 1
    mask[3, 7:9, 8:14] = 1
    mask[4, 0, 0] = 1
    mask[3:5, 12:15, 1:4] = 2
    return mask


class Volume:
    """The blocks; its image is zero."""

    key = VolumeKey("toy", "s1", "v1")
    reference_zyx = blocks()
    scene = Scene(Geometry.axis_aligned((6, 16, 16), (2.0, 1.0, 1.0)), LABELS)

    def views(self, image_size: int, slices: Sequence[int], prefetch: int) -> Iterator[SliceView]:
        for index in slices:
            image = to_model_frame(np.zeros((16, 16), dtype=np.float32), image_size)
            yield SliceView(self.key.slice(index), image, self.reference_zyx[index])


class BoxCarrier:
    """Finds in every slice the box of the seed, the more surely the nearer the seed is."""

    chunks: list[int]

    def __init__(self, model: Any):
        self.asked: list[Any] = model.asked

    def propagate(
        self,
        images: Any,
        seeds: Sequence[Any],
        shape_zyx: tuple[int, int, int],
        *,
        object_chunk: int,
        object_batch: int,
    ) -> Iterator[SliceLogits]:
        self.asked += [(seed.slice, tuple(seed.box)) for seed in seeds]
        assert [image.shape for image in images([5, 0])] == [(1, 32, 32)] * 2
        assert (object_chunk, object_batch) == (3, 2)
        for index in range(shape_zyx[0]):
            logits = torch.full((len(seeds), *shape_zyx[1:]), -4.0)
            for number, seed in enumerate(seeds):
                x0, y0, x1, y1 = seed.box
                logits[number, y0 : y1 + 1, x0 : x1 + 1] = 8.0 - abs(index - seed.slice)
            yield SliceLogits(index, tuple(seed.object_id for seed in seeds), logits)


class Asked(torch.nn.Module):
    image_size = 32

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Any] = []

    def encode(self, images_bchw: Tensor) -> Any: ...
    def project(self, features: Any) -> Any: ...
    def decode(self, features: Any, prompts: Any) -> Any: ...


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(propagator, "Propagator", BoxCarrier)

    def evaluate(**section: Any) -> tuple[list[Any], Any]:
        model = Asked()
        chosen = Evaluation(protocol="propagate", prompt_chunk=3, object_batch=2, precision="fp32", **section)
        (result,) = Tester(model, Propagation(chosen), (), ScoreSettings()).evaluate([Volume()])
        return model.asked, result

    return evaluate


def test_objects_are_3d_components_seeded_on_their_largest_slice() -> None:
    objects = objects_of(blocks(), LABELS.ids, "per_instance", "largest")
    assert [(one.label, one.instance, one.seed_slice, one.box) for one in objects.listed] == [
        (1, 1, 2, Box(4, 4, 7, 6)), (1, 2, 4, Box(0, 0, 0, 0)), (2, 1, 3, Box(1, 12, 3, 14)),
    ]  # fmt: skip
    assert [(objects.number_zyx == number).sum() for number in (1, 2, 3)] == [4 + 12 + 12, 1, 18]
    assert ((objects.number_zyx > 0) == (blocks() > 0)).all()


def test_all_of_a_label_is_one_object_where_labels_are_prompted() -> None:
    objects = objects_of(blocks(), LABELS.ids, "per_label", "middle")
    assert [(one.label, one.instance, one.seed_slice) for one in objects.listed] == [(1, 1, 2), (2, 1, 3)]
    assert (objects.number_zyx == blocks()).all()


@pytest.mark.parametrize(
    ("ids_of_slices", "expected"),
    [
        # The component of slices 1 to 3 is two instances; the pixel of slice 4 belongs to the first.
        ({1: 5, 2: 5, 3: 9, 4: 5}, [(5, 2), (9, 3)]),
        # Both components are one instance.
        ({1: 3, 2: 3, 3: 3, 4: 3}, [(3, 2)]),
        # Ids run against the order of the slices.
        ({1: 300, 2: 200, 3: 100, 4: 1}, [(1, 4), (100, 3), (200, 2), (300, 1)]),
    ],
)
def test_given_instances_are_objects(ids_of_slices: dict[int, int], expected: list[tuple[int, int]]) -> None:
    ids = np.zeros(blocks().shape, dtype=np.uint16)
    for index, number in ids_of_slices.items():
        ids[index][blocks()[index] == 1] = number
    ids[blocks() == 2] = 2
    objects = objects_of(blocks(), LABELS.ids, "per_instance", "largest", ids)
    found = [(one.label, one.instance, one.seed_slice) for one in objects.listed]
    assert found == [(1, *one) for one in expected] + [(2, 2, 3)]
    for number, one in enumerate(objects.listed, start=1):
        assert ((objects.number_zyx == number) == ((ids == one.instance) & (blocks() == one.label))).all()
    whole = objects_of(blocks(), LABELS.ids, "per_label", "middle", ids)
    assert [(one.label, one.instance) for one in whole.listed] == [(1, 1), (2, 1)]


def test_a_volume_without_labels_has_no_objects() -> None:
    assert objects_of(np.zeros((2, 4, 4), dtype=np.uint8), LABELS.ids, "per_instance", "largest").listed == ()


@pytest.mark.parametrize(
    ("areas", "largest", "middle"), [([0, 5, 9, 9, 1], 2, 2), ([7, 0, 0, 1, 1, 1], 0, 3), ([0, 0, 3], 2, 2)]
)
def test_ties_of_seed_slices_go_to_the_lower_index(areas: list[int], largest: int, middle: int) -> None:
    assert (seed_slice(np.array(areas), "largest"), seed_slice(np.array(areas), "middle")) == (largest, middle)


def test_masks_are_composed_by_logits_and_scored_in_every_slice(evaluated: Any) -> None:
    asked, result = evaluated()
    assert asked == [(2, (4, 4, 7, 6)), (4, (0, 0, 0, 0)), (3, (1, 12, 3, 14))]
    for index in range(6):
        expected = np.zeros((16, 16), dtype=np.uint8)
        expected[4:7, 4:8], expected[0, 0], expected[12:15, 1:4] = 1, 1, 2
        assert (result.label_map_zyx[index] == expected).all()
    assert result.label_map_zyx.dtype == np.uint8
    # What runs beyond the object's ends counts, in slices without reference too.
    spurious = [row for row in result.rows["slice"] if row["slice"] == 5]
    assert [(row["label"], row["fp"], row["status"]) for row in spurious] == [(1, 13, "spurious"), (2, 9, "spurious")]


def test_an_instance_row_is_an_object_in_a_slice(evaluated: Any) -> None:
    _, result = evaluated()
    rows = {(row["label"], row["instance"], row["slice"]): row for row in result.rows["instance"]}
    assert len(rows) == len(result.rows["instance"]) == 18
    seeded = rows[1, 1, 2]
    assert (seeded["box"], seeded["dice"], seeded["status"]) == ("4 4 7 6", 1.0, "ok")
    carried = rows[1, 1, 1]
    assert (carried["box"], carried["tp"], carried["fp"], carried["fn"]) == (None, 0, 12, 4)
    assert [rows[1, 2, index]["status"] for index in range(6)] == ["spurious"] * 4 + ["ok", "spurious"]


def test_slices_without_reference_are_carried_through_and_not_scored_when_left_out(evaluated: Any) -> None:
    _, result = evaluated(include_empty_slices=False)
    assert {row["slice"] for row in result.rows["slice"]} == {row["slice"] for row in result.rows["instance"]}
    assert {row["slice"] for row in result.rows["slice"]} == {1, 2, 3, 4}


def test_tables_name_the_protocol_with_its_seed() -> None:
    def name(**section: Any) -> str:
        return Propagation(Evaluation(protocol="propagate", **section)).name()

    assert name() == "propagate(seed=largest)"
    assert name(propagate_seed="middle", include_empty_slices=False) == "propagate(seed=middle)+nonempty"
    assert name(instances="per_label") == "propagate_per_label(seed=largest)"
