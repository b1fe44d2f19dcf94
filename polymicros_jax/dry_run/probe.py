"""How fast this machine is, measured on small pieces of the work: seconds to compile, less to run."""

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from polymicros_jax.conditioners.two_point import plane_covariances
from polymicros_jax.dry_run.counting import cost
from polymicros_jax.models.layers import ResidualBlock
from polymicros_jax.models.unet3d import UNet3DConfig

CPU_CHANNELS, CPU_SIDE = 64, 12
ACCELERATOR_CHANNELS, ACCELERATOR_SIDE = 256, 48
"""Most channels and the side of the grid of the block that is timed: what the machine can do in milliseconds."""

MATCHING_SIDE = 16

REPEATS = 5


@lru_cache
def rate(network: UNet3DConfig) -> float:
    """Operations a second of one residual block, of channels like those of the network's middle stage.

    Not those of a matrix product, which is several times faster: norms, activations and borders are in it.
    """
    widths = sorted((network.width, *(network.width * m for m in network.multipliers)))
    on_cpu = jax.default_backend() == "cpu"
    channels = min(widths[(len(widths) - 1) // 2], CPU_CHANNELS if on_cpu else ACCELERATOR_CHANNELS)
    channels -= channels % network.groups
    side = CPU_SIDE if on_cpu else ACCELERATOR_SIDE
    dtype, embedding = jnp.dtype(network.compute_dtype), 4 * network.width
    block = ResidualBlock(channels, channels, embedding, network.groups, dtype=dtype, rngs=nnx.Rngs(0))
    graph, state = nnx.split(block)
    arguments = (state, jnp.ones((2, side, side, side, channels), dtype), jnp.ones((2, embedding)))

    def apply(state: Any, x: jax.Array, embedding: jax.Array) -> jax.Array:
        return nnx.merge(graph, state)(x, embedding, "replicate")

    return cost(apply, *arguments).operations / _seconds(jax.jit(apply), *arguments)


@lru_cache
def matching_seconds_per_voxel(channels: int) -> float:
    """Seconds a voxel of one evaluation of the two-point objective with its gradient, of a small volume."""
    x = jax.random.normal(jax.random.key(0), (MATCHING_SIDE,) * 3 + (channels,))

    def objective(x: jax.Array) -> jax.Array:
        return sum((jnp.sum(jnp.square(plane)) for plane in plane_covariances(x).values()), start=jnp.zeros(()))

    return _seconds(jax.jit(jax.value_and_grad(objective)), x) / MATCHING_SIDE**3


def _seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """Shortest of several runs, compilation left out: other work on the machine only makes it longer."""
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - began)
    return min(times)
