"""What the probabilities of candidate grains say in degrees and in voxels, and whether they can be believed.

The counterpart of `uncertainty` for a distribution over a few orientations per voxel instead of draws: everything is a
sum over candidates, so nothing is lost to the number of draws. Degrees of disorientation.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from polymicros_jax.orientation.quaternion import disorientation
from polymicros_jax.types import ArrayLike

FLOOR_DEG = 0.5
"""Angular resolution of the measurement: no interval is narrower."""

ROUNDING_DEG = 0.05
"""Disorientations closer than this count as equal: above the rounding of single precision, well below `FLOOR_DEG`."""


@partial(jax.jit, static_argnames="group")
def _distances(q: Float[ArrayLike, "n k 4"], centre: Float[ArrayLike, "n 4"], group: str) -> Float[Array, "n k"]:
    """Degrees between each candidate and one orientation per voxel."""
    columns = jnp.moveaxis(jnp.asarray(q), 1, 0)
    return jnp.rad2deg(jax.lax.map(lambda one: disorientation(one, centre, group), columns)).T


@partial(jax.jit, static_argnames="group")
def spread(probability: Float[ArrayLike, "n k"], q: Float[ArrayLike, "n k 4"], group: str = "432") -> Float[Array, "n"]:
    """Expected disorientation of two independent draws of the voxel.

    >>> q = jnp.array([[[1.0, 0.0, 0.0, 0.0], [jnp.cos(0.1), 0.0, 0.0, jnp.sin(0.1)]]])  # 11.46 degrees apart
    >>> spread(jnp.array([[0.5, 0.5]]), q).round(2).tolist()
    [5.73]
    """
    probability = jnp.asarray(probability)
    columns = (jnp.moveaxis(jnp.asarray(q), 1, 0), probability.T)

    def add(total: Array, item: tuple[Array, Array]) -> tuple[Array, None]:
        one, chance = item
        return total + chance * jnp.sum(probability * _distances(q, one, group), axis=1), None

    return jax.lax.scan(add, jnp.zeros_like(probability[:, 0]), columns)[0]


def expected_error(
    probability: Float[ArrayLike, "n k"],
    q: Float[ArrayLike, "n k 4"],
    estimate: Float[ArrayLike, "n 4"],
    group: str = "432",
) -> Float[np.ndarray, "n"]:
    """Expected disorientation of the estimate to the truth.

    >>> q = jnp.array([[[1.0, 0.0, 0.0, 0.0], [jnp.cos(0.1), 0.0, 0.0, jnp.sin(0.1)]]])
    >>> expected_error(jnp.array([[0.75, 0.25]]), q, q[:, 0]).round(2).tolist()  # a quarter of 11.46 degrees
    [2.86]
    """
    return np.sum(np.asarray(probability) * np.asarray(_distances(q, estimate, group)), axis=1)


def energy_score(
    reference_q: Float[ArrayLike, "n 4"],
    probability: Float[ArrayLike, "n k"],
    q: Float[ArrayLike, "n k 4"],
    group: str = "432",
) -> Float[np.ndarray, "n"]:
    """The score of `uncertainty.energy_score` (CRPS with disorientation as distance) of the whole distribution.

    >>> q = jnp.array([[[1.0, 0.0, 0.0, 0.0], [jnp.cos(0.1), 0.0, 0.0, jnp.sin(0.1)]]])
    >>> energy_score(q[:, 0], jnp.array([[1.0, 0.0]]), q).round(2).tolist()  # sure and right
    [0.0]
    """
    return expected_error(probability, q, reference_q, group) - 0.5 * np.asarray(spread(probability, q, group))


def radius(
    probability: Float[ArrayLike, "n k"],
    q: Float[ArrayLike, "n k 4"],
    estimate: Float[ArrayLike, "n 4"],
    level: float = 0.9,
    group: str = "432",
    *,
    floor_deg: float = FLOOR_DEG,
) -> Float[np.ndarray, "n"]:
    """Smallest radius of a ball about the estimate that holds the probability `level`, at least `floor_deg`.

    Raises:
        ValueError: `level` is not in (0, 1).

    >>> q = jnp.array([[[1.0, 0.0, 0.0, 0.0], [jnp.cos(0.1), 0.0, 0.0, jnp.sin(0.1)]]])
    >>> [radius(jnp.array([[p, 1 - p]]), q, q[:, 0]).round(2).tolist() for p in (0.95, 0.6)]
    [[0.5], [11.46]]
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level: got {level}, accepted is a probability between 0 and 1")
    distance = np.asarray(_distances(q, estimate, group))
    order = np.argsort(distance, axis=1, kind="stable")
    held = np.cumsum(np.take_along_axis(np.asarray(probability, np.float64), order, axis=1), axis=1)
    # Rounding may leave the sum of all a hair below a level close to one.
    rank = np.minimum((held < level - 1e-9).sum(axis=1), distance.shape[1] - 1)
    found = np.take_along_axis(np.take_along_axis(distance, order, axis=1), rank[:, None], axis=1)[:, 0]
    return np.maximum(found, floor_deg)


def covered(
    reference_q: Float[ArrayLike, "n 4"],
    probability: Float[ArrayLike, "n k"],
    q: Float[ArrayLike, "n k 4"],
    estimate: Float[ArrayLike, "n 4"],
    level: float = 0.9,
    group: str = "432",
    *,
    floor_deg: float = FLOOR_DEG,
) -> Bool[np.ndarray, "n"]:
    """Whether the truth lies in the ball of `radius`.

    >>> q = jnp.array([[[1.0, 0.0, 0.0, 0.0], [jnp.cos(0.1), 0.0, 0.0, jnp.sin(0.1)]]])
    >>> [covered(q[:, 1], jnp.array([[p, 1 - p]]), q, q[:, 0]).tolist() for p in (0.95, 0.6)]
    [[False], [True]]
    """
    error = np.rad2deg(np.asarray(disorientation(reference_q, estimate, group)))
    return error <= radius(probability, q, estimate, level, group, floor_deg=floor_deg) + ROUNDING_DEG


def level_for(
    reference_q: Float[ArrayLike, "n 4"],
    probability: Float[ArrayLike, "n k"],
    q: Float[ArrayLike, "n k 4"],
    estimate: Float[ArrayLike, "n 4"],
    wanted: float = 0.9,
    group: str = "432",
    *,
    floor_deg: float = FLOOR_DEG,
) -> float:
    """The level to ask `radius` for so that its balls hold the truth in a share `wanted` of these voxels.

    Recalibration by one number, to be fitted on one volume and used on another (conformal prediction, Vovk et al.
    2005): the `wanted`-quantile over voxels of the probability of those candidates that are nearer to the estimate than
    the truth is, which a ball that reaches the truth must hold more than.

    Raises:
        ValueError: there is no voxel.

    >>> q = jnp.tile(jnp.array([[[1.0, 0.0, 0.0, 0.0], [jnp.cos(0.1), 0.0, 0.0, jnp.sin(0.1)]]]), (10, 1, 1))
    >>> probability = jnp.tile(jnp.array([[0.7, 0.3]]), (10, 1))
    >>> truth = q[:, 0].at[:2].set(q[0, 1])  # the estimate is wrong in two of ten voxels
    >>> [round(level_for(truth, probability, q, q[:, 0], wanted), 2) for wanted in (0.8, 0.9)]
    [0.7, 0.7]
    """
    if not len(np.asarray(probability)):
        raise ValueError("probability: no voxel to calibrate on")
    distance = np.asarray(_distances(q, estimate, group))
    error = np.rad2deg(np.asarray(disorientation(reference_q, estimate, group)))
    inside = distance < np.where(error > floor_deg, error, 0.0)[:, None] - ROUNDING_DEG
    needed = np.sum(np.asarray(probability, np.float64) * inside, axis=1)
    return float(np.clip(np.quantile(needed, wanted, method="higher") + 1e-6, 1e-6, 1.0 - 1e-6))


def boundary_displacement(estimate: Int[np.ndarray, "nx ny nz"], certainty: Float[np.ndarray, "nx ny nz"]) -> float:
    """Mean distance, in voxels, between the true boundary and the estimated one, as the probabilities have it.

    For a boundary at ``x0`` whose position ``X`` is uncertain, the chance that a voxel lies on the wrong side, summed
    along the normal, is ``E|X - x0|``. So the expected volume of misplaced voxels over the area of the boundaries is
    their mean displacement. Areas are taken from face counts per direction and pair of grains, ``sqrt(Fx^2 + Fy^2 +
    Fz^2)``: exact for a plane of any tilt, 13 % low for a sphere.

    Args:
        estimate: Grain number of every voxel.
        certainty: Probability that it is right; 1 at known voxels.

    Returns:
        Voxels; NaN where there is no boundary.

    >>> halves = np.repeat([0, 1], 4).reshape(8, 1, 1) * np.ones((1, 5, 5), int)
    >>> certainty = np.where(np.isin(np.arange(8), [3, 4])[:, None, None], 0.75, 1.0) * np.ones((1, 5, 5))
    >>> boundary_displacement(halves, certainty)  # two voxels, each wrong with probability 1/4
    0.5
    """
    area = boundary_area(estimate)
    return float(np.sum(1.0 - np.asarray(certainty, np.float64)) / area) if area else float("nan")


def boundary_area(labels: Int[np.ndarray, "nx ny nz"]) -> float:
    """Area of all boundaries between grains, in voxel faces; see `boundary_displacement`.

    >>> boundary_area(np.repeat([0, 1], 4).reshape(8, 1, 1) * np.ones((1, 5, 5), int))
    25.0
    """
    codes, axes = [], []
    high = int(labels.max()) + 1
    for axis in range(3):
        a, b = (np.take(labels, np.arange(s, labels.shape[axis] - 1 + s), axis=axis).ravel() for s in (0, 1))
        differ = a != b
        low, top = np.minimum(a[differ], b[differ]).astype(np.int64), np.maximum(a[differ], b[differ])
        codes.append(low * high + top)
        axes.append(np.full(int(differ.sum()), axis))
    pairs, number = np.unique(np.concatenate(codes), return_inverse=True)
    faces = np.bincount(3 * number + np.concatenate(axes), minlength=3 * len(pairs)).reshape(-1, 3)
    return float(np.sqrt(np.square(faces).sum(axis=1)).sum())


def contested(probability: Float[np.ndarray, "n k"], level: float = 0.9) -> Bool[np.ndarray, "n"]:
    """Voxels whose best candidate is less probable than `level`: where an interval says more than one grain.

    >>> contested(np.array([[0.95, 0.05], [0.6, 0.4]])).tolist()
    [False, True]
    """
    return probability.max(axis=1) < level
