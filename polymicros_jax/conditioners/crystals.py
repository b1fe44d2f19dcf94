"""Crystals as a condition: the denoised field is drawn to orientations as the noise falls."""

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from polymicros_jax.choice import clip
from polymicros_jax.diffusion.preconditioning import Denoiser
from polymicros_jax.orientation import representation
from polymicros_jax.types import ArrayLike


@flax.struct.dataclass
class CrystalGuide:
    """Replaces the denoised field by the nearest orientations: a guide in the sense of `diffusion.conditioning`.

    Every voxel of the data is a crystal, a point of the manifold of orientations. The expectation of the clean field
    lies inside that manifold where several orientations are possible, and on it where one is left: in a grain that is
    so well above the noise level at which a single voxel could be told. There the guide changes nothing of an exact
    denoiser, while it takes from a trained one what puts a voxel off the manifold, shrinkage above all. The share of
    the replacement rises linearly in the logarithm of the noise level, from 0 at ``sigma_off`` to 1 at ``sigma_full``;
    below, estimates are crystals, and so is a draw that nothing moves after its last step.

    Attributes:
      representation: name of the channels' meaning, "gsh4" or "hex27".
      sigma_full: noise level, in units of the channels, at and below which the estimate is replaced.
      sigma_off: noise level at and above which it is left alone.
      origin: ``(h,)`` or 0, what is added to the field before orientations are read: the mean that a prior trained on
        centred fields knows nothing of.

    Raises:
      ValueError: a representation that orientations cannot be read from.

    >>> guide = CrystalGuide("gsh4")
    >>> crystal = representation.get("gsh4").encode(jnp.array([1.0, 0.0, 0.0, 0.0]))
    >>> faint = guide(lambda x, sigma: x / 2)
    >>> [round(float(jnp.linalg.norm(faint(crystal, sigma))), 3) for sigma in (2.0, 1.0, 0.5)]
    [0.75, 1.125, 1.5]
    """

    representation: str = flax.struct.field(pytree_node=False)
    sigma_full: jax.Array | float = 0.5
    sigma_off: jax.Array | float = 2.0
    origin: ArrayLike | float = 0.0

    def __call__(self, denoise: Denoiser) -> Denoiser:
        """The guided denoiser; takes fields with channels last."""
        kind = representation.get(self.representation)
        if not kind.invertible:
            raise ValueError(
                f"representation: orientations cannot be read from {self.representation}, accepted are gsh4, hex27"
            )

        def guided(x: Float[ArrayLike, "*shape h"], sigma: Float[ArrayLike, ""] | float) -> Float[Array, "*shape h"]:
            estimate = denoise(x, sigma)
            share = clip(jnp.log(self.sigma_off / sigma) / jnp.log(self.sigma_off / self.sigma_full), 0.0, 1.0)
            origin = jnp.broadcast_to(jnp.asarray(self.origin, estimate.dtype), estimate.shape[-1:])
            origin = origin.reshape((1,) * (estimate.ndim - 1) + (-1,))

            def replaced(estimate: Array) -> Array:
                crystals = kind.encode(kind.decode(estimate + origin)[0]).astype(estimate.dtype) - origin
                return estimate + share.astype(estimate.dtype) * (crystals - estimate)

            # Decoding costs almost half of what a small network does: none of it where nothing is replaced.
            return jax.lax.cond(share > 0.0, replaced, lambda estimate: estimate, estimate)

        return guided
