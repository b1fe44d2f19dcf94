"""Targets of 2D-to-3D expansion from the slices alone.

Three slices of a volume are three small samples. Their statistics disagree where lag planes meet, and a single slice
has a spectral matrix of rank one at every wavenumber: in general *no* volume has exactly the statistics of its slices
(measured: 32^3, 40 grains, 3 channels: recolouring stalls at a largest difference of 0.17 at a variance of 0.25).
Targets are therefore made in two steps: averages where planes share lags, and the statistics of the field that L-BFGS
fits to them in the least-squares sense. Nothing but the slices is looked at.

That field should be one of orientations: a free one may have any variance, and takes up to twice what crystals can
have where the maps are small samples (IN100, 24^3: 0.44 to 0.53 per channel of GSH-4, crystals have less than 0.25).
"""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from polymicros_jax.conditioners.plane_spectra import plane_roots, recolour
from polymicros_jax.conditioners.two_point import minimise, plane_covariances
from polymicros_jax.orientation.representation import Representation
from polymicros_jax.spectral.grid import integer_lags
from polymicros_jax.spectral.two_point import slice_planes
from polymicros_jax.types import ArrayLike, Key

# Lines on which two planes meet: (plane, plane) for the lags along x, y and z. A plane holds its two axes in order.
_SHARED = ((("y", 0), ("z", 0)), (("x", 0), ("z", 1)), (("x", 1), ("y", 1)))

# Channels change by so much where a unit quaternion changes by one (GSH-4: 3/2 sqrt(4 (4 + 1) / 3) per radian). Scaled
# by it quaternions are as stiff as the field, which `minimise` counts on.
_STEEPNESS = 8.0


class SliceTargets(NamedTuple):
    """What the volume is asked to match.

    Attributes:
      planes: covariances ``(n, m, h, h)`` per normal, about its own mean, of an existing field: reachable exactly.
      mean: ``(h,)`` mean over the pixels of all slices.
      misfit: root mean square difference between `planes` and the slices' own covariances, over the lags that the
        slices determine.
    """

    planes: dict[str, jax.Array]
    mean: jax.Array
    misfit: jax.Array


def slice_targets(
    key: Key,
    slices: Mapping[str, Float[ArrayLike, "_ _ h"]],
    shape: tuple[int, int, int],
    *,
    kind: Representation | None = None,
    periodic: bool = False,
    budget: int = 100,
) -> SliceTargets:
    """Mean and reachable plane covariances for a volume of the given shape.

    Args:
      key: PRNG key of the field that is fitted.
      slices: normal ``"x"``, ``"y"``, ``"z"`` to a map ``(n, m, h)`` on the other two axes in order; one to three.
      shape: grid of the volume. Slices may be larger or smaller; lags a slice is too small for are left free.
      kind: representation of the channels; with it the targets are the statistics of a field of orientations, without
        it those of any field.
      periodic: whether the maps wrap around. Measured maps do not.
      budget: gradient evaluations of the fit.

    Raises:
      ValueError: an unknown axis, or a periodic map whose size is not the volume's.
    """
    mean, planes = slice_covariances(slices, shape, periodic)
    observed = {name: jnp.asarray(plane, jnp.float32) for name, plane in reconciled(planes).items()}
    fitted = _fit(key, observed, jnp.asarray(mean, jnp.float32), shape=tuple(shape), kind=kind, budget=budget)
    squares = [jnp.square(fitted[name] - plane) for name, plane in observed.items()]
    misfit = jnp.sqrt(jnp.nanmean(jnp.concatenate([square.ravel() for square in squares])))
    return SliceTargets(planes=fitted, mean=jnp.asarray(mean, jnp.float32), misfit=misfit)


def slice_covariances(
    slices: Mapping[str, Float[ArrayLike, "_ _ h"]], shape: tuple[int, int, int], periodic: bool
) -> tuple[Float[np.ndarray, " h"], dict[str, Float[np.ndarray, "_ _ h h"]]]:
    """Pooled mean of the pixels, and each map's covariances about it at the lags of the volume; NaN where too small.

    About the pooled mean, not the map's own: how far a slice's mean strays is part of the statistics of the volume.

    >>> image = np.array([[0.0, 2.0], [2.0, 0.0]])[..., None]
    >>> mean, planes = slice_covariances({"z": image}, (2, 2, 2), periodic=True)
    >>> mean.tolist(), planes["z"][..., 0, 0].tolist()
    ([1.0], [[1.0, -1.0], [-1.0, 1.0]])
    """
    maps = {name: np.asarray(values) for name, values in slices.items()}
    mean = np.concatenate([m.reshape(-1, m.shape[-1]) for m in maps.values()]).mean(axis=0)
    planes = {}
    for name, plane in slice_planes({name: m - mean for name, m in maps.items()}, periodic).items():
        sides = [n for axis, n in zip("xyz", shape, strict=True) if axis != name]
        if periodic and plane.shape[:2] != tuple(sides):
            raise ValueError(
                f"slices[{name!r}]: a periodic map must have the volume's size {tuple(sides)}, found {plane.shape[:2]}"
            )
        rows, columns = (_lag_index(n, m) for n, m in zip(sides, plane.shape[:2], strict=True))
        taken = np.asarray(plane)[np.ix_(np.maximum(rows, 0), np.maximum(columns, 0))]
        missing = (rows < 0)[:, None] | (columns < 0)[None, :]
        planes[name] = _pooled(np.where(missing[..., None, None], np.nan, taken))
    return mean, planes


def reconciled(planes: Mapping[str, Float[np.ndarray, "_ _ h h"]]) -> dict[str, Float[np.ndarray, "_ _ h h"]]:
    """The planes with one value wherever several hold the same lag: the average of those that are there.

    >>> one, two = np.ones((2, 2, 1, 1)), np.full((2, 2, 1, 1), 3.0)
    >>> reconciled({"x": one, "y": two})["x"][..., 0, 0].tolist()  # lags along z lie in both planes
    [[2.0, 2.0], [1.0, 1.0]]
    """
    result = {name: np.array(plane) for name, plane in planes.items()}
    zero = np.mean([plane[0, 0] for plane in planes.values()], axis=0)
    for first, second in _SHARED:
        pair = [np.moveaxis(result[name], side, 0) for name, side in (first, second) if name in result]
        if len(pair) < 2:
            continue
        lines = np.stack([plane[:, 0] for plane in pair])
        counts = np.isfinite(lines).sum(axis=0)
        average = np.where(counts, np.nansum(lines, axis=0) / np.maximum(counts, 1), np.nan)
        for plane in pair:
            plane[:, 0] = average
    for plane in result.values():
        plane[0, 0] = zero
    return result


def _pooled(plane: Float[np.ndarray, "n m h h"]) -> Float[np.ndarray, "n m h h"]:
    """With ``f^{bg}(r) = f^{gb}(-r)`` at half of an even axis too, where a volume cannot tell ``r`` from ``-r``.

    A larger map can, and has two values for what is one lag of the volume; at all other lags they are one already.
    """
    mirrored = np.roll(plane[::-1, ::-1], (1, 1), axis=(0, 1)).swapaxes(-1, -2)
    return 0.5 * (plane + mirrored)


def _lag_index(volume: int, plane: int) -> np.ndarray:
    """Where each lag of an axis of the volume stands in that of the map; -1 where the map is too small for it."""
    lags = integer_lags(volume)
    inside = (2 * np.abs(lags) < plane) | (volume == plane)
    return np.where(inside, lags % plane, -1)


@partial(jax.jit, static_argnames=("shape", "kind", "budget"))
def _fit(
    key: Key,
    planes: dict[str, Array],
    mean: Array,
    *,
    shape: tuple[int, int, int],
    kind: Representation | None,
    budget: int,
) -> dict[str, Array]:
    """Plane covariances of the field that fits the targets best, from recoloured white noise.

    One program for all maps of a shape: compiling it takes longer than running it.
    """
    filled = {name: jnp.where(jnp.isnan(plane), 0.0, plane) for name, plane in planes.items()}
    start = recolour(jax.random.normal(key, (*shape, mean.size)), plane_roots(filled), 2)
    if kind is None:
        found = plane_covariances(minimise(start, planes, 0.0, budget).field)
    else:

        def orientations(q: Array) -> Array:
            return kind.encode(q / jnp.linalg.norm(q, axis=-1, keepdims=True))

        guess = _STEEPNESS * kind.decode(start + mean.reshape(1, 1, 1, -1))[0]
        q = minimise(guess, planes, 0.0, budget, field=orientations, mean=mean).field
        found = plane_covariances(orientations(q))
    return {name: found[name] for name in planes}
