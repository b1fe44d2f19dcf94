#!/usr/bin/env bash
# One training on the GPUs of several machines under SLURM: one task per GPU, found by jax.distributed.
#   sbatch --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 launch/train_slurm.sh \
#       configs/pretrain_32.py DIR [--config.key=value ...]
# DIR must lie on a file system that all machines see. A job that ran out of time is submitted again with the same
# command, also on another number of GPUs: it resumes at its last checkpoint.
#SBATCH --job-name=polymicros-train
#SBATCH --cpus-per-task=4
#SBATCH --time=24:00:00
#SBATCH --requeue
set -euo pipefail
config=$1 workdir=$2
shift 2
# A task that fails must end the others, which would wait for it.
exec srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --kill-on-bad-exit=1 \
  "${PYTHON:-python}" -m polymicros_jax.main --config="$config" --workdir="$workdir" "$@"
