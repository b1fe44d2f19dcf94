"""Lowerings of the 3x3x3 convolution side by side, forward and with both gradients.

    python benchmarks/convolution.py [--batch 8] [--cases 12x64 ...]

Prints GFLOP/s, counted as those of the direct sum, of the native 3D convolution, the sum of three 2D ones and the
products of tiles; by wall time and by processor time (as if all cores worked all the time), for grids and channels of
the compact prior. Calls alternate; the best of five counts.

Last result: two cores at a load of 17, so that only the processor time says something::

        case      pass   wall:     3D  planes   tiles   processor:     3D  planes   tiles
       12x32   forward              3       9      15                  56     212     276
       12x32 gradients              2       5       7                  46     145     173
       24x16   forward              3      11      11                  31     129     170
       24x16 gradients              1       2       3                  27      39      69
        6x96   forward              7      11      16                 124     239     325
        6x96 gradients              4      13      17                  84     192     280
       12x64   forward              8       4      29                  96      86     382
       12x64 gradients              9      15      22                  78     179     267
"""

import argparse
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from polymicros_jax.models.convolution import convolve_planes, convolve_tiles, convolve_volumes

CASES = ("24x16", "12x32", "12x64", "12x96", "6x64", "6x96", "6x160", "3x96")
"""Side of the output and channels, in and out."""

LOWERINGS = {"3D": convolve_volumes, "planes": convolve_planes, "tiles": convolve_tiles}


def best_times(calls: Mapping[str, Callable[[], Any]]) -> dict[str, tuple[float, float]]:
    """Shortest wall time and least processor time of five alternating calls, after one that compiles."""
    wall: dict[str, list[float]] = {name: [] for name in calls}
    processor: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        jax.block_until_ready(call())
    for _ in range(5):
        for name, call in calls.items():
            start, start_processor = time.perf_counter(), time.process_time()
            jax.block_until_ready(call())
            wall[name].append(time.perf_counter() - start)
            processor[name].append(time.process_time() - start_processor)
    return {name: (min(wall[name]), min(processor[name]) / (os.cpu_count() or 1)) for name in calls}


def both_gradients(lowering: Callable[..., jax.Array]) -> Callable[..., tuple[jax.Array, ...]]:
    """Gradients of input and kernel for a given cotangent."""

    def transposed(x: jax.Array, kernel: jax.Array, y_bar: jax.Array) -> tuple[jax.Array, ...]:
        return jax.vjp(lowering, x, kernel)[1](y_bar)

    return transposed


def main() -> None:
    """Runs all cases."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--cases", nargs="+", default=CASES, metavar="SIDExCHANNELS")
    given = parser.parse_args()
    header = " ".join(f"{name:>7}" for name in LOWERINGS)
    print(f"{'case':>8} {'pass':>9}   wall:{header}   processor:{header}")
    for case in given.cases:
        side, channels = map(int, case.split("x"))
        x = jax.random.normal(jax.random.key(0), (given.batch, side + 2, side + 2, side + 2, channels))
        kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, channels, channels))
        y_bar = jnp.ones((given.batch, side, side, side, channels))
        work = 2 * 27 * channels**2 * side**3 * given.batch / 1e9
        passes = {
            "forward": (1, {name: partial(jax.jit(f), x, kernel) for name, f in LOWERINGS.items()}),
            "gradients": (
                2,
                {name: partial(jax.jit(both_gradients(f)), x, kernel, y_bar) for name, f in LOWERINGS.items()},
            ),
        }
        for name, (factor, calls) in passes.items():
            times = best_times(calls)
            wall, processor = (
                " ".join(f"{factor * work / times[lowering][kind]:7.0f}" for lowering in LOWERINGS) for kind in (0, 1)
            )
            print(f"{case:>8} {name:>9}        {wall}             {processor}", flush=True)


if __name__ == "__main__":
    main()
