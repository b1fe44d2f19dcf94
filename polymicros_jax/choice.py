"""The larger of two, the smaller of two, and clipping, with derivatives that no rounding can take away.

JAX differentiates `maximum`, `minimum` and `clip` by asking which argument *equals* the result. A compiler may compute
an argument once more for the derivative, fused with other operations and so rounded otherwise; then none is equal, and
the derivative is silently zero (jax issue 40564 has it on GPUs; XLA's older emitters do it on CPUs). Here one
comparison chooses, and whichever way it falls, one argument has the derivative.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from polymicros_jax.types import ArrayLike


def ordered(a: Float[ArrayLike, "*n"], b: Float[ArrayLike, "*n"]) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """The larger and the smaller; of equals the second is the larger. Where one is NaN, both are there once.

    >>> [x.tolist() for x in ordered(jnp.array([1.0, 3.0]), jnp.array([2.0, 2.0]))]
    [[2.0, 3.0], [1.0, 2.0]]
    """
    larger = jnp.asarray(a) > b
    return jnp.where(larger, a, b), jnp.where(larger, b, a)


def clip(x: Float[ArrayLike, "*n"], low: float | None = None, high: float | None = None) -> Float[Array, "*n"]:
    """``x`` where it lies between the bounds, and the nearer bound with derivative zero elsewhere. NaN stays NaN.

    >>> clip(jnp.array([-1.0, 0.5, 2.0]), 0.0, 1.0).tolist()
    [0.0, 0.5, 1.0]
    """
    x = jnp.asarray(x)
    if low is not None:
        x = jnp.where(x < low, low, x)
    return x if high is None else jnp.where(x > high, high, x)
