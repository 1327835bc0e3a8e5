#!/bin/bash

# Parameters
#SBATCH --account=lab
#SBATCH --constraint=a100
#SBATCH --cpus-per-task=1
#SBATCH --job-name=s2ft-toy-0123456789ab-1-1
#SBATCH --mem=1024MB
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/home/user/runs/toy/submissions/1/%j_0_log.out
#SBATCH --partition=gpu
#SBATCH --requeue
#SBATCH --signal=USR2@120
#SBATCH --time=60
#SBATCH --wckey=submitit

# setup
module load cuda
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
export OMP_NUM_THREADS=1

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /home/user/runs/toy/submissions/1/%j_%t_log.out --export=ALL --kill-on-bad-exit=1 python -u -m submitit.core._submit /home/user/runs/toy/submissions/1


# teardown
rc=$?
job=$SLURM_JOB_ID
if [ -n "$SLURM_ARRAY_JOB_ID" ]; then job=${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}; fi
marker=$(grep -lF "\"job\": \"$job\"" /home/user/runs/toy/*/requeue.json 2>/dev/null | head -n 1)
if [ -n "$marker" ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 20 ] \
    && [ "$(squeue -h -j "$job" -o %T)" = RUNNING ]; then
  rm -f "$marker"
  scontrol requeue "$job"
  sleep 60
fi
exit $rc