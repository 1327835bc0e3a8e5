"""Tables of an evaluation (of a model or of masks made elsewhere), from the rows of its volumes. No torch."""

from collections.abc import Iterable, Mapping

from sam2ft.core.files import sha256_file
from sam2ft.core.tables.row_files import RowFiles
from sam2ft.core.tables.rows import TABLES, Row, write_csv
from sam2ft.evaluation.outputs.wide_tables import save_custom_metric_scores, save_metric_scores_to_csv, wide_measures
from sam2ft.evaluation.prompt_noise import NOISE
from sam2ft.runs.layout import EvalLayout
from sam2ft.statistics.cohort import biomarker_global_rows, global_rows
from sam2ft.statistics.prompt_noise import noise_global_rows

NOISE_GLOBAL = "prompt_noise_global"


def with_cohort(tables: Mapping[str, Iterable[Row]]) -> dict[str, Iterable[Row]]:
    """Return the tidy tables to write: the given tables, and their statistics over subjects.

    Biomarker tables are among them only if a biomarker was requested.
    """
    volumes, biomarkers = list(tables["volume"]), list(tables["biomarker_volume"])
    tidy: dict[str, Iterable[Row]] = {**tables, "global": global_rows(volumes)}
    if biomarkers:
        tidy["biomarker_global"] = biomarker_global_rows(biomarkers)
    if NOISE in tables:
        tidy[NOISE_GLOBAL] = noise_global_rows(list(tables[NOISE]))
    return {name: rows for name, rows in tidy.items() if rows or not name.startswith("biomarker")}


def write_cohort_tables(
    evaluation: EvalLayout, tidy: Mapping[str, Iterable[Row]], plain_cells: bool = False
) -> dict[str, str]:
    """Write the tables of `with_cohort` and their wide tables. Returns the sha256 of the tidy tables by name.

    `plain_cells`: the setting of that name, for the wide tables; the tidy ones are always plain.
    """
    for name, rows in tidy.items():
        if isinstance(rows, RowFiles):
            rows.write(evaluation.table(name))
        else:
            write_csv(evaluation.table(name), TABLES[name], list(rows))
    wide = []
    for measure in wide_measures(tidy):
        wide += save_metric_scores_to_csv(evaluation.wide, measure, tidy, plain_cells)
    for biomarker in sorted({str(row["biomarker"]) for row in tidy.get("biomarker_volume", ())}):
        wide += save_custom_metric_scores(evaluation.wide, biomarker, tidy, plain_cells)
    for path in wide:
        # sam2ft 0.1.0 wrote them beside the tidy tables; evaluated again, those would be out of date.
        (evaluation.folder / path.name).unlink(missing_ok=True)
    return {name: sha256_file(evaluation.table(name)) for name in tidy}
