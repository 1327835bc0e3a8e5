"""Label tables of BIDS masks (dseg.tsv): what the integers of a mask are called must be what the dataset file says."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from sam2ft.core.errors import DataError
from sam2ft.core.labels import LabelTable
from sam2ft.data.prepare.relabel import plain_name
from sam2ft.data.sources.table_lines import table_lines

_ENDING = "dseg.tsv"


def label_table_problem(mask: Path, root: Path, labels: LabelTable, changes: Mapping[int, int]) -> str:
    """Why the label table of a mask contradicts `labels`, as a message; empty: there is none, or both agree.

    Labels that several integers are merged into have names of their own; integers that the dataset file does not list
    are judged when the mask holds them.

    Args:
        root: folder of the BIDS dataset; tables above it do not count.
        changes: integer of a mask -> label id, 0 to drop it.
    """
    table = _table_of(mask, root)
    if table is None:
        return ""
    try:
        names = _names(table)
    except DataError as error:
        return str(error)
    merged = Counter(changes.values())
    for value, name in names.items():
        label = changes.get(value, 0)
        if label and merged[label] == 1 and plain_name(labels[label].name) != plain_name(name):
            return (
                f"{table}: index {value} is {name!r}, but labels: of the dataset file calls it {labels[label].name!r}; "
                "use one name for both"
            )
    return ""


def _table_of(mask: Path, root: Path) -> Path | None:
    """The table of a mask: of those beside it or above it whose entities the mask has, the nearest and most special."""
    entities = set(mask.name.split("_")[:-1])
    for folder in mask.parents:
        fitting = [path for path in folder.glob(f"*{_ENDING}") if set(path.name.split("_")[:-1]) <= entities]
        if fitting:
            return max(fitting, key=lambda path: (path.name.count("_"), path.name))
        if folder == root:
            break
    return None


def _names(table: Path) -> Mapping[int, str]:
    """Integer -> name of a table.

    Raises:
        DataError: it lacks a column, or an index is no whole number or comes twice.
    """
    header, lines = table_lines(table, ["index", "name"])
    if missing := [name for name in ("index", "name") if name not in header]:
        raise DataError(f"{table}: has no column {', '.join(missing)}; a table of labels needs index and name")
    found: dict[int, str] = {}
    for line in lines:
        index, name = line.cells[header.index("index")], line.cells[header.index("name")]
        if not index.isdecimal() or int(index) in found:
            raise DataError(f"{table}:{line.number}: index is {index!r}; allowed: whole numbers, each in one line")
        found[int(index)] = name
    return found
