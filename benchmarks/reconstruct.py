"""Time of one reconstruction, every fourth section known, stage by stage: classical shapes, draw, probabilities.

    python benchmarks/reconstruct.py [--sides 64 128] [--tile 64] [--steps 18] [--draws 1] [--once]

Voronoi volumes of grains of 12 voxels. The draw starts at noise 0.5 from the shapes and takes a third of the steps,
with two evaluations of the network each, in tiles of `--tile` voxels where the volume is larger. It is made twice: the
first time includes compilation, which depends on the side; `--once` leaves the second out. Wall time and processor time
(all cores together) are given, since wall time on a shared machine says little. Errors are the mean disorientation on
missing voxels: faceted grains are what shape-based interpolation does best, so they say that the stages work, not
which is best.

`python benchmarks/reconstruct.py --sides 16 --steps 6` runs through in seconds.
"""

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from scipy.spatial import cKDTree

from polymicros_jax import filling_methods
from polymicros_jax.data import masks
from polymicros_jax.orientation import grain_posterior, interpolation, quaternion, representation
from polymicros_jax.orientation.candidates import candidates
from polymicros_jax.orientation.representation import Representation
from polymicros_jax.orientation.uncertainty import disorientation_map
from polymicros_jax.training.prior import Prior, load_prior


def voronoi(side: int, seed: int = 0) -> np.ndarray:
    """Orientations of a periodic Voronoi volume whose grains are 12 voxels wide."""
    rng = np.random.default_rng(seed)
    count = max(2, round((side / 12) ** 3))
    centres = rng.random((count, 3)) * side
    grid = np.stack(np.meshgrid(*(np.arange(side),) * 3, indexing="ij"), axis=-1).reshape(-1, 3) + 0.5
    nearest = cKDTree(centres, boxsize=side).query(grid)[1]
    crystals = np.asarray(quaternion.random(jax.random.key(seed), (count,)))
    return crystals[nearest].reshape(side, side, side, 4)


def main() -> None:
    """Prints one line a stage and side."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--tile", type=int, default=64)
    parser.add_argument("--steps", type=int, default=18)
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--prior", default="compact_gsh4")
    parser.add_argument("--once", action="store_true")
    arguments = parser.parse_args()
    prior = load_prior(arguments.prior)
    kind = representation.get(prior.representation)
    print(f"{'':24}{'wall [s]':>10}{'CPU [s]':>10}{'error [deg]':>13}")
    for side in arguments.sides:
        measure(side, prior, kind, arguments)


def measure(side: int, prior: Prior, kind: Representation, arguments: argparse.Namespace) -> None:
    """All stages at one side."""
    q = voronoi(side)
    known = masks.every_slice((side,) * 3, "z", 4)
    settings: dict[str, Any] = {"draws": arguments.draws, "steps": arguments.steps, "start": 0.5, "reach": 3}
    settings["tile"] = arguments.tile if side > arguments.tile else None

    def line(name: str, work: Callable[[], Any]) -> Any:
        start = np.array([time.perf_counter(), time.process_time()])
        result = work()
        wall, cpu = np.array([time.perf_counter(), time.process_time()]) - start
        filled = result.quaternions if isinstance(result, filling_methods.Filled) else result
        error = ""
        if isinstance(filled, np.ndarray) and filled.shape == q.shape:
            error = f"{float(np.asarray(disorientation_map(q, filled, kind.group))[~known].mean()):13.2f}"
        print(f"{side:4}^3 {name:18}{wall:10.1f}{cpu:10.1f}{error}", flush=True)
        return result

    line("nearest slice", lambda: interpolation.nearest_known(q, known))
    line("shape-based", lambda: interpolation.shape_based(q, known, kind.group))
    found = line("candidates", lambda: candidates(q, known, kind.group))

    def draw() -> filling_methods.Filled:
        return filling_methods.fill_with_prior(jax.random.key(0), prior, kind, q, known, found=found, **settings)

    drawn = line("draw, first", draw)
    if not arguments.once:
        drawn = line("draw, again", draw)
    line("probabilities", lambda: grain_posterior.features(found, ~known, drawn.fields, kind.group))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{side:4}^3 largest memory of the process so far: {peak:.1f} GiB", flush=True)


if __name__ == "__main__":
    main()
