"""Time of one MOSM field, exact against the paper's Alg. 1, side by side in one process.

Command: ``python benchmarks/random_field.py [--sizes 128 256] [--repeats 5]``

Fields have 3 channels, Q = 4 mixtures and the paper's bounds. *mosm* is `sample_mosm`: parameters to field.
*reference row* is what the paper's pipeline does from parameters: the covariances on the grid, then Alg. 1; *filter
alone* leaves out the covariances. Both check their input. Best of the repeats, compiled.

Last result (two CPU cores shared with other jobs at a load of 13; idle, the 128^3 MOSM draw took
0.015 s; 256^3 loaded: 1.06 s). The 128^3 row was taken when checking the covariances was slower than it is now::

    grid     mosm [s]  reference row [s]  filter alone [s]  ratio  ratio to filter alone
    64^3       0.0441             0.1768            0.1121    4.0    2.5
    128^3      0.1422             2.8113            1.9200   19.8   13.5
"""

import argparse
import functools
import time
from collections.abc import Callable

import jax

from polymicros_jax.spectral import mosm, random_field


def best_time(function: Callable[[], jax.Array], repeats: int) -> float:
    """Shortest wall time in seconds of a call, after one that compiles."""
    jax.block_until_ready(function())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - start)
    return min(times)


def from_parameters(key: jax.Array, params: mosm.MosmParams, shape: tuple[int, ...]) -> jax.Array:
    """The paper's two steps: covariances of the kernel, then Alg. 1."""
    return random_field.sample_reference_row(key, mosm.covariance(params, shape))


def main() -> None:
    """Prints one row a grid size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    params = jax.tree.map(lambda leaf: leaf[0], mosm.sample_params(0, 1))
    key = jax.random.key(0)
    print(f"device: {jax.devices()[0].device_kind}")
    print("grid     mosm [s]  reference row [s]  filter alone [s]  ratio  ratio to filter alone")
    for size in arguments.sizes:
        shape = (size,) * 3
        covariances = mosm.covariance(params, shape)
        timed = functools.partial(best_time, repeats=arguments.repeats)
        exact = timed(functools.partial(random_field.sample_mosm, key, params, shape))
        row = timed(functools.partial(from_parameters, key, params, shape))
        alone = timed(functools.partial(random_field.sample_reference_row, key, covariances))
        print(f"{size}^3  {exact:10.4f}  {row:17.4f}  {alone:16.4f}  {row / exact:5.1f}  {alone / exact:5.1f}")


if __name__ == "__main__":
    main()
