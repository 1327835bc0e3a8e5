"""Methods section of a paper (methods.md), written only from facts in the files of the runs.

The text is Markdown with pandoc citations (`[@key]`), released under CC0 so that it may be copied unchanged. Its
sentences are in templates/papers/methods.md.j2.
"""

import re
from pathlib import Path

from sam2ft.report.papers import training_words
from sam2ft.report.papers.markdown import code_text, counted, rendered
from sam2ft.report.papers.study import SPLITS, DatasetFacts, Study
from sam2ft.statistics.bootstrap import CONFIDENCE, FEWEST_FOR_BCA, RESAMPLES

NOTICE = (
    "This text was made by sam2ft from the files of the runs. It is released under CC0 "
    "(https://creativecommons.org/publicdomain/zero/1.0/): copy it unchanged, so that it stays right."
)
BIBLIOGRAPHY = Path(__file__).with_name("references.bib")
"""BibTeX entries, sorted; their keys are those of the citations `[@key]` in the text."""
DISTANCES = {
    f"{name}{definition}_mm": f"{words}{of}"
    for definition, of in (("", " of boundary voxels"), ("_surfel", " of surface elements"))
    for name, words in (
        ("hd", "Hausdorff distance"),
        ("hd95", "its 95th percentile"),
        ("assd", "average symmetric distance"),
    )
}
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
)
"""Functions of the template."""
_SPLIT_WORDS = {"train": "training", "val": "validation", "test": "test"}


def methods_text(study: Study) -> str:
    """The methods section as Markdown: data, model, training, evaluation, biomarkers, statistics, software."""
    definitions: dict[str, dict[str, None]] = {}
    for name, definition in study.biomarkers:
        definitions.setdefault(name, {})[definition] = None
    others = {name: version for name, version in study.versions.items() if name not in ("python", "sam2ft")}
    sentences = rendered(
        "methods.md.j2",
        study=study,
        distances=[words for measure, words in DISTANCES.items() if measure in study.measures],
        definitions_of=definitions,
        packages=[f"{name} {version}" for name, version in others.items()],
        split_words=_SPLIT_WORDS,
        confidence=f"{CONFIDENCE:.0%}",
        resamples=f"{RESAMPLES:,}",
        fewest_for_bca=FEWEST_FOR_BCA,
        partitions=_partitions,
        ends=_ends,
        has_nsd=any(measure.startswith("nsd") for measure in study.measures),
        compared=_compared(study),
        missed=missed_words(study),
        missed_distance=missed_distance_words(study.settings.eval.missed_distance),
        upper_ms={
            "t2": study.settings.datamodule.metric.t2_upper_ms,
            "t1rho": study.settings.datamodule.metric.t1rho_upper_ms,
        },
        evaluated=_evaluated(study),
        **{one.__name__: one for one in WORDS},
    )
    text = []
    for section in re.split(r"^### ", sentences, flags=re.MULTILINE)[1:]:
        heading, *lines = section.strip().splitlines()
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
        f"{_SPLIT_WORDS[split]} {counted(data.subjects[split], 'subject')} ({counted(data.volumes[split], 'volume')}, "
        f"{counted(data.slices[split], 'slice')})"
        for split in SPLITS
        if data.subjects.get(split)
    )


def missed_distance_words(missed_distance: float | str) -> str:
    """What a distance is where a label is missed or spurious (`eval.missed_distance`)."""
    return "the diagonal of the volume" if missed_distance == "diagonal" else f"{missed_distance:g} mm"


def missed_words(study: Study) -> str:
    """How many labels were missed and spurious, as a sentence without its end."""
    missed, spurious = (sum(getattr(line, name) for line in study.lines) for name in ("n_missed", "n_spurious"))
    text = (
        f"In whole volumes {counted(missed, 'label')} {'was' if missed == 1 else 'were'} missed and {spurious} spurious"
    )
    if study.missed_slices is None:
        return text
    return f"{text}, in single slices {study.missed_slices} and {study.spurious_slices}"


def _compared(study: Study) -> str:
    """What was tested against the chosen point, with its verb; empty text where nothing was."""
    has_baseline = any(line.point.index is None and line.scores for line in study.comparison.lines)
    if not study.comparison.best:
        return ""
    if study.num_points > 1:
        return "The other points and the baseline were" if has_baseline else "The other points were"
    return "The baseline was" if has_baseline else ""


def _evaluated(study: Study) -> str:
    """`8 subjects, 9 volumes`, per dataset where there are several."""
    several = len(study.evaluated) > 1
    return "; ".join(
        f"{f'{code_text(name)}: ' if several else ''}{counted(subjects, 'subject')}, {counted(volumes, 'volume')}"
        for name, (subjects, volumes) in study.evaluated.items()
    )


def _ends(ends: tuple[float, float]) -> str:
    return " to ".join(dict.fromkeys(f"{end:.3g}" for end in ends))
