"""How many volumes each label was drawn in, where it was not drawn in all of them (partial labels), in words."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sam2ft.core.labels import LabelTable
from sam2ft.data.store.store import Store, VolumeRecord


@dataclass(frozen=True)
class DrawnLabel:
    """A label that was drawn in some volumes only."""

    name: str
    subjects: tuple[int, int]
    """(subjects with a volume in which it was drawn, all subjects)."""
    volumes: tuple[int, int]

    @property
    def words(self) -> str:
        """Such as `femur in 5 of 8 subjects`; with the volumes where their numbers are others."""
        of = "{} of {}".format
        also = "" if self.volumes == self.subjects else f" ({of(*self.volumes)} volumes)"
        return f"{self.name} in {of(*self.subjects)} subjects{also}"


def partly_drawn(records: Iterable[VolumeRecord], labels: LabelTable) -> tuple[DrawnLabel, ...]:
    """The labels that were not drawn in all of `records`, in the order of the table; none in stores without `labelled`.

    Args:
        records: volumes of stores with this label table.
    """
    every = list(records)
    found = []
    for label in labels:
        drawn = [one for one in every if one.labelled is None or label.id in one.labelled]
        if len(drawn) < len(every):
            subjects = len(_subjects(drawn)), len(_subjects(every))
            found.append(DrawnLabel(label.name, subjects, (len(drawn), len(every))))
    return tuple(found)


def _subjects(records: Sequence[VolumeRecord]) -> set[tuple[str, str]]:
    return {(one.key.dataset, one.key.subject) for one in records}


def partial_labels(store: Store) -> list[str]:
    """A sentence about the labels that were not drawn in every volume of a store; empty where all were."""
    partly = ", ".join(one.words for one in partly_drawn(store.volumes, store.labels))
    return [f"drawn in part: {partly}; elsewhere they count neither as absent nor as spurious"] if partly else []
