"""What points took, and in which settings they differ."""

from types import SimpleNamespace
from typing import Any

from sam2ft.report.page.point_facts import MOST_COLUMNS, MOST_VALUES, costs_of, differences_of


class Config:
    """What is read of an experiment: its values as plain JSON."""

    def __init__(self, **values: Any):
        self.values = values

    def model_dump(self, mode: str) -> dict[str, Any]:
        assert mode == "json"
        return self.values


def state(name: str, hours: float | None = None) -> Any:
    return SimpleNamespace(planned=SimpleNamespace(run_id=f"run-{name}", name=name), gpu_hours_used=hours)


def test_time_is_that_of_all_epochs_and_hours_are_those_of_the_accounting() -> None:
    epochs = [{"epoch": 0.0, "seconds": 60.0}, {"epoch": 1.0, "seconds": 45.0}]
    found = costs_of([state("a", 1.5), state("b"), state("c", 0.0), state("d")], {"a": epochs, "d": epochs})
    assert set(found) == {"run-a", "run-c", "run-d"}
    assert (found["run-a"].training_s, found["run-a"].gpu_hours, found["run-a"].num_epochs) == (105.0, 1.5, 2)
    assert (found["run-c"].training_s, found["run-c"].training_text, found["run-c"].gpu_hours) == (None, "–", 0.0)
    assert (found["run-d"].gpu_hours, found["run-d"].training_text) == (None, "1m45s")


def test_an_epoch_without_a_time_gives_no_sum() -> None:
    """A sum over the others would be too short without a word."""
    rows = [{"epoch": 0.0, "seconds": 60.0}, {"epoch": 1.0}]
    assert costs_of([state("a", 1.0)], {"a": rows})["run-a"].training_s is None


def test_only_settings_that_differ_are_listed_nested_and_missing_ones_too() -> None:
    found = differences_of(
        {
            "one": Config(lr=0.1, model={"size": 256, "lora": None}, augmentation=[{"type": "RandFlip"}]),
            "two": Config(lr=0.1, model={"size": 512, "lora": {"rank": 4}}, augmentation=[{"type": "RandFlip"}]),
        }
    )
    assert {one.key: one.of_points for one in found.settings} == {
        "model.size": ("256", "512"),
        "model.lora": ("null", "–"),
        "model.lora.rank": ("–", "4"),
    }
    assert found.points == ("one", "two")


def test_of_many_points_values_are_counted() -> None:
    many = {f"p{i}": Config(lr=i, seed=i % 2, same=1) for i in range(MOST_COLUMNS + 6)}
    found = differences_of(many)
    lr, seed = found.settings
    assert found.points == ()
    assert dict(seed.values) == {"0": (MOST_COLUMNS + 6) // 2, "1": (MOST_COLUMNS + 6) // 2}
    assert (len(lr.values), lr.num_values) == (MOST_VALUES, MOST_COLUMNS + 6)


def test_equal_points_and_a_single_one_do_not_differ() -> None:
    assert not differences_of({"a": Config(lr=1), "b": Config(lr=1)})
    assert not differences_of({"a": Config(lr=1)})
    assert not differences_of({})
