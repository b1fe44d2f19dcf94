"""Descriptors beyond two-point statistics: chord lengths and lineal path of grains, three-point correlations.

Chord lengths and lineal path act on integer arrays of grain labels, on the host: they count runs. Lengths are in
voxels along one axis. Negative labels are no grain, as everywhere in `orientation.grains`: they count as unobserved.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from polymicros_jax.types import ArrayLike

Lag = tuple[int, ...]


def chord_length_counts(
    labels: Int[ArrayLike, "*n"],
    axis: int,
    *,
    periodic: bool = False,
    mask: Bool[ArrayLike, "*n"] | None = None,
) -> Int[np.ndarray, " lengths"]:
    """Number of chords of every length along an axis: maximal runs of one grain.

    A chord that the end of a non-periodic domain or an unobserved voxel cuts short is left out, since its length is
    not known. On a periodic domain a line that never leaves its grain counts as one chord of the length of the domain.

    Returns:
        Counts of lengths ``0 .. n`` (entry 0 is zero), n the number of voxels along the axis.

    >>> chord_length_counts(np.array([0, 0, 1, 1, 1, 2, 2, 0]), 0, periodic=True).tolist()  # 3, 2 and, wrapped, 3
    [0, 0, 1, 2, 0, 0, 0, 0, 0]
    """
    lines, seen = _lines(labels, axis, mask)
    count, n = lines.shape
    # cut[:, i]: a grain boundary lies between voxels i - 1 and i.
    cut = lines != np.roll(lines, 1, axis=1)
    cut |= seen != np.roll(seen, 1, axis=1)
    if not periodic:
        cut[:, 0] = True
    line, start = np.nonzero(cut)
    whole = ~cut.any(axis=1) & seen.all(axis=1)
    result = np.bincount(np.full(int(whole.sum()), n), minlength=n + 1)
    if len(line) == 0:
        return result
    # The next cut of the same line, or the first one again, a period further on.
    first = np.searchsorted(line, np.arange(count))
    last_of_line = np.append(line[1:] != line[:-1], True)
    stop = np.where(last_of_line, start[first[line]] + n, np.append(start[1:], 0))
    complete = seen[line, start] & seen[line, start - 1] & seen[line, stop % n]
    if not periodic:
        complete &= (start > 0) & (stop < n)
    return result + np.bincount((stop - start)[complete], minlength=n + 1)


def lineal_path(
    labels: Int[ArrayLike, "*n"],
    axis: int,
    *,
    periodic: bool = False,
    mask: Bool[ArrayLike, "*n"] | None = None,
) -> Float[np.ndarray, " reach"]:
    """Probability that a segment of r steps along an axis, from any observed voxel, lies in one grain, for r = 0 .. n
    // 2.

    Only segments inside the domain, and of observed voxels throughout, are counted; NaN where there is none.

    >>> lineal_path(np.array([0, 0, 0, 1, 1, 1]), 0, periodic=True).round(3).tolist()
    [1.0, 0.667, 0.333, 0.0]
    """
    lines, seen = _lines(labels, axis, mask)
    n = lines.shape[1]
    one_grain, observed = seen.copy(), seen.copy()
    result = np.full(n // 2 + 1, np.nan)
    for r in range(n // 2 + 1):
        if r:
            later_seen = np.roll(seen, -r, axis=1)
            same = np.roll(lines, -r, axis=1) == np.roll(lines, 1 - r, axis=1)
            observed &= later_seen
            one_grain &= later_seen & same
        inside = slice(None) if periodic else slice(0, n - r)
        if total := int(observed[:, inside].sum()):
            result[r] = one_grain[:, inside].sum() / total
    return result


def _lines(labels: ArrayLike, axis: int, mask: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    """Labels and observed flags as ``(lines, n)``, the lines parallel to `axis`."""
    labels = np.asarray(labels)
    seen = labels >= 0 if mask is None else np.asarray(mask) & (labels >= 0)
    n = labels.shape[axis]
    return np.moveaxis(labels, axis, -1).reshape(-1, n), np.moveaxis(seen, axis, -1).reshape(-1, n)


def straight_path(direction: Sequence[int], count: int) -> list[tuple[Lag, Lag]]:
    """The path of lag pairs ``(j d, 2 j d)`` along a direction of whole voxels, for `three_point`.

    The first pair, j = 0, is at zero lag; there are `count`.

    >>> straight_path((1, 0), 3)
    [((0, 0), (0, 0)), ((1, 0), (2, 0)), ((2, 0), (4, 0))]
    """
    return [(tuple(j * d for d in direction), tuple(2 * j * d for d in direction)) for j in range(count)]


def three_point(
    m: Shaped[ArrayLike, "*n h"], path: Sequence[tuple[Lag, Lag]], periodic: bool = True
) -> Float[Array, "p h h h"]:
    """Three-point correlations ``<m^b(s) m^g(s + r1) m^d(s + r2)>_s`` at each pair of lags ``(r1, r2)`` of a path.

    Third moments vanish for a zero-mean Gaussian field, so they tell a polycrystal from the random field of the same
    two-point statistics. Differentiable; the path is static.

    Args:
        m: field. Booleans and integers, as the indicator of a phase, count as numbers.
        path: pairs of integer lag vectors, for instance from `straight_path`.
        periodic: whether the domain wraps; otherwise only triples inside the domain count.

    Raises:
        ValueError: for a lag of the wrong number of components, or a triple that no voxel of a non-periodic domain has.

    >>> m = np.array([1.0, 1.0, 0.0, 0.0])[:, None]
    >>> three_point(m, straight_path((1,), 2)).ravel().tolist()  # a half is 1; never three in a row
    [0.5, 0.0]
    """
    m = jnp.asarray(m)
    # Sums have the type of the field: of booleans they would be booleans.
    m = m.astype(jnp.promote_types(m.dtype, jnp.float32))
    return jnp.stack([_triple(m, tuple(first), tuple(second), periodic) for first, second in path])


def _triple(m: Array, first: Lag, second: Lag, periodic: bool) -> Array:
    shape = m.shape[:-1]
    if len(first) != len(shape) or len(second) != len(shape):
        raise ValueError(f"path: lags {first}, {second}; accepted are vectors of {len(shape)} integers")
    corners = [(0,) * len(shape), first, second]
    if periodic:
        fields = [jnp.roll(m, [-c for c in corner], range(len(shape))) for corner in corners]
    else:
        low = [min(c) for c in zip(*corners, strict=True)]
        size = [n - max(c) + lo for n, c, lo in zip(shape, zip(*corners, strict=True), low, strict=True)]
        if min(size) < 1:
            raise ValueError(f"path: no voxel of a domain {shape} has partners at both {first} and {second}")
        fields = [
            m[tuple(slice(c - lo, c - lo + extent) for c, lo, extent in zip(corner, low, size, strict=True))]
            for corner in corners
        ]
    return _moments(*(field.reshape(-1, m.shape[-1]) for field in fields))


@jax.jit
def _moments(a: Float[Array, "n h"], b: Float[Array, "n h"], c: Float[Array, "n h"]) -> Float[Array, "h h h"]:
    """Mean products of three lists of voxels."""
    precision = jax.lax.Precision.HIGHEST
    # One third channel at a time: the products of all pairs would take h^2 fields of memory.
    moments = jax.lax.map(lambda third: jnp.matmul(a.T, b * third[:, None], precision=precision), c.T)
    return jnp.moveaxis(moments, 0, -1) / len(a)
