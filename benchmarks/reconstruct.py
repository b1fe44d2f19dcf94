"""Time of one reconstruction, every fourth section known, stage by stage; what matching two-point statistics costs.

    python benchmarks/reconstruct.py [--sides 64 128] [--tile 64] [--steps 18] [--draws 1] [--once]
    python benchmarks/reconstruct.py --sides --matching 32 [--most 1000]

Voronoi volumes of grains of 12 voxels. The draw starts at noise 0.5 from the shapes and takes a third of the steps,
with two evaluations of the network each, in tiles of `--tile` voxels where the volume is larger. It is made twice: the
first time includes compilation, which depends on the side; `--once` leaves the second out. Wall time and processor time
(all cores together) are given, since wall time on a shared machine says little. Errors are the mean disorientation on
missing voxels: faceted grains are what shape-based interpolation does best, so they say that the stages work, not
which is best.

`--matching` counts evaluations of the objective with its gradient until white noise has the covariances of a Voronoi
volume on three orthogonal planes, as 2D-to-3D expansion asks of it after every step: by the package's L-BFGS, by L-BFGS
on the field itself instead of its rescaled modes, by Adam and by gradient descent, all from the same start. The last
two are given the best of several step lengths, chosen by what they reach. "-" is not reached in `--most` evaluations.

`python benchmarks/reconstruct.py --sides 16 --steps 6 --matching 8 --most 50` runs through in seconds.
"""

import argparse
import resource
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.spatial import cKDTree

from polymicros_jax import filling_methods
from polymicros_jax.conditioners.two_point import minimise, plane_covariances, two_point
from polymicros_jax.data import masks
from polymicros_jax.orientation import grain_posterior, interpolation, quaternion, representation
from polymicros_jax.orientation.candidates import candidates
from polymicros_jax.orientation.representation import Representation
from polymicros_jax.orientation.uncertainty import disorientation_map
from polymicros_jax.training.prior import Prior, load_prior

THRESHOLDS = (1e-3, 1e-4, 1e-5)
"""Largest difference of a covariance, where the variance of a channel is about 0.25."""

STEP_LENGTHS = {"Adam": (1.0, 0.3, 0.1), "gradient descent": (1.0, 4.0, 16.0)}
"""Of Adam, in standard deviations of the field; of descent, in units of the inverse of a bound of the Hessian."""


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
    parser.add_argument("--sides", type=int, nargs="*", default=[64, 128])
    parser.add_argument("--matching", type=int, nargs="*", default=[])
    parser.add_argument("--most", type=int, default=1000)
    parser.add_argument("--tile", type=int, default=64)
    parser.add_argument("--steps", type=int, default=18)
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--prior", default="compact_gsh4")
    parser.add_argument("--once", action="store_true")
    arguments = parser.parse_args()
    prior = load_prior(arguments.prior)
    kind = representation.get(prior.representation)
    if arguments.sides:
        print(f"{'':24}{'wall [s]':>10}{'CPU [s]':>10}{'error [deg]':>13}")
    for side in arguments.sides:
        measure(side, prior, kind, arguments)
    for side in arguments.matching:
        matching(side, kind, arguments.most)


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


def matching(side: int, kind: Representation, most: int) -> None:
    """Evaluations each optimiser takes from the same noise to each of `THRESHOLDS`."""
    wanted = jnp.asarray(kind.encode(voronoi(side)))
    planes, mean = plane_covariances(wanted), jnp.mean(wanted, axis=(0, 1, 2))
    noise = 0.5 * jax.random.normal(jax.random.key(1), wanted.shape)
    heads = "".join(f"{f'<= {threshold:g}':>10}" for threshold in THRESHOLDS)
    print(f"matching at {side}^3{'':22}{heads}{'reached':>10}{'s each':>9}")

    def line(name: str, counts: list[int | None], reached: float, seconds: float) -> None:
        shown = "".join(f"{'-' if count is None else count:>10}" for count in counts)
        print(f"{name:36}{shown}{reached:10.1e}{seconds:9.3f}", flush=True)

    solvers: dict[str, Callable[[jax.Array, float], Any]] = {
        "L-BFGS": two_point(planes, mean, budget=most, sweeps=0).match,
        "L-BFGS after 4 recolouring sweeps": two_point(planes, mean, budget=most, sweeps=4).match,
        "L-BFGS on the field itself": lambda x, threshold: minimise(x, planes, threshold, most, field=lambda y: y),
    }
    for name, solver in solvers.items():
        run = jax.jit(solver)
        jax.block_until_ready(run(noise, jnp.inf))  # compiles
        start = time.perf_counter()
        matches = [run(noise, threshold) for threshold in THRESHOLDS]
        total = sum(int(match.evaluations) for match in matches)
        seconds = (time.perf_counter() - start) / total
        counts = [
            int(match.evaluations) if match.error <= threshold else None
            for match, threshold in zip(matches, THRESHOLDS, strict=True)
        ]
        line(name, counts, min(float(match.error) for match in matches), seconds)
    bound = 8.0 * sum(float(jnp.abs(jnp.fft.fft2(jnp.trace(p, axis1=-2, axis2=-1))).max()) for p in planes.values())
    for name, lengths in STEP_LENGTHS.items():
        tries = []
        for length in lengths:
            optimiser = optax.adam(length * 0.5) if name == "Adam" else optax.sgd(length * noise[..., 0].size / bound)
            descend = jax.jit(partial(_descent, planes=planes, optimiser=optimiser, most=most)).lower(noise).compile()
            start = time.perf_counter()
            errors = np.asarray(descend(noise))
            tries.append((float(errors.min()), length, (time.perf_counter() - start) / most, errors))
        lowest, length, seconds, errors = min(tries, key=lambda each: each[0])
        # The error after n steps has taken n evaluations, and one more to know it.
        counts = [int(np.argmax(errors <= t)) + 1 if np.any(errors <= t) else None for t in THRESHOLDS]
        line(f"{name}, step length {length:g}", counts, lowest, seconds)


def _descent(
    x: jax.Array, planes: dict[str, jax.Array], optimiser: optax.GradientTransformation, most: int
) -> jax.Array:
    """Largest difference before each of `most` steps on the summed squares; infinite once they diverge."""

    def objective(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = plane_covariances(x)
        differences = [found[name] - plane for name, plane in planes.items()]
        largest = jnp.max(jnp.stack([jnp.max(jnp.abs(d)) for d in differences]))
        squares = sum((jnp.sum(jnp.square(d)) for d in differences), start=jnp.zeros(()))
        return squares, jnp.where(jnp.isfinite(squares), largest, jnp.inf)

    def step(carry: tuple[jax.Array, Any], _: None) -> tuple[tuple[jax.Array, Any], jax.Array]:
        x, state = carry
        (_, largest), gradient = jax.value_and_grad(objective, has_aux=True)(x)
        updates, state = optimiser.update(gradient, state)
        return (optax.apply_updates(x, updates), state), largest

    return jax.lax.scan(step, (x, optimiser.init(x)), None, length=most)[1]


if __name__ == "__main__":
    main()
