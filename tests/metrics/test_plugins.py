"""Metrics from outside the package: the worked example of docs/metrics.md, and all that can be wrong with one."""

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest

from sam2ft.config.load_experiment import load_experiment
from sam2ft.core.errors import ConfigError, DataError
from sam2ft.core.tables.rows import TABLES, format_csv, stamped
from sam2ft.metrics.factory import load_metrics, metric_factory
from sam2ft.metrics.measurement import Measurement, metric
from sam2ft.metrics.plugin_check import try_plugin
from sam2ft.statistics.cohort import global_rows

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
EXPERIMENT = """\
experiment: {name: own}
dataset:
  knee: {store: data/knee}
module: {sam2_model_cfg: sam2_nano, image_size: 256}
"""
HEADER = "import math\nfrom sam2ft.metrics.measurement import Measurement, metric\n"


PACKAGES = itertools.count()


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """write(text): a module mod.py in a package of its own, outside; returns its dotted name."""
    monkeypatch.syspath_prepend(tmp_path)

    def written(text: str) -> str:
        package = f"mypkg{next(PACKAGES)}"
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
        (tmp_path / package / "mod.py").write_text(text)
        return f"{package}.mod"

    return written


@pytest.fixture
def make(write):
    """make(body): a metric outside whose function has this one line."""

    def made(body: str, decorator: str = "metric('own')"):
        return metric_factory(
            f"{write(f'{HEADER}@{decorator}{chr(10)}def own(pair):{chr(10)}    {body}{chr(10)}')}:own"
        )

    return made


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Label 1 moved by two columns, label 2 missed."""
    reference, prediction = np.zeros((2, 6, 8), np.uint8), np.zeros((2, 6, 8), np.uint8)
    reference[:, 1:3, 1:3], prediction[:, 1:3, 3:5] = 1, 1
    reference[0, 5, 7] = 2
    return prediction, reference


def test_the_worked_example_runs_from_the_experiment_to_the_global_table(tmp_path, write, score, monkeypatch):
    (python,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (yaml,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "my_metrics.py").write_text(python)
    (tmp_path / "own.yaml").write_text(EXPERIMENT + yaml)
    experiment = load_experiment(tmp_path / "own.yaml").experiment
    metrics = load_metrics(experiment.datamodule.metric.func)
    assert [one.name for one in metrics] == ["dice", "centroid_shift"]
    assert [try_plugin(one, {}) for one in metrics] == [[], []]
    rows = score(*pictures(), names=(), metrics=metrics, spacing=(3.0, 0.5, 0.75), missed_distance=9.0)
    assert [row["centroid_shift_mm"] for row in rows["volume"]] == [1.5, 9.0]
    volume_rows = stamped(rows["volume"], run="r", eval="e", split="test", protocol="box")
    assert format_csv(TABLES["volume"], volume_rows).splitlines()[0].endswith(",status,centroid_shift_mm,num_specks")
    means = {
        row["label_name"]: row["mean"] for row in global_rows(volume_rows) if row["measure"] == "centroid_shift_mm"
    }
    assert means == {"one": 1.5, "two": 9.0, "mean_of_labels": 5.25}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_module_here\n", "no module named 'no_such_module_here' can be imported here; install it"),
        (
            "raise ValueError('half written')\n",
            r"importing mypkg\d+\.mod failed: ValueError: half written \(mod\.py:1\)",
        ),
        ("def f(:\n", "failed: SyntaxError"),
        (
            "class One:\n    name, needs = 'one', ()\n    def __init__(self, size):\n        pass\n",
            "cannot be made: TypeError",
        ),
    ],
)
def test_a_module_that_cannot_be_imported_is_refused_with_the_line(write, text, message):
    with pytest.raises(ConfigError, match=message):
        metric_factory(f"{write(text)}:One")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("yield 1 / 0", r"label 1 \w+ \(ok\): ZeroDivisionError: division by zero \(mod\.py:5\)"),
        ("yield 0.5", r"yielded 0\.5; a metric must yield Measurement objects"),
        ("yield Measurement('volume', 'dice', 0.5)", r"dice is a fixed column of volume\.csv"),
        ("yield Measurement('volume', 'x', math.inf)", "x is inf; a value must be finite"),
        ("yield Measurement('volume', 'x', True)", "x is True; a value must be a number"),
        ("yield Measurement('volume', 'x', 'a')", "x is 'a'; a value must be a number"),
        ("yield Measurement('slice', 'x', 1.0, slice=9)", "x belongs to slice 9, which is not evaluated"),
        ("yield Measurement('slice', 'x', 1.0)", "ValueError: x: a measurement of a slice names its slice"),
    ],
)
def test_what_no_table_takes_is_refused_before_a_run_and_in_it(make, score, body, message):
    own = make(body)
    with pytest.raises(ConfigError, match=message):
        try_plugin(own, {})
    with pytest.raises(ConfigError, match=message):
        score(*pictures(), metrics=(own,))


def test_a_metric_that_raises_on_an_empty_mask_is_found_before_a_run(make):
    own = make("yield Measurement('volume', 'top', float(pair.prediction_zyx.nonzero()[0].min()))")
    with pytest.raises(ConfigError, match=r"label 2 missed \(missed\): ValueError: zero-size array.* \(mod\.py:5\)"):
        try_plugin(own, {})


def test_a_nan_where_the_label_is_is_a_warning_and_an_empty_cell(make, score):
    own = make("yield Measurement('volume', 'x', 1.0 if pair.status == 'ok' else math.nan)")
    warnings = try_plugin(own, {})
    assert [line.split(": ", 1)[1] for line in warnings] == [
        "x is NaN for a label with status missed; it is excluded from means",
        "x is NaN for a label with status spurious; it is excluded from means",
    ]
    one, two = score(*pictures(), metrics=(own,))["volume"]
    assert one["x"] == 1.0
    assert math.isnan(two["x"])


def test_needs_are_met_on_the_made_up_masks(make):
    own = make(
        "yield Measurement('volume', 'own', reference=pair.dicom['rows'][0], unit='ms',"
        " prediction=float(pair.maps['t2'][pair.bone_zyx].mean()))",
        "metric('own', needs=('map:t2', 'bone', 'dicom:rows'), biomarker=True)",
    )
    assert try_plugin(own, {"rows": [8, 8]}) == []


def test_two_metrics_that_write_one_column_are_refused(score):
    def named(name):
        return metric(name)(lambda pair: [Measurement("volume", "both", 1.0)])

    with pytest.raises(DataError, match=r"metrics first and second both write the column both of volume\.csv"):
        score(*pictures(), metrics=(named("first"), named("second")))
