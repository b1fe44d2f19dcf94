#!/usr/bin/env bash
# One training on several machines without a scheduler: start this on each of them, with the same COORDINATOR and HOSTS.
#   COORDINATOR=first-host:1234 HOSTS=2 HOST=0 launch/train_hosts.sh configs/pretrain_32.py DIR [--config.key=value ...]
# HOST is 0 on the machine that COORDINATOR names, whose port must be free and open to the others, and counts on from
# there. DIR must lie on a file system that all machines see.
set -euo pipefail
config=$1 workdir=$2
shift 2
export JAX_COORDINATOR_ADDRESS=$COORDINATOR JAX_NUM_PROCESSES=$HOSTS JAX_PROCESS_ID=$HOST
exec "${PYTHON:-python}" -m polymicros_jax.main --config="$config" --workdir="$workdir" "$@"
