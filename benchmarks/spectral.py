"""Two-point statistics and random fields: times beside other ways to the same result, in one process.

Command: ``python benchmarks/spectral.py [--sizes 64 128 256] [--size 128] [--repeats 5]``

*Fields* (3 channels, Q = 4 mixtures, the paper's bounds): `sample_mosm`, parameters to field; the paper's pipeline, the
covariances on the grid and then Alg. 1 (up to 128^3, its covariances are large); Alg. 1 alone. *growth* is the time
over that of the size before, divided by the growth of S log S: at most 1 for linear-times-log.

*Correlations*, all pairs of 3 channels, periodic: `two_point.correlations` beside the textbook version, a complex FFT
for every channel and pair, in NumPy and in `scipy.fft`, and one in `scipy.fft` with half spectra. All work in single
precision; SciPy's transforms as they come (one core), and on all cores. Each result is compared with ours. The aim is
twice the speed of the textbook versions, and of PoreSpy and PyMKS below; the one with half spectra differs from ours
in nine transforms back instead of six, from which no such factor can come.

*One channel*: the autocorrelation of a two-phase volume, non-periodic and averaged over shells beside PoreSpy, periodic
beside PyMKS; skipped with a message where they are not installed (``pip install porespy pymks pyarrow``).

*Objective*: value and gradient of the squared difference of the orthogonal planes from a target.

Times are the best of the repeats, after one call that compiles. Ways that are compared take turns, so that whatever
else the machine does falls on all of them; the ratio is that of the best times.

Last result: two cores of a slower machine than results before, PoreSpy 3.2.0, PyMKS 0.4.1. The aim is met beside all of
them; beside SciPy on all cores closely, 2.0 to 2.4 times in four runs::

    fields   mosm [s]  growth  Alg. 1 from parameters [s]  Alg. 1 alone [s]  ratio  ratio to Alg. 1 alone
    64^3      0.0184       -                      0.0858            0.0682    4.7    3.7
    128^3      0.0519    0.30                      0.8222            0.7159   15.8   13.8
    256^3      0.3132    0.66

    correlations, 3 x 128^3, 9 pairs      [s]  times ours  largest difference
    two_point.correlations               0.153         1.0
    textbook, numpy.fft                  0.801         5.2  1.8e-07
    textbook, scipy.fft                  0.442         2.9  2.1e-09
    textbook, scipy.fft, all cores       0.312         2.0  2.1e-09
    half spectra, scipy, all cores       0.202         1.3  9.3e-10

    one channel, 128^3                    [s]  theirs [s]  times ours  largest difference
    porespy.metrics                      0.085       3.169        37.4  1.9e-06
    pymks                                0.025       0.215         8.5  2.4e-07

    loss and gradient of the orthogonal planes, 128^3
    3 channels: 0.581 s, work space 256 MB
    9 channels: 1.980 s, work space 767 MB
"""

import argparse
import functools
import importlib
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
import scipy.ndimage

from polymicros_jax.spectral import averages, mosm, random_field, two_point

REFERENCE_LIMIT = 128


def best_times(functions: Sequence[Callable[[], Any]], repeats: int) -> list[float]:
    """Shortest wall time in seconds of a call of each function, taking turns, after a call of each that compiles."""
    for function in functions:
        jax.block_until_ready(function())
    best = [math.inf] * len(functions)
    for _ in range(repeats):
        for number, function in enumerate(functions):
            start = time.perf_counter()
            jax.block_until_ready(function())
            best[number] = min(best[number], time.perf_counter() - start)
    return best


def from_parameters(key: jax.Array, params: mosm.MosmParams, shape: tuple[int, ...]) -> jax.Array:
    """The paper's two steps: covariances of the kernel, then Alg. 1."""
    return random_field.sample_reference_row(key, mosm.covariance(params, shape))


def fields(sizes: list[int], repeats: int) -> None:
    """Draws at every size, beside Alg. 1 where it fits."""
    params = jax.tree.map(lambda leaf: leaf[0], mosm.sample_params(0, 1))
    key = jax.random.key(0)
    print("\nfields   mosm [s]  growth  Alg. 1 from parameters [s]  Alg. 1 alone [s]  ratio  ratio to Alg. 1 alone")
    before: tuple[float, float] | None = None
    for size in sizes:
        shape = (size,) * 3
        ways = [functools.partial(random_field.sample_mosm, key, params, shape)]
        if size <= REFERENCE_LIMIT:
            covariances = mosm.covariance(params, shape)
            ways += [
                functools.partial(from_parameters, key, params, shape),
                functools.partial(random_field.sample_reference_row, key, covariances),
            ]
        exact, *others = best_times(ways, repeats)
        work = size**3 * math.log(size**3)
        growth = f"{exact / before[0] / (work / before[1]):6.2f}" if before else "     -"
        before = exact, work
        line = f"{size}^3  {exact:10.4f}  {growth}"
        if others:
            row, alone = others
            line += f"  {row:26.4f}  {alone:16.4f}  {row / exact:5.1f}  {alone / exact:5.1f}"
        print(line, flush=True)


def plain(fft: Any, m: np.ndarray) -> np.ndarray:
    """Eq. 1 as in a textbook, with the complex transforms of any module like `numpy.fft`."""
    channels = m.shape[-1]
    spectra = [fft.fftn(m[..., b]) for b in range(channels)]
    f = np.empty((*m.shape, channels), m.dtype)
    for b in range(channels):
        for g in range(channels):
            f[..., b, g] = fft.ifftn(np.conj(spectra[b]) * spectra[g]).real / m[..., 0].size
    return f


def halved(m: np.ndarray) -> np.ndarray:
    """Eq. 1 in `scipy.fft` with half spectra."""
    channels, shape = m.shape[-1], m.shape[:-1]
    spectra = [scipy.fft.rfftn(m[..., b]) for b in range(channels)]
    f = np.empty((*m.shape, channels), m.dtype)
    for b in range(channels):
        for g in range(channels):
            f[..., b, g] = scipy.fft.irfftn(np.conj(spectra[b]) * spectra[g], s=shape) / m[..., 0].size
    return f


def correlations(size: int, repeats: int) -> None:
    """All pairs of three channels."""
    m = np.random.default_rng(0).normal(size=(size,) * 3 + (3,)).astype(np.float32)
    on_device = jnp.asarray(m)
    result = np.asarray(two_point.correlations(on_device))

    def on_all_cores(function: Callable[[], np.ndarray]) -> np.ndarray:
        with scipy.fft.set_workers(os.cpu_count() or 1):
            return function()

    others: dict[str, Callable[[], np.ndarray]] = {
        "textbook, numpy.fft": lambda: plain(np.fft, m),
        "textbook, scipy.fft": lambda: plain(scipy.fft, m),
        "textbook, scipy.fft, all cores": lambda: on_all_cores(lambda: plain(scipy.fft, m)),
        "half spectra, scipy, all cores": lambda: on_all_cores(lambda: halved(m)),
    }
    ours, *times = best_times([lambda: two_point.correlations(on_device), *others.values()], repeats)
    differences = [np.abs(function() - result).max() for function in others.values()]
    print(f"\ncorrelations, 3 x {size}^3, 9 pairs      [s]  times ours  largest difference")
    print(f"{'two_point.correlations':32s}  {ours:8.3f}  {1:10.1f}")
    for name, taken, difference in zip(others, times, differences, strict=True):
        print(f"{name:32s}  {taken:8.3f}  {taken / ours:10.1f}  {difference:.1e}", flush=True)


def one_channel(size: int, repeats: int) -> None:
    """One two-phase channel beside PoreSpy and PyMKS."""
    noise = scipy.ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(size,) * 3), 2, mode="wrap")
    phase = noise > 0
    print(f"\none channel, {size}^3                    [s]  theirs [s]  times ours  largest difference")
    for name, compare in {"porespy.metrics": beside_porespy, "pymks": beside_pymks}.items():
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            print(f"{name}: skipped, not importable here ({error})")
            continue
        ours, theirs, difference = compare(module, phase, repeats)
        print(f"{name:32s}  {ours:8.3f}  {theirs:10.3f}  {theirs / ours:10.1f}  {difference:.1e}", flush=True)


def beside_porespy(module: Any, phase: np.ndarray, repeats: int) -> tuple[float, float, float]:
    """Non-periodic correlation, averaged over shells of one voxel: both times and the largest difference."""
    m = jnp.asarray(phase[..., None], jnp.float32)
    own = jax.jit(lambda x: averages.radial_average(two_point.correlations(x, False))[1][:, 0, 0])
    # Shells as ours: distances that round to 0, 1, 2, ... The last one is left out, its lags are pooled here.
    edges = np.arange(min(phase.shape) // 2 + 1) - 0.5

    def theirs() -> np.ndarray:
        # `probability` alone is over the phase fraction.
        return module.two_point_correlation(phase, bins=edges).probability_scaled

    difference = np.abs(np.asarray(own(m))[: len(edges) - 1] - theirs()).max()
    taken, their_time = best_times([lambda: own(m), theirs], repeats)
    return taken, their_time, float(difference)


def beside_pymks(module: Any, phase: np.ndarray, repeats: int) -> tuple[float, float, float]:
    """Periodic correlation at every lag: both times and the largest difference."""
    m = jnp.asarray(phase[..., None], jnp.float32)
    sample = phase[None].astype(np.float32)

    def theirs() -> np.ndarray:
        return module.two_point_stats(sample, sample)

    # Theirs has zero lag in the middle and leaves the Nyquist lags of even axes out.
    result = theirs()[0]
    lags = np.ix_(*[np.arange(n) - n // 2 for n in result.shape])
    difference = np.abs(result - np.asarray(two_point.correlations(m))[..., 0, 0][lags]).max()
    taken, their_time = best_times([lambda: two_point.correlations(m), theirs], repeats)
    return taken, their_time, float(difference)


def objective(size: int, repeats: int) -> None:
    """Value and gradient of the mismatch of orthogonal planes, for three and nine channels."""
    print(f"\nloss and gradient of the orthogonal planes, {size}^3")
    for channels in (3, 9):
        m = jax.random.normal(jax.random.key(0), (size, size, size, channels))
        target = jax.tree.map(lambda plane: 0.9 * plane, two_point.orthogonal_planes(m))

        def loss(x: jax.Array, goal: dict[str, jax.Array]) -> jax.Array:
            planes = two_point.orthogonal_planes(x)
            return sum((jnp.mean((planes[axis] - goal[axis]) ** 2) for axis in goal), jnp.zeros(()))

        compiled = jax.jit(jax.value_and_grad(loss)).lower(m, target).compile()
        (taken,) = best_times([functools.partial(compiled, m, target)], repeats)
        memory = compiled.memory_analysis()
        space = f", work space {memory.temp_size_in_bytes / 1e6:.0f} MB" if memory else ""
        print(f"{channels} channels: {taken:.3f} s{space}", flush=True)


def main() -> None:
    """Prints the four tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256], help="grids of the fields")
    parser.add_argument("--size", type=int, default=128, help="grid of everything else")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print(f"device: {jax.devices()[0].device_kind}, {os.cpu_count()} cores")
    fields(arguments.sizes, arguments.repeats)
    correlations(arguments.size, arguments.repeats)
    one_channel(arguments.size, arguments.repeats)
    objective(arguments.size, arguments.repeats)


if __name__ == "__main__":
    main()
