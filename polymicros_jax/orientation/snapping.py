"""Reconstructed voxels take the orientation of a measured crystal nearby.

Nearly every grain that crosses a missing section is seen in a measured one a few voxels away. A reconstruction then has
to say *which* of the nearby crystals a voxel belongs to, not to find its orientation anew. A model's field decodes to
orientations a degree or so off inside grains and to mixtures at boundaries; the nearest measured crystal has
neither error.
"""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from polymicros_jax.types import ArrayLike


@partial(jax.jit, static_argnames="reach")
def snap(
    field: Float[ArrayLike, "nx ny nz h"],
    values: Float[ArrayLike, "nx ny nz h"],
    known: Bool[ArrayLike, "nx ny nz"],
    reach: int = 3,
) -> Float[Array, "nx ny nz h"]:
    """The measured value nearest in channel space among those within ``reach`` voxels along every axis.

    Grains that no measured voxel in reach belongs to cannot come out: choose ``reach`` of the size of the gaps. Spread
    of orientation within a grain is that of the measured voxels.

    Args:
      field: channels of a reconstruction.
      values: measured channels; read where ``known``.
      known: measured voxels.
      reach: half the side of the cube of voxels looked at.

    Returns:
      Known voxels as measured, missing ones as the nearest value found, or as in ``field`` where none is in reach.

    >>> values = jnp.array([0.0, 0.0, 0.0, 1.0]).reshape(4, 1, 1, 1)
    >>> known = jnp.array([True, False, False, True]).reshape(4, 1, 1)
    >>> blurred = jnp.array([0.0, 0.4, 0.7, 1.0]).reshape(4, 1, 1, 1)
    >>> snap(blurred, values, known).ravel().tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    field, values, known = jnp.asarray(field), jnp.asarray(values), jnp.asarray(known)
    shape, margin = known.shape, [(reach, reach)] * 3
    wide_values = jnp.pad(jnp.where(known[..., None], values, 0.0), [*margin, (0, 0)])
    wide_known = jnp.pad(known, margin)
    offsets = jnp.asarray(np.array(list(itertools.product(range(2 * reach + 1), repeat=3))))

    def look(best: tuple[Array, Array], offset: Array) -> tuple[tuple[Array, Array], None]:
        distance, nearest = best
        value = jax.lax.dynamic_slice(wide_values, (*offset, 0), (*shape, field.shape[-1]))
        there = jax.lax.dynamic_slice(wide_known, tuple(offset), shape)
        found = jnp.where(there, jnp.sum(jnp.square(value - field), axis=-1), jnp.inf)
        closer = found < distance
        return (jnp.where(closer, found, distance), jnp.where(closer[..., None], value, nearest)), None

    start = (jnp.full(shape, jnp.inf, field.dtype), field)
    (_, nearest), _ = jax.lax.scan(look, start, offsets)
    return jnp.where(known[..., None], values, nearest)
