"""QC pictures of an evaluation: the worst, the median and the best slices, drawn from what is on disk."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from sam2ft.core.events import SlicePrediction
from sam2ft.core.files import replacing, write_json
from sam2ft.core.keys import SliceKey
from sam2ft.core.layout import EvalLayout
from sam2ft.core.prompts import Box
from sam2ft.core.rows import TABLES, Row, read_csv
from sam2ft.data.intensity import unit_image
from sam2ft.data.prompts import instances_of
from sam2ft.data.store import Store
from sam2ft.data.volumes import read_on_grid
from sam2ft.report.charts import figure_svg
from sam2ft.report.figures import figure_png, qc_sheet
from sam2ft.report.noise_chart import noise_curves


@dataclass(frozen=True)
class Chosen:
    """One slice to draw, and why."""

    key: SliceKey
    dice: float
    """Mean over the labels that the slice holds, absent ones left out."""
    why: str
    """worst, median or best."""


def draw_pictures(
    evaluation: EvalLayout, slice_rows: Iterable[Row], stores: Mapping[str, Store], num_slices: int
) -> None:
    """Write `qc/<n>.png` and `qc/index.json` (file, caption), worst slices first."""
    index = []
    chosen = choose_slices(slice_rows, num_slices)
    rows_of: dict[SliceKey, list[Row]] = {one.key: [] for one in chosen}
    for row in slice_rows:
        if (key := slice_key(row)) in rows_of:
            rows_of[key].append(row)
    for number, one in enumerate(chosen, start=1):
        rows = rows_of[one.key]
        sample = slice_prediction(evaluation, stores[one.key.dataset], one.key)
        of_labels = {int(row["label"] or 0): math.nan if row["dice"] is None else float(row["dice"]) for row in rows}
        dy, dx = stores[one.key.dataset].record(one.key.volume_key).geometry.spacing_zyx_mm[1:]
        figure = qc_sheet(sample, stores[one.key.dataset].labels, of_labels, spacing_yx_mm=(dy, dx))
        file = f"{number:03d}.png"
        with replacing(evaluation.qc / file) as partial:
            partial.write_bytes(figure_png(figure))
        index.append({"file": file, "caption": f"{one.key}: {one.why}, Dice {one.dice:.3f} (mean over labels)"})
    write_json(evaluation.qc / "index.json", index)


def draw_noise(evaluation: EvalLayout) -> None:
    """Write the plot of a prompt-noise study from its table."""
    rows = read_csv(evaluation.table("prompt_noise_global"), TABLES["prompt_noise_global"])
    with replacing(evaluation.noise_chart) as partial:
        partial.write_bytes(figure_svg(noise_curves(rows)))


def choose_slices(slice_rows: Iterable[Row], num_slices: int) -> list[Chosen]:
    """Half of the slices are the worst, a quarter lies around the median, the rest are the best; each slice once."""
    dices: dict[SliceKey, list[float]] = {}
    for row in slice_rows:
        if row["dice"] is not None:
            dices.setdefault(slice_key(row), []).append(float(row["dice"]))
    ranked = sorted((sum(values) / len(values), key) for key, values in dices.items())
    count = min(num_slices, len(ranked))
    num_worst, num_median = math.ceil(count / 2), count // 4
    middle = max(num_worst, (len(ranked) - num_median) // 2)
    places = dict.fromkeys(range(num_worst), "worst")
    places |= dict.fromkeys(range(middle, min(middle + num_median, len(ranked))), "median")
    best = [position for position in reversed(range(len(ranked))) if position not in places]
    places |= dict.fromkeys(best[: count - len(places)], "best")
    return [Chosen(ranked[position][1], ranked[position][0], places[position]) for position in sorted(places)]


def slice_key(row: Row) -> SliceKey:
    """The key of a row of slice.csv."""
    return SliceKey(str(row["dataset"]), str(row["subject"]), str(row["volume"]), int(row["slice"] or 0))


def slice_prediction(evaluation: EvalLayout, store: Store, key: SliceKey) -> SlicePrediction:
    """The slice with its composed prediction: an entry per reference instance, and one per spurious label."""
    record = store.record(key.volume_key)
    predicted_yx = read_on_grid(evaluation.prediction(key.volume_key), record.geometry, what="prediction")[key.index]
    reference_yx = np.asarray(store.mask(key.volume_key)[key.index])
    instances = instances_of(reference_yx, store.labels.ids)
    spurious = [one for one in instances_of(predicted_yx, store.labels.ids) if not (reference_yx == one.label).any()]
    empty = np.zeros(reference_yx.shape, dtype=np.bool_)
    entries = [(one.label, one.box, one.mask_yx, predicted_yx == one.label) for one in instances]
    entries += [(one.label, one.box, empty, one.mask_yx) for one in spurious]
    labels, boxes, references, predictions = zip(*entries, strict=True) if entries else ((), (), (), ())
    return SlicePrediction(
        key=key,
        image_yx=unit_image(store.image(key.volume_key)[key.index]),
        labels_n=labels,
        boxes_n=[Box(*box) for box in boxes],
        references_nyx=np.stack(references) if entries else empty[None][:0],
        predictions_nyx=np.stack(predictions) if entries else empty[None][:0],
    )
