"""The page of the integrity report: its content for the template, and its rendering as one self-contained file."""

from collections import Counter
from dataclasses import dataclass
from importlib import metadata
from statistics import median

from sam2ft.core.errors import number_of
from sam2ft.core.labels import Label
from sam2ft.pictures.palette import colour_of
from sam2ft.report.comparison.number_text import number_text
from sam2ft.report.integrity import contact_sheet, measure
from sam2ft.report.integrity import label_findings as of_labels
from sam2ft.report.integrity import out_of_line as rule
from sam2ft.report.integrity.cohort import SITES, ReportedStore
from sam2ft.report.integrity.findings import BAD, CHECK, NOTE, StoreFinding, short_text
from sam2ft.report.page.rendering import content_security_policy, page_environment, page_script
from sam2ft.report.plots.files import TEMPLATES

MODULES_OF_PAGE = ("page", "tables", "filters", "jumps", "large", "print", "ready")
MOST_COLUMNS = 8
"""With more labels than this their volumes stand in one column."""
MOST_NAMED = 12
"""Volumes that a finding names before the others are folded away."""
MOST_FOLDED = 300
"""Volumes that it names at all; the lines of the table say it of all."""


@dataclass(frozen=True)
class LabelSummary:
    """One label over the volumes of the store."""

    label: Label
    colour: str
    num_with: int
    """Volumes that have it."""
    num_drawn: int
    """Readable volumes in which it was drawn."""
    volumes_ml: tuple[float, float, float] | None
    """(smallest, median, largest) over those that have it."""


@dataclass(frozen=True)
class IntegrityPage:
    """Everything on the page."""

    store: ReportedStore
    findings: tuple[StoreFinding, ...]
    digest: str
    """`records_digest` of the volumes that it shows."""
    generated: str

    def count(self, level: str) -> int:
        return sum(one.level == level for one in self.findings)

    @property
    def splits(self) -> list[tuple[str, int]]:
        """(split, its number of subjects)."""
        subjects = {(one.key.subject, one.record.split) for one in self.store.volumes}
        counts = Counter(split for _, split in subjects)
        return [(split, counts[split]) for split in ("train", "val", "test") if counts[split]]

    @property
    def burned_in(self) -> str:
        """What headers say about text in the pictures, as a sentence."""
        counts = Counter(str(one.stored.get("burned_in", "")) for one in self.store.volumes)
        return f"yes {counts['YES']}, no {counts['NO']}, unknown {counts['']} of {number_of(counts.total(), 'volume')}"

    @property
    def modalities(self) -> str:
        counts = Counter(str(one.stored.get("modality", "") or "unknown") for one in self.store.volumes)
        found = ", ".join(f"{name} {count}" for name, count in counts.most_common())
        return f"{self.store.given_modality} (as given)" if self.store.given_modality else found

    @property
    def some_not_drawn(self) -> bool:
        return any(not one.was_drawn(label.id) for one in self.store.volumes for label in self.store.labels)

    @property
    def labels(self) -> list[LabelSummary]:
        found = []
        readable = [one for one in self.store.volumes if one.measured is not None]
        for place, label in enumerate(self.store.labels):
            drawn = [one for one in readable if one.was_drawn(label.id)]
            volumes = [one.volume_ml(label.id) or 0.0 for one in drawn if label.id in one.labels]
            ends = (min(volumes), median(volumes), max(volumes)) if volumes else None
            found.append(LabelSummary(label, colour_of(place), len(volumes), len(drawn), ends))
        return found


def render_integrity(page: IntegrityPage) -> str:
    """The page as HTML text: every value is escaped, nothing is loaded from anywhere."""
    from markupsafe import Markup

    environment = page_environment({"number_of": number_of, "number": number_text, "short": short_text})
    style, script = (TEMPLATES / "report.css").read_text("utf-8"), page_script(MODULES_OF_PAGE)
    return environment.get_template("integrity.html.j2").render(
        page=page,
        store=page.store,
        labels=page.labels,
        kinds=of_labels.kinds_of_volumes(page.findings),
        levels=((BAD, "To mend"), (CHECK, "To look at"), (NOTE, "Good to know")),
        MOST_NAMED=MOST_NAMED,
        MOST_FOLDED=MOST_FOLDED,
        in_columns=len(page.store.labels) <= MOST_COLUMNS,
        rule=rule,
        sites=SITES,
        of_labels=of_labels,
        cut_share=measure.CUT_SHARE,
        tile=contact_sheet.TILE_PX,
        version=metadata.version("sam2ft"),
        policy=content_security_policy(style, (script,)),
        style=Markup(style),  # noqa: S704  # nosec B704 (part of sam2ft, without "</")
        script=Markup(script),  # noqa: S704  # nosec B704
    )
