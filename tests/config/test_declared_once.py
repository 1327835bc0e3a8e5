"""Every setting is declared once, in the schema: no class of the package repeats the keys of a section."""

import ast
from collections.abc import Iterator
from pathlib import Path

import sam2ft

PACKAGE = Path(sam2ft.__file__).parent
SCHEMA = PACKAGE / "config" / "schema"
# Words of many things that are no settings.
COMMON = {"name", "description", "seed", "baseline", "dataset", "eval", "experiment", "resources", "labels", "split"}
PLANNED = "what a plan file records: every key filled in, by experiment, site and defaults"
FOUND = "what a scan found for a subject, from which the section is written"
ALLOWED: dict[tuple[str, str], str] = {
    ("DatasetFacts", "DatasetInfo"): "what texts say of a store, which is read without a dataset file",
    ("Label", "LabelName"): "a row of a label table, which stores and checkpoints hold without a configuration",
    ("ReportResources", "PartialResources"): "of the report job: other keys and other defaults",
    ("ReportResources", "RequestedResources"): "of the report job: other keys and other defaults",
    ("Resources", "PartialResources"): PLANNED,
    ("Resources", "RequestedResources"): PLANNED,
    ("Schedule", "Module"): "torch's optimizer and scheduler, not their sections",
    ("ScoreSettings", "MetricSection"): "what custom metrics read; it joins keys of two sections",
    ("FoundImage", "SeriesChoice"): "what a scan finds, which the choice is compared with",
    ("Pair", "Sources"): FOUND,
    ("PlannedVolume", "Sources"): FOUND,
    ("MaskUnit", "Sources"): FOUND,
    ("StackDescription", "SeriesChoice"): "what a folder holds, which the choice is compared with",
    ("SegmentationLoss", "Loss"): "the loss itself: the functions that the names of the section stand for",
    ("StoreWriter", "DatasetInfo"): "what a store holds of it, without a dataset file",
}


def fields_of(node: ast.ClassDef) -> set[str]:
    """Annotated attributes and properties of a class, and the arguments of its constructor."""
    found = {
        item.target.id for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }
    for item in node.body:
        if isinstance(item, ast.FunctionDef):
            if any(isinstance(one, ast.Name) and one.id == "property" for one in item.decorator_list):
                found.add(item.name)
            if item.name == "__init__":
                found |= {argument.arg for argument in (*item.args.args, *item.args.kwonlyargs)} - {"self"}
    return found


def classes(path: Path) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ClassDef))


def test_no_class_repeats_a_section_of_the_schema() -> None:
    """Two or more equal names that are at least half of the class or of the section: a second declaration."""
    sections = {node.name: fields_of(node) for path in SCHEMA.glob("*.py") for node in classes(path)}
    assert {"Evaluation", "Loss", "Optimizer", "Datamodule"} <= sections.keys()
    repeated = {
        (node.name, name)
        for path in PACKAGE.rglob("*.py")
        for node in classes(path)
        if not path.is_relative_to(SCHEMA)
        for name, keys in sections.items()
        if len(common := fields_of(node) & keys - COMMON) >= 2
        and 2 * len(common) >= min(len(keys), len(fields_of(node)))
    }
    assert repeated == ALLOWED.keys()
