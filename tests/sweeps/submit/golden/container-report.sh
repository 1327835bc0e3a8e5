#!/bin/bash

# Parameters
#SBATCH --cpus-per-task=2
#SBATCH --dependency=afterany:100:101
#SBATCH --job-name=s2ft-toy-01234567-1-abcdef-report
#SBATCH --mail-type=END,FAIL
#SBATCH --mail-user=someone@example.org
#SBATCH --mem=8192MB
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/home/user/runs/toy/submissions/1/%j_0_log.out
#SBATCH --partition=cpu
#SBATCH --qos=short
#SBATCH --requeue
#SBATCH --signal=USR2@90
#SBATCH --time=30
#SBATCH --wckey=knee

# setup
module load apptainer/1.3
module load cuda/12.4
export HF_HOME='/data/hf cache'
export NCCL_DEBUG=WARN
export TMPDIR="/scratch/$USER"
mkdir -p "$TMPDIR"
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
export OMP_NUM_THREADS=2
export SLURM_BITSTR_LEN=0

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /home/user/runs/toy/submissions/1/%j_%t_log.out --export=ALL --kill-on-bad-exit=1 apptainer exec --nv --bind /data /images/sam2ft.sif /opt/venv/bin/python -u -P -m sam2ft.sweeps.state.collect /home/user/runs/toy b2da1e3785e4


# teardown
rc=$?
exit "$rc"
