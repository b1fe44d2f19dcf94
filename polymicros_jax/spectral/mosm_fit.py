"""Fitting the MOSM kernel to measured covariances by gradient descent (App. B.1, Fig. 7)."""

import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from polymicros_jax.spectral.hermitian import check_covariances
from polymicros_jax.spectral.mosm_kernel import MosmParams, covariance, with_band
from polymicros_jax.types import ArrayLike

LEAST_VARIANCE = 0.2
"""Smallest A of a fit: a correlation length of 2.2 on a domain of 2 pi. Below it the kernel fills the domain."""

MOST_MIXTURES = 16


@dataclasses.dataclass(frozen=True)
class MosmFit:
    """Result of a fit.

    Attributes:
        params: the best parameters met.
        error: root mean square error over all pairs and observed lags, relative to the root mean square of the target.
        history: the same error at every step, shape ``(steps,)``.
    """

    params: MosmParams
    error: Float[Array, ""]
    history: Float[Array, " steps"]


def fit(
    covariances: Float[ArrayLike, "*n h h"],
    mixtures: int = 4,
    *,
    seed: int = 0,
    steps: int = 600,
    learning_rate: float = 0.03,
    starts: int = 4,
) -> MosmFit:
    """Fits MOSM parameters to covariances on a periodic grid by Adam on the mean squared error.

    Every channel's weights start at an equal share of its variance. Wavenumbers, widths, delays and phases start at
    random, for several starts at once, and the best of them is kept: the error has local minima.

    Args:
        covariances: target, FFT order; NaN lags are left out.
        mixtures: Q, from 1 to 16.
        seed: of the random starts.
        steps: gradient steps of every start.
        learning_rate: peak rate, decayed along a cosine.
        starts: number of random starts.

    Raises:
        ValueError: for a number of mixtures outside 1 to 16, or covariances that are infinite, not Hermitian in (pair,
            lag), or without variance at zero lag.

    >>> import numpy as np
    >>> x = np.fft.fftfreq(32) * 2 * np.pi
    >>> target = 0.25 * np.exp(-4.0 * x**2 / 2)[:, None, None]
    >>> found = fit(target, mixtures=1, steps=200, starts=2)
    >>> bool(found.error < 0.05), round(float(found.params.variance[0, 0, 0]), 1)
    (True, 4.0)
    """
    target = jnp.asarray(covariances)
    if not 1 <= mixtures <= MOST_MIXTURES:
        raise ValueError(f"mixtures: found {mixtures}; accepted are 1 to {MOST_MIXTURES}")
    check_covariances(target, missing=True)
    zero = target[(0,) * (target.ndim - 2)]
    if not bool((jnp.diagonal(zero) > 0).all()):
        raise ValueError("covariances: a channel has no variance at zero lag (index 0); nothing to fit")
    keys = jax.random.split(jax.random.key(seed), starts)
    free, best, history = _descend_all(keys, target, mixtures, steps, learning_rate)
    chosen = int(jnp.argmin(best))
    params = with_band(_constrained(jax.tree.map(lambda leaf: leaf[chosen], free)))
    return MosmFit(params=params, error=best[chosen], history=history[chosen])


def relative_error(params: MosmParams, covariances: Float[ArrayLike, "*n h h"]) -> Float[Array, ""]:
    """Root mean square error of the kernel on the lags present, relative to the root mean square of the covariances.

    >>> from polymicros_jax.spectral.mosm_kernel import covariance
    >>> zero = jnp.zeros((1, 1, 1))
    >>> one = MosmParams(jnp.ones((1, 1)), zero, zero + 4.0, zero, jnp.zeros((1, 1)))
    >>> round(float(relative_error(one, 2 * covariance(one, (8,)))), 3)
    0.5
    """
    return jnp.sqrt(relative_error_squared(params, jnp.asarray(covariances)))


@partial(jax.jit, static_argnames=("mixtures", "steps", "learning_rate"))
def _descend_all(
    keys: Array, target: Array, mixtures: int, steps: int, learning_rate: float
) -> tuple[dict[str, Array], Array, Array]:
    """All starts, one after the other: side by side they would hold as many copies of the covariances."""
    return jax.lax.map(lambda key: _descend(key, target, mixtures, steps, learning_rate), keys)


def _descend(
    key: Array, target: Array, mixtures: int, steps: int, learning_rate: float
) -> tuple[dict[str, Array], Array, Array]:
    """One start: the free parameters with the smallest error met, that error, and the error at every step."""
    optimiser = optax.adam(optax.cosine_decay_schedule(learning_rate, steps, alpha=0.01))
    start = _start(key, target, mixtures)
    # The squared error, not its root: the root has no gradient at a perfect fit.
    loss = jax.value_and_grad(lambda free: relative_error_squared(_constrained(free), target))

    def step(carry: tuple, _: None) -> tuple[tuple, Array]:
        free, state, best_free, best = carry
        value, gradient = loss(free)
        better = value < best
        best_free = jax.tree.map(lambda new, old: jnp.where(better, new, old), free, best_free)
        updates, state = optimiser.update(gradient, state, free)
        return (optax.apply_updates(free, updates), state, best_free, jnp.minimum(value, best)), jnp.sqrt(value)

    infinite = jnp.asarray(jnp.inf, target.dtype)
    carry, history = jax.lax.scan(step, (start, optimiser.init(start), start, infinite), None, length=steps)
    return carry[2], jnp.sqrt(carry[3]), history


def relative_error_squared(params: MosmParams, target: Float[Array, "*n h h"]) -> Float[Array, ""]:
    """Mean squared error over the lags present, relative to the mean square of the target.

    >>> from polymicros_jax.spectral.mosm_kernel import covariance
    >>> zero = jnp.zeros((1, 1, 1))
    >>> one = MosmParams(jnp.ones((1, 1)), zero, zero + 4.0, zero, jnp.zeros((1, 1)))
    >>> round(float(relative_error_squared(one, 2 * covariance(one, (8,)))), 3)
    0.25
    """
    present = ~jnp.isnan(target)
    known = jnp.where(present, target, 0)
    residual = jnp.where(present, covariance(params, target.shape[:-2]) - known, 0)
    return jnp.sum(residual**2) / jnp.sum(known**2)


def _start(key: Array, target: Array, mixtures: int) -> dict[str, Array]:
    """Random free parameters of unit scale, with weights that share each channel's variance equally."""
    channels, dimensions = target.shape[-1], target.ndim - 2
    keys = jax.random.split(key, 4)
    vector = (mixtures, channels, dimensions)
    # One start for a mixture's place in wavenumber, nearly common to its channels: only then do cross-covariances
    # overlap.
    common = jax.random.normal(keys[0], (mixtures, 1, dimensions), target.dtype) * 1.5
    spread = jax.random.normal(keys[1], (2, *vector), target.dtype) * 0.2
    width = jax.random.uniform(keys[2], (mixtures, 1, dimensions), target.dtype, math.log(1.0), math.log(8.0))
    log_variance = jnp.broadcast_to(width, vector) + spread[1]
    variance = LEAST_VARIANCE + jnp.exp(log_variance)
    gaussian = (2 * math.pi) ** (dimensions / 2) * jnp.sqrt(jnp.prod(variance, -1))
    own = jnp.diagonal(target[(0,) * dimensions])
    weight = jnp.sqrt(own[None, :] / (mixtures * gaussian))
    phase = jax.random.uniform(keys[3], (mixtures, channels), target.dtype, 0, 2 * math.pi)
    return {
        # A relative weight, so that one learning rate serves fields of any variance.
        "gain": jnp.ones_like(weight),
        "scale": weight,
        "mean": jnp.broadcast_to(common, vector) + spread[0],
        "log_variance": log_variance,
        "delay": jnp.zeros(vector, target.dtype),
        "phase": phase,
    }


def _constrained(free: dict[str, Array]) -> MosmParams:
    return MosmParams(
        # The scale only sets units; it is not trained.
        weight=free["gain"] * jax.lax.stop_gradient(free["scale"]),
        mean=free["mean"],
        variance=LEAST_VARIANCE + jnp.exp(free["log_variance"]),
        delay=free["delay"],
        phase=free["phase"],
    )
