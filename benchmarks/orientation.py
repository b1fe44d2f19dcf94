"""Encode, decode, disorientation and IPF colours of orientations side by side with orix (extra `ebsd`).

    python benchmarks/orientation.py [--voxels 1000000] [--reference 100000]

orix has no embedding: beside `encode` and `decode` stands its own way to one description per crystal, the reduction to
the fundamental zone. orix is timed on the first `--reference` orientations and its time scaled to all, to which it is
proportional (at fewer than 10^5 its fixed costs make our ratios look better than they are). Both are called once before
(ours compiles, orix compiles parts with Numba) and then three times in turn; the best counts. Wall time and processor
time (of all cores together) are given, since wall time on a shared machine says little. The aims: a ratio of at least 5
for disorientations and colours, and 10^6 voxels decoded in at most 20 s on two cores.

Last result: two idle cores, 10^6 voxels, orix on 10^5 of them and scaled::

                   ours, wall and CPU [s]  orix, wall and CPU [s]  ratios
    432 encode              0.050    0.096           2.1      4.2        41.9   43.4
    432 decode              2.697    5.129           2.1      4.0         0.8    0.8
    432 disorientation      0.007    0.013           0.6      0.8        78.7   65.6
    432 IPF colours         0.065    0.121           0.9      1.8        14.5   14.7
    432 largest error of decode(encode(q)): 2.3e-05 degrees
    622 encode              0.094    0.175           1.2      2.2        13.0   12.8
    622 decode              7.076   13.722           1.2      2.2         0.2    0.2
    622 disorientation      0.016    0.032           0.4      0.7        22.3   22.1
    622 IPF colours         0.068    0.121           0.9      1.6        12.8   13.4
    622 largest error of decode(encode(q)): 2.2e-05 degrees
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
import orix.plot
from orix.quaternion import Orientation, symmetry
from orix.vector import Vector3d

from polymicros_jax.orientation import embedding, ipf, quaternion

LAUE = {"432": symmetry.Oh, "622": symmetry.D6h}


def seconds(functions: Sequence[Callable[[], Any]], repeats: int = 3) -> list[np.ndarray]:
    """Shortest wall time and least processor time, all cores together, of calls of each function, taking turns."""
    for function in functions:
        jax.block_until_ready(function())
    best = [np.full(2, np.inf) for _ in functions]
    for _ in range(repeats):
        for number, function in enumerate(functions):
            start = np.array([time.perf_counter(), time.process_time()])
            jax.block_until_ready(function())
            taken = np.array([time.perf_counter(), time.process_time()]) - start
            best[number] = np.minimum(best[number], taken)
    return best


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
        ours: dict[str, Callable[[], Any]] = {
            "encode": partial(embedding.encode, a, group),
            "decode": partial(embedding.decode, e, group),
            "disorientation": partial(quaternion.disorientation, a, b, group),
            "IPF colours": partial(ipf.colours, a, "z", group),
        }
        theirs: dict[str, Callable[[], Any]] = {
            "encode": one.reduce,
            "decode": one.reduce,
            "disorientation": partial(one.angle_with, other),
            "IPF colours": partial(key.orientation2color, one),
        }
        for name, function in ours.items():
            own, reference = seconds([function, theirs[name]])
            (wall, cpu), (their_wall, their_cpu) = own, reference * count / sample
            times = f"{wall:10.3f} {cpu:8.3f}    {their_wall:10.1f} {their_cpu:8.1f}"
            print(f"{group} {name:15}{times}      {their_wall / wall:6.1f} {their_cpu / cpu:6.1f}", flush=True)
        apart = np.degrees(quaternion.disorientation(embedding.decode(e, group)[0], a, group)).max()
        print(f"{group} largest error of decode(encode(q)): {apart:.1e} degrees")


if __name__ == "__main__":
    main()
