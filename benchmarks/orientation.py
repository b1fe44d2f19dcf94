"""Encode, decode, disorientation and IPF colours of orientations side by side with orix (extra `ebsd`).

    python benchmarks/orientation.py [--voxels 1000000] [--reference 100000]

orix has no embedding: beside `encode` and `decode` stands its own way to one description per crystal, the reduction to
the fundamental zone. orix is timed on the first `--reference` orientations and its time scaled to all, to which it is
proportional; ours is the best of three calls on all, compiled. Wall time and processor time (of all cores together) are
given, since wall time on a shared machine says little. The aims: a ratio of at least 5 for disorientations and colours,
and 10^6 voxels decoded in at most 20 s on two cores.

Last result: two cores, shared, at a load of 8; `--voxels 20000 --reference 2000` (two chunks of `decode`, padded)::

                   ours, wall and CPU [s]  orix, wall and CPU [s]  ratios
    432 encode              0.001    0.001           1.1      0.3      2101.0  570.5
    432 decode              0.962    0.191           1.1      0.3         1.1    1.5
    432 disorientation      0.001    0.000           0.0      0.0        92.7  126.2
    432 IPF colours         0.003    0.002           0.1      0.1        34.3   36.5
    432 largest error of decode(encode(q)): 1.8e-05 degrees
    622 encode              0.001    0.001           1.3      0.2      1020.6  160.8
    622 decode              2.165    0.544           1.3      0.2         0.6    0.4
    622 disorientation      0.000    0.000           0.1      0.0       388.0   75.8
    622 IPF colours         0.005    0.002           0.6      0.1       115.5   41.4
    622 largest error of decode(encode(q)): 1.6e-05 degrees

Earlier, at a lower load, 10^6 voxels: decode 2.8 s (432) and 8.1 s (622). Its six steps take the same time in a scan as
unrolled (10^5 voxels side by side in one process: 3.8 and 3.9 s at a load of 7) and compile in 6.9 s, not 10.9.
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

from polymicros_jax.orientation import embedding, ipf, quaternion

LAUE = {"432": symmetry.Oh, "622": symmetry.D6h}


def seconds(function: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Shortest wall time and least processor time, all cores together, of some calls."""
    wall, processor = [], []
    for _ in range(repeats):
        start, start_processor = time.perf_counter(), time.process_time()
        jax.block_until_ready(function())
        wall.append(time.perf_counter() - start)
        processor.append(time.process_time() - start_processor)
    return min(wall), min(processor)


def main() -> None:
    """Prints one line a task and group."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--voxels", type=int, default=1_000_000)
    parser.add_argument("--reference", type=int, default=100_000)
    arguments = parser.parse_args()
    count, sample = arguments.voxels, min(arguments.reference, arguments.voxels)
    a, b = quaternion.random(jax.random.key(0), (2, count))
    print("               ours, wall and CPU [s]  orix, wall and CPU [s]  ratios")
    for group, laue in LAUE.items():
        e = embedding.encode(a, group)
        one, other = (Orientation(np.asarray(q[:sample], np.float64), symmetry=laue) for q in (a, b))
        key = orix.plot.IPFColorKeyTSL(laue, direction=Vector3d.zvector())
        ours = {
            "encode": lambda group=group: embedding.encode(a, group),
            "decode": lambda e=e, group=group: embedding.decode(e, group),
            "disorientation": lambda group=group: quaternion.disorientation(a, b, group),
            "IPF colours": lambda group=group: ipf.colours(a, "z", group),
        }
        reduced = seconds(one.reduce, 1)
        theirs = {
            "encode": reduced,
            "decode": reduced,
            "disorientation": seconds(lambda one=one, other=other: one.angle_with(other), 1),
            "IPF colours": seconds(lambda key=key, one=one: key.orientation2color(one), 1),
        }
        for name, function in ours.items():
            jax.block_until_ready(function())  # compiles
            (wall, cpu), scale = seconds(function, 3), count / sample
            their_wall, their_cpu = (scale * each for each in theirs[name])
            times = f"{wall:10.3f} {cpu:8.3f}    {their_wall:10.1f} {their_cpu:8.1f}"
            print(f"{group} {name:15}{times}      {their_wall / wall:6.1f} {their_cpu / cpu:6.1f}", flush=True)
        apart = np.degrees(quaternion.disorientation(embedding.decode(e, group)[0], a, group)).max()
        print(f"{group} largest error of decode(encode(q)): {apart:.1e} degrees")


if __name__ == "__main__":
    main()
