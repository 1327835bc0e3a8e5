"""Biomarkers of phantom masks against what the phantoms were drawn with (slices of about 3 to 4 mm)."""

import numpy as np
import pytest

from sam2ft.core.keys import VolumeKey
from sam2ft.metrics.factory import load_metrics
from sam2ft.metrics.scoring import Scene, ScoreSettings, score_volume
from sam2ft.phantom.phantom import knee_subject, spine_subject


def biomarkers(phantom, names, **maps):
    """(tissue, biomarker, definition, instance, unit) -> reference of a perfect prediction."""
    rows = score_volume(
        VolumeKey("phantom", phantom.subject, "v"),
        phantom.mask_zyx,
        phantom.mask_zyx,
        Scene(phantom.geometry, phantom.labels, maps),
        (),
        load_metrics(dict.fromkeys(names, True)),
        ScoreSettings(),
    )
    assert all(row["difference"] == 0 for row in rows["biomarker_volume"] if not np.isnan(row["difference"]))
    columns = ("tissue", "biomarker", "definition", "instance", "unit")
    return {tuple(row[name] for name in columns): row["reference"] for row in rows["biomarker_volume"]}


def test_thickness_volume_t2_and_t1rho_of_a_knee():
    knee = knee_subject(0, 0)
    names = ("cartilagethickness", "tissuevolume", "t2", "t1rho")
    found = biomarkers(knee, names, t2=knee.t2_ms_zyx, t1rho=knee.t1rho_ms_zyx)
    plates = {name: truth for name, truth in knee.truth["tissues"].items() if "thickness_mean_mm" in truth}
    assert len(plates) == 4
    for tissue, truth in plates.items():
        thickness = found[tissue, "cartilagethickness", "ThCcAB", None, "mm"]
        assert thickness == pytest.approx(truth["thickness_mean_mm"], rel=0.05)
        area = found[tissue, "cartilagethickness", "cAB", None, "mm2"]
        assert area == pytest.approx(truth["area_mm2"], rel=0.12)
        assert found[tissue, "t2", "mean", None, "ms"] == pytest.approx(truth["t2_mean_ms"], rel=0.01)
        assert found[tissue, "t1rho", "mean", None, "ms"] == pytest.approx(truth["t1rho_mean_ms"], rel=0.01)
        for biomarker in ("t2", "t1rho"):
            for layer in ("deep", "superficial"):
                mean = found[tissue, biomarker, f"mean_{layer}", None, "ms"]
                assert mean == pytest.approx(truth[f"{biomarker}_mean_{layer}_ms"], rel=0.01)
        # A plate ends within a slice of nearly 4 mm: its volume is known to half a slice at either end.
        volume = found[tissue, "tissuevolume", "volume", None, "mm3"]
        assert volume == pytest.approx(truth["volume_in_view_mm3"], rel=0.15)


def test_heights_of_a_lumbar_spine():
    spine = spine_subject(0, 2)
    found = biomarkers(spine, ("tissueheight",))
    (tissue,) = {key[0] for key in found if "disc" in key[0].lower()}
    for definition, known in (("height", "height_mean_mm"), ("height_anterior", "height_anterior_mm")):
        heights = [found[tissue, "tissueheight", definition, number, "mm"] for number in range(1, 6)]
        truth = [disc[known] for disc in spine.truth["discs"]]
        assert sorted(heights) == pytest.approx(sorted(truth), abs=0.4)
