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
    """Mean squared error of the denoised field, per sample, in squared units of the data."""
    noise = jax.random.normal(key, x.shape, x.dtype) * sigma.reshape(sigma.shape + (1,) * (x.ndim - 1))
    return jnp.mean(jnp.square(denoise(x + noise, sigma) - x), axis=tuple(range(1, x.ndim)))


def edm_loss(
    key: Key,
    denoise: Denoiser,
    x: Float[Array, "b *field"],
    noise_law: NoiseLaw,
    sigma_data: float,
    sigma_skip: float | None = None,
) -> Float[Array, ""]:
    """Weighted denoising error of a batch at random noise levels; close to 1 for a denoiser that knows nothing."""
    level_key, noise_key = jax.random.split(key)
    sigma = noise_law.sample(level_key, x.shape[:1])
    return jnp.mean(loss_weight(sigma, sigma_data, sigma_skip) * denoising_error(noise_key, denoise, x, sigma))
