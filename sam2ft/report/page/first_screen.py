"""The first screen of the page: data, verdict, what is missed, a typical and the worst slice. No torch."""

from collections.abc import Sequence

from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.errors import DataError, number_of
from sam2ft.data.store.split import SPLITS
from sam2ft.data.store.store import Store
from sam2ft.report.comparison.compare import MAIN_MEASURE, Comparison, ComparisonRow
from sam2ft.report.comparison.improvement import Improvement
from sam2ft.report.comparison.misses import LabelFailures, Misses
from sam2ft.report.comparison.number_text import MEASURE_WORDS, ends_text, interval, number_text, p_said, p_text, signed
from sam2ft.report.page.content import DataLine, FirstScreen, SliceCase, Verdict
from sam2ft.runs.stores import max_train_subjects, open_source
from sam2ft.statistics.small_samples import FEW, LEVEL, TOO_SMALL

HEADER = {"field_strength": "T", "series_desc": ""}
"""Field of the DICOM header in a store -> its unit."""
_MOST_VALUES = 3


def first_screen(
    comparison: Comparison,
    shown: str | None,
    experiment: Experiment | None,
    cases: Sequence[SliceCase],
    misses: Misses,
    improvements: Sequence[Improvement],
) -> FirstScreen:
    """First screen of the run `shown` (the best point, or else the baseline) with its own configuration."""
    overall = {one.evaluation: one for one in improvements if one.label is None and one.measure == MAIN_MEASURE}
    own = [one for one in cases if one.run == shown]
    lines = [line for line in comparison.lines if line.point.run == shown and MAIN_MEASURE in line.scores]
    verdicts = {line.evaluation: verdict(line, overall.get(line.evaluation), misses) for line in lines}
    return FirstScreen(
        data=() if experiment is None else data_lines(experiment, trained=shown == comparison.best),
        verdicts=tuple(verdicts.values()),
        typical=next((one for why in ("median subject", "median") for one in own if one.why == why), None),
        # Earlier versions drew failures of a single label among the median slices.
        worst=next((one for one in own if one.why == "worst" or any(label.dice == 0 for label in one.labels)), None),
    )


def verdict(line: ComparisonRow, improvement: Improvement | None, misses: Misses) -> Verdict:
    """What came out on the evaluation of a line, in sentences."""
    new = misses.new.get(line.evaluation)
    missed = _missed(misses.total(line.point.run, line.evaluation))
    return Verdict(
        evaluation=line.evaluation,
        result=_result(line) if improvement is None else _improved(improvement),
        misses=missed if new is None else f"{missed} {new.sentence()}",
        conclusive=improvement is not None and improvement.conclusive,
    )


def _result(line: ComparisonRow) -> str:
    """Of a run that cannot be compared with its initial weights."""
    score = line.scores[MAIN_MEASURE]
    ends = f", 95 % interval {interval(score)}" if interval(score) else ""
    small = f"; {TOO_SMALL}" if score.n < FEW else ""
    what = "Initial weights, not fine-tuned" if line.point.index is None else "Not compared with the initial weights"
    return f"{what}: {MEASURE_WORDS[MAIN_MEASURE]} {number_text(score.mean)} (n = {score.n}{ends}){small}."


def _improved(found: Improvement) -> str:
    """`Fine-tuning improves Dice per slice by 0.032 (95 % interval ..., p = 0.002, n = 24 subjects).`"""
    measure, numbers = MEASURE_WORDS[found.measure], p_said(found.corrected)
    ends = f"95 % interval {ends_text(found.interval)}, " if found.interval else ""
    told = f"chosen − baseline {signed(found.difference)} ({ends}{numbers}, n = {number_of(found.n, 'subject')})"
    if not found.conclusive:
        least = p_text(found.smallest_p)
        return f"{measure}: {told}; {TOO_SMALL}: with {number_of(found.n, 'subject')} no p can be below {least}."
    if found.corrected >= LEVEL:
        return f"No effect of fine-tuning on {measure} is shown: {told}."
    return f"Fine-tuning {'improves' if found.difference > 0 else 'lowers'} {measure}: {told}."


def _missed(total: LabelFailures) -> str:
    slices, volumes = total.slices, total.volumes
    parts = [
        f"missed in {slices.missed}{_of(slices.present)} slices and {volumes.missed}{_of(volumes.present)} volumes",
        f"spurious in {number_of(slices.spurious, 'slice')} and {number_of(volumes.spurious, 'volume')}",
    ]
    if slices.elsewhere:
        parts.append(f"predicted only beside the reference in {number_of(slices.elsewhere, 'slice')}")
    return f"Over all labels: {'; '.join(parts)}."


def _of(present: int | None) -> str:
    return "" if present is None else f" of {present}"


def data_lines(experiment: Experiment, *, trained: bool) -> tuple[DataLine, ...]:
    """The datasets of an experiment; a store that cannot be opened has no numbers."""
    found = []
    for name, source in experiment.dataset.items():
        try:
            store = open_source(name, source)
            found.append(DataLine(store.name, _about(store), _subjects(store, experiment, trained)))
        except DataError as error:
            found.append(DataLine(name, str(error), ()))
    return tuple(found)


def _about(store: Store) -> str:
    parts = [store.anatomy, store.modality]
    for field, unit in HEADER.items():
        values = dict.fromkeys(
            f"{value} {unit}".strip()
            for volume in store.volumes
            for value in volume.dicom.get(field, ())
            if value not in (None, "")
        )
        parts.append(", ".join(list(values)[:_MOST_VALUES]) + (", ..." if len(values) > _MOST_VALUES else ""))
    return "; ".join(part for part in parts if part)


def _subjects(store: Store, experiment: Experiment, trained: bool) -> tuple[tuple[str, int, int], ...]:
    has = {split: {one.key.subject for one in store.volumes if one.split == split} for split in SPLITS}
    used = {split: len(found) for split, found in has.items()}
    if trained:
        chosen = store.split_volumes("train", max_train_subjects(experiment))
        used["train"] = len({record.key.subject for record in chosen})
    return tuple((split, used[split], len(found)) for split, found in has.items())
