"""Prompt-noise study: the rows of every volume for every shift and seed of the box jitter. No torch.

Each slice is encoded once for the whole study (see prediction/predictor); each pass has the rows of volume.csv.
"""

from collections.abc import Callable, Sequence

from sam2ft.core.tables.rows import TABLES, Row
from sam2ft.evaluation.protocols.protocol import PromptProtocol
from sam2ft.metrics.counts import LabelMap
from sam2ft.metrics.measurement import Metric, is_biomarker
from sam2ft.metrics.scoring import PromptedMask, ScoredRows

NOISE = "prompt_noise"
"""Name of the table of the study."""

RowsOf = Callable[[LabelMap, Sequence[PromptedMask], Sequence[Metric]], ScoredRows]


def noise_rows(
    protocol: PromptProtocol,
    metrics: Sequence[Metric],
    own_rows: Sequence[Row],
    label_maps_pzyx: Sequence[LabelMap],
    rows_of: RowsOf,
) -> list[Row]:
    """Return the rows of the study for one volume: rows of volume.csv with shift, seed and protocol.

    The seed is empty without a shift. Biomarkers are left out, because they are not columns of volume.csv, and so are
    the columns of volume.csv that version 0.1.0 did not have (num_specks).

    Args:
        own_rows: rows of the evaluation itself; the study may contain the same jitter.
        label_maps_pzyx: predicted label maps, one per `protocol.passes`.
        rows_of: computes the rows of a label map.
    """
    study = protocol.section.prompt_noise
    assert study is not None
    found: list[Row] = []
    later = {column.name for column in TABLES["volume"].later}
    measured = [one for one in metrics if not is_biomarker(one)]
    for number, (jitter, label_map_zyx) in enumerate(zip(protocol.passes, label_maps_pzyx, strict=True)):
        if not (jitter.shift_px in study.shifts and (jitter.shift_px == 0 or jitter.seed in study.seeds)):
            continue
        rows = own_rows if number == 0 else rows_of(label_map_zyx, (), measured)["volume"]
        seed = jitter.seed if jitter.shift_px else None
        key = {"shift_px": jitter.shift_px, "seed": seed, "protocol": protocol.name(jitter)}
        found += [{**{name: value for name, value in row.items() if name not in later}, **key} for row in rows]
    return found
