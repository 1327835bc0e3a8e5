"""The originals of a store: the files that its volumes were prepared from, which the store itself does not name."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam2ft.config.load_dataset import DatasetConfig, load_dataset
from sam2ft.core.errors import DataError
from sam2ft.core.keys import VolumeKey
from sam2ft.data.prepare.prepare import find_sources
from sam2ft.data.prepare.pseudonyms import Pseudonyms, store_names
from sam2ft.data.store.store import read_index


@dataclass(frozen=True)
class Originals:
    """Images of the volumes of a store, and what hashes their UIDs."""

    images: Mapping[VolumeKey, Path]
    names: Pseudonyms = field(repr=False)


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
    problem = ""
    for base in bases:
        try:
            found = find_sources(config, base)
        except DataError as error:
            problem = problem or str(error)
            continue
        # A store with UIDs has recorded its key: here none is made.
        names, _ = store_names(config, base, store)
        return Originals({source.key: source.image.resolve() for source in names.renamed(found)}, names)
    raise DataError(f"{store}: its original images are away ({problem}); bring them back, or set eval.dicom_seg: false")


def _dataset_of(
    store: Path, index: Mapping[str, Any], dataset_files: Sequence[Path]
) -> tuple[DatasetConfig, Sequence[Path]]:
    """(the dataset file of a store, the folders that its paths may be relative to)."""
    for path in dataset_files:
        if (config := load_dataset(path)).dataset.name == index["dataset"]:
            return config, list(_bases(store, index["names"], path))
    recorded = index["names"].get("dataset_file")
    way_out = "name the dataset file with eval.dicom_sources: [DATASET.yaml], or set eval.dicom_seg: false"
    if recorded is None:
        raise DataError(f"{store}: does not say where its original images are; {way_out}")
    path = store / recorded
    if not path.is_file():
        raise DataError(f"{store}: its dataset file is no longer in {path.resolve()}; {way_out}")
    config = load_dataset(path)
    if config.dataset.name != index["dataset"]:
        raise DataError(f"{path.resolve()}: is no longer the dataset file of {index['dataset']!r}; {way_out}")
    return config, list(_bases(store, index["names"], path))


def _bases(store: Path, names: Mapping[str, str], dataset_file: Path) -> Iterator[Path]:
    """The folder that prepare was called in, where the store tells; this one; that of the dataset file."""
    if "base" in names:
        yield store / names["base"]
    yield Path()
    yield dataset_file.parent
