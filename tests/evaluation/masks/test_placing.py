"""Masks made elsewhere on one grid: cropped references, shares of both masks, label folders, resampled series."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
import pytest

from sam2ft.config.load_dataset import load_dataset
from sam2ft.config.schema.dataset import Reading
from sam2ft.config.schema.evaluation import Evaluation
from sam2ft.core.errors import DataError
from sam2ft.core.files import read_json
from sam2ft.core.geometry import Geometry
from sam2ft.data.images.volumes import read_volume, write_nifti
from sam2ft.data.prepare.prepare import prepare_dataset
from sam2ft.data.store.store import Store
from sam2ft.evaluation.masks.score import Scored, score_pair, score_store
from sam2ft.evaluation.masks.settings import Scoring

AFFINE = np.diag([0.5, 0.5, 3.0, 1.0])
BOX = (slice(3, 8), slice(12, 24), slice(10, 22))
RESAMPLE = Scoring(Evaluation(qc_slices=0), resample=True)
NO_PICTURES = Scoring(Evaluation(qc_slices=0))


def box(shape=(12, 40, 36), where=BOX) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[where] = 1
    return mask


def too_much() -> np.ndarray:
    """The box and, outside of it, another one."""
    mask = box()
    mask[3:8, 28:38, 10:22] = 1
    return mask


def write(path: Path, mask: np.ndarray, begin_zyx=(0.0, 0.0, 0.0), affine=AFFINE) -> Path:
    """`mask` as a file, beginning at a voxel of the lattice of `affine`."""
    there = np.eye(4)
    there[:3, 3] = begin_zyx[::-1]
    write_nifti(path, mask, Geometry.from_affine(mask.shape, affine @ there))
    return path


def crop(path: Path, mask: np.ndarray, where: tuple[slice, ...], aside=0.0, spacing=None, turned=False) -> Path:
    """The part `where` of a mask as 3D Slicer writes it."""
    begin = np.array([one.start for one in where[::-1]]) + aside
    part, axes = mask[where].transpose(2, 1, 0), np.diag(np.diag(AFFINE)[:3] if spacing is None else spacing)
    origin = np.diag(AFFINE)[:3] * begin
    if turned:  # columns from the other side
        origin[0] += axes[0, 0] * (part.shape[0] - 1)
        part, axes = part[::-1], axes * np.array([[-1], [1], [1]])
    header = {"space": "right-anterior-superior", "space directions": axes, "space origin": origin}
    header |= {"Segment0_ID": "Segment_1", "Segment0_Name": "tissue", "Segment0_LabelValue": "1"}
    nrrd.write(str(path), part, header)
    return path


def dice(found: Scored) -> float:
    (row,) = found.tables["volume"]
    return float(row["dice"])


def true_dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


MARGINS = {
    "tight": (BOX, 0.0, False),
    "with a margin": ((slice(2, 9), slice(10, 26), slice(0, 36)), 0.0, False),
    "0.05 voxel beside": (BOX, np.array([0.05, 0.05, 0.005]), False),
    "turned": (BOX, 0.0, True),
}


@pytest.mark.parametrize("scoring", [NO_PICTURES, RESAMPLE], ids=["", "--resample"])
@pytest.mark.parametrize("case", MARGINS)
def test_a_cropped_reference_counts_what_is_predicted_outside_of_it(tmp_path: Path, case: str, scoring: Scoring):
    where, aside, turned = MARGINS[case]
    reference = crop(tmp_path / "r.seg.nrrd", box(), where, aside, turned=turned)
    found = score_pair(reference, write(tmp_path / "p.nii.gz", too_much()), out=tmp_path / "out", scoring=scoring)
    (row,) = found.tables["volume"]
    assert row["dice"] == pytest.approx(true_dice(box(), too_much())) == pytest.approx(12 / 17)
    assert (row["tp"], row["fp"], row["num_slices"]) == (5 * 12 * 12, 5 * 10 * 12, 12)
    assert row["tp"] + row["fp"] + row["fn"] + row["tn"] == box().size
    notes = read_json(tmp_path / "out" / "_SUCCESS")["notes"]
    assert any("the reference is cropped to its segments" in note for note in notes)
    assert not any("image" in note for note in notes)


@pytest.mark.parametrize("shift", [1, 3, 14])
@pytest.mark.parametrize("margin", [0, 2])
def test_two_cropped_masks_are_compared_on_a_grid_of_both(tmp_path: Path, shift: int, margin: int):
    moved = np.roll(box(), shift, axis=1)
    there = (BOX[0], slice(12 + shift - margin, 24 + shift + margin), BOX[2])
    reference, prediction = crop(tmp_path / "r.seg.nrrd", box(), BOX), crop(tmp_path / "p.seg.nrrd", moved, there)
    assert dice(score_pair(reference, prediction, out=tmp_path / "out")) == pytest.approx(true_dice(box(), moved))


@pytest.mark.parametrize(("aside", "spacing"), [(0.5, None), (0.2, None), (0.0, (0.5, 0.6, 3.0)), (9e5, None)])
@pytest.mark.parametrize("scoring", [NO_PICTURES, RESAMPLE], ids=["", "--resample"])
def test_a_cropped_reference_on_another_lattice_is_refused(tmp_path: Path, aside, spacing, scoring):
    reference = crop(tmp_path / "r.seg.nrrd", box(), BOX, aside, spacing)
    with pytest.raises(DataError, match=r"r\.seg\.nrrd: the reference has segments, may be cropped") as caught:
        score_pair(reference, write(tmp_path / "p.nii.gz", too_much()), out=tmp_path / "out", scoring=scoring)
    assert "--resample" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert ("lies far away" if aside > 1 else "shares no lattice") in str(caught.value)
    assert "export the reference as a labelmap (.nii.gz) on the grid of its image" in str(caught.value)
    labelmap = write(tmp_path / "r.nii.gz", box())
    found = score_pair(labelmap, tmp_path / "p.nii.gz", out=tmp_path / "out", scoring=scoring)
    assert dice(found) == pytest.approx(true_dice(box(), too_much()))


def test_a_reference_beyond_a_small_prediction_counts_as_missed_when_asked(tmp_path: Path):
    reference = crop(tmp_path / "r.seg.nrrd", box(), BOX)
    prediction = write(tmp_path / "p.nii.gz", too_much()[:, :21])
    with pytest.raises(DataError, match=r"p\.nii\.gz: only 75\.0% of the labelled voxels of the reference"):
        score_pair(reference, prediction, out=tmp_path / "out")
    found = score_pair(reference, prediction, out=tmp_path / "out", scoring=RESAMPLE)
    assert dice(found) == pytest.approx(2 * 9 / (9 + 12))
    assert read_json(tmp_path / "out" / "_SUCCESS")["share_covered"] == {"files/r/p": 0.75}
    whole = score_pair(reference, write(tmp_path / "whole.nii.gz", too_much()), out=tmp_path / "whole")
    assert dice(whole) == pytest.approx(true_dice(box(), too_much()))


def test_another_grid_is_that_of_the_reference_in_messages(tmp_path: Path):
    reference = write(tmp_path / "r.nii.gz", box())
    for prediction in (
        write(tmp_path / "p.nii.gz", box(), (0, 0, 0.5)),
        crop(tmp_path / "p.seg.nrrd", box(), BOX, 0.5),
        crop(
            tmp_path / "q.seg.nrrd", np.pad(box(), 1, constant_values=1), tuple(slice(0, n + 2) for n in (12, 40, 36))
        ),
    ):
        with pytest.raises(DataError) as caught:
            score_pair(reference, prediction, out=tmp_path / "out")
        assert "reference" in str(caught.value)
        assert "image" not in str(caught.value).replace(str(tmp_path), "")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("slices", "covered"), [(7, 0.7), (6, 0.6), (4, 0.4), (3, 0.3)])
def test_resampling_needs_half_of_the_reference_inside_the_grid_of_the_mask(tmp_path: Path, capsys, slices, covered):
    full = box((12, 40, 36), (slice(1, 11), BOX[1], BOX[2]))
    reference = write(tmp_path / "r.nii.gz", full)
    prediction = write(tmp_path / "p.nii.gz", full[: slices + 1])
    if covered < 0.5:
        with pytest.raises(DataError, match=rf"p\.nii\.gz: only {covered:.0%} of .* of the reference lie inside"):
            score_pair(reference, prediction, out=tmp_path / "out", scoring=RESAMPLE)
        return
    score_pair(reference, prediction, out=tmp_path / "out", scoring=RESAMPLE)
    text = f"100.0% of its labelled voxels lie inside, and {covered:.1%} of those of the reference inside its grid"
    assert text in capsys.readouterr().err
    done = read_json(tmp_path / "out" / "_SUCCESS")
    assert done["share_inside"] == {"files/r/p": 1.0}
    assert done["share_covered"] == {"files/r/p": pytest.approx(covered)}


def labels_of(mask: np.ndarray, offsets_mm: list[float] | None = None, **attributes: Any) -> Callable[[Any, int], None]:
    """Change of the slices of a series to those of a mask."""

    def change(header: Any, z: int) -> None:
        header.PixelData = mask[z].astype("<u2").tobytes()
        if offsets_mm is not None:
            header.ImagePositionPatient = [-10.0, -20.0, 5.0 + offsets_mm[z]]
        for name, value in attributes.items():
            setattr(header, name, value)

    return change


DRAWN = np.broadcast_to(np.array([1, 2, 1, 2, 0], np.uint8)[:, None, None], (5, 6, 8)).copy()
DRAWN[:, 4:] = 0
HEADERS: dict[str, dict[str, Any]] = {
    "padding": {"PixelPaddingValue": 0},
    "MONOCHROME1": {"PhotometricInterpretation": "MONOCHROME1"},
    "a label that is padding": {"PixelPaddingValue": 2},
    "both": {"PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": 1},
}


@pytest.mark.parametrize("case", HEADERS)
def test_label_folders_of_a_pair_keep_their_integers(tmp_path: Path, write_series: Callable[..., Path], case: str):
    drawn = write_series(tmp_path / "drawn", change=labels_of(DRAWN, **HEADERS[case]))
    plain = write_series(tmp_path / "plain", change=labels_of(DRAWN))
    geometry = read_volume(plain).geometry
    write_nifti(tmp_path / "file.nii.gz", DRAWN, geometry)
    for number, pair in enumerate(((drawn, drawn), (drawn, tmp_path / "file.nii.gz"), (plain, drawn))):
        rows = score_pair(*pair, out=tmp_path / f"out{number}").tables["volume"]
        found = {row["label"]: (row["dice"], row["tp"]) for row in rows}
        assert found == {1: (1.0, 2 * 32), 2: (1.0, 2 * 32)}


UNEVEN = {
    "one wide gap": [0, 2.0, 4.0, 6.0, 12.0],
    "growing": [0, 1.0, 3.0, 6.0, 10.0],
    "two missing slices": [0, 6.0, 8.0, 10.0, 12.0],
}


def uneven_store(folder: Path, write_series: Callable[..., Path], offsets: list[float]) -> Store:
    image = np.random.default_rng(1).integers(0, 900, DRAWN.shape)
    write_series(folder / "images" / "anna", change=labels_of(image, offsets))
    write_series(folder / "masks" / "anna", change=labels_of(DRAWN, offsets))
    (folder / "dataset.yaml").write_text(
        "dataset: {name: toy}\nsources: {images: 'images/{subject}', masks: 'masks/{subject}'}\n"
        "labels: {1: {name: one}, 2: {name: two}}\nirregular: resample\nsplit: {train: 0, val: 0, test: 1}\n"
    )
    prepare_dataset(load_dataset(folder / "dataset.yaml"), folder, folder / "store", lambda *_: None)
    return Store.open(folder / "store")


@pytest.mark.parametrize("case", UNEVEN)
@pytest.mark.slow
def test_predictions_follow_a_resampled_series_as_masks_do(
    tmp_path: Path, write_series: Callable[..., Path], case: str, capsys
):
    store = uneven_store(tmp_path, write_series, UNEVEN[case])
    (record,) = store.volumes
    image = read_volume(tmp_path / "images" / "anna", reading=Reading(irregular="resample"))
    assert record.nearest == (image.nearest_slices, 0)
    even = np.asarray(store.mask(record.key))
    assert not np.array_equal(even, DRAWN)

    write_nifti(tmp_path / "drawn" / "anna.nii.gz", DRAWN, record.geometry)
    write_nifti(tmp_path / "runs" / "predictions" / "toy" / "anna__image.nii.gz", even, record.geometry)
    (tmp_path / "table.csv").write_text("subject,volume,path\nanna,image,masks/anna\n")
    for name in ("_SUCCESS", "config.yaml"):
        (tmp_path / "runs" / name).write_text("{}")
    for predictions, note in (
        (tmp_path / "drawn", "is read on the slices of the series and follows them"),
        (tmp_path / "table.csv", "is read on the slices of the series and follows them"),
        (tmp_path / "runs" / "predictions", "lies on the even slices of the store"),
    ):
        found = score_store(predictions, store.path, out=tmp_path / "out")
        assert {row["dice"] for row in found.tables["volume"]} == {1.0}
        assert note in capsys.readouterr().err
    # Predicted from an export of the store (`sam2ft export`): dataset.json, which nnU-Net copies, says so.
    write_nifti(tmp_path / "nnunet" / "anna.nii.gz", even, record.geometry)
    (tmp_path / "nnunet" / "dataset.json").write_text('{"sam2ft": {"dataset": "toy"}}')
    found = score_store(tmp_path / "nnunet", store.path, out=tmp_path / "out")
    assert {row["dice"] for row in found.tables["volume"]} == {1.0}
    assert "prediction from an export of sam2ft: it lies on the even slices" in capsys.readouterr().err
    # A folder of predictions beside another scoring is not that of an evaluation.
    (tmp_path / "runs" / "config.yaml").unlink()
    score_store(tmp_path / "runs" / "predictions", store.path, out=tmp_path / "out")
    assert "is read on the slices of the series" in capsys.readouterr().err


def test_a_record_without_the_slices_of_its_series_is_read_as_before(tmp_path: Path, write_series: Callable[..., Path]):
    store = uneven_store(tmp_path, write_series, [2.0 * z for z in range(5)])
    (record,) = store.volumes
    assert record.nearest is None
    write_nifti(tmp_path / "drawn" / "anna.nii.gz", DRAWN, record.geometry)
    found = score_store(tmp_path / "drawn", store.path, out=tmp_path / "out", scoring=NO_PICTURES)
    assert {row["dice"] for row in found.tables["volume"]} == {1.0}


def test_an_uneven_label_folder_of_a_pair_is_refused_with_a_way_out(tmp_path: Path, write_series: Callable[..., Path]):
    for case, offsets in UNEVEN.items():
        folder = write_series(tmp_path / case, change=labels_of(DRAWN, offsets))
        with pytest.raises(DataError, match=r"irregular: resample .* in the dataset file of launch/prepare\.py"):
            score_pair(folder, folder, out=tmp_path / "out")
