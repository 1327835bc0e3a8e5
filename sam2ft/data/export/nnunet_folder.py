"""Writing a store as nnU-Net v2 raw dataset: the folder appears when it is whole, and never replaces a foreign one.

DIR/DatasetNNN_Name/  dataset.json  splits_final.json  imagesTr labelsTr imagesTs labelsTs
                      sam2ft.yaml   a dataset file that prepares this folder again
                      sam2ft.json   which case is which volume, ids of labels, exact geometry, digests of all files
DIR/.DatasetNNN_Name.unfinished/    the same while it is written; the same command continues there
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from sam2ft.core.digests.verified_files import read_sealed_json, write_sealed_json
from sam2ft.core.errors import DataError, listed
from sam2ft.core.files import remove_partial, sha256_file, sync_folder, write_json, write_text
from sam2ft.core.folders import exchange
from sam2ft.core.parallel import parallel_map
from sam2ft.data.export.nifti import write_nifti
from sam2ft.data.export.nnunet_export import NnunetCase, NnunetExport
from sam2ft.data.store.store import Store

MARKER = "sam2ft.json"
DATASET_FILE = "sam2ft.yaml"
_SHOWN = 5
# Images are noise to gzip: higher levels take much longer and save little.
_LEVEL = 3

Progress = Callable[[int, int, str], None]


def write_nnunet(export: NnunetExport, out: Path, progress: Progress = lambda *_: None, workers: int = 1) -> bool:
    """Write `out`/DatasetNNN_Name; False when it is there already with this content.

    Args:
        out: the folder that nnU-Net calls nnUNet_raw; made where it is absent.
        progress: called with (number done, number of all, case) after each case.

    Raises:
        DataError: something else is in its place, another dataset has its number, or another export writes it.
    """
    target, work = out / export.folder, out / f".{export.folder}.unfinished"
    _refuse_same_number(export, out)
    if _is_current(export, target):
        return False
    with _lock(out, export.folder):
        _begin(work, export.content)
        write_case = partial(_write_case, work, export.store)
        files: dict[str, str] = {}
        for number, (case, digests) in enumerate(
            zip(export.cases, parallel_map(write_case, _tasks(export), workers), strict=True), start=1
        ):
            files |= digests
            progress(number, len(export.cases), case.name)
        _write_descriptions(export, work, target, files)
        _put(work, target)
    return True


def _refuse_same_number(export: NnunetExport, out: Path) -> None:
    number = export.folder.partition("_")[0]
    others = [one.name for one in sorted(out.glob(f"{number}_*")) if one.name != export.folder]
    if others:
        raise DataError(
            f"{out / others[0]}: has the number of {export.folder}, and nnU-Net wants one dataset of each; give "
            "another number with --id"
        )


def _is_current(export: NnunetExport, target: Path) -> bool:
    """Whether this export is in place already; False: there is none, or an earlier one of the same dataset.

    Raises:
        DataError: anything else is there.
    """
    if not os.path.lexists(target):
        return False
    way_out = "give another --id or --out, or remove it"
    try:
        marker = read_sealed_json(target / MARKER)
        files, dataset, content = dict(marker["files"]), marker["dataset"], marker["content"]
    except (DataError, KeyError, TypeError, ValueError, NotADirectoryError):
        raise DataError(f"{target}: is there and no export of sam2ft; {way_out}") from None
    if dataset != export.store.name:
        raise DataError(f"{target}: is the export of another dataset, {dataset!r}; {way_out}")
    found = {one.relative_to(target).as_posix(): one for one in _files_in(target)}
    foreign = [name for name, path in found.items() if name != MARKER and sha256_file(path) != files.get(name)]
    if foreign:
        raise DataError(
            f"{target}: holds files that were changed or added after the export: {listed(sorted(foreign), _SHOWN)}; "
            f"{way_out}"
        )
    return bool(content == export.content) and files.keys() <= found.keys()


def _files_in(folder: Path) -> Iterator[Path]:
    return (one for one in sorted(folder.rglob("*")) if one.is_file() and not one.name.startswith("."))


@contextmanager
def _lock(out: Path, name: str) -> Iterator[None]:
    """Only one process writes an export."""
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / f".{name}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise DataError(f"{out / name}: another export is writing it; wait until it has ended") from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _begin(work: Path, content: str) -> None:
    """An unfinished export of this content is continued; of another one it is removed."""
    try:
        marker = read_sealed_json(work / MARKER)
        same = content in (marker.get("unfinished"), marker.get("content"))
    except (DataError, AttributeError):
        same = False
    if not same:
        shutil.rmtree(work, ignore_errors=True)
        write_sealed_json(work / MARKER, {"unfinished": content})
    remove_partial(work)


@dataclass(frozen=True)
class _Task:
    """A case and the integers of its labels; small, because it is sent to other processes."""

    case: NnunetCase
    numbers: Sequence[int]
    """Id of the store -> integer of nnU-Net; 0 where there is no label."""


def _tasks(export: NnunetExport) -> list[_Task]:
    numbers = [export.label_ids.get(label, 0) for label in range(max(export.store.labels.ids) + 1)]
    return [_Task(case, numbers) for case in export.cases]


def _write_case(work: Path, store: Store, task: _Task) -> dict[str, str]:
    """Write image and mask of a case where they are absent; returns file -> sha256."""
    case, record = task.case, task.case.record
    image, mask = work / case.image, work / case.mask
    if not (image.is_file() and mask.is_file()):
        store.verify([record])
        table = np.array(task.numbers, dtype=np.uint8 if max(task.numbers) < 256 else np.uint16)
        write_nifti(image, np.asarray(store.image(record.key)), record.geometry, name_slices=True, level=_LEVEL)
        labels = table[np.asarray(store.mask(record.key))]
        write_nifti(mask, labels, record.geometry, name_slices=True, level=_LEVEL)
    return {case.image: sha256_file(image), case.mask: sha256_file(mask)}


def _write_descriptions(export: NnunetExport, work: Path, target: Path, files: dict[str, str]) -> None:
    """The files that describe the cases; the list of all, with their digests, is the last one."""
    for part in ("imagesTr", "labelsTr"):
        (work / part).mkdir(exist_ok=True)
    write_json(work / "dataset.json", export.dataset_json)
    write_json(work / "splits_final.json", list(export.folds))
    write_text(work / DATASET_FILE, export.dataset_file(target))
    names = ("dataset.json", "splits_final.json", DATASET_FILE)
    kept = {*files, *names, MARKER}
    for path in [one for one in _files_in(work) if one.relative_to(work).as_posix() not in kept]:
        path.unlink()
    marker: dict[str, Any] = {
        "content": export.content,
        "dataset": export.store.name,
        "labels": {
            str(number): {"id": label, "name": export.store.labels[label].name}
            for label, number in export.label_ids.items()
        },
        "cases": {case.name: _described(case) for case in export.cases},
        "files": {**files, **{name: sha256_file(work / name) for name in names}},
    }
    write_sealed_json(work / MARKER, marker)


def _described(case: NnunetCase) -> dict[str, Any]:
    """Which volume a case is, and its exact place: headers of NIfTI round it to float32."""
    record = case.record
    volume = {"subject": record.key.subject, "volume": record.key.volume, "split": record.split}
    return volume | {"digest": record.digest, "geometry": record.geometry.to_json()}


def _put(work: Path, target: Path) -> None:
    """Give the finished folder its name; an earlier export is removed."""
    for folder in (work, *(one for one in work.rglob("*") if one.is_dir())):
        sync_folder(folder)
    if not target.exists():
        work.rename(target)
    elif exchange(work, target):
        shutil.rmtree(work, ignore_errors=True)
    else:
        shutil.rmtree(target)
        work.rename(target)
    sync_folder(target.parent)
