"""The multi-output spectral mixture kernel on the periodic grid (Eq. 2, 13 to 18; Parra & Tobar 2017).

Eq. 14 of the paper is misprinted. The mean of a pair is ``s_bg = (A_b + A_g)^{-1} (A_b s_g + A_g s_b)``: the product
of two Gaussians of variances A_b and A_g is centred nearer to the narrower one. The printed form exchanges the two
and is not positive definite.

Domain: every axis spans ``[-pi, pi)``, so wavenumbers are integers (`spectral.grid`). On that periodic domain the
covariance is the kernel summed over periodic images, which is the same as its spectral density sampled at the integer
wavenumbers, aliases included: positive semi-definite by construction. All matrices A are diagonal, so each mixture is
the real part of a product of functions of one axis, and sums over images are sums along one axis at a time.

Sign: ``covariance[r, b, g] = k_bg(r) = E[m^b(s) m^g(s + r)]``, Eq. 2 read with the index order of Eq. 1.
"""

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from polymicros_jax.spectral import grid
from polymicros_jax.types import ArrayLike

IMAGES = 3
"""Periodic images summed on either side: the first one left out is ``exp(-A (6 pi - 1)^2 / 2)``, 1e-14 even at A = 0.2.
"""

Leaf = Any
"""An array, or the placeholder that JAX puts in its place while it lowers a function."""

DENSITY_FLOOR = 1e-12
"""Spectral density, relative to a mixture's peak, below which wavenumbers are left out of a draw."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["weight", "mean", "variance", "delay", "phase"],
    meta_fields=["band"],
)
@dataclasses.dataclass(frozen=True)
class MosmParams:
    """Parameters of Q mixtures, h channels, d space dimensions; any leading batch axes. 11 numbers per mixture and
    channel in 3D.

    Attributes:
        weight: w, shape ``(*batch, Q, h)``.
        mean: s, centre of the mixture in wavenumbers, ``(*batch, Q, h, d)``.
        variance: diagonal of A, in squared wavenumbers, ``(*batch, Q, h, d)``; positive. ``A^{-1/2}`` is a length on
            ``[-pi, pi)``; below 0.05 it is so long that `covariance` leaves images out (3e-6 at 0.05, 3e-2 at 0.01).
        delay: theta, radians of the domain, ``(*batch, Q, h, d)``.
        phase: phi, radians, ``(*batch, Q, h)``.
        band: largest wavenumber that a draw represents; static, so that shapes do not depend on values. `required_band`
            computes it.

    >>> one = MosmParams(
    ...     weight=jnp.full((1, 1), 0.5),
    ...     mean=jnp.zeros((1, 1, 2)),
    ...     variance=jnp.full((1, 1, 2), 4.0),
    ...     delay=jnp.zeros((1, 1, 2)),
    ...     phase=jnp.zeros((1, 1)),
    ... )
    >>> jax.tree.map(np.shape, one).variance
    (1, 1, 2)
    """

    weight: Leaf
    mean: Leaf
    variance: Leaf
    delay: Leaf
    phase: Leaf
    band: int = 48


def required_band(mean_limit: float, variance_limit: float) -> int:
    """Smallest band outside of which any mixture within the limits has a density below `DENSITY_FLOOR` of its peak.

    >>> required_band(mean_limit=2.0, variance_limit=16.0)
    32
    """
    return math.ceil(mean_limit + math.sqrt(-2 * math.log(DENSITY_FLOOR) * variance_limit))


def with_band(params: MosmParams) -> MosmParams:
    """The same parameters with the smallest sufficient band; needs concrete values, so not inside `jit`.

    >>> zero = jnp.zeros((1, 1, 1))
    >>> one = MosmParams(jnp.ones((1, 1)), zero, zero + 4.0, zero, jnp.zeros((1, 1)))
    >>> with_band(one).band
    15
    """
    mean, variance = np.asarray(params.mean), np.asarray(params.variance)  # known values stay so while JAX traces
    band = required_band(float(np.abs(mean).max()), float(variance.max()))
    return dataclasses.replace(params, band=band)


@dataclasses.dataclass(frozen=True)
class PairParams:
    """Parameters of every pair of channels (Eqs. 13 to 18).

    Amplitude and phase are ``(Q, h, h)``, the others ``(Q, h, h, d)``.
    """

    amplitude: jax.Array
    mean: jax.Array
    variance: jax.Array
    delay: jax.Array
    phase: jax.Array


def pair_params(params: MosmParams) -> PairParams:
    """Combines the parameters of single channels into those of pairs (Eqs. 13 to 18, Eq. 14 corrected).

    >>> zero, mean, variance = jnp.zeros((1, 2, 1)), jnp.array([0.0, 3.0]), jnp.array([1.0, 2.0])
    >>> two = MosmParams(
    ...     jnp.ones((1, 2)), mean.reshape(1, 2, 1), variance.reshape(1, 2, 1), zero, jnp.zeros((1, 2))
    ... )
    >>> pair_params(two).mean[0, :, :, 0].round(3).tolist()  # of the pair: nearer to the narrower one
    [[0.0, 1.0], [1.0, 3.0]]
    """
    A_b, A_g = params.variance[:, :, None, :], params.variance[:, None, :, :]
    s_b, s_g = params.mean[:, :, None, :], params.mean[:, None, :, :]
    total = A_b + A_g
    A = 2 * A_b * A_g / total  # Eq. 13
    s = (A_b * s_g + A_g * s_b) / total  # Eq. 14, corrected
    overlap = jnp.exp(-0.25 * jnp.sum((s_b - s_g) ** 2 / total, -1))
    w = params.weight[:, :, None] * params.weight[:, None, :] * overlap  # Eq. 15
    theta = params.delay[:, :, None, :] - params.delay[:, None, :, :]  # Eq. 16
    phi = params.phase[:, :, None] - params.phase[:, None, :]  # Eq. 17
    alpha = w * (2 * math.pi) ** (A.shape[-1] / 2) * jnp.sqrt(jnp.prod(A, -1))  # Eq. 18
    return PairParams(amplitude=alpha, mean=s, variance=A, delay=theta, phase=phi)


def kernel(params: MosmParams, r: Float[ArrayLike, "*n d"]) -> Float[Array, "*n h h"]:
    """The kernel of Eq. 2 in infinite space at lags `r` (radians of the domain), without periodic images.

    >>> zero = jnp.zeros((1, 1, 1))
    >>> one = MosmParams(jnp.ones((1, 1)), zero, zero + 4.0, zero, jnp.zeros((1, 1)))
    >>> k = kernel(one, np.array([[0.0], [0.5], [1.0]]))[:, 0, 0]
    >>> (k / k[0]).round(3).tolist(), np.exp([0.0, -0.5, -2.0]).round(3).tolist()  # exp(-A r^2 / 2)
    ([1.0, 0.607, 0.135], [1.0, 0.607, 0.135])
    """
    pair = pair_params(params)
    r = jnp.asarray(r)
    lag = r[..., None, None, None, :]
    lead = (1,) * (r.ndim - 1)
    theta, s, A = (value.reshape(lead + value.shape) for value in (pair.delay, pair.mean, pair.variance))
    shifted = lag + theta
    envelope = jnp.exp(-0.5 * jnp.sum(A * shifted**2, -1))
    wave = jnp.cos(jnp.sum(shifted * s, -1) + pair.phase.reshape(lead + pair.phase.shape))
    return jnp.sum(pair.amplitude.reshape(lead + pair.amplitude.shape) * envelope * wave, axis=-3)


def covariance(params: MosmParams, shape: tuple[int, ...]) -> Float[Array, "*n h h"]:
    """Covariances on the periodic grid: the kernel of Eq. 2 summed over periodic images.

    Args:
        params: one parameter set, without batch axes (use `jax.vmap` for many).
        shape: number of voxels along each axis, as many as the parameters have space dimensions.

    Returns:
        ``(*shape, h, h)``, zero lag at index 0: what `two_point.covariances` of a sampled field estimates.

    Raises:
        ValueError: for a shape of the wrong number of axes.

    >>> zero = jnp.zeros((1, 1, 1))
    >>> one = MosmParams(jnp.ones((1, 1)), zero, zero + 4.0, zero, jnp.zeros((1, 1)))
    >>> k = covariance(one, (8,))
    >>> k.shape, (k[:, 0, 0] / k[0, 0, 0]).round(3).tolist()
    ((8, 1, 1), [1.0, 0.291, 0.007, 0.0, 0.0, 0.0, 0.007, 0.291])
    """
    dimensions = params.mean.shape[-1]
    if len(shape) != dimensions:
        raise ValueError(f"shape: {shape} has {len(shape)} axes; the parameters have {dimensions} space dimensions")
    return _covariance(params, tuple(shape))


@partial(jax.jit, static_argnums=1)
def _covariance(params: MosmParams, shape: tuple[int, ...]) -> Array:
    pair = pair_params(params)
    channels = params.weight.shape[-1]
    factors = [_periodic_factor(pair, n, axis) for axis, n in enumerate(shape)]
    amplitude = pair.amplitude * jnp.exp(1j * pair.phase)

    def one(total: Array, q: Array) -> tuple[Array, None]:
        product = amplitude[q]
        for axis, factor in enumerate(factors):
            lead = [1] * len(shape)
            lead[axis] = shape[axis]
            along = factor[q].reshape(*lead, channels, channels)
            product = along * (product if axis else product.reshape(*([1] * len(shape)), channels, channels))
        return total + product.real, None

    start = jnp.zeros((*shape, channels, channels), amplitude.real.dtype)
    return jax.lax.scan(one, start, jnp.arange(params.weight.shape[0]))[0]


def _periodic_factor(pair: PairParams, n: int, axis: int) -> Complex[Array, "q n h h"]:
    """One axis of every mixture, summed over periodic images: ``sum_j exp(-A x_j^2 / 2 + i s x_j)``,
    ``x_j = r + theta + 2 pi j``.
    """
    A, s, theta = (value[:, None, None, :, :, axis] for value in (pair.variance, pair.mean, pair.delay))
    images = 2 * math.pi * np.arange(-IMAGES, IMAGES + 1)
    positions = jnp.asarray(
        grid.lag_coordinates(n)[None, :, None, None, None] + images[None, None, :, None, None], A.dtype
    )
    x = positions + theta - 2 * math.pi * jnp.round(theta / (2 * math.pi))  # whole images further it is the same sum
    return jnp.sum(jnp.exp(-0.5 * A * x**2 + 1j * (s * x)), axis=2)


def amplitude_filters(params: MosmParams, wavenumbers: Float[ArrayLike, " k"]) -> Complex[Array, "q h d k"]:
    """One axis at a time, the square root of the spectral density of every mixture and channel, without weight and
    phase.

    ``R_qb(k) = w exp(-i phi) prod_a F[q, b, a, k_a]`` with ``F = exp(-(k - s)^2 / 4A) exp(-i theta k)``. A field
    ``Re sum_k R_b(k) z(k) exp(i k.x)`` has ``E[m^b(s) m^g(s+r)] = Re sum_k conj(R_b) R_g exp(i k.r)``, which is Eq. 2
    as it stands. (With ``exp(+i theta k)`` and this transform the pairs come out transposed.)

    >>> zero = jnp.zeros((1, 1, 1))
    >>> one = MosmParams(jnp.ones((1, 1)), zero + 1.0, zero + 4.0, zero, jnp.zeros((1, 1)))
    >>> amplitude_filters(one, jnp.array([-1.0, 0.0, 1.0])).real.round(3).ravel().tolist()  # largest at its mean, 1
    [0.779, 0.939, 1.0]
    """
    s, A, theta = (value[..., None] for value in (params.mean, params.variance, params.delay))
    k = jnp.asarray(wavenumbers, s.dtype)[None, None, None, :]
    return jnp.exp(-((k - s) ** 2) / (4 * A) - 1j * (theta * k))
