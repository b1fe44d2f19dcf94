"""ROGSH: the paper's three-channel representation of cubic orientations (App. A.2, Eqs. 8-10), for compatibility only.

**ROGSH cannot be inverted.** Each triple belongs to at least 16 crystal orientations: `(phi1 + pi/2, Phi, phi2)` and
`(-phi1, Phi, -phi2)` give the identical triple. `lookup`, the paper's way back, returns an orientation with a median
disorientation of 35 degrees from the right one; only 9 % come back within 5 degrees (tested). Disorientations,
textures and simulation input made from ROGSH fields are therefore meaningless. Use `embedding` ("gsh4") wherever
orientations are needed.
"""

from functools import cache, partial
from math import sqrt

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from polymicros_jax.orientation.lookup import fundamental_zone_grid, nearest
from polymicros_jax.orientation.quaternion import to_euler
from polymicros_jax.types import ArrayLike

CHANNELS = 3
STANDARD_DEVIATIONS = (sqrt(1 / 18), 1 / 3, 1 / 5)
"""Under uniform texture: 1/sqrt(2l+1), and sqrt2 less for the real part of a complex function."""


@jax.jit
def from_euler(euler: Float[ArrayLike, "*batch 3"]) -> Float[Array, "*batch 3"]:
    """`(Re T_4^{-4,1}, T_4^{0,1}, T_12^{0,2})` of Bunge angles in radians.

    Eq. 8 is misprinted in the paper (off by up to 15.5); here is the group average of Wigner-D it stands for. The
    even powers of sines of Eqs. 9 and 10 are written in `c = cos Phi`.

    >>> from_euler(np.radians([0.0, 0.0, 0.0])).round(4).tolist()
    [0.4564, 0.7638, 0.6553]
    >>> from_euler(np.radians([90.0, 0.0, 270.0])).round(4).tolist()  # the same cube
    [0.4564, 0.7638, 0.6553]
    """
    euler = jnp.asarray(euler)
    phi1, Phi, phi2 = euler[..., 0], euler[..., 1], euler[..., 2]
    c = jnp.cos(Phi)
    s2 = 1.0 - c * c
    c2, s4 = c * c, s2 * s2
    # Eq. 8, corrected
    first = (sqrt(30) / 192) * (
        14 * s4 * jnp.cos(4 * phi1)
        + (1 + c) ** 4 * jnp.cos(4 * phi1 + 4 * phi2)
        + (1 - c) ** 4 * jnp.cos(4 * phi1 - 4 * phi2)
    )
    # Eq. 9
    second = (sqrt(21) / 48) * (5 * s4 * jnp.cos(4 * phi2) + (35 * c2 - 30) * c2 + 3)
    # Eq. 10
    polar_4 = (((7429 * c2 - 9044) * c2 + 3230) * c2 - 340) * c2 + 5
    polar_8 = (161 * s2 - 280) * s2 + 120
    polar_0 = (((((1352078 * c2 - 3879876) * c2 + 4157010) * c2 - 2042040) * c2 + 450450) * c2 - 36036) * c2 + 462
    third = (sqrt(166305594) / 40304640) * (
        1025 * s4**3 * jnp.cos(12 * phi2)
        + 66 * s4**2 * polar_8 * jnp.cos(8 * phi2)
        + 99 * s4 * polar_4 * jnp.cos(4 * phi2)
        + polar_0
    )
    return jnp.stack([first, second, third], axis=-1)


@jax.jit
def encode(q: Float[ArrayLike, "*batch 4"]) -> Float[Array, "*batch 3"]:
    """The ROGSH triple of unit quaternions. It is not injective, see the module.

    >>> from polymicros_jax.orientation import quaternion
    >>> euler = np.radians([10.0, 50.0, 70.0])
    >>> bool(np.allclose(encode(quaternion.from_euler(euler)), from_euler(euler), atol=1e-5))
    True
    """
    return from_euler(to_euler(q))


@cache
def _table(spacing: float) -> tuple[np.ndarray, np.ndarray]:
    grid = fundamental_zone_grid("432", spacing)
    with jax.ensure_compile_time_eval():
        table = np.asarray(encode(grid.astype(np.float32)))
    return grid, table


@partial(jax.jit, static_argnames="spacing")
def lookup(
    field: Float[ArrayLike, "*batch 3"], spacing: float = float(np.radians(2.0))
) -> tuple[Float[Array, "*batch 4"], Float[Array, "*batch"]]:
    """The orientation of a fundamental-zone grid whose triple is nearest, and the distance between the triples.

    This is what the paper and its released code do with a 2-degree grid. The problem is ill-posed: the distance is
    small, and the orientation is wrong all the same (median 35 degrees). Never take orientations from it for anything
    but a comparison.
    """
    field = jnp.asarray(field)
    grid, table = _table(spacing)
    flat = field.reshape(-1, CHANNELS)
    chunk = 1024  # times 77,000 grid points at 2 degrees

    def one(points: Array) -> tuple[Array, Array]:
        index = nearest(points, table)
        offset = points - jnp.asarray(table, points.dtype)[index]
        square = jnp.sum(offset * offset, axis=-1)
        apart = square > 0  # at a triple of the grid the gradient is zero, not NaN
        distance = jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1.0)), 0.0)
        return jnp.asarray(grid, points.dtype)[index], distance

    count = flat.shape[0]
    padded = jnp.pad(flat, ((0, -count % chunk), (0, 0))).reshape(-1, chunk, CHANNELS)
    q, distance = jax.lax.map(one, padded)
    batch = field.shape[:-1]
    return q.reshape(-1, 4)[:count].reshape(*batch, 4), distance.reshape(-1)[:count].reshape(batch)
