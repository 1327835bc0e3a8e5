"""Names that are there in place of one that is not: the nearest, never another number or another patient."""

from pathlib import Path

import pytest

from sam2ft.core.given.near import near_name, near_path
from sam2ft.core.given.wrong_kind import Wanted, not_there, there_is

NAMES = ["lr_grid.yaml", "quickstart.yaml", "spine_sam21_base.yaml", "sam2.1_hiera_tiny.pt", "OAI_Knee"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("lr_gird.yaml", "lr_grid.yaml"),
        ("lr_grid", "lr_grid.yaml"),
        ("LR_GRID.yml", "lr_grid.yaml"),
        ("quickstat.yaml", "quickstart.yaml"),
        ("spine_sam21_bas.yaml", "spine_sam21_base.yaml"),
        ("sam2.1_hiera_tiny.safetensors", "sam2.1_hiera_tiny.pt"),
        ("oai_knee", "OAI_Knee"),
        ("nothing_like_it.yaml", None),
        ("x.yaml", None),
        ("sam2_hiera_tiny.pt", None),
        ("spine_sam22_base.yaml", None),
    ],
)
def test_the_name_that_is_meant_is_found(name: str, meant: str | None) -> None:
    assert near_name(name, NAMES) == meant


@pytest.mark.parametrize("name", ["patient2.nii.gz", "p2.nii", "b.nii.gz", "sub-02_T2w.nii.gz"])
def test_another_patient_is_not_meant(name: str) -> None:
    assert near_name(name, ["patient1.nii.gz", "p1.nii", "a.nii.gz", "sub-01_T2w.nii.gz", "patient21.nii.gz"]) is None


def test_of_the_same_name_the_nearest_ending_is_meant() -> None:
    assert near_name("mask.nii", ["mask.csv", "mask.nii.gz", "mask.png"]) == "mask.nii.gz"


def test_a_wrong_folder_in_the_middle_is_found_and_the_rest_of_the_path_with_it(in_empty_folder: Path) -> None:
    Path("runs/knees/knees-1").mkdir(parents=True)
    Path("runs/knees/knees-1/best.pt").touch()
    assert near_path(Path("runs/knee/knees-1/best.pt")) == Path("runs/knees/knees-1/best.pt")
    assert near_path(Path("runs/knee/other")) == Path("runs/knees")
    assert near_path(Path("nowhere/at/all")) is None
    assert near_path(Path("runs/knees/knees-1/best.pt")) is None, "it is there"


def test_hidden_names_and_folders_that_cannot_be_read_give_nothing(in_empty_folder: Path) -> None:
    Path(".secret.yaml").touch()
    Path("file").touch()
    assert near_path(Path("secret.yaml")) is None
    assert near_path(Path("file/secret.yaml")) is None


def test_a_name_alone_is_looked_for_where_such_things_mostly_are(in_empty_folder: Path) -> None:
    Path("experiments").mkdir()
    Path("experiments/lr_grid.yaml").write_text("experiment: {name: a}\nmodule: {}\n")
    for given in ("lr_grid.yaml", "lr_grid", "configs/lr_grid.yaml"):
        assert there_is(Path(given), Wanted.EXPERIMENT) == "; there is experiments/lr_grid.yaml"
    assert not_there(Path("lr_grid"), Wanted.EXPERIMENT) == (
        "lr_grid: no such file or folder; there is experiments/lr_grid.yaml"
    )


def test_a_near_name_of_another_kind_is_not_offered(in_empty_folder: Path) -> None:
    Path("knee.csv").write_text("a,b\n")
    assert there_is(Path("knee.yaml"), Wanted.EXPERIMENT) == ""
    assert there_is(Path("knee.yaml"), Wanted.PREDICTIONS) == "; there is knee.csv"


def test_without_a_near_name_the_message_says_what_to_give(in_empty_folder: Path) -> None:
    message = not_there(Path("a.yaml"), Wanted.DATASET)
    assert message == "a.yaml: no such file or folder; give a dataset file, such as those in experiments/datasets"
    Path("a.yaml").touch()
    assert not_there(Path("a.yaml"), Wanted.DATASET) is None
