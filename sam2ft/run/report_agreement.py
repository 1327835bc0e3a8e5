"""The agreement of biomarkers on the page: table rows, and a picture of the pairs behind each. No torch."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sam2ft.core.rows import TABLES, Row
from sam2ft.metrics.summary import Pairs, subject_pairs
from sam2ft.report.agreement_chart import agreement_figure
from sam2ft.report.charts import figure_svg
from sam2ft.report.content import AgreementSection, Picture, agreement_sections
from sam2ft.report.words import unit_text

KEY = TABLES["biomarker_global"].key_names()


def agreement_of(
    point: str, run: str, global_rows: Sequence[Row], volume_rows: Sequence[Row], assets: dict[str, bytes | Path]
) -> tuple[AgreementSection, ...]:
    """Sections of `run`, from rows of biomarker_global.csv and biomarker_volume.csv; pictures are put into `assets`."""
    own = subject_pairs([row for row in volume_rows if row["run"] == run])
    pairs = {tuple(one.key[name] for name in KEY): one for one in own}
    made: list[AgreementSection] = []
    for section in agreement_sections(point, run, global_rows):
        charts: list[Picture] = []
        for row in section.rows:
            path = f"assets/agreement-{section.evaluation.eval}-{len(made)}-{len(charts)}.svg"
            if row["n"]:
                charts.append(_chart(path, row, pairs[tuple(row[name] for name in KEY)], assets))
        made.append(replace(section, charts=tuple(charts)))
    return tuple(made)


def _chart(path: str, row: Row, pairs: Pairs, assets: dict[str, bytes | Path]) -> Picture:
    figure = agreement_figure(list(pairs.references.values()), list(pairs.predictions.values()), row)
    assets[path] = figure_svg(figure)
    unit = unit_text(row["unit"])
    what = f"{row['tissue']}, {row['biomarker']} {row['definition']}{f' in {unit}' if unit else ''}"
    return Picture(path, f"{what}: a dot per subject; bands are 95 % intervals of bias and limits of agreement.")
