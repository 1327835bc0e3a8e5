"""The end of a batch script: keep the work's exit code, and requeue a job that saved and wants to go on. Pure text.

Only the batch script requeues, never the work: inside a signal handler a requeue would resurrect a cancelled job, and
the work may run in a container without scontrol.
"""

import shlex
from pathlib import Path

from sam2ft.runs.attempt.claim import MAX_RESTARTS

# 12 x 10 s: a controller that is being restarted. A refusal is not asked again.
_TRIES, _PAUSE_S = 12, 10


def requeue_setup(max_restarts: int) -> list[str]:
    """Lines before srun: with them the work knows its last restart, and a failing srun still reaches the tail."""
    return [f"export {MAX_RESTARTS}={max_restarts}", "set +e"]


def requeue_tail(folder: Path, *, max_restarts: int) -> list[str]:
    """Lines after srun, of every task array whose runs lie in `folder` (absolute); pass nothing behind them.

    A run that stopped leaves `<run>/requeue.json` with the attempt; the job's id and restart count choose the marker,
    so that one left by an earlier restart or another element means nothing. Slurm must still call the job RUNNING, and
    this its newest restart: after scancel it does not, and in the grace time of a preemption it does. (srun's code
    decides nothing: with --kill-on-bad-exit it may be 143 instead of 75.)
    """
    return [
        *_marker_of_this_restart(folder),
        'say() { echo "sam2ft: job $job saved and is to be continued; $1"; }',
        'later="the next make sweep continues it"',
        f'if [ "$restart" -ge {max_restarts} ]; then',
        f'  say "no restart left ($restart of {max_restarts}), $later"',
        "elif ! command -v squeue >/dev/null || ! command -v scontrol >/dev/null; then",
        '  say "squeue or scontrol is missing on $(hostname), $later"',
        "else",
        f"  for try in $(seq {_TRIES}); do",
        '    state=""; count=""',
        '    read -r state count <<< "$(squeue -h -j "$job" -O State:30,RestartCnt:12 2>/dev/null)"',
        '    if [ -z "$state" ]; then',
        '      say "no answer from squeue (try $try)"',
        '    elif [ "$state" != RUNNING ] || [ "$count" != "$restart" ]; then',
        '      say "not requeued: it is $state (restart $count) by now"',
        "      break",
        '    elif answer=$(scontrol requeue "$job" 2>&1); then',
        f'      say "requeued after restart $restart of {max_restarts}"',
        # Slurm ends this script; an exit before that would be taken for the job's end.
        "      sleep 60",
        "      break",
        "    else",
        '      say "scontrol requeue: $answer (try $try)"',
        '      case "$answer" in *[Dd]isabled*|*[Dd]enied*|*[Ii]nvalid*) say "$later"; break ;; esac',
        "    fi",
        f"    sleep {_PAUSE_S}",
        "  done",
        "fi",
        'exit "$rc"',
    ]


def _marker_of_this_restart(folder: Path) -> list[str]:
    """Keeps the work's code in `rc`, and ends with it unless there is a marker; sets `job` and `restart`."""
    markers = f"{shlex.quote(str(folder))}/*/requeue.json"
    return [
        "rc=$?",
        "set +eu",
        'job="$SLURM_JOB_ID"',
        # An element, never the array: the raw id of its last element is the id of the whole array.
        'if [ -n "$SLURM_ARRAY_JOB_ID" ]; then job="${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"; fi',
        'restart="${SLURM_RESTART_COUNT:-0}"',
        'marker=""',
        f"for file in {markers}; do",
        '  if grep -qsF "\\"job\\": \\"$job\\"" "$file" && grep -qsF "\\"restart\\": $restart," "$file"; then',
        '    marker="$file"',
        "  fi",
        "done",
        'if [ -z "$marker" ]; then exit "$rc"; fi',
    ]
