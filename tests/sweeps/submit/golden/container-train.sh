#!/bin/bash

# Parameters
#SBATCH --array=0-1%2
#SBATCH --cpus-per-task=8
#SBATCH --exclude='n[7-9]'
#SBATCH --gres=gpu:2
#SBATCH --job-name=s2ft-toy-01234567-1-abcdef-0
#SBATCH --mem=131072MB
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --open-mode=append
#SBATCH --output=/home/user/runs/toy/submissions/1/%A_%a_0_log.out
#SBATCH --partition=gpu
#SBATCH --requeue
#SBATCH --reservation=course
#SBATCH --signal=USR2@180
#SBATCH --time=1440
#SBATCH --wckey=knee

# setup
module load apptainer/1.3
module load cuda/12.4
export HF_HOME='/data/hf cache'
export NCCL_DEBUG=WARN
export TMPDIR="/scratch/$USER"
srun --nodes=2 --ntasks=2 --ntasks-per-node=1 mkdir -p "$TMPDIR"
[ -n "${PYTORCH_CUDA_ALLOC_CONF+x}${PYTORCH_ALLOC_CONF+x}" ] || export PYTORCH_ALLOC_CONF=expandable_segments:True
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
export OMP_NUM_THREADS=8
export SLURM_BITSTR_LEN=0
export SAM2FT_MAX_RESTARTS=5
set +e

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /home/user/runs/toy/submissions/1/%A_%a_%t_log.out --export=ALL --kill-on-bad-exit=1 apptainer exec --nv --bind /data /images/sam2ft.sif /opt/venv/bin/python -u -P -m sam2ft.jobs.job /home/user/runs/toy/submissions/1/s2ft-toy-01234567-1-abcdef-0.json "${SLURM_ARRAY_TASK_ID}"


# teardown
rc=$?
set +eu
job="$SLURM_JOB_ID"
if [ -n "$SLURM_ARRAY_JOB_ID" ]; then job="${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"; fi
restart="${SLURM_RESTART_COUNT:-0}"
marker=""
for file in /home/user/runs/toy/*/requeue.json; do
  if grep -qsF "\"job\": \"$job\"" "$file" && grep -qsF "\"restart\": $restart," "$file"; then
    marker="$file"
  fi
done
if [ -z "$marker" ]; then exit "$rc"; fi
say() { echo "sam2ft: job $job saved and is to be continued; $1"; }
later="the next make sweep continues it"
if [ "$restart" -ge 5 ]; then
  say "no restart left ($restart of 5), $later"
elif ! command -v squeue >/dev/null || ! command -v scontrol >/dev/null; then
  say "squeue or scontrol is missing on $(hostname), $later"
else
  for try in $(seq 12); do
    state=""; count=""
    read -r state count <<< "$(squeue -h -j "$job" -O State:30,RestartCnt:12 2>/dev/null)"
    if [ -z "$state" ]; then
      say "no answer from squeue (try $try)"
    elif [ "$state" != RUNNING ] || [ "$count" != "$restart" ]; then
      say "not requeued: it is $state (restart $count) by now"
      break
    elif answer=$(scontrol requeue "$job" 2>&1); then
      say "requeued after restart $restart of 5"
      sleep 60
      break
    else
      say "scontrol requeue: $answer (try $try)"
      case "$answer" in *[Dd]isabled*|*[Dd]enied*|*[Ii]nvalid*) say "$later"; break ;; esac
    fi
    sleep 10
  done
fi
exit "$rc"
