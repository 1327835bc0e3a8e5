"""Requeueing: the shell lines of a batch script that requeue a job that was stopped and saved. Pure text.

The lines after srun keep the exit code of the work and requeue a job whose run is to be continued. Only the batch
script requeues, never the work itself: a requeue inside a signal handler would start a cancelled job again, and the
work may run in a container without scontrol.
"""

import shlex
from pathlib import Path

from sam2ft.runs.attempt.claim import MAX_RESTARTS

# 12 x 10 s: enough for a controller that is being restarted. A refused requeue is not tried again.
_TRIES, _PAUSE_S = 12, 10


def requeue_setup(max_restarts: int) -> list[str]:
    """Return the lines before srun: the work reads its restart limit, and a failing srun still reaches the tail."""
    return [f"export {MAX_RESTARTS}={max_restarts}", "set +e"]


def requeue_tail(folder: Path, *, max_restarts: int) -> list[str]:
    """Return the lines after srun for the jobs whose runs are in `folder` (absolute); no line may follow them.

    A run that was stopped writes the marker `<run>/requeue.json` with its attempt. Only a marker with this job's id and
    restart count is used, so that a marker of an earlier restart or of another element has no effect. Slurm must still
    report the job as RUNNING with this restart count: after scancel it does not, during the grace time of a preemption
    it does. The exit code of srun is not used: with --kill-on-bad-exit it may be 143 instead of 75.
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
        # Slurm ends this script; if it exited before that, Slurm would count the job as ended.
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
    """Lines that keep the work's exit code in `rc`, set `job` and `restart`, and exit when there is no marker."""
    markers = f"{shlex.quote(str(folder))}/*/requeue.json"
    return [
        "rc=$?",
        "set +eu",
        'job="$SLURM_JOB_ID"',
        # The element's id: SLURM_JOB_ID of the last element equals the id of the whole array.
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
