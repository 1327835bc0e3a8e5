"""Remedies of models, metrics and maps: keys that need something else beside them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam2ft.data.images.volumes import read_volume, write_nifti
from sam2ft.training.run import batches_per_rank
from tests.fixtures.stores import _write_series
from tests.remedies.conftest import Desk, Raw, refusal
from tests.remedies.registry import remedy

DRY = "launch/sweep.py toy.yaml --dry-run --local 1"


@remedy("install it", of="can be imported here")
@remedy("name its folder in PYTHONPATH")
def a_metric_of_a_module_that_is_not_there(toy: Any, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> str:
    toy.write("iou: true", "iou: true, 'own_metrics:count': true")
    shown = desk.refused(DRY)
    Path("own").mkdir()
    Path("own/own_metrics.py").write_text(
        "from sam2ft.metrics.measurement import Measurement, metric\n\n\n"
        "@metric('count')\ndef count(pair):\n"
        "    yield Measurement('volume', 'own_count', value=float(pair.reference_zyx.sum()))\n"
    )
    monkeypatch.syspath_prepend("own")
    desk.works(DRY)
    return shown


@remedy("choose another name", of="is a fixed column of")
def a_metric_that_writes_a_fixed_column(toy: Any, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> str:
    text = (
        "from sam2ft.metrics.measurement import Measurement, metric\n\n\n"
        "@metric('count')\ndef count(pair):\n    yield Measurement('volume', 'NAME', value=1.0)\n"
    )
    monkeypatch.syspath_prepend(str(Path.cwd()))
    shown = ""
    for number, name in enumerate(("dice", "tp", "own_count")):
        Path(f"own{number}_metrics.py").write_text(text.replace("NAME", name))
        toy.write("iou: true", f"iou: true, 'own{number}_metrics:count': true")
        done = desk.run(DRY)
        assert (done.code == 0) is (name == "own_count"), done.text
        shown += done.text
    return shown


@remedy("use a divisor of {}")
@remedy("plan with other resources")
def processes_that_cannot_share_a_step(toy: Any) -> str:
    from sam2ft.config.load_experiment import load_experiment

    experiment = load_experiment(Path("toy.yaml"), ["module.grad_accum=4"]).experiment
    for world_size in (3, 5, 8):
        shown = refusal(lambda world_size=world_size: batches_per_rank(experiment, 1, world_size))
    divisors = [size for size in range(1, 9) if int(shown.rpartition("divisor of ")[2].split(",")[0]) % size == 0]
    assert [batches_per_rank(experiment, 1, size) for size in divisors] == [4 // size for size in divisors]
    assert batches_per_rank(experiment, 3, 3) == 4
    return shown


@remedy("set it to false", of="give it no gradient", slow=True)
@remedy("configure prompts or a loss that depend on it", slow=True)
def a_part_that_cannot_learn(toy: Any, desk: Desk) -> str:
    one = "module.num_epochs=1"
    part = "module.trainable={prompt_encoder: {only: [point_embeddings.1]}, image_encoder: false, mask_decoder: true}"
    command = ("launch/train.py toy.yaml --set module.visualize=false --set", one)
    shown = desk.refused(*command, "--set", part)
    desk.works(*command)
    desk.works(*command, "--set", part, "--set", "module.prompts={box: 0, point: 1, mask: 0}")
    return shown


@remedy("select only what module.lora does not update, such as norms, biases, pos_embed or neck", slow=True)
def tensors_that_lora_updates(toy: Any, desk: Desk) -> str:
    command = ("launch/train.py toy.yaml --set module.visualize=false --set module.num_epochs=1 --set",)
    lora = "module.lora={rank: 2}"
    shown = desk.refused(*command, lora, "--set", "module.trainable.image_encoder={only: [qkv]}")
    for right in ("norm", "bias", "pos_embed", "neck"):
        desk.works(*command, lora, "--set", f"module.trainable.image_encoder={{only: [{right}]}}", "--fresh")
    return shown


# --- maps -----------------------------------------------------------------------------------------------------------


def _mapped(raw: Raw, entry: str, value: float = 40.0) -> None:
    for subject in "ab":
        geometry = read_volume(raw.image(subject)).geometry
        write_nifti(Path(f"maps/{subject}.nii.gz"), np.full(geometry.shape_zyx, value, np.float32), geometry)
    raw.settings('nii.gz"}', f'nii.gz", maps: {{t2: {{file: "maps/{{subject}}.nii.gz"{entry}}}}}}}')


@remedy("give sources.maps.{}.unit", of="^give sources.maps.{}.unit")
@remedy("mend it, or {}", of="not readable JSON")
@remedy("mend it, or {}", of="Units is")
def a_sidecar_that_does_not_say_the_unit(raw: Raw) -> str:
    shown = ""
    for text in ("{", '{"Units": "furlong"}'):
        _mapped(raw, "")
        for subject in "ab":
            Path(f"maps/{subject}.json").write_text(text)
        shown += " ".join(raw.prepare(code=2).split())
        _mapped(raw, ", unit: ms")
        raw.prepare()
        _mapped(raw, "")
        for subject in "ab":
            Path(f"maps/{subject}.json").write_text('{"Units": "ms"}')
        raw.prepare()
        assert raw.whole() == ["a", "b"]
        import shutil

        shutil.rmtree("store")
    return shown


@remedy("give sources.maps.t1rho.spin_lock_ms, which no DICOM tag contains")
def a_folder_of_spin_lock_images(raw: Raw) -> str:
    times = [1, 10, 30, 60]

    def decay(folder: Path) -> None:
        for number, time in enumerate(times):

            def change(header: Any, z: int, time: int = time, number: int = number) -> None:
                header.PixelData = np.full(48, round(1000 * np.exp(-time / 40)), "<u2").tobytes()
                header.InstanceNumber = number * 5 + z + 1
                header.SeriesInstanceUID = "1.2.3"

            _write_series(folder / str(number), change=change)
        for path in sorted(folder.glob("*/*.dcm")):
            path.rename(folder / f"{path.parent.name}-{path.name}")

    for subject in "ab":
        decay(Path(f"maps/{subject}"))
        for path in Path(f"maps/{subject}").glob("?"):
            path.rmdir()
    raw.settings('nii.gz"}', 'nii.gz", maps: {t1rho: "maps/{subject}"}}')
    shown = " ".join(raw.prepare(code=2).split())
    raw.settings('nii.gz"}', f'nii.gz", maps: {{t1rho: {{series: "maps/{{subject}}", spin_lock_ms: {times}}}}}}}')
    raw.prepare()
    assert raw.whole() == ["a", "b"]
    return shown
