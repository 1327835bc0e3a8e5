"""The originals of a store: the files that its volumes were prepared from, which the store itself does not name."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam2ft.config.load_dataset import DatasetConfig, load_dataset
from sam2ft.config.schema.dataset import Reading
from sam2ft.core.errors import DataError
from sam2ft.core.keys import VolumeKey
from sam2ft.data.prepare.pseudonyms import Pseudonyms, store_names
from sam2ft.data.sources.find import find_sources
from sam2ft.data.sources.row import chosen_reading
from sam2ft.data.store.index import read_index


@dataclass(frozen=True)
class Originals:
    """Images of the volumes of a store, and what hashes their UIDs."""

    images: Mapping[VolumeKey, Path]
    names: Pseudonyms = field(repr=False)
    readings: Mapping[VolumeKey, Reading] = field(default_factory=dict)
    """How the dataset file reads each."""


def originals(store: Path, dataset_files: Sequence[Path] = ()) -> Originals | None:
    """The originals of a store by its dataset file; None for a store of an earlier version, whose records name them.

    Args:
        dataset_files: dataset files of which one belongs to the store; without one, the file that the store names.

    Raises:
        UserError: no dataset file is known, or by it no image is found, or its key file is away or another one.
    """
    index = read_index(store)
    if index is None or "names" not in index:
        return None
    config, bases = _dataset_of(store, index, dataset_files)
    problem, of_key = "", None
    for base in bases:
        try:
            found = find_sources(config, base)
        except DataError as error:
            problem = problem or str(error)
            continue
        try:
            # A store with UIDs has recorded its key: here none is made.
            names, _ = store_names(config, base, store, index)
        except DataError as error:
            of_key = of_key or error
            continue
        listed = [one for one in found if names.subject_id != "table" or one.key.subject in names.table]
        rows = list(names.renamed(listed))
        readings = {source.key: chosen_reading(source, config.reading) for source in rows}
        return Originals({source.key: source.image.resolve() for source in rows}, names, readings)
    if of_key is not None:
        raise of_key
    told = f" ({problem})" if config.names.subject_id == "folder" else ""
    raise DataError(
        f"{store}: its original images are not where the dataset file says{told}; bring them back (launch/prepare.py "
        "says what it finds), or set eval.dicom_seg: false"
    )


@contextmanager
def without_given_names(found: Originals | None, key: VolumeKey) -> Iterator[None]:
    """Keep paths of originals out of errors where subjects have other names in the store: logs and states are kept.

    Raises:
        DataError: instead of one that may name files; it names the volume.
    """
    try:
        yield
    except DataError:
        if found is None or found.names.subject_id == "folder":
            raise
        raise DataError(
            f"{key}: its DICOM series is not the one that it was prepared from, or cannot be read; launch/prepare.py "
            "names the file and the reason; or set eval.dicom_seg: false"
        ) from None


def _dataset_of(
    store: Path, index: Mapping[str, Any], dataset_files: Sequence[Path]
) -> tuple[DatasetConfig, Sequence[Path]]:
    """(the dataset file of a store, the folders that its paths may be relative to)."""
    for path in dataset_files:
        bases = list(_bases(store, index["names"], path))
        if (config := load_dataset(path, bases)).dataset.name == index["dataset"]:
            return config, bases
    recorded = index["names"].get("dataset_file")
    way_out = "name the dataset file with eval.dicom_sources: [DATASET.yaml], or set eval.dicom_seg: false"
    if recorded is None:
        raise DataError(f"{store}: does not say where its original images are; {way_out}")
    path = store / recorded
    if not path.is_file():
        raise DataError(f"{store}: its dataset file is no longer in {path.resolve()}; {way_out}")
    bases = list(_bases(store, index["names"], path))
    config = load_dataset(path, bases)
    if config.dataset.name != index["dataset"]:
        raise DataError(f"{path.resolve()}: is no longer the dataset file of {index['dataset']!r}; {way_out}")
    return config, bases


def _bases(store: Path, names: Mapping[str, str], dataset_file: Path) -> Iterator[Path]:
    """The folder that prepare was called in, where the store tells; this one; that of the dataset file."""
    if "base" in names:
        yield store / names["base"]
    yield Path()
    yield dataset_file.parent
