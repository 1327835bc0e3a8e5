"""The folder of an export: whole or not at all, continued, replaced where it is ours, left alone where it is not."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from sam2ft.cli.export import next_commands
from sam2ft.core.errors import DataError
from sam2ft.core.files import sha256_file, write_json
from sam2ft.data.export import nnunet_folder
from sam2ft.data.export.nnunet_export import NnunetExport, nnunet_export
from sam2ft.data.export.nnunet_folder import write_nnunet
from sam2ft.data.store.store import Store
from sam2ft.evaluation.masks.score import score_store
from sam2ft.evaluation.masks.settings import Scoring

ROOT = Path(__file__).parents[3]


def contents(folder: Path) -> dict[str, str]:
    return {one.relative_to(folder).as_posix(): sha256_file(one) for one in sorted(folder.rglob("*")) if one.is_file()}


def command(*arguments: Any, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "sam2ft.cli.main", "export", *map(str, arguments)],
        cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def export(store: Store) -> NnunetExport:
    return nnunet_export(store, 501)


def test_the_same_store_gives_the_same_bytes_and_nothing_is_written_twice(
    export: NnunetExport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # sam2ft.yaml holds the path of --out
    seen: list[str] = []
    (tmp_path / "one").mkdir()
    assert write_nnunet(export, Path("raw"), lambda *given: seen.append(str(given)))
    assert len(seen) == 6
    before = contents(tmp_path / "raw")
    assert not write_nnunet(export, Path("raw"))
    assert contents(tmp_path / "raw") == before
    monkeypatch.chdir(tmp_path / "one")
    assert write_nnunet(export, Path("raw"), workers=2)
    assert contents(tmp_path / "one" / "raw") == before
    assert [one.name for one in (tmp_path / "raw").iterdir()] == ["Dataset501_toy"]


@pytest.mark.parametrize("after", [0, 1, 3, 5])
def test_an_export_that_failed_leaves_no_folder_and_goes_on_where_it_was(
    export: NnunetExport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    raw, written = tmp_path / "raw", []
    original = nnunet_folder.write_nifti

    def write(path: Path, *given: Any, **more: Any) -> None:
        if len(written) == 2 * after + 1:  # between the image and the mask of a case
            raise OSError(28, "No space left on device", str(path))
        written.append(path.name)
        original(path, *given, **more)

    with monkeypatch.context() as full:
        full.setattr(nnunet_folder, "write_nifti", write)
        with pytest.raises(OSError, match="No space left"):
            write_nnunet(export, raw)
    assert [one.name for one in raw.iterdir()] == [".Dataset501_toy.unfinished"]
    again: list[str] = []
    monkeypatch.setattr(
        nnunet_folder, "write_nifti", lambda path, *a, **b: (again.append(path.name), original(path, *a, **b))
    )
    write_nnunet(export, raw)
    assert len(again) == 12 - 2 * after
    other = tmp_path / "other"
    write_nnunet(export, other)
    assert {name: one for name, one in contents(raw).items() if "sam2ft" not in name} == {
        name: one for name, one in contents(other).items() if "sam2ft" not in name
    }


def test_an_unfinished_export_of_another_state_is_not_continued(
    export: NnunetExport, tmp_path: Path, prepared: Callable[..., Any], write_store: Callable[..., Store]
) -> None:
    other = nnunet_export(write_store(tmp_path / "other", [prepared("a"), prepared("z")], {"z": "val"}), 501)
    assert other.folder == export.folder
    work = tmp_path / "raw" / ".Dataset501_toy.unfinished"
    nnunet_folder._begin(work, other.content)
    for case in other.cases:
        nnunet_folder._write_case(work, other.store, nnunet_folder._Task(case, [0] * 6))
    write_nnunet(export, tmp_path / "raw")
    write_nnunet(export, tmp_path / "plain")
    names = [set(contents(tmp_path / one)) for one in ("raw", "plain")]
    assert names[0] == names[1]
    one = "Dataset501_toy/labelsTr/a.nii.gz"
    assert contents(tmp_path / "raw")[one] == contents(tmp_path / "plain")[one]


def test_a_store_that_was_prepared_anew_replaces_its_export(
    export: NnunetExport, tmp_path: Path, prepared: Callable[..., Any], write_store: Callable[..., Store]
) -> None:
    write_nnunet(export, tmp_path / "raw")
    now = nnunet_export(write_store(tmp_path / "other", [prepared("a"), prepared("z")], {"z": "val"}), 501)
    assert write_nnunet(now, tmp_path / "raw")
    found = {one.name for one in (tmp_path / "raw" / "Dataset501_toy" / "labelsTr").iterdir()}
    assert found == {"a.nii.gz", "z.nii.gz"}
    assert [one.name for one in (tmp_path / "raw").iterdir()] == ["Dataset501_toy"]


def foreign_folder(target: Path) -> None:
    (target / "imagesTr").mkdir(parents=True)
    write_json(target / "dataset.json", {"labels": {"background": 0}})


def foreign_file(target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.write_text("mine")


def broken_link(target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.symlink_to("nowhere")


def same_number(target: Path) -> None:
    (target.parent / "Dataset501_liver").mkdir(parents=True)


FOREIGN = {
    "a folder of another program": (foreign_folder, "is there and no export of sam2ft; give another --id or --out"),
    "a file": (foreign_file, "is there and no export of sam2ft"),
    "a link to nothing": (broken_link, "is there and no export of sam2ft"),
    "another dataset of this number": (same_number, "Dataset501_liver: has the number of Dataset501_toy.*--id$"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_what_sam2ft_did_not_write_is_never_replaced(export: NnunetExport, tmp_path: Path, case: str) -> None:
    make, message = FOREIGN[case]
    make(tmp_path / "raw" / "Dataset501_toy")
    before = {one.name: one.lstat().st_mtime_ns for one in (tmp_path / "raw").rglob("*")}
    with pytest.raises(DataError, match=message):
        write_nnunet(export, tmp_path / "raw")
    assert {one.name: one.lstat().st_mtime_ns for one in (tmp_path / "raw").rglob("*")} == before
    other = nnunet_export(export.store, 502)  # what the message says
    assert write_nnunet(other, tmp_path / "raw")


@pytest.mark.parametrize("case", list(FOREIGN)[:3])
def test_what_was_removed_makes_room(export: NnunetExport, tmp_path: Path, case: str) -> None:
    target = tmp_path / "raw" / "Dataset501_toy"
    FOREIGN[case][0](target)
    with pytest.raises(DataError, match=r"give another --id or --out, or remove it$"):
        write_nnunet(export, tmp_path / "raw")
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    assert write_nnunet(export, tmp_path / "raw")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda folder: (folder / "imagesTr" / "mine_0000.nii.gz").write_text("x"), "imagesTr/mine_0000.nii.gz"),
        (lambda folder: (folder / "labelsTr" / "a.nii.gz").write_text("x"), "labelsTr/a.nii.gz"),
        (lambda folder: (folder / "dataset.json").write_text("{}"), "dataset.json"),
    ],
)
def test_files_that_were_changed_or_added_are_not_lost(
    export: NnunetExport, tmp_path: Path, change: Callable[[Path], Any], named: str
) -> None:
    write_nnunet(export, tmp_path / "raw")
    change(tmp_path / "raw" / export.folder)
    before = contents(tmp_path / "raw")
    with pytest.raises(DataError, match=rf"changed or added after the export: {named}; give another --id or --out"):
        write_nnunet(export, tmp_path / "raw")
    assert contents(tmp_path / "raw") == before


def test_a_file_that_was_removed_comes_back(export: NnunetExport, tmp_path: Path) -> None:
    write_nnunet(export, tmp_path / "raw")
    before = contents(tmp_path / "raw")
    (tmp_path / "raw" / export.folder / "labelsTr" / "a.nii.gz").unlink()
    assert write_nnunet(export, tmp_path / "raw")
    assert contents(tmp_path / "raw") == before


def test_another_dataset_of_the_name_is_refused(
    export: NnunetExport, tmp_path: Path, prepared: Callable[..., Any], write_store: Callable[..., Store]
) -> None:
    write_nnunet(export, tmp_path / "raw")
    other = write_store(tmp_path / "other", [prepared("a", dataset="liver")])
    with pytest.raises(DataError, match="is the export of another dataset, 'toy'; give another --id or --out"):
        write_nnunet(nnunet_export(other, 501, "toy"), tmp_path / "raw")


def test_two_exports_at_once_are_refused(export: NnunetExport, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    with (
        FileLock(tmp_path / "raw" / ".Dataset501_toy.lock"),
        pytest.raises(DataError, match="another export is writing"),
    ):
        write_nnunet(export, tmp_path / "raw")
    assert write_nnunet(export, tmp_path / "raw")


def test_a_damaged_array_of_the_store_is_never_exported(export: NnunetExport, tmp_path: Path) -> None:
    path = next((export.store.path / "volumes").glob("b__*.mask.npy"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="the content changed after preparation"):
        write_nnunet(export, tmp_path / "raw")
    assert not (tmp_path / "raw" / export.folder).exists()


def test_the_command_prints_its_folder_and_what_comes_next(store: Store, tmp_path: Path) -> None:
    done = command("nnunet", store.path, "--out", "my raw", "--id", "7", "--name", "Knee-2", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "my raw/Dataset007_Knee-2\n")
    for line in (
        "my raw/Dataset007_Knee-2: written; cases: 4 in imagesTr, 2 in imagesTs",
        "nnUNetv2_plan_and_preprocess -d 7 --verify_dataset_integrity",
        f"cp 'my raw/Dataset007_Knee-2/splits_final.json' {tmp_path}/nnUNet_preprocessed/Dataset007_Knee-2",
        "nnUNetv2_train 7 3d_fullres 0",
        "nnUNetv2_predict -i 'my raw/Dataset007_Knee-2/imagesTs' -o predictions_7 -d 7 -c 3d_fullres -f 0",
        f"sam2ft eval --predictions predictions_7 --data {store.path} --split test",
    ):
        assert line in done.stderr
    again = command("nnunet", store.path, "--out", "my raw", "--id", "7", "--name", "Knee-2", cwd=tmp_path)
    assert "unchanged" in again.stderr


@pytest.mark.parametrize("folder", ["Dataset007_a", "Dataset501_knees", "Dataset999_b"])
@pytest.mark.parametrize("by_folds", [True, False])
def test_without_test_cases_nothing_is_predicted_and_scored(folder: str, by_folds: bool) -> None:
    with_test, without = (
        next_commands(Path("raw"), folder, Path("data/x"), by_folds=by_folds, tested=tested).splitlines()
        for tested in (True, False)
    )
    assert [line.split()[0] for line in with_test[-2:]] == ["nnUNetv2_predict", "sam2ft"]
    assert without == with_test[:-2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "nowhere: no "),
        (("STORE", "--id", "0"), "'0'; allowed: a whole number from 1 to 999"),
        (("STORE", "--id", "1000"), "'1000'; allowed"),
        (("STORE", "--name", "a/b"), "'a/b'; allowed: letters without accents"),
        (("STORE", "--out", "a_file"), "a_file"),
        (("STORE", "--out", "a_file/raw"), "a_file/raw"),
    ],
)
def test_what_the_user_can_fix_ends_with_2_and_one_line(
    store: Store, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "a_file").write_text("x")
    given = [str(store.path) if one == "STORE" else one for one in arguments]
    done = command("nnunet", "--out", "raw", *given, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr.splitlines()[-1]
    assert not (tmp_path / "raw").exists()


def test_predictions_with_the_integers_of_nnunet_are_scored_by_the_names_beside_them(
    store: Store, tmp_path: Path
) -> None:
    """Its masks as predictions: perfect, though the store calls the bone 5 and nnU-Net calls it 2."""
    export = nnunet_export(store, 501)
    write_nnunet(export, tmp_path / "raw")
    folder, out = tmp_path / "raw" / export.folder, tmp_path / "nnunet_out"
    out.mkdir()
    for case in export.cases:
        if case.part == "Ts":
            (out / f"{case.name}.nii.gz").write_bytes((folder / case.mask).read_bytes())
    plain = Scoring()
    with pytest.raises(DataError, match=r"unknown label id 2"):
        score_store(out, store.path, out=tmp_path / "without", scoring=plain)
    (out / "dataset.json").write_bytes((folder / "dataset.json").read_bytes())
    scored = score_store(out, store.path, out=tmp_path / "with", scoring=plain)
    assert {row["dice"] for row in scored.tables["volume"]} == {1.0}
    assert {row["label"] for row in scored.tables["volume"]} >= {1, 5}
    assert np.isclose(len(scored.tables["volume"]), 2 * len({row["label"] for row in scored.tables["volume"]}))
