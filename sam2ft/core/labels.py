"""Label table of a dataset: the integer ids in a mask and the names of their labels."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sam2ft.core.errors import DataError
from sam2ft.core.keys import checked_name


@dataclass(frozen=True)
class Label:
    """One label of a mask. 0 is background and never a Label."""

    id: int
    name: str
    interface: str | None = None
    """Name of the bone label from which this cartilage's thickness is measured, or None."""
    vertebra: str | None = None
    """Name of the label of the vertebrae above and below this intervertebral disc, or None."""

    @property
    def others(self) -> dict[str, str]:
        """Names of the other labels that this label refers to, by key (interface, vertebra), if set."""
        named = {"interface": self.interface, "vertebra": self.vertebra}
        return {key: name for key, name in named.items() if name}


@dataclass(frozen=True)
class LabelTable:
    """The labels of a dataset, in increasing order of id.

    Raises:
        DataError: an id or name is given twice, an id is not in 1..65535, or a label refers to an unknown name.
    """

    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(sorted(self.labels, key=lambda label: label.id)))
        ids, names = [label.id for label in self.labels], [label.name for label in self.labels]
        for found, what in (([str(number) for number in ids], "id"), (names, "name")):
            if repeated := sorted({value for value in found if found.count(value) > 1}):
                raise DataError(f"labels: {what} {', '.join(repeated)} is given twice")
        if bad := [number for number in ids if not 1 <= number <= 65535]:
            raise DataError(f"labels: id {bad[0]}; an id is 1 to 65535, 0 is background")
        for label in self.labels:
            checked_name(f"labels.{label.id}.name", label.name)
            for key, other in label.others.items():
                if other not in names:
                    raise DataError(f"labels.{label.id}.{key}: {other!r} is not a label; known: {', '.join(names)}")

    def __iter__(self) -> Iterator[Label]:
        return iter(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(label.id for label in self.labels)

    def __getitem__(self, label_id: int) -> Label:
        for label in self.labels:
            if label.id == label_id:
                return label
        raise DataError(f"label {label_id} is not in the label table; known: {self.describe()}")

    def named(self, name: str) -> Label:
        """The label with this name; raises DataError if there is none."""
        for label in self.labels:
            if label.name == name:
                return label
        raise DataError(f"no label is named {name!r}; known: {self.describe()}")

    def interface_of(self, label_id: int) -> Label | None:
        """The bone label of a cartilage label, or None when it has none (`Label.interface`)."""
        name = self[label_id].interface
        return None if name is None else self.named(name)

    def vertebra_of(self, label_id: int) -> Label | None:
        """The label of the vertebrae next to a disc, or None when the table gives none (`Label.vertebra`)."""
        name = self[label_id].vertebra
        return None if name is None else self.named(name)

    def drawn(self, labelled: Collection[int] | None) -> tuple[Label, ...]:
        """The labels that were drawn in a volume, which lists their ids; all of them if it lists none (None)."""
        return tuple(label for label in self.labels if labelled is None or label.id in labelled)

    def ids_meant(self, given: Iterable[int | str]) -> tuple[int, ...]:
        """Ids, increasing, of labels that are given by id or name; one text may hold several, apart by blanks.

        Raises:
            DataError: one of them is no label, or the id of one and the name of another.
        """
        found: set[int] = set()
        for one in given:
            text = str(one)
            parts = [text] if text in self._ids_of_text else text.split() or [text]
            for part in parts:
                meant = self._ids_of_text.get(part, set())
                if len(meant) != 1:
                    several = " is the id of one label and the name of another" if meant else " is no label"
                    raise DataError(f"{part!r}{several}; allowed: {self.describe()}, each by its id or its name")
                found |= meant
        return tuple(sorted(found))

    @property
    def _ids_of_text(self) -> dict[str, set[int]]:
        """Id or name as text -> the ids that it may mean."""
        meant: dict[str, set[int]] = {}
        for label in self.labels:
            for text in {str(label.id), label.name}:
                meant.setdefault(text, set()).add(label.id)
        return meant

    def describe(self) -> str:
        """Ids and names as text, for a message."""
        return ", ".join(f"{label.id} {label.name}" for label in self.labels)

    @classmethod
    def unnamed(cls, ids: Iterable[int]) -> "LabelTable":
        """A label table for masks without one: every id is a label, and its name is the integer."""
        return cls(tuple(Label(int(number), str(int(number))) for number in ids))

    def to_json(self) -> dict[str, Any]:
        """JSON value: id as text -> name, and interface and vertebra if set."""
        return {str(label.id): {"name": label.name, **label.others} for label in self.labels}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "LabelTable":
        """The table of a value of `to_json`."""
        labels = (
            Label(int(key), entry["name"], entry.get("interface"), entry.get("vertebra"))
            for key, entry in value.items()
        )
        return cls(tuple(labels))
