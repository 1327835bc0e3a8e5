from pathlib import Path

from sam2ft.core.keys import VolumeKey
from sam2ft.runs.layout import ExperimentLayout, foreign_evaluation, scored_evaluation


def test_every_path_of_a_run_lies_in_its_folder():
    run = ExperimentLayout.of("lr_grid").run("lr_grid-0123456789abcdef")
    assert run.folder == Path("runs/lr_grid/lr_grid-0123456789abcdef")
    assert run.run_id == "lr_grid-0123456789abcdef"
    assert run.best == run.folder / "checkpoints" / "best.pt"
    assert run.resume(12) == run.folder / "checkpoints" / "000000012.safetensors"
    evaluation = run.evaluation("0123456789ab")
    assert evaluation.table("slice") == run.folder / "eval" / "0123456789ab" / "slice.csv"
    assert evaluation.success.parent == evaluation.folder


def test_an_experiment_or_subject_cannot_leave_its_folder():
    assert ExperimentLayout.of("../x").folder.parent == Path("runs")
    key = VolumeKey("..", "a/b", "v")
    for path in (scored_evaluation("scored-1").part(key, "slice"), scored_evaluation("scored-1").prediction(key)):
        assert ".." not in path.parts
        assert path.name.startswith("a%2Fb__v")


def test_volumes_of_different_stores_and_names_have_different_parts():
    layout = foreign_evaluation("abc", "def")
    keys = [VolumeKey("a", "s", "v"), VolumeKey("b", "s", "v"), VolumeKey("a", "s", "w"), VolumeKey("a", "s__v", "w")]
    assert len({layout.part(key, "slice") for key in keys}) == len(keys)
    assert layout.part_done(keys[0]).suffix == ".json"
