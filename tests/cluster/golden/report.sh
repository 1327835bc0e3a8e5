#!/bin/bash

# Parameters
#SBATCH --account=lab
#SBATCH --constraint=a100
#SBATCH --cpus-per-task=1
#SBATCH --dependency=afterany:100:101
#SBATCH --job-name=s2ft-toy-0123456789ab-1-report
#SBATCH --mem=4096MB
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
exit $rc