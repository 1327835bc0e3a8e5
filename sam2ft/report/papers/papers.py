"""Files of a report for papers and for users of the weights: texts and tables by file name. No torch."""

from typing import Literal

from sam2ft.config.load_experiment import load_experiment
from sam2ft.report.comparison.drawn import drawn_in_part
from sam2ft.report.papers.checklist import claim_checklist
from sam2ft.report.papers.collect_facts import shown_state, study_of
from sam2ft.report.papers.latex_tables import latex
from sam2ft.report.papers.methods import methods_text, references
from sam2ft.report.papers.model_card import model_card
from sam2ft.report.papers.tables import paper_tables, tables_markdown, workbook
from sam2ft.report.request import Files, Gathered, RunState
from sam2ft.report.tables.failures import value_rows

PAPER_FILES = (
    ("methods.md", "methods section, sentence by sentence from what was done (CC0)"),
    ("references.bib", "what it cites"),
    ("claim.md", "CLAIM 2024 checklist, filled in as far as the runs can"),
    ("model_card.md", "the best checkpoint: data, use, results, limits"),
    ("tables.tex", "tables for LaTeX"),
    ("tables.md", "tables in Markdown"),
    ("tables.xlsx", "tables as a workbook"),
)


def texts(gathered: Gathered) -> Files:
    """methods.md, references.bib, claim.md and model_card.md; empty when no run has a configuration."""
    study = study_of(gathered)
    if study is None:
        return {}
    methods, shown = methods_text(study), shown_state(gathered)
    status = shown.status if shown else None
    rows = gathered.tables.rows("global", study.shown)
    made = {
        "methods.md": methods,
        "references.bib": references(methods, study.versions.get("sam2ft")),
        "claim.md": claim_checklist(study),
        "model_card.md": model_card(study, rows, status.best_sha256 if status and study.trained else None),
    }
    return {name: text.encode() for name, text in made.items()}


def tables(gathered: Gathered) -> Files:
    """The tables that were requested with --latex, --markdown and --excel."""
    asked = gathered.request.papers
    if not (asked.latex or asked.markdown or asked.excel):
        return {}
    shown = shown_state(gathered)
    run = shown.planned.run_id if shown else None
    drawn = drawn_in_part(value_rows(gathered.tables, [line.point.run for line in gathered.comparison.lines]))
    made = paper_tables(gathered.comparison, gathered.tables.rows("global"), run, _missed_distance(shown), drawn)
    found: dict[str, bytes] = {}
    if asked.latex:
        found["tables.tex"] = latex(made).encode()
    if asked.markdown:
        found["tables.md"] = tables_markdown(made).encode()
    if asked.excel:
        found["tables.xlsx"] = workbook(made)
    return found


def _missed_distance(shown: RunState | None) -> float | Literal["diagonal"]:
    """`eval.missed_distance` of the shown run."""
    if shown is None or not shown.layout.config.is_file():
        return "diagonal"
    return load_experiment(shown.layout.config).points[0].experiment.eval.missed_distance
