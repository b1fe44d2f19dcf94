"""Voxels a second of `encode` and `decode`.

    python benchmarks/decode.py [--voxels 1000000]

Last result: two shared cores of an x86-64 server, jax 0.10.2, 10^6 voxels, a training running beside it:

    432: encode 1.2e+07 voxels/s (0.08 s), decode 3.6e+05 voxels/s (2.8 s), largest error 2.1e-05 degrees
    622: encode 3.9e+06 voxels/s (0.25 s), decode 1.2e+05 voxels/s (8.1 s), largest error 2.1e-05 degrees
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from polymicros_jax.orientation import embedding, quaternion


def best_of(function: Callable[[], Any], repeats: int = 3) -> float:
    """Shortest wall time in seconds, after one call that compiles."""
    jax.block_until_ready(function())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Prints one line a group."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voxels", type=int, default=1_000_000)
    count = parser.parse_args().voxels
    for group in ("432", "622"):
        q = quaternion.random(jax.random.key(0), (count,))
        e = embedding.encode(q, group)
        encode = best_of(lambda q=q, group=group: embedding.encode(q, group))
        decode = best_of(lambda e=e, group=group: embedding.decode(e, group))
        error = np.degrees(quaternion.disorientation(embedding.decode(e, group)[0], q, group)).max()
        print(
            f"{group}: encode {count / encode:.1e} voxels/s ({encode:.2f} s), decode {count / decode:.1e} voxels/s "
            f"({decode:.1f} s), largest error {error:.1e} degrees"
        )


if __name__ == "__main__":
    main()
