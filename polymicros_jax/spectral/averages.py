"""Radial and directional averages of two-point statistics, and the coherence length.

All take arrays ``(*lags, h, h)`` in FFT order, as `spectral.two_point` returns them. Missing lags (NaN) are left out
of the averages. Distances are in the unit of `spacing`, one voxel by default.
"""

import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from polymicros_jax.spectral import grid
from polymicros_jax.types import ArrayLike


def radial_average(
    f: Float[ArrayLike, "*n h h"],
    *,
    spacing: Sequence[float | int] | None = None,
    width: float | int | None = None,
    weights: Float[ArrayLike, "*n"] | None = None,
) -> tuple[Float[np.ndarray, " r"], Float[Array, "r h h"]]:
    """Average over shells of equal distance.

    Shell j holds the lags whose distance rounds to ``j width``, halves up; shell 0 is zero lag alone, and other lags
    shorter than half a width are in none. Shells end at half the shortest axis, where they stop being whole.

    Args:
        f: statistics of all pairs.
        spacing: voxel edge lengths; None for 1 along every axis.
        width: thickness of a shell; None for the largest voxel edge.
        weights: weight of each lag, for instance its pair count; None weighs lags equally.

    Returns:
        Radii of the shells, and the averages, NaN for a shell with no lag.

    >>> distance = np.abs(np.fft.fftfreq(8) * 8)
    >>> f = np.hypot(distance[:, None], distance[None, :])[..., None, None]
    >>> radii, profile = radial_average(f)
    >>> radii.tolist(), profile[:, 0, 0].round(2).tolist()
    ([0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 1.21, 2.16, 3.04, 4.01])
    """
    f = jnp.asarray(f)
    vectors = _lag_vectors(f.shape[:-2], spacing)
    return _shell_average(f, vectors, np.ones(f.shape[:-2], bool), spacing, width, weights)


def directional_average(
    f: Float[ArrayLike, "*n h h"],
    direction: Sequence[float | int],
    *,
    half_angle: float | int = math.radians(15),
    spacing: Sequence[float | int] | None = None,
    width: float | int | None = None,
    weights: Float[ArrayLike, "*n"] | None = None,
) -> tuple[Float[np.ndarray, " r"], Float[Array, "r h h"]]:
    """Average over shells within a cone around `direction` (one-sided: cross-correlations differ between r and -r).

    Args:
        f: statistics of all pairs.
        direction: axis of the cone in the sample frame, any length but zero.
        half_angle: opening of the cone from its axis, radians.
        spacing: as in `radial_average`.
        width: as in `radial_average`.
        weights: as in `radial_average`.

    Raises:
        ValueError: for a direction that is zero or has the wrong number of components, and a half angle above pi.

    >>> x = np.abs(np.fft.fftfreq(8) * 8)
    >>> f = np.broadcast_to(np.exp(-x)[:, None, None, None], (8, 8, 1, 1))  # falls along x alone
    >>> [directional_average(f, axis)[1][:3, 0, 0].round(2).tolist() for axis in ((1, 0), (0, 1))]
    [[1.0, 0.37, 0.14], [1.0, 1.0, 1.0]]
    """
    if half_angle > math.pi:
        raise ValueError(
            f"half_angle: found {half_angle}, accepted are radians up to pi; did you mean np.radians({half_angle:g})?"
        )
    f = jnp.asarray(f)
    vectors = _lag_vectors(f.shape[:-2], spacing)
    axis = np.asarray(direction, float)
    if axis.shape != (vectors.shape[-1],) or not np.any(axis):
        raise ValueError(
            f"direction: found {direction}; accepted is a non-zero vector of {vectors.shape[-1]} components"
        )
    distance = np.linalg.norm(vectors, axis=-1)
    # Half of an even axis is the lag -n/2 and n/2 at once: it lies in the cone if either does.
    both = 2 * np.abs(np.rint(vectors / _edges(vectors.shape[-1], spacing))) == f.shape[:-2]
    along = vectors * (axis / np.linalg.norm(axis))
    cosine = np.where(both, np.abs(along), along).sum(-1)
    # 1e-9: a lag exactly on the rim belongs to the cone whatever the round-off of the dot product.
    inside = cosine >= distance * (math.cos(half_angle) - 1e-9)
    return _shell_average(f, vectors, inside, spacing, width, weights)


def coherence_length(
    covariances: Float[ArrayLike, "*n h h"],
    *,
    threshold: float = math.exp(-1),
    spacing: Sequence[float | int] | None = None,
    direction: Sequence[float | int] | None = None,
    half_angle: float | int = math.radians(15),
    width: float | int | None = None,
) -> Float[Array, " h"]:
    """Distance at which each channel's autocovariance, averaged over shells, first falls to `threshold` of its
    variance.

    The crossing is interpolated linearly between shells. Infinity where the threshold is not reached within half the
    domain: such a field is too coherent for its domain (Sec. 3.1). With `direction`, the distance along it. `spacing`
    and `width` are those of `radial_average`.

    Raises:
        ValueError: shells so thick that there is none beyond zero lag; besides what `directional_average` refuses.

    >>> x = np.abs(np.fft.fftfreq(64) * 64)
    >>> f = np.exp(-x / 5.0)[:, None, None]
    >>> round(float(coherence_length(f)[0]), 2), round(float(coherence_length(f, spacing=(0.2,))[0]), 2)
    (5.0, 1.0)
    """
    if direction is None:
        radii, profile = radial_average(covariances, spacing=spacing, width=width)
    else:
        radii, profile = directional_average(
            covariances, direction, half_angle=half_angle, spacing=spacing, width=width
        )
    if len(radii) < 2:
        raise ValueError(
            f"width: found {'none, the largest voxel edge' if width is None else width}, which leaves no shell beyond "
            "zero lag within half the shortest axis; accepted is a smaller one"
        )
    # Before dividing: an empty shell would hand the value at zero lag a derivative that is not a number.
    own = _carry_forward(jnp.diagonal(profile, axis1=-2, axis2=-1))
    return crossing(radii, own / own[:1], threshold)


@jax.jit
def crossing(
    radii: Float[ArrayLike, " r"], profile: Float[ArrayLike, "r h"], threshold: Float[ArrayLike, ""] | float
) -> Float[Array, " h"]:
    """First radius at which each column falls to the threshold, by linear interpolation; infinity for never.

    Empty shells (NaN) are bridged by carrying the last value forward.

    >>> crossing(np.array([0.0, 1.0, 2.0]), np.array([[1.0, 1.0], [0.8, 0.9], [0.2, 0.8]]), 0.5).round(3).tolist()
    [1.5, inf]
    """
    profile = _carry_forward(jnp.asarray(profile))
    below = profile <= threshold
    after = jnp.maximum(jnp.argmax(below, axis=0), 1)
    r = jnp.asarray(radii, profile.dtype)
    high = jnp.take_along_axis(profile, after[None] - 1, axis=0)[0]
    low = jnp.take_along_axis(profile, after[None], axis=0)[0]
    fraction = (high - threshold) / jnp.where(high > low, high - low, 1)
    return jnp.where(below.any(axis=0), r[after - 1] + fraction * (r[after] - r[after - 1]), jnp.inf)


def _carry_forward(profile: Float[Array, "r h"]) -> Float[Array, "r h"]:
    def step(last: Array, row: Array) -> tuple[Array, Array]:
        row = jnp.where(jnp.isnan(row), last, row)
        return row, row

    return jax.lax.scan(step, profile[0], profile)[1]


def _edges(dimensions: int, spacing: Sequence[float | int] | None) -> np.ndarray:
    edges = np.ones(dimensions) if spacing is None else np.asarray(spacing, float)
    if edges.shape != (dimensions,) or np.any(edges <= 0):
        raise ValueError(f"spacing: found {spacing}; accepted are {dimensions} positive edge lengths")
    return edges


def _lag_vectors(shape: tuple[int, ...], spacing: Sequence[float | int] | None) -> np.ndarray:
    axes = [grid.integer_lags(n) * edge for n, edge in zip(shape, _edges(len(shape), spacing), strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1)


def _shell_average(
    f: Array,
    vectors: np.ndarray,
    inside: np.ndarray,
    spacing: Sequence[float | int] | None,
    width: float | int | None,
    weights: ArrayLike | None,
) -> tuple[np.ndarray, Array]:
    shape = f.shape[:-2]
    edges = _edges(len(shape), spacing)
    thickness = float(edges.max()) if width is None else width
    reach = min((n // 2 * edge for n, edge in zip(shape, edges, strict=True) if n > 1), default=0.0)
    shells = int(reach / thickness + 1e-9) + 1
    distance = np.linalg.norm(vectors, axis=-1)
    # Halves go up: rounded to even they would leave every other shell with more lags than its neighbours.
    index = np.floor(distance / thickness + (0.5 + 1e-9)).astype(int)
    kept = inside & (index < shells) & ((index > 0) | (distance == 0))
    # Lags outside the shells or the cone go to an extra bin that is dropped.
    index = np.where(kept, index, shells).reshape(-1)
    weight = jnp.ones(shape, f.dtype) if weights is None else jnp.asarray(weights, f.dtype)
    averages = _binned_means(f.reshape(len(index), -1), weight.reshape(-1, 1), jnp.asarray(index), shells)
    return np.arange(shells) * thickness, averages.reshape(shells, *f.shape[-2:])


@partial(jax.jit, static_argnames="shells")
def _binned_means(
    flat: Float[Array, "n pairs"], weight: Float[Array, "n 1"], index: Int[Array, " n"], shells: int
) -> Float[Array, "{shells} pairs"]:
    """Weighted mean of the rows of each bin, without those that are NaN; the last bin, `shells`, is dropped."""
    present = ~jnp.isnan(flat)
    sums = jax.ops.segment_sum(jnp.where(present, flat, 0) * weight, index, shells + 1)[:shells]
    total = jax.ops.segment_sum(present * weight, index, shells + 1)[:shells]
    return jnp.where(total > 0, sums / jnp.where(total > 0, total, 1), jnp.nan)
