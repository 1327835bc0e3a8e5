"""Overlays of a slice: where the prediction is wrong, and an SVG file with contours and errors for the page."""

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from sam2ft.core.events import SlicePrediction
from sam2ft.core.prompts import Mask

LabelMap = npt.NDArray[np.integer]

MISSED, EXTRA, CONFUSED = 1, 2, 3
ERRORS = {MISSED: ("missed", "#4B8BFF"), EXTRA: ("extra", "#FF7F0E"), CONFUSED: ("another label", "#F032E6")}
"""Class of a wrong pixel -> (name, colour); blue and orange differ for every colour vision, and in brightness."""

LAYERS = ("reference", "prediction", "errors")
"""Layers of the SVG file, from above; each is as large as the slice."""


def errors_of_sample(sample: SlicePrediction) -> npt.NDArray[np.uint8]:
    """(y, x) classes of the pixels of a slice, 0 where reference and prediction have the same labels."""
    labels = np.asarray(sample.labels_n)
    missed, extra = (np.zeros(sample.image_yx.shape, dtype=np.bool_) for _ in range(2))
    for label in sorted(set(sample.labels_n)):
        reference = sample.references_nyx[labels == label].any(axis=0)
        prediction = sample.predictions_nyx[labels == label].any(axis=0)
        missed |= reference & ~prediction
        extra |= prediction & ~reference
    return _classes(missed, extra)


def errors_of_maps(reference_yx: LabelMap, predicted_yx: LabelMap) -> npt.NDArray[np.uint8]:
    """(y, x) classes of the pixels of two label maps on one grid, 0 where they are equal."""
    wrong = reference_yx != predicted_yx
    return _classes(wrong & (reference_yx != 0), wrong & (predicted_yx != 0))


def _classes(missed: Mask, extra: Mask) -> npt.NDArray[np.uint8]:
    """A pixel that one label misses and another one has too many of is of another label."""
    return (MISSED * missed + EXTRA * extra).astype(np.uint8)


def overlay_svg(reference_yx: LabelMap, predicted_yx: LabelMap, colours: Mapping[int, str]) -> str:
    """SVG with the LAYERS one below the other; it is stretched to the size of the picture.

    Contours run along the borders of the masks as in `figures.draw_contour`: solid in the colour of the label for the
    prediction, dashed white with a dark rim for the reference. The text has numbers and colours only, no names.

    Args:
        reference_yx: label map as shown (views.ScreenView.plane).
        colours: label -> colour; other labels are not drawn.
    """
    height, width = reference_yx.shape
    errors = errors_of_maps(reference_yx, predicted_yx)
    outlines = "".join(_contours(reference_yx == label) for label in colours)
    predicted = [(_contours(predicted_yx == label), colour) for label, colour in colours.items()]
    parts = [
        _line("r", outlines, _RIM, 'stroke="#fff" stroke-width="1.8"', dashes='stroke-dasharray="6 4"'),
        "".join(
            _line(f"p{number}", path, _RIM, f'stroke="{colour}" stroke-width="2"')
            for number, (path, colour) in enumerate(predicted)
        ),
        "".join(
            f'<path d="{_runs(errors == kind)}" fill="{colour}" fill-opacity=".75"/>'
            for kind, (_, colour) in ERRORS.items()
            if (errors == kind).any()
        ),
    ]
    layers = "".join(
        f'<svg y="{2 * height * number}" width="{2 * width}" height="{2 * height}">{part}</svg>'
        for number, part in enumerate(parts)
    )
    # Coordinates are half pixels, so that all of them are whole numbers.
    size = f'viewBox="0 0 {2 * width} {2 * height * len(parts)}" preserveAspectRatio="none"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{layers}</svg>\n'


_RIM = 'stroke="#000" stroke-width="4"'


def _line(name: str, path: str, rim: str, line: str, dashes: str = "") -> str:
    """A line with a rim; its width is that on the screen, whatever the size of the picture."""
    if not path:
        return ""
    shape = f'<path id="{name}" d="{path}" fill="none" vector-effect="non-scaling-stroke" {dashes}/>'
    return f'<defs>{shape}</defs><use href="#{name}" {rim}/><use href="#{name}" {line}/>'


def _contours(mask_yx: Mask) -> str:
    """Closed outlines, in half pixels from the upper left corner of the slice; empty for an empty mask."""
    from skimage.measure import find_contours  # 0.3 s

    if not mask_yx.any():
        return ""
    # A margin of one background pixel closes outlines at the border of the image.
    lines = find_contours(np.pad(mask_yx, 1).astype(np.float32), 0.5)
    return "".join(_path(np.rint(2 * line[:, ::-1] - 1).astype(int)) for line in lines)


def _path(corners_xy: npt.NDArray[np.int_]) -> str:
    """A closed line through the corners, without those on a straight part of it."""
    steps = np.diff(corners_xy, axis=0)
    turns = np.flatnonzero(np.any(steps[1:] != steps[:-1], axis=1)) + 1
    kept = corners_xy[[0, *turns]]
    moves = "".join(f" {x} {y}" for x, y in np.diff(kept, axis=0).tolist()).replace(" -", "-")
    return f"M{kept[0, 0]} {kept[0, 1]}l{moves.lstrip()}z"


def _runs(mask_yx: Mask) -> str:
    """One rectangle for each run of pixels in a row."""
    return "".join(f"M{2 * start} {2 * y}h{2 * length}v2h{-2 * length}z" for y, start, length in _runs_of(mask_yx))


def _runs_of(mask_yx: Mask) -> Iterable[tuple[int, int, int]]:
    edges = np.diff(np.pad(mask_yx, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    return zip(rows.tolist(), starts.tolist(), (ends - starts).tolist(), strict=True)
