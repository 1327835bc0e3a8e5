#!/bin/bash

# Parameters
#SBATCH --account=lab
#SBATCH --constraint=a100
#SBATCH --cpus-per-task=1
#SBATCH --dependency=afterany:100:101
#SBATCH --job-name=s2ft-toy-01234567-1-abcdef-report
#SBATCH --mem=4096MB
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/home/user/runs/toy/submissions/1/%j_0_log.out
#SBATCH --partition=gpu
#SBATCH --requeue
#SBATCH --signal=USR2@90
#SBATCH --time=60

# setup
ulimit -n 4096
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
export OMP_NUM_THREADS=1
export SLURM_BITSTR_LEN=0

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /home/user/runs/toy/submissions/1/%j_%t_log.out --export=ALL --kill-on-bad-exit=1 python -u -P -m sam2ft.sweeps.state.collect /home/user/runs/toy ed2b9c7c51b3


# teardown
rc=$?
exit "$rc"
