"""Posterior-score guidance towards known voxels (Chung et al. 2023; pseudo-inverse weight of Song et al. 2023)."""

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from polymicros_jax.diffusion.preconditioning import Denoiser
from polymicros_jax.types import ArrayLike


@flax.struct.dataclass
class KnownVoxelsGuide:
    """Adds the score of the observation to the denoiser: a guide in the sense of `diffusion.conditioning`.

    With ``r^2 = s^2 d^2 / (s^2 + d^2)``, the variance of the clean field given the noisy one when the data are white
    with standard deviation ``d``, and observation noise ``n``, the guided estimate is

        ``D'(x) = D(x) + strength * s^2 / (n^2 + r^2) * J^T known (values - D(x))``,

    ``J`` the Jacobian of ``D``: minus the gradient of ``||known - D(x)||^2`` up to the factor. For white Gaussian data,
    ``strength = 1`` and ``n = 0`` this is the exact posterior mean. Costs one backward pass per call.

    Attributes:
      values: ``(nx, ny, nz, h)``; read at known voxels only.
      known: ``(nx, ny, nz)`` boolean.
      sigma_data: standard deviation of the data, the prior's.
      noise: standard deviation of the observation's noise, in units of the channels.
      strength: 1 is the derived weight; 0 switches the guide off.
    """

    values: jax.Array
    known: jax.Array
    sigma_data: jax.Array | float
    noise: jax.Array | float = 0.0
    strength: jax.Array | float = 1.0

    def __call__(self, denoise: Denoiser) -> Denoiser:
        """The guided denoiser; takes one field and one noise level."""

        def guided(
            x: Float[ArrayLike, "nx ny nz h"], sigma: Float[ArrayLike, ""] | float
        ) -> Float[Array, "nx ny nz h"]:
            level = jnp.square(jnp.asarray(sigma, jnp.asarray(x).dtype))
            clean, pullback = jax.vjp(lambda x: denoise(x, sigma), jnp.asarray(x))
            data = jnp.square(jnp.asarray(self.sigma_data, clean.dtype))
            spread = level * data / (level + data)
            weight = self.strength * level / (jnp.square(jnp.asarray(self.noise, clean.dtype)) + spread)
            misfit = jnp.where(self.known[..., None], self.values - clean, 0.0)
            return clean + weight * pullback(misfit.astype(clean.dtype))[0]

        return guided
