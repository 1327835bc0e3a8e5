"""What nnU-Net says about masks that it predicted: dataset.json, which it copies beside them, names its integers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam2ft.core.labels import LabelTable
from sam2ft.data.export.nnunet_export import OURS
from sam2ft.data.images.grids import Segment
from sam2ft.data.prepare.relabel import plain_name


@dataclass(frozen=True)
class NnunetNames:
    """Names of the integers of predicted masks; empty where nothing is said, or nothing that differs from the store."""

    segments: tuple[Segment, ...] = ()
    exported: bool = False
    """They were predicted from an export of the store, and so lie on its grid."""

    def identity(self) -> Any:
        """JSON value for ids; None where masks are read as without names."""
        if not self.segments and not self.exported:
            return None
        return {"names": [[one.value, one.name] for one in self.segments], "exported": self.exported}


NO_NAMES = NnunetNames()


def names_beside(predictions: Path, dataset: str, labels: LabelTable) -> NnunetNames:
    """The names in `predictions`/dataset.json where they give a label another integer than the store does.

    Without such a file, in another form (regions, the names of Decathlon), or where integers and names say the same,
    the integers are the ids of labels as ever.
    """
    content = _content(predictions / "dataset.json") if predictions.is_dir() else {}
    ours, table = content.get(OURS), content.get("labels")
    exported = isinstance(ours, Mapping) and ours.get("dataset") == dataset
    if not isinstance(table, Mapping) or not all(type(value) is int for value in table.values()):
        return NnunetNames((), exported)
    named = {plain_name(label.name): label.id for label in labels}
    segments = tuple(Segment(value, name) for name, value in table.items() if value > 0)
    moved = any(named.get(plain_name(one.name), one.value) != one.value for one in segments)
    return NnunetNames(segments if moved else (), exported)


def _content(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
