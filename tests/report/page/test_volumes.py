"""Slices to scroll on the page: read from an evaluation, with what is damaged or foreign left out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam2ft.core.files import read_json, sha256_file, write_json
from sam2ft.evaluation.outputs.volume_slices import jpeg
from sam2ft.pictures.overlay import overlay_svg
from sam2ft.report.page.volumes import Assets, places_of, shown_volumes
from sam2ft.report.request import RunState
from sam2ft.runs.layout import RunLayout
from sam2ft.runs.plan_file import PlannedPoint, PlannedRun, Resources
from sam2ft.runs.states import State

RUN, EVAL = "toy-0123456789abcdef", "e" * 12
HOSTILE = "../<b>"


@pytest.fixture
def state(tmp_path: Path) -> RunState:
    """A run with one volume of three slices, one of which misses a label."""
    layout = RunLayout(tmp_path / RUN)
    qc = layout.evaluation(EVAL).qc
    (qc / "volumes").mkdir(parents=True)
    mask = np.eye(8, dtype=np.uint8)
    slices: list[dict[str, Any]] = []
    for index, dice in enumerate(({"1": 0.9}, {"1": "missed"}, {})):
        names = {"image": f"volumes/01-{index:04d}.jpg", "overlay": f"volumes/01-{index:04d}.svg"}
        (qc / names["image"]).write_bytes(jpeg(np.zeros((8, 8)), (1.0, 1.0)))
        (qc / names["overlay"]).write_text(overlay_svg(mask, mask[::-1], {1: "#E69F00"}))
        digests = {f"{kind}_sha256": sha256_file(qc / name) for kind, name in names.items()}
        slices.append({"slice": index, "key": f"d/{HOSTILE}/v slice {index}", **names, **digests, "dice": dice})
    about = {"volume": f"d/{HOSTILE}/v", "subject": HOSTILE, "num_slices": 9, "marks": ["A", "P", "S", "I"]}
    write_json(
        qc / "volumes.json", [{**about, "labels": {"1": [HOSTILE, "#E69F00"]}, "why": ["worst"], "slices": slices}]
    )
    asked = Resources(nodes=1, tasks_per_node=1, gpus_per_node=0, cpus_per_task=1, mem_gb=1, hours=1)
    planned = PlannedRun(0, RUN, "train_eval", False, (PlannedPoint("one", (), EVAL),), asked, asked)
    return RunState(planned, layout, State.DONE, "", None)


def qc_of(state: RunState) -> Path:
    return state.layout.evaluation(EVAL).qc


def test_every_slice_has_its_files_and_the_worst_is_shown_first(state: RunState) -> None:
    assets: Assets = {}
    (volume,) = shown_volumes([state], RUN, assets)
    assert [one.index for one in volume.slices] == [0, 1, 2]
    assert volume.start == 1
    assert len(assets) == 6
    assert all(name.startswith(f"assets/{RUN}-{EVAL}-v01-") and ".." not in name for name in assets)
    assert places_of([volume])[EVAL, f"d/{HOSTILE}/v slice 2"] == (1, 2)
    assert volume.to_json()["slices"][1][3] == {"1": "missed"}


def test_other_runs_and_evaluations_of_earlier_versions_have_none(state: RunState) -> None:
    assets: Assets = {}
    assert shown_volumes([state], "another", assets) == ()
    (qc_of(state) / "volumes.json").unlink()
    assert shown_volumes([state], RUN, assets) == ()
    assert assets == {}


@pytest.mark.parametrize("damage", ["changed", "removed", "renamed"])
def test_a_slice_whose_file_is_damaged_or_gone_is_left_out(state: RunState, damage: str, capsys: Any) -> None:
    path = qc_of(state) / "volumes" / "01-0001.svg"
    if damage == "changed":
        path.write_text(path.read_text().replace("1", "2", 1))
    else:
        path.rename(path.with_suffix(".html")) if damage == "renamed" else path.unlink()
    (volume,) = shown_volumes([state], RUN, {})
    assert [one.index for one in volume.slices] == [0, 2]
    assert ("damaged" in capsys.readouterr().err) == (damage == "changed")


@pytest.mark.parametrize(
    "planted",
    [
        '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"></svg>',
        '<svg xmlns="http://www.w3.org/2000/svg"><use href="https://example.org/a.svg#a"/></svg>',
        '<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0" fill="url(&quot;http://x&quot;)"/></svg>',
        "<html></html>",
    ],
)
def test_an_overlay_with_more_than_shapes_is_left_out_even_with_its_digest(state: RunState, planted: str) -> None:
    qc = qc_of(state)
    path = qc / "volumes" / "01-0001.svg"
    path.write_text(planted)
    volumes = read_json(qc / "volumes.json")
    volumes[0]["slices"][1]["overlay_sha256"] = sha256_file(path)
    write_json(qc / "volumes.json", volumes)
    assets: Assets = {}
    (volume,) = shown_volumes([state], RUN, assets)
    assert [one.index for one in volume.slices] == [0, 2]
    assert path not in assets.values()


@pytest.mark.parametrize("content", ["{}", "[1]", '[{"volume": "x"}]', "no json", '[{"slices": 3, "volume": "x"}]'])
def test_a_list_that_no_evaluation_wrote_is_left_out_with_a_note(state: RunState, content: str, capsys: Any) -> None:
    (qc_of(state) / "volumes.json").write_text(content)
    assert shown_volumes([state], RUN, {}) == ()
    assert ("left out of the page" in capsys.readouterr().err) == (content != "{}")
