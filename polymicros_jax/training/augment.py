"""Augmentation of patches on the device."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from polymicros_jax.orientation import quaternion
from polymicros_jax.orientation.representation import Representation
from polymicros_jax.types import Key


def texture_rotation(representation: Representation) -> Callable[[Key, Array], Array]:
    """Augmentation that turns the crystals of each patch by one random rotation, all voxels alike.

    Grain shapes and misorientations stay, texture becomes uniform: a prior trained so favours no orientation. (It also
    forgets which crystal planes boundaries prefer.)

    Raises:
      ValueError: the representation cannot be rotated.

    >>> from polymicros_jax.orientation import representation
    >>> turn = texture_rotation(representation.get("gsh4"))
    >>> patches = jnp.ones((1, 2, 2, 2, 9))
    >>> round(float(jnp.linalg.norm(turn(jax.random.key(0), patches)[0, 0, 0, 0])), 3)  # lengths stay
    3.0
    """

    sample_rotation = representation.sample_rotation
    if sample_rotation is None:
        raise ValueError(f"{representation.name} has no rotations of its channels")

    def rotate(key: Key, patches: Float[Array, "b nx ny nz h"]) -> Float[Array, "b nx ny nz h"]:
        matrices = jax.vmap(sample_rotation)(quaternion.random(key, (patches.shape[0],)))
        # Full precision: the 10 bits of an accelerator's default would leave the manifold by 1e-3.
        return jnp.einsum("bgh,bxyzh->bxyzg", matrices, patches, precision=jax.lax.Precision.HIGHEST)

    return rotate
