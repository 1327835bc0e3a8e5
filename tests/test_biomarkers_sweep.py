"""Biomarkers from DICOM through a sweep to the report's tables, against what the phantoms were drawn with."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
EXPERIMENT = """
extends: {shipped}
experiment: {{name: biomarkers}}
datamodule: {{max_subject_set: 1, metric: {{func: {{dice: true, cartilagethickness: true, t2: true}}}}}}
module: {{num_epochs: 1, visualize: false}}
eval: {{qc_slices: 0}}
sweep: {{grid: {{module.optimizer.lr: [1e-3, 5e-4]}}}}
"""
TOLERANCE = {"ThCcAB": 0.05, "mean": 0.01}
"""Slices of 3 to 4 mm: 5 % of thickness; 1 % of T2."""


@pytest.mark.slow
def test_the_reference_columns_of_a_sweep_equal_the_truth_of_the_phantom(tmp_path: Path) -> None:
    (tmp_path / "exp.yaml").write_text(EXPERIMENT.format(shipped=ROOT / "experiments/quickstart.yaml"))
    for command in (
        ("launch/prepare.py", "--phantom", "knee", "--subjects", "6", "--out", "data/knee"),
        ("launch/sweep.py", "exp.yaml", "--local", "1"),
    ):
        arguments = [sys.executable, str(ROOT / command[0]), *command[1:]]
        done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    (path,) = tmp_path.rglob("truth.json")
    truths = json.loads(path.read_text())["subjects"]
    rows = pd.read_csv(tmp_path / "runs/biomarkers/report/biomarker_volume.csv")
    found = rows[rows["definition"].isin(TOLERANCE) & rows["tissue"].str.contains("cartilage")]
    assert found["run"].nunique() == 3  # two points and the model before fine-tuning
    assert len(found) == 3 * rows["subject"].nunique() * 4 * 2
    for row in found.itertuples():
        truth = truths[row.subject]["tissues"][row.tissue]
        known = truth["thickness_mean_mm" if row.definition == "ThCcAB" else "t2_mean_ms"]
        assert row.reference == pytest.approx(known, rel=TOLERANCE[row.definition]), row
    # Of one subject the same in every run but for rounding: the mesh is cut out around both masks.
    one = found.groupby(["subject", "tissue", "definition"])["reference"]
    assert ((one.max() - one.min()) / one.mean()).max() < 1e-6
