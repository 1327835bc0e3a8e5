"""Names of subjects and volumes in a store, and hashes of UIDs (`subject_id` of the dataset file)."""

import csv
import io
import os.path
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sam2ft.config.load_dataset import DatasetConfig
from sam2ft.core.errors import DataError, listed
from sam2ft.core.keys import VolumeKey, checked_name
from sam2ft.data.dicom.file import is_dicom
from sam2ft.data.sources.paths import in_known_form
from sam2ft.data.sources.row import DEFAULT_VOLUME, VolumeFiles
from sam2ft.data.sources.table_lines import table_text
from sam2ft.data.store.key_file import key_id, keyed_hash, others_can_read, read_key, write_key

# 64 bits: two of 100,000 subjects share an id with a probability of 3e-10, and then the dataset is refused.
_DIGITS = 16
_SHOWN = 3
_UID, _KEYED_UID = "series_uid_sha256", "series_uid_hmac"
_COLUMNS = ["given", "subject"]


@dataclass(frozen=True)
class Pseudonyms:
    """How the names and UIDs of the sources enter a store. The default is that of stores of earlier versions."""

    subject_id: str = "folder"
    """folder: names as given; hash: keyed hashes; table: subjects by a table, volumes by keyed hashes."""
    key: bytes | None = field(default=None, repr=False)
    table: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Given name -> subject, with `table`."""
    with_paths: bool = True
    """Whether a record names the file or folder of its image, and hashes UIDs without a key."""

    def subject(self, given: str) -> str:
        """The subject in the store; with a table only of names that it lists."""
        if self.subject_id == "folder":
            return given
        if self.subject_id == "hash":
            return f"s-{self._hashed('subject', given)}"
        return self.table[given]

    def volume(self, given: str) -> str:
        """The volume in the store; the default name of an only volume comes from no file and stays."""
        same = self.subject_id == "folder" or given == DEFAULT_VOLUME
        return given if same else f"v-{self._hashed('volume', given)}"

    def renamed(self, sources: Sequence[VolumeFiles]) -> list[VolumeFiles]:
        """The sources under their names in the store, sorted by key.

        Raises:
            DataError: the table lacks a subject, or two volumes would have one name.
        """
        given_names = {source.key.subject for source in sources}
        if self.subject_id == "table" and (missing := sorted(given_names - self.table.keys())):
            raise DataError(f"subject_table: has no line for {listed(missing, _SHOWN)}; every subject found needs one")
        found: dict[VolumeKey, VolumeFiles] = {}
        for source in sources:
            given = source.key
            key = VolumeKey(given.dataset, self.subject(given.subject), self.volume(given.volume))
            if key in found:
                raise DataError(
                    f"{found[key].image} and {source.image} would both be called {key}; a key must name one volume: "
                    "rename one of the folders, or its subject in subject_table"
                )
            found[key] = replace(source, key=key)
        return [found[key] for key in sorted(found)]

    def stored_name(self, known: Collection[str]) -> Callable[[str], str]:
        """name of a subject, as given or as stored -> its name among the `known` subjects of the store.

        Raises:
            DataError: (of the returned function) the name is a given one of one subject and the stored one of another.
        """

        def found(name: str) -> str:
            listed_as = in_known_form(name, self.table) if self.subject_id == "table" else name
            of_given = self.table.get(listed_as) if self.subject_id == "table" else self.subject(name)
            forms = (in_known_form(one, known) for one in (of_given or name, name))
            hits = {one for one in forms if one in known}
            if len(hits) > 1:
                raise DataError(f"subject {name} is the given name of {of_given} and another subject of the store")
            return next(iter(hits), name)

        return found

    def slices(self, fields: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """The fields of the slices; in place of the plain hash of the UID its keyed hash."""
        if self.with_paths or _UID not in fields:
            return dict(fields)
        return {
            **{name: values for name, values in fields.items() if name != _UID},
            _KEYED_UID: [None if one is None else self.uid(one) for one in fields[_UID]],
        }

    def uid(self, sha256: str) -> str:
        """Keyed hash of a UID, made from its plain sha256.

        Raises:
            DataError: without a key.
        """
        if self.key is None:
            raise DataError("its UIDs need the key file of the dataset")
        return keyed_hash(self.key, "uid", sha256)

    def stamp(self, fingerprint: str, source: VolumeFiles) -> str:
        """The fingerprint of source files for the record: keyed wherever the volume's other entries are."""
        keyed = self.key is not None and (self.subject_id != "folder" or _has_uids(source.image))
        return keyed_hash(self.key, "source", fingerprint) if keyed and self.key is not None else fingerprint

    def to_json(self) -> dict[str, str] | None:
        """What store.json records; None: nothing, as in earlier versions."""
        if self.with_paths:
            return None
        return {"subject_id": self.subject_id} | ({} if self.key is None else {"key_id": key_id(self.key)})

    def _hashed(self, purpose: str, name: str) -> str:
        if self.key is None:
            raise DataError("names are hashed with a key file, which is away")
        return keyed_hash(self.key, purpose, name)[:_DIGITS]


AS_GIVEN = Pseudonyms()
"""The names of stores of earlier versions."""


def store_names(
    config: DatasetConfig,
    base: Path,
    out: Path,
    index: Mapping[str, Any] | None,
    sources: Sequence[VolumeFiles] = (),
) -> tuple[Pseudonyms, tuple[str, ...]]:
    """(the names of the store `out`, notes about the key file, which is made when it is first needed).

    Args:
        base: folder to which the paths of the dataset file are relative.
        index: the content of store.json; None for a new store.
        sources: those that are prepared into the store.

    Raises:
        DataError: the store has names of another kind or with another key, or the key file is away or in the store.
    """
    wanted, recorded = config.names.subject_id, None if index is None else index.get("names")
    made_with = "folder" if recorded is None else recorded["subject_id"]
    if index is not None and made_with != wanted:
        raise DataError(
            f"{out}: its subjects are named by subject_id: {made_with}, the dataset file has subject_id: {wanted}; set "
            f"it to {made_with}, or prepare into a new folder"
        )
    if index is not None and recorded is None:
        return AS_GIVEN, ()
    table = {} if config.names.table is None else read_subject_table(base / config.names.table)
    known = None if recorded is None else recorded.get("key_id")
    if known is None and wanted == "folder" and not any(_has_uids(source.image) for source in sources):
        return Pseudonyms(with_paths=False), ()
    key, notes = _key(config.names.key_path(base), out, known)
    return Pseudonyms(wanted, key, table, with_paths=False), notes


def _has_uids(image: Path) -> bool:
    """Whether an image is DICOM: a folder, or a file of several images."""
    return image.is_dir() or (image.is_file() and is_dicom(image))


def _key(path: Path, out: Path, known: str | None) -> tuple[bytes, tuple[str, ...]]:
    """(the key, notes). A new store without a key file gets one."""
    # The sources of a phantom lie in its store; no person is behind them.
    if path.resolve().is_relative_to(out.resolve()) and not (out / "source" / "phantom.json").is_file():
        raise DataError(
            f"{path}: the key file lies in the store {out}, which is passed on without it; give another path with "
            "subject_key: in the dataset file"
        )
    if known is None and not path.exists():
        try:
            key = write_key(path)
        except OSError as error:
            raise DataError(
                f"{path}: the key file cannot be made ({(error.strerror or type(error).__name__).lower()}); give a "
                "path that can be written with subject_key: in the dataset file"
            ) from None
        return key, (
            f"{path}: made this key file, with which names and UIDs are hashed; keep it, and keep it out of what you "
            "pass on: without it nothing can be added to the store, and no hash be traced back",
        )
    key = read_key(path)
    if known is not None and key_id(key) != known:
        raise DataError(
            f"{path}: is not the key of {out} (key id {key_id(key)}, the store was prepared with {known}); name the "
            "right key file with subject_key: in the dataset file, or prepare into a new folder"
        )
    return key, (f"{path}: others can read this key file; chmod 600 {path}",) if others_can_read(path) else ()


def read_subject_table(path: Path) -> dict[str, str]:
    """Given name -> subject, from a CSV with the columns given and subject.

    Raises:
        DataError: naming the file and the line with the problem.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; subject_table names a table that does not exist")
    with io.StringIO(table_text(path), newline="") as stream:
        lines = [[cell.strip() for cell in line] for line in csv.reader(stream, skipinitialspace=True)]
    if not lines or lines[0] != _COLUMNS:
        raise DataError(f"{path}: its first line must be the columns given,subject (what names a subject, its id)")
    found: dict[str, str] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not any(line):
            continue
        if len(line) != len(_COLUMNS) or not all(line):
            raise DataError(f"{path}:{number}: needs two cells, given and subject; it has {sum(map(bool, line))}")
        given, subject = line
        if given in found:
            raise DataError(f"{path}:{number}: the given name {given} has a line already; allowed: one line for each")
        try:
            found[given] = checked_name("subject", subject)
        except DataError as error:
            raise DataError(f"{path}:{number}: {error}") from None
    return found


def recorded_names(names: Pseudonyms, config: DatasetConfig, base: Path, out: Path) -> dict[str, str] | None:
    """What store.json records of the names; None: nothing, as in earlier versions.

    With names as given it also tells where the dataset file and the folder of its paths are, relative to the store, so
    that the originals are found again for DICOM-SEG: only where this names no folder above what the store is part of.
    """
    found = names.to_json()
    if found is None or config.path is None or names.subject_id != "folder":
        return found
    store, start, file = (path.resolve() for path in (out, base, config.path))
    together = [place for place in (store.parent, start) if store.is_relative_to(place) and place.name]
    places = {"dataset_file": file, "base": start}
    if all(any(path.is_relative_to(place) for place in together) for path in places.values()):
        return found | {name: Path(os.path.relpath(path, store)).as_posix() for name, path in places.items()}
    return found
