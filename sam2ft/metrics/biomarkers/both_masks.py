"""A measurement of a biomarker on both masks."""

from typing import Any

from sam2ft.metrics.measurement import Level, Measurement

Side = tuple[float, int]
"""(value on one mask, number of voxels, rays or instances behind it)."""


def on_both_masks(
    measure: str, definition: str, unit: str, reference: Side, prediction: Side, **of: Any
) -> Measurement:
    """Measurement of one definition of a biomarker.

    Args:
        of: the fields slice, instance or status of `Measurement`; without the first two it is of the volume.
    """
    level: Level = "instance" if of.get("instance") else "slice" if of.get("slice") is not None else "volume"
    return Measurement(
        level,
        measure,
        reference=reference[0],
        prediction=prediction[0],
        definition=definition,
        unit=unit,
        n_reference=reference[1],
        n_prediction=prediction[1],
        **of,
    )
