"""Averaging within grains: nonlinear diffusion whose conductances the network predicts.

Inside a grain the clean field is constant, so what a denoiser should do there is known: take the mean over the grain's
voxels around. Nonlinear diffusion (Perona & Malik 1990) does that once it is told where the boundaries are. The network
only has to tell: it gives each voxel a feature, and the conductance between two neighbours falls with the distance of
theirs. Predicting how to average, instead of the average itself, is what made denoisers of rendered images learn fast
(Bako et al. 2017, kernel prediction).
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from polymicros_jax.models.layers import Padding, Pointwise, ResidualBlock

RATE = 1.0 / 7.0
"""Share of a difference that one step moves at full conductance. At 1/6 the checkerboard of six neighbours would
flip for ever; at 1/7 it falls to 5/7 a step, and no wave grows."""

INITIAL_LOGIT = -5.0
"""Of the share of the noisy field in a fresh round: 1 in 150."""

FEATURES = 12
"""Features by which neighbouring voxels are told apart. Orientations have nine channels; a few more do no harm."""


def conductances(
    features: Float[Array, "b nx ny nz m"], padding: Padding
) -> tuple[Float[Array, "b nx ny nz 1"], Float[Array, "b nx ny nz 1"], Float[Array, "b nx ny nz 1"]]:
    """Conductance from each voxel to the next one along x, y and z: ``exp(-|difference of features|^2)``.

    With "replicate" padding nothing flows through the faces of the volume.
    """

    def along(axis: int) -> Array:
        difference = jnp.roll(features, -1, axis) - features
        conductance = jnp.exp(-jnp.sum(jnp.square(difference), axis=-1, keepdims=True))
        if padding == "periodic":
            return conductance
        inside = jnp.arange(features.shape[axis]) < features.shape[axis] - 1
        shape = [1] * features.ndim
        shape[axis] = -1
        return jnp.where(inside.reshape(shape), conductance, 0.0)

    return along(1), along(2), along(3)


def average_within(
    field: Float[Array, "b nx ny nz h"], features: Float[Array, "b nx ny nz m"], steps: int, padding: Padding
) -> Float[Array, "b nx ny nz h"]:
    """The field after ``steps`` explicit steps of nonlinear diffusion, ``y_i <- y_i + RATE sum_j c_ij (y_j - y_i)``.

    The sum over the volume stays, and so does a field that is constant wherever the conductance is not zero. Where all
    conductances are 1, n steps average over about ``(8 pi RATE n)^(3/2)`` voxels (a Gaussian of variance 2 RATE n along
    each axis): 154 at eight.

    Args:
      field: what is averaged.
      features: see `conductances`.
      steps: number of steps, each reaching one voxel further.
      padding: "replicate" or "periodic".
    """
    rates = [RATE * conductance for conductance in conductances(features, padding)]

    def step(y: Array, _: None) -> tuple[Array, None]:
        total = y
        for axis, rate in zip((1, 2, 3), rates, strict=True):
            flux = rate * (jnp.roll(y, -1, axis) - y)
            total = total + flux - jnp.roll(flux, 1, axis)
        return total, None

    # A loop, for XLA fuses steps written out and then computes the earlier ones again for each neighbour that is read:
    # 50 times slower at 64^3 on CPU.
    return lax.scan(step, field, length=steps)[0]


def products(field: Float[Array, "*shape h"]) -> Float[Array, "*shape m"]:
    """Products of the channels of each voxel, h (h + 1) / 2 of them, over ``sqrt(1 + |f|^2)``.

    The channels of a crystal of known symmetry lie on a surface, the orbit of one vector, and near an orbit the
    quadratic covariants of a vector tell which way it lies: for cubic symmetry and l = 4 the product ``(f f)_4`` is
    parallel to f on the surface and not off it. A linear map of these products can thus bring an estimate back.
    Divided by the norm they grow no faster than the field.

    >>> products(jnp.array([0.0, 2.0])).round(3).tolist()  # 0, 0, 4 over sqrt(5)
    [0.0, 0.0, 1.7890000343322754]
    """
    first, second = jnp.triu_indices(field.shape[-1])
    norm = jnp.sqrt(1.0 + jnp.sum(jnp.square(field), axis=-1, keepdims=True))
    return field[..., first] * (field / norm)[..., second]


class Refinement(nnx.Module):
    """A round: corrects an estimate voxel by voxel, averages within grains, corrects orientations.

    A residual block looks at the noisy field and at the estimate. It gives a correction of the estimate, features that
    tell where boundaries run, and a share per voxel: what is averaged is ``share * gain * noisy + (1 - share) *
    estimate``. The gain depends on the noise level alone. Nothing in the mixture can amplify one voxel against
    another: with free weights draws ran away from the data. What comes out of the averaging, a mean over a grain, is
    corrected by a quadratic map of its own channels (see `products`), at a strength per voxel.

    At the start a round gives the averaged estimate.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        steps: int,
        embedding: int,
        groups: int,
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
        remat: bool = False,
    ):
        single = jnp.dtype("float32")
        self.steps = steps
        self.stem = Pointwise(2 * channels, width, dtype=dtype, rngs=rngs)
        self.block = ResidualBlock(width, width, embedding, groups, dtype=dtype, rngs=rngs, remat=remat)
        self.correction = Pointwise(width, channels, dtype=single, rngs=rngs, zero=True)
        self.boundary = Pointwise(width + channels, FEATURES, dtype=single, rngs=rngs)
        self.share = Pointwise(width, 1, dtype=single, rngs=rngs, zero=True)
        self.gain = nnx.Linear(embedding, 1, kernel_init=nnx.initializers.zeros, rngs=rngs)
        self.strength = Pointwise(width, 1, dtype=single, rngs=rngs, zero=True)
        self.orbit = Pointwise(channels + channels * (channels + 1) // 2, channels, dtype=single, rngs=rngs, zero=True)

    def __call__(
        self,
        noisy: Float[Array, "b nx ny nz h"],
        estimate: Float[Array, "b nx ny nz h"],
        embedding: Float[Array, "b e"],
        padding: Padding,
    ) -> Float[Array, "b nx ny nz h"]:
        """The next estimate, float32."""
        x = self.block(self.stem(jnp.concatenate([noisy, estimate], axis=-1)), embedding, padding).astype(jnp.float32)
        estimate = estimate + self.correction(x)
        features = self.boundary(jnp.concatenate([x, estimate], axis=-1))
        share = jax.nn.sigmoid(self.share(x) + INITIAL_LOGIT)
        gain = jnp.exp(self.gain(embedding))[:, None, None, None, :]
        mean = average_within(share * gain * noisy + (1.0 - share) * estimate, features, self.steps, padding)
        turned = self.orbit(jnp.concatenate([mean, products(mean)], axis=-1))
        return mean + jax.nn.sigmoid(self.strength(x)) * turned
