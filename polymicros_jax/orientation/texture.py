"""Texture: coefficients of the orientation distribution function (ODF), pole figures, disorientation distributions.

An ODF is a density relative to the uniform texture: its mean over SO(3) is 1, "multiples of random".
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from polymicros_jax.choice import clip
from polymicros_jax.orientation.groups import operators
from polymicros_jax.orientation.harmonics import multiplicity, symmetrised
from polymicros_jax.orientation.quaternion import conjugate, disorientation, random, rotate_vector
from polymicros_jax.types import ArrayLike, Key

_CHUNK = 8192

Direction = tuple[float | int, float | int, float | int]
"""A crystal direction in Cartesian crystal coordinates, of any length; Miller indices for cubic crystals."""

Coefficients = dict[int, Array]
"""ODF coefficients `C_l^{n mu}` by degree l: complex `(2 l + 1, M)`."""


def odf_coefficients(
    q: Float[ArrayLike, "*batch 4"],
    max_degree: int,
    group: str = "432",
    weights: Float[ArrayLike, "*batch"] | None = None,
) -> Coefficients:
    """Coefficients of the ODF of a set of orientations: `C_l^{n mu} = (2 l + 1) mean(conj T_l^{n mu})` (Eqs. 6 and 7).

    Degrees without crystal-symmetric functions are left out. `weights` (volumes, or 0 for unobserved voxels) need not
    sum to one. Memory is bounded: orientations are summed in chunks.

    >>> from polymicros_jax.orientation.quaternion import from_euler
    >>> cube = odf_coefficients(from_euler(np.zeros((10, 3))), 4)
    >>> sorted(cube), cube[4].shape
    ([0, 4], (9, 1))
    """
    flat = jnp.asarray(q).reshape(-1, 4)
    share = jnp.ones(flat.shape[0], flat.dtype) if weights is None else jnp.asarray(weights).reshape(-1)
    share = share / jnp.sum(share)
    flat = jnp.where(share[:, None] > 0, flat, 0.0)  # what does not count may be NaN
    chunk = min(_CHUNK, flat.shape[0])
    padding = -flat.shape[0] % chunk
    flat = jnp.pad(flat, ((0, padding), (0, 0))).reshape(-1, chunk, 4)
    share = jnp.pad(share, (0, padding)).reshape(-1, chunk)
    degrees = [degree for degree in range(max_degree + 1) if multiplicity(degree, group)]
    return {degree: (2 * degree + 1) * jnp.conj(_mean(flat, share, degree, group)) for degree in degrees}


@partial(jax.jit, static_argnames=("degree", "group"))
def _mean(q: Array, share: Array, degree: int, group: str) -> Array:
    def add(total: Array, chunk: tuple[Array, Array]) -> tuple[Array, None]:
        values = symmetrised(chunk[0], degree, group)
        return total + jnp.sum(values * chunk[1][:, None, None], axis=0), None

    shape = (2 * degree + 1, multiplicity(degree, group))
    start = jnp.zeros(shape, jnp.result_type(q.dtype, jnp.complex64))
    return jax.lax.scan(add, start, (q, share))[0]


def odf(coefficients: Coefficients, q: Float[ArrayLike, "*batch 4"], group: str = "432") -> Float[Array, "*batch"]:
    """The density `sum C_l^{n mu} T_l^{n mu}(q)` in multiples of random (Eq. 4); a truncated series can be negative.

    >>> from polymicros_jax.orientation.quaternion import from_euler
    >>> cube = odf_coefficients(from_euler(np.zeros((10, 3))), 4)
    >>> odf(cube, from_euler(np.radians([[0.0, 0.0, 0.0], [0.0, 30.0, 45.0]]))).round(2).tolist()  # 1 + 9 T_4
    [10.0, -1.72]
    """
    q = jnp.asarray(q)
    total = jnp.zeros(q.shape[:-1], q.dtype)
    for degree, c in coefficients.items():
        values: Complex[Array, "*batch n mu"] = symmetrised(q, degree, group)
        total = total + jnp.real(jnp.einsum("nu,...nu->...", c, values, precision=jax.lax.Precision.HIGHEST))
    return total


def texture_index(coefficients: Coefficients) -> Float[Array, ""]:
    """Mean square of the ODF, `sum |C_l|^2 / (2 l + 1)` (Parseval): 1 for uniform texture, larger the sharper.

    >>> from polymicros_jax.orientation.quaternion import from_euler
    >>> round(float(texture_index(odf_coefficients(from_euler(np.zeros((10, 3))), 4))), 3)  # sum of 2 l + 1
    10.0
    """
    parts = [jnp.sum(jnp.abs(c) ** 2) / (2 * degree + 1) for degree, c in coefficients.items()]
    return jnp.sum(jnp.stack(parts))


def equivalent_poles(pole: Direction, group: str = "432") -> Float[np.ndarray, "poles 3"]:
    """The different unit vectors, opposite ones included, equivalent to a crystal direction; float64.

    >>> {pole: len(equivalent_poles(pole)) for pole in ((1, 0, 0), (1, 1, 0), (1, 1, 1))}
    {(1, 0, 0): 6, (1, 1, 0): 12, (1, 1, 1): 8}
    """
    vector = np.asarray(pole, dtype=np.float64)
    if not np.linalg.norm(vector) > 0:
        raise ValueError(f"pole: found {pole!r}; accepted is a non-zero crystal direction")
    vector = vector / np.linalg.norm(vector)
    found: list[np.ndarray] = []
    for w, *axis in operators(group):
        t = 2.0 * np.cross(axis, vector)
        turned = vector + w * t + np.cross(axis, t)
        for candidate in (turned, -turned):
            if all(np.linalg.norm(candidate - known) > 1e-9 for known in found):
                found.append(candidate)
    return np.stack(found)


def pole_directions(
    q: Float[ArrayLike, "*batch 4"], pole: Direction, group: str = "432"
) -> Float[Array, "*batch poles 3"]:
    """Sample coordinates of all crystal directions equivalent to `pole` (Cartesian crystal coordinates).

    >>> from polymicros_jax.orientation.quaternion import from_euler
    >>> poles = pole_directions(from_euler(np.radians([30.0, 0.0, 0.0])), (1, 0, 0))
    >>> sorted(np.degrees(np.arctan2(poles[:, 1], poles[:, 0])).round().tolist())[-1], poles.shape
    (120.0, (6, 3))
    """
    q = jnp.asarray(q)
    poles = equivalent_poles(pole, group)
    vectors = jnp.asarray(poles, q.dtype).reshape((1,) * (q.ndim - 1) + poles.shape)
    return rotate_vector(conjugate(q)[..., None, :], vectors)


@partial(jax.jit, static_argnames=("pole", "group", "halfwidth"))
def pole_figure(
    q: Float[ArrayLike, "*batch 4"],
    pole: Direction,
    directions: Float[ArrayLike, "*points 3"],
    group: str = "432",
    halfwidth: float = float(np.radians(7.5)),
) -> Float[Array, "*points"]:
    """Pole density at sample directions in multiples of random, smoothed over `halfwidth` radians.

    The kernel is de la Vallee Poussin's, `(1 + k) cos^(2k)(angle / 2)`, whose mean over the sphere is exactly 1 and
    which falls to one half at `halfwidth`.

    Raises:
        ValueError: a half width of nought or of half a turn and more.

    >>> from polymicros_jax.orientation.quaternion import from_euler
    >>> cube = from_euler(np.zeros((4, 3)))
    >>> along, away = pole_figure(cube, (1, 0, 0), np.array([[0.0, 0.0, 1.0], [0.6, 0.0, 0.8]]))
    >>> round(float(along), 1), round(float(away), 1)  # multiples of random: all poles, and none within 36 degrees
    (27.1, 0.0)
    """
    if not 0 < halfwidth < np.pi:
        raise ValueError(
            f"halfwidth: found {halfwidth}, accepted are radians between 0 and pi; "
            f"did you mean np.radians({halfwidth:g})?"
        )
    exponent = float(np.log(0.5) / (2 * np.log(np.cos(0.5 * halfwidth))))
    points = jnp.asarray(directions)
    targets = points.reshape(-1, 3)
    flat = jnp.asarray(q).reshape(-1, 4)
    count, poles = flat.shape[0], len(equivalent_poles(pole, group))
    chunk = min(count, max(1, (1 << 22) // (poles * targets.shape[0])))  # at most 16 MiB of kernel values at a time
    padded = jnp.pad(flat, ((0, -count % chunk), (0, 0))).reshape(-1, chunk, 4)
    counted = jnp.pad(jnp.ones(count, flat.dtype), (0, -count % chunk)).reshape(-1, chunk)

    def add(total: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
        v = pole_directions(part[0], pole, group).reshape(-1, 3)
        cosine = jnp.matmul(v, targets.T, precision=jax.lax.Precision.HIGHEST)
        kernel = (1 + exponent) * clip(0.5 * (1 + cosine), 0.0, 1.0) ** exponent
        return total + jnp.repeat(part[1], poles) @ kernel, None

    total = jax.lax.scan(add, jnp.zeros(targets.shape[0], flat.dtype), (padded, counted))[0]
    return (total / (count * poles)).reshape(points.shape[:-1])


def uncorrelated_disorientations(
    key: Key, q: Float[ArrayLike, "*batch 4"], count: int, group: str = "432"
) -> Float[Array, "{count}"]:
    """Disorientations, in radians, of random pairs of voxels: what the texture gives without neighbourhood.

    >>> from polymicros_jax.orientation.quaternion import from_euler
    >>> two = from_euler(np.radians([[0.0, 0.0, 0.0], [0.0, 30.0, 0.0]]))
    >>> sorted(set(np.degrees(uncorrelated_disorientations(jax.random.key(0), two, 100)).round(2).tolist()))
    [0.0, 30.0]
    """
    flat = jnp.asarray(q).reshape(-1, 4)
    one, other = jax.random.randint(key, (2, count), 0, flat.shape[0])
    return disorientation(flat[one], flat[other], group)


def random_disorientations(key: Key, count: int, group: str = "432") -> Float[Array, "{count}"]:
    """Disorientations, in radians, of a uniform texture: for 432 Mackenzie's distribution.

    >>> angles = np.degrees(random_disorientations(jax.random.key(0), 20_000))
    >>> round(float(angles.mean())), round(float(angles.max()))  # Mackenzie: mean 40.7, largest 62.8 degrees
    (41, 62)
    """
    one, other = random(key, (2, count))
    return disorientation(one, other, group)


def disorientation_distribution(
    angles: Float[ArrayLike, "n"], bins: int = 65, maximum: float = float(np.radians(65.0))
) -> tuple[Float[np.ndarray, "edges"], Float[np.ndarray, "bins"]]:
    """Histogram of disorientations as a density per radian over [0, maximum]: edges and values; its integral is 1.

    Raises:
        ValueError: there are no angles, or one lies above `maximum`.

    >>> edges, values = disorientation_distribution(np.radians([10.0, 20.0, 60.0]), bins=13)
    >>> round(float(values.sum() * np.diff(edges)[0]), 3), np.degrees(edges[:-1][values > 0]).round(1).tolist()
    (1.0, [10.0, 20.0, 60.0])
    """
    angles = np.asarray(angles)
    if angles.size == 0 or not np.isfinite(angles).all() or angles.max() > maximum:
        found = "no angles" if angles.size == 0 else f"a largest angle of {np.degrees(angles.max()):.1f} degrees"
        raise ValueError(f"angles: found {found}; accepted are finite angles up to {np.degrees(maximum):.1f} degrees")
    density, edges = np.histogram(angles, bins=bins, range=(0.0, maximum), density=True)
    return edges, density
