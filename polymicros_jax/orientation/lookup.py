"""Deterministic orientation grids and look-up of the nearest grid point of a representation."""

from functools import cache

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from polymicros_jax.orientation.groups import LAUE_GROUPS
from polymicros_jax.orientation.symmetry import in_fundamental_zone


@cache
def fundamental_zone_grid(group: str, spacing: float) -> np.ndarray:
    """Evenly spread orientations in the fundamental zone, float64 `(n, 4)`, read-only; `spacing` in radians.

    A super-Fibonacci spiral (Alexa, CVPR 2022) covers all rotations, cell volume `spacing^3` each (SO(3) has volume 8
    pi^2 in the metric of rotation angles), and the points that lie in the zone are kept. No random numbers: the grid
    is a function of its arguments.

    >>> grid = fundamental_zone_grid("432", np.radians(10.0))
    >>> round(len(grid) * np.radians(10.0) ** 3 / (8 * np.pi**2 / 24), 2)  # cells over the volume of the zone
    np.float64(1.0)
    """
    count = int(np.ceil(8 * np.pi**2 / spacing**3))
    kept = []
    for start in range(0, count, 1 << 18):  # blocks bound the memory of fine grids
        s = np.arange(start, min(start + (1 << 18), count)) + 0.5
        r, big_r = np.sqrt(s / count), np.sqrt(1.0 - s / count)
        alpha, beta = 2 * np.pi * s / np.sqrt(2.0), 2 * np.pi * s / 1.533751168755204288118041
        q = np.stack([r * np.sin(alpha), r * np.cos(alpha), big_r * np.sin(beta), big_r * np.cos(beta)], axis=-1)
        kept.append(q[in_fundamental_zone(q, group)])
    grid = np.concatenate(kept)
    if len(grid) == 0:
        raise ValueError(f"spacing: found {spacing} rad, no grid point falls in the zone of {LAUE_GROUPS[group].laue}")
    grid.setflags(write=False)
    return grid


def nearest(points: Float[Array, "n h"], table: Float[np.ndarray, "m h"]) -> Int[Array, "n"]:
    """Index of the closest row of `table`, by one matrix product: `argmax(2 p.t - |t|^2)`.

    >>> nearest(jnp.array([[0.9, 0.2], [0.1, 0.4]]), np.eye(2)).tolist()
    [0, 1]
    """
    rows = jnp.asarray(table, points.dtype)
    half_square = jnp.asarray(0.5 * np.sum(table.astype(np.float64) ** 2, axis=1), points.dtype)
    return jnp.argmax(points @ rows.T - half_square[None, :], axis=1)
