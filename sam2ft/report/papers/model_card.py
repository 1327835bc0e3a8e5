"""Model card of a checkpoint (model_card.md): details, intended use, data, results, limits and loading."""

from collections.abc import Iterable, Iterator, Sequence

from sam2ft.core.tables.rows import MEAN_OF_LABELS, POOLED, Row
from sam2ft.report.comparison.number_text import MEASURE_WORDS, number_text
from sam2ft.report.papers.markdown import code_text, escaped_text, markdown_list, markdown_table
from sam2ft.report.papers.study import SPLITS, Study

MEASURES = ("dice_slice_mean", "dice")
LIMITS = (
    "It is a research model: no regulatory body has cleared it, and it must not be used for diagnosis or treatment.",
    "It segments what it is prompted for. It does not find structures, and a wrong prompt gives a wrong mask without "
    "any sign of it.",
    "Its results hold for images like those it was evaluated on; other scanners, sequences, populations or diseases "
    "were not tested unless they are listed above.",
)


def model_card(study: Study, global_rows: Sequence[Row], best_sha256: str | None) -> str:
    """The model card as Markdown, with headings after Mitchell et al. 2019 (doi:10.1145/3287560.3287596).

    `global_rows` are the rows of global.csv of the shown run; `best_sha256` is the SHA-256 of its best.pt.
    """
    use = (
        f"Segmentation of {markdown_list(_labels(study)) or 'the labels it was trained on'} in images like those "
        f"below, prompted as it was evaluated ({study.evaluation.protocol}), for research."
    )
    return f"""# Model card: {escaped_text(study.experiment)}

{_lines(_details(study, best_sha256))}

## Intended use

{use}

☐ author: intended users and clinical question.

## Data

{_data(study)}

## Results

{_lines(_results(study, global_rows))}

## Limits

{_lines(f"- {limit}" for limit in _limits(study))}

## How to load it

{_loading(study)}
"""


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def _details(study: Study, best_sha256: str | None) -> Iterator[str]:
    if study.description:
        yield f"{escaped_text(study.description)}\n"
    yield f"- architecture: SAM 2, {code_text(study.module.sam2_model_cfg)}, {study.module.image_size} px"
    if best_sha256:
        yield f"- file: best.pt, SHA-256 {code_text(best_sha256)}"
    if study.weights_sha256:
        yield f"- started from weights with SHA-256 {code_text(study.weights_sha256)}"
    if study.shown:
        yield f"- run: {code_text(study.shown)}"
    if study.trained:
        yield f"- chosen: {escaped_text(study.comparison.choice)}"
    versions = [f"{name} {version}" for name, version in study.versions.items()]
    if versions:
        yield f"- made with: {markdown_list(versions)}"


def _labels(study: Study) -> list[str]:
    return [escaped_text(name) for name in dict.fromkeys(label for one in study.data for label in one.labels)]


def _data(study: Study) -> str:
    heads = ["dataset", "anatomy", *(f"{split} subjects" for split in SPLITS), "pixel mm", "slice mm"]
    lines = [
        [
            code_text(one.name),
            escaped_text(one.anatomy),
            *(str(one.subjects.get(split, 0)) for split in SPLITS),
            _ends(one.pixel_mm),
            _ends(one.slice_mm),
        ]
        for one in study.data
    ]
    return markdown_table(heads, lines, heads[2:]) if lines else "The prepared datasets are no longer there."


def _ends(ends: tuple[float, float] | None) -> str:
    return "–" if ends is None else "–".join(dict.fromkeys(f"{end:.3g}" for end in ends))


def _results(study: Study, rows: Sequence[Row]) -> Iterator[str]:
    own = [row for row in rows if row["run"] == study.shown and row["measure"] in MEASURES]
    # Labels first, their mean last.
    shown = sorted((row for row in own if row["label_name"] != POOLED), key=lambda row: row["label"] is None)
    if not shown:
        yield "It was not evaluated."
        return
    heads = ["dataset", "protocol", "label", "measure", "mean ± sd", "95 % CI", "n", "missed", "spurious"]
    lines = [
        [escaped_text(name) for name in (row["dataset"], row["protocol"], _label(row))]
        + [MEASURE_WORDS[str(row["measure"])]]
        + [f"{_number(row, 'mean')} ± {_number(row, 'sd')}", f"{_number(row, 'ci_low')}–{_number(row, 'ci_high')}"]
        + [str(row[name]) for name in ("n", "n_missed", "n_spurious")]
        for row in shown
    ]
    yield markdown_table(heads, lines, heads[4:])
    yield f"Evaluated on the {study.evaluation.split} split; intervals are bootstrap intervals over subjects."


def _label(row: Row) -> str:
    return "mean of labels" if row["label_name"] == MEAN_OF_LABELS else str(row["label_name"])


def _number(row: Row, name: str) -> str:
    value = row[name]
    return number_text(None if value is None else float(value))


def _limits(study: Study) -> Iterator[str]:
    yield from LIMITS
    if missed := sum(line.n_missed for line in study.lines):
        yield f"In the evaluation above it missed {missed} labels altogether."
    yield "☐ author: known failures, ethical considerations, licence of the weights."


def _loading(study: Study) -> str:
    name = study.module.sam2_model_cfg
    if name == "sam2_nano":
        return (
            "`sam2ft.model.segmenter.build_segmenter('sam2_nano', ...)`: sam2_nano is the small model of this project, "
            "which stock SAM 2 has no configuration of."
        )
    return f"The file is in the stock layout: `build_sam2({name!r}, 'best.pt')` of SAM 2 takes it as it is."
