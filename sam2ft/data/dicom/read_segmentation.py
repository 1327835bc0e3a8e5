"""Reading DICOM segmentations (SEG): binary, fractional and label-map frames, placed by their positions and UIDs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pydicom

from sam2ft.config.schema.dataset import Reading
from sam2ft.core.errors import DataError, listed, naming
from sam2ft.core.geometry import Geometry
from sam2ft.data.dicom.file import ORIENTATION_TOLERANCE, DicomImage, is_dicom, read_complete
from sam2ft.data.dicom.header import DAMAGE, guarded, numbers, raw_value, reason_of, required_whole, text
from sam2ft.data.dicom.placement import affine_of_slices
from sam2ft.data.dicom.series import read_slices
from sam2ft.data.images.grids import LPS_TO_RAS, PLACED_TOLERANCE_VOXELS, Segment, Volume
from sam2ft.data.masks.layers import Layer

_SEGMENTATION, _LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
_STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.3"
DicomKind = Literal["segmentation", "structures"]
_KINDS: Mapping[str, DicomKind] = {_SEGMENTATION: "segmentation", _LABEL_MAP: "segmentation", _STRUCTURES: "structures"}
# Segmentations of whole bodies have some thousand frames of up to a few hundred segments.
_MOST_SEGMENTS = 65535
# Slices that lie less than this fraction of their distance beside an even grid lie on it.
_EVEN = 0.01
# Slices that lie more than this multiple of their thickness apart: one without a frame may lie between them.
_LEFT_OUT = 1.9


@dataclass(frozen=True)
class DicomLayers:
    """What a segmentation holds: a layer per segment on one grid."""

    layers: tuple[Layer, ...]
    geometry: Geometry
    notes: tuple[str, ...] = ()


def dicom_kind(path: Path) -> DicomKind | None:
    """Which kind of mask a DICOM file is by its SOP class; None: an image, or something else."""
    with guarded(path):
        header = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=["SOPClassUID"])
        return _KINDS.get(text(header, "SOPClassUID"))


@dataclass(frozen=True)
class _Frame:
    """One frame: the segment that it belongs to, and where it lies."""

    index: int
    segment: int
    """Number of the segment; 0 in a label map, whose pixels are numbers of segments."""
    position: npt.NDArray[np.float64]
    source: str
    """SOPInstanceUID of the image that it was drawn on; empty where the file does not say."""


@dataclass(frozen=True)
class _Groups:
    """Functional groups of a multi-frame file: those of a frame go before those that all frames share."""

    header: pydicom.Dataset

    def of(self, frame: int, group: str) -> pydicom.Dataset | None:
        """The only item of a group; None when the file has none."""
        for holder in (self._per_frame[frame] if self._per_frame else None, self._shared):
            items = None if holder is None else holder.get(group)
            if items:
                item: pydicom.Dataset = items[0]
                return item
        return None

    @cached_property
    def _per_frame(self) -> Sequence[pydicom.Dataset]:
        return self.header.get("PerFrameFunctionalGroupsSequence") or ()

    @cached_property
    def _shared(self) -> pydicom.Dataset | None:
        shared = self.header.get("SharedFunctionalGroupsSequence")
        return shared[0] if shared else None


def read_dicom_segmentation(path: Path, image: Volume | None, reading: Reading) -> DicomLayers:
    """The segments of a DICOM segmentation as layers, on the grid of its frames.

    Slices without a frame are background. Where the frames say which images they were drawn on, and the image is that
    series, places by UIDs and by positions must be the same.

    Args:
        image: the image that the mask belongs to; its slice distance holds for the frames too.
        reading: `segment_from` is the smallest fraction that belongs to a segment of fractional frames.

    Raises:
        DataError: naming the file; when it cannot be decoded, its frames share no grid, or it has other coordinates.
    """
    with naming(path), guarded(path):
        header = read_complete(path)
        groups = _Groups(header)
        frames = list(_frames(path, header, groups))
        of_image = slices_of_image(image)
        refuse_other_frame_of_reference(text(header, "FrameOfReferenceUID"), of_image)
        rows_columns = required_whole(path, header, "Rows"), required_whole(path, header, "Columns")
        geometry, at = _on_uneven_slices(groups, frames, rows_columns, of_image) or _grid(
            groups, frames, rows_columns, image
        )
        other = _check_uids(frames, geometry, of_image)
        pixels, notes = _pixels(header, reading)
        layers = tuple(_layers(header, frames, at, pixels, geometry.shape_zyx))
        return DicomLayers(layers, geometry, (*notes, *other))


def _frames(path: Path, header: pydicom.Dataset, groups: _Groups) -> Iterator[_Frame]:
    count = required_whole(path, header, "NumberOfFrames")
    if text(header, "DimensionOrganizationType").startswith("TILED"):
        raise DataError(
            "its frames are tiles of one large picture (DimensionOrganizationType TILED), as in microscopy; allowed: a "
            "frame per slice; export it again"
        )
    if len(header.get("PerFrameFunctionalGroupsSequence") or ()) != count:
        raise DataError(f"declares {count} frames, but describes another number of them; export it again")
    label_map = _is_label_map(header)
    for index in range(count):
        place = groups.of(index, "PlanePositionSequence")
        found = None if place is None else numbers(place, "ImagePositionPatient", 3)
        if found is None:
            raise DataError(f"frame {index + 1} of {count} has no ImagePositionPatient: its place is unknown")
        segment = 0
        if not label_map:
            of_segment = groups.of(index, "SegmentIdentificationSequence")
            number = None if of_segment is None else numbers(of_segment, "ReferencedSegmentNumber")
            if number is None:
                raise DataError(f"frame {index + 1} of {count} does not say which segment it is; export it again")
            segment = int(number[0])
        yield _Frame(index, segment, np.array(found), _source(groups, index))


def _is_label_map(header: pydicom.Dataset) -> bool:
    return text(header, "SegmentationType") == "LABELMAP"


def _source(groups: _Groups, frame: int) -> str:
    """SOPInstanceUID of the only image that a frame was drawn on; empty where there is none, or several."""
    derived = groups.of(frame, "DerivationImageSequence")
    sources = None if derived is None else derived.get("SourceImageSequence")
    found = {text(one, "ReferencedSOPInstanceUID") for one in sources or ()}
    return found.pop() if len(found) == 1 else ""


def _on_uneven_slices(
    groups: _Groups, frames: Sequence[_Frame], rows_columns: tuple[int, int], of_image: Sequence[DicomImage]
) -> tuple[Geometry, npt.NDArray[np.int64]] | None:
    """The even grid of a series whose slices lie unevenly, and the slice of each frame; None: another case.

    The series is read as even slices from its first to its last, so that the number of a slice counts and not its
    place. Every frame must lie on a slice of the series.
    """
    if len(of_image) < 3 or of_image[0].size != rows_columns:
        return None
    places = np.stack([image.position_mm for image in of_image])
    even = np.linspace(places[0], places[-1], len(places))
    step = (places[-1] - places[0]) / (len(places) - 1)
    if np.abs(places - even).max() <= _EVEN * np.linalg.norm(step):
        return None
    cosines, spacing = _plane(groups, frames)
    if np.abs(cosines.ravel() - of_image[0].cosines).max() > ORIENTATION_TOLERANCE or not np.allclose(
        spacing, of_image[0].spacing, rtol=ORIENTATION_TOLERANCE
    ):
        return None
    apart = np.linalg.norm(np.stack([frame.position for frame in frames])[:, None] - places, axis=2)
    if apart.min(axis=1).max() > PLACED_TOLERANCE_VOXELS * min(spacing):
        return None
    affine = affine_of_slices(cosines, spacing, step, places[0])
    return Geometry.from_affine((len(places), *rows_columns), affine), apart.argmin(axis=1)


def _grid(
    groups: _Groups, frames: Sequence[_Frame], rows_columns: tuple[int, int], image: Volume | None
) -> tuple[Geometry, npt.NDArray[np.int64]]:
    """(the grid of all frames, the slice of each frame)."""
    cosines, spacing = _plane(groups, frames)
    normal = np.cross(cosines[0], cosines[1])
    positions = np.stack([frame.position for frame in frames])
    along = (positions - positions[0]) @ normal
    aside = (positions - positions[0]) - along[:, None] * normal
    if np.abs(aside).max() > PLACED_TOLERANCE_VOXELS * min(spacing):
        raise DataError(
            f"its frames do not lie above each other (up to {np.abs(aside).max():.4g} mm aside); allowed: one "
            "stack of slices; export it again on the grid of its image"
        )
    step = _step(groups, along, normal, image)
    places = (along - along.min()) / step
    slices = np.rint(places).astype(int)
    if (worst := float(np.abs(places - slices).max()) * step) > PLACED_TOLERANCE_VOXELS * step:
        raise DataError(
            f"its frames lie up to {worst:.4g} mm beside slices {step:.6g} mm apart; allowed: even distances; "
            "export it as NIfTI on the grid of its image"
        )
    affine = affine_of_slices(cosines, spacing, normal * step, positions[int(along.argmin())])
    return Geometry.from_affine((int(slices.max()) + 1, *rows_columns), affine), slices


def _plane(groups: _Groups, frames: Sequence[_Frame]) -> tuple[npt.NDArray[np.float64], tuple[float, float]]:
    """(directions of columns and rows, (row distance, column distance) in mm), the same for all frames."""
    found = set()
    for frame in frames:
        direction, measures = (groups.of(frame.index, name) for name in ("PlaneOrientationSequence", _MEASURES))
        cosines = None if direction is None else numbers(direction, "ImageOrientationPatient", 6)
        spacing = None if measures is None else numbers(measures, "PixelSpacing", 2)
        if cosines is None or spacing is None or min(spacing) <= 0:
            raise DataError("a frame has no ImageOrientationPatient or PixelSpacing; without them its place is unknown")
        found.add((tuple(np.round(cosines, 6)), tuple(spacing)))
    if len(found) > 1:
        raise DataError(f"its frames lie in {len(found)} planes; allowed: one stack of parallel slices")
    ((cosines, spacing),) = found
    both = np.array(cosines).reshape(2, 3)
    lengths = np.linalg.norm(both, axis=1)
    if np.abs(lengths - 1).max() > ORIENTATION_TOLERANCE or abs(both[0] @ both[1]) > ORIENTATION_TOLERANCE:
        raise DataError("its ImageOrientationPatient is not two orthogonal unit vectors; export it again")
    return both, (float(spacing[0]), float(spacing[1]))


_MEASURES = "PixelMeasuresSequence"


def _step(
    groups: _Groups, along_mm: npt.NDArray[np.float64], normal: npt.NDArray[np.float64], image: Volume | None
) -> float:
    """Distance between slices in mm.

    That of the image along the normal, else SpacingBetweenSlices, if all frames lie at multiples of it: frames are left
    out where nothing is drawn. Else that of the nearest frames, and of a single frame what the header says.

    Raises:
        DataError: it is not known.
    """
    places = np.unique(np.round(along_mm - along_mm.min(), 3))
    of_image = None if image is None else _distance_along(image.geometry, normal)
    between, thickness = (_measure(groups, name) for name in ("SpacingBetweenSlices", "SliceThickness"))
    for known in (of_image, between):
        if known is not None and _multiples(places, known):
            return known
    if len(places) == 1 and thickness is not None:
        return thickness
    if len(places) == 1:
        raise DataError("has one slice, and neither SpacingBetweenSlices nor SliceThickness: its depth is unknown")
    nearest = float(np.diff(places).min())
    if between is None and thickness is not None and nearest > thickness * _LEFT_OUT:
        raise DataError(
            f"its frames are {nearest:.4g} mm apart and slices of {thickness:.4g} mm, without SpacingBetweenSlices: "
            "whether slices without a frame lie between them is not known; export it as NIfTI on the grid of its image"
        )
    return float(places.max() / np.rint(places.max() / nearest))


def _multiples(places_mm: npt.NDArray[np.float64], step_mm: float) -> bool:
    """Whether the last place is a whole number of steps, and all others are near one."""
    steps = places_mm / step_mm
    return bool(np.abs(steps - np.rint(steps)).max() <= PLACED_TOLERANCE_VOXELS)


def _measure(groups: _Groups, attribute: str) -> float | None:
    """A length above 0 of the first frame; None where the file does not give it."""
    measures = groups.of(0, _MEASURES)
    found = None if measures is None else numbers(measures, attribute)
    return float(found[0]) if found is not None and found[0] > 0 else None


def _distance_along(geometry: Geometry, normal: npt.NDArray[np.float64]) -> float | None:
    """Edge of the voxels of a grid along a direction (LPS); None when none of its axes is parallel to it."""
    columns = (LPS_TO_RAS @ geometry.affine)[:3, :3]
    lengths = np.linalg.norm(columns, axis=0)
    along = np.abs(normal @ (columns / lengths))
    return float(lengths[int(along.argmax())]) if along.max() > 1 - ORIENTATION_TOLERANCE else None


def slices_of_image(image: Volume | None) -> tuple[DicomImage, ...]:
    """The images of a DICOM series in the order of its slices as they were acquired; none for another image."""
    if image is None or not image.name:
        return ()
    path = Path(image.name)
    with suppress(DataError):
        return read_slices(path, image.reading) if path.is_dir() or is_dicom(path) else ()
    return ()


def refuse_other_frame_of_reference(uid: str, of_image: Sequence[DicomImage]) -> None:
    """Refuse a mask whose positions are in other coordinates than those of its image (FrameOfReferenceUID)."""
    its = text(of_image[0].header, "FrameOfReferenceUID") if of_image else ""
    if uid and its and uid != its:
        raise DataError(
            "its FrameOfReferenceUID is another one than that of the image: it was drawn on another examination, or in "
            "other coordinates; give the one that was drawn on this series"
        )


def _check_uids(frames: Sequence[_Frame], geometry: Geometry, of_image: Sequence[DicomImage]) -> tuple[str, ...]:
    """A note when no frame was drawn on the image; DataError when one was, and lies elsewhere."""
    # The images of one file have one UID, which says nothing about their places.
    single = [one for one in of_image if one.part is None]
    place_of = {text(one.header, "SOPInstanceUID"): one.position_mm for one in single}
    known = place_of.keys() | {text(one.header, "SOPInstanceUID") for one in of_image}
    step = geometry.spacing_zyx_mm[0]
    normal = (LPS_TO_RAS @ geometry.affine)[:3, 2] / step
    for frame in frames:
        place = place_of.get(frame.source)
        if place is None:
            continue
        apart = float(abs((frame.position - place) @ normal))
        if apart > PLACED_TOLERANCE_VOXELS * step:
            raise DataError(
                f"frame {frame.index + 1} says that it was drawn on an image that lies {apart:.4g} mm away from it; "
                "UIDs and positions contradict each other: export it again"
            )
    named = [frame.source for frame in frames if frame.source]
    if of_image and named and not set(named) & known:
        return ("drawn on another series of the same coordinates; it is placed by its positions",)
    return ()


def _pixels(header: pydicom.Dataset, reading: Reading) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """(the frames: booleans of segments, or numbers of segments in a label map; notes)."""
    try:
        pixels = header.pixel_array
    except DAMAGE as error:
        raise DataError(f"its pixels cannot be decoded ({reason_of(error)}); export it uncompressed") from None
    pixels = pixels.reshape(-1, *pixels.shape[-2:])
    kind = text(header, "SegmentationType")
    if kind == "LABELMAP":
        return pixels, ()
    if kind == "BINARY":
        return pixels != 0, ()
    if kind != "FRACTIONAL":
        raise DataError("its SegmentationType is unknown; allowed: BINARY, FRACTIONAL, LABELMAP")
    most = raw_value(header, "MaximumFractionalValue")
    if not isinstance(most, int) or most < 1 or int(pixels.max(initial=0)) > most:
        raise DataError("its fractions exceed MaximumFractionalValue, or there is none; export it again")
    least = reading.segment_from
    note = f"a fractional segmentation: voxels of {least:g} and more belong to a segment (segment_from)"
    return pixels >= least * most, (note,)


def _layers(
    header: pydicom.Dataset,
    frames: Sequence[_Frame],
    at: npt.NDArray[np.int64],
    pixels: npt.NDArray[Any],
    shape: tuple[int, int, int],
) -> Iterator[Layer]:
    """One layer per segment that has voxels, in the order of their numbers."""
    if len(pixels) != len(frames):
        raise DataError(f"declares {len(frames)} frames, but holds {len(pixels)}; export it again")
    segments = _segments(header)
    if _is_label_map(header):
        whole = np.zeros(shape, dtype=np.uint16)
        _refuse_twice([(0, int(place)) for place in at])
        whole[at] = pixels
        found = [int(value) for value in np.unique(whole) if value]
        masks = {number: whole == number for number in found}
    else:
        _refuse_twice([(frame.segment, int(place)) for frame, place in zip(frames, at, strict=True)])
        masks = {}
        for frame, place in zip(frames, at, strict=True):
            mask = masks.setdefault(frame.segment, np.zeros(shape, dtype=bool))
            mask[place] = pixels[frame.index]
    if unknown := [str(number) for number in sorted(masks) if number not in segments]:
        raise DataError(f"frames of segment {listed(unknown, 5)}, which the file does not describe; export it again")
    yield from (Layer(segments[number], masks[number]) for number in sorted(masks))


def _refuse_twice(places: Sequence[tuple[int, int]]) -> None:
    if len(set(places)) < len(places):
        raise DataError("two frames of one segment lie in one slice; export it again")


def _segments(header: pydicom.Dataset) -> dict[int, Segment]:
    """Number -> segment, with its label as name."""
    found: dict[int, Segment] = {}
    for item in header.get("SegmentSequence") or ():
        number = numbers(item, "SegmentNumber")
        if number is None or not 0 <= number[0] <= _MOST_SEGMENTS:
            raise DataError("a segment has no SegmentNumber; export it again")
        found[int(number[0])] = Segment(int(number[0]), text(item, "SegmentLabel"))
    return found
