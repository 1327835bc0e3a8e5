"""QC pictures of an evaluation: the worst, median and best slices, drawn from its files. No torch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sam2ft.core.digests.verified_files import write_with_digest
from sam2ft.core.events import SlicePrediction
from sam2ft.core.files import indented_json, replacing, sha256_file
from sam2ft.core.keys import SliceKey, VolumeKey
from sam2ft.core.prompts import Box
from sam2ft.core.tables.rows import TABLES, Row, read_csv
from sam2ft.data.images.volumes import read_reordered
from sam2ft.data.samples.instances import instances_of
from sam2ft.data.store.intensity import unit_image
from sam2ft.data.store.store import Store
from sam2ft.evaluation.outputs.picture_choice import (
    Chosen,
    LabelRows,
    choose_of_labels,
    choose_slices,
    dice_of,
    slice_key,
)
from sam2ft.evaluation.outputs.volume_slices import Scrolled, draw_volumes
from sam2ft.metrics.counts import LabelMap
from sam2ft.pictures.figures import figure_png, qc_sheet
from sam2ft.pictures.label_sheet import LabelSlice, label_sheet
from sam2ft.pictures.noise_chart import figure_svg, noise_curves
from sam2ft.pictures.views import view_of
from sam2ft.runs.evaluation_files import verified_prediction
from sam2ft.runs.layout import EvalLayout
from sam2ft.statistics.small_samples import with_shown_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Predicted = Callable[[VolumeKey], LabelMap]
"""Reads the predicted label map of a volume, (z, y, x) on its grid."""
_ZERO_DICE = {"missed": "missed (Dice 0)", "spurious": "absent, but predicted (Dice 0)"}


def draw_pictures(
    evaluation: EvalLayout,
    slice_rows: Iterable[Row],
    stores: Mapping[str, Store],
    num_slices: int,
    predicted: Predicted | None = None,
) -> None:
    """Write QC pictures: a sheet per label, `qc/label-<id>.png`, and single slices, `qc/<n>.png`.

    `qc/index.json` lists file and caption: labels in the order of their median Dice, then slices, the worst first
    (picture_choice). `qc/volumes.json` lists the slices of the volumes to scroll (volume_slices).

    Args:
        slice_rows: rows of slice.csv, in its order; iterated more than once.
        num_slices: number of slices, and maximum number of labels.
        predicted: reads the label map of a volume on its grid; by default the prediction of the evaluation.
    """
    chosen, sheets = choose_slices(slice_rows, num_slices), choose_of_labels(slice_rows, num_slices)
    wanted = [one.key for one in chosen] + [slice_key(row) for sheet in sheets for row in sheet.rows]
    for volume in dict.fromkeys(key.volume_key for key in wanted):
        stores[volume.dataset].verify([stores[volume.dataset].record(volume)])
    read = _of_drawn(predicted or _own_predictions(evaluation, stores), stores)
    predictions = _predicted_slices(wanted, read)
    index = [_draw_sheet(evaluation, sheet, stores, predictions) for sheet in sheets]
    rows_of: dict[SliceKey, list[Row]] = {one.key: [] for one in chosen}
    for row in slice_rows:
        if (key := slice_key(row)) in rows_of:
            rows_of[key].append(row)
    for number, one in enumerate(chosen, start=1):
        store = stores[one.key.dataset]
        sample = slice_prediction(store, one.key, predictions[one.key])
        of_labels = {int(row["label"] or 0): dice_of(row) for row in rows_of[one.key]}
        geometry = store.record(one.key.volume_key).geometry
        spacing, view = geometry.spacing_zyx_mm[1:], view_of(geometry)
        figure = qc_sheet(sample, store.labels, of_labels, spacing_yx_mm=spacing, view=view)
        file = f"{number:03d}.png"
        _write_png(evaluation.qc / file, figure)
        index.append(_entry(file, one, rows_of[one.key]))
    draw_volumes(evaluation, Scrolled(chosen, slice_rows, stores, read), predictions)
    named = [entry | {"sha256": sha256_file(evaluation.qc / entry["file"])} for entry in index]
    write_with_digest(evaluation.qc / "index.json", indented_json(named).encode())


def _entry(file: str, one: Chosen, rows: Sequence[Row]) -> dict[str, Any]:
    """Entry of one slice in index.json: a caption, and the numbers for other layouts."""
    labels = [
        {"label": row["label"], "name": row["label_name"], "dice": row["dice"], "status": row["status"]}
        for row in rows
        if row["status"] != "absent"
    ]
    own = next((row for row in rows if one.label is not None and row["label"] == one.label), None)
    why = one.why if own is None else f"{one.why} of {own['label_name']} ({score_text(own)})"
    caption = f"{one.key}: {why}, Dice {one.dice:.3f} (mean over labels)"
    where = {"slice": str(one.key), "subject": one.key.subject, "why": one.why, "label": one.label, "dice": one.dice}
    return {"file": file, "caption": caption, **where, "labels": labels}


def score_text(row: Row) -> str:
    """How well a label was found in one slice: `missed (Dice 0)`, `Dice 0.734`."""
    return _ZERO_DICE.get(str(row["status"]), f"Dice {dice_of(row):.3f}")


def _own_predictions(evaluation: EvalLayout, stores: Mapping[str, Store]) -> Predicted:
    def read(key: VolumeKey) -> LabelMap:
        geometry = stores[key.dataset].record(key).geometry
        return read_reordered(verified_prediction(evaluation, key), geometry, what="prediction")

    return read


def _of_drawn(predicted: Predicted, stores: Mapping[str, Store]) -> Predicted:
    """`predicted` without labels that were not drawn in a volume: they are not scored, so they are no error either."""

    def read(key: VolumeKey) -> LabelMap:
        drawn, label_map_zyx = stores[key.dataset].record(key).labelled, predicted(key)
        return label_map_zyx if drawn is None else np.where(np.isin(label_map_zyx, drawn), label_map_zyx, 0)

    return read


def _predicted_slices(keys: Iterable[SliceKey], predicted: Predicted) -> dict[SliceKey, LabelMap]:
    """The requested slices; every volume is read once, and at most one is in memory."""
    of_volume: dict[VolumeKey, set[SliceKey]] = {}
    for key in keys:
        of_volume.setdefault(key.volume_key, set()).add(key)
    found: dict[SliceKey, LabelMap] = {}
    for volume, wanted in of_volume.items():
        label_map_zyx = predicted(volume)
        found |= {key: np.array(label_map_zyx[key.index]) for key in wanted}
    return found


def _draw_sheet(
    evaluation: EvalLayout,
    sheet: LabelRows,
    stores: Mapping[str, Store],
    predictions: Mapping[SliceKey, LabelMap],
) -> dict[str, Any]:
    """The entry of index.json."""
    labels = next(iter(stores.values())).labels
    cells = {
        why: [_cell(row, stores, predictions[slice_key(row)], sheet.label) for row in rows]
        for why, rows in sheet.groups.items()
    }
    name = f"{sheet.label}  {labels[sheet.label].name}"
    about = f"median Dice {sheet.median:.3f} over {sheet.num_slices} slices"
    _write_png(evaluation.qc / sheet.file, label_sheet(f"{name}   {about}", labels.ids.index(sheet.label), cells))
    return {"file": sheet.file, "caption": f"{labels[sheet.label].name}: {about}; its worst, median and best slices"}


def _cell(row: Row, stores: Mapping[str, Store], predicted_yx: LabelMap, label: int) -> LabelSlice:
    key = slice_key(row)
    store = stores[key.dataset]
    geometry = store.record(key.volume_key).geometry
    dataset = f"{key.dataset}/" if len(stores) > 1 else ""
    return LabelSlice(
        image_yx=unit_image(store.image(key.volume_key)[key.index]),
        reference_yx=np.asarray(store.mask(key.volume_key)[key.index]) == label,
        prediction_yx=predicted_yx == label,
        spacing_yx_mm=geometry.spacing_zyx_mm[1:],
        where=f"{dataset}{key.subject}/{key.volume} slice {key.index}",
        score_text=score_text(row),
        view=view_of(geometry),
    )


def _write_png(path: Path, figure: "Figure") -> None:
    with replacing(path) as partial:
        partial.write_bytes(figure_png(figure))
    figure.clear()  # see training/watching/observers


def draw_noise(evaluation: EvalLayout) -> None:
    """Write the plot of a prompt-noise study from its table."""
    rows = read_csv(evaluation.table("prompt_noise_global"), TABLES["prompt_noise_global"])
    with replacing(evaluation.noise_chart) as partial:
        partial.write_bytes(figure_svg(noise_curves([with_shown_interval(row) for row in rows])))


def slice_prediction(store: Store, key: SliceKey, predicted_yx: LabelMap) -> SlicePrediction:
    """Return the slice with its composed prediction: an entry per reference instance, and one per spurious label."""
    reference_yx = np.asarray(store.mask(key.volume_key)[key.index])
    instances = instances_of(reference_yx, store.labels.ids, store.instances_of_slice(key))
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
