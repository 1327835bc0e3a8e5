"""Recognition of a file or folder by the names in it and its first bytes: never read whole, never decoded.

What is not recognised for certain has no kind, and the reader that gets it says what is wrong with it.
"""

import re
from collections.abc import Collection
from contextlib import suppress
from enum import StrEnum
from itertools import islice
from pathlib import Path

RUN_CONFIG, BEST = "config.yaml", "checkpoints/best.pt"
_STORE_INDEX = "store.json"
_FIRST_BYTES = 8192
_MOST_ENTRIES = 200
"""Entries of a folder that are looked at."""
_OF_A_RUN = {"checkpoints", "identity.json", "status.json", "claim.json"}
_TABLES = {"slice.csv", "volume.csv", "global.csv"}
_TOP_KEY = re.compile(r"^([A-Za-z_]\w*)[ \t]*:", re.MULTILINE)


class Kind(StrEnum):
    """What a path is; the value is its name in a message."""

    RUN = "the folder of a run"
    CHECKPOINTS = "the folder of a run's checkpoints"
    EVALUATION = "the folder of an evaluation"
    EVALUATIONS = "the folder of a run's evaluations"
    RUNS = "the folder of an experiment's runs"
    ALL_RUNS = "a folder with the runs of several experiments"
    REPORT = "the folder of a report"
    STORE = "a prepared store"
    STORES = "a folder of prepared stores"
    STORE_FILE = "a file of a prepared store"
    RUN_FILE = "a file of a run"
    EXPERIMENT = "an experiment file"
    DATASET = "a dataset file"
    SITE = "a site file"
    LABELS = "a label table"
    WEIGHTS = "a file of weights"
    WEIGHTS_FOLDER = "a folder of files of weights"
    DICOM = "a DICOM file"
    SERIES = "a folder of DICOM files"
    IMAGE = "an image or mask"
    IMAGES = "a folder of images or masks"
    FOLDERS = "a folder that holds folders only"
    EMPTY = "an empty folder"
    FOLDER = "a folder"
    TABLE = "a table"
    PICTURE = "a picture"
    PAGE = "a web page"
    ARCHIVE = "an archive"
    DOCUMENT = "a PDF document"
    BINARY = "a binary file"
    EMPTY_FILE = "an empty file"
    KEYS = "a YAML or JSON file of another kind"
    """YAML or JSON with none of the keys that our files begin with."""
    TEXT = "a text file"


OURS = frozenset(
    {
        *(Kind.RUN, Kind.CHECKPOINTS, Kind.EVALUATION, Kind.EVALUATIONS, Kind.RUNS, Kind.ALL_RUNS, Kind.REPORT),
        *(Kind.STORE, Kind.STORES),
        *(Kind.STORE_FILE, Kind.RUN_FILE, Kind.EXPERIMENT, Kind.DATASET, Kind.SITE, Kind.LABELS),
    }
)
"""What sam2ft writes or reads by itself; the others are things of any program."""
WEIGHTS_SUFFIXES = (".pt", ".pth", ".safetensors", ".ckpt", ".bin")
_ENDINGS = {
    Kind.IMAGE: (
        *(".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgh", ".mgz", ".mgh.gz", ".mnc"),
        *(".hdr", ".img", ".hdr.gz", ".img.gz", ".npy", ".npz"),
    ),
    Kind.WEIGHTS: WEIGHTS_SUFFIXES,
    Kind.TABLE: (".csv", ".tsv", ".xlsx", ".parquet"),
    Kind.PICTURE: (".png", ".jpg", ".jpeg", ".svg", ".tif", ".tiff"),
    Kind.PAGE: (".html", ".htm"),
}
_SIGNATURES = {
    Kind.ARCHIVE: (b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!", b"\x28\xb5\x2f\xfd"),
    Kind.DOCUMENT: (b"%PDF",),
}
_TAR = slice(257, 262)
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_CONFIGS = (".yaml", ".yml", ".json")
_FOLDER_OF = {Kind.IMAGE: Kind.IMAGES, Kind.DICOM: Kind.SERIES, Kind.WEIGHTS: Kind.WEIGHTS_FOLDER}


def kind_of(path: Path) -> Kind | None:
    """What `path` is; None when it does not exist, cannot be read or is nothing known."""
    with suppress(OSError):
        return _folder_kind(path) if path.is_dir() else _file_kind(path) if path.is_file() else None
    return None


def some_inside(folder: Path, kind: Kind) -> list[Path]:
    """The entries of a folder that are of this kind, sorted by name."""
    with suppress(OSError):
        return [path for path in _entries(folder) if kind_of(path) is kind]
    return []


def _entries(folder: Path) -> list[Path]:
    visible = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(islice(visible, _MOST_ENTRIES))


def _folder_kind(folder: Path) -> Kind:
    entries = _entries(folder)
    names = {path.name for path in entries}
    signs = {
        Kind.STORE: _STORE_INDEX in names,
        Kind.RUN: RUN_CONFIG in names and bool(names & _OF_A_RUN),
        Kind.REPORT: {"coverage.json", "index.html"} <= names,
        Kind.EVALUATION: names >= _TABLES or ("_SUCCESS" in names and bool(names & _TABLES)),
        Kind.CHECKPOINTS: folder.name == "checkpoints" and _is_run(folder.parent),
        Kind.EVALUATIONS: folder.name == "eval" and _is_run(folder.parent),
        Kind.RUNS: _has_plan(names),
    }
    return next((kind for kind, is_there in signs.items() if is_there), None) or _by_content(entries)


def _by_content(entries: list[Path]) -> Kind:
    if not entries:
        return Kind.EMPTY
    folders = [path for path in entries if path.is_dir()]
    if any((path / _STORE_INDEX).is_file() for path in folders):
        return Kind.STORES
    if any(_has_plan({inside.name for inside in _entries(path)}) for path in folders):
        return Kind.ALL_RUNS
    if len(folders) == len(entries):
        return Kind.FOLDERS
    kinds = [_file_kind(path) for path in entries if path.is_file()][:20]
    for kind, folder_kind in _FOLDER_OF.items():
        if kind in kinds:
            return folder_kind
    return Kind.FOLDER


def _has_plan(names: Collection[str]) -> bool:
    return any(re.fullmatch(r"plan-\w+\.json", name) for name in names)


def _is_run(folder: Path) -> bool:
    return (folder / RUN_CONFIG).is_file() and any((folder / name).exists() for name in _OF_A_RUN)


def _file_kind(path: Path) -> Kind | None:
    with path.open("rb") as stream:
        start = stream.read(_FIRST_BYTES)
    if path.name == _STORE_INDEX or (path.parent / _STORE_INDEX).is_file() or _in_volumes(path):
        return Kind.STORE_FILE
    if start[128:132] == b"DICM":
        return Kind.DICOM
    named = next((kind for kind, endings in _ENDINGS.items() if path.name.lower().endswith(endings)), None)
    text = _text_of(start)
    if text is None or named not in (None, Kind.WEIGHTS):
        # A file of weights that is text is not one, whatever its name says.
        return named or _binary_kind(start)
    return _text_kind(path, text)


def _text_kind(path: Path, text: str) -> Kind | None:
    """The kind of a file that begins with `text`; None for blanks alone."""
    if not text.strip():
        return None if text else Kind.EMPTY_FILE
    keys = set(_TOP_KEY.findall(text))
    if (kind := _config_kind(keys)) is not None:
        return kind
    if _is_run(path.parent):
        return Kind.RUN_FILE
    # Of a file that wants to be YAML, the YAML reader says best what is wrong.
    return Kind.KEYS if keys or path.name.lower().endswith(_CONFIGS) else Kind.TEXT


def _binary_kind(start: bytes) -> Kind | None:
    """The kind of a file that is no text in UTF-8; None for text in another encoding, which its reader says."""
    for kind, signatures in _SIGNATURES.items():
        if start.startswith(signatures):
            return kind
    if start[_TAR] == b"ustar":
        return Kind.ARCHIVE
    return Kind.BINARY if b"\0" in start and not start.startswith(_UTF_16) else None


def _in_volumes(path: Path) -> bool:
    return path.parent.name == "volumes" and (path.parent.parent / _STORE_INDEX).is_file()


def _config_kind(keys: set[str]) -> Kind | None:
    """The kind of a YAML file with these top-level keys."""
    if "sources" in keys:
        return Kind.DATASET
    if "experiment" in keys and keys & {"module", "dataset", "datamodule", "sweep", "extends", "eval"}:
        return Kind.EXPERIMENT
    if "site" in keys:
        return Kind.SITE
    return Kind.LABELS if keys == {"labels"} else None


def _text_of(start: bytes) -> str | None:
    """The first bytes as text; None for binary content."""
    if b"\0" in start:
        return None
    try:
        # The last character may be cut off.
        return start[: len(start) if len(start) < _FIRST_BYTES else -4].decode("utf-8")
    except UnicodeDecodeError:
        return None
