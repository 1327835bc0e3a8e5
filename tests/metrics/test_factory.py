import subprocess
import sys
from pathlib import Path

import pytest

from sam2ft.core.errors import ConfigError
from sam2ft.core.labels import Label, LabelTable
from sam2ft.metrics.biomarkers.height import TissueHeightMetric
from sam2ft.metrics.biomarkers.relaxation import T1rhoMetric, T2Metric
from sam2ft.metrics.biomarkers.thickness import CartilageThicknessMetric
from sam2ft.metrics.biomarkers.volume import TissueVolumeMetric
from sam2ft.metrics.factory import METRICS, load_metrics, measured_labels, metric_factory, unmet_needs
from sam2ft.metrics.measurement import is_biomarker

KNEE = LabelTable((Label(1, "femoral cartilage", "femur"), Label(5, "femur"), Label(6, "meniscus")))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("t1rho", T1rhoMetric),
        ("T2", T2Metric),
        ("TissueHeight", TissueHeightMetric),
        ("tissuevolume", TissueVolumeMetric),
        ("CartilageThickness", CartilageThicknessMetric),
    ],
)
def test_the_known_names_give_the_known_classes_in_any_case(name, kind):
    assert isinstance(metric_factory(name), kind)


@pytest.mark.parametrize("name", METRICS)
def test_every_name_of_the_table_gives_a_metric_of_that_name(name):
    assert metric_factory(name).name == name


def test_an_unknown_name_lists_the_table():
    with pytest.raises(
        ConfigError, match=r"metric 'dise' is unknown; known: dice, iou, .*t2, or package\.module:attribute"
    ):
        metric_factory("dise")


def test_only_what_is_switched_on_is_loaded():
    assert [one.name for one in load_metrics({"dice": True, "hd": False, "T2": True})] == ["dice", "t2"]


def test_one_metric_under_two_spellings_is_refused():
    with pytest.raises(ConfigError, match="metric dice is given twice"):
        load_metrics({"dice": True, "Dice": False})


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outside_metrics.py").write_text(
        "from sam2ft.metrics.measurement import Measurement, metric\n"
        "@metric('extra', needs=('dicom:rows',))\n"
        "def extra(pair):\n"
        "    yield Measurement('volume', 'voxels', float(pair.overlap.reference))\n"
        "@metric('on_bone', needs=('bone',), biomarker=True)\n"
        "def on_bone(pair):\n"
        "    return []\n"
        "def plain(pair):\n"
        "    return []\n"
        "class Own:\n"
        "    name, needs = 'own', ()\n"
        "    def measure(self, pair):\n"
        "        return []\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("package")
def test_a_metric_from_outside_the_package_is_named_by_its_place():
    (extra, own) = load_metrics({"outside_metrics:extra": True, "outside_metrics:Own": True})
    assert (extra.name, tuple(extra.needs)) == ("extra", ("dicom:rows",))
    assert own.name == "own"


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("outside_metrics:plain", "has no name, needs, measure; a plain function becomes a metric with @metric"),
        ("outside_metrics:nothing", "module outside_metrics has no 'nothing'"),
        ("no_such_package.mod:x", "no module named 'no_such_package'"),
    ],
)
def test_what_is_not_a_metric_is_refused_saying_why(where, message):
    with pytest.raises(ConfigError, match=message):
        metric_factory(where)


def test_biomarkers_are_measured_on_tissues_and_the_rest_on_every_label():
    assert measured_labels(metric_factory("dice"), KNEE, (1,)) == (1, 5, 6)
    assert measured_labels(metric_factory("tissuevolume"), KNEE, (1,)) == (1,)
    assert measured_labels(metric_factory("tissuevolume"), KNEE, None) == (1, 5, 6)
    assert measured_labels(metric_factory("cartilagethickness"), KNEE, None) == (1,)
    with pytest.raises(ConfigError, match=r"metric\.tissues: \[9\] not in the label table"):
        measured_labels(metric_factory("t2"), KNEE, (9,))


@pytest.mark.usefixtures("package")
def test_needs_that_are_not_met_are_named():
    def unmet(name, tissues=None, labels=KNEE):
        return unmet_needs(metric_factory(name), labels, tissues, maps={"t2"}, dicom_fields=())

    assert unmet("t2") == unmet("dice") == unmet("cartilagethickness") == []
    assert unmet("t1rho") == ["t1rho needs a t1rho map; maps here: t2"]
    assert unmet("outside_metrics:extra") == ["extra needs the DICOM field rows"]
    assert unmet("cartilagethickness", (6,)) == []  # its local thickness
    assert unmet("outside_metrics:on_bone", (6,)) == ["on_bone needs labels.6.interface, the bone of meniscus"]
    assert unmet("cartilagethickness", labels=LabelTable.unnamed([1])) == [
        "cartilagethickness needs a label with an interface; the label table has none; metric.tissues names those to "
        "measure without one"
    ]


def test_overlap_metrics_are_no_biomarkers():
    assert [name for name in METRICS if is_biomarker(metric_factory(name))] == [
        "cartilagethickness",
        "tissuevolume",
        "tissueheight",
        "t1rho",
        "t2",
    ]


def test_scoring_imports_neither_torch_nor_what_only_thickness_needs():
    program = (
        "import sys, sam2ft.metrics.scoring, sam2ft.statistics.cohort\n"
        "from sam2ft.metrics.factory import METRICS, load_metrics\n"
        "load_metrics(dict.fromkeys(METRICS, True))\n"
        "print([name for name in ('torch', 'monai', 'skimage', 'scipy.stats', 'pandas') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_only_metrics_whose_definition_changed_have_a_version():
    from sam2ft.metrics.factory import metric_versions

    assert metric_versions(["dice", "TissueHeight", "t2", "my.module:tissueheight"]) == {"tissueheight": 2}
    assert metric_versions(["dice"]) == {}


@pytest.mark.parametrize(
    ("given", "known"), [({}, False), ({"t2_upper_ms": 100.0}, False), ({"t2_upper_ms": 150.0}, True)]
)
def test_a_setting_that_is_new_is_in_no_fingerprint_at_its_default(given, known):
    from sam2ft.metrics.measurement import ScoreSettings

    assert ("t2_upper_ms" in ScoreSettings(**given).identity()) == known
    assert {
        "missed_distance",
        "nsd_tolerance_mm",
        "tissues",
        "t1rho_upper_ms",
        "sensitivity",
    } <= ScoreSettings().identity().keys()
