#!/usr/bin/env bash
# A dataset by a SLURM array: each task makes its share, none knows of the others. Tasks that were killed or ran out of
# time are simply submitted again. The folder must lie on a file system that all nodes see.
#   sbatch --array=0-63 --gpus=1 --time=24:00:00 launch/generate_slurm.sh configs/generate_128.py runs/generate_128 \
#       [--config.key=value ...]
# One task alone, of the same 64:  sbatch --array=17 --export=ALL,WORKERS=64 ... launch/generate_slurm.sh ...
#SBATCH --job-name=polymicros
#SBATCH --output=%x_%A_%a.log
set -euo pipefail
config=$1 folder=$2
shift 2
worker=$SLURM_ARRAY_TASK_ID
workers=${WORKERS:-$SLURM_ARRAY_TASK_COUNT}
exec "${PYTHON:-python}" -m polymicros_jax.main --config="$config" --workdir="$folder/worker_${worker}_of_$workers" \
  --config.generate.directory="$folder/dataset" \
  --config.generate.workers="$workers" --config.generate.worker="$worker" "$@"
