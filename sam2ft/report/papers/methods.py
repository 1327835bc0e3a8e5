"""Methods section of a paper (methods.md), written only from facts in the files of the runs.

The text is Markdown with pandoc citations (`[@key]`), released under CC0 so that it may be copied unchanged. Its
sentences are in templates/papers/methods.md.j2.
"""

import re
from pathlib import Path

from sam2ft.core.errors import number_of
from sam2ft.report.papers import evaluation_words, training_words
from sam2ft.report.papers.evaluation_words import SPLIT_WORDS, distance_words, listed_values, missed_distance_words
from sam2ft.report.papers.markdown import rendered
from sam2ft.report.papers.study import SPLITS, DatasetFacts, Study

NOTICE = (
    "This text was made by sam2ft from the files of the runs. It is released under CC0 "
    "(https://creativecommons.org/publicdomain/zero/1.0/): copy it unchanged, so that it stays right."
)
BIBLIOGRAPHY = Path(__file__).with_name("references.bib")
"""BibTeX entries, sorted; their keys are those of the citations `[@key]` in the text."""
WORDS = (
    training_words.trained_parts,
    training_words.loss_terms,
    training_words.optimizer_words,
    training_words.rate_factors,
    training_words.schedule_words,
    training_words.prompt_words,
    training_words.validation_prompt,
    training_words.transform_words,
    training_words.precision_words,
    training_words.model_words,
    training_words.choice_sentences,
    evaluation_words.prompt_sentences,
    evaluation_words.split_limit,
    evaluation_words.interval_sentences,
    evaluation_words.comparison_sentences,
)
"""Functions of the template."""


def methods_text(study: Study) -> str:
    """The methods section as Markdown: data, model, training, evaluation, biomarkers, statistics, software."""
    from sam2ft.statistics.agreement import FEWEST  # it imports scipy, which a plan need not wait for

    definitions: dict[str, dict[str, None]] = {}
    for name, definition in study.biomarkers:
        definitions.setdefault(name, {})[definition] = None
    others = {name: version for name, version in study.versions.items() if name not in ("python", "sam2ft")}
    sentences = rendered(
        "methods.md.j2",
        study=study,
        distances=distance_words(study.measures),
        definitions_of=definitions,
        packages=[f"{name} {version}" for name, version in others.items()],
        listed_values=listed_values,
        partitions=_partitions,
        ends=_ends,
        has_nsd=any(measure.startswith("nsd") for measure in study.measures),
        tolerances=[f"{one.settings.nsd_tolerance_mm:g} mm" for one in study.evaluations],
        missed_distance=listed_values(
            [missed_distance_words(one.settings.missed_distance) for one in study.evaluations]
        ),
        fewest_for_agreement=FEWEST,
        upper_ms={
            "t2": study.settings.datamodule.metric.t2_upper_ms,
            "t1rho": study.settings.datamodule.metric.t1rho_upper_ms,
        },
        **{one.__name__: one for one in WORDS},
    )
    text = []
    for section in re.split(r"^### ", sentences, flags=re.MULTILINE)[1:]:
        heading, *lines = filter(None, section.strip().splitlines())
        if lines:
            text += [f"### {heading}", "", " ".join(lines), ""]
    return "\n".join(["## Methods", "", *text, f"*{NOTICE}*", ""])


def cited(text: str) -> list[str]:
    """Keys of the citations in a text, in the order of their first occurrence."""
    return list(dict.fromkeys(re.findall(r"\[@([a-z][a-z0-9]*)\]", text)))


def references(text: str, version: str | None = None) -> str:
    """The BibTeX file with the references that a text cites, sorted; `version` is that of sam2ft in the runs.

    Raises:
        KeyError: for a citation without an entry in references.bib.
    """
    entries = re.findall(r"^(@\w+\{(\w+),.*?^\}\n)", BIBLIOGRAPHY.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    entry_of = {key: entry for entry, key in entries}
    if version:
        entry_of["sam2ft"] = entry_of["sam2ft"].replace("note = {Software}", f"note = {{Software, version {version}}}")
    return "\n".join(entry_of[key] for key in sorted(cited(text)))


def _partitions(data: DatasetFacts) -> str:
    return "; ".join(
        f"{SPLIT_WORDS[split]} {number_of(data.subjects[split], 'subject')} "
        f"({number_of(data.volumes[split], 'volume')}, {number_of(data.slices[split], 'slice')})"
        for split in SPLITS
        if data.subjects.get(split)
    )


def _ends(ends: tuple[float, float]) -> str:
    return " to ".join(dict.fromkeys(f"{end:.3g}" for end in ends))
