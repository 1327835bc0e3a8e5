"""Remedies of evaluations, aggregation and reports, of status and cancellation."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sam2ft.core.files import sha256_file
from sam2ft.core.geometry import Geometry
from sam2ft.data.images.volumes import write_nifti
from sam2ft.data.store.store import Store
from sam2ft.notebooks import results
from tests.remedies.conftest import Desk, refusal
from tests.remedies.registry import remedy

Command = Callable[..., str]


# --- what is evaluated ----------------------------------------------------------------------------------------------


@remedy("name the store with --data")
@remedy("name it with --model", slow=True)
def a_checkpoint_that_belongs_to_no_run(toy: Any, desk: Desk) -> str:
    from safetensors.torch import load_file, save_file

    weights = load_file("weights/nano.safetensors")
    shown = desk.refused("launch/eval.py --ckpt weights/nano.safetensors")
    desk.works("launch/eval.py --ckpt weights/nano.safetensors --data data/toy --set module.image_size=64")
    odd = {name: tensor for name, tensor in weights.items() if "blocks.0.attn.qkv" not in name}
    save_file({**odd, "image_encoder.trunk.blocks.9.odd": weights["no_mem_embed"].clone()}, "weights/odd.safetensors")
    more = desk.run("launch/eval.py --ckpt weights/odd.safetensors --data data/toy")
    assert "name it with --model" in more.text
    save_file(
        {**weights, "image_encoder.trunk.blocks.9.odd": weights["no_mem_embed"].clone()}, "weights/odd.safetensors"
    )
    named = desk.run("launch/eval.py --ckpt weights/odd.safetensors --data data/toy --model sam2_nano")
    assert "name it with --model" not in named.text
    return shown + more.text


@remedy(
    "--predictions needs one store, --data STORE", case=("--predictions masks", "--predictions masks --data data/toy")
)
@remedy(
    "--reference needs the mask that is scored against it, --prediction FILE",
    case=("--reference masks/e__image.nii.gz", "--reference masks/e__image.nii.gz --prediction masks/e__image.nii.gz"),
)
@remedy(
    "--compare needs two checkpoints",
    case=(
        "--compare weights/nano.safetensors --data data/toy",
        "--compare weights/nano.safetensors weights/other.safetensors --data data/toy --set module.image_size=64",
    ),
)
@remedy(
    "allowed: --{}, --out",
    case=("--predictions masks --data data/toy --model sam2_nano", "--predictions masks --data data/toy --out x"),
)
def a_command_of_eval(toy: Any, desk: Desk, case: tuple[str, str]) -> str:
    from safetensors.torch import load_file, save_file

    weights = load_file("weights/nano.safetensors")
    save_file({name: tensor * 1.01 for name, tensor in weights.items()}, "weights/other.safetensors")
    _predictions(Path("masks"))
    shown = desk.refused(f"launch/eval.py {case[0]}")
    desk.works(f"launch/eval.py {case[1]}")
    return shown


def _predictions(folder: Path, shift: int = 0) -> None:
    """A mask for every test volume of the toy: its reference, moved by some pixels."""
    store = Store.open(Path("data/toy"))
    for record in store.split_volumes("test"):
        mask = np.roll(store.mask(record.key), shift, axis=2)
        write_nifti(folder / f"{record.key.file_stem}.nii.gz", mask, record.geometry)


@remedy("keep one", of="predictions, {}")
def two_predictions_of_a_volume(toy: Any, desk: Desk) -> str:
    _predictions(Path("masks"))
    first = sorted(Path("masks").iterdir())[0]
    second = first.with_name(first.name.removesuffix(".nii.gz").split("__")[0] + ".nii.gz")
    shutil.copy(first, second)
    shown = desk.refused("launch/eval.py --predictions masks --data data/toy")
    second.unlink()
    desk.works("launch/eval.py --predictions masks --data data/toy")
    return shown


@remedy("keep one", of="is listed twice")
def a_volume_listed_twice(toy: Any, desk: Desk) -> str:
    _predictions(Path("masks"))
    lines = [f"{path.name[0]},image,masks/{path.name}" for path in sorted(Path("masks").iterdir())]
    Path("table.csv").write_text("\n".join(["subject,volume,path", *lines, lines[0]]) + "\n")
    shown = desk.refused("launch/eval.py --predictions table.csv --data data/toy")
    Path("table.csv").write_text("\n".join(["subject,volume,path", *lines]) + "\n")
    desk.works("launch/eval.py --predictions table.csv --data data/toy")
    return shown


@remedy("export it on the grid of the reference")
@remedy("resample it to the nearest voxel with --resample")
def a_prediction_on_another_grid(toy: Any, desk: Desk) -> str:
    _predictions(Path("masks"))
    path = sorted(Path("masks").iterdir())[0]
    store = Store.open(Path("data/toy"))
    record = store.split_volumes("test")[0]
    geometry = record.geometry
    affine = np.array(geometry.affine)
    affine[:3, 3] += 0.2
    moved = Geometry(
        geometry.shape_zyx, geometry.spacing_zyx_mm, tuple(map(tuple, affine.tolist())), geometry.dz_source
    )
    write_nifti(path, np.array(store.mask(record.key)), moved)
    shown = desk.refused("launch/eval.py --predictions masks --data data/toy")
    desk.works("launch/eval.py --predictions masks --data data/toy --resample")
    _predictions(Path("masks"))
    desk.works("launch/eval.py --predictions masks --data data/toy")
    return shown


# --- finished evaluations -------------------------------------------------------------------------------------------

AGAIN = "run launch/sweep.py on the experiment again"


def _counted(desk: Desk) -> bool:
    return "not counted" not in desk.works("launch/aggregate.py runs/toy --require-complete")


@remedy(AGAIN)
@remedy("remove {} and", slow=True)
def an_evaluation_that_is_damaged(swept: Any, desk: Desk, sweeps: Command) -> str:
    success, shown = swept.evaluation.success, ""
    whole = json.loads(success.read_text())
    for other in ({"eval": "0" * 12}, {"run": "another-0123456789abcdef"}, {"tables": None}):
        success.write_text(json.dumps(whole | other))
        shown = desk.run("launch/aggregate.py runs/toy").text
        assert "not counted" in shown
        assert f"remove {success}" in " ".join(shown.split())
        success.unlink()
        sweeps()
        assert _counted(desk)
    return " ".join(shown.split())


@remedy("remove {}", of="start the same launch/sweep.py or launch/eval.py again")
@remedy("start the same launch/sweep.py or launch/eval.py again")
def a_table_in_a_notebook(swept: Any, desk: Desk, sweeps: Command) -> str:
    table = swept.evaluation.folder / "volume.csv"
    for content in (b"", table.read_bytes() + b"x\n", table.read_bytes().replace(b"1", b"2")):
        table.write_bytes(content)
        shown = refusal(lambda: results("runs/toy")["volume"])
        swept.evaluation.success.unlink()
        sweeps()
        assert len(results("runs/toy")["volume"]) == 4
    return shown


@remedy("give that of an experiment, of a run or of an evaluation, below runs/")
def a_folder_in_a_notebook(swept: Any) -> str:
    shown = refusal(lambda: results("runs/other"))
    for path in ("runs/toy", swept.layout.folder, swept.evaluation.folder):
        assert "volume" in results(path).tables
    return shown


@remedy(
    "`python launch/train.py {}` makes it again from the resume file of its epoch, where that is still there", slow=True
)
@remedy("with --fresh it trains again from the start", slow=True)
def weights_of_the_best_point_that_changed(swept: Any, desk: Desk, trains: Command) -> str:
    best = swept.layout.best
    before = sha256_file(best)
    for change in (Path.unlink, lambda path: path.write_bytes(b"other")):
        change(best)
        shown = desk.refused("launch/aggregate.py runs/toy export-best --out best")
        desk.works(f"launch/train.py {swept.layout.config}")
        assert sha256_file(best) == before
        change(best)
        trains("--fresh")
        assert sha256_file(best) == before
        desk.works("launch/aggregate.py runs/toy export-best --out best")
        assert sha256_file(Path("best/best.pt")) == before
    return shown


@remedy("give their folders to include them in a report", slow=True)
def evaluated_runs_of_an_earlier_plan(swept: Any, toy: Any, desk: Desk, sweeps: Command) -> str:
    sweeps("--set", "module.num_epochs=1")
    shown = desk.run("launch/aggregate.py runs/toy").text
    desk.works("launch/aggregate.py runs/toy", str(swept.layout.folder), "--out", "both")
    assert swept.layout.run_id in Path("both/volume.csv").read_text()
    return " ".join(shown.split())


@remedy("launch/sweep.py writes it")
@remedy("give {}", of="nothing to report", slow=True)
def nothing_to_report(toy: Any, desk: Desk, sweeps: Command) -> str:
    Path("runs/toy").mkdir(parents=True)
    shown = desk.refused("launch/aggregate.py runs/toy") + desk.refused("launch/aggregate.py none nothing")
    sweeps()
    desk.works("launch/aggregate.py runs/toy")
    (run,) = (path.parent for path in Path("runs/toy").glob("*/status.json"))
    for given in (str(run), *map(str, run.glob("eval/*")), "'runs/toy/toy-*'"):
        desk.works(f"launch/aggregate.py {given} --out all")
    return " ".join(shown.split())


@remedy("give the experiment file, or the folder of its runs below runs/")
def no_such_experiment(swept: Any, desk: Desk) -> str:
    shown = desk.refused("launch/status.py other.yaml")
    for given in ("toy.yaml", "runs/toy"):
        assert "1 done" in desk.works(f"launch/status.py {given}")
    return shown
