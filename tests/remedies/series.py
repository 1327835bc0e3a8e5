"""Remedies of DICOM series, maps and masks: exported again, converted, or given with what they do not say themselves.

The programs that messages name are not needed here: SimpleITK, which holds the same library (GDCM), converts.
"""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.encaps import encapsulate
from pydicom.uid import HTJ2KLossless

from sam2ft.config.schema.maps import MapSource
from sam2ft.data.dicom.relaxometry_series import read_echoes
from sam2ft.data.export.source_series import write_segmentation
from sam2ft.data.images.grids import Volume, on_grid
from sam2ft.data.images.maps import read_map
from sam2ft.data.images.volumes import read_volume, write_nifti
from sam2ft.data.prepare.relabel import given_ids
from sam2ft.data.store.slice_metadata import MetadataSource
from sam2ft.data.store.store import Store
from tests.data.dicom.test_pixels import as_written, drop_in_one, only_rescale_left, philips_echoes
from tests.data.images.test_grids import SEGMENTS, grid, labels
from tests.data.images.test_maps import GRID
from tests.fixtures.stores import _write_series
from tests.remedies.conftest import Raw, refusal
from tests.remedies.registry import executed_by, remedy

AB = ["a", "b"]


def _line(text: str) -> str:
    return " ".join(text.split())


def _as_nifti(folder: Path, target: Path) -> None:
    """What `dcm2niix` makes of a series."""
    target.parent.mkdir(exist_ok=True)
    files = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    SimpleITK.WriteImage(SimpleITK.ReadImage(files), str(target))


def _converted(raw: Raw) -> None:
    """Prepared from NIfTI files that the series were converted to."""
    for subject in AB:
        _as_nifti(raw.image(subject), Path("nifti") / f"{subject}.nii.gz")
    raw.settings("dicom/{subject}", "nifti/{subject}.nii.gz")
    shutil.rmtree("store", ignore_errors=True)
    raw.prepare()
    assert raw.whole() == AB


@remedy("export the series uncompressed")
@remedy("convert it to NIfTI with dcm2niix", of="cannot be decoded")
def a_compression_that_is_not_known(raw: Raw) -> str:
    before = {path: path.read_bytes() for path in raw.image("b").iterdir()}
    for path in before:
        header = pydicom.dcmread(path)
        header.file_meta.TransferSyntaxUID = HTJ2KLossless
        header.PixelData = encapsulate([b"what only its encoder understands"])
        header.save_as(path, enforce_file_format=True)
    shown = raw.prepare(code=3)
    for path, uncompressed in before.items():
        path.write_bytes(uncompressed)
    raw.prepare()
    assert raw.whole() == AB
    expected = read_volume(raw.image("b")).array_zyx
    _converted(raw)
    assert np.array_equal(read_volume(Path("nifti/b.nii.gz")).array_zyx, expected)
    return _line(shown)


@remedy("convert the series to NIfTI with dcm2niix")
@remedy("give the .nii.gz", of="PhotometricInterpretation MONOCHROME1 with")
def values_that_may_be_turned_round(raw: Raw) -> str:
    shown = ""
    for modality in ("CT", "PT"):
        raw.edit("b", Modality=modality, PhotometricInterpretation="MONOCHROME1")
        shown = raw.prepare(code=3)
        _converted(raw)
        raw.settings()
        shutil.rmtree("store")
    return _line(shown)


@remedy("give it as sources.masks, and the series that it was drawn on as sources.images")
def masks_that_are_dicom_segmentations(raw: Raw) -> str:
    for subject in AB:
        raw.edit(subject, StudyInstanceUID="1.2.3", FrameOfReferenceUID="1.2.3.4")
    raw.prepare()
    store = Store.open(raw.store)
    before = {record.key: store.mask(record.key).copy() for record in store.volumes}
    for record in store.volumes:
        path = raw.mask(record.key.subject).with_name(f"{record.key.subject}.dcm")
        write_segmentation(path, before[record.key].astype(np.uint16), store.labels, record, "x")
    shutil.rmtree("store")
    raw.settings("dicom/{subject}", "masks/{subject}.dcm")
    done = raw.desk.run("launch/prepare.py ds.yaml --out store")
    assert done.code != 0
    raw.settings("masks/{subject}.nii.gz", "masks/{subject}.dcm")
    raw.prepare()
    found = Store.open(raw.store)
    assert all(np.array_equal(found.mask(key), mask) for key, mask in before.items())
    return _line(done.text)


@remedy("copy it again", of="^{}: not a readable {} file ({}); export or copy it again")
def an_image_whose_header_makes_no_sense(raw: Raw) -> str:
    _converted(raw)
    path = Path("nifti/b.nii.gz")
    right, shown = path.read_bytes(), ""
    for start, number in ((40, 0x7FFF), (70, 0x7777), (0, 3)):
        content = bytearray(gzip.decompress(right))
        content[start : start + 2] = number.to_bytes(2, "little")
        path.write_bytes(gzip.compress(bytes(content)))
        shown += raw.desk.run("launch/prepare.py ds.yaml --out store").text
        path.write_bytes(right)
        raw.prepare()
        assert raw.whole() == AB
    return _line(shown)


@remedy("give more with --max-volume-minutes")
def a_volume_that_takes_longer(raw: Raw) -> str:
    done = raw.desk.run("launch/prepare.py ds.yaml --out store --max-volume-minutes 0.000001")
    assert done.code != 0
    raw.prepare("--max-volume-minutes", "5")
    assert raw.whole() == AB
    return _line(done.text)


# --- decays and maps ------------------------------------------------------------------------------------------------

AGAIN = "export the series again with its private attributes"


@remedy(AGAIN, of="is missing in {} of {} images", case=drop_in_one)
@remedy(AGAIN, of="is in no image; allowed in a decay", case=only_rescale_left)
def a_decay_that_lost_its_scales(tmp_path: Path, case: Callable[[Any, int], None]) -> str:
    shown = refusal(lambda: read_echoes(philips_echoes(tmp_path / "e", _write_series, case)))
    series = read_echoes(philips_echoes(tmp_path / "again", _write_series, as_written))
    signals = series.images_tzyx[:, 0, 0, 0]
    assert signals == pytest.approx(8000 * np.exp(-np.array(series.times_ms) / 40), rel=1e-3)
    return shown


def _maps_of(raw: Raw, entry: str) -> None:
    raw.settings('nii.gz"}', f'nii.gz", maps: {{t2: {{{entry}}}}}}}')


@remedy("give it as sources.maps.<name>.file, with its unit")
def a_finished_map_in_dicom(raw: Raw) -> str:
    shown = ""
    for kind in (["DERIVED", "PRIMARY", "T2 MAP"], ["ORIGINAL", "PRIMARY", "T2MAP"]):
        for subject in AB:
            shutil.rmtree(f"t2/{subject}", ignore_errors=True)

            def change(header: Any, _: int, kind: list[str] = kind) -> None:
                header.ImageType = kind
                header.PixelData = np.full(header.Rows * header.Columns, 40, "<u2").tobytes()

            _write_series(Path(f"t2/{subject}"), change=change)
        _maps_of(raw, 'series: "t2/{subject}"')
        shown = raw.desk.run("launch/prepare.py ds.yaml --out store").text
        _maps_of(raw, 'file: "t2/{subject}", unit: ms')
        raw.prepare()
        assert np.unique(Store.open(raw.store).map(Store.open(raw.store).volumes[0].key, "t2")).tolist() == [40]
        shutil.rmtree("store")
    return _line(shown)


@remedy("give sources.maps.{}.unit: ms, s or 1/s")
def a_map_in_another_unit(tmp_path: Path) -> str:
    path, shown = tmp_path / "t2.nii.gz", ""
    for value, unit, ms in ((0.04, "s", 40), (25e-6, "1/s", 4e7), (0.04, "ms", 0.04), (1e6, "ms", 1e6)):
        write_nifti(path, np.full(GRID.shape_zyx, value, np.float32), GRID)
        shown = refusal(lambda: read_map(path, "t2", MapSource(file="{subject}"), GRID))
        told = read_map(path, "t2", MapSource(file="{subject}", unit=unit), GRID)
        assert np.unique(told.values_zyx) == pytest.approx([ms])
    return shown


executed_by(
    "give sources.maps.{}.bounds_ms",
    test="tests/data/images/test_maps.py::test_times_in_seconds_are_seen_in_a_fit_too",
)


# --- masks ----------------------------------------------------------------------------------------------------------


@remedy("export it on the grid of the {}", of="labelled voxels of the {} lie outside of the {}")
def a_segmentation_beyond_its_image() -> str:
    around = np.zeros((6, 8, 7), np.uint8)
    around[1:-1, 1:-1, 1:-1] = labels()
    shown = ""
    for at in ((0, 0, 0), (5, 7, 6), (0, 4, 3)):
        spoilt = around.copy()
        spoilt[at] = 1
        beyond = Volume(spoilt, grid(around.shape, origin_xyz=(-1.0, -0.5, -3.0)), segments=SEGMENTS)
        shown = refusal(lambda beyond=beyond: on_grid(beyond, grid()))
        exported = Volume(spoilt[1:-1, 1:-1, 1:-1], grid(), segments=SEGMENTS)
        assert np.array_equal(on_grid(exported, grid()).array_zyx, labels())
    return shown


@remedy("export the mask as integers", of="have no id of an instance")
def labels_without_an_id() -> str:
    shown, present = "", np.array([[[0, 1, 1, 1]]], np.uint8)
    for mask in ([[[0, 0, 0, 1]]], [[[0.0, 0.0004, 2, 3]]]):
        shown = refusal(lambda mask=mask: given_ids(np.array(mask), present, {1: 1, 2: 1, 3: 1}))
    exported = np.array([[[0, 1, 2, 3]]], np.uint16)
    assert given_ids(exported, present, {1: 1, 2: 1, 3: 1}).tolist() == exported.tolist()
    return shown


@remedy("give a file that describes slice by slice")
def a_file_of_one_slice_for_all(store: Store, tmp_path: Path) -> str:
    record, path = store.volumes[0], tmp_path / "m.json"
    shown = ""
    for entry in ({"TE": 7.0}, {"TE": 7.0, "slice_thickness": 4.0}):
        path.write_text(json.dumps({record.key.subject: entry}))
        shown = refusal(lambda: MetadataSource.of(("TE",), False, path).describe(record))
    assert len(MetadataSource.of(("TE",), False, store.metadata_for_stats).describe(record).dicom["TE"]) == 4
    return shown


PAIRS = "tests/evaluation/masks/test_placing.py::"
executed_by(
    "export the reference as a labelmap",
    test=f"{PAIRS}test_a_cropped_reference_on_another_lattice_is_refused",
)
BEYOND = f"{PAIRS}test_a_reference_beyond_a_small_prediction_counts_as_missed_when_asked"
executed_by("export the prediction on the grid of the image", test=BEYOND)
executed_by("count the rest as missed with --resample", test=BEYOND)
