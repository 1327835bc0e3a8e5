"""Slices of the chosen volumes for the page, to be scrolled: an image (JPEG) and overlays (SVG) of each. No torch.

qc/volumes.json  [{volume, subject, num_slices, marks, labels, why, slices: [{slice, key, image, overlay, dice}]}]
qc/volumes/<n>-<slice>.jpg  .svg
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.digests.verified_files import write_with_digest
from sam2ft.core.files import indented_json, replacing, sha256_file
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import SliceKey, VolumeKey
from sam2ft.core.labels import LabelTable
from sam2ft.core.tables.rows import Row
from sam2ft.data.store.intensity import unit_image
from sam2ft.data.store.store import Store
from sam2ft.evaluation.outputs.picture_choice import Chosen, dice_of, slice_key
from sam2ft.metrics.counts import LabelMap
from sam2ft.pictures.overlay import overlay_svg
from sam2ft.pictures.palette import colour_of
from sam2ft.pictures.views import ScreenView, view_of
from sam2ft.runs.layout import EvalLayout

MOST_VOLUMES = 4
"""Volumes of which more than the chosen slices are drawn."""
MOST_SLICES = 48
"""Of each of them; of a longer one every second, third, ... slice with a label, and the chosen ones."""
LONGEST_SIDE_PX = 512
_JPEG_QUALITY = 82


@dataclass(frozen=True)
class Scrolled:
    """What the pictures of volumes are made from."""

    chosen: Sequence[Chosen]
    slice_rows: Iterable[Row]
    """Iterated once."""
    stores: Mapping[str, Store]
    predicted: Callable[[VolumeKey], LabelMap]


def draw_volumes(evaluation: EvalLayout, scrolled: Scrolled, predictions: Mapping[SliceKey, LabelMap]) -> None:
    """Write the slices of the volumes to scroll, and the chosen slices of the other volumes.

    Args:
        predictions: of the chosen slices, so that the other volumes are not read again.
    """
    whole = volumes_to_scroll(scrolled.chosen)
    volumes = list(dict.fromkeys([*whole, *(one.key.volume_key for one in scrolled.chosen)]))
    dice_of_slices = _dice_of_slices(scrolled.slice_rows, set(volumes))
    entries = []
    for number, volume in enumerate(volumes, start=1):
        own = [one for one in scrolled.chosen if one.key.volume_key == volume]
        store = scrolled.stores[volume.dataset]
        if volume in whole:
            found = _slices_of_volume(store, volume, scrolled.predicted(volume), {one.key.index for one in own})
        else:
            found = {one.key.index: predictions[one.key] for one in own}
        picture = _VolumePicture(store, volume, view_of(store.record(volume).geometry))
        slices = []
        for index, predicted_yx in sorted(found.items()):
            files = picture.write(evaluation, f"{number:02d}-{index:04d}", index, predicted_yx)
            key = volume.slice(index)
            slices.append({"slice": index, "key": str(key), **files, "dice": dice_of_slices.get(key, {})})
        why = list(dict.fromkeys(one.why for one in own))
        entries.append(picture.about | {"why": why, "slices": slices})
    write_with_digest(evaluation.qc_volumes, indented_json(entries).encode())


def volumes_to_scroll(chosen: Sequence[Chosen]) -> list[VolumeKey]:
    """At most MOST_VOLUMES: those of the two worst slices, of the median subject and of the best, then others."""
    worst = [one.key.volume_key for one in chosen if one.why == "worst"]
    median = [one.key.volume_key for one in chosen if one.why.startswith("median")]
    best = [one.key.volume_key for one in chosen if one.why == "best"]
    first = [*list(dict.fromkeys(worst))[:2], *median[:1], *best[-1:]]
    return list(dict.fromkeys([*first, *(one.key.volume_key for one in chosen)]))[:MOST_VOLUMES]


def _dice_of_slices(rows: Iterable[Row], volumes: set[VolumeKey]) -> dict[SliceKey, dict[str, float | str]]:
    """Slice -> label -> Dice, or missed or spurious; labels that are in neither mask are left out."""
    found: dict[SliceKey, dict[str, float | str]] = {}
    for row in rows:
        key = slice_key(row)
        if key.volume_key in volumes and not math.isnan(dice := dice_of(row)):
            status = str(row["status"])
            found.setdefault(key, {})[str(row["label"])] = dice if status == "ok" else status
    return found


def _slices_of_volume(
    store: Store, volume: VolumeKey, predicted_zyx: LabelMap, chosen: set[int]
) -> dict[int, LabelMap]:
    """The slices from one before the first with a label to one behind the last, at most about MOST_SLICES."""
    reference_zyx = store.mask(volume)
    number = len(reference_zyx)
    labelled = [z for z in range(number) if np.any(reference_zyx[z]) or np.any(predicted_zyx[z])]
    low, high = (max(0, labelled[0] - 1), min(number, labelled[-1] + 2)) if labelled else (0, number)
    step = math.ceil((high - low) / MOST_SLICES)
    return {z: np.array(predicted_zyx[z]) for z in sorted({*range(low, high, step), *chosen})}


@dataclass(frozen=True)
class _VolumePicture:
    """Draws the slices of one volume."""

    store: Store
    volume: VolumeKey
    view: ScreenView

    @property
    def labels(self) -> LabelTable:
        return self.store.labels

    @property
    def about(self) -> dict[str, Any]:
        names = {str(label.id): [label.name, colour_of(place)] for place, label in enumerate(self.labels)}
        about = {"volume": str(self.volume), "subject": self.volume.subject, "num_slices": self._geometry.shape_zyx[0]}
        return {**about, "marks": self.view.marks and list(self.view.marks), "labels": names}

    @property
    def _geometry(self) -> Geometry:
        return self.store.record(self.volume).geometry

    def write(self, evaluation: EvalLayout, name: str, index: int, predicted_yx: LabelMap) -> dict[str, Any]:
        """Write both files of a slice; returns their names and digests."""
        image = unit_image(self.store.image(self.volume)[index])
        colours = {label.id: colour_of(place) for place, label in enumerate(self.labels)}
        reference_yx = np.asarray(self.store.mask(self.volume)[index])
        overlay = overlay_svg(self.view.plane(reference_yx), self.view.plane(predicted_yx), colours)
        spacing = self.view.spacing(self._geometry.spacing_zyx_mm[1:])
        contents = {"image": (jpeg(self.view.plane(image), spacing), "jpg"), "overlay": (overlay.encode(), "svg")}
        files: dict[str, Any] = {}
        for kind, (content, suffix) in contents.items():
            path = evaluation.qc / "volumes" / f"{name}.{suffix}"
            with replacing(path) as partial:
                partial.write_bytes(content)
            files |= {kind: f"volumes/{path.name}", f"{kind}_sha256": sha256_file(path)}
        return files


def jpeg(image_yx: npt.NDArray[np.floating[Any]], spacing_yx_mm: tuple[float, float]) -> bytes:
    """Image with intensities in [0, 1] as a JPEG with square pixels, its longest side at most LONGEST_SIDE_PX."""
    from PIL import Image

    height_mm, width_mm = image_yx.shape[0] * spacing_yx_mm[0], image_yx.shape[1] * spacing_yx_mm[1]
    finest = min(spacing_yx_mm)
    scale = min(1 / finest, LONGEST_SIDE_PX / max(height_mm, width_mm))
    size = (max(1, round(width_mm * scale)), max(1, round(height_mm * scale)))
    picture = Image.fromarray(np.rint(np.clip(image_yx, 0, 1) * 255).astype(np.uint8))
    stream = BytesIO()
    picture.resize(size, Image.Resampling.BICUBIC).save(stream, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return stream.getvalue()
