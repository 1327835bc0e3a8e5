"""Several checkpoints in one pass: each as alone, every slice read once, and what is refused."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sam2ft.core.errors import ProblemsError, UserError
from sam2ft.core.tables.rows import read_csv
from sam2ft.data.samples import evaluation_slices
from sam2ft.evaluation import run
from sam2ft.evaluation.checkpoints import CheckpointRequest, evaluate_checkpoint
from sam2ft.evaluation.compare import compare_checkpoints
from sam2ft.evaluation.compare_table import COMPARE, comparison_lines

pytestmark = pytest.mark.sam2
QUICK = ("eval.qc_slices=0", "eval.precision=fp32", "module.image_size=64")


@pytest.fixture
def two(toy) -> list[str]:
    """Two checkpoints of the toy's size; the second one's decoder is disturbed."""
    first, second = load_file(toy.weights), load_file(toy.weights)
    generator = torch.Generator().manual_seed(0)
    for key in [key for key in second if key.startswith("sam_mask_decoder.output_hypernetworks")]:
        second[key] = second[key] + 0.3 * torch.randn(second[key].shape, generator=generator)
    for name, state in (("one", first), ("two", second)):
        torch.save({"model": state}, toy.folder / f"{name}.pt")
    return ["one.pt", "two.pt"]


def request(toy, *more: str, out: Path | None = None) -> CheckpointRequest:
    return CheckpointRequest(Path(), (toy.store,), overrides=(*QUICK, *more), out=out)


def alone(toy, name: str, *more: str) -> Path:
    return evaluate_checkpoint(CheckpointRequest(Path(name), (toy.store,), overrides=(*QUICK, *more))).folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of an evaluation."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("protocol", ["box", "point"])
def test_each_evaluation_is_to_the_byte_what_it_is_alone(toy, two, protocol):
    more = (f"eval.protocol={protocol}",)
    single = [contents(alone(toy, name, *more)) for name in two]
    assert single[0]["slice.csv"] != single[1]["slice.csv"]
    shutil.rmtree("runs")
    compare_checkpoints(two, request(toy, *more))
    folders = sorted(path.parent for path in Path("runs/_foreign").rglob("_SUCCESS"))
    together = [contents(folder) for folder in folders]
    assert sorted(single, key=repr) == sorted(together, key=repr)


def test_the_table_is_of_the_evaluations_numbers_and_the_first_has_no_difference(toy, two):
    found = compare_checkpoints(two, request(toy, out=Path("out")))
    rows = read_csv(found.table, COMPARE)
    assert found.table == Path("out/compare.csv")
    assert {row["checkpoint"]: row["file"] for row in rows} == {1: "one.pt", 2: "two.pt"}
    own = {path.parent.name.split("-")[1]: path.parent for path in Path("out").rglob("_SUCCESS")}
    assert len(own) == 2
    dice = {(row["checkpoint"], row["label_name"]): row for row in rows if row["measure"] == "dice"}
    for name in ("disc", "bar", "mean_of_labels"):
        first, second = dice[1, name], dice[2, name]
        assert first["difference"] is None
        assert second["difference"] == pytest.approx(second["mean"] - first["mean"])
        assert second["n_paired"] == 2
        assert second["p_wilcoxon"] in (0.5, 1.0)
    lines = comparison_lines(found.rows)
    assert lines[0].startswith("1: one.pt (foreign-")
    assert lines[2].startswith("dice, mean ± sd")
    assert [line.split()[0] for line in lines[3:]] == ["disc", "bar", "mean_of_labels", "CI:"]


def test_every_slice_is_resized_once_for_models_of_one_size(toy, two, monkeypatch):
    made = []
    original = evaluation_slices.to_model_frame

    def counting(image, image_size):
        made.append(image_size)
        return original(image, image_size)

    monkeypatch.setattr(evaluation_slices, "to_model_frame", counting)
    alone(toy, "one.pt")
    of_one = len(made)
    shutil.rmtree("runs")
    made.clear()
    compare_checkpoints([*two, "two.pt,module.image_size=96"], request(toy))
    assert (made.count(64), made.count(96)) == (of_one, of_one)


def test_a_comparison_goes_on_where_one_of_its_evaluations_is_done(toy, two):
    alone(toy, "one.pt")
    before = {path: path.stat().st_mtime_ns for path in Path("runs/_foreign").rglob("*.csv")}
    compare_checkpoints(two, request(toy))
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_one_that_has_some_volumes_takes_only_the_others(toy, two, monkeypatch):
    """The first checkpoint was interrupted after one of its two volumes."""

    class Stop:
        requested = True

    with pytest.raises(Exception, match="stopped as asked after 1 of 2 volumes"):
        evaluate_checkpoint(CheckpointRequest(Path("one.pt"), (toy.store,), overrides=QUICK), Stop())
    asked = []
    original = run.evaluate_volumes

    def watching(works, *others):
        asked.extend(len(work.missing) for work in works)
        return original(works, *others)

    monkeypatch.setattr(run, "evaluate_volumes", watching)
    together = compare_checkpoints(two, request(toy))
    assert asked == [1, 2]
    shutil.rmtree("runs")
    assert compare_checkpoints(two, request(toy)).rows == together.rows


def test_a_run_and_a_foreign_checkpoint_are_compared_on_the_runs_own_data(finished, two):
    found = compare_checkpoints([str(finished.layout.best), "two.pt"], CheckpointRequest(Path(), overrides=QUICK))
    assert {row["run"] for row in found.rows} >= {finished.layout.run_id}
    assert finished.layout.best.name in comparison_lines(found.rows)[0]


@pytest.mark.parametrize(
    ("checkpoints", "error", "message"),
    [
        (["one.pt"], UserError, "--compare needs two checkpoints or more; found one.pt"),
        (["one.pt", "one.pt"], UserError, "one.pt: is given twice with the same settings"),
        (["one.pt", "none.pt"], UserError, "none.pt: no such file"),
        (["one.pt", "two.pt,eval.protocol=point"], UserError, "two.pt: its own settings change how it is evaluated"),
        (["one.pt", "two.pt,eval.split=val"], UserError, "two.pt: its own settings change how it is evaluated"),
        (["one.pt", "two.pt,module.imagesize=64"], ProblemsError, "did you mean"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_happens(toy, two, checkpoints, error, message):
    with pytest.raises(error, match=message):
        compare_checkpoints(checkpoints, request(toy))
    assert not Path("runs").exists()
