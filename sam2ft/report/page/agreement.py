"""Agreement of biomarkers (Bland-Altman) on the page: table rows, and plots of the pairs of each row. No torch."""

from collections.abc import Sequence
from dataclasses import replace

from sam2ft.core.tables.rows import TABLES, Row
from sam2ft.report.page.content import AgreementSection, agreement_sections
from sam2ft.report.plots.agreement_plots import agreement_plots
from sam2ft.report.plots.vega import Plot
from sam2ft.statistics.cohort import SubjectPairs, subject_pairs

KEY = TABLES["biomarker_global"].key_names()


def agreement_of(
    point: str, run: str, global_rows: Sequence[Row], volume_rows: Sequence[Row]
) -> tuple[AgreementSection, ...]:
    """Agreement sections of `run` with plots, from rows of biomarker_global.csv and biomarker_volume.csv."""
    own = subject_pairs([row for row in volume_rows if row["run"] == run])
    pairs = {tuple(one.key[name] for name in KEY): one for one in own}
    made: list[AgreementSection] = []
    for section in agreement_sections(point, run, global_rows):
        plots = [
            _plots(f"agreement-{len(made) + 1}-{number}", row, pairs[tuple(row[name] for name in KEY)])
            if row["n"]
            else ()
            for number, row in enumerate(section.rows, start=1)
        ]
        made.append(replace(section, plots=tuple(plots)))
    return tuple(made)


def _plots(name: str, row: Row, pairs: SubjectPairs) -> tuple[Plot, ...]:
    subjects = {
        str(key[1]): (reference, prediction)
        for (key, reference), prediction in zip(pairs.references.items(), pairs.predictions.values(), strict=True)
    }
    return agreement_plots(name, subjects, row)
