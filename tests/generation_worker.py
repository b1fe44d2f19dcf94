"""Tiny datasets and the processes that make them, for the tests of the engine."""

import multiprocessing
import os
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from polymicros_jax.data import store as stores
from polymicros_jax.data.feasibility import Limits
from polymicros_jax.generation import generate
from polymicros_jax.models import unet3d
from polymicros_jax.training.prior import Prior

NETWORK = unet3d.UNet3DConfig(channels=9, width=8, multipliers=(1,), patch=2, heads=1, head_width=8, blocks=1)
SHAPE = (8, 8, 8)
# Random weights make no crystals: every distance passes unless a test says otherwise.
ARGUMENTS: dict[str, Any] = {
    "shape": SHAPE,
    "covariances": 3,
    "repeats": 2,
    "seed": 5,
    "steps": 6,
    "skip": 3,
    "limits": Limits(distance=100.0),
}
FORTY: dict[str, Any] = {**ARGUMENTS, "covariances": 5, "repeats": 4}
"""A design of 40 samples."""


def random_prior(seed: int, sigma_data: float, head: float = 0.1) -> Prior:
    """Random weights, made without compiling anything; ``head`` scales the output."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda key: unet3d.init(key, NETWORK), jax.random.key(0))
    params = jax.tree.map(lambda leaf: jnp.asarray(0.3 * rng.standard_normal(leaf.shape), jnp.float32), shapes)
    params["head"] = jax.tree.map(lambda leaf: head * leaf, params["head"])
    return Prior(params, NETWORK, sigma_data, "gsh4")


def tiny_priors() -> dict[str, Prior]:
    """Two local models of one architecture and different scales."""
    return {"coarse": random_prior(1, 0.5), "fine": random_prior(2, 0.35)}


def context() -> multiprocessing.context.ForkServerContext:
    """Processes forked from a clean one that has imported everything and started nothing: no thread is forked."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["generation_worker"])
    return made


def work(directory: Path, cache: Path, worker: int, workers: int) -> None:
    """One worker of the 40 samples. Compiled programs are shared through a folder, which saves most of the time."""
    os.nice(5)
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    generate(directory, priors=tiny_priors(), **FORTY, worker=worker, workers=workers)


def start(directory: Path, cache: Path, worker: int, workers: int) -> ForkServerProcess:
    """Starts `work` in a process of its own."""
    process = context().Process(target=work, args=(directory, cache, worker, workers))
    process.start()
    return process


def write_known(directory: Path, samples: int, shape: tuple[int, int, int]) -> None:
    """Writes samples whose values are known, without any computation: a worker reduced to its writing."""
    store = stores.create(directory, samples=samples, shape=shape, channels=2, settings={})
    for index in range(samples):
        if index not in stores.completed(store, [index]):
            stores.write_sample(store, index, known(index, shape), {"known": index})


def known(index: int, shape: tuple[int, int, int]) -> np.ndarray:
    """The values of `write_known`."""
    return np.random.default_rng(index).standard_normal((*shape, 2), dtype=np.float32)
