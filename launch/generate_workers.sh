#!/usr/bin/env bash
# A dataset by several processes on one machine, each making its share; killed ones are simply started again.
#   launch/generate_workers.sh WORKERS configs/generate_128.py runs/generate_128 [--config.key=value ...]
set -euo pipefail
workers=$1 config=$2 folder=$3
shift 3
processes=()
for ((worker = 0; worker < workers; worker++)); do
  "${PYTHON:-python}" -m polymicros_jax.main --config="$config" --workdir="$folder/worker_${worker}_of_$workers" \
    --config.generate.directory="$folder/dataset" \
    --config.generate.workers="$workers" --config.generate.worker="$worker" "$@" &
  processes+=($!)
done
failed=0
for process in "${processes[@]}"; do wait "$process" || failed=1; done
exit "$failed"
