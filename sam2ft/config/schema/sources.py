"""Schema of the sources of a dataset (patterns of paths, a table, or the layout of another program) and its split."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from sam2ft.config.schema.arguments import shown_value
from sam2ft.config.schema.base import ReadOnlyDict, Section, plain, problem, problems
from sam2ft.config.schema.maps import MapName, MapSource, map_problems
from sam2ft.config.schema.masks import MasksOfLabels
from sam2ft.config.schema.patterns import Pattern, Template, filled, in_braces, path_pattern, placeholders

TABLES = (".csv", ".tsv", ".xlsx")
"""Endings of tables of sources, in small letters."""
_OTHER_SHEETS = (".xls", ".xlsb", ".ods", ".numbers")
_NAMING = ("subject", "volume", "site")
_USED_BY = {
    "fold": ("nnunet", "datalist"),
    "splits": ("nnunet",),
    "channel": ("nnunet", "datalist"),
    "suffix": ("bids",),
    "entities": ("bids",),
}


FoldChoice = Annotated[int, Field(ge=0)] | Literal["all"] | None
"""Number of a fold, or all of them."""
ALL_FOLDS: Final = "all"
Share = Annotated[float, Field(ge=0, le=1)]
MOST_FOLDS = 50
DRAWN = ("folds", "stratify", "group")
"""Keys of `split` that say how subjects are drawn, beside the shares."""


def is_table(text: str) -> bool:
    """Whether `sources.images` names a table."""
    return text.lower().endswith(TABLES)


def _images(text: str) -> str:
    if text.lower().endswith(_OTHER_SHEETS):
        raise problem(f"found {shown_value(text)}; allowed: a table as {', '.join(TABLES)}: save it as one of these")
    return text if is_table(text) else path_pattern(text)


class SourceLayout(Section):
    """Files in the layout of another program: one of nnunet, datalist and bids."""

    nnunet: Path | None = plain(None, "folder of an nnU-Net v2 raw dataset (dataset.json, imagesTr, labelsTr)")
    datalist: Path | None = plain(
        None, "JSON file with the lists training, validation and test of MONAI and the Medical Segmentation Decathlon"
    )
    bids: Path | None = plain(None, "folder of a BIDS dataset whose masks are below its derivatives/")
    fold: FoldChoice = plain(
        None,
        "fold that is the validation set: of splits_final.json (nnunet), or of the items with this fold (datalist); "
        "all: the store holds every one, and an experiment chooses",
    )
    splits: Path | None = plain(
        None, "splits_final.json of nnunet; null: the one in its folder, or in nnUNet_preprocessed beside nnUNet_raw"
    )
    channel: int | str | None = plain(
        None, "which image of a case that has several: its number, or its name in channel_names"
    )
    suffix: str | None = plain(None, "suffix of the images of bids, such as T2w", min_length=1)
    entities: Annotated[Mapping[str, str], AfterValidator(ReadOnlyDict)] = plain(
        ReadOnlyDict(), "entities that choose among the images and masks of bids, such as {acq: sag, desc: manual}"
    )

    @property
    def kind(self) -> str:
        """nnunet, datalist or bids."""
        return next(name for name in ("nnunet", "datalist", "bids") if getattr(self, name) is not None)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [name for name in ("nnunet", "datalist", "bids") if getattr(self, name) is not None]
        if len(kinds) != 1:
            raise problem(f"has {' and '.join(kinds) or 'none'}; allowed: one of nnunet, datalist, bids")
        useless = [
            name for name in _USED_BY if name in self.model_fields_set and not {*kinds} & {*_USED_BY[name]}
        ]  # fmt: skip
        if useless:
            raise problems({name: f"is used by {' and '.join(_USED_BY[name])} only; leave it out" for name in useless})
        if self.splits is not None and self.fold is None:
            raise problems({"splits": "needs fold: the number of one of its folds"})
        if self.bids is not None and self.suffix is None:
            raise problems({"suffix": "missing; suffix of the images, such as T2w"})
        return self


class Sources(Section):
    """Where images, masks and maps are: patterns relative to the working directory, a table, or a layout."""

    images: Annotated[str, AfterValidator(_images)] | None = plain(
        None,
        "pattern of the images (a folder is a DICOM series), or a table (.csv, .tsv, .xlsx) with the columns subject, "
        "image, mask and, if needed, volume, map_<name>, split, site, labelled and covariates",
    )
    layout: SourceLayout | None = plain(None, "layout of another program, in place of images and masks")
    masks: Pattern | MasksOfLabels | None = plain(
        None,
        "pattern of the masks, or a mapping {label: pattern} of one file per label by name or id; not with a table or "
        "a layout",
        validate_default=True,
    )
    maps: Annotated[Mapping[MapName, Pattern | MapSource], AfterValidator(ReadOnlyDict)] = plain(
        ReadOnlyDict(),
        "pattern of the relaxation maps (a file is a map, a folder a multi-echo DICOM series to fit the map to), or a "
        "mapping of file or series and settings; with a table only the settings",
    )
    subject: Template | None = plain(
        None, "what names a subject, from placeholders of images, such as {site}-{id}; null: {subject}"
    )
    volume: Template | None = plain(
        None, "what names a volume of a subject, from placeholders of images; null: {volume}, if there is one"
    )
    keep_covariates: tuple[str, ...] = plain(
        (), "columns of the table, or placeholders, whose values are kept in the store, such as site, age or sex"
    )

    @property
    def is_table(self) -> bool:
        return self.images is not None and is_table(self.images)

    @property
    def has_label_table(self) -> bool:
        """Whether the layout can say what the integers of masks mean."""
        return self.layout is not None and self.layout.kind in ("nnunet", "datalist")

    @property
    def templates(self) -> Mapping[str, str]:
        """subject, volume -> its template, where one is given."""
        given = {"subject": self.subject, "volume": self.volume}
        return {name: text for name, text in given.items() if text is not None}

    @property
    def mask_pattern(self) -> str:
        """Pattern of the masks, of the first label where each has one; empty with a table."""
        return self.masks if isinstance(self.masks, str) else next(iter(self.masks_of_labels.values()), "")

    @property
    def masks_of_labels(self) -> Mapping[str, str]:
        """Name or id of each label -> pattern of its mask, in their order; empty where a mask holds all labels."""
        return self.masks if isinstance(self.masks, Mapping) else {}

    @property
    def map_patterns(self) -> Mapping[str, str]:
        """Name of each map -> pattern of its file, or of the series that it is fitted to; empty with a table."""
        patterns = {
            name: entry if isinstance(entry, str) else entry.file or entry.series for name, entry in self.maps.items()
        }
        return {name: pattern for name, pattern in patterns.items() if pattern is not None}

    @property
    def optional_maps(self) -> tuple[str, ...]:
        """Maps without which a subject is prepared too."""
        return tuple(name for name in self.maps if self.map_source(name).optional)

    def map_source(self, name: str) -> MapSource:
        """The settings of a map; the defaults if the file gives only a pattern."""
        entry = next((given for known, given in self.maps.items() if known == name), None)
        return entry if isinstance(entry, MapSource) else MapSource()

    @field_validator("masks", "maps")
    @classmethod
    def _fits_the_images(cls, value: Any, info: ValidationInfo) -> Any:
        images, layout = info.data.get("images"), info.data.get("layout")
        by_table = images is not None and is_table(images)
        if info.field_name == "maps" and (found := map_problems(value, is_table=by_table)):
            raise problems(found)
        if info.field_name != "masks":
            return value
        if value is not None and (by_table or layout is not None):
            where = "in the table that images: names" if by_table else "in the layout"
            raise problem(f"masks are listed {where}; leave the key out")
        if value is None and images is not None and not by_table and layout is None:
            raise problem("missing; pattern of the masks")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.images is None and self.layout is None:
            raise problems({"images": f"missing; {type(self).model_fields['images'].description}"})
        if self.images is not None and self.layout is not None:
            raise problems({"layout": "found beside images; allowed: one of images and layout"})
        if self.images is None or self.is_table:
            found = dict.fromkeys(self.templates, "is made from placeholders, which only a pattern of images has")
            known = ["subject", "volume"]
        else:
            found = pattern_problems(self.images, self.templates, self.keep_covariates, self._followers)
            known = ["subject", *placeholders(self.images), *self.templates]
        for key, text in {} if self.is_table else self._followers.items():
            found |= follower_problem(key, text, known, self.subject)
        if found:
            raise problems(found)
        return self

    @property
    def _followers(self) -> dict[str, str]:
        """Key -> pattern, of the paths that follow from the names of an image."""
        masks = {"masks": self.masks} if isinstance(self.masks, str) else {}
        masks |= {f"masks.{label}": text for label, text in self.masks_of_labels.items()}
        return masks | {f"maps.{name}": text for name, text in self.map_patterns.items()}


def pattern_problems(
    images: str, templates: Mapping[str, str], kept: tuple[str, ...], followers: Mapping[str, str]
) -> dict[str, str]:
    """Key -> message, for placeholders that are missing, or that name nothing: a typing error would merge volumes."""
    given = placeholders(images)
    used = {*_NAMING, *kept}
    for text in (*templates.values(), *followers.values()):
        used |= {*placeholders(text)}
    unused = [name for name in given if name not in used]
    found = {}
    for name, text in templates.items():
        if unknown := [one for one in placeholders(text) if one not in given]:
            found[name] = f"found {in_braces(unknown)}; allowed: placeholders of images ({in_braces(given) or 'none'})"
    if unused or ("subject" not in given and "subject" not in templates):
        found["images"] = (
            f"found {shown_value(images)}; allowed: a path with {{subject}}, and {{volume}} if there are several; "
            "other placeholders only where sources.subject, volume or keep_covariates use them; * for what names "
            "nothing"
        )
    return found


def follower_problem(key: str, text: str, known: list[str], subject: str | None) -> dict[str, str]:
    """key -> message, where a path of masks or maps names what the image does not, or not the subject."""
    names = placeholders(text)
    if "volume" in names and "volume" not in known:
        return {key: "has {volume}, but the pattern of the images does not"}
    if unknown := [name for name in names if name not in known]:
        return {key: f"found {in_braces(unknown)}; allowed: {in_braces(dict.fromkeys(known))}"}
    of_subject = {"subject"} if subject is None else set(placeholders(subject))
    if "subject" not in names and not of_subject <= {*names}:
        return {key: f"found {shown_value(text)}; allowed: a path with {{subject}}, so that each subject has its own"}
    return {}


def named(sources: Sources, values: Mapping[str, str]) -> dict[str, str]:
    """subject and volume (if there is one), from the placeholders of an image."""
    found = {name: values[name] for name in ("subject", "volume") if name in values}
    return found | {name: filled(text, values) for name, text in sources.templates.items()}


class Split(Section):
    """Split of the subjects into train, val and test: by shares, in folds, or from a file."""

    train: Share = plain(0.7, "share of the subjects", unit="1")
    val: Share = plain(0.15, "share of the subjects", unit="1")
    test: Share = plain(0.15, "share of the subjects", unit="1")
    folds: int | None = plain(
        None,
        "number of equal folds that the subjects outside test are divided into, for cross-validation; an experiment "
        "chooses the one that is val (dataset.<name>.fold), the others are train",
        ge=2,
        le=MOST_FOLDS,
    )
    stratify: tuple[str, ...] = plain(
        (),
        "columns of the sources whose values are balanced over the splits and folds, such as site, sex or age; of "
        "numbers with many values the quarters",
    )
    group: str | None = plain(
        None,
        "column of the sources whose subjects with the same value stay together, such as family; with site no site is "
        "in two splits",
        min_length=1,
    )
    seed: int = plain(42, "seed of the draw, and of the order in which max_subject_set takes subjects", ge=0)
    file: Path | None = plain(
        None,
        "JSON file {train: [subject, ...], val: [...], test: [...]}, or a list of folds as nnU-Net writes it, instead "
        "of shares",
    )
    fold: FoldChoice = plain(
        None, "which fold of file, from 0; all: the store holds every one, as folds; only where it is a list of folds"
    )

    @field_validator("stratify")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if twice := [name for name in value if value.count(name) > 1]:
            raise problem(f"has {shown_value(twice[0])} twice; allowed: each column once")
        return value

    @model_validator(mode="after")
    def _shares_or_file(self) -> Self:
        given = [name for name in ("train", "val", "test", *DRAWN) if name in self.model_fields_set]
        if self.file is not None and given:
            raise problems(dict.fromkeys(given, "the file defines the splits; leave the key out"))
        if self.fold is not None and self.file is None:
            raise problems({"fold": "is the number of a fold of file; give file, or leave the key out"})
        if self.folds is not None:
            return self._shares_of_folds()
        total = self.train + self.val + self.test
        if self.file is None and abs(total - 1) > 1e-3:
            raise problem(f"train {self.train:g} + val {self.val:g} + test {self.test:g} is {total:g}; allowed: 1")
        return self

    def _shares_of_folds(self) -> Self:
        useless = [name for name in ("train", "val") if name in self.model_fields_set]
        if useless:
            raise problems(dict.fromkeys(useless, "folds divides all subjects outside test; leave the key out"))
        if self.test == 1:
            raise problems({"test": "found 1, which leaves no subject for folds; allowed: less than 1"})
        return self

    @property
    def is_balanced(self) -> bool:
        """Whether the draw takes notice of folds or of covariates."""
        return self.folds is not None or bool(self.stratify) or self.group is not None
