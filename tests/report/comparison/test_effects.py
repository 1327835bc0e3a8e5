"""Seeds, main effects and learning curves of a sweep."""

import pytest

from sam2ft.report.comparison.compare import PointRun, compare
from sam2ft.report.comparison.effects import SUBJECTS, learning_curves, main_effects, seed_groups


@pytest.fixture
def swept(global_row):
    """A comparison of points given as (overrides, validation, test mean)."""

    def make(*entries):
        points, rows = [PointRun(None, "baseline", "base")], [global_row("base", 0.1)]
        for index, (overrides, validation, mean) in enumerate(entries):
            pairs = tuple(overrides.items())
            points.append(PointRun(index, f"p{index}", f"run-{index}", pairs, validation=validation))
            if mean is not None:
                rows.append(global_row(f"run-{index}", mean, ci_low=mean - 0.1, ci_high=mean + 0.1))
        return compare(points, rows)

    return make


def test_points_that_differ_in_the_seed_alone_are_one_group(swept):
    comparison = swept(
        ({"lr": 0.1, "experiment.seed": 1}, 0.5, 0.70),
        ({"lr": 0.1, "experiment.seed": 2}, 0.3, 0.80),
        ({"lr": 0.2, "experiment.seed": 1}, 0.2, 0.90),
    )
    (group,) = seed_groups(comparison)
    assert (group.name, group.runs) == ("lr=0.1", ("run-0", "run-1"))
    assert group.scores["dice_slice_mean"].mean == pytest.approx(0.75)
    assert group.scores["dice_slice_mean"].sd == pytest.approx(0.1 / 2**0.5)
    assert group.validation.mean == pytest.approx(0.4)


def test_a_sweep_without_seeds_has_no_groups(swept):
    assert seed_groups(swept(({"lr": 0.1}, 0.5, 0.7), ({"lr": 0.2}, 0.5, 0.8))) == ()


def test_a_main_effect_is_the_mean_over_all_points_of_a_value(swept):
    comparison = swept(
        ({"lr": 0.1, "wd": 0}, 0.5, 0.6),
        ({"lr": 0.1, "wd": 1}, 0.4, 0.8),
        ({"lr": 0.2, "wd": 0}, 0.3, 0.7),
        ({"lr": 0.2, "wd": 1}, None, None),
    )
    by_lr, by_wd = main_effects(comparison)
    assert [(level.value, level.scores.n) for level in by_lr.levels] == [("0.1", 2), ("0.2", 1)]
    assert by_lr.levels[0].scores.mean == pytest.approx(0.7)
    assert by_lr.levels[1].scores.sd is None
    assert [level.scores.mean for level in by_wd.levels] == pytest.approx([0.65, 0.8])


def test_a_setting_with_one_value_has_no_effect_to_show(swept):
    assert [
        effect.key for effect in main_effects(swept(({"lr": 1, "wd": 0}, 1, 0.6), ({"lr": 2, "wd": 0}, 1, 0.8)))
    ] == ["lr"]


def test_a_setting_that_only_some_points_have_is_compared_among_those(swept):
    comparison = swept(
        ({"type": "SGD", "momentum": 0}, 1, 0.4),
        ({"type": "SGD", "momentum": 0.9}, 1, 0.6),
        ({"type": "AdamW"}, 1, 0.9),
    )
    effects = {effect.key: effect for effect in main_effects(comparison)}
    assert [level.value for level in effects["momentum"].levels] == ["0", "0.9"]
    assert [level.scores.n for level in effects["type"].levels] == [2, 1]


def test_a_learning_curve_runs_over_the_number_of_subjects(swept):
    comparison = swept(({SUBJECTS: 10}, 1, 0.7), ({SUBJECTS: "full"}, 1, 0.9), ({SUBJECTS: 5}, 1, 0.6))
    (curve,) = learning_curves(comparison, {"run-1": 42})
    assert [(point.num_subjects, point.score.mean) for point in curve.points] == [(5, 0.6), (10, 0.7), (42, 0.9)]
    # Of four subjects (sd 0.1) the interval is Student's t: 3.1824 x 0.1 / 2 on both sides.
    reach = 3.182446 * 0.1 / 2
    assert (curve.points[0].low, curve.points[0].high) == (pytest.approx(0.6 - reach), pytest.approx(0.6 + reach))


def test_learning_curves_are_apart_by_the_other_settings_and_joined_over_seeds(swept):
    entries = [
        ({SUBJECTS: size, "lr": lr, "experiment.seed": seed}, 1, size / 100 + lr + seed / 1000)
        for size in (10, 20)
        for lr in (0.1, 0.2)
        for seed in (1, 3)
    ]
    curves = learning_curves(swept(*entries), {})
    assert [curve.name for curve in curves] == ["lr=0.1", "lr=0.2"]
    assert curves[0].points[0].score.mean == pytest.approx(0.10 + 0.1 + 0.002)
    assert [point.score.n for point in curves[0].points] == [2, 2]


def test_full_of_unknown_size_and_a_single_size_make_no_curve(swept):
    comparison = swept(({SUBJECTS: 10}, 1, 0.7), ({SUBJECTS: "full"}, 1, 0.9))
    assert learning_curves(comparison, {}) == ()


FOLD = "dataset.knee.fold"


def test_points_that_differ_in_the_fold_alone_are_one_group_and_not_of_several_settings(swept):
    comparison = swept(
        *(({"lr": lr, FOLD: fold}, 0.1 * fold + lr, 0.5 + 0.1 * fold) for lr in (0.1, 0.2) for fold in range(3))
    )
    first, second = seed_groups(comparison)
    assert (first.name, first.repeated, first.runs) == ("lr=0.1", ("fold",), ("run-0", "run-1", "run-2"))
    assert second.name == "lr=0.2"
    assert first.scores["dice_slice_mean"].mean == pytest.approx(0.6)
    assert first.validation.mean == pytest.approx(0.2)


def test_seeds_and_folds_are_one_group_where_both_are_swept(swept):
    comparison = swept(
        *(({FOLD: fold, "experiment.seed": seed}, 0.1, 0.5) for fold in range(2) for seed in range(3))
    )  # fmt: skip
    (group,) = seed_groups(comparison)
    assert (len(group.runs), group.repeated) == (6, ("seed", "fold"))


def test_a_key_that_is_called_fold_but_is_no_fold_of_a_dataset_is_a_setting(swept):
    assert seed_groups(swept(({"module.fold": 0}, 0.5, 0.7), ({"module.fold": 1}, 0.5, 0.8))) == ()


def test_settings_are_chosen_by_their_mean_over_folds_and_never_by_one_fold(swept):
    # The lowest value of all is in the setting with the worse mean.
    comparison = swept(
        ({"lr": 0.1, FOLD: 0}, 0.01, 0.9),
        ({"lr": 0.1, FOLD: 1}, 0.99, 0.9),
        ({"lr": 0.2, FOLD: 0}, 0.30, 0.8),
        ({"lr": 0.2, FOLD: 1}, 0.20, 0.8),
    )
    assert comparison.best == "run-2"
    assert comparison.choice.startswith(
        "lowest mean val_loss over 2 folds among 2 of 2 settings, for which fold 0 stands"
    )


def test_a_setting_that_lacks_a_fold_is_no_candidate(swept):
    comparison = swept(
        ({"lr": 0.1, FOLD: 0}, 0.01, 0.9),
        ({"lr": 0.2, FOLD: 0}, 0.30, 0.8),
        ({"lr": 0.2, FOLD: 1}, 0.20, 0.8),
    )
    assert comparison.best == "run-1"
    assert "among 1 of 2 settings" in comparison.choice
    apart = swept(({"lr": 0.1, FOLD: 0}, 0.01, 0.9), ({"lr": 0.2, FOLD: 1}, 0.30, 0.8))
    assert (apart.best, apart.choice) == (
        None,
        "no setting has finished on every fold, so none is called the best",
    )


def test_folds_of_one_setting_are_repetitions_and_no_rivals(swept):
    comparison = swept(({FOLD: 0}, 0.3, 0.7), ({FOLD: 1}, 0.1, 0.9))
    assert comparison.best == "run-0"
    assert comparison.chosen == "best point: fold 0 stands for the only setting (mean val_loss over 2 folds: 0.2)"


def test_no_fold_is_fold_0(swept):
    comparison = swept(({"lr": 0.1, FOLD: None}, 0.3, 0.7), ({"lr": 0.2, FOLD: 0}, 0.1, 0.9))
    assert comparison.best == "run-1"
