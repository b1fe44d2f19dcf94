"""Known voxels: the in-painting condition of the paper (Alg. 4) and noised replacement."""

from typing import Literal

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from polymicros_jax.diffusion.conditioning import Step

Method = Literal["project", "renoise", "replace", "guide"]
METHODS: tuple[Method, ...] = ("project", "renoise", "replace", "guide")
"""Ways to draw a field given known voxels; `reconstruct.super_resolve` says what each does."""


@flax.struct.dataclass
class KnownVoxels:
    """Sets known voxels to their clean values after each of the first ``theta`` N steps (Alg. 4).

    Afterwards the model runs free, which heals the misfit at the border of the known voxels, so that they are not
    reproduced exactly.

    Attributes:
      values: ``(nx, ny, nz, h)``; read at known voxels only, the others may hold anything, NaN included.
      known: ``(nx, ny, nz)`` boolean.
      theta: share of the steps of the whole schedule that are conditioned, 0 to 1.

    >>> known = KnownVoxels(values=jnp.ones((2, 1, 1, 1)), known=jnp.array([True, False]).reshape(2, 1, 1))
    >>> early, late = (Step(jnp.array(i), jnp.array(10), jnp.array(1.0), jax.random.key(0)) for i in (0, 8))
    >>> [known(jnp.zeros((2, 1, 1, 1)), step).ravel().tolist() for step in (early, late)]
    [[1.0, 0.0], [0.0, 0.0]]
    """

    values: jax.Array
    known: jax.Array
    theta: jax.Array | float = 0.75

    def __call__(self, x: Float[Array, "nx ny nz h"], step: Step) -> Float[Array, "nx ny nz h"]:
        """The state with known voxels replaced, while ``step.index < theta * step.count``."""
        # A share such as 0.6 is a little more than that in single precision, and of 25 steps would be 16.
        replace = self.known[..., None] & (step.index < self.theta * step.count - 1e-3)
        return jnp.where(replace, self.values, x)


@flax.struct.dataclass
class NoisedKnownVoxels:
    """Sets known voxels to their values plus noise of the state's own level, after every step (Lugmayr et al. 2022).

    Known and unknown voxels then carry the same noise, which is what the denoiser was trained on. After the last step
    the noise is zero and known voxels are exact.

    Attributes:
      values: ``(nx, ny, nz, h)``; read at known voxels only.
      known: ``(nx, ny, nz)`` boolean.

    >>> known = NoisedKnownVoxels(values=jnp.ones((2, 1, 1, 1)), known=jnp.array([True, False]).reshape(2, 1, 1))
    >>> last = Step(jnp.array(9), jnp.array(10), jnp.array(0.0), jax.random.key(0))
    >>> known(jnp.zeros((2, 1, 1, 1)), last).ravel().tolist()
    [1.0, 0.0]
    """

    values: jax.Array
    known: jax.Array

    def __call__(self, x: Float[Array, "nx ny nz h"], step: Step) -> Float[Array, "nx ny nz h"]:
        """The state with known voxels replaced by ``values + step.sigma * noise``."""
        noise = jax.random.normal(step.key, x.shape, x.dtype)
        return jnp.where(self.known[..., None], self.values + step.sigma * noise, x)
