"""Methods section of a paper (methods.md), written only from facts in the files of the runs.

The text is Markdown with pandoc citations (`[@key]`), released under CC0 so that it may be copied unchanged.
"""

import re
from collections.abc import Callable, Iterator

from sam2ft.report.papers.citations import bibliography
from sam2ft.report.papers.markdown import code_text, markdown_list
from sam2ft.report.papers.study import SPLITS, DatasetFacts, Study
from sam2ft.statistics.bootstrap import CONFIDENCE, FEWEST_FOR_BCA, RESAMPLES

NOTICE = (
    "This text was made by sam2ft from the files of the runs. It is released under CC0 "
    "(https://creativecommons.org/publicdomain/zero/1.0/): copy it unchanged, so that it stays right."
)
PARTS = {"image_encoder": "image encoder", "mask_decoder": "mask decoder", "prompt_encoder": "prompt encoder"}
DISTANCES = {"hd_mm": "Hausdorff distance", "hd95_mm": "its 95th percentile", "assd_mm": "average symmetric distance"}


def methods_text(study: Study) -> str:
    """The methods section as Markdown: data, model, training, evaluation, biomarkers, statistics, software."""
    parts: dict[str, Callable[[Study], Iterator[str]]] = {
        "Data": _data,
        "Model": _model,
        "Training": _training,
        "Evaluation": _evaluation,
        "Biomarkers": _biomarkers,
        "Statistics": _statistics,
        "Software": _software,
    }
    text = []
    for heading, sentences in parts.items():
        if found := list(sentences(study)):
            text += [f"### {heading}", "", " ".join(found), ""]
    return "\n".join(["## Methods", "", *text, f"*{NOTICE}*", ""])


def cited(text: str) -> list[str]:
    """Keys of the citations in a text, in the order of their first occurrence."""
    return list(dict.fromkeys(re.findall(r"@([a-z]+\d{4}[a-z0-9]*)", text)))


def references(text: str) -> str:
    """The BibTeX file with the references that a text cites."""
    return bibliography(cited(text))


def _data(study: Study) -> Iterator[str]:
    for data in study.data:
        yield from _one_dataset(data)
    limit = study.datamodule.max_subject_set
    if limit != "full" and study.trained:
        yield f"Of the training subjects, {limit} were used, drawn with the seed of the split."
    if study.data:
        yield (
            "Subjects, not slices or volumes, were assigned to the partitions: no subject is in more than one of them."
        )


def _one_dataset(data: DatasetFacts) -> Iterator[str]:
    counts = "; ".join(
        f"{_SPLIT_WORDS[split]} {data.subjects[split]} subjects ({data.volumes[split]} volumes, "
        f"{data.slices[split]} slices)"
        for split in SPLITS
        if data.subjects.get(split)
    )
    yield f"Dataset {code_text(data.name)} ({data.anatomy}) has {data.num_subjects} subjects: {counts}."
    yield f"The reference masks have {_count(len(data.labels), 'label')}: {markdown_list(map(code_text, data.labels))}."
    if data.pixel_mm and data.slice_mm:
        yield f"Pixels are {_range(data.pixel_mm)} mm wide and slices {_range(data.slice_mm)} mm apart."


def _model(study: Study) -> Iterator[str]:
    module = study.module
    yield (
        f"We used SAM 2 [@ravi2024sam2] in the configuration `{module.sam2_model_cfg}`, with slices resized to "
        f"{module.image_size} x {module.image_size} pixels."
    )
    if study.weights_sha256:
        yield f"It started from weights with the SHA-256 digest `{study.weights_sha256[:16]}...`."
    if not study.trained:
        yield "The weights were evaluated as they are; nothing was trained."


def _training(study: Study) -> Iterator[str]:
    module = study.module
    if not study.trained:
        return
    whole = [words for name, words in PARTS.items() if getattr(module.trainable, name) is True]
    some = [words for name, words in PARTS.items() if not isinstance(getattr(module.trainable, name), bool)]
    trained = [f"the {words}" for words in whole] + [f"chosen tensors of the {words}" for words in some]
    if module.lora is not None:
        trained.append(f"low-rank updates (rank {module.lora.rank}) of the image encoder [@hu2022lora]")
    yield f"We fine-tuned {markdown_list(trained)}; everything else was frozen."
    loss = module.loss
    terms = [(loss.seg_loss_weight, loss.seg), (loss.ce_loss_weight, _LOSS_WORDS.get(loss.ce, loss.ce))]
    weighted = [f"{weight:g} x {_LOSS_WORDS.get(name, name)}" for weight, name in terms if weight]
    if loss.iou_weight:
        weighted.append(f"{loss.iou_weight:g} x error of the predicted IoU")
    grid = "on the grid of the original slice" if loss.frame == "original" else "on the grid of the mask decoder"
    yield f"The loss was {' + '.join(weighted)}, {grid}, averaged over instances."
    yield from _optimization(study)
    prompts = module.prompts
    asked = [
        f"{_PROMPTS[name]} ({share:.0%})" for name in ("box", "point", "mask") if (share := getattr(prompts, name))
    ]
    shift = study.datamodule.bbox_shift
    moved = f", each side of a box moved outward by 0 to {shift} pixels" if prompts.box and shift else ""
    asked = asked if len(asked) > 1 else [name.partition(" ")[0] for name in asked]
    yield f"Instances were prompted by {markdown_list(asked)}{moved}."
    if study.datamodule.augmentation:
        names = markdown_list(f"`{one.type}`" for one in study.datamodule.augmentation)
        yield f"Images and masks were augmented together by {names} of MONAI [@cardoso2022monai]."
    yield from _choice(study)


def _optimization(study: Study) -> Iterator[str]:
    module = study.module
    name = module.optimizer.type
    source = " [@loshchilov2019adamw]" if name == "AdamW" else ""
    arguments = ", ".join(f"{key} {value}" for key, value in module.optimizer.constructor_arguments.items())
    step = f" and {study.slices_per_step} slices per step" if study.slices_per_step else ""
    yield (
        f"We minimised it with {name}{source} (learning rate {module.optimizer.lr:g}"
        f"{', ' + arguments if arguments else ''}){step}."
    )
    if module.scheduler is not None:
        given = ", ".join(f"{key} {value}" for key, value in module.scheduler.constructor_arguments.items())
        yield f"The learning rate followed `{module.scheduler.type}`{f' ({given})' if given else ''}."
    if module.clip_grad is not None:
        yield f"Gradients were clipped to a norm of {module.clip_grad:g}."
    if module.ema is not None:
        yield f"The weights that were kept are an exponential moving average (decay {module.ema.decay:g})."
    if module.use_amp:
        yield "Mixed precision was used where the device has it."


def _choice(study: Study) -> Iterator[str]:
    stopping = study.module.early_stopping
    ran = f"{study.epochs} epochs" if study.epochs else f"at most {study.module.num_epochs} epochs"
    early = (
        f" (of at most {study.module.num_epochs}; {stopping.patience} epochs without an improvement of more than "
        f"{stopping.min_delta:g} would end it)"
        if stopping.enabled
        else ""
    )
    extreme = "lowest" if stopping.mode == "min" else "highest"
    yield (
        f"Training ran for {ran}{early}; the epoch with the {extreme} {code_text(stopping.monitor)} on the validation "
        "subjects was kept."
    )
    if study.num_points > 1:
        keys = markdown_list(code_text(key) for key in study.comparison.override_keys)
        yield (
            f"{study.num_points} combinations of {keys} were trained, and the one with the best validation value was "
            "chosen; the test subjects had no part in this choice."
        )
    yield f"The seed was {study.seed}."


def _evaluation(study: Study) -> Iterator[str]:
    if not study.lines:
        return
    chosen = study.evaluation
    yield f"On the {_SPLIT_WORDS[chosen.split]} subjects the model was prompted with {chosen.prompted_with}."
    if chosen.bbox_shift:
        yield f"Each side of a box was moved by up to {chosen.bbox_shift} pixels ({chosen.direction}), seeded."
    yield "Where masks overlapped, a pixel got the label with the largest logit."
    yield (
        "Dice [@dice1945] and IoU were computed on the grid of the original image from counts of pixels, per slice and "
        "for whole volumes (3-D); both are reported."
    )
    if names := [words for measure, words in DISTANCES.items() if measure in study.measures]:
        yield f"Distances between surfaces ({markdown_list(names)}) are in 3-D [@nikolov2021surface]."
    empty = "included" if chosen.include_empty_slices else "left out"
    yield (
        "A label that is in the reference but not in the prediction (missed), or the other way round (spurious), "
        "counts as 0; one in neither is not counted [@maierhein2024metrics]; slices without any reference were "
        f"{empty}."
    )
    missed, spurious = (sum(getattr(line, name) for line in study.lines) for name in ("n_missed", "n_spurious"))
    yield f"There were {missed} missed and {spurious} spurious labels, counted over volumes and labels."


def _biomarkers(study: Study) -> Iterator[str]:
    for name in dict.fromkeys(name for name, _ in study.biomarkers):
        definitions = markdown_list(dict.fromkeys(definition for one, definition in study.biomarkers if one == name))
        if name in _BIOMARKERS:
            yield _BIOMARKERS[name].format(definitions=definitions)
    if study.biomarkers:
        yield (
            "The same measurement was made on the reference and on the predicted mask, and the pairs were compared "
            "over subjects by bias and 95 % limits of agreement [@blandaltman1986], intraclass correlation "
            "[@shroutfleiss1979] and concordance correlation [@lin1989]."
        )


def _statistics(study: Study) -> Iterator[str]:
    if not study.lines:
        return
    yield "Values of the volumes of a subject were averaged first; the subject is the unit of all statistics."
    yield (
        f"Means have {CONFIDENCE:.0%} confidence intervals from {RESAMPLES:,} bootstrap samples of subjects "
        f"(bias-corrected and accelerated [@efron1987]; percentiles below {FEWEST_FOR_BCA} subjects)."
    )
    if study.num_points > 1 and study.comparison.best:
        yield (
            "Other points were compared with the chosen one by Wilcoxon's signed-rank test over subjects "
            "[@wilcoxon1945], corrected after Holm [@holm1979], with the rank-biserial correlation as effect size "
            "[@kerby2014]; how firmly the ranking stands was judged by bootstrap over subjects [@wiesenfarth2021]."
        )


def _software(study: Study) -> Iterator[str]:
    if not study.versions:
        return
    others = {name: version for name, version in study.versions.items() if name not in ("python", "sam2ft")}
    packages = markdown_list(f"{name} {version}" for name, version in others.items())
    commit = f" (commit {markdown_list(code_text(one) for one in study.commits)})" if study.commits else ""
    yield (
        f"Everything was done with sam2ft {study.versions.get('sam2ft', '')}{commit} on Python "
        f"{study.versions.get('python', '')}, PyTorch [@paszke2019pytorch] and MONAI [@cardoso2022monai] ({packages})."
    )
    if study.hardware:
        yield f"Machines: {markdown_list(map(code_text, study.hardware))}."


_SPLIT_WORDS = {"train": "training", "val": "validation", "test": "test"}
_LOSS_WORDS = {"DiceLoss": "Dice loss", "BCE": "binary cross-entropy"}
_PROMPTS = {"box": "boxes", "point": "points", "mask": "masks"}
_BIOMARKERS = {
    "cartilagethickness": "Cartilage thickness ({definitions}) was measured along the normals of the bone's surface, "
    "in the nomenclature of Eckstein et al. [@eckstein2006].",
    "tissuevolume": "Tissue volume is the number of voxels times row, column and slice distance.",
    "tissueheight": "Tissue height ({definitions}) was measured along the axis of the disc in millimetres.",
    "t2": "T2 ({definitions}) is over the voxels of a tissue whose fit is valid; failed fits were left out.",
    "t1rho": "T1rho ({definitions}) is over the voxels of a tissue whose fit is valid; failed fits were left out.",
}


def _range(ends: tuple[float, float]) -> str:
    low, high = (f"{end:.3g}" for end in ends)
    return low if low == high else f"{low} to {high}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
