"""What several draws of one reconstruction say: the central one, their spread, their score.

All in degrees of disorientation, per voxel. `draws` is (draws, ..., 4).
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from polymicros_jax.orientation import quaternion
from polymicros_jax.types import ArrayLike


@partial(jax.jit, static_argnames="group")
def disorientation_map(
    reference_q: Float[ArrayLike, "*grid 4"], reconstructed_q: Float[ArrayLike, "*grid 4"], group: str = "432"
) -> Float[Array, "*grid"]:
    """Disorientation in degrees between two orientation fields, voxel by voxel.

    >>> identity = jnp.array([[1.0, 0.0, 0.0, 0.0]])
    >>> turned = jnp.array([[jnp.cos(0.1), 0.0, 0.0, jnp.sin(0.1)]])
    >>> disorientation_map(identity, turned).round(2).tolist()  # 0.2 rad
    [11.46]
    """
    return jnp.rad2deg(quaternion.disorientation(reference_q, reconstructed_q, group))


@partial(jax.jit, static_argnames="group")
def total_distances(draws: Float[ArrayLike, "d *grid 4"], group: str = "432") -> Float[Array, "d *grid"]:
    """Disorientation in degrees of each draw to all others, summed.

    One draw is compared with one other at a time, so memory stays that of the draws. A draw is 0 from itself exactly,
    where a product fused into a sum leaves some 1e-6 degrees.

    >>> half = jnp.radians(jnp.array([0.0, 1.0, 5.0]))
    >>> draws = jnp.stack([jnp.cos(half), 0 * half, 0 * half, jnp.sin(half)], axis=-1)  # turned by 0, 2 and 10 degrees
    >>> total_distances(draws).round(2).tolist()
    [12.0, 10.0, 18.0]
    """
    draws = jnp.asarray(draws)
    numbered = (jnp.arange(len(draws)), draws)

    def to_all(this: tuple[Array, Array]) -> Array:
        number, one = this

        def add(total: Array, other: tuple[Array, Array]) -> tuple[Array, None]:
            distance = disorientation_map(one, other[1], group)
            return total + jnp.where(other[0] == number, 0.0, distance), None

        return jax.lax.scan(add, jnp.zeros(one.shape[:-1], one.dtype), numbered)[0]

    return jax.lax.map(to_all, numbered)


@partial(jax.jit, static_argnames="group")
def medoid(
    draws: Float[ArrayLike, "d *grid 4"], group: str = "432"
) -> tuple[Float[Array, "*grid 4"], Int[Array, "*grid"]]:
    """The draw with the least summed disorientation to the others, voxel by voxel, and its number.

    The point estimate to report: always one of the draws, so it lies in a grain where a mean would lie between two.
    The first of equals wins.

    >>> half = jnp.radians(jnp.array([0.0, 1.0, 5.0]))
    >>> draws = jnp.stack([jnp.cos(half), 0 * half, 0 * half, jnp.sin(half)], axis=-1)
    >>> best, number = medoid(draws)
    >>> int(number)
    1
    """
    draws = jnp.asarray(draws)
    number = jnp.argmin(total_distances(draws, group), axis=0)
    return jnp.take_along_axis(draws, number[None, ..., None], axis=0)[0], number


@partial(jax.jit, static_argnames="group")
def spread_map(draws: Float[ArrayLike, "d *grid 4"], group: str = "432") -> Float[Array, "*grid"]:
    """Mean disorientation in degrees over all pairs of different draws; 0 for a single draw.

    >>> half = jnp.radians(jnp.array([0.0, 1.0, 5.0]))
    >>> draws = jnp.stack([jnp.cos(half), 0 * half, 0 * half, jnp.sin(half)], axis=-1)
    >>> round(float(spread_map(draws)), 2)  # (2 + 8 + 10) / 3
    6.67
    """
    count = draws.shape[0]
    return total_distances(draws, group).sum(axis=0) / max(count * (count - 1), 1)


@partial(jax.jit, static_argnames="group")
def energy_score(
    reference_q: Float[ArrayLike, "*grid 4"], draws: Float[ArrayLike, "d *grid 4"], group: str = "432"
) -> Float[Array, "*grid"]:
    """Energy score in degrees (the CRPS with disorientation as distance): distance to truth minus half the spread.

    The spread is over pairs of different draws, so that the expectation does not depend on their number (the fair form
    of Ferro 2014). One draw scores its disorientation; lower is better. For scalars the score rewards honest spread
    strictly. Disorientation is not of negative type on all of orientation space, so for widely scattered draws this
    holds only approximately.

    >>> half = jnp.radians(jnp.array([-2.0, 2.0]))
    >>> draws = jnp.stack([jnp.cos(half), 0 * half, 0 * half, jnp.sin(half)], axis=-1)  # turned by -4 and 4 degrees
    >>> round(float(energy_score(jnp.array([1.0, 0.0, 0.0, 0.0]), draws)), 2)  # 4 - 8 / 2
    0.0
    """
    draws = jnp.asarray(draws)
    to_truth = jax.lax.map(lambda one: disorientation_map(jnp.asarray(reference_q), one, group), draws)
    return to_truth.mean(axis=0) - 0.5 * spread_map(draws, group)
