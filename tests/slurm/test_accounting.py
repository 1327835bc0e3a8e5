"""sacct, as a Slurm 22.05 with accounting writes it (texts/sacct.txt was taken from one)."""

import os
import stat
from pathlib import Path

import pytest

from sam2ft.slurm.accounting import FIELDS, job_ids, parse_sacct, read_accounting

TEXT = (Path(__file__).parent / "texts" / "sacct.txt").read_text()


@pytest.fixture
def accounted():
    return parse_sacct(TEXT.splitlines())


def test_states_are_slurms_words_and_codes_are_kept(accounted):
    states = {job: (known.state, known.exit_code) for job, known in accounted.items() if job.startswith("1_")}
    assert states == {
        "1_0": ("COMPLETED", "0:0"),
        "1_1": ("FAILED", "1:0"),
        "1_2": ("FAILED", "0:9"),
        "1_3": ("CANCELLED", "0:0"),
        "1_4": ("COMPLETED", "0:0"),
        "1_5": ("FAILED", "9:0"),
        "1_6": ("TIMEOUT", "0:0"),
    }
    assert (accounted["1_1"].code, accounted["1_1"].signal, accounted["1_2"].signal) == (1, 0, 9)


def test_attempts_of_a_requeued_job_are_summed(accounted):
    requeued = accounted["1_4"]
    assert [(attempt.state, attempt.nodes) for attempt in requeued.attempts] == [
        ("REQUEUED", "n3"),
        ("COMPLETED", "n1"),
    ]
    assert (requeued.restarts, requeued.elapsed_s, requeued.nodes) == (1, 6, "n1")
    assert requeued.gpu_hours == pytest.approx(6 / 3600)
    assert requeued.cpu_hours == pytest.approx(6 / 3600)
    # Preempted after 32 s with two cores, at work again for 1 s.
    assert accounted["21"].cpu_hours == pytest.approx(2 * 33 / 3600)
    assert accounted["21"].gpu_hours == 0


def test_a_job_that_waits_again_has_not_ended(accounted):
    again = accounted["20"]
    assert [attempt.state for attempt in again.attempts] == ["NODE_FAIL", "REQUEUED", "PENDING"]
    assert (again.ended, again.restarts, accounted["19"].ended) == (False, 2, True)


def test_who_cancelled_is_told_from_what_slurm_removed(accounted):
    assert (accounted["1_3"].cancelled_by, accounted["1_3"].removed, accounted["1_3"].started) == ("0", False, True)
    removed = accounted["2_1"]
    assert (removed.cancelled_by, removed.removed, removed.started) == (None, True, False)


def test_a_job_that_lasted_no_second_has_started(accounted):
    assert accounted["1_1"].elapsed_s == 0
    assert accounted["1_1"].started


def test_elements_that_wait_share_one_line(accounted):
    waiting = [job for job in accounted if job.startswith("3_")]
    assert waiting == [f"3_{task}" for task in range(81)]
    assert list(job_ids("17_[3,5-7%2]")) == ["17_3", "17_5", "17_6", "17_7"]
    assert list(job_ids("17_[0-6:3]")) == ["17_0", "17_3", "17_6"]
    assert list(job_ids("17_4")) == ["17_4"]
    assert list(job_ids("17")) == ["17"]


def test_a_typed_gpu_counts_once():
    line = "9|COMPLETED|0:0|3600|cpu=8,gres/gpu=4,gres/gpu:a100=4,mem=1G,node=2|2026-01-01T00:00:00|x|x|n[1-2]|None|t"
    assert parse_sacct([line])["9"].gpu_hours == 4
    assert parse_sacct([line.replace("gres/gpu=4,", "")])["9"].gpu_hours == 4


def test_an_old_job_of_the_same_number_and_a_name_with_the_separator_do_not_disturb():
    lines = [
        "9|COMPLETED|0:0|7200|cpu=1,node=1|2020-01-01T00:00:00|2020-01-01T00:00:00|2020-01-01T02:00:00|n1|None|other",
        "9|FAILED|1:0|60|cpu=1,node=1|2026-01-01T00:00:00|2026-01-01T00:00:00|2026-01-01T00:01:00|n1|None|a|b",
        "a line that is not ours",
    ]
    known = parse_sacct(lines)["9"]
    assert (known.state, known.elapsed_s, known.restarts) == ("FAILED", 60, 0)


def fake_sacct(folder, monkeypatch, text):
    program = folder / "sacct"
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\nenv > {folder}/environment\n{text}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin:/bin")
    return folder / "asked"


def test_sacct_is_asked_once_for_arrays_whole_in_utc(tmp_path, monkeypatch):
    (tmp_path / "text").write_text(TEXT)
    asked = fake_sacct(tmp_path, monkeypatch, f"cat {tmp_path}/text")
    known = read_accounting([*(f"1_{task}" for task in range(500)), "19", "2_0"])
    assert known["1_6"].state == "TIMEOUT"
    assert asked.read_text() == f"-X -P -D -n -o {','.join(FIELDS)} -j 1,19,2\n"
    environment = (tmp_path / "environment").read_text().splitlines()
    assert {"TZ=UTC0", "SLURM_BITSTR_LEN=0"} <= set(environment)


def test_very_many_arrays_are_asked_for_in_short_commands(tmp_path, monkeypatch):
    asked = fake_sacct(tmp_path, monkeypatch, "true")
    assert read_accounting([str(job) for job in range(10_000_000, 10_000_450)]) == {}
    lines = asked.read_text().splitlines()
    assert len(lines) == 3
    assert max(len(line) for line in lines) < 4000


@pytest.mark.parametrize("answer", ['echo "Slurm accounting storage is disabled" >&2; exit 1', "exit 1"])
def test_no_accounting_is_none_and_says_nothing(tmp_path, monkeypatch, capfd, answer):
    fake_sacct(tmp_path, monkeypatch, answer)
    assert read_accounting(["1"]) is None
    assert capfd.readouterr() == ("", "")
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert read_accounting(["1"]) is None
