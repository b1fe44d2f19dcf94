"""Channel means held at a target."""

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from polymicros_jax.diffusion.conditioning import Step


@flax.struct.dataclass
class ChannelMeans:
    """Shifts every channel so that its mean over the volume is the target (Alg. 3, last line of the loop).

    Attributes:
      mean: ``(h,)`` target.
    """

    mean: jax.Array

    def __call__(self, x: Float[Array, "nx ny nz h"], step: Step) -> Float[Array, "nx ny nz h"]:
        """The shifted state; the step is not looked at."""
        return with_mean(x, self.mean)


def with_mean(x: Float[Array, "nx ny nz h"], mean: Float[Array, " h"]) -> Float[Array, "nx ny nz h"]:
    """The field shifted to the given mean per channel, in its own precision.

    >>> x = with_mean(jnp.arange(4.0).reshape(4, 1, 1, 1), jnp.array([10.0]))
    >>> x.ravel().tolist()
    [8.5, 9.5, 10.5, 11.5]
    """
    return x + (jnp.asarray(mean, x.dtype) - jnp.mean(x, axis=(0, 1, 2)))[None, None, None, :]
