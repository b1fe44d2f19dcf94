"""Posterior-score guidance towards known voxels (Chung et al. 2023, with the weight of Rozet et al. 2024)."""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from polymicros_jax.diffusion.preconditioning import Denoiser
from polymicros_jax.types import ArrayLike


@flax.struct.dataclass
class KnownVoxelsGuide:
    """Adds the score of the observation to the denoiser: a guide in the sense of `diffusion.conditioning`.

    Tweedie's second moment gives the covariance of the clean field given the noisy one as ``s^2 J``, ``J`` the
    Jacobian of the denoiser. With ``A`` the restriction to known voxels and observation noise ``n`` the guided
    estimate is

        ``D'(x) = D(x) + strength * J^T A^T v``,  ``(A J^T A^T + n^2 / s^2) v = values - A D(x)``,

    a descent along the gradient of ``||values - A D(x)||^2`` of the right length, exact for Gaussian data once solved.
    ``v`` takes a fixed number of conjugate-gradient iterations, a backward pass each. (A constant weight
    ``(s^2 + d^2) / d^2`` in place of the solve, right for white data, diverges on correlated ones: measured.)

    Attributes:
      values: ``(nx, ny, nz, h)``; read at known voxels only.
      known: ``(nx, ny, nz)`` boolean.
      noise: standard deviation of the observation's noise, in units of the channels.
      strength: 1 is the derived weight; 0 switches the guide off.
      iterations: of the conjugate gradients.

    >>> guide = KnownVoxelsGuide(values=jnp.ones((2, 1, 1, 1)), known=jnp.array([True, False]).reshape(2, 1, 1))
    >>> denoise = guide(lambda x, sigma: x / 2)
    >>> denoise(jnp.zeros((2, 1, 1, 1)), jnp.array(1.0)).ravel().round(3).tolist()
    [1.0, 0.0]
    """

    values: jax.Array
    known: jax.Array
    noise: jax.Array | float = 0.0
    strength: jax.Array | float = 1.0
    iterations: int = flax.struct.field(pytree_node=False, default=3)

    def __call__(self, denoise: Denoiser) -> Denoiser:
        """The guided denoiser; takes one field and one noise level."""

        def guided(
            x: Float[ArrayLike, "nx ny nz h"], sigma: Float[ArrayLike, ""] | float
        ) -> Float[Array, "nx ny nz h"]:
            clean, pullback = jax.vjp(lambda x: denoise(x, sigma), jnp.asarray(x))
            known = self.known[..., None]
            ratio = jnp.square(jnp.asarray(self.noise / sigma, clean.dtype))

            def spread(v: Array) -> Array:
                return pullback(jnp.where(known, v, 0.0).astype(clean.dtype))[0]

            misfit = jnp.where(known, self.values - clean, 0.0).astype(clean.dtype)
            v = _conjugate_gradients(lambda v: jnp.where(known, spread(v), 0.0) + ratio * v, misfit, self.iterations)
            return clean + self.strength * spread(v)

        return guided


def _conjugate_gradients(operator: Callable[[Array], Array], right: Array, iterations: int) -> Array:
    """A few iterations from zero.

    A direction of no positive curvature, which the Jacobian of a trained network may have, is not followed.
    """

    def iterate(carry: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], None]:
        solution, residual, direction = carry
        image = operator(direction)
        square, curvature = jnp.vdot(residual, residual), jnp.vdot(direction, image)
        usable = curvature > 0.0
        length = jnp.where(usable, square / jnp.where(usable, curvature, 1.0), 0.0)
        rest = residual - length * image
        positive = square > 0.0
        turn = jnp.where(positive, jnp.vdot(rest, rest) / jnp.where(positive, square, 1.0), 0.0)
        return (solution + length * direction, rest, rest + turn * direction), None

    start = (jnp.zeros_like(right), right, right)
    return jax.lax.scan(iterate, start, None, length=iterations)[0][0]
