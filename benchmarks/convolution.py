"""Lowerings of the 3x3x3 convolution side by side, forward and with both gradients.

    python benchmarks/convolution.py [--batch 8]

Prints GFLOP/s of the native 3D convolution and of the sum of depth-shifted 2D ones, and their ratio, for grids and
channels of the compact prior (half grid) and of the same network without folding (full grid).

Last result (two cores, jax 0.10.2):

LAST_RESULT
"""

import argparse
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from polymicros_jax.models.layers import convolve_planes, convolve_volumes

CASES = ((24, 16), (24, 32), (12, 32), (12, 64), (6, 64), (6, 96), (6, 128))


def seconds(function: Callable[..., jax.Array], *arguments: jax.Array) -> float:
    """Shortest wall time of a few calls after the first."""
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(5):
        began = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    """Runs all cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    batch = parser.parse_args().batch
    print(f"{'grid':>6} {'channels':>8} {'pass':>9} {'3D GF/s':>8} {'2D sum':>8} {'ratio':>6}")
    for side, channels in CASES:
        x = jax.random.normal(jax.random.key(0), (batch, side + 2, side + 2, side + 2, channels))
        kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, channels, channels))
        work = 2 * 27 * channels**2 * side**3 * batch / 1e9
        for name, factor in (("forward", 1), ("gradients", 3)):
            rates = []
            for lowering in (convolve_volumes, convolve_planes):
                function = lowering
                if name == "gradients":
                    function = jax.grad(lambda x, k, f=lowering: jnp.sum(jnp.square(f(x, k))), argnums=(0, 1))
                rates.append(factor * work / seconds(jax.jit(function), x, kernel))
            print(f"{side:>4}^3 {channels:>8} {name:>9} {rates[0]:8.0f} {rates[1]:8.0f} {rates[1] / rates[0]:6.2f}")


if __name__ == "__main__":
    main()
