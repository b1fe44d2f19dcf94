"""One process of a training by config, with a network of a few numbers in the UNet's place.

Run as a program by test_distributed, once per process: ``training_process.py FOLDER STOP``. Stops like a killed one at
step STOP, and prints the rows it made at each step.
"""

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from polymicros_jax import config as defaults
from polymicros_jax import tasks
from polymicros_jax import train as loop
from polymicros_jax.data.patches import MemoryFields
from polymicros_jax.models import unet3d
from polymicros_jax.training import distributed
from polymicros_jax.training.step import build_step

objects = importlib.import_module("polymicros_jax.experiment.training")  # the package has a function of this name
STEPS, BATCH, CHECKPOINT = 6, 8, 3
FIELD = np.random.default_rng(0).normal(size=(9, 8, 8, 9)).astype(np.float32)


_PROGRAMS: dict[Mesh | None, Callable[..., Any]] = {}  # all runs of a process share one compiled step


class Stopped(Exception):
    """Stands for a kill."""


def config() -> ConfigDict:
    """A training with everything that draws random numbers on the device: noise, rotations, parts."""
    whole = defaults.default("train")
    train = whole.train
    train.volumes = (defaults.volume("in100/train"),)
    train.patch, train.symmetries, train.checkpoint_every = 8, False, CHECKPOINT
    # EDM's own skip: with a smaller one the random network's answer at the lowest noise would be most of the loss,
    # and hide which rows it was made of.
    train.sigma_skip = 0.0
    train.optimisation.update({"steps": STEPS, "batch": BATCH, "accumulate": 2, "warmup": 0, "learning_rate": 0.05})
    return whole


def init(key: jax.Array, network: unet3d.UNet3DConfig) -> dict[str, jax.Array]:
    return {"mix": jax.random.normal(key, (network.channels, network.channels)), "slope": jnp.zeros(network.channels)}


def apply(
    network: unet3d.UNet3DConfig, params: dict[str, jax.Array], x: jax.Array, c_noise: Any, *, padding: str
) -> jax.Array:
    level = jnp.asarray(c_noise).reshape(-1, 1, 1, 1, 1)
    return jnp.einsum("bxyzh,hg->bxyzg", x, params["mix"]) + level * params["slope"].reshape(1, 1, 1, 1, -1)


def run(folder: Path, stop: int = STEPS) -> list[tuple[int, int, int]]:
    """Runs the task until ``stop``; returns (step, first row, rows) of what this process made."""
    made, batch, train = [], loop.batch, loop.train

    def build(*arguments: Any, mesh: Mesh | None, **options: Any) -> Callable[..., Any]:
        if mesh not in _PROGRAMS:
            _PROGRAMS[mesh] = build_step(*arguments, mesh=mesh, **options)
        return _PROGRAMS[mesh]

    def recorded(source: MemoryFields, *, step: int, first: int = 0, count: int, **options: Any) -> np.ndarray:
        if step >= stop:
            raise Stopped
        made.append((step, first, count))
        return batch(source, step=step, first=first, count=count, **options)

    with (
        mock.patch.object(unet3d, "init", init),
        mock.patch.object(unet3d, "apply", apply),
        mock.patch.object(objects, "fields", return_value=MemoryFields((FIELD,))),
        mock.patch.object(loop, "batch", recorded),
        mock.patch.object(loop, "build_step", build),
        mock.patch.object(loop, "train", lambda *args, **options: train(*args, **options, log_every=1)),
    ):
        try:
            tasks.run(config(), folder)
        except Stopped:
            assert stop < STEPS
    return made


if __name__ == "__main__":
    distributed.join(distributed.requested(os.environ))
    rows = run(Path(sys.argv[1]), int(sys.argv[2]))
    print(json.dumps({"process": jax.process_index(), "devices": jax.device_count(), "rows": rows}))
