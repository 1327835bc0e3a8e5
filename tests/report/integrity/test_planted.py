"""Every kind of failure, planted in one subject of a cohort: it is found there, and nothing is found elsewhere."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.data.store.index import array_path
from sam2ft.data.store.store import Store, VolumeRecord
from sam2ft.data.store.writer import PreparedVolume, StoreWriter
from sam2ft.report.integrity.cohort import ReportedStore, ReportedVolume
from sam2ft.report.integrity.findings import NOTE, StoreFinding, findings_of_volumes
from sam2ft.report.integrity.write import write_integrity_report
from tests.report.integrity.conftest import AXIAL, LABELS, SHAPE, SPACING, cohort, stored, with_mask

Plant = Callable[[PreparedVolume, PreparedVolume], PreparedVolume]
"""(a volume, another one) -> the volume with the failure."""


def on_grid(*spacing_zyx: float) -> Plant:
    affine = AXIAL.affine
    affine[:, :3] = affine[:, :3] / SPACING[::-1] * spacing_zyx[::-1]
    return lambda one, other: replace(one, geometry=Geometry.from_affine(SHAPE, affine))


def placed(rows: Any, *, oriented: bool = True) -> Plant:
    matrix = np.eye(4)
    matrix[:3, :3] = rows
    return lambda one, other: replace(one, geometry=Geometry.from_affine(SHAPE, matrix, oriented=oriented))


def drawn(change: Callable[[Any], None]) -> Plant:
    return lambda one, other: with_mask(one, change)


def put(where: Any, value: int) -> Plant:
    return drawn(lambda mask: mask.__setitem__(where, value))


def without(*labels: int) -> Plant:
    return drawn(lambda mask: mask.__setitem__(np.isin(mask, labels), 0))


def tiny(mask: Any) -> None:
    mask[mask == 7] = 0
    mask[6, 12, 36:39] = 7


def noisy(one: PreparedVolume, other: PreparedVolume) -> PreparedVolume:
    noise = np.random.default_rng(0).normal(0, 200, SHAPE)
    return replace(one, image_zyx=np.clip(other.image_zyx + noise, 0, 65535).astype(np.uint16))


def turned(one: PreparedVolume, other: PreparedVolume) -> PreparedVolume:
    return replace(one, image_zyx=np.ascontiguousarray(other.image_zyx[:, :, ::-1]))


PLANTS: dict[str, tuple[Plant, str]] = {
    "pixel size": (on_grid(4, 1.875, 1.5), "1.68 mm, median 1.34"),
    "slice distance": (on_grid(5.5, 1.5, 1.2), "5.5 mm, median 4"),
    "intensity": (lambda one, other: replace(one, window=(0.0, 8000.0)), ", median"),
    "blank image": (lambda one, other: replace(one, image_zyx=np.full(SHAPE, 700, np.uint16)), "throughout"),
    "burned-in text": (lambda one, other: replace(one, facts={**one.facts, "burned_in": "YES"}), ""),
    "other modality": (lambda one, other: replace(one, facts={"modality": "CT"}), "CT"),
    "no t2": (lambda one, other: replace(one, maps={}), ""),
    "no orientation": (placed(np.diag(SPACING[::-1]), oriented=False), ""),
    # Axes x and z of the array swap their directions in the body.
    "other plane": (placed([[0, 0, 4.0], [0, -1.5, 0], [1.2, 0, 0]]), "sagittal"),
    "no label": (without(1, 2, 3, 7), ""),
    "empty label": (without(7), "spleen"),
    "tiny label": (drawn(tiny), "spleen 3 voxels"),
    "label volume": (put(np.s_[2:10, 5:22, 28:46], 7), "spleen "),
    "cut label": (put(np.s_[4:8, 10:18, 0:8], 1), "liver at right"),
    "specks": (put(np.s_[1, 36:38, 2:4], 1), "liver 1"),
    "left and right": (placed(np.diag([1.2, -1.5, 4.0])), "left lies 31 mm to the right of right"),
    "same image": (lambda one, other: replace(one, image_zyx=other.image_zyx), "as "),
    "near copy": (noisy, "correlation 0.99"),
    "same mask": (lambda one, other: replace(one, mask_zyx=other.mask_zyx), "as "),
}


def shown(findings: tuple[StoreFinding, ...]) -> dict[str, dict[str, str]]:
    """Kind -> volume -> detail, without notes."""
    return {one.kind: {place.name: place.detail for place in one.places} for one in findings if one.level != NOTE}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_planted_failure_is_found_in_its_subject_and_nowhere_else(tmp_path: Path, seed: int) -> None:
    volumes = cohort(len(PLANTS) + 12, seed)
    places = np.random.default_rng(seed).permutation(len(PLANTS) + 6)
    names = {}
    for place, (kind, (plant, _)) in zip(places, PLANTS.items(), strict=False):
        # The last six are planted nothing, and copied once each.
        names[kind] = f"s{place:02d}/t1"
        volumes[place] = plant(volumes[place], volumes[-1 - len(names) % 6])
    found = shown(write_integrity_report(stored(tmp_path, volumes).path))
    expected = {kind: {name} for kind, name in names.items()}
    assert {kind: set(where) for kind, where in copies_by_later_name(found, expected).items()} == expected
    for kind, (_, detail) in PLANTS.items():
        assert detail in next(iter(found[kind].values()))


def copies_by_later_name(found: dict[str, dict[str, str]], expected: dict[str, set[str]]) -> dict[str, dict[str, str]]:
    """A copy is named at one of both volumes, and the other one is in the detail."""
    changed = dict(found)
    for kind in ("same image", "near copy", "same mask"):
        (planted,) = expected[kind]
        ((name, detail),) = found[kind].items()
        assert planted == name or planted in detail
        changed[kind] = {planted: detail}
    return changed


@pytest.mark.parametrize(("count", "seed"), [(1, 0), (2, 1), (5, 2), (10, 3), (40, 4)])
def test_nothing_is_found_in_a_clean_cohort(tmp_path: Path, count: int, seed: int) -> None:
    assert shown(write_integrity_report(stored(tmp_path, cohort(count, seed)).path)) == {}


@pytest.mark.parametrize("kind", ["pixel size", "slice distance", "label volume", "intensity"])
def test_a_small_cohort_is_judged_by_the_wider_factor(tmp_path: Path, kind: str) -> None:
    by_more: dict[str, Plant] = {
        "pixel size": on_grid(4, 2.4, 1.92),
        "slice distance": on_grid(6.4, 1.5, 1.2),
        "label volume": PLANTS["label volume"][0],
        "intensity": lambda one, other: replace(one, window=(0.0, 8000.0)),
    }
    volumes = cohort(5, seed=8)
    volumes[3] = by_more[kind](volumes[3], volumes[0])
    assert shown(write_integrity_report(stored(tmp_path, volumes).path)).keys() == {kind}


def test_a_mirrored_image_is_found_as_a_copy(tmp_path: Path) -> None:
    volumes = cohort(4, seed=9)
    volumes[2] = turned(volumes[2], volumes[0])
    found = shown(write_integrity_report(stored(tmp_path, volumes).path))
    assert found == {"same image": {"s02/t1": "as s00/t1"}}


def test_the_same_image_in_two_splits_makes_numbers_wrong(tmp_path: Path) -> None:
    volumes = cohort(4, seed=9)
    volumes[2] = turned(volumes[2], volumes[0])
    (one,) = (
        one
        for one in write_integrity_report(stored(tmp_path, volumes, {"s02": "test"}).path)
        if one.kind == "same image"
    )
    assert (one.level, [place.name for place in one.places]) == ("bad", ["s02/t1"])
    assert "in two splits" in one.sentence


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_a_lost_array_is_said_and_the_others_are_shown(clean: Store, kind: str) -> None:
    write_integrity_report(clean.path)
    array_path(clean.path, clean.volumes[3].stem, kind).unlink()
    found = shown(write_integrity_report(clean.path))
    assert found.keys() == {"not readable"}
    assert found["not readable"].keys() == {"s03/t1"}
    assert str(clean.path) not in (clean.path / "report.html").read_text()


@pytest.mark.parametrize("kind", ["image", "mask"])
@pytest.mark.parametrize("kept", [True, False])
def test_a_flipped_bit_is_said_and_nothing_is_measured_from_it(clean: Store, kind: str, kept: bool) -> None:
    if kept:
        write_integrity_report(clean.path)
    path = array_path(clean.path, clean.volumes[3].stem, kind)
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    found = shown(write_integrity_report(clean.path, verify=kept))
    assert found.keys() == {"not readable"}
    assert found["not readable"].keys() == {"s03/t1"}


def test_left_and_right_swapped_in_all_volumes_is_said_to_be_in_the_labels(tmp_path: Path) -> None:
    volumes = [placed(np.diag([1.2, -1.5, 4.0]))(one, one) for one in cohort(4, seed=2)]
    (one,) = (one for one in write_integrity_report(stored(tmp_path, volumes).path) if one.kind == "left and right")
    assert len(one.places) == 4
    assert "in all volumes" in one.sentence


def test_slices_that_run_the_other_way_are_a_note(tmp_path: Path) -> None:
    volumes = cohort(4, seed=2)
    flipped = AXIAL.affine @ np.diag([1, 1, -1, 1])
    volumes[1] = replace(volumes[1], geometry=Geometry.from_affine(SHAPE, flipped))
    found = write_integrity_report(stored(tmp_path, volumes).path)
    (one,) = (one for one in found if one.kind == "slice direction")
    assert [(place.name, place.detail) for place in one.places] == [("s01/t1", "to the inferior")]
    assert shown(found) == {}


def test_refused_volumes_stay_on_the_page_until_the_next_preparation(clean: Store) -> None:
    key = VolumeKey("abdomen", "s77", "t1")
    write_integrity_report(clean.path, [(key, "/home/me/raw/s77/t1: 1 missing slice between 3 and 5")])
    again = shown(write_integrity_report(clean.path))
    assert again == {"refused": {"s77/t1": "1 missing slice between 3 and 5"}}
    assert "/home/me" not in (clean.path / "report.html").read_text()
    assert shown(write_integrity_report(clean.path, [])) == {}


@pytest.mark.parametrize("name", ["site", "Center", "scanner"])
def test_each_site_is_judged_by_itself(tmp_path: Path, name: str) -> None:
    volumes = cohort(20, seed=6)
    sites = {one.key: {name: "north" if number % 2 else "south"} for number, one in enumerate(volumes)}
    other = on_grid(4, 1.8, 1.5)
    volumes = [other(one, one) if sites[one.key][name] == "north" else one for one in volumes]
    # On the grid of the other site it is out of line in its own.
    volumes[5] = replace(volumes[5], geometry=AXIAL)
    writer = StoreWriter(tmp_path / "sites", "abdomen", "", LABELS, 1, covariates=(sites, (name,)))
    for volume in volumes:
        writer.write(volume, source="test")
    writer.finish([one.key for one in volumes], {one.key.subject: "train" for one in volumes})
    found = shown(write_integrity_report(tmp_path / "sites"))
    assert found == {"pixel size": {"s05/t1": "1.34 mm, median 1.64"}}
    assert f">{name}" in (tmp_path / "sites" / "report.html").read_text()


def test_without_sites_two_grids_are_mixed_and_a_note(tmp_path: Path) -> None:
    volumes = cohort(10, seed=6)
    volumes[:4] = [on_grid(4, 1.8, 1.5)(one, one) for one in volumes[:4]]
    found = write_integrity_report(stored(tmp_path, volumes).path)
    assert shown(found) == {}
    assert [one.sentence for one in found if one.kind == "mixed grids"] == [
        "The pixel size is mixed, 1.34 to 1.64 mm: one model sees structures of different sizes in pixels"
    ]


def test_series_of_another_name_are_compared_among_themselves(tmp_path: Path) -> None:
    volumes = cohort(9, seed=7)
    bright = [replace(one, window=(0.0, 9000.0), key=replace(one.key, volume="t2")) for one in cohort(9, seed=8)]
    assert shown(write_integrity_report(stored(tmp_path, [*volumes, *bright]).path)) == {}


def test_a_subject_in_several_splits_is_found() -> None:
    record = VolumeRecord(VolumeKey("d", "a", "x"), "train", AXIAL, "1", {}, {}, Path(), "a__x")
    other = replace(record, key=VolumeKey("d", "a", "y"), split="test")
    lines = [ReportedVolume(number, one, {}, None) for number, one in enumerate((record, other), start=1)]
    store = ReportedStore("d", "", LABELS, lines)
    (one,) = (one for one in findings_of_volumes(store) if one.kind == "several splits")
    assert [place.name for place in one.places] == ["a/x", "a/y"]
    assert one.sentence.startswith("1 subject in several splits")


def test_a_label_that_was_not_drawn_in_a_volume_is_not_missed_there(tmp_path: Path) -> None:
    volumes = cohort(12, seed=10)
    volumes[3], volumes[5] = (without(7)(one, volumes[0]) for one in (volumes[3], volumes[5]))
    volumes[3] = replace(volumes[3], labelled=(1, 2, 3))
    found = shown(write_integrity_report(stored(tmp_path, volumes).path))
    assert found == {"empty label": {"s05/t1": "spleen"}}
    nowhere = [replace(without(7)(one, one), labelled=(1, 2, 3)) for one in cohort(3, seed=11)]
    assert shown(write_integrity_report(stored(tmp_path / "nowhere", nowhere).path)) == {}


def test_each_copy_of_a_mask_is_named(tmp_path: Path) -> None:
    volumes = cohort(5, seed=12)
    for place in (2, 3, 4):
        volumes[place] = replace(volumes[place], mask_zyx=volumes[1].mask_zyx)
    found = shown(write_integrity_report(stored(tmp_path, volumes).path))
    assert found == {"same mask": {f"s0{place}/t1": "as s01/t1" for place in (2, 3, 4)}}


@pytest.mark.parametrize("drawn", [(1,), (2, 3), (1, 2, 3)])
def test_the_page_has_no_volume_of_a_label_that_was_not_drawn(tmp_path: Path, drawn: tuple[int, ...]) -> None:
    volumes = cohort(4, seed=12)
    volumes[2] = replace(without(*({1, 2, 3, 7} - set(drawn)))(volumes[2], volumes[0]), labelled=drawn)
    store = stored(tmp_path, volumes)
    write_integrity_report(store.path)
    page = (store.path / "report.html").read_text("utf-8")
    _, table, summary = (re.findall(r"<tr.*?</tr>", part, re.DOTALL) for part in re.split(r"<tbody>", page)[:3])
    shown = [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<td.*?</td>", table[2], re.DOTALL)]
    names = [label.id for label in store.labels]
    assert [cell == "–" for cell in shown[-len(names) :]] == [label not in drawn for label in names]
    counts = {label: re.findall(r"(\d) of (\d)", row)[0] for label, row in zip(names, summary, strict=False)}
    assert counts == {label: ("4", "4") if label in drawn else ("3", "3") for label in names}
    assert "(– was not drawn)" in page


def test_a_page_that_would_say_the_same_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Later":
            return cls(2099, 1, 1, tzinfo=tz)

    store = stored(tmp_path, cohort(3, 0)).path

    def files() -> dict[str, tuple[int, bytes]]:
        return {name: ((store / name).stat().st_mtime_ns, (store / name).read_bytes()) for name in written}

    written = ("report.html", "report.json")
    write_integrity_report(store)
    before = files()
    monkeypatch.setattr("sam2ft.report.integrity.write.datetime", Later)
    write_integrity_report(store)
    assert files() == before
    write_integrity_report(store, [(VolumeKey("toy", "s9", "t1"), "scan.nii: it ends too early")])
    assert b"2099-01-01 00:00 UTC" in (store / "report.html").read_bytes()
    (store / "report.html").write_text("<!doctype html>")
    write_integrity_report(store)
    assert b"it ends too early" in (store / "report.html").read_bytes()
