"""What a volume may lack: values of its background, an optional map; and what then stands in the store."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sam2ft.config.load_dataset import load_dataset
from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.data.images.volumes import write_nifti
from sam2ft.data.prepare.prepare import PrepareSummary, prepare_dataset
from sam2ft.data.store.store import Store

GRID = Geometry.axis_aligned((3, 8, 10), (3.0, 0.5, 0.5))
Prepare = Callable[..., PrepareSummary]


@pytest.fixture
def prepare(tmp_path: Path) -> Prepare:
    """prepare(images=..., maps=..., more=...): a store of the subjects a and b; b has no map."""
    rng = np.random.default_rng(0)
    for subject in "ab":
        write_nifti(tmp_path / "i" / f"{subject}.nii.gz", rng.normal(100, 20, GRID.shape_zyx).astype(np.float32), GRID)
        write_nifti(tmp_path / "m" / f"{subject}.nii.gz", np.ones(GRID.shape_zyx, dtype=np.uint8), GRID)
    write_nifti(tmp_path / "t2" / "a.nii.gz", np.full(GRID.shape_zyx, 40, dtype=np.float32), GRID)

    def prepared(sources: str, more: str = "") -> PrepareSummary:
        (tmp_path / "d.yaml").write_text(
            f"dataset: {{name: toy}}\nsources: {{{sources}}}\nlabels: {{1: {{name: tissue}}}}\n"
            f"split: {{train: 1, val: 0, test: 0}}\n{more}\n"
        )
        return prepare_dataset(load_dataset(tmp_path / "d.yaml"), tmp_path, tmp_path / "store", lambda *_: None)

    return prepared


FILES = 'images: "i/{subject}.nii.gz", masks: "m/{subject}.nii.gz"'


def test_an_optional_map_may_be_missing(tmp_path: Path, prepare: Prepare) -> None:
    maps = 'maps: {t2: {file: "t2/{subject}.nii.gz", optional: true}}'
    summary = prepare(f"{FILES}, {maps}")
    assert [outcome.result for outcome in summary.outcomes] == ["stored", "stored"]
    assert [outcome.notes for outcome in summary.outcomes] == [(), ("has no map t2 (optional)",)]
    store = Store.open(tmp_path / "store")
    assert [record.maps for record in store.volumes] == [("t2",), ()]
    write_nifti(tmp_path / "t2" / "b.nii.gz", np.full(GRID.shape_zyx, 50, dtype=np.float32), GRID)
    assert [outcome.result for outcome in prepare(f"{FILES}, {maps}").outcomes] == ["unchanged", "stored"]


def test_a_map_that_is_not_optional_is_refused_with_the_key(prepare: Prepare) -> None:
    summary = prepare(f'{FILES}, maps: {{t2: "t2/{{subject}}.nii.gz"}}')
    (refused,) = summary.refused
    assert "no such file or folder; sources.maps.t2.optional: true prepares subjects without this map" in refused.reason


def test_an_empty_cell_of_a_table_is_an_optional_map(tmp_path: Path, prepare: Prepare) -> None:
    table = "subject,image,mask,map_t2\na,i/a.nii.gz,m/a.nii.gz,t2/a.nii.gz\nb,i/b.nii.gz,m/b.nii.gz,\n"
    (tmp_path / "t.csv").write_text(table)
    with pytest.raises(DataError, match=r"t\.csv:3: map_t2 is empty; sources\.maps\.t2\.optional: true allows it"):
        prepare("images: t.csv")
    assert len(prepare("images: t.csv, maps: {t2: {optional: true}}").outcomes) == 2
    assert [record.maps for record in Store.open(tmp_path / "store").volumes] == [("t2",), ()]


def test_a_changed_sidecar_prepares_its_map_again(tmp_path: Path, prepare: Prepare) -> None:
    sources = f'{FILES}, maps: {{t2: {{file: "t2/{{subject}}.nii.gz", optional: true}}}}'
    prepare(sources)
    (tmp_path / "t2" / "a.json").write_text('{"Units": "1/s"}')
    assert [outcome.result for outcome in prepare(sources).outcomes] == ["stored", "unchanged"]
    assert Store.open(tmp_path / "store").map(VolumeKey("toy", "a", "image"), "t2").min() == pytest.approx(25)


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_a_background_without_values_is_0_and_does_not_move_the_window(
    tmp_path: Path, prepare: Prepare, hole: float
) -> None:
    image = np.linspace(0, 100, 240, dtype=np.float32).reshape(GRID.shape_zyx)
    write_nifti(tmp_path / "i" / "a.nii.gz", image, GRID)
    image[0, :2] = hole
    write_nifti(tmp_path / "i" / "b.nii.gz", image, GRID)
    summary = prepare(FILES, "intensity: {clip_percentiles: [0, 100]}")
    note = "20 of 240 voxels have no value (NaN, infinite or padding); they are 0 in the store"
    assert summary.outcomes[1].notes == (note,)
    store = Store.open(tmp_path / "store")
    stored = store.image(VolumeKey("toy", "b", "image"))
    assert (stored[0, :2] == 0).all()
    low = float(image[0, 2, 0])
    assert stored[1, 0, 0] == pytest.approx(65535 * (float(image[1, 0, 0]) - low) / (100 - low), abs=1)


@pytest.mark.parametrize("intensity", ["{window: [-160, 240]}", "{zscore: [-3, 3]}", "{clip_percentiles: [1, 99]}"])
def test_another_window_prepares_again_and_the_default_written_out_does_not(prepare: Prepare, intensity: str) -> None:
    prepare(FILES)
    default = "intensity: {clip_percentiles: [0.5, 99.5]}"
    assert {outcome.result for outcome in prepare(FILES, default).outcomes} == {"unchanged"}
    assert {outcome.result for outcome in prepare(FILES, f"intensity: {intensity}").outcomes} == {"stored"}
