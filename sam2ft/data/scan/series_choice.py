"""The keys of `series` that choose the images of each volume in its folder: one choice for all, else one per line."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.config.schema.series import SeriesChoice
from sam2ft.core.errors import DataError
from sam2ft.core.quiet import quiet_readers
from sam2ft.data.dicom.choice import chosen_stack
from sam2ft.data.scan.dicom_folder import without_path
from sam2ft.data.scan.found import FoundImage
from sam2ft.data.scan.kinds import fits
from sam2ft.data.scan.plan import PlannedVolume, ScanPlan
from sam2ft.data.scan.scanned import Progress

_KEYS = ("description", "part", "echo_ms", "phase", "plane", "number")
"""In the order in which they are tried; the number of a series is another one in most subjects."""
_MOST_KEYS = 4


def choose_series(plan: ScanPlan, images: Sequence[FoundImage], wanted: Mapping[str, Any]) -> None:
    """Give the plan the keys that choose its images; volumes that no key tells apart are left out with the reason."""
    siblings = _siblings(images)
    volumes = [volume for volume in plan.volumes if volume.image.is_dicom]
    open_ones = [volume for volume in volumes if not _is_clear(volume, siblings[volume.image.place], {})]
    if not open_ones:
        return
    for choice in _choices(volumes[0].image, wanted, _KEYS[:-1]):
        if len(volumes) == len(plan.volumes) and all(
            _is_clear(volume, siblings[volume.image.place], choice) for volume in volumes
        ):
            plan.series = choice
            return
    lost = []
    for volume in open_ones:
        near = siblings[volume.image.place]
        found = next((one for one in _choices(volume.image, wanted, _KEYS) if _is_clear(volume, near, one)), None)
        if found is None:
            lost.append(volume)
            reason = "holds images that no key of series tells apart; give each series a folder of its own"
            plan.left_out.append((volume.subject, f"{volume.image.place}: {reason}"))
        else:
            volume.series = found
    plan.volumes = [volume for volume in plan.volumes if volume not in lost]


@quiet_readers()
def confirm(plan: ScanPlan, progress: Progress = lambda *_: None) -> None:
    """Read the headers of every chosen series as `prepare` does; what it would refuse is left out with its reason."""
    kept = []
    for done, volume in enumerate(plan.volumes, start=1):
        progress(done, len(plan.volumes), str(volume.image.place))
        reason = _refusal(volume, plan) if volume.image.is_dicom else ""
        if reason:
            plan.left_out.append((volume.subject, f"{volume.image.place}: {reason}"))
        else:
            kept.append(volume)
    plan.volumes = kept


def _refusal(volume: PlannedVolume, plan: ScanPlan) -> str:
    choice = SeriesChoice.model_validate({**plan.series, **volume.series})
    reading: Reading = AS_IS.model_copy(update={"series": choice})
    try:
        found = chosen_stack(volume.image.place, reading)
    except DataError as error:
        return without_path(error, volume.image.place)
    if len(found.images) != volume.image.shape[2]:
        return f"{len(found.images)} images are read, and {volume.image.shape[2]} were seen; scan again"
    return ""


def _siblings(images: Sequence[FoundImage]) -> Mapping[Path, list[FoundImage]]:
    """Place -> all images that are read there."""
    found: dict[Path, list[FoundImage]] = defaultdict(list)
    for image in images:
        if image.is_dicom:
            found[image.place].append(image)
    for image in images:
        if image.is_dicom and image.place.parent in found and image.place.is_file():
            found[image.place.parent].append(image)
    return found


def _is_clear(volume: PlannedVolume, siblings: Sequence[FoundImage], choice: Mapping[str, Any]) -> bool:
    """Whether a choice leaves the image of a volume alone, localizers aside as `prepare` leaves them aside."""
    matching = [image for image in siblings if fits(image, choice)]
    kept = [image for image in matching if not image.localizer] or matching
    return kept == [volume.image]


def _choices(image: FoundImage, wanted: Mapping[str, Any], keys: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Choices that an image fits, with what the user wants and as few keys as possible."""
    own = {key: _value(image, key) for key in keys}
    known = {key: value for key, value in own.items() if value is not None and key not in wanted}
    yield dict(wanted)
    for count in range(1, _MOST_KEYS + 1):
        for names in combinations(known, count):
            yield {**wanted, **{name: known[name] for name in names}}


def _value(image: FoundImage, key: str) -> Any:
    value = getattr(image, key)
    return value if key != "description" else description_to_choose(value)


def description_to_choose(description: str) -> str | None:
    """What `series.description` may be to choose a description; None: it says nothing."""
    # Letters that are wildcards in a choice stand for any letter.
    text = "".join("?" if letter in "*?[]" else letter for letter in " ".join(description.split()))
    return text if text.strip("? ") else None
