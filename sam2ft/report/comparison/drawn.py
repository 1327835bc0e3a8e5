"""Labels that were drawn in some of the evaluated volumes only: in how many, from the rows that an evaluation has."""

from collections.abc import Iterable, Mapping, Sequence

from sam2ft.core.tables.rows import Row
from sam2ft.data.store.drawn_labels import DrawnLabel
from sam2ft.report.comparison.compare import ComparedEvaluation

DrawnOf = Mapping[ComparedEvaluation, Sequence[DrawnLabel]]


def drawn_in_part(volume_rows: Iterable[Row]) -> dict[ComparedEvaluation, tuple[DrawnLabel, ...]]:
    """Evaluation -> its labels that have a row in some volumes only, by label id; only evaluations with such a label.

    A label that was drawn has a row in every volume, also where it is absent; one that was not drawn has none.
    """
    volumes: dict[ComparedEvaluation, set[tuple[str, str]]] = {}
    having: dict[ComparedEvaluation, dict[tuple[int, str], set[tuple[str, str]]]] = {}
    for row in volume_rows:
        evaluation, volume = ComparedEvaluation.of(row), (str(row["subject"]), str(row["volume"]))
        volumes.setdefault(evaluation, set()).add(volume)
        label = int(row["label"] or 0), str(row["label_name"])
        having.setdefault(evaluation, {}).setdefault(label, set()).add(volume)
    found = {}
    for evaluation, every in volumes.items():
        partly = {name: drawn for (_, name), drawn in sorted(having[evaluation].items()) if len(drawn) < len(every)}
        if partly:
            found[evaluation] = tuple(
                DrawnLabel(name, (_num_subjects(drawn), _num_subjects(every)), (len(drawn), len(every)))
                for name, drawn in partly.items()
            )
    return found


def _num_subjects(volumes: Iterable[tuple[str, str]]) -> int:
    return len({subject for subject, _ in volumes})


def drawn_sentence(drawn: Sequence[DrawnLabel]) -> str:
    """What was labelled in part, and how it counts, as a sentence; empty where everything was labelled."""
    if not drawn:
        return ""
    return (
        f"Labelled in part: {', '.join(one.words for one in drawn)}; where a label was not drawn it is not scored, and "
        "a mean over labels is one over those that were drawn."
    )
