"""Denoising loss and the law of the training noise (Karras et al. 2022, Table 1)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from polymicros_jax.diffusion.preconditioning import Denoiser, loss_weight
from polymicros_jax.types import Key


class NoiseLaw(NamedTuple):
    """Log-normal law of the training noise: ``ln sigma ~ N(mean, std^2)``. The defaults are EDM's and the paper's."""

    mean: float = -1.2
    std: float = 1.2

    def sample(self, key: Key, shape: tuple[int, ...]) -> Float[Array, "..."]:
        """Noise levels of the given shape."""
        return jnp.exp(self.mean + self.std * jax.random.normal(key, shape))


EDM_NOISE = NoiseLaw()


def denoising_error(
    key: Key, denoise: Denoiser, x: Float[Array, "b *field"], sigma: Float[Array, " b"]
) -> Float[Array, " b"]:
    """Mean squared error of the denoised field, per sample, in squared units of the data.

    >>> nothing = lambda noisy, sigma: noisy
    >>> error = denoising_error(jax.random.key(0), nothing, jnp.zeros((2, 256, 256)), jnp.array([0.5, 2.0]))
    >>> error.round(1).tolist()  # doing nothing leaves the variance of the noise
    [0.2, 4.0]
    """
    noise = jax.random.normal(key, x.shape, x.dtype) * sigma.reshape(sigma.shape + (1,) * (x.ndim - 1))
    return jnp.mean(jnp.square(denoise(x + noise, sigma) - x), axis=tuple(range(1, x.ndim)))


def edm_loss(
    key: Key,
    denoise: Denoiser,
    x: Float[Array, "b *field"],
    noise_law: NoiseLaw,
    sigma_data: float,
) -> Float[Array, ""]:
    """Weighted denoising error of a batch at random noise levels; 1 for the best linear denoiser of white data.

    >>> from polymicros_jax.diffusion.preconditioning import denoiser
    >>> white = 0.5 * (-1.0) ** jnp.arange(131072).reshape(2, 256, 256)
    >>> linear = denoiser(lambda x, c_noise: 0 * x, sigma_data=0.5)
    >>> round(float(edm_loss(jax.random.key(0), linear, white, EDM_NOISE, 0.5)), 1)
    1.0
    """
    level_key, noise_key = jax.random.split(key)
    sigma = noise_law.sample(level_key, x.shape[:1])
    return jnp.mean(loss_weight(sigma, sigma_data) * denoising_error(noise_key, denoise, x, sigma))
