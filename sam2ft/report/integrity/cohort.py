"""The volumes of a store as the integrity report shows them: records and measurements side by side, in groups."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from sam2ft.core.geometry import PLANES
from sam2ft.core.grouping import grouped
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import LabelTable
from sam2ft.data.store.store import IMAGE_LEVELS, VolumeRecord
from sam2ft.pictures.views import AS_STORED, view_of
from sam2ft.report.integrity.measure import MeasuredLabel, MeasuredVolume, sides_of

SITES = ("site", "center", "centre", "hospital", "institution", "scanner")
"""Names of a covariate by which a cohort is judged in parts, the first that a store has."""
_FEWEST_OF_NAME = 3
"""Volumes of a name that so many subjects have are compared among themselves."""


@dataclass(frozen=True)
class ReportedVolume:
    """One line of the report."""

    number: int
    """Position of its line, from 1."""
    record: VolumeRecord
    stored: Mapping[str, Any]
    """Its record; empty where that is lost."""
    measured: MeasuredVolume | None
    """None where its arrays cannot be read."""
    problem: str = ""
    """Why they cannot."""
    site: str = ""

    @property
    def key(self) -> VolumeKey:
        return self.record.key

    @property
    def name(self) -> str:
        return f"{self.key.subject}/{self.key.volume}"

    @property
    def plane(self) -> str:
        """sagittal, coronal or axial, `oblique` where over 22.5 degrees away from it; empty: unknown."""
        geometry = self.record.geometry
        if not geometry.oriented:
            return ""
        directions = np.abs(geometry.affine[:3, 2]) / np.linalg.norm(geometry.affine[:3, 2])
        return PLANES[int(np.argmax(directions))] + ("" if directions.max() > np.cos(np.radians(22.5)) else ", oblique")

    @property
    def slices_run(self) -> str:
        """To which side of the body the slices are counted; empty: unknown."""
        return sides_of(self.record.geometry)[0][1] if self.record.geometry.oriented else ""

    @property
    def marks(self) -> tuple[str, ...]:
        """Letters at the left, right, top and bottom of its pictures; empty: unknown."""
        view = view_of(self.record.geometry)
        return () if view == AS_STORED or view.marks is None else view.marks

    @property
    def window(self) -> tuple[float, float] | None:
        """Intensities of the source at the ends of the levels of the store."""
        found = self.stored.get("window")
        return None if found is None else (float(found[0]), float(found[1]))

    @property
    def intensities(self) -> tuple[float, float, float] | None:
        """(low, typical, high) in the unit of the source."""
        if self.measured is None or self.window is None:
            return None
        low, high = self.window
        levels = (self.measured.low, self.measured.typical, self.measured.high)
        first, typical, last = (low + level / IMAGE_LEVELS * (high - low) for level in levels)
        return first, typical, last

    @property
    def labels(self) -> Mapping[int, MeasuredLabel]:
        return {} if self.measured is None else self.measured.labels

    def was_drawn(self, label: int) -> bool:
        """Whether somebody looked for a label here: else nothing is known of it."""
        return self.record.labelled is None or label in self.record.labelled

    def volume_ml(self, label: int) -> float | None:
        """Volume of a label; 0 where it has none, None where it was not drawn or the arrays cannot be read."""
        if self.measured is None or not self.was_drawn(label):
            return None
        one = self.measured.labels.get(label)
        return 0.0 if one is None else one.voxels * self.record.geometry.voxel_volume_mm3 / 1000


@dataclass(frozen=True)
class ReportedStore:
    """Everything that the findings are made from."""

    name: str
    anatomy: str
    labels: LabelTable
    volumes: Sequence[ReportedVolume]
    site: str = ""
    """Name of the covariate by which it is judged in parts; empty: there is none."""
    given_modality: str = ""
    refused: Sequence[tuple[str, str]] = field(default_factory=tuple)
    """(name, reason) of the volumes that the last preparation refused."""

    @cached_property
    def groups(self) -> list[list[ReportedVolume]]:
        """The volumes that are compared with each other: of one site and, where many subjects have it, of one name."""
        subjects_of = Counter(name for _, name in {(one.key.subject, one.key.volume) for one in self.volumes})
        common = {name for name, count in subjects_of.items() if count >= _FEWEST_OF_NAME}
        return list(
            grouped(self.volumes, lambda one: (one.site, one.key.volume if one.key.volume in common else "")).values()
        )

    @property
    def subjects(self) -> list[str]:
        return list(dict.fromkeys(one.key.subject for one in self.volumes))
