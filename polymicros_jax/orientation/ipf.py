"""Inverse pole figure colours of cubic (432) and hexagonal (622) crystals.

The colour key of Nolze & Hielscher, J. Appl. Cryst. 49 (2016), section 2.4, as EDAX TSL, MTEX and orix use it: the
crystal direction parallel to a sample direction is folded into the fundamental sector; hue turns about the centre of
the sector, red at [001], and colours fade to white towards the centre.
"""

from functools import cache, partial
from math import sqrt
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from polymicros_jax.choice import clip, ordered
from polymicros_jax.orientation.quaternion import rotate_vector
from polymicros_jax.types import ArrayLike

SAMPLE_DIRECTIONS = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}

# Inward normals of the sector: z >= x >= y >= 0, and azimuth from 0 to 30 degrees above the basal plane.
_NORMALS = {
    "432": ((1.0, -1.0, 0.0), (-1.0, 0.0, 1.0), (0.0, 1.0, 0.0)),
    "622": ((0.5, -sqrt(0.75), 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
}
_VERTICES = {
    "432": ((0.0, 0.0, 1.0), (sqrt(0.5), 0.0, sqrt(0.5)), (sqrt(1 / 3), sqrt(1 / 3), sqrt(1 / 3))),
    "622": ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (sqrt(0.75), 0.5, 0.0)),
}
_HUES = 2048


class Sector(NamedTuple):
    """A fundamental sector: inward normals (3, 3), centre (3,), tangents at the centre (3,) each, hue per azimuth."""

    normals: np.ndarray
    centre: np.ndarray
    towards_z: np.ndarray
    across: np.ndarray
    hue: np.ndarray


@cache
def sector(group: str) -> Sector:
    """The sector of a group with its table of hues over `[0, 2 pi]` of azimuth, counted from [001] about the centre.

    Hue grows with the distance to the boundary, so that colours change evenly along it, and each of the three sides
    takes a third of the colour circle: vertices are red, green and blue.

    Raises:
        ValueError: there is no colour key for this group.

    >>> key = sector("432")
    >>> np.degrees(np.arccos(key.centre[2])).round(2).item()  # how far the white point lies from [001]
    31.65
    """
    if group not in _NORMALS:
        raise ValueError(f"group: found {group!r}; colour keys exist for {', '.join(_NORMALS)}")
    normals, vertices = np.array(_NORMALS[group]), np.array(_VERTICES[group])
    centre = vertices.mean(axis=0)
    centre /= np.linalg.norm(centre)
    towards_z = vertices[0] - centre * (centre @ vertices[0])
    towards_z /= np.linalg.norm(towards_z)
    across = np.cross(centre, towards_z)
    corners = np.sort(np.mod(np.arctan2(vertices @ across, vertices @ towards_z), 2 * np.pi))
    azimuth = np.linspace(0.0, 2 * np.pi, _HUES + 1)
    hue = np.zeros_like(azimuth)
    bounds = [0.0, *corners[1:], 2 * np.pi]  # the first corner is [001] itself, at zero
    for third in range(3):
        fine = np.linspace(bounds[third], bounds[third + 1], 4001)
        tangent = np.cos(fine)[:, None] * towards_z[None, :] + np.sin(fine)[:, None] * across[None, :]
        reach = np.arctan2((normals @ centre)[None, :], -tangent @ normals.T).min(axis=1)
        integral = np.concatenate([[0.0], np.cumsum(reach[1:] + reach[:-1])])
        inside = (azimuth >= bounds[third]) & (azimuth <= bounds[third + 1])
        hue[inside] = (third + np.interp(azimuth[inside], fine, integral / integral[-1])) / 3
    return Sector(normals, centre, towards_z, across, hue)


def fold(v: Float[ArrayLike, "*batch 3"], group: str = "432") -> Float[Array, "*batch 3"]:
    """The equivalent of a crystal direction (Laue group, so with inversion) in the fundamental sector.

    >>> fold(np.array([[0.0, -1.0, 0.0], [-0.6, 0.0, 0.8], [0.48, -0.6, 0.64]])).round(2).tolist()
    [[0.0, 0.0, 1.0], [0.6, 0.0, 0.8], [0.6, 0.48, 0.64]]
    """
    v = jnp.abs(jnp.asarray(v))
    x, y, z = v[..., 0], v[..., 1], v[..., 2]
    if group == "432":
        high, low = ordered(x, y)
        rest, smallest = ordered(low, z)
        largest, middle = ordered(high, rest)
        return jnp.stack([middle, smallest, largest], axis=-1)
    sector(group)  # refuses groups without a key
    for line in (np.pi / 3, np.pi / 6):  # mirror what lies beyond 60, then beyond 30 degrees of azimuth
        sin, cos = float(np.sin(line)), float(np.cos(line))
        beyond = clip(cos * y - sin * x, low=0.0)
        x, y = x + 2 * sin * beyond, y - 2 * cos * beyond
    return jnp.stack([x, clip(y, low=0.0), z], axis=-1)


@partial(jax.jit, static_argnames="group")
def direction_colours(v: Float[ArrayLike, "*batch 3"], group: str = "432") -> Float[Array, "*batch 3"]:
    """RGB in [0, 1] of crystal directions of unit length.

    Raises:
        ValueError: there is no colour key for this group.

    >>> corners = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0]]) / np.sqrt([[1.0], [2.0], [3.0]])
    >>> direction_colours(corners).round(2).tolist()  # [001] red, [101] green, [111] blue
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    key = sector(group)
    h = fold(v, group)

    def along(axis: np.ndarray) -> Array:
        return sum((float(a) * h[..., i] for i, a in enumerate(axis)), jnp.zeros_like(h[..., 0]))

    forward, sideways = along(key.towards_z), along(key.across)
    square = forward * forward + sideways * sideways
    at_centre = square < 1e-12
    tangential = jnp.sqrt(jnp.where(at_centre, 1.0, square))
    cos, sin = jnp.where(at_centre, 1.0, forward / tangential), jnp.where(at_centre, 0.0, sideways / tangential)
    from_centre = jnp.where(at_centre, 0.0, jnp.arctan2(tangential, along(key.centre)))
    reach = jnp.full_like(cos, jnp.pi)
    for normal in key.normals:
        outward = -(float(normal @ key.towards_z) * cos + float(normal @ key.across) * sin)
        _, reach = ordered(reach, jnp.arctan2(jnp.full_like(outward, float(normal @ key.centre)), outward))
    white = clip(1.0 - from_centre / reach, 0.0, 1.0)

    position = jnp.mod(jnp.arctan2(sin, cos) / (2 * np.pi), 1.0) * _HUES
    left = jnp.clip(position.astype(jnp.int32), 0, _HUES - 1)
    table = jnp.asarray(key.hue, h.dtype)
    hue = table[left] + (position - left) * (table[left + 1] - table[left])
    # HSL with full saturation and lightness (1 + white) / 2 is a pure colour mixed with white.
    pure = jnp.stack([jnp.abs(6 * hue - 3) - 1, 2 - jnp.abs(6 * hue - 2), 2 - jnp.abs(6 * hue - 4)], axis=-1)
    return white[..., None] + (1.0 - white[..., None]) * clip(pure, 0.0, 1.0)


def colours(
    q: Float[ArrayLike, "*batch 4"],
    direction: str | tuple[float | int, float | int, float | int] = "z",
    group: str = "432",
) -> Float[Array, "*batch 3"]:
    """IPF colours, RGB in [0, 1], of orientations for one sample direction: "x", "y", "z" or any vector.

    Raises:
        ValueError: the direction is unknown or zero, or there is no colour key for this group.

    >>> from polymicros_jax.orientation.quaternion import from_euler
    >>> colours(from_euler(np.radians([[0.0, 0.0, 0.0], [0.0, 45.0, 0.0]])), "z").round(2).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    if isinstance(direction, str):
        if direction not in SAMPLE_DIRECTIONS:
            raise ValueError(f"direction: found {direction!r}; accepted are x, y, z or a vector of three numbers")
        direction = SAMPLE_DIRECTIONS[direction]
    vector = np.asarray(direction, dtype=np.float64)
    length = np.linalg.norm(vector)
    if vector.shape != (3,) or not length > 0:
        raise ValueError(f"direction: found {direction!r}; accepted are x, y, z or a non-zero vector of three numbers")
    return _colours(jnp.asarray(q), jnp.asarray(vector / length, jnp.asarray(q).dtype), group)


@partial(jax.jit, static_argnames="group")
def _colours(q: Array, vector: Array, group: str) -> Array:
    return direction_colours(rotate_vector(q, vector), group)
