"""Every slice of a volume, in order, with its reference."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sam2ft.data.samples.batch import to_model_frame
from sam2ft.data.samples.evaluation_slices import volume_slices
from sam2ft.data.store.intensity import unit_image
from sam2ft.data.store.store import Store
from sam2ft.data.store.writer import PreparedVolume


@pytest.mark.parametrize("prefetch", [0, 1, 2, 9])
def test_all_slices_come_in_order_empty_ones_included(store: Store, prefetch: int) -> None:
    record = store.volumes[0]
    views = list(volume_slices(store, record, 64, prefetch=prefetch))
    assert [view.key for view in views] == [record.key.slice(i) for i in range(4)]
    assert views[2].image_1hw.shape == (1, 64, 64)
    assert np.array_equal(views[2].reference_yx, store.mask(record.key)[2])
    image_yx = unit_image(store.image(record.key)[2])
    assert torch.equal(views[2].image_1hw, to_model_frame(image_yx, 64))
    assert not views[0].reference_yx.any()


def test_prefetching_changes_nothing(store: Store) -> None:
    plain, ahead = (list(volume_slices(store, store.volumes[1], 64, prefetch=p)) for p in (0, 3))
    assert all(torch.equal(one.image_1hw, other.image_1hw) for one, other in zip(plain, ahead, strict=True))


def test_chosen_slices_come_in_the_order_asked_for(store: Store) -> None:
    views = volume_slices(store, store.volumes[0], 64, slices=(3, 1), prefetch=2)
    assert [view.key.index for view in views] == [3, 1]


def test_slices_are_made_when_asked_for(store: Store) -> None:
    views = volume_slices(store, store.volumes[0], 64)
    next(views)
    (store.path / "volumes" / "a__image.image.npy").unlink()
    from sam2ft.core.errors import DataError

    with pytest.raises(DataError):
        next(views)


def test_given_instances_come_with_their_slice(
    tmp_path: Path, prepared: Callable[..., PreparedVolume], write_store: Callable[..., Store], store: Store
) -> None:
    ids = np.zeros((4, 24, 32), dtype=np.uint16)
    ids[1, 2:6, 3:9] = 12
    given = write_store(tmp_path / "given", [prepared("a", instances_zyx=ids)])
    views = list(volume_slices(given, given.volumes[0], 64, prefetch=1))
    assert all(np.array_equal(view.instances_yx, ids[view.key.index]) for view in views)
    assert all(view.instances_yx is None for view in volume_slices(store, store.volumes[0], 64))
