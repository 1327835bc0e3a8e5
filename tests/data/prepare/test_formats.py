"""Every kind of file from a dataset file to a store, and from two masks to scores."""

import os
from pathlib import Path

import numpy as np
import pytest
from fixtures.formats import EDGES_ZYX, FORMATS, turned_affine

from sam2ft.config.load_dataset import load_dataset
from sam2ft.config.schema.evaluation import Evaluation
from sam2ft.config.schema.sources import Sources
from sam2ft.core.errors import DataError
from sam2ft.data.images.volumes import read_volume
from sam2ft.data.prepare.outcomes import PrepareOptions
from sam2ft.data.prepare.prepare import prepare_dataset
from sam2ft.data.sources.patterns import find_by_patterns
from sam2ft.data.sources.row import fingerprint
from sam2ft.data.store.store import Store
from sam2ft.evaluation.masks.inputs import digest, find_predictions
from sam2ft.evaluation.masks.score import score_pair, score_store
from sam2ft.evaluation.masks.settings import Scoring

SHAPE = (24, 20, 5)
IN_PROCESS = PrepareOptions(isolated=False)


def image() -> np.ndarray:
    return np.random.default_rng(4).integers(0, 250, SHAPE).astype("u1")


def labels() -> np.ndarray:
    mask = np.zeros(SHAPE, "u1")
    mask[4:14, 3:12, 1:4], mask[16:20, 3:12, 1:4] = 1, 2
    return mask


def write(folder: Path, name: str, array: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    return FORMATS[name].write(folder, array, turned_affine())


def dataset(folder: Path, name: str, more: str = "") -> Path:
    """A dataset file for two subjects whose images and masks are of one kind."""
    for subject in ("p1", "p2"):
        path = write(folder / subject / "image", name, image() if subject == "p1" else 250 - image())
        write(folder / subject / "mask", name, labels())
    given = "" if FORMATS[name].placed else f"spacing_mm: {list(EDGES_ZYX)}\naxes: zyx\n"
    (folder / "ds.yaml").write_text(
        f"dataset: {{name: toy}}\n{given}{more}"
        f"sources: {{images: '{{subject}}/image/{path.name}', masks: '{{subject}}/mask/{path.name}'}}\n"
        "labels: {1: {name: a}, 2: {name: b}}\nsplit: {train: 0, val: 0, test: 1}\n"
    )
    return folder / "ds.yaml"


def prepare(file: Path) -> Store:
    prepare_dataset(load_dataset(file), file.parent, file.parent / "store", lambda *_: None, IN_PROCESS)
    return Store.open(file.parent / "store")


@pytest.mark.parametrize("name", FORMATS)
def test_images_and_masks_of_every_kind_are_prepared_and_scored(tmp_path: Path, name: str) -> None:
    store = prepare(dataset(tmp_path, name))
    assert [record.key.subject for record in store.volumes] == ["p1", "p2"]
    record = store.volumes[0]
    assert record.geometry.spacing_zyx_mm == pytest.approx(EDGES_ZYX)
    assert np.array_equal(store.mask(record.key), labels().T)
    in_order = np.argsort(image().T.ravel(), kind="stable")
    assert np.all(np.diff(store.image(record.key).ravel()[in_order].astype(int)) >= 0)

    worse = labels()
    worse[4:6] = 0
    path = write(tmp_path / "q", name, worse)
    scoring = Scoring(Evaluation(qc_slices=0), reading=FORMATS[name].reading)
    reference = tmp_path / "p1" / "mask" / path.name
    (row,) = [
        row
        for row in score_pair(reference, path, labels=None, out=tmp_path / "pair", scoring=scoring).tables["volume"]
        if row["label"] == 1
    ]
    kept, whole = int((worse == 1).sum()), int((labels() == 1).sum())
    assert row["dice"] == pytest.approx(2 * kept / (kept + whole))
    assert row["volume_reference_mm3"] == pytest.approx(whole * np.prod(EDGES_ZYX))


FILES = [name for name in FORMATS if name not in ("png", "tiffs")]


@pytest.mark.parametrize("name", FILES)
def test_predictions_of_every_kind_are_found_by_the_names_of_their_subjects(tmp_path: Path, name: str) -> None:
    store = prepare(dataset(tmp_path, name))
    (tmp_path / "pred").mkdir()
    for subject in ("p1", "p2"):
        for one in sorted((tmp_path / subject / "mask").iterdir()):
            content = one.read_bytes().replace(b"ElementDataFile = a.", f"ElementDataFile = {subject}.".encode())
            (tmp_path / "pred" / (subject + one.name[1:])).write_bytes(content)
    scoring = Scoring(Evaluation(qc_slices=0), reading=FORMATS[name].reading)
    scored = score_store(tmp_path / "pred", tmp_path / "store", split="test", out=tmp_path / "ev", scoring=scoring)
    assert {row["dice"] for row in scored.tables["volume"]} == {1.0}
    assert len(find_predictions(tmp_path / "pred", store.volumes).paths) == 2


@pytest.mark.parametrize("beside", [".npz", ".npy", ".png", ".tif"])
def test_what_other_programs_write_beside_a_mask_is_no_second_prediction(tmp_path: Path, beside: str) -> None:
    store = prepare(dataset(tmp_path, "mha"))
    (tmp_path / "pred").mkdir()
    for subject in ("p1", "p2"):
        (tmp_path / "pred" / f"{subject}.mha").write_bytes((tmp_path / subject / "mask" / "a.mha").read_bytes())
        (tmp_path / "pred" / f"{subject}{beside}").write_bytes(b"probabilities")
    found = find_predictions(tmp_path / "pred", store.volumes)
    assert {path.name for path in found.paths.values()} == {"p1.mha", "p2.mha"}
    (tmp_path / "pred" / "p1.nii").write_bytes(b"x")
    with pytest.raises(DataError, match="2 predictions"):
        find_predictions(tmp_path / "pred", store.volumes)


@pytest.mark.parametrize(("name", "voxels"), [("mhd", "a.raw"), ("mhd compressed", "a.zraw"), ("pair", "a.img")])
def test_voxels_beside_a_header_are_part_of_what_is_compared(tmp_path: Path, name: str, voxels: str) -> None:
    for subject in ("p1", "p2"):
        path = write(tmp_path / subject / "image", name, image())
        mask = write(tmp_path / subject / "mask", name, labels())
    sources = Sources(images=f"{{subject}}/image/{path.name}", masks=f"{{subject}}/mask/{path.name}")
    (source, _) = find_by_patterns("toy", sources, tmp_path)
    before, told = fingerprint(source, {}), digest(mask)
    for part in ("image", "mask"):
        changed = tmp_path / "p1" / part / voxels
        changed.write_bytes(changed.read_bytes()[::-1] + b"x")
        assert fingerprint(source, {}) != before
        before = fingerprint(source, {})
    (mask.parent / voxels).write_bytes(b"other voxels")
    assert digest(mask) != told


@pytest.mark.parametrize("place", ["voxels.raw", "below/voxels.raw", "../elsewhere/voxels.raw"])
def test_the_voxels_of_a_nhdr_are_part_of_what_is_compared_wherever_they_lie(tmp_path: Path, place: str) -> None:
    voxels = tmp_path / "image" / place
    voxels.parent.mkdir(parents=True, exist_ok=True)
    voxels.write_bytes(image().tobytes(order="F"))
    directions = "(0.5,0,0) (0,0.75,0) (0,0,4)"
    fields = ["type: uint8", "dimension: 3", "sizes: 24 20 5", "encoding: raw", "space: RAS"]
    fields += [f"space directions: {directions}", "space origin: (0,0,0)", f"data file: {place}"]
    (tmp_path / "image").mkdir(exist_ok=True)
    path = tmp_path / "image" / "a.nhdr"
    path.write_text("\n".join(["NRRD0005", *fields, "", ""]))
    assert np.array_equal(read_volume(path).array_zyx, image().T)
    sources = Sources(images="{subject}/a.nhdr", masks="{subject}/a.nhdr")
    (source,) = find_by_patterns("toy", sources, tmp_path)
    before, told, old = fingerprint(source, {}), digest(path), fingerprint(source, {}, version_1=True)
    voxels.write_bytes(image().tobytes(order="F")[::-1])
    os.utime(voxels, (1, 1))
    assert fingerprint(source, {}) != before
    assert digest(path) != told
    assert fingerprint(source, {}, version_1=True) == old
    voxels.unlink()
    assert fingerprint(source, {}) != before  # and whoever reads it says what is missing


@pytest.mark.parametrize("name", FORMATS)
def test_a_volume_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path, name: str) -> None:
    file = dataset(tmp_path, name, more="max_volume_gb: 0.00001\n")
    with pytest.raises(DataError, match="by its header its voxels need"):
        prepare(file)


def test_a_dataset_file_names_image_and_mask_of_one_npz_file(tmp_path: Path) -> None:
    for subject, given in (("p1", image()), ("p2", 250 - image())):
        np.savez(tmp_path / f"{subject}.npz", imgs=given.T, gts=labels().T, spacing=EDGES_ZYX[::-1])
    (tmp_path / "ds.yaml").write_text(
        "dataset: {name: toy}\nspacing_mm: [4, 0.75, 0.5]\naxes: zyx\narray: imgs\nmask_array: gts\n"
        "sources: {images: '{subject}.npz', masks: '{subject}.npz'}\n"
        "labels: {1: {name: a}, 2: {name: b}}\nsplit: {train: 0, val: 0, test: 1}\n"
    )
    store = prepare(tmp_path / "ds.yaml")
    assert np.array_equal(store.mask(store.volumes[0].key), labels().T)
