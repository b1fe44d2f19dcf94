"""Local-to-global diffusion: a periodic volume from a covariance and a local model (PolyMicros Alg. 3, App. B.2).

`draw_free` is what it is compared with: the local model without a covariance.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from polymicros_jax.conditioners.channel_means import ChannelMeans
from polymicros_jax.conditioners.crystals import CrystalGuide
from polymicros_jax.diffusion.conditioning import Guide, guided
from polymicros_jax.diffusion.sampler import EDM_CHURN, Churn, sample
from polymicros_jax.diffusion.schedule import karras
from polymicros_jax.models import unet3d
from polymicros_jax.spectral.mosm import MosmParams
from polymicros_jax.spectral.random_field import sample_mosm
from polymicros_jax.training.prior import Prior, build_denoiser
from polymicros_jax.types import ArrayLike, Key, Params


def draw(
    key: Key,
    prior: Prior,
    params: MosmParams,
    shape: tuple[int, int, int],
    *,
    mean: Float[ArrayLike, " h"] | None = None,
    steps: int = 25,
    skip: int = 12,
    churn: Churn | None = EDM_CHURN,
    guides: Sequence[Guide] = (),
) -> Float[Array, "nx ny nz h"]:
    """One periodic volume with the two-point statistics of ``params`` and the local structure of ``prior`` (Alg. 3).

    A Gaussian field of the covariances is noised to the level of step ``skip`` and denoised from there by the local
    prior under periodic padding; the channel means are restored after each step. Pure; jits and maps over keys. Local
    models of one architecture share one compiled program: weights and ``sigma_data`` are arguments of it.

    Args:
      key: PRNG key; the draw is a function of it and the other arguments.
      prior: local model.
      params: one set of MOSM parameters with the channels of the prior.
      shape: ``(nx, ny, nz)``, multiples of the stride of the network.
      mean: channel means of the result; zero by default.
      steps: N of the noise schedule.
      skip: number of steps left out at the noisy end; the larger, the closer to the requested statistics, and the
        closer to a Gaussian field.
      churn: fresh noise a step; None gives the deterministic solver.
      guides: what the denoiser is wrapped in, e.g. `conditioners.crystals.CrystalGuide`.
    """
    target = jnp.zeros(prior.network.channels) if mean is None else jnp.asarray(mean)
    sigma_data = jnp.asarray(prior.sigma_data, jnp.float32)
    return compiled_lgd(
        key,
        prior.params,
        sigma_data,
        params,
        target,
        tuple(guides),
        network=prior.network,
        shape=shape,
        steps=steps,
        skip=skip,
        churn=churn,
        sigma_skip=prior.sigma_skip,
        radius=prior.radius,
    )


def start_field(
    key: Key, params: MosmParams, shape: tuple[int, int, int], mean: Float[ArrayLike, " h"]
) -> Float[Array, "nx ny nz h"]:
    """The Gaussian field that `draw` with these arguments starts from."""
    field_key, _ = jax.random.split(key)
    return sample_mosm(field_key, params, shape, mean=mean)


@partial(jax.jit, static_argnames=("shape", "steps"))
def draw_free(key: Key, prior: Prior, shape: tuple[int, int, int], *, steps: int = 25) -> Float[Array, "nx ny nz h"]:
    """One periodic volume from the prior alone, of crystals where its channels stand for orientations.

    Args:
      key: PRNG key.
      prior: local model.
      shape: ``(nx, ny, nz)``, multiples of the stride of the network.
      steps: N of the noise schedule.
    """
    denoise = prior.denoiser("periodic")
    if prior.kind is not None and prior.kind.invertible:
        denoise = CrystalGuide(prior.representation)(denoise)
    return sample(key, denoise, jnp.zeros((*shape, prior.network.channels)), karras(steps), churn=None)


@partial(jax.jit, static_argnames=("network", "shape", "steps", "skip", "churn", "sigma_skip", "radius"))
def compiled_lgd(
    key: Key,
    weights: Params,
    sigma_data: Float[Array, ""],
    params: MosmParams,
    mean: Float[Array, " h"],
    guides: tuple[Guide, ...],
    *,
    network: unet3d.UNet3DConfig,
    shape: tuple[int, int, int],
    steps: int,
    skip: int,
    churn: Churn | None,
    sigma_skip: float | None,
    radius: float | None,
) -> Float[Array, "nx ny nz h"]:
    """`draw` of one architecture."""
    start = start_field(key, params, shape, mean)
    _, diffusion_key = jax.random.split(key)
    denoise = build_denoiser(network, weights, sigma_data, sigma_skip=sigma_skip, radius=radius, padding="periodic")
    means, denoise = ChannelMeans(mean), guided(denoise, guides)
    return sample(diffusion_key, denoise, start, karras(steps), skip=skip, condition=means, churn=churn)
