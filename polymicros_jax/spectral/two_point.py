"""Two-point statistics of vector fields (Sec. 2.1.1, Eq. 1; App. A.4, Eq. 12).

*Correlations* are second moments and contain the mean; *covariances* do not. Both are indexed ``[lag..., b, g]`` with
``f^{bg}(r) = <m^b(s) m^g(s + r)>_s``, so ``f^{bg}(r) = f^{gb}(-r)``. Lags are in FFT order (see `spectral.grid`).

Periodic statistics wrap around the domain. Non-periodic ones pad with zeros and divide by the number of pairs at each
lag; they are given at the same lags as the periodic ones, that is up to half the domain, where there are still many
pairs. Voxels outside the mask are unobserved: they enter neither sums nor counts, and may hold NaN. A lag with fewer
than `min_pairs` pairs is missing and comes back as NaN; `pair_counts` tells how many pairs every lag has.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Int, PyTree, Shaped

from polymicros_jax.spectral import grid
from polymicros_jax.types import ArrayLike

AXES = ("x", "y", "z")


def correlations(
    m: Shaped[ArrayLike, "*n h"],
    periodic: bool = True,
    mask: Bool[ArrayLike, "*n"] | None = None,
    *,
    min_pairs: int | None = None,
) -> Float[Array, "*n h h"]:
    """Two-point correlations of all pairs of channels (Eq. 1), in one, two or three dimensions.

    Args:
        m: field ``(nx, ny, nz, h)``, or a 2D map ``(nx, ny, h)``. Booleans and integers, as the indicator of a phase,
            count as numbers.
        periodic: whether the domain wraps; otherwise it is padded with zeros and divided by the pair counts.
        mask: True where the voxel was observed; None for everywhere.
        min_pairs: lags with fewer pairs are NaN. Default one in a million voxels (at least 1): a transform in single
            precision cannot count fewer.

    Returns:
        ``f[r, b, g]``, zero lag at index 0.

    Raises:
        ValueError: for a field that is not finite where observed (checked outside `jit`), a mask of another shape, or
            one that keeps nothing.

    >>> two = np.array([[0.0, 1.0], [1.0, 0.0]])[..., None]  # a chequered map, ones on half of it
    >>> correlations(two)[..., 0, 0].round(3).tolist()  # <m m>: 1/2, and none between neighbours
    [[0.5, 0.0], [0.0, 0.5]]
    """
    m, observed = _checked(m, mask)
    return _correlations(m, observed, periodic, _default_min_pairs(m) if min_pairs is None else min_pairs)


def covariances(
    m: Shaped[ArrayLike, "*n h"],
    periodic: bool = True,
    mask: Bool[ArrayLike, "*n"] | None = None,
    *,
    min_pairs: int | None = None,
) -> Float[Array, "*n h h"]:
    """Two-point covariances of all pairs of channels: the correlations of the field less its mean over observed voxels.

    Periodic and unmasked this is ``f - mu mu^T`` (Eq. 12) exactly. Otherwise the pairs at a lag see other voxels than
    the mean does, Eq. 12 is biased there, and the mean is taken off before the sums. Arguments and errors as in
    `correlations`.

    >>> two = np.array([[0.0, 1.0], [1.0, 0.0]])[..., None]
    >>> covariances(two)[..., 0, 0].round(3).tolist()
    [[0.25, -0.25], [-0.25, 0.25]]
    """
    m, observed = _checked(m, mask)
    centred = m - jnp.broadcast_to(channel_mean(m, observed), m.shape)
    return _correlations(centred, observed, periodic, _default_min_pairs(m) if min_pairs is None else min_pairs)


def channel_mean(m: Shaped[ArrayLike, "*n h"], mask: Bool[ArrayLike, "*n"] | None = None) -> Float[Array, " h"]:
    """One-point statistics: the mean of every channel over the observed voxels.

    >>> m = np.array([[1.0, 10.0], [3.0, np.nan]])
    >>> channel_mean(m[:, :1]).tolist(), channel_mean(m, np.array([True, False])).tolist()
    ([2.0], [1.0, 10.0])
    """
    m = jnp.asarray(m)
    where = None if mask is None else jnp.asarray(mask)[..., None]
    return jnp.mean(m, axis=tuple(range(m.ndim - 1)), where=where)


def pair_counts(mask: Bool[ArrayLike, "*n"], periodic: bool = True) -> Int[Array, "*n"]:
    """Number of pairs of observed voxels at every lag.

    The Nyquist lag of an even non-periodic axis pools ``+n/2`` and ``-n/2``.

    Raises:
        ValueError: for a mask that is not boolean.

    >>> pair_counts(np.ones(5, bool), periodic=False).tolist()  # n - |r|
    [5, 4, 3, 3, 4]
    """
    observed = jnp.asarray(mask)
    if observed.dtype != bool:
        raise ValueError(f"mask: found {observed.dtype}, accepted is bool")
    counts = _pair_sums(observed.astype(jnp.result_type(float))[..., None], periodic, 1)[..., 0, 0]
    return jnp.round(counts).astype(jnp.int32)


def map_pairs(
    function: Callable[[Float[Array, "*n"]], PyTree],
    m: Shaped[ArrayLike, "*n h"],
) -> PyTree:
    """Applies `function` to the periodic correlation of each ordered pair of channels, one pair at a time.

    For reductions (radial averages, planes, lengths) of many channels: the full ``(*n, h, h)`` array, 0.7 GB for nine
    channels at 128^3, is never built. Returns the results stacked on two leading axes ``(h, h, ...)``. Raises as
    `correlations`.

    >>> m = np.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 2.0], [-1.0, 2.0]])
    >>> map_pairs(lambda f: f[0], m).round(3).tolist()  # zero lag: mean products of the two channels
    [[1.0, 0.0], [0.0, 2.0]]
    """
    m, _ = _checked(m, None)
    spatial, channels = m.shape[:-1], m.shape[-1]
    axes = tuple(range(len(spatial)))
    spectra = grid.forward(jnp.moveaxis(m, -1, 0), tuple(a + 1 for a in axes))

    def one(pair: Int[Array, "2"]) -> PyTree:
        product = jnp.conj(spectra[pair[0]]) * spectra[pair[1]] / math.prod(spatial)
        return function(grid.inverse(product, spatial, axes))

    pairs = jnp.asarray(np.stack(np.meshgrid(range(channels), range(channels), indexing="ij"), -1).reshape(-1, 2))
    results = jax.lax.map(one, pairs)
    return jax.tree.map(lambda leaf: leaf.reshape(channels, channels, *leaf.shape[1:]), results)


def orthogonal_planes(m: Shaped[ArrayLike, "nx ny nz h"]) -> dict[str, Float[Array, "_ _ h h"]]:
    """Correlations of a periodic volume at the lags that lie in the three coordinate planes through zero lag.

    Key ``"x"`` is the plane **normal** to x: lags ``(0, ry, rz)``, shape ``(ny, nz, h, h)``; ``"y"`` has
    ``(rx, 0, rz)`` and ``"z"`` has ``(rx, ry, 0)``. Each is the average over the slices normal to that axis of their
    2D correlations, so no three-dimensional lag array is ever built. They contain the mean, like all correlations;
    differentiable. Raises as `correlations`.

    >>> layers = np.arange(2.0)[:, None, None, None] * np.ones((2, 2, 2, 1))  # changes along x alone
    >>> planes = orthogonal_planes(layers)
    >>> planes["x"][..., 0, 0].round(3).tolist(), planes["z"][..., 0, 0].round(3).tolist()
    ([[0.5, 0.5], [0.5, 0.5]], [[0.5, 0.5], [0.0, 0.0]])
    """
    m, _ = _checked(m, None)
    return {name: _slice_average(jnp.moveaxis(m, axis, 0)) for axis, name in enumerate(AXES)}


def slice_planes(
    slices: Mapping[str, Shaped[ArrayLike, "_ _ h"]],
    periodic: bool = True,
    masks: Mapping[str, Bool[ArrayLike, "_ _"]] | None = None,
) -> dict[str, Float[Array, "_ _ h h"]]:
    """Correlations of single 2D maps, one for each normal: what `orthogonal_planes` is matched to in 2D-to-3D (App.
    D.2).

    Each target comes from its own map alone. A measured map does not wrap: pass ``periodic=False`` to count only pairs
    that are there.

    Args:
        slices: axis name ``"x"``, ``"y"`` or ``"z"`` (the **normal**) to the map ``(n, n, h)`` on the other two axes
            in order.
        periodic: as in `correlations`.
        masks: observed pixels of each map, for the axes that need one.

    Raises:
        ValueError: for an axis name that is none of x, y, z, a mask without its map, and as in `correlations`.

    >>> section = np.array([[0.0, 1.0], [1.0, 0.0]])[..., None]
    >>> slice_planes({"z": section})["z"][..., 0, 0].round(3).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """
    unknown = sorted(set(slices) - set(AXES))
    if unknown:
        raise ValueError(f"slices: unknown axis {unknown}; accepted are {list(AXES)}, the normal of each map")
    masks = masks or {}
    if stray := sorted(set(masks) - set(slices)):
        raise ValueError(f"masks: found {stray}, for which there is no map; accepted are {sorted(slices)}")
    return {name: correlations(plane, periodic, masks.get(name)) for name, plane in slices.items()}


def _checked(m: ArrayLike, mask: ArrayLike | None) -> tuple[Array, Array | None]:
    """Device arrays of a field and its mask, after the checks that the public functions promise."""
    m = jnp.asarray(m)
    # Pair counts have the type of the field: as uint8 they would wrap at 256.
    m = m.astype(jnp.promote_types(m.dtype, jnp.float32))
    if not 2 <= m.ndim <= 4:
        raise ValueError(
            f"field: shape {m.shape} has {m.ndim - 1} spatial axes; accepted are 1 to 3 and one channel axis"
        )
    if mask is not None and mask.shape != m.shape[:-1]:
        raise ValueError(f"mask: shape {mask.shape} does not match the voxels of the field, {m.shape[:-1]}")
    observed = None if mask is None else jnp.asarray(mask)
    if observed is not None and observed.dtype != bool:
        raise ValueError(f"mask: found {observed.dtype}, accepted is bool")
    if isinstance(m, jax.core.Tracer) or isinstance(observed, jax.core.Tracer):
        return m, observed
    # Evaluated now even where the caller is being traced: the values are constants there.
    with jax.ensure_compile_time_eval():
        kept = observed is None or bool(observed.any())
        finite = jnp.isfinite(m) if observed is None else jnp.isfinite(m) | ~observed[..., None]
        bad = 0 if bool(finite.all()) else int((~finite).sum())
    if not kept:
        raise ValueError("mask: keeps no voxel; at least one must be observed")
    if bad:
        raise ValueError(f"field: {bad} values are not finite; mask unobserved voxels")
    return m, observed


def _default_min_pairs(m: Array) -> int:
    return max(1, math.ceil(1e-6 * math.prod(m.shape[:-1])))


def _correlations(m: Array, observed: Array | None, periodic: bool, min_pairs: int) -> Array:
    # Not one program but several, which an outer `jit` makes one of again. See `_pair_sums`.
    if observed is None:
        if periodic:
            return _pair_sums(m, periodic, math.prod(m.shape[:-1]))
        counts = jnp.asarray(_full_counts(m.shape[:-1]), m.dtype)
    else:
        m, counts = _observed_only(m, observed, periodic)
    return _means(_pair_sums(m, periodic, 1), counts, min_pairs)


@partial(jax.jit, static_argnames="periodic")
def _observed_only(m: Array, observed: Array, periodic: bool) -> tuple[Array, Array]:
    """The field with zeros where it was not observed, and the pair counts."""
    counts = jnp.round(_pair_sums(observed.astype(m.dtype)[..., None], periodic, 1)[..., 0, 0])
    # `where` rather than a product: unobserved voxels may hold NaN.
    return jnp.where(observed[..., None], m, 0), counts


@jax.jit
def _means(sums: Array, counts: Array, min_pairs: int | Array) -> Array:
    means = sums / jnp.maximum(counts, 1)[..., None, None]
    return jnp.where((counts >= min_pairs)[..., None, None], means, jnp.nan)


def _full_counts(shape: tuple[int, ...]) -> np.ndarray:
    """Pair counts of a full non-periodic grid: the product of ``n - |r|``, doubled at a pooled Nyquist lag."""
    counts = np.ones(shape)
    for axis, n in enumerate(shape):
        along = n - np.abs(grid.integer_lags(n))
        if n % 2 == 0 and n > 1:
            along[n // 2] *= 2
        counts *= along.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return counts


def _pair_sums(m: Float[Array, "*n h"], periodic: bool, divisor: int) -> Float[Array, "*n h h"]:
    """``sum_s m^b(s) m^g(s + r) / divisor`` for all pairs, over the periodic or the zero-padded domain.

    Only pairs ``b <= g`` are transformed; the others are their mirror images. Each transform is a program of its own:
    in one program the arrays of all pairs lie in one block, which the operating system hands out page by page at every
    call, and that takes as long as the transforms. Blocks of one pair are used again.
    """
    spatial, channels = m.shape[:-1], m.shape[-1]
    lengths = spatial if periodic else tuple(grid.padded_length(n) for n in spatial)
    spectra = [_channel_spectrum(m, channel, lengths) for channel in range(channels)]
    sums = {
        (b, g): _pair_sum(spectra[b], spectra[g], divisor, spatial, lengths)
        for b in range(channels)
        for g in range(b, channels)
    }
    del spectra
    return _interleaved(
        [sums[b, g] if b <= g else _mirrored(sums[g, b]) for b in range(channels) for g in range(channels)]
    )


@partial(jax.jit, static_argnums=2)
def _channel_spectrum(m: Array, channel: int | Array, lengths: tuple[int, ...]) -> Array:
    """Half spectrum of one channel, padded with zeros to ``lengths``."""
    values = jax.lax.dynamic_index_in_dim(m, channel, axis=-1, keepdims=False)
    pad = [(0, length - n) for n, length in zip(values.shape, lengths, strict=True)]
    return grid.forward(jnp.pad(values, pad), tuple(range(values.ndim)))


@partial(jax.jit, static_argnums=(3, 4))
def _pair_sum(
    first: Array, second: Array, divisor: int | Array, spatial: tuple[int, ...], lengths: tuple[int, ...]
) -> Array:
    """One pair of `_pair_sums`."""
    sums = grid.inverse(jnp.conj(first) * second / divisor, lengths, tuple(range(len(spatial))))
    for axis, (n, length) in enumerate(zip(spatial, lengths, strict=True)):
        if n != length:
            sums = grid.crop_lags(sums, n, axis)
    return sums


@jax.jit
def _mirrored(sums: Array) -> Array:
    return grid.negate(sums, tuple(range(sums.ndim)))


@jax.jit
def _interleaved(pairs: list[Array]) -> Array:
    """Arrays of all pairs, in the order of a matrix, as one with two further axes."""
    channels = math.isqrt(len(pairs))
    return jnp.stack(pairs, axis=-1).reshape(*pairs[0].shape, channels, channels)


@jax.jit
def _slice_average(slices: Float[Array, "s p q h"]) -> Float[Array, "p q h h"]:
    """Mean over slices of their periodic 2D correlations; the average is taken in the spectrum, before the inverse
    transform.
    """
    p, q = slices.shape[1:3]
    spectra: Complex[Array, "s p k h"] = grid.forward(slices, (1, 2))
    power = jnp.einsum("spkb,spkg->pkbg", jnp.conj(spectra), spectra, precision=jax.lax.Precision.HIGHEST)
    return grid.inverse(power / math.prod(slices.shape[:3]), (p, q), (0, 1))
