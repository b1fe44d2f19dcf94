"""Unit quaternions `(w, x, y, z)` as Bunge-passive orientations; every convention is in `docs/conventions.md`.

An orientation maps sample coordinates to crystal coordinates, `v_crystal = to_matrix(q) @ v_sample`; `to_matrix` is a
homomorphism for the Hamilton product, so crystal symmetry multiplies from the left and a change of sample frame from
the right. Angles are radians. An array whose last axis has the wrong length is a ValueError in every function.
"""

from functools import partial
from math import sqrt

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from polymicros_jax.choice import clip, ordered
from polymicros_jax.orientation.groups import hamilton, operators
from polymicros_jax.types import ArrayLike, Key

Quaternion = tuple[Array, Array, Array, Array]

# Called one operation after the other, each of these compiles some twenty programs for a new shape; as one it takes a
# sixth of the time (measured). Inlined where the caller is compiled itself.
_compiled = partial(jax.jit, inline=True)


def _components(values: ArrayLike, count: int, meaning: str) -> Array:
    """The array, if its last axis has so many: JAX reads beyond the end of an axis what stands there last.

    Raises:
        ValueError: it has another number.
    """
    values = jnp.asarray(values)
    if values.shape[-1:] != (count,):
        hint = "; from_euler makes quaternions of Euler angles" if count == 4 and values.shape[-1:] == (3,) else ""
        raise ValueError(
            f"{meaning}: found an array of shape {values.shape}, accepted are {count} along the last axis{hint}"
        )
    return values


def _split(q: ArrayLike) -> Quaternion:
    q = _components(q, 4, "quaternions")
    return q[..., 0], q[..., 1], q[..., 2], q[..., 3]


def _safe_sqrt(x: Array) -> Array:
    """Square root whose gradient at zero is zero rather than infinite."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def _safe_atan2(y: Array, x: Array) -> Array:
    """`atan2` that is 0 with zero gradient where both arguments are 0."""
    nowhere = (x == 0) & (y == 0)
    return jnp.where(nowhere, 0.0, jnp.arctan2(y, jnp.where(nowhere, 1.0, x)))


@_compiled
def normalise(q: Float[ArrayLike, "*batch 4"]) -> Float[Array, "*batch 4"]:
    """Scales to unit length.

    A zero quaternion (an unobserved voxel) becomes the identity, so that nothing downstream is NaN.

    >>> normalise(np.array([[3.0, 0.0, 4.0, 0.0], [0.0, 0.0, 0.0, 0.0]])).round(3).tolist()
    [[0.6, 0.0, 0.8, 0.0], [1.0, 0.0, 0.0, 0.0]]
    """
    q = _components(q, 4, "quaternions")
    square = jnp.sum(q * q, axis=-1, keepdims=True)
    zero = square <= 0
    identity = jnp.broadcast_to(jnp.eye(1, 4, dtype=q.dtype).reshape((1,) * (q.ndim - 1) + (4,)), q.shape)
    return jnp.where(zero, identity, q / jnp.sqrt(jnp.where(zero, 1.0, square)))


@_compiled
def canonical(q: Float[ArrayLike, "*batch 4"]) -> Float[Array, "*batch 4"]:
    """Of `q` and `-q`, which are one rotation, the one with `w >= 0`.

    >>> canonical(np.array([-0.5, 0.5, 0.5, -0.5])).tolist()
    [0.5, -0.5, -0.5, 0.5]
    """
    q = _components(q, 4, "quaternions")
    return jnp.where(q[..., :1] < 0, -q, q)


@_compiled
def multiply(a: Float[ArrayLike, "... 4"], b: Float[ArrayLike, "... 4"]) -> Float[Array, "... 4"]:
    """Hamilton product; as maps, `b` acts first: `to_matrix(multiply(a, b)) = to_matrix(a) @ to_matrix(b)`.

    Leading axes broadcast.

    >>> about_x, about_z = from_axis_angle(np.eye(3)[[0, 2]], np.array([np.pi, np.pi]))
    >>> multiply(about_z, about_x).round(3).tolist()  # half turns about two axes: one about the third
    [0.0, 0.0, 1.0, 0.0]
    """
    a, b = jnp.asarray(a), jnp.asarray(b)
    shape = jnp.broadcast_shapes(a.shape, b.shape)
    product = hamilton(_split(jnp.broadcast_to(a, shape)), _split(jnp.broadcast_to(b, shape)))
    return jnp.stack(product, axis=-1)


@_compiled
def conjugate(q: Float[ArrayLike, "*batch 4"]) -> Float[Array, "*batch 4"]:
    """The inverse rotation of a unit quaternion: crystal coordinates to sample coordinates.

    >>> q = from_euler(np.radians([10.0, 20.0, 30.0]))
    >>> np.degrees(to_euler(conjugate(q))).round(2).tolist()  # (180 - phi2, Phi, 180 - phi1)
    [150.0, 20.0, 170.0]
    """
    w, x, y, z = _split(q)
    return jnp.stack([w, -x, -y, -z], axis=-1)


def rotate_sample(q: Float[ArrayLike, "*batch 4"], r: Float[ArrayLike, "4"]) -> Float[Array, "*batch 4"]:
    """The same crystals seen from another sample frame: `q * r`, where `r` maps new sample coordinates to old ones.

    >>> turned = rotate_sample(from_euler(np.radians([0.0, 20.0, 30.0])), from_euler(np.radians([40.0, 0.0, 0.0])))
    >>> np.degrees(to_euler(turned)).round(2).tolist()
    [40.0, 20.0, 30.0]
    """
    return multiply(q, r)


@_compiled
def rotate_vector(q: Float[ArrayLike, "... 4"], v: Float[ArrayLike, "... 3"]) -> Float[Array, "... 3"]:
    """`to_matrix(q) @ v`: the crystal coordinates of a sample vector. Leading axes broadcast.

    >>> crystal = from_euler(np.radians([90.0, 0.0, 0.0]))
    >>> rotate_vector(crystal, np.array([0.0, 1.0, 0.0])).round(3).tolist()  # sample y lies along [100]
    [1.0, 0.0, 0.0]
    """
    q, v = jnp.asarray(q), jnp.asarray(v)
    batch = jnp.broadcast_shapes(q.shape[:-1], v.shape[:-1])
    q, v = jnp.broadcast_to(q, (*batch, 4)), jnp.broadcast_to(v, (*batch, 3))
    w, u = q[..., :1], q[..., 1:]
    t = 2.0 * jnp.cross(u, v)
    return v + w * t + jnp.cross(u, t)


@_compiled
def from_euler(euler: Float[ArrayLike, "*batch 3"]) -> Float[Array, "*batch 4"]:
    """Bunge angles `(phi1, Phi, phi2)` (intrinsic ZXZ, radians) to unit quaternions with `w >= 0`.

    >>> from_euler(np.radians([[0.0, 0.0, 0.0], [0.0, 90.0, 0.0]])).round(4).tolist()
    [[1.0, 0.0, 0.0, 0.0], [0.7071, -0.7071, 0.0, 0.0]]
    """
    euler = _components(euler, 3, "Euler angles")
    phi1, Phi, phi2 = euler[..., 0], euler[..., 1], euler[..., 2]
    sigma, delta = 0.5 * (phi1 + phi2), 0.5 * (phi1 - phi2)
    c, s = jnp.cos(0.5 * Phi), jnp.sin(0.5 * Phi)
    q = jnp.stack([c * jnp.cos(sigma), -s * jnp.cos(delta), -s * jnp.sin(delta), -c * jnp.sin(sigma)], axis=-1)
    return canonical(q)


@_compiled
def to_euler(q: Float[ArrayLike, "*batch 4"]) -> Float[Array, "*batch 3"]:
    """Unit quaternions to Bunge angles, `phi1` and `phi2` in [0, 2 pi), `Phi` in [0, pi].

    Where `Phi` is 0 or pi only `phi1 + phi2` or `phi1 - phi2` is defined: `phi2` is then 0. Gradients are finite
    there too.

    >>> np.degrees(to_euler(from_euler(np.radians([350.0, 60.0, 20.0])))).round(2).tolist()
    [350.0, 60.0, 20.0]
    >>> np.degrees(to_euler(from_euler(np.radians([10.0, 0.0, 20.0])))).round(2).tolist()
    [30.0, 0.0, 0.0]
    """
    w, x, y, z = _split(q)
    s2, c2 = x * x + y * y, w * w + z * z
    tiny = (8.0 * jnp.finfo(w.dtype).eps) ** 2
    flat, turned = s2 <= tiny, c2 <= tiny
    s, c = _safe_sqrt(jnp.where(flat, 0.0, s2)), _safe_sqrt(jnp.where(turned, 0.0, c2))
    Phi = 2.0 * _safe_atan2(s, c)
    sigma = _safe_atan2(jnp.where(turned, 0.0, -z), jnp.where(turned, 0.0, w))
    delta = _safe_atan2(jnp.where(flat, 0.0, -y), jnp.where(flat, 0.0, -x))
    sigma, delta = jnp.where(turned, delta, sigma), jnp.where(flat, sigma, delta)
    return jnp.stack([_wrap(sigma + delta), Phi, _wrap(sigma - delta)], axis=-1)


def _wrap(angle: Array) -> Array:
    turn = 2.0 * np.pi
    wrapped = jnp.mod(angle, turn)
    return jnp.where(wrapped >= turn, 0.0, wrapped)  # rounding of a tiny negative angle


@_compiled
def to_matrix(q: Float[ArrayLike, "*batch 4"]) -> Float[Array, "*batch 3 3"]:
    """Orientation matrix `g`: `v_crystal = g @ v_sample`; its rows are the crystal axes in the sample frame.

    >>> to_matrix(from_euler(np.radians([90.0, 0.0, 0.0]))).round(3).tolist()
    [[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    w, x, y, z = _split(q)
    rows = (
        (w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z),
    )
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


@_compiled
def from_matrix(matrix: Float[ArrayLike, "*batch 3 3"]) -> Float[Array, "*batch 4"]:
    """Rotation matrices to unit quaternions with `w >= 0`.

    The entries of a rotation matrix give every product `4 q_i q_j`; the row of that rank-one table with the largest
    diagonal is normalised, so there is no cancellation and no infinite gradient at any angle.

    >>> from_matrix(np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])).round(3).tolist()  # 120 about [111]
    [0.5, -0.5, -0.5, -0.5]
    """
    m = jnp.asarray(matrix)
    d0, d1, d2 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    candidates = (
        (1 + d0 + d1 + d2, wx, wy, wz),
        (wx, 1 + d0 - d1 - d2, xy, xz),
        (wy, xy, 1 - d0 + d1 - d2, yz),
        (wz, xz, yz, 1 - d0 - d1 + d2),
    )
    best, largest = jnp.stack(candidates[0], axis=-1), candidates[0][0]
    for i in range(1, 4):
        larger = candidates[i][i] > largest
        best = jnp.where(larger[..., None], jnp.stack(candidates[i], axis=-1), best)
        largest = jnp.where(larger, candidates[i][i], largest)
    return canonical(normalise(best))


def from_axis_angle(axis: Float[ArrayLike, "... 3"], angle: Float[ArrayLike, "..."] | float) -> Float[Array, "... 4"]:
    """`(cos(angle/2), sin(angle/2) axis)`.

    `to_matrix` of it turns vectors by `angle` about the unit vector `axis` (right hand). Leading axes broadcast.

    >>> q = from_axis_angle(np.array([0.0, 0.0, 1.0]), np.radians(90.0))
    >>> rotate_vector(q, np.array([1.0, 0.0, 0.0])).round(3).tolist()
    [0.0, 1.0, 0.0]
    """
    axis, half = jnp.asarray(axis), 0.5 * jnp.asarray(angle)
    batch = jnp.broadcast_shapes(axis.shape[:-1], half.shape)
    axis, half = jnp.broadcast_to(axis, (*batch, 3)), jnp.broadcast_to(half, batch)[..., None]
    return jnp.concatenate([jnp.cos(half), jnp.sin(half) * axis], axis=-1)


@_compiled
def from_rotation_vector(vector: Float[ArrayLike, "*batch 3"]) -> Float[Array, "*batch 4"]:
    """Exponential map: `from_axis_angle` of the direction and length (radians) of `vector`; smooth at zero.

    >>> round(float(np.degrees(angle(from_rotation_vector(np.radians([0.0, 3.0, 4.0]))))), 3)
    5.0
    """
    v = _components(vector, 3, "rotation vectors")
    square = jnp.sum(v * v, axis=-1, keepdims=True)
    small = square < 1e-8  # sin(t/2)/t = 1/2 - t^2/48 is exact to double precision below
    length = jnp.sqrt(jnp.where(small, 1.0, square))
    w = jnp.where(small, 1.0 - square / 8.0, jnp.cos(0.5 * length))
    factor = jnp.where(small, 0.5 - square / 48.0, jnp.sin(0.5 * length) / length)
    return jnp.concatenate([w, factor * v], axis=-1)


@_compiled
def to_rodrigues(q: Float[ArrayLike, "*batch 4"]) -> Float[Array, "*batch 3"]:
    """Rodrigues vector `axis tan(angle/2) = (x, y, z) / w`; infinite for half turns.

    The axis of a half turn is then lost unless it is a coordinate axis.

    >>> to_rodrigues(from_axis_angle(np.array([0.0, 1.0, 0.0]), np.radians(90.0))).round(3).tolist()
    [0.0, 1.0, 0.0]
    """
    q = _components(q, 4, "quaternions")
    vector, w = q[..., 1:], q[..., :1]
    nowhere = (vector == 0) & (w == 0)
    return jnp.where(nowhere, 0.0, vector / jnp.where(nowhere, 1.0, w))


@_compiled
def from_rodrigues(rho: Float[ArrayLike, "*batch 3"]) -> Float[Array, "*batch 4"]:
    """Rodrigues vectors of any length, infinite ones included, to unit quaternions with `w >= 0`.

    >>> round(float(np.degrees(angle(from_rodrigues(np.array([1.0, 1.0, 1.0]))))), 3)
    120.0
    """
    rho = _components(rho, 3, "Rodrigues vectors")
    longest = 0.5 * sqrt(jnp.finfo(rho.dtype).max)  # half a turn to every digit, and its square does not overflow
    rho = clip(rho, -longest, longest)
    w = 1.0 / jnp.sqrt(1.0 + jnp.sum(rho * rho, axis=-1, keepdims=True))
    return jnp.concatenate([w, rho * w], axis=-1)


@partial(jax.jit, static_argnames="shape")
def random(key: Key, shape: tuple[int, ...] = ()) -> Float[Array, "*shape 4"]:
    """Orientations of a uniform texture (Haar measure), `w >= 0`.

    >>> q = random(jax.random.key(0), (10_000,))
    >>> round(float(np.degrees(angle(q)).mean()))  # pi/2 + 2/pi
    127
    """
    return canonical(normalise(jax.random.normal(key, (*shape, 4))))


@_compiled
def angle(q: Float[ArrayLike, "*batch 4"]) -> Float[Array, "*batch"]:
    """Rotation angle in [0, pi], accurate at small angles too; its gradient at the identity is zero by choice.

    >>> round(float(np.degrees(angle(from_euler(np.radians([30.0, 0.0, 15.0]))))), 3)
    45.0
    """
    w, x, y, z = _split(q)
    return 2.0 * _safe_atan2(_safe_sqrt(x * x + y * y + z * z), jnp.abs(w))


@partial(jax.jit, static_argnames="group")
def disorientation(
    a: Float[ArrayLike, "... 4"], b: Float[ArrayLike, "... 4"], group: str = "432"
) -> Float[Array, "..."]:
    """Smallest rotation angle between two crystals over all equivalent pairs, in radians. Leading axes broadcast.

    The misorientation is `a * conj(b)`, crystal to crystal. Both symmetry operations collapse to one, since `w` of `s
    m t` is `w` of `t s m`; for 432 and 622 the largest `|w|` has a closed form in the sorted magnitudes, the other
    groups walk through their operations. The angle is `2 atan2(|vector part|, w)`: `arccos` would lose 0.03 degrees
    in float32. A zero quaternion (an unobserved voxel) counts as the identity, as in `normalise`.

    >>> twin = from_axis_angle(np.ones(3) / np.sqrt(3), np.radians(60.0))  # 60 degrees about [111]
    >>> quarter = from_axis_angle(np.array([0.0, 0.0, 1.0]), np.radians(90.0))
    >>> identity = np.array([1.0, 0.0, 0.0, 0.0])
    >>> [round(float(np.degrees(disorientation(q, identity))), 3) for q in (twin, quarter)]
    [60.0, 0.0]
    """
    m = multiply(normalise(a), conjugate(normalise(b)))
    if group == "432":
        w, vector = _largest_w_cubic(m)
    elif group == "622":
        w, vector = _largest_w_hexagonal(m)
    else:
        w, vector = _largest_w(m, group)
    return 2.0 * _safe_atan2(_safe_sqrt(vector), w)


def _pick(candidates: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    """The (w, squared vector part) with the largest w."""
    w, vector = candidates[0]
    for other_w, other_vector in candidates[1:]:
        larger = other_w > w
        w, vector = jnp.where(larger, other_w, w), jnp.where(larger, other_vector, vector)
    return w, vector


def _largest_w_cubic(m: Array) -> tuple[Array, Array]:
    """With magnitudes p >= q >= r >= s the identity, one four-fold and one three-fold are the only candidates."""
    a, b, c, d = (jnp.abs(component) for component in _split(m))
    a, b = ordered(a, b)
    c, d = ordered(c, d)
    p, u = ordered(a, c)
    v, s = ordered(b, d)
    q, r = ordered(u, v)
    identity = (p, q * q + r * r + s * s)
    four_fold = ((p + q) * sqrt(0.5), 0.5 * (p - q) ** 2 + r * r + s * s)
    three_fold = (
        0.5 * (p + q + r + s),
        0.25 * ((p - q + r - s) ** 2 + (p - q - r + s) ** 2 + (p + q - r - s) ** 2),
    )
    return _pick([identity, four_fold, three_fold])


def _largest_w_hexagonal(m: Array) -> tuple[Array, Array]:
    """The twelve products turn the planes (w, z) and (x, y) by multiples of 30 degrees.

    Two candidates a plane are enough.
    """
    w, x, y, z = (jnp.abs(component) for component in _split(m))
    cos, sin = sqrt(0.75), 0.5
    planes = (ordered(w, z), ordered(x, y))
    squares = (w * w + z * z, x * x + y * y)
    candidates = []
    for (high, low), rest in zip(planes, reversed(squares), strict=True):
        candidates.append((high, low * low + rest))
        candidates.append((cos * high + sin * low, (cos * low - sin * high) ** 2 + rest))
    return _pick(candidates)


def _largest_w(m: Array, group: str) -> tuple[Array, Array]:
    """Of all products `s m` with the operations s of the group."""
    candidates = []
    for operation in operators(group).tolist():
        w, x, y, z = hamilton(operation, _split(m))
        candidates.append((jnp.abs(w), x**2 + y**2 + z**2))
    return _pick(candidates)
