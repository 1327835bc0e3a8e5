"""The comparison of checkpoints from rows of volumes."""

import math

import numpy as np
import pytest

from sam2ft.core.tables.rows import format_csv
from sam2ft.evaluation.compare_table import COMPARE, checkpoint_rows, comparison_lines
from sam2ft.statistics.bootstrap import bootstrap_interval
from sam2ft.statistics.small_samples import t_interval

LABELS = {1: "disc", 2: "bar"}


def volume(run, subject, label, dice, status="ok"):
    counts = {"tp": round(100 * dice) if not math.isnan(dice) else 0, "fp": 0, "fn": 100, "tn": 0}
    return {
        "run": run, "eval": "e", "dataset": "knee", "subject": subject, "volume": "v", "split": "test",
        "protocol": "box", "label": label, "label_name": LABELS[label], **counts, "dice": dice, "iou": dice / 2,
        "dice_slice_mean": dice, "iou_slice_mean": dice / 2, "hd_mm": None, "hd95_mm": None, "assd_mm": None,
        "nsd": None, "volume_reference_mm3": 1.0, "volume_prediction_mm3": 1.0, "num_slices": 3, "status": status,
    }  # fmt: skip


def rows_of(run, gain, subjects=8):
    return [
        volume(run, f"s{number}", label, 0.5 + 0.01 * number + gain * (1 + number / 10))
        for number in range(subjects)
        for label in LABELS
    ]


def found(rows, checkpoint, label_name, measure="dice"):
    (row,) = [
        row
        for row in rows
        if (row["checkpoint"], row["label_name"], row["measure"]) == (checkpoint, label_name, measure)
    ]
    return row


def test_each_label_has_its_paired_difference_with_interval_and_exact_p():
    rows = checkpoint_rows([("a.pt", rows_of("a", 0.0)), ("b.pt", rows_of("b", 0.1))])
    disc = found(rows, 2, "disc")
    differences = [0.1 * (1 + number / 10) for number in range(8)]
    assert disc["difference"] == pytest.approx(sum(differences) / 8)
    low, high = bootstrap_interval(np.array(differences))
    assert (disc["difference_ci_low"], disc["difference_ci_high"]) == (pytest.approx(low), pytest.approx(high))
    assert disc["p_wilcoxon"] == pytest.approx(2 / 2**8)
    assert disc["n_paired"] == 8
    assert found(rows, 1, "disc")["p_wilcoxon"] is None


def test_p_is_corrected_over_labels_and_checkpoints_and_overall_rows_over_checkpoints():
    evaluated = [(f"{name}.pt", rows_of(name, gain)) for name, gain in (("a", 0), ("b", 0.1), ("c", 0.2))]
    rows = checkpoint_rows(evaluated)
    p = 2 / 2**8
    assert [found(rows, n, name)["p_holm"] for n in (2, 3) for name in ("disc", "bar")] == pytest.approx([4 * p] * 4)
    assert [found(rows, n, "mean_of_labels")["p_holm"] for n in (2, 3)] == pytest.approx([2 * p] * 2)


def test_subjects_that_one_lacks_are_left_out_and_counted():
    first, second = rows_of("a", 0.0), rows_of("b", 0.1)
    first[0] = volume("a", "s0", 1, math.nan, "absent")
    second[0] = volume("b", "s0", 1, 0.0, "spurious")
    rows = checkpoint_rows([("a.pt", first), ("b.pt", second)])
    disc = found(rows, 2, "disc")
    assert (disc["n"], disc["n_paired"], disc["n_spurious"]) == (8, 7, 1)


def test_the_table_can_be_written_and_read_as_text():
    rows = checkpoint_rows([("a.pt", rows_of("a", 0.0)), ("b.pt", rows_of("b", 0.1))])
    assert format_csv(COMPARE, rows).splitlines()[0].startswith("checkpoint,run,eval,dataset")
    lines = comparison_lines(rows)
    disc = found(rows, 2, "disc")
    low, high = t_interval(disc["difference"], disc["difference_sd"], 8)
    assert lines.pop() == "CI: 95 % confidence interval by Student's t, because there are fewer than 10 subjects"
    assert lines[:2] == ["1: a.pt (a, eval e)", "2: b.pt (b, eval e)"]
    assert "2 - 1 [95 % CI], p (Holm)" in lines[2]
    assert "0.535 ± 0.024 (n=8)" in lines[3]
    assert f"+0.135 [{low:+.3f}, {high:+.3f}], p=0.0" in lines[3]
    assert [line.split()[0] for line in lines[3:]] == ["disc", "bar", "mean_of_labels"]
