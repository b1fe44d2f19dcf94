"""What several draws of one reconstruction say: the central one, their spread, and whether the spread can be believed.

All in degrees of disorientation, per voxel. `draws` is (draws, ..., 4).
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

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

    One draw is compared with one other at a time, so memory stays that of the draws.

    >>> half = jnp.radians(jnp.array([0.0, 1.0, 5.0]))
    >>> draws = jnp.stack([jnp.cos(half), 0 * half, 0 * half, jnp.sin(half)], axis=-1)  # turned by 0, 2 and 10 degrees
    >>> total_distances(draws).round(2).tolist()
    [12.0, 10.0, 18.0]
    """
    draws = jnp.asarray(draws)

    def to_all(one: Array) -> Array:
        def add(total: Array, other: Array) -> tuple[Array, None]:
            return total + disorientation_map(one, other, group), None

        return jax.lax.scan(add, jnp.zeros(one.shape[:-1], one.dtype), draws)[0]

    return jax.lax.map(to_all, draws)


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


def credible_radius(
    draws: Float[ArrayLike, "d *grid 4"], level: float = 0.9, group: str = "432", *, floor_deg: float = 0.5
) -> Float[Array, "*grid"]:
    """Radius in degrees of the ball about the medoid that should hold the truth with probability `level`.

    The `ceil(level * d)`-th smallest disorientation of the other `d - 1` draws to the medoid: if the truth were one
    more draw, it would fall inside with about that probability.

    Args:
        draws: At least `1 / (1 - level)` of them; 10 for 90 %.
        level: Nominal probability.
        group: Crystal symmetry.
        floor_deg: Smallest radius: the angular resolution of the measurement, below which agreement means nothing.

    Raises:
        ValueError: `level` is not in (0, 1), or there are too few draws for it.

    >>> half = jnp.radians(jnp.arange(-5.0, 6.0) / 2)
    >>> draws = jnp.stack([jnp.cos(half), 0 * half, 0 * half, jnp.sin(half)], axis=-1)  # turned by -5 to 5 degrees
    >>> round(float(credible_radius(draws)), 2), round(float(credible_radius(draws, level=0.5)), 2)
    (5.0, 3.0)
    """
    _, radius = _ball(draws, _rank(draws.shape[0], level), group)
    return jnp.maximum(radius, floor_deg)


def _rank(count: int, level: float) -> int:
    """Which of the sorted distances of `count` draws to their medoid bounds a ball of probability `level`."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"level: got {level}, accepted is a probability between 0 and 1")
    rank = math.ceil(level * count - 1e-9)
    if rank > count - 1:
        needed = math.ceil(1.0 / (1.0 - level) - 1e-9)
        raise ValueError(f"draws: got {count}, an interval at level {level} needs at least {needed}")
    return rank


@partial(jax.jit, static_argnames=("rank", "group"))
def _ball(
    draws: Float[ArrayLike, "d *grid 4"], rank: int, group: str
) -> tuple[Float[Array, "*grid 4"], Float[Array, "*grid"]]:
    """The medoid, and the distance of the draw of this rank to it; rank 0 is the medoid itself, at distance 0."""
    centre, _ = medoid(draws, group)
    distance = jax.lax.map(lambda one: disorientation_map(centre, one, group), jnp.asarray(draws))
    return centre, jnp.sort(distance, axis=0)[rank]


def covered(
    reference_q: Float[ArrayLike, "*grid 4"],
    draws: Float[ArrayLike, "d *grid 4"],
    level: float = 0.9,
    group: str = "432",
    *,
    scale: float = 1.0,
    floor_deg: float = 0.5,
) -> Bool[Array, "*grid"]:
    """Whether the truth lies in the credible ball, its radius times `scale` (see `calibrate`).

    >>> half = jnp.radians(jnp.arange(-5.0, 6.0) / 2)
    >>> draws = jnp.stack([jnp.cos(half), 0 * half, 0 * half, jnp.sin(half)], axis=-1)
    >>> truth = jnp.array([jnp.cos(jnp.radians(2.0)), 0.0, 0.0, jnp.sin(jnp.radians(2.0))])  # 4 degrees
    >>> bool(covered(truth, draws)), bool(covered(truth, draws, level=0.5))
    (True, False)
    """
    centre, radius = _ball(draws, _rank(draws.shape[0], level), group)
    return disorientation_map(reference_q, centre, group) <= scale * jnp.maximum(radius, floor_deg)


def coverage(
    reference_q: Float[ArrayLike, "nx ny nz 4"],
    draws: Float[ArrayLike, "d nx ny nz 4"],
    missing_mask: Bool[ArrayLike, "nx ny nz"],
    level: float = 0.9,
    group: str = "432",
    *,
    scale: float = 1.0,
    floor_deg: float = 0.5,
) -> float:
    """Share of the masked voxels whose truth lies in the credible ball; near `level` for honest draws.

    Grain interiors are covered easily; pass a mask of voxels near boundaries to judge those alone.

    Raises:
        ValueError: the mask is empty, or as in `credible_radius`.

    >>> half = jnp.radians(jnp.arange(-5.0, 6.0) / 2)
    >>> draws = jnp.stack([jnp.cos(half), 0 * half, 0 * half, jnp.sin(half)], axis=-1).reshape(11, 1, 1, 1, 4)
    >>> truth = jnp.tile(draws[5], (2, 1, 1, 1)).at[1].set(jnp.array([0.9, 0.0, 0.0, jnp.sqrt(0.19)]))
    >>> coverage(truth, jnp.tile(draws, (1, 2, 1, 1, 1)), jnp.ones((2, 1, 1), bool))  # one voxel of two is right
    0.5
    """
    where = np.asarray(missing_mask)
    if not where.any():
        raise ValueError("missing_mask: no voxel is True; there is nothing to judge")
    inside = covered(
        np.asarray(reference_q)[where], np.asarray(draws)[:, where], level, group, scale=scale, floor_deg=floor_deg
    )
    return float(np.asarray(inside).mean())


def calibrate(
    reference_q: Float[ArrayLike, "nx ny nz 4"],
    draws: Float[ArrayLike, "d nx ny nz 4"],
    missing_mask: Bool[ArrayLike, "nx ny nz"],
    level: float = 0.9,
    group: str = "432",
    *,
    floor_deg: float = 0.5,
) -> float:
    """The factor on the radius that makes `coverage` equal to `level` on a held-out volume, to hand to `covered`.

    Raises:
        ValueError: the mask is empty, or as in `credible_radius`.

    >>> half = jnp.radians(jnp.arange(-5.0, 6.0) / 2)
    >>> draws = jnp.stack([jnp.cos(half), 0 * half, 0 * half, jnp.sin(half)], axis=-1).reshape(11, 1, 1, 1, 4)
    >>> truth = jnp.array([jnp.cos(jnp.radians(5.0)), 0.0, 0.0, jnp.sin(jnp.radians(5.0))]).reshape(1, 1, 1, 4)
    >>> round(calibrate(truth, draws, jnp.ones((1, 1, 1), bool)), 2)  # 10 degrees off, the radius is 5
    2.0
    """
    where = np.asarray(missing_mask)
    if not where.any():
        raise ValueError("missing_mask: no voxel is True; there is nothing to calibrate on")
    chosen = np.asarray(draws)[:, where]
    centre, radius = _ball(chosen, _rank(len(chosen), level), group)
    error = np.asarray(disorientation_map(np.asarray(reference_q)[where], centre, group))
    return float(np.quantile(error / np.maximum(radius, floor_deg), level, method="higher"))
