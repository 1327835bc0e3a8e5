"""A mask goes to the image that its path names, and to none where its path names several or none."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from sam2ft.data.scan.found import FoundMask
from sam2ft.data.scan.pairing import NumberNames
from sam2ft.data.scan.shown import Overview

SHAPE = (12, 14, 5)
GRID = np.diag([0.5, 0.5, 3.0, 1.0])
Look = Callable[[str], Overview]


def image(path: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(len(path)).integers(0, 900, SHAPE).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, GRID), path)


def mask(path: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros(SHAPE, dtype=np.uint8)
    values[2:6, 3:8, 1:4] = 1
    nibabel.save(nibabel.Nifti1Image(values, GRID), path)


def pairs(found: Overview) -> dict[str, str]:
    """Place of an image below the scanned folder -> its mask."""
    return {"/".join(one.image.parts): "/".join(one.masks[""].parts) for one in found.plan.volumes}


def of_numbers(names: list[str]) -> dict[str, str]:
    """Masks of these names of subjects that are called 1 to 12; the pairs that are right."""
    for number in range(1, 13):
        image(f"knees/{number}/img.nii.gz")
    for name in names:
        mask(f"knees/masks/{name}.nii.gz")
    return {}


@pytest.mark.parametrize(
    "names",
    [
        [f"patient{number}_label_1" for number in range(1, 13)],
        [f"pat{number}_label_{label}" for number in (1, 2, 3) for label in (1, 2)],
        ["case2_label_1"],
        ["case44_label_1", "case45_label_1"],
        [f"P{number}-visit-2" for number in (1, 2)],
    ],
)
def test_a_number_that_may_be_a_label_or_a_visit_names_no_subject(in_folder, look: Look, names: list[str]) -> None:
    of_numbers(names)
    found = look("knees")
    assert not found.plan.volumes
    told = [why for _, why in found.pairing.lonely]
    assert told == ["no name of one subject alone; on the grid of images of 12 subjects"] * len(names)


@pytest.mark.parametrize("pattern", ["{}_T2_seg", "{}", "seg_{}", "{}_label_1", "label_1_{}"])
def test_a_number_at_the_place_where_the_subjects_differ_names_them(in_folder, look: Look, pattern: str) -> None:
    of_numbers([pattern.format(number) for number in range(1, 13)])
    wanted = {f"{number}/img.nii.gz": f"masks/{pattern.format(number)}.nii.gz" for number in range(1, 13)}
    assert pairs(look("knees")) == wanted


def test_a_folder_and_a_name_that_are_two_subjects_are_neither(in_folder, look: Look) -> None:
    of_numbers([f"{label}/{number}" for label in (1, 2) for number in (1, 2, 3)])
    found = pairs(look("knees"))
    assert found == {"1/img.nii.gz": "masks/1/1.nii.gz", "2/img.nii.gz": "masks/2/2.nii.gz"}


@pytest.mark.parametrize(
    ("images", "masks", "wanted"),
    [
        (("P{}_L", "P{}_R"), "masks/P{}_seg_{}", "LLRL"),
        (("P{}_left", "P{}_right"), "masks/{1}/P{0}", ("left", "right", "left", "left")),
        (("P{}/T1", "P{}/T2"), "masks/P{}_{}_seg", ("T2", "T1", "T1", "T1")),
        (("P{}/T1rho", "P{}/T1"), "P{}/{}_mask", ("T1", "T1rho", "T1rho", "T1")),
        (("P{}/2023/pd", "P{}/2024/pd"), "masks/P{}_{}", ("2023", "2024", "2024", "2024")),
        (("P{}/ses-1/pd", "P{}/ses-2/pd"), "derivatives/P{}_{}_dseg", ("ses-1", "ses-2", "ses-1", "ses-1")),
        (("P{}/1/pd", "P{}/2/pd"), "masks/P{}_{}", "1222"),
    ],
    ids=["sides", "sides in folders", "sequences", "names that begin alike", "years", "sessions", "visits"],
)
def test_of_images_on_one_grid_a_mask_belongs_to_the_one_that_it_names(
    in_folder, look: Look, images: tuple[str, str], masks: str, wanted: str | tuple[str, ...]
) -> None:
    right = {}
    for number, name in enumerate(wanted):
        for place in images:
            image(f"knees/{place.format(number)}.nii.gz")
        mask(f"knees/{masks.format(number, name)}.nii.gz")
        words = [place.format(number) for place in images]
        own = next(one for one in words if name in one.replace("/", "_").split("_"))
        right[f"{own}.nii.gz"] = f"{masks.format(number, name)}.nii.gz"
    assert pairs(look("knees")) == right


@pytest.mark.parametrize("name", ["seg", "seg_1", "label2_mask"])
def test_a_mask_that_fits_two_visits_alike_is_left_out_until_its_place_says_which(
    in_folder, look: Look, command: Callable[[str], tuple[str, str]], name: str
) -> None:
    for number in range(3):
        for visit in ("V0", "V1"):
            image(f"knees/P{number}/{visit}/pd.nii.gz")
        mask(f"knees/P{number}/{'V1/' if number else ''}{name}.nii.gz")
    shown, _ = command("scan knees --out knees.yaml")
    assert f"its mask {name}.nii.gz fits 2 images of one kind (P0/V0/pd.nii.gz, P0/V1/pd.nii.gz)" in _joined(shown)
    assert {"/".join(one.image.parts) for one in look("knees").plan.volumes} == {"P1/V1/pd.nii.gz", "P2/V1/pd.nii.gz"}
    Path(f"knees/P0/{name}.nii.gz").rename(f"knees/P0/V0/{name}.nii.gz")
    assert "P0/V0/pd.nii.gz" in pairs(look("knees"))
    Path(f"knees/P0/V0/{name}.nii.gz").rename(f"knees/P0/V0_{name}.nii.gz")
    assert "P0/V0/pd.nii.gz" in pairs(look("knees"))


def _joined(shown: str) -> str:
    return " ".join(shown.split())


def test_what_was_chosen_shows_counts_as_they_are(in_folder, look: Look) -> None:
    for number in (1, 2, 3):
        image(f"knees/{number}/img.nii.gz")
        for reader in ("anna", "bert"):
            mask(f"knees/{number}/{reader}_seg.nii.gz")
    (chosen,) = look("knees").plan.choices
    assert chosen == "1, 2, 3: 2 masks fit the image; */anna_seg.nii.gz is taken, not */bert_seg.nii.gz"


@pytest.mark.parametrize(
    ("names", "trusted"),
    [(["1_2", "2_2", "3_2"], "1_2"), (["a1_2", "a2_2"], None), (["1"], "1"), (["1_9", "2_8", "3_7"], "1_9")],
)
def test_a_number_is_trusted_where_its_place_names_most_subjects(names: list[str], trusted: str | None) -> None:
    masks = [FoundMask(Path(f"/m/{name}.nii"), Path("/m"), "NIfTI") for name in names]
    numbers = NumberNames(["1", "2", "3"], masks)
    assert numbers.is_doubtful(names[0], "2" if trusted is None else "1") is (trusted is None)
