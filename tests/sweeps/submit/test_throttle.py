"""`scontrol update ArrayTaskThrottle`, as a Slurm 22.05 answers it."""

import os
import stat

import pytest

from sam2ft.core.errors import UserError
from sam2ft.sweeps.submit.records import Record, RecordedArray, RecordedReport, RecordedRun, write_record
from sam2ft.sweeps.submit.throttle import throttle


@pytest.fixture
def scontrol(workplace, monkeypatch):
    """scontrol(line): an array 42 of three elements, of which two are left, and a scontrol that does `line`."""
    plan, folder = workplace.plan(), workplace.folder / "programs"
    folder.mkdir()
    runs = tuple(RecordedRun(run.index, run.run_id, run.eval_ids) for run in plan.runs)
    arrays = (RecordedArray("t", "train", "42", "", runs),)
    write_record(workplace.layout, Record(1, plan.plan_id, "here", "", arrays, RecordedReport("r", "43")))

    def write(line):
        queue = 'echo "42_1|RUNNING|None|n1|(null)|N/A"; echo "42_2|PENDING|None||(null)|N/A"'
        for name, text in {"scontrol": line, "squeue": queue, "sbatch": ""}.items():
            (folder / name).write_text(f'#!/bin/sh\n[ {name} = scontrol ] && echo "$@" >> {folder}/asked\n{text}\n')
            (folder / name).chmod(stat.S_IRWXU)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin:/bin")
        return folder / "asked"

    return write


def test_elements_that_have_ended_are_no_error(workplace, scontrol):
    asked = scontrol("printf '42_0: Job has already finished\\n42_1-2: No error\\n' >&2; exit 1")
    assert throttle(workplace.layout, 1) == ("array 42 (train, 2 left): 1 at once",)
    assert asked.read_text() == "update JobId=42 ArrayTaskThrottle=1\n"


@pytest.mark.parametrize("answer", ["echo 'slurm_update error: Access denied' >&2; exit 1", "exit 1"])
def test_a_refusal_is_one(workplace, scontrol, answer):
    scontrol(answer)
    with pytest.raises(UserError, match="ArrayTaskThrottle=1"):
        throttle(workplace.layout, 1)
