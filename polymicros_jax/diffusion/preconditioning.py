"""EDM preconditioning: from a raw network to a denoiser (Karras et al. 2022, Table 1; PolyMicros App. A.7)."""

from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from polymicros_jax.choice import clip
from polymicros_jax.types import ArrayLike

Scale = float | Float[Array, ""]
"""``sigma_data``: a number, or a traced scalar where models of several scales share one trace."""


@runtime_checkable
class Denoiser(Protocol):
    """Estimates the clean field from a noisy one."""

    def __call__(self, x: Float[ArrayLike, "*shape"], sigma: Float[ArrayLike, "..."] | float) -> Float[Array, "*shape"]:
        """Expectation of the clean field given ``x`` = clean + ``sigma`` * white noise."""
        ...


@runtime_checkable
class Network(Protocol):
    """A raw network F(x, c_noise)."""

    def __call__(self, x: Float[Array, "*shape"], c_noise: Float[Array, "..."]) -> Float[Array, "*shape"]:
        """Output of the shape of ``x``."""
        ...


class Coefficients(NamedTuple):
    """Scalings of EDM at one noise level."""

    skip: Float[Array, "..."]
    out: Float[Array, "..."]
    into: Float[Array, "..."]
    noise: Float[Array, "..."]


def c_noise(sigma: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
    """What a network is told of the noise level (EDM).

    >>> float(c_noise(jnp.array(1.0)))
    0.0
    """
    return jnp.log(jnp.asarray(sigma)) / 4.0


def coefficients(sigma: Float[ArrayLike, "..."], sigma_data: Scale, sigma_skip: float | None = None) -> Coefficients:
    """``c_skip, c_out, c_in, c_noise`` for noise of standard deviation ``sigma``.

    ``c_skip = p^2 / (s^2 + p^2)`` with p = ``sigma_skip``, and ``c_out^2 = (1 - c_skip)^2 d^2 + c_skip^2 s^2``, the
    variance of what is left for the network. With p = d this is EDM, where c_skip keeps the network's errors
    smallest. A smaller p hands the network the whole field wherever the noise exceeds p: see `denoiser`.

    >>> c_skip, c_out, c_in, _ = coefficients(jnp.array(0.5), sigma_data=0.5)
    >>> round(float(c_skip), 3), round(float(c_out), 4), round(float(c_in), 4)  # 1/2, 1/sqrt(8), sqrt(2)
    (0.5, 0.3536, 1.4142)
    """
    sigma = jnp.asarray(sigma)
    kept = sigma_data if sigma_skip is None else sigma_skip
    skip = kept**2 / (jnp.square(sigma) + kept**2)
    return Coefficients(
        skip=skip,
        out=jnp.sqrt(jnp.square((1.0 - skip) * sigma_data) + jnp.square(skip * sigma)),
        into=1.0 / jnp.sqrt(jnp.square(sigma) + sigma_data**2),
        noise=c_noise(sigma),
    )


def loss_weight(sigma: Float[ArrayLike, "..."], sigma_data: Scale) -> Float[Array, "..."]:
    """Weight of the squared denoising error, EDM's ``(s^2 + d^2) / (s d)^2``, whatever the skip of the denoiser.

    Its inverse is the error that the best denoiser of white Gaussian data leaves: errors count by how hard a level
    looks, so that the small ones of low noise are learnt too. With the ``1 / c_out^2`` of a ``sigma_skip`` of 0.05 an
    error at s = 0.1 would count a 17th of that, and training stop at doing nothing there.

    >>> [round(float(loss_weight(jnp.array(sigma), 0.5)), 2) for sigma in (0.1, 0.5, 10.0)]
    [104.0, 8.0, 4.01]
    """
    return 1.0 / jnp.square(coefficients(sigma, sigma_data).out)


def denoiser(network: Network, sigma_data: Scale, sigma_skip: float | None = None) -> Denoiser:
    """Wraps a raw network as ``D(x, s) = c_skip x + c_out F(c_in x, c_noise)``.

    Eq. 19 of the paper prints ``D = c_skip + c_out F``: the ``x`` is missing there.

    Args:
      network: ``F(x, c_noise)``, with ``c_noise`` a scalar or one value per leading (batch) entry of ``x``.
      sigma_data: standard deviation of the data, in its units.
      sigma_skip: noise level up to which the noisy field itself is the better part of the answer; by default
        ``sigma_data``, as in EDM. Inside a grain noise averages out over hundreds of voxels, so at s = 0.1 a good
        denoiser keeps almost nothing of x. With EDM's c_skip the network must then put out the noise voxel by voxel,
        which a network with fewer channels than its folded input cannot.

    Returns:
      ``denoise(x, sigma)``; ``sigma`` is a standard deviation, scalar or of shape ``(batch,)``.

    >>> denoise = denoiser(lambda x, c_noise: 0 * x, sigma_data=0.5)  # a network that knows nothing
    >>> denoise(jnp.array([1.0, -2.0]), 0.5).tolist()  # the best linear answer for white data: half
    [0.5, -1.0]
    """

    def denoise(x: Float[ArrayLike, "*shape"], sigma: Float[ArrayLike, "..."] | float) -> Float[Array, "*shape"]:
        x = jnp.asarray(x)
        level = jnp.asarray(sigma, x.dtype)
        c = coefficients(level.reshape(level.shape + (1,) * (x.ndim - level.ndim)), sigma_data, sigma_skip)
        return c.skip * x + c.out * network(c.into * x, c_noise(level))

    return denoise


def within(denoise: Denoiser, radius: float) -> Denoiser:
    """The denoiser with its answer brought back into the ball of ``radius`` around zero, voxel by voxel.

    Where every voxel of the data lies in the ball, so does the expectation given the noisy field, and the nearest point
    of the ball is nearer to the truth than an answer outside. It also keeps a sampler finite: without it a voxel that
    a network amplifies is amplified again at the next step.

    >>> field = jnp.array([[3.0, 4.0], [0.3, 0.4]])  # two voxels of two channels
    >>> within(lambda x, sigma: x, radius=1.0)(field, 0.1).round(6).tolist()
    [[0.6, 0.8], [0.3, 0.4]]
    """

    def limited(x: Float[ArrayLike, "*shape"], sigma: Float[ArrayLike, "..."] | float) -> Float[Array, "*shape"]:
        y = denoise(x, sigma)
        # Through the square: a gradient through the norm of a zero voxel would be NaN.
        excess = clip(jnp.sum(jnp.square(y), axis=-1, keepdims=True) / radius**2, low=1.0)
        return y / jnp.sqrt(excess)

    return limited
