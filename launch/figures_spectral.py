"""Draws the figures of two-point statistics and random fields from the bundled samples.

Usage:
    python launch/figures_spectral.py FOLDER [--only central fit ...] [--size 24] [--steps 200] [--fields 300]

Figures, after those of the paper:
    central     central planes of all covariances of a measured volume (Fig. 5)
    fit         those covariances and MOSM fits of 1 to 16 mixtures, with their errors (Fig. 7)
    orthogonal  orthogonal planes of a measured volume, their mean over drawn fields, the difference (Fig. 10)
    cubes       three draws of random MOSM kernels (Fig. 11)
    scores      first five principal scores of two-point statistics, drawn fields against pieces of measured volumes,
                and the explained variance of each set (Fig. 3)

A few minutes on two CPU cores, nearly all of it the fits.
"""

import argparse
import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from polymicros_jax.data import samples
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.orientation import rogsh
from polymicros_jax.spectral import diversity, mosm, random_field, two_point
from polymicros_jax.viz import canvas, correlations

MEASURED = ("in100", "al1050")
MIXTURES = (1, 2, 4, 8, 16)
STRIDE = 2
SATURATED = 0.4
"""Correlation coefficient at which the colours end: the peaks at zero lag would leave everything else pale."""

LABEL = "correlation coefficient"
RANK = 60
PIECES = 40
"""Cubes cut at random out of every measured volume, for the scores."""


@functools.cache
def sample(name: str) -> OrientationVolume:
    """A bundled sample."""
    return samples.load(name)


def measured_field(name: str, start: tuple[int, int, int], size: int) -> tuple[jax.Array, jax.Array, tuple[float, ...]]:
    """ROGSH channels of every second voxel of a cube of a bundled sample, its mask, and the spacing in micrometres."""
    volume = sample(name)
    piece = tuple(slice(low, low + STRIDE * size, STRIDE) for low in start)
    mask = jnp.asarray(volume.mask[piece])
    # An unobserved voxel has no orientation; any will do, since the mask leaves it out.
    q = jnp.where(mask[..., None], jnp.asarray(volume.quaternions[piece]), jnp.asarray([[[[1.0, 0, 0, 0]]]]))
    return rogsh.encode(q).astype(jnp.float32), mask, tuple(STRIDE * edge for edge in volume.spacing)


def normalised(f: np.ndarray, zero: np.ndarray | None = None) -> np.ndarray:
    """Covariances over the standard deviations of both channels, which are those at zero lag or given as such."""
    deviations = np.sqrt(np.diagonal(f[0, 0, 0] if zero is None else zero))
    return f / (deviations[:, None] * deviations[None, :])


def central(size: int, **_: int) -> dict[str, Figure]:
    """Central planes of all covariances of a measured volume."""
    field, mask, spacing = measured_field("in100", (0, 0, 0), size)
    f = normalised(np.asarray(two_point.covariances(field, False, mask)))
    title = "IN100, lag z = 0"
    return {"central": correlations.central_planes(f, spacing=spacing, limit=SATURATED, label=LABEL, title=title)}


def fit(size: int, steps: int, **_: int) -> dict[str, Figure]:
    """Covariances of a measured volume above MOSM fits of more and more mixtures."""
    field, mask, spacing = measured_field("in100", (0, 0, 0), size)
    target = two_point.covariances(field, False, mask)
    variances = np.asarray(target)[0, 0, 0]
    rows = {"measured": normalised(np.asarray(target))[:, :, 0]}
    for count in MIXTURES:
        result = mosm.fit(target, count, steps=steps, starts=1, learning_rate=0.06)
        print(f"Q = {count}: relative error {float(result.error):.3f}", flush=True)
        fitted = np.asarray(mosm.covariance(result.params, target.shape[:-2]))
        label = f"Q = {count}\nerror {100 * float(result.error):.0f} %"
        rows[label] = normalised(fitted, variances)[:, :, 0]
    pairs = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]
    drawing = correlations.rows_of_pairs(rows, pairs=pairs, spacing=spacing[:2], limit=SATURATED, label=LABEL)
    return {"mosm_fit": drawing}


def orthogonal(size: int, fields: int, **_: int) -> dict[str, Figure]:
    """Orthogonal planes of a measured volume, taken as periodic, and their mean over fields drawn from it."""
    field, mask, spacing = measured_field("in100", (0, 0, 0), size)
    covariances = two_point.covariances(field, True, mask)
    factor = random_field.factorise(covariances)
    print(f"clipped share of the spectrum: {float(factor.clipped_share):.2g}")

    def planes(key: jax.Array) -> dict[str, jax.Array]:
        return two_point.orthogonal_planes(random_field.sample_factor(key, factor))

    drawn = jax.lax.map(planes, jax.random.split(jax.random.key(0), fields))
    f = np.asarray(covariances)
    zero = f[0, 0, 0]
    mean = {axis: normalised(np.asarray(plane.mean(0)), zero) for axis, plane in drawn.items()}
    coefficients = normalised(f)
    target = {"x": coefficients[0], "y": coefficients[:, 0], "z": coefficients[:, :, 0]}
    sets = {"measured": target, f"mean of {fields} draws": mean}
    drawing = correlations.orthogonal_planes(sets, spacing=spacing, limit=SATURATED, label=LABEL, difference=True)
    return {"orthogonal": drawing}


def cubes(size: int, **_: int) -> dict[str, Figure]:
    """Three draws of random kernels, a row each."""
    figures = {}
    for index in range(3):
        params = jax.tree.map(lambda leaf, i=index: leaf[i], mosm.sample_params(0, 3))
        field = random_field.sample_mosm(jax.random.key(index), params, (2 * size,) * 3)
        figures[f"cubes_{index}"] = correlations.field_cubes(np.asarray(field))
    return figures


def scores(size: int, fields: int, **_: int) -> dict[str, Figure]:
    """Principal components of the statistics of drawn fields, with pieces of measured volumes projected onto them."""
    params = mosm.sample_params(1, fields)
    shape = (size,) * 3

    @jax.jit
    def statistics(field: jax.Array) -> jax.Array:
        # About the mean, as MOSM fields and the paper's volumes are.
        return diversity.features(two_point.orthogonal_planes(field - jnp.mean(field, (0, 1, 2), keepdims=True)))

    @jax.jit
    def of_draws(keys: jax.Array, some: mosm.MosmParams) -> jax.Array:
        pairs = (keys, some)
        return jax.lax.map(lambda pair: statistics(random_field.sample_mosm(pair[0], pair[1], shape)), pairs)

    keys = jax.random.split(jax.random.key(0), fields)
    state, parts = None, []
    for start in range(0, fields, 50):
        rows = of_draws(keys[start : start + 50], jax.tree.map(lambda leaf, s=start: leaf[s : s + 50], params))
        state = diversity.empty(rows.shape[1], RANK) if state is None else state
        state = diversity.update(state, rows)
        parts.append(rows)
    curves = {"random fields": state}
    sets = {"random fields": np.asarray(diversity.scores(state, jnp.concatenate(parts)))}
    random = np.random.default_rng(0)
    for name in MEASURED:
        room = [n - STRIDE * size for n in sample(name).shape]
        rows = []
        for _piece in range(PIECES):
            field, mask, _ = measured_field(name, tuple(random.integers(0, r + 1) for r in room), size)
            mean = two_point.channel_mean(field, mask)
            # Unobserved voxels at the mean, so that they add nothing.
            rows.append(statistics(jnp.where(mask[..., None], field, jnp.broadcast_to(mean, field.shape))))
        measured = jnp.stack(rows)
        sets[f"pieces of {name}"] = np.asarray(diversity.scores(state, measured))
        empty = diversity.empty(measured.shape[1], RANK)
        curves[f"pieces of {name}"] = diversity.update(empty, measured)
    for name, each in curves.items():
        rank, kept = float(diversity.effective_rank(each)), float(diversity.captured(each))
        print(f"{name}: effective rank {rank:.1f}, captured {kept:.3f}")
    shares = np.diff(np.asarray(diversity.explained_variance_curve(state)), prepend=0)
    # A set of n samples has n - 1 directions at most.
    explained = {
        name: np.asarray(diversity.explained_variance_curve(each))[: int(each.count) - 1]
        for name, each in curves.items()
    }
    return {
        "scores": correlations.principal_scores(sets, shares=shares),
        "explained_variance": correlations.explained_variance(explained),
    }


FIGURES: dict[str, Callable[..., dict[str, Figure]]] = {
    "central": central,
    "fit": fit,
    "orthogonal": orthogonal,
    "cubes": cubes,
    "scores": scores,
}


def main() -> None:
    """Draws the figures that were asked for, all by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=sorted(FIGURES), default=list(FIGURES))
    parser.add_argument("--size", type=int, default=24, help="voxels a side, of every second one")
    parser.add_argument("--steps", type=int, default=200, help="gradient steps of every fit")
    parser.add_argument("--fields", type=int, default=300, help="drawn fields; a multiple of 50")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        options = {"size": arguments.size, "steps": arguments.steps, "fields": arguments.fields}
        for stem, drawing in FIGURES[name](**options).items():
            path = canvas.save(drawing, arguments.folder / f"{stem}.png")
            print(f"{path}: {path.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
