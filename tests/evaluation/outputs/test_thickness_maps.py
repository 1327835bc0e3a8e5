"""Maps of thickness beside the predictions of an evaluation."""

from dataclasses import replace

import numpy as np
import pytest

from sam2ft.config.schema.datamodule import MetricSection
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.images.volumes import write_nifti
from sam2ft.data.store.store import Store
from sam2ft.data.store.writer import PreparedVolume, StoreWriter
from sam2ft.evaluation.outputs.thickness_maps import write_thickness_maps
from sam2ft.runs.layout import EvalLayout

SLICES = {"rows": [24] * 6, "columns": [28] * 6}
LABELS = LabelTable(
    (Label(1, "tibial plate", interface="bone"), Label(2, "bone"), Label(3, "absent", interface="bone"))
)


@pytest.fixture
def place(tmp_path):
    """(evaluation, store): a plate of 6 rows on bone, of which the prediction has 4."""
    mask = np.zeros((6, 24, 28), np.uint8)
    mask[:, :8], mask[:, 8:14] = 2, 1
    key = VolumeKey("toy", "a", "image")
    geometry = Geometry.axis_aligned(mask.shape, (3.0, 0.5, 0.4))
    writer = StoreWriter(tmp_path / "store", "toy", "knee", LABELS, split_seed=7)
    writer.write(PreparedVolume(key, geometry, mask.astype(np.uint16), mask, {}, (0.0, 1.0), SLICES, {}), source="test")
    writer.finish([key], {"a": "test"})
    evaluation = EvalLayout(tmp_path / "eval")
    predicted = np.where(np.arange(24)[:, None] < 12, mask, 0).astype(np.uint8)
    write_nifti(evaluation.prediction(key), predicted, geometry)
    return evaluation, Store.open(tmp_path / "store")


def test_every_plate_of_every_volume_has_its_map_as_numbers_and_as_a_mesh(place, capsys):
    evaluation, store = place
    write_thickness_maps(evaluation, store.volumes, {"toy": store}, MetricSection())
    folder = evaluation.prediction(store.volumes[0].key).parent
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == 3
    (npz,) = folder.glob("a__image.tibial*plate.thickness.npz")
    (ply,) = folder.glob("a__image.tibial*plate.thickness.ply")
    with np.load(npz, allow_pickle=False) as found:
        assert found["reference_mm_n"] == pytest.approx(3.0)
        assert found["prediction_mm_n"] == pytest.approx(2.0)
        assert len(found["vertices_ras_mm_n3"]) == len(found["areas_mm2_n"])
        assert found["faces_m3"].max() < len(found["areas_mm2_n"])
    assert ply.read_bytes().startswith(b"ply\nformat binary_little_endian 1.0\n")
    assert "1 thickness maps written" in capsys.readouterr().err


@pytest.mark.parametrize(("labelled", "count"), [((1, 3), 0), ((2, 3), 0), ((1, 2), 1)])
def test_a_plate_has_no_map_where_it_or_its_bone_was_not_drawn(place, labelled, count):
    evaluation, store = place
    records = [replace(record, labelled=labelled) for record in store.volumes]
    write_thickness_maps(evaluation, records, {"toy": store}, MetricSection())
    assert len(list(evaluation.folder.rglob("*.thickness.npz"))) == count


def test_only_the_tissues_asked_for_have_maps(place):
    evaluation, store = place
    write_thickness_maps(evaluation, store.volumes, {"toy": store}, MetricSection(tissues=(2, 3)))
    assert not list(evaluation.folder.rglob("*.thickness.*"))
