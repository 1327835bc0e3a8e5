"""CLAIM 2024 checklist for AI in medical imaging (claim.md): answers from the runs, other items are left to the author.

Items have their number and a paraphrased topic; the binding wording is in Tejani et al. 2024
(doi:10.1148/ryai.240300).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sam2ft.report.comparison.number_text import interval, number_text
from sam2ft.report.papers.markdown import code_text, escaped_text, markdown_list, markdown_table
from sam2ft.report.papers.study import SPLITS, DatasetFacts, Study

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


@dataclass(frozen=True)
class ChecklistAnswer:
    """Answer to an item from the files of the runs."""

    text: str
    """Markdown."""
    whole: bool = True
    """Whether the answer is complete, so that the author need not add anything."""


def claim_checklist(study: Study) -> str:
    """The checklist as Markdown: 44 items, each answered from the runs, answered in part, or left to the author."""
    answers = {item: answer for item, ask in _ANSWERS.items() if (answer := ask(study)) is not None}
    lines = []
    for item, topic in TOPICS.items():
        answer = answers.get(item)
        mark = AUTHOR if answer is None else FILLED if answer.whole else PARTLY
        lines.append([str(item), topic, mark, answer.text if answer else ""])
    filled = sum(answer.whole for answer in answers.values())
    return "\n".join(
        [
            f"# CLAIM 2024 checklist of {escaped_text(study.experiment)}",
            "",
            f"{filled} of {len(TOPICS)} items are answered by the runs, {len(answers) - filled} in part; the marked "
            "boxes are the author's. The binding wording is in Tejani et al. 2024, doi:10.1148/ryai.240300.",
            "",
            markdown_table(["item", "topic", "state", "answer"], lines),
        ]
    )


def _sources(study: Study) -> ChecklistAnswer | None:
    names = [f"{code_text(one.name)} ({escaped_text(one.anatomy)}, {one.num_subjects} subjects)" for one in study.data]
    return ChecklistAnswer(f"Prepared datasets: {markdown_list(names)}.", whole=False) if names else None


def _preprocessing(study: Study) -> ChecklistAnswer | None:
    if not study.data:
        return None
    size = study.module.image_size
    return ChecklistAnswer(
        "Intensities were windowed and scaled to 0..1 when the data were prepared; slices were resized to "
        f"{size} x {size} pixels for the model; masks were compared on the grid of the original image."
    )


def _subsets(study: Study) -> ChecklistAnswer | None:
    limit = study.datamodule.max_subject_set
    if not study.data:
        return None
    chosen = "All subjects of each partition were used" if limit == "full" else f"{limit} training subjects were used"
    empty = "with" if study.evaluation.include_empty_slices else "without"
    return ChecklistAnswer(f"{chosen}; evaluation {empty} slices that hold no reference.")


def _missing(study: Study) -> ChecklistAnswer | None:
    if not study.lines:
        return None
    return ChecklistAnswer(
        "A label absent from reference and prediction is not counted; missed and spurious ones count as 0; biomarkers "
        "that cannot be measured are left out and counted beside each result.",
        whole=False,
    )


def _acquisition(study: Study) -> ChecklistAnswer | None:
    found = [
        f"{name}: {markdown_list(escaped_text(value) for value in values)}"
        for one in study.data
        for name, values in one.fields.items()
    ]
    return ChecklistAnswer("; ".join(found) + ".", whole=False) if found else None


def _partitions(study: Study) -> ChecklistAnswer | None:
    def counts(one: DatasetFacts) -> str:
        return markdown_list(f"{split} {one.subjects[split]}" for split in SPLITS if one.subjects.get(split))

    parts = [f"{code_text(one.name)}: {counts(one)} subjects (seed {one.split_seed})" for one in study.data]
    return ChecklistAnswer("; ".join(parts) + ".") if parts else None


def _level(study: Study) -> ChecklistAnswer | None:
    return ChecklistAnswer("Subject: no subject is in two partitions.") if study.data else None


def _model(study: Study) -> ChecklistAnswer:
    return ChecklistAnswer(f"SAM 2, {code_text(study.module.sam2_model_cfg)}; see the methods text.")


def _software(study: Study) -> ChecklistAnswer | None:
    return (
        ChecklistAnswer(markdown_list(f"{name} {version}" for name, version in study.versions.items()) + ".")
        if study.versions
        else None
    )


def _initialization(study: Study) -> ChecklistAnswer | None:
    if not study.weights_sha256:
        return None
    return ChecklistAnswer(f"Weights with SHA-256 {code_text(study.weights_sha256)}.", whole=False)


def _training(study: Study) -> ChecklistAnswer | None:
    return ChecklistAnswer("See the methods text, section Training.") if study.trained else None


def _selection(study: Study) -> ChecklistAnswer | None:
    return ChecklistAnswer(f"{escaped_text(study.comparison.choice)}.") if study.comparison.best else None


def _ensembling(study: Study) -> ChecklistAnswer:
    return ChecklistAnswer("None: one model.")


def _metrics(study: Study) -> ChecklistAnswer | None:
    return (
        ChecklistAnswer(f"{markdown_list(code_text(name) for name in study.measures)}; see the methods text.")
        if study.measures
        else None
    )


def _uncertainty(study: Study) -> ChecklistAnswer | None:
    return (
        ChecklistAnswer("95 % bootstrap intervals over subjects; see the methods text, section Statistics.")
        if study.lines
        else None
    )


def _robustness(study: Study) -> ChecklistAnswer | None:
    noise = study.evaluation.prompt_noise
    if noise is None:
        return None
    return ChecklistAnswer(
        f"Boxes moved by up to {markdown_list(str(shift) for shift in noise.shifts)} pixels: prompt_noise_global.csv."
    )


def _internal(study: Study) -> ChecklistAnswer | None:
    if not study.lines:
        return None
    return ChecklistAnswer(f"Held-out {study.evaluation.split} subjects of the same datasets.", whole=False)


def _counts(study: Study) -> ChecklistAnswer | None:
    text = [
        f"{code_text(one.name)}: {one.num_subjects} subjects, {sum(one.volumes.values())} volumes" for one in study.data
    ]
    return ChecklistAnswer(f"Included: {'; '.join(text)}.", whole=False) if text else None


def _demographics(study: Study) -> ChecklistAnswer | None:
    def words(split: str) -> str:
        return markdown_list(
            f"{escaped_text(name)} {escaped_text(text)}" for name, text in study.demographics[split].items()
        )

    found = [f"{split}: {words(split)}" for split in SPLITS if study.demographics.get(split)]
    return ChecklistAnswer("; ".join(found) + ".", whole=False) if found else None


def _performance(study: Study) -> ChecklistAnswer | None:
    found = [
        f"{escaped_text(line.evaluation.dataset)} ({escaped_text(line.evaluation.protocol)}): Dice per slice "
        f"{number_text(score.mean)} {interval(score)} in {score.n} subjects"
        for line in study.lines
        if (score := line.scores.get("dice_slice_mean")) is not None
    ]
    return ChecklistAnswer("; ".join(found).replace("[", "\\[") + ".") if found else None


def _failures(study: Study) -> ChecklistAnswer | None:
    if not study.lines:
        return None
    return ChecklistAnswer("Missed and spurious labels and the worst cases are on the report's page.", whole=False)


def _availability(study: Study) -> ChecklistAnswer:
    commits = f", commit {markdown_list(code_text(commit) for commit in study.commits)}" if study.commits else ""
    return ChecklistAnswer(f"Software: sam2ft {study.versions.get('sam2ft', '')}{commits}.", whole=False)


_ANSWERS: Mapping[int, Callable[[Study], ChecklistAnswer | None]] = {
    7: _sources,
    9: _preprocessing,
    10: _subsets,
    12: _missing,
    13: _acquisition,
    19: _partitions,
    20: _level,
    22: _model,
    23: _software,
    24: _initialization,
    25: _training,
    26: _selection,
    27: _ensembling,
    28: _metrics,
    29: _uncertainty,
    30: _robustness,
    32: _internal,
    35: _counts,
    36: _demographics,
    37: _performance,
    39: _failures,
    43: _availability,
}
