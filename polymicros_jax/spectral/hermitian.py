"""The check that every consumer of covariances makes: zero lag first, Hermitian in (pair, lag)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from polymicros_jax.spectral import grid

HERMITIAN_TOLERANCE = 1e-4
"""Largest ``|f^{bg}(r) - f^{gb}(-r)|`` relative to the largest value that passes as round-off of single precision."""


def check_covariances(covariances: Array, *, missing: bool = False) -> None:
    """Refuses covariances ``(*n, h, h)`` that no field can have; inside `jit` it does nothing.

    Args:
        covariances: FFT order, zero lag at index 0.
        missing: whether NaN lags are accepted.

    Raises:
        ValueError: for values that are not finite, or not ``f^{bg}(r) = f^{gb}(-r)``.

    >>> check_covariances(jnp.array([1.0, 0.5, 0.2, 0.3])[:, None, None])
    Traceback (most recent call last):
        ...
    ValueError: covariances: not Hermitian in (pair, lag): |f[r, b, g] - f[-r, g, b]| reaches ...
    """
    if isinstance(covariances, jax.core.Tracer):
        return
    # Evaluated now even where the caller is being traced: the values are constants there.
    with jax.ensure_compile_time_eval():
        bad, unknown, largest, asymmetry = (value.item() for value in _diagnosed(covariances))
    if bad or (unknown and not missing):
        accepted = "NaN for missing lags, finite elsewhere" if missing else "finite values; fill missing lags first"
        raise ValueError(f"covariances: {bad} infinite values and {unknown} NaN found; accepted are {accepted}")
    if asymmetry > HERMITIAN_TOLERANCE * largest:
        raise ValueError(
            f"covariances: not Hermitian in (pair, lag): |f[r, b, g] - f[-r, g, b]| reaches {asymmetry:.2g} of a "
            f"largest value {largest:.2g}; zero lag must be at index 0"
        )


@jax.jit
def _diagnosed(covariances: Array) -> tuple[Array, Array, Array, Array]:
    """Number of infinite values and of NaN, largest magnitude, and deviation from ``f^{bg}(r) = f^{gb}(-r)``.

    The latter two are over the lags that are known on both sides.
    """
    mirrored = jnp.swapaxes(grid.negate(covariances, tuple(range(covariances.ndim - 2))), -1, -2)
    difference = jnp.nan_to_num(jnp.abs(covariances - mirrored), nan=0.0)
    unknown = jnp.isnan(covariances)
    largest = jnp.abs(jnp.where(unknown, 0, covariances)).max()
    return jnp.isinf(covariances).sum(), unknown.sum(), largest, difference.max()
