"""Schema of dataset files (sources, labels, intensity, split), as launch/prepare.py reads them, and of label tables."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from sam2ft.config.schema.arguments import did_you_mean, shown_value
from sam2ft.config.schema.base import REQUIRED, Name, ReadOnlyDict, Section, plain, problem, problems, section
from sam2ft.config.schema.masks import DrawnLabels, MaskReading, masks_of_labels_problems
from sam2ft.config.schema.series import SeriesChoice
from sam2ft.config.schema.sources import Sources, Split

MOST_LABEL = 65535
SubjectId = Literal["folder", "hash", "table"]
Keepable = Literal["SeriesDescription", "PatientAge", "PatientSex", "PatientWeight", "PatientSize"]
LabelNumber = Annotated[int, Field(ge=1, le=MOST_LABEL)]
Percent = Annotated[float, Field(ge=0, le=100)]
EdgeMm = Annotated[float, Field(gt=0)]

_LABEL_ID = re.compile(r"[1-9][0-9]{0,4}")


def _label_id(text: str) -> str:
    if not _LABEL_ID.fullmatch(text) or int(text) > MOST_LABEL:
        raise problem(f"found {text}; allowed: a label id, 1 to {MOST_LABEL} (0 is background)")
    return text


LabelId = Annotated[str, AfterValidator(_label_id)]


class DatasetInfo(Section):
    """Name, anatomy and modality of a dataset."""

    name: Name = plain(REQUIRED, "name of the store; part of every key")
    anatomy: str = plain("", "imaged anatomy, as free text")
    modality: str = plain(
        "",
        "imaging modality, as free text such as MRI; empty: that of the DICOM series where all agree, and none for "
        "other files",
    )


class LabelName(Section):
    """One label of a table."""

    name: str = plain(REQUIRED, "name of the label", min_length=1)
    interface: str | None = plain(None, "name of the bone label from which this cartilage's thickness is measured")
    vertebra: str | None = plain(
        None, "name of the label of the vertebrae above and below this disc; needed for the height index"
    )


class LabelEntry(LabelName):
    """One label of a dataset."""

    merge: Literal["others"] | tuple[LabelNumber, ...] | None = plain(
        None,
        "integers of the mask files that become this label; others: all that neither another label nor labels_dropped "
        "lists; null: its own id",
        min_length=1,
    )


class Intensity(Section):
    """How intensities are scaled to [0, 1]: by one of clip_percentiles, window and zscore."""

    clip_percentiles: tuple[Percent, Percent] = plain(
        (0.5, 99.5),
        "lower and upper percentile of the intensity window, over the whole volume without padding",
        unit="percent",
    )
    window: tuple[float, float] | None = plain(
        None, "intensities that become 0 and 1, in the unit of the images (HU of a CT); the same for all volumes"
    )
    zscore: tuple[float, float] | None = plain(
        None,
        "intensities that become 0 and 1, as distances from the mean of a volume without padding",
        unit="standard deviations",
    )

    @field_validator("clip_percentiles", "window", "zscore")
    @classmethod
    def _increasing(cls, value: tuple[float, float] | None, info: ValidationInfo) -> tuple[float, float] | None:
        if value is not None and value[0] >= value[1]:
            what = "percentages" if info.field_name == "clip_percentiles" else "numbers"
            raise problem(f"found [{value[0]:g}, {value[1]:g}]; allowed: two increasing {what}")
        return value

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [name for name in type(self).model_fields if name in self.model_fields_set and getattr(self, name)]
        if len(given) > 1:
            raise problem(f"has {' and '.join(given)}; allowed: one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def chosen(self) -> Mapping[str, Any]:
        """The key that applies, with its value."""
        for name in ("window", "zscore"):
            if (value := getattr(self, name)) is not None:
                return {name: value}
        return {"clip_percentiles": self.clip_percentiles}


class GivenInstances(Section):
    """What an instance of a label is in three dimensions."""

    source: Literal["components", "as_given"] = plain(
        "components",
        "instances of a label: its connected components, or the integers of the mask files (as_given), which then "
        "survive merge: touching instances stay apart, and one in several pieces stays one",
    )
    min_mm3: float | None = plain(
        None,
        "size below which an instance is a speck, left out of measures of instances; null: the definition in "
        "docs/biomarkers.md",
        unit="mm3",
        ge=0,
    )

    @property
    def chosen(self) -> Mapping[str, Any]:
        """The keys that differ from their defaults."""
        fields = GivenInstances.model_fields
        return {name: value for name in fields if (value := getattr(self, name)) != fields[name].default}


def interface_problems(labels: Mapping[str, LabelName]) -> dict[str, str]:
    """Key -> message, for names and references of the labels of a table that are wrong."""
    names = [label.name for label in labels.values()]
    found = {}
    for number, label in labels.items():
        if names.count(label.name) > 1:
            found[f"{number}.name"] = f"found {shown_value(label.name)} twice; allowed: one label of each name"
        for key, other in (("interface", label.interface), ("vertebra", label.vertebra)):
            if other is not None and other not in names:
                others = [name for name in dict.fromkeys(names) if name != label.name]
                hint = did_you_mean(other, others)
                allowed = ", ".join(others) or "no name, because there is no other label"
                found[f"{number}.{key}"] = f"found {shown_value(other)}{hint}; allowed: {allowed}"
    return found


def _checked_labels(labels: Mapping[str, Any]) -> Mapping[str, Any]:
    if found := interface_problems(labels):
        raise problems(found)
    return ReadOnlyDict(labels)


class LabelFile(Section):
    """A file with only a label table."""

    labels: Annotated[Mapping[LabelId, LabelName], AfterValidator(_checked_labels)] = Field(
        description="label table: meaning of the integers of a mask", min_length=1
    )


class Reading(MaskReading):
    """How image files are read where their headers leave a choice."""

    slice_axis: Literal["auto", "sagittal", "coronal", "axial", "0", "1", "2"] = plain(
        "auto",
        "axis along which a volume is cut into slices: auto (the plane of acquisition), an anatomical plane, or the "
        "index of an axis of the file",
    )
    believe: Literal["sform", "qform", "pixdim", "positions", "spacing", "orientation"] | None = plain(
        None, "field of a header that is right where two fields contradict each other; null: such a file is refused"
    )
    irregular: Literal["refuse", "resample"] = plain(
        "refuse", "what happens to a series whose slice distances vary by over 10 %"
    )
    channel: int | None = plain(
        None,
        "index, from 0, of the volume to read from an image file that holds several (times or channels); null: such a "
        "file is refused",
        ge=0,
    )
    mask_channel: int | None = plain(None, "as channel, of the mask files", ge=0)
    spacing_mm: tuple[EdgeMm, EdgeMm, EdgeMm] | None = plain(
        None,
        "distances between slices, between rows and between columns, for files that do not carry them (npy, npz, PNG, "
        "TIFF), in this order",
        unit="mm",
    )
    axes: Literal["zyx", "zxy", "yzx", "yxz", "xzy", "xyz"] | None = plain(
        None, "order of the axes of the array in an npy or npz file: z slices, y rows, x columns"
    )
    array: str | None = plain(None, "name of the image in an npz file that holds several arrays", min_length=1)
    mask_array: str | None = plain(None, "name of the mask in an npz file that holds several arrays", min_length=1)
    folders: Literal["tolerant", "strict"] = plain(
        "tolerant",
        "DICOM folders: tolerant leaves out files that are no images, copies and localizers, looks into subfolders and "
        "takes the stack that series chooses; strict refuses whatever is not one series",
    )
    series: SeriesChoice = section(SeriesChoice, "which images of a DICOM folder with several stacks are meant")

    max_volume_gb: float = plain(
        4.0,
        "memory that the voxels of one volume may need, judged by the headers of its files before they are read",
        unit="GiB",
        gt=0,
    )

    @field_validator("slice_axis", mode="before")
    @classmethod
    def _number_as_text(cls, value: Any) -> Any:
        return str(value) if type(value) is int else value

    @property
    def chosen(self) -> Mapping[str, Any]:
        """The keys that change what is read and differ from their defaults."""
        fields = Reading.model_fields.items()
        chosen = {name: getattr(self, name) for name, field in fields if getattr(self, name) != field.default}
        whole = {name: dict(value) if isinstance(value, Section) else value for name, value in chosen.items()}
        ways = {name: value for name, value in whole.items() if name not in ("max_volume_gb", "series")}
        return ways | {f"series.{name}": value for name, value in self.series.chosen.items()}

    @field_validator("series")
    @classmethod
    def _series_of_tolerant_folders(cls, value: SeriesChoice, info: ValidationInfo) -> SeriesChoice:
        if value.chosen and info.data.get("folders") == "strict":
            raise problem("chooses among several stacks, which folders: strict refuses; leave one of both out")
        return value

    @property
    def of_masks(self) -> "Reading":
        """The choices for a mask beside an image: it follows its slices, and a folder of it holds one series."""
        return Reading(
            **{name: getattr(self, name) for name in MaskReading.model_fields},
            believe=self.believe,
            irregular=self.irregular,
            folders=self.folders,
            channel=self.mask_channel,
            spacing_mm=self.spacing_mm,
            axes=self.axes,
            array=self.mask_array,
        )

    @property
    def of_maps(self) -> "Reading":
        """As `of_masks`, for maps: files of one volume each; which images of a folder a map takes is said by itself."""
        return self.of_masks.model_copy(update={"array": None, "channel": None})


AS_IS = Reading()
"""The defaults, for files that no dataset file describes."""


class DatasetFile(Reading):
    """A dataset: paths of its files, meaning of its labels, and its split."""

    dataset: DatasetInfo = Field(description="name of the dataset")
    sources: Sources = Field(description="paths of images, masks and maps")
    labels_dropped: Literal["others"] | tuple[LabelNumber, ...] = plain(
        (), "integers of the mask files that become background; others: all that labels does not list"
    )
    labels: Annotated[Mapping[LabelId, LabelEntry], AfterValidator(_checked_labels)] | None = plain(
        None,
        "label table: meaning of the integers of a mask; null: that of the layout of sources",
        min_length=1,
        validate_default=True,
    )
    labelled: DrawnLabels | Mapping[str, DrawnLabels] | None = plain(
        None,
        "labels that were drawn, by id or name: of all volumes, or {subject: [femur]} of some subjects, where others "
        "have all; labels that were not drawn count neither as absent nor as spurious; null: all",
    )
    instances: GivenInstances = section(GivenInstances, "what an instance of a label is")
    intensity: Intensity = section(Intensity, "how intensities are scaled to [0, 1]")
    split: Split = section(Split, "which subjects are in train, val and test")
    keep: tuple[Keepable, ...] = plain((), "DICOM fields to keep in the metadata that are left out by default")
    subject_id: SubjectId = plain(
        "folder",
        "name of a subject in the store: folder (as in the paths or the table of sources), hash (keyed hash of it; "
        "volumes too), or table (from subject_table; volumes hashed)",
    )
    subject_key: Path | None = plain(
        None,
        "key file with which names and UIDs are hashed, made on first use; keep it out of what you pass on; null: "
        "<dataset.name>.key beside the dataset file",
    )
    subject_table: Path | None = plain(
        None, "CSV with the columns given,subject, for subject_id: table", validate_default=True
    )

    @field_validator("subject_table")
    @classmethod
    def _table_where_it_is_used(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        chosen = info.data.get("subject_id")
        if chosen == "table" and value is None:
            raise problem("missing; subject_id: table needs it")
        if chosen in ("folder", "hash") and value is not None:
            raise problem(f"is used by subject_id: table only, found subject_id: {chosen}; leave the key out")
        return value

    @field_validator("labels")
    @classmethod
    def _each_integer_once(cls, value: Mapping[str, LabelEntry] | None, info: ValidationInfo) -> Any:
        dropped, sources = info.data.get("labels_dropped"), info.data.get("sources")
        if value is None:
            if sources is not None and not sources.has_label_table:
                raise problem("missing; label table: meaning of the integers of a mask")
            return value
        if dropped is not None and (found := merge_problems(value, dropped)):
            raise problems(found)
        return value

    @model_validator(mode="after")
    def _masks_are_of_labels(self) -> Self:
        names = {number: label.name for number, label in (self.labels or {}).items()}
        as_given = self.instances.source == "as_given"
        if found := masks_of_labels_problems(self.sources.masks_of_labels, names, as_given=as_given):
            raise problems(found)
        return self


def merge_problems(labels: Mapping[str, LabelEntry], dropped: Literal["others"] | tuple[int, ...]) -> dict[str, str]:
    """Key -> message, for integers of the mask files that are mapped twice or not at all."""
    home = {} if dropped == "others" else dict.fromkeys(dropped, "labels_dropped")
    found: dict[str, str] = {}
    rest = ["labels_dropped"] if dropped == "others" else []
    for number, label in labels.items():
        key = number if label.merge is None else f"{number}.merge"
        if label.merge == "others":
            if rest:
                found[key] = f"found others, as in {rest[0]}; allowed: one place for all other integers of the masks"
            rest.append(f"labels.{key}")
        for raw in _listed(number, label):
            if raw in home:
                found[key] = f"{raw} is also in {home[raw]}; allowed: one place for each integer of the masks"
            home[raw] = f"labels.{key}"
    for number, label in labels.items():
        if label.merge is not None and int(number) not in home and not rest:
            found[f"{number}.merge"] = (
                f"does not define what the integer {number} in a mask means; list it here, or in labels_dropped"
            )
    return found


def _listed(number: str, label: LabelEntry) -> tuple[int, ...]:
    """The integers of the mask files that are written beside a label."""
    if label.merge is None:
        return (int(number),)
    return () if label.merge == "others" else label.merge


def changes_of(file: DatasetFile) -> dict[int, int]:
    """Integer in a mask file -> label id, or 0 if dropped; integers that are not listed are not allowed in masks."""
    labels = file.labels or {}
    rest = next((int(number) for number, label in labels.items() if label.merge == "others"), None)
    if file.labels_dropped == "others":
        rest = 0
    changes = {} if rest is None else dict.fromkeys(range(1, MOST_LABEL + 1), rest)
    if file.labels_dropped != "others":
        changes |= dict.fromkeys(file.labels_dropped, 0)
    for number, label in labels.items():
        changes |= dict.fromkeys(_listed(number, label), int(number))
    return changes
