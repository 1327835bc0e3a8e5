"""Methods section of a paper (methods.md), written only from facts in the files of the runs.

The text is Markdown with pandoc citations (`[@key]`), released under CC0 so that it may be copied unchanged. Its
sentences are in templates/papers/methods.md.j2.
"""

import re
from pathlib import Path

from sam2ft.config.schema.base import ClassSection
from sam2ft.config.schema.module import Loss, Module, PromptMixture
from sam2ft.report.papers.markdown import rendered
from sam2ft.report.papers.study import SPLITS, DatasetFacts, Study
from sam2ft.statistics.bootstrap import CONFIDENCE, FEWEST_FOR_BCA, RESAMPLES

NOTICE = (
    "This text was made by sam2ft from the files of the runs. It is released under CC0 "
    "(https://creativecommons.org/publicdomain/zero/1.0/): copy it unchanged, so that it stays right."
)
BIBLIOGRAPHY = Path(__file__).with_name("references.bib")
"""BibTeX entries, sorted; their keys are those of the citations `[@key]` in the text."""
PARTS = {"image_encoder": "image encoder", "mask_decoder": "mask decoder", "prompt_encoder": "prompt encoder"}
DISTANCES = {"hd_mm": "Hausdorff distance", "hd95_mm": "its 95th percentile", "assd_mm": "average symmetric distance"}
_SPLIT_WORDS = {"train": "training", "val": "validation", "test": "test"}
_LOSS_WORDS = {"DiceLoss": "Dice loss", "BCE": "binary cross-entropy", "iou": "error of the predicted IoU"}
_PROMPTS = {"box": "boxes", "point": "points", "mask": "masks"}


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
        trained_parts=_trained_parts,
        loss_terms=_loss_terms,
        prompt_kinds=_prompt_kinds,
        arguments=_arguments,
    )
    text = []
    for section in re.split(r"^### ", sentences, flags=re.MULTILINE)[1:]:
        heading, *lines = section.strip().splitlines()
        if lines:
            text += [f"### {heading}", "", " ".join(lines), ""]
    return "\n".join(["## Methods", "", *text, f"*{NOTICE}*", ""])


def cited(text: str) -> list[str]:
    """Keys of the citations in a text, in the order of their first occurrence."""
    return list(dict.fromkeys(re.findall(r"@([a-z]+\d{4}[a-z0-9]*)", text)))


def references(text: str) -> str:
    """The BibTeX file with the references that a text cites, sorted.

    Raises:
        KeyError: for a citation without an entry in references.bib.
    """
    entries = re.findall(r"^(@\w+\{(\w+),.*?^\}\n)", BIBLIOGRAPHY.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    entry_of = {key: entry for entry, key in entries}
    return "\n".join(entry_of[key] for key in sorted(cited(text)))


def _partitions(data: DatasetFacts) -> str:
    return "; ".join(
        f"{_SPLIT_WORDS[split]} {data.subjects[split]} subjects ({data.volumes[split]} volumes, "
        f"{data.slices[split]} slices)"
        for split in SPLITS
        if data.subjects.get(split)
    )


def _trained_parts(module: Module) -> list[str]:
    chosen = {name: getattr(module.trainable, name) for name in PARTS}
    found = [f"the {words}" for name, words in PARTS.items() if chosen[name] is True]
    found += [f"chosen tensors of the {words}" for name, words in PARTS.items() if not isinstance(chosen[name], bool)]
    if module.lora is not None:
        found.append(f"low-rank updates (rank {module.lora.rank}) of the image encoder [@hu2022lora]")
    return found


def _loss_terms(loss: Loss) -> list[str]:
    weights = ((loss.seg_loss_weight, loss.seg), (loss.ce_loss_weight, loss.ce), (loss.iou_weight, "iou"))
    return [f"{weight:g} x {_LOSS_WORDS.get(name, name)}" for weight, name in weights if weight]


def _prompt_kinds(prompts: PromptMixture) -> list[str]:
    """The kinds of prompts of a training, with their shares where there are several."""
    shares = {words: share for name, words in _PROMPTS.items() if (share := getattr(prompts, name))}
    return [f"{words} ({share:.0%})" for words, share in shares.items()] if len(shares) > 1 else list(shares)


def _arguments(chosen: ClassSection) -> str:
    return ", ".join(f"{key} {value}" for key, value in chosen.constructor_arguments.items())


def _ends(ends: tuple[float, float]) -> str:
    return " to ".join(dict.fromkeys(f"{end:.3g}" for end in ends))
