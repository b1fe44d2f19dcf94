#!/usr/bin/env bash
# One training on all GPUs of one machine: a single process sees them all and splits each batch over them.
#   launch/train_multi_gpu.sh configs/pretrain_32.py runs/pretrain_32 [--config.key=value ...]
# A volume too large for one GPU is split over several along its first axis:
#   launch/train_multi_gpu.sh configs/finetune_128.py runs/finetune_128 --config.train.devices_per_sample=4
set -euo pipefail
config=$1 workdir=$2
shift 2
exec "${PYTHON:-python}" -m polymicros_jax.main --config="$config" --workdir="$workdir" "$@"
