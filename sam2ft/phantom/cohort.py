"""Writing a phantom cohort as raw data (DICOM, NIfTI) with a dataset file, in the form of any other dataset.

dataset.yaml  truth.json
dicom/<subject>/sag/*.dcm                              the anatomical series
masks/<subject>.nii.gz
maps/<subject>_{t2,t1rho}.nii.gz                       knee: the true maps, NaN outside cartilage
echoes/<subject>/sag/*.dcm  spinlock/<subject>/sag/*.dcm   knee: series to fit such maps to
"""

import gzip
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt

from sam2ft.core.errors import DataError
from sam2ft.core.files import replacing, write_json, write_text
from sam2ft.core.geometry import Geometry
from sam2ft.core.labels import LabelTable
from sam2ft.core.parallel import parallel_map
from sam2ft.phantom.dicom import DicomSeries, write_series
from sam2ft.phantom.knee import KNEE_LABELS
from sam2ft.phantom.knee_subject import KNEE_SEQUENCES
from sam2ft.phantom.phantom import (
    ECHO_TIMES_MS,
    SPIN_LOCK_TIMES_MS,
    PhantomVolume,
    echo_series,
    knee_subject,
    spin_lock_series,
    spine_subject,
)
from sam2ft.phantom.spine import SPINE_LABELS
from sam2ft.phantom.spine_subject import SPINE_SEQUENCES

Progress = Callable[[int, int, str], None]
"""Called after each subject with: number of written subjects, number of all subjects, name."""

VOLUME = "sag"
_SUBJECTS: Mapping[str, Callable[[int, int, str], PhantomVolume]] = {"knee": knee_subject, "spine": spine_subject}
_SEQUENCES: Mapping[str, tuple[str, ...]] = {"knee": tuple(KNEE_SEQUENCES), "spine": tuple(SPINE_SEQUENCES)}
_LABELS: Mapping[str, LabelTable] = {"knee": KNEE_LABELS, "spine": SPINE_LABELS}
# Noise of each channel of the relaxation series, as a fraction of the largest signal: that of a scan of a phantom.
_SERIES_NOISE = 0.004


def write_cohort(kind: str, subjects: int, seed: int, folder: Path, progress: Progress | None = None) -> None:
    """Write subjects 0 to `subjects` - 1 of cohort `seed` below `folder`, with dataset.yaml and truth.json.

    The same arguments give the same bytes of pixels and headers.

    Raises:
        DataError: when the kind is unknown or there are no subjects.
    """
    if kind not in _SUBJECTS:
        raise DataError(f"phantom {kind!r}; allowed: {', '.join(_SUBJECTS)}")
    if subjects < 1:
        raise DataError(f"{subjects} subjects; a cohort has at least one")
    folder.mkdir(parents=True, exist_ok=True)
    truths: dict[str, Any] = {}
    work = partial(write_subject, kind, seed, folder)
    # numpy uses one thread in this code, so the subjects are distributed over the cores.
    for name, truth in parallel_map(work, range(subjects), len(os.sched_getaffinity(0))):
        truths[name] = truth
        if progress is not None:
            progress(len(truths), subjects, name)
    write_json(folder / "truth.json", {"kind": kind, "seed": seed, "subjects": truths})
    write_text(folder / "dataset.yaml", dataset_yaml(kind, seed))


def cohort_sequence(kind: str, seed: int) -> str:
    """The sequence of all subjects of a cohort; it cycles with the seed of the cohort."""
    sequences = _SEQUENCES[kind]
    return sequences[seed % len(sequences)]


def write_subject(kind: str, seed: int, folder: Path, index: int) -> tuple[str, dict[str, Any]]:
    """Write images, masks and maps of one subject; returns (its name, its truth)."""
    volume = _SUBJECTS[kind](seed, index, cohort_sequence(kind, seed))
    subject, geometry = volume.subject, volume.geometry
    # Every second subject has RescaleSlope and a negative RescaleIntercept.
    largest = float(volume.image_zyx.max())
    rescale = (1.0, 0.0) if index % 2 == 0 else (round(largest / 3000, 6), -8.0)
    anatomy = DicomSeries(
        subject, 2, f"SAG {volume.truth['sequence'].upper()} {subject}", seed, rescale=rescale,
        frames=({"EchoTime": 12.0 + index % 5},), field_strength=3.0 if index % 3 else 1.5,
    )  # fmt: skip
    write_series(folder / "dicom" / subject / VOLUME, volume.image_zyx[None], geometry, anatomy)
    _write_nifti(folder / "masks" / f"{subject}.nii.gz", volume.mask_zyx, geometry)
    if volume.t2_ms_zyx is not None and volume.t1rho_ms_zyx is not None:
        _write_nifti(folder / "maps" / f"{subject}_t2.nii.gz", volume.t2_ms_zyx, geometry)
        _write_nifti(folder / "maps" / f"{subject}_t1rho.nii.gz", volume.t1rho_ms_zyx, geometry)
        _write_relaxation(volume, seed + index, folder)
    return subject, volume.truth


def _write_relaxation(volume: PhantomVolume, seed: int, folder: Path) -> None:
    """Write the multi-echo and the spin-lock series with RescaleSlope 0.25."""
    subject, fine = volume.subject, (0.25, 0.0)
    echoes = tuple({"EchoTime": time, "EchoNumbers": number} for number, time in enumerate(ECHO_TIMES_MS, start=1))
    series = DicomSeries(subject, 3, "SAG T2 MULTI ECHO", seed, rescale=fine, frames=echoes)
    write_series(
        folder / "echoes" / subject / VOLUME, echo_series(volume, _SERIES_NOISE, seed), volume.geometry, series
    )
    locks = tuple(
        {"EchoTime": 4.0, "AcquisitionNumber": number, "TemporalPositionIdentifier": number}
        for number in range(1, len(SPIN_LOCK_TIMES_MS) + 1)
    )
    series = DicomSeries(subject, 4, "SAG T1RHO SPIN LOCK", seed, rescale=fine, frames=locks)
    frames = spin_lock_series(volume, _SERIES_NOISE, seed)
    write_series(folder / "spinlock" / subject / VOLUME, frames, volume.geometry, series)


def _write_nifti(path: Path, array_zyx: npt.NDArray[Any], geometry: Geometry) -> None:
    import nibabel as nib

    image = nib.nifti1.Nifti1Image(array_zyx.transpose(2, 1, 0), geometry.affine)
    image.header.set_xyzt_units("mm")
    # mtime 0, so that the same cohort has the same bytes.
    packed = gzip.compress(image.to_bytes(), compresslevel=3, mtime=0)
    with replacing(path) as temporary:
        temporary.write_bytes(packed)


def dataset_yaml(kind: str, seed: int) -> str:
    """Content of the dataset file of a cohort; paths are relative to its folder. 12 subjects are split 6 / 2 / 4."""
    labels = "\n".join(
        f"  {label.id}: {{name: {label.name}{f', interface: {label.interface}' if label.interface else ''}}}"
        for label in _LABELS[kind]
    )
    maps = '\n  maps: {t2: "maps/{subject}_t2.nii.gz", t1rho: "maps/{subject}_t1rho.nii.gz"}' if kind == "knee" else ""
    return f"""# A generated cohort; prepare it from this folder: launch/prepare.py dataset.yaml --out STORE
dataset: {{name: {kind}_phantom, anatomy: "{kind} phantom, generated images", modality: simulated MRI}}
sources:
  images: "dicom/{{subject}}/{{volume}}"
  masks: "masks/{{subject}}.nii.gz"{maps}
labels:
{labels}
split: {{train: 0.5, val: 0.17, test: 0.33, seed: {seed}}}
"""
