"""Model card of a checkpoint (model_card.md): details, intended use, data, results, limits and loading.

Its text is in templates/papers/model_card.md.j2.
"""

from collections.abc import Mapping, Sequence

from sam2ft.config.schema.dataset import Intensity
from sam2ft.config.schema.evaluation import protocol_sentence
from sam2ft.config.schema.model_names import NANO, model_name
from sam2ft.core.errors import number_of
from sam2ft.core.tables.rows import MEAN_OF_LABELS, POOLED, Row
from sam2ft.report.comparison.compare import score_of
from sam2ft.report.comparison.number_text import MEASURE_WORDS, NOTHING, interval, number_text
from sam2ft.report.papers.evaluation_words import prompted_with, split_limit
from sam2ft.report.papers.markdown import code_text, escaped_text, markdown_table, rendered
from sam2ft.report.papers.study import SPLITS, DatasetFacts, EvaluationFacts, Study
from sam2ft.report.papers.training_words import precision_words
from sam2ft.statistics.small_samples import interval_words

MEASURES = ("dice_slice_mean", "dice")
_WINDOW_CODE = {
    "clip_percentiles": "low, high = np.percentile(volume_zyx, [{:g}, {:g}])",
    "zscore": "low, high = volume_zyx.mean() + np.array([{:g}, {:g}]) * volume_zyx.std()",
    "window": "low, high = {:g}, {:g}",
}


def model_card(study: Study, global_rows: Sequence[Row], best_sha256: str | None) -> str:
    """The model card as Markdown, with headings after Mitchell et al. 2019 (doi:10.1145/3287560.3287596).

    `global_rows` are the rows of global.csv of the shown run; `best_sha256` is the SHA-256 of its best.pt.
    """
    is_nano = study.settings.module.sam2_model_cfg == NANO
    weights = "best.pt" if study.trained else study.weights_name or "weights.pt"
    return rendered(
        "model_card.md.j2",
        study=study,
        best_sha256=best_sha256,
        versions=[f"{name} {version}" for name, version in study.versions.items()],
        labels=dict.fromkeys(label for one in study.data for label in one.labels),
        data=_data(study),
        results=_results(study, global_rows),
        architecture=model_name(study.settings.module.sam2_model_cfg),
        prompted=dict.fromkeys(prompted_with(one.settings) for one in study.evaluations),
        limits=_limits(study),
        precision=precision_words(study.precision, study.settings.module.use_amp),
        evaluated_in=precision_words(study.evaluated_in, study.settings.eval.precision),
        splits=list(dict.fromkeys(one.settings.split for one in study.evaluations)),
        intervals=interval_words(int(row["n"] or 0) for row in _shown_rows(study, global_rows)),
        misses=[_misses(study, one) for one in study.evaluations if one.n_missed or one.missed_slices],
        weights=weights,
        is_nano=is_nano,
        # Stock SAM 2 reads files of torch only.
        stock=not is_nano and weights.endswith((".pt", ".pth")),
        window_code=window_code([one.window for one in study.data]),
    )


def _misses(study: Study, one: EvaluationFacts) -> str:
    """What an evaluation missed, with its prompts where there are several."""
    how = f" (prompted by {prompted_with(one.settings)})" if len(study.evaluations) > 1 else ""
    volumes = f"{number_of(one.n_missed, 'label')} in whole volumes"
    slices = "" if one.missed_slices is None else f" and {one.missed_slices} in single slices"
    return f"In the evaluation above{how} it missed {volumes}{slices}."


def _limits(study: Study) -> list[str]:
    """What the prompts and the evaluated split mean for the results, each sentence once."""
    of_each = [
        (protocol_sentence(one.protocol), split_limit(one.settings, trained=study.trained)) for one in study.evaluations
    ]
    return [sentence for sentence in dict.fromkeys(part for both in of_each for part in both) if sentence]


def _data(study: Study) -> str:
    heads = ["dataset", "anatomy", "modality", *(f"{split} subjects" for split in SPLITS), "pixel mm", "slice mm"]
    lines = [
        [
            code_text(one.name),
            escaped_text(one.anatomy),
            escaped_text(one.modality),
            *(_subjects(one, split) for split in SPLITS),
            _ends(one.pixel_mm),
            _ends(one.slice_mm),
        ]
        for one in study.data
    ]
    return markdown_table(heads, lines, heads[3:]) if lines else ""


def _subjects(data: DatasetFacts, split: str) -> str:
    """Number of subjects; of training those that were used, where some were left out."""
    count = data.subjects.get(split, 0)
    return f"{data.trained} of {count}" if split == "train" and data.some_left_out else str(count)


def window_code(rules: Sequence[Mapping[str, Sequence[float]]]) -> str:
    """Python lines that set `low` and `high` from `volume_zyx`: the rule by which the data were prepared.

    Where the data were prepared by several rules, or none is recorded, it is the default rule, and a comment says so.
    """
    alike = all(rule == rules[0] for rule in rules)
    rule = rules[0] if rules and alike else {}
    if not rule:
        reason = "not recorded for these data" if alike else "several rules in these data"
        return f"# {reason}: the default rule of sam2ft\n" + _WINDOW_CODE["clip_percentiles"].format(
            *Intensity().clip_percentiles
        )
    ((name, ends),) = rule.items()
    return _WINDOW_CODE[name].format(*ends)


def _ends(ends: tuple[float, float] | None) -> str:
    return "–" if ends is None else "–".join(dict.fromkeys(f"{end:.3g}" for end in ends))


def _results(study: Study, rows: Sequence[Row]) -> str:
    heads = ["dataset", "protocol", "label", "measure", "mean ± sd", "95 % CI", "n", "missed", "spurious"]
    lines = [
        [escaped_text(name) for name in (row["dataset"], row["protocol"], _label(row))]
        + [MEASURE_WORDS[str(row["measure"])]]
        + [_spread(row), interval(score_of(row)).replace("[", "\\[") or NOTHING]
        + [str(row[name]) for name in ("n", "n_missed", "n_spurious")]
        for row in _shown_rows(study, rows)
    ]
    return markdown_table(heads, lines, heads[4:]) if lines else ""


def _shown_rows(study: Study, rows: Sequence[Row]) -> list[Row]:
    """Those of the shown run: labels first, their mean last."""
    own = (row for row in rows if row["run"] == study.shown and row["measure"] in MEASURES)
    return sorted((row for row in own if row["label_name"] != POOLED), key=lambda row: row["label"] is None)


def _label(row: Row) -> str:
    return "mean of labels" if row["label_name"] == MEAN_OF_LABELS else str(row["label_name"])


def _spread(row: Row) -> str:
    score = score_of(row)
    if score is None:
        return NOTHING
    return f"{number_text(score.mean)}{'' if score.sd is None else f' ± {number_text(score.sd)}'}"
