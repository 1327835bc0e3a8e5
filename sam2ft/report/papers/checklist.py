"""CLAIM 2024 checklist for AI in medical imaging (claim.md): answers from the runs, other items are left to the author.

Items have their number and a paraphrased topic; the binding wording is in Tejani et al. 2024
(doi:10.1148/ryai.240300).
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain

from sam2ft.config.schema.evaluation import Evaluation, protocol_sentence
from sam2ft.core.errors import number_of
from sam2ft.report.comparison.number_text import MEASURE_WORDS, interval, number_text
from sam2ft.report.papers.evaluation_words import (
    SPLIT_WORDS,
    listed_values,
    missed_distance_words,
    missed_words,
    split_limit,
)
from sam2ft.report.papers.markdown import code_text, escaped_text, markdown_list, markdown_table
from sam2ft.report.papers.study import SPLITS, DatasetFacts, Study
from sam2ft.report.papers.training_words import model_words
from sam2ft.statistics.small_samples import interval_words

AUTHOR = "☐ author"
FILLED = "☑ from the runs"
PARTLY = "☑ from the runs, ☐ author to complete"

# fmt: off
TOPICS: Mapping[int, str] = {
    1: "title names the AI methodology and its category", 2: "structured abstract",
    3: "background, intended use and clinical role", 4: "aims, objectives and hypotheses",
    5: "prospective or retrospective", 6: "goal of the study", 7: "data sources", 8: "inclusion and exclusion criteria",
    9: "preprocessing of data", 10: "selection of data subsets", 11: "de-identification", 12: "missing data",
    13: "image acquisition protocol", 14: "how the reference standard was made", 15: "why that reference standard",
    16: "who annotated, with which qualification and tools", 17: "annotation of the test set",
    18: "variability between and within annotators", 19: "assignment of data to partitions",
    20: "level at which partitions are disjoint", 21: "intended sample size", 22: "description of the model",
    23: "software libraries and packages", 24: "initialization of parameters", 25: "details of training",
    26: "how the final model was selected", 27: "ensembling", 28: "metrics of performance",
    29: "significance and uncertainty", 30: "robustness or sensitivity analysis", 31: "explainability",
    32: "evaluation on internal data", 33: "testing on external data", 34: "registration of a clinical trial",
    35: "numbers included and excluded", 36: "demographics and clinical characteristics by partition",
    37: "performance with uncertainty", 38: "diagnostic performance and precision", 39: "analysis of failures",
    40: "limitations", 41: "implications for practice", 42: "full protocol or further technical detail",
    43: "availability of software, model and data", 44: "funding and role of funders",
}
# fmt: on


Answer = tuple[int, str, str]
"""(item, FILLED or PARTLY, answer as Markdown)."""


def claim_checklist(study: Study) -> str:
    """The checklist as Markdown: 44 items, each answered from the runs, answered in part, or left to the author."""
    found = chain(_about_data(study), _about_training(study), _about_results(study))
    answers = {item: (mark, answer) for item, mark, answer in found}
    lines = [[str(item), topic, *answers.get(item, (AUTHOR, ""))] for item, topic in TOPICS.items()]
    count = Counter(mark for mark, _ in answers.values())
    summary = (
        f"{count[FILLED]} of {len(TOPICS)} items are answered by the runs, {count[PARTLY]} in part; the marked "
        "boxes are the author's. The binding wording is in Tejani et al. 2024, doi:10.1148/ryai.240300."
    )
    title = f"# CLAIM 2024 checklist of {escaped_text(study.experiment)}"
    return "\n\n".join([title, summary, markdown_table(["item", "topic", "state", "answer"], lines)])


def _about_data(study: Study) -> Iterator[Answer]:
    if not study.data:
        return
    sources = [
        f"{code_text(one.name)} ({escaped_text(one.about)}{', ' if one.about else ''}"
        f"{number_of(one.num_subjects, 'subject')})"
        for one in study.data
    ]
    yield 7, PARTLY, f"Prepared datasets: {markdown_list(sources)}."
    size = study.settings.module.image_size
    scaled = markdown_list(dict.fromkeys(one.intensity for one in study.data if one.intensity))
    preparation = (
        f"{scaled or 'Intensities were scaled to 0 to 1 when the data were prepared'}; slices were resized to "
        f"{size} x {size} pixels for the model; masks were compared on the grid of the original image."
    )
    yield 9, FILLED, preparation
    chosen = [_used(one) for one in study.data if one.trained is not None] or ["Nothing was trained"]
    empty = {"with" if one.settings.include_empty_slices else "without" for one in study.evaluations}
    slices = f"; evaluation {' and '.join(sorted(empty))} slices that hold no reference" if empty else ""
    yield 10, FILLED, f"{'; '.join(chosen)}{slices}."
    acquisition = [
        f"{name}: {markdown_list(escaped_text(value) for value in values)}"
        for one in study.data
        for name, values in one.fields.items()
    ]
    if acquisition:
        yield 13, PARTLY, f"{'; '.join(acquisition)}."
    partitions = [
        f"{code_text(one.name)}: {_partition_sizes(one)} subjects (seed {one.split_seed})" for one in study.data
    ]
    yield 19, FILLED, f"{'; '.join(partitions)}."
    yield 20, FILLED, "Subject: no subject is in two partitions."
    included = [
        f"{code_text(one.name)}: {one.num_subjects} subjects, {sum(one.volumes.values())} volumes" for one in study.data
    ]
    yield 35, PARTLY, f"Included: {'; '.join(included)}."
    described = [
        f"{split}: {markdown_list(f'{escaped_text(name)} {escaped_text(text)}' for name, text in words.items())}"
        for split in SPLITS
        if (words := study.demographics.get(split))
    ]
    if described:
        yield 36, PARTLY, f"{'; '.join(described)}."


def _used(data: DatasetFacts) -> str:
    total = data.subjects.get("train", 0)
    used = f"{data.trained} of {total}" if data.some_left_out else f"all {total}"
    return f"{code_text(data.name)}: {used} training subjects were used"


def _partition_sizes(data: DatasetFacts) -> str:
    return markdown_list(f"{split} {data.subjects[split]}" for split in SPLITS if data.subjects.get(split))


def _about_training(study: Study) -> Iterator[Answer]:
    model = model_words(study.settings.module.sam2_model_cfg).replace(" [@ravi2025sam2]", "")
    yield 22, FILLED, f"{model}; see the methods text."
    if study.versions:
        yield 23, FILLED, f"{markdown_list(f'{name} {version}' for name, version in study.versions.items())}."
    if study.weights_sha256:
        name = f"{code_text(study.weights_name)}, " if study.weights_name else ""
        yield 24, PARTLY, f"Weights {name}SHA-256 {code_text(study.weights_sha256)}."
    if study.trained:
        yield 25, FILLED, "See the methods text, section Training."
    if study.comparison.best:
        epoch = f"; weights of epoch {study.best_epoch}" if study.best_epoch else ""
        yield 26, FILLED, f"{escaped_text(study.comparison.choice)}{epoch}."
    yield 27, FILLED, "None: one model."
    commits = f", commit {markdown_list(code_text(commit) for commit in study.commits)}" if study.commits else ""
    version = study.versions.get("sam2ft")
    yield 43, PARTLY, f"Software: sam2ft{f' {version}' if version else ''}{commits}."


def _about_results(study: Study) -> Iterator[Answer]:
    if study.measures:
        has_nsd = any(name.startswith("nsd") for name in study.measures)
        nsd = f" (NSD at {study.settings.eval.nsd_tolerance_mm:g} mm)" if has_nsd else ""
        measures = markdown_list(MEASURE_WORDS.get(name, code_text(name)) for name in study.measures)
        yield 28, FILLED, f"{measures}{nsd}; see the methods text.".replace("[", "\\[")
    for noise in [one.settings.prompt_noise for one in study.evaluations if one.settings.prompt_noise][:1]:
        shifts = markdown_list(str(shift) for shift in noise.shifts)
        yield 30, FILLED, f"Boxes moved by up to {shifts} pixels: prompt_noise_global.csv."
    if not study.lines:
        return
    has_distances = any(name.endswith("_mm") for name in study.measures)
    each = [missed_distance_words(one.settings.missed_distance) for one in study.evaluations]
    distance = f" and as {listed_values(each)} in distances"
    unmeasured = "; biomarkers that cannot be measured are left out and counted beside each result"
    missing = (
        "A label absent from reference and prediction is not counted; missed and spurious ones count as 0 in overlaps"
        f"{distance if has_distances else ''}{unmeasured if study.biomarkers else ''}."
    )
    yield 12, PARTLY, missing
    tested = "Wilcoxon's signed-rank test" if study.tests.sizes else "no test"
    tested += ", corrected after Holm" if study.tests.largest_family > 1 else ""
    intervals = interval_words(study.sample_sizes) or "No interval, because there is one subject"
    yield 29, FILLED, f"{intervals}; {tested}; see the methods text, section Statistics."
    yield 32, PARTLY, " ".join(dict.fromkeys(_evaluated_split(study, one.settings) for one in study.evaluations))
    performance = [
        f"{escaped_text(line.evaluation.dataset)} ({escaped_text(line.evaluation.protocol)}): Dice per slice "
        f"{number_text(score.mean)} {interval(score)} in {number_of(score.n, 'subject')}"
        for line in study.lines
        if (score := line.scores.get("dice_slice_mean")) is not None
    ]
    if performance:
        yield 37, FILLED, "; ".join(performance).replace("[", "\\[") + "."
    misses = [f"{escaped_text(one.protocol)}: {missed_words(one)}" for one in study.evaluations]
    misses = [missed_words(one) for one in study.evaluations] if len(misses) == 1 else misses
    yield 39, PARTLY, f"{'; '.join(misses)}; the worst cases are on the report's page."
    yield 40, PARTLY, " ".join(dict.fromkeys(protocol_sentence(one.protocol) for one in study.evaluations))


def _evaluated_split(study: Study, chosen: Evaluation) -> str:
    words = f"{SPLIT_WORDS[chosen.split].capitalize()} subjects of the prepared datasets"
    held_out = "; no subject of them was trained on" if study.trained and chosen.split != "train" else ""
    return f"{words}{held_out}. {split_limit(chosen, trained=study.trained)}".strip()
