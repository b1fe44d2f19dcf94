"""Lossless embeddings of crystal orientations: GSH-4 for 432 (9 channels) and its analogue for 622 (27 channels).

An orientation becomes a point of a sphere in R^H: harmonics of its symmetric crystal directions, seen in the sample
frame. The map is smooth, invariant to the crystal group, injective on crystals and locally an isometry up to a
constant; `decode` finds the nearest orientation of any point of R^H.

- 432: the harmonic part of `sum_k a_k^{(x)4}` over the cube axes (Hielscher & Lippert, arXiv 2007.09664; Arnold, Jupp
  & Schaeben 2018), `3/2 (T_4^{0,1}, sqrt2 Re T_4^{m,1}, sqrt2 Im T_4^{m,1} for m = 1..4)` in the order m = 0, (Re 1,
  Im 1), (Re 2, Im 2), ... with Bunge's T of `harmonics.symmetrised`. The first two channels of the paper's ROGSH are
  channels 7 and 0, up to the factor.
- 622: the traceless part of the mean of three a-axes `a_k^{(x)6}` (weight 4/(3 sqrt2)) together with `c^{(x)2}`
  (weight 1/sqrt24), in degrees 2, 4 and 6. Degree 2 varies three times as much as degree 6, and scaling it down would
  cost the isometry and the monotone distance (measured: Spearman 0.20 instead of 0.96). A fixed orthogonal mixing of
  the channels keeps every distance and gives each channel the same variance.

Both are scaled to a standard deviation of `SIGMA_DATA` per channel under uniform texture.
"""

from dataclasses import dataclass
from functools import cache, partial
from math import sqrt

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.linalg import logm

from polymicros_jax.choice import clip
from polymicros_jax.orientation.lookup import fundamental_zone_grid, nearest
from polymicros_jax.orientation.quaternion import from_rotation_vector, multiply, normalise, to_matrix
from polymicros_jax.orientation.spherical import components, fit_directions, rotation_block
from polymicros_jax.orientation.symmetry import reduce_to_fundamental_zone
from polymicros_jax.types import ArrayLike

SIGMA_DATA = 0.5
"""Standard deviation of every channel under uniform texture."""

_PRECISION = jax.lax.Precision.HIGHEST  # the default of GPUs keeps 10 bits of mantissa: 0.1 degrees


@dataclass(frozen=True)
class Block:
    """One degree of an embedding: `weight * sum over directions of C_degree(direction in the sample frame)`."""

    degree: int
    directions: tuple[tuple[float, float, float], ...]
    weight: float


_CUBE_AXES = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
_C_AXIS = ((0.0, 0.0, 1.0),)
_A_AXES = ((1.0, 0.0, 0.0), (-0.5, sqrt(0.75), 0.0), (-0.5, -sqrt(0.75), 0.0))


def _hexagonal_blocks() -> tuple[Block, ...]:
    """Blocks of the tensor pair: `t^6` is 10/21 P_2 + 24/77 P_4 + 16/231 P_6 and `t^2` is 2/3 P_2, constants left out.

    Along the a-axes C_2 and C_4 average to -1/2 and 3/8 of their value at c, so these degrees need the c-axis alone.
    """
    a_weight, c_weight = 4 / (3 * sqrt(2)), 1 / sqrt(24)
    squares = np.array(
        [
            a_weight**2 * 10 / 21 * 0.5**2 + c_weight**2 * 2 / 3,
            a_weight**2 * 24 / 77 * 0.375**2,
            a_weight**2 * 16 / 231,
        ]
    )
    legendre_6_at_half = 0.3232421875  # P_6(cos 60 degrees), the product of two different a-axes
    norm = squares[0] + squares[1] + squares[2] * (1 + 2 * legendre_6_at_half) / 3
    # Python floats: NumPy scalars would promote float32 fields to float64 in x64 mode
    w2, w4, w6 = (float(w) for w in np.sqrt(squares * 27 * SIGMA_DATA**2 / norm))
    return (Block(2, _C_AXIS, w2), Block(4, _C_AXIS, w4), Block(6, _A_AXES, w6 / 3))


_BLOCKS: dict[str, tuple[Block, ...]] = {
    "432": (Block(4, _CUBE_AXES, 3 * SIGMA_DATA / sqrt(3 + 6 * 0.375)),),  # |sum C_4|^2 = 3 + 6 P_4(0)
    "622": _hexagonal_blocks(),
}


def blocks(group: str) -> tuple[Block, ...]:
    """The harmonic blocks of an embedding.

    Raises:
        ValueError: there is no embedding for this group.

    >>> [len(blocks(group)) for group in ("432", "622")]
    [1, 3]
    """
    if group not in _BLOCKS:
        raise ValueError(f"group: found {group!r}; embeddings exist for {', '.join(_BLOCKS)}")
    return _BLOCKS[group]


def channels(group: str = "432") -> int:
    """Number H of channels: 9 for 432, 27 for 622.

    >>> channels("432"), channels("622")
    (9, 27)
    """
    return sum(2 * block.degree + 1 for block in blocks(group))


@cache
def mixing(group: str) -> np.ndarray:
    """The fixed orthogonal `(H, H)` matrix O of `encode = O @ harmonics`; float64, read-only.

    The identity for 432. For 622 a product of plane rotations that makes all diagonal entries of `O diag(variances)
    O^T` equal (Schur-Horn, by the construction of Chan and Li): each turns the channel of smallest variance towards
    the one of largest until the first has the mean.

    >>> bool(np.array_equal(mixing("432"), np.eye(9))), bool(np.allclose(mixing("622") @ mixing("622").T, np.eye(27)))
    (True, True)
    """
    size = channels(group)
    matrix = np.eye(size)
    if len(blocks(group)) > 1:
        variance = np.concatenate([np.full(2 * b.degree + 1, _block_variance(b)) for b in blocks(group)])
        mean, pending = variance.mean(), list(range(size))
        while len(pending) > 1:
            low, high = min(pending, key=lambda i: variance[i]), max(pending, key=lambda i: variance[i])
            spread = variance[high] - variance[low]
            sin2 = (mean - variance[low]) / spread if spread > 1e-12 else 0.0
            cos, sin = sqrt(1.0 - sin2), sqrt(sin2)
            matrix[[low, high]] = np.array([[cos, sin], [-sin, cos]]) @ matrix[[low, high]]
            variance[low], variance[high] = mean, variance[low] + variance[high] - mean
            pending.remove(low)
    matrix.setflags(write=False)
    return matrix


def _block_variance(block: Block) -> float:
    """Variance per channel under uniform texture: squared norm over the number of channels."""
    d = np.array(block.directions)
    norm = np.linalg.norm(sum(np.stack(components(block.degree, *direction)) for direction in d))
    return float((block.weight * norm) ** 2 / (2 * block.degree + 1))


def encode_harmonics(q: Float[ArrayLike, "*batch 4"], group: str) -> Float[Array, "*batch h"]:
    """The blocks of real harmonics before mixing.

    >>> from polymicros_jax.orientation import quaternion
    >>> encode_harmonics(quaternion.from_euler(np.zeros(3)), "432").round(3).tolist()  # the m = 0 and m = 4 of the cube
    [1.146, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.968, 0.0]
    """
    g = to_matrix(q)
    parts: list[Array] = []
    for block in blocks(group):
        total: list[Array] | None = None
        for direction in block.directions:
            in_sample = [sum(d * g[..., k, i] for k, d in enumerate(direction) if d) for i in range(3)]
            values = components(block.degree, *in_sample)
            total = values if total is None else [a + b for a, b in zip(total, values, strict=True)]
        parts += [block.weight * value for value in total or []]
    return jnp.stack(parts, axis=-1)


@partial(jax.jit, static_argnames="group")
def encode(q: Float[ArrayLike, "*batch 4"], group: str = "432") -> Float[Array, "*batch h"]:
    """Embeds unit quaternions in R^H: invariant to `s * q` for every operation s of the crystal group.

    The norm is constant, `sqrt(H) / 2` (3/2 for 432), and every channel has standard deviation 1/2 under uniform
    texture.

    Raises:
        ValueError: there is no embedding for this group.

    >>> from polymicros_jax.orientation import quaternion
    >>> cube = encode(quaternion.from_euler(np.radians([0.0, 0.0, 0.0])))
    >>> same = encode(quaternion.from_euler(np.radians([90.0, 90.0, 0.0])))
    >>> cube.shape, round(float(jnp.linalg.norm(cube)), 4), round(float(jnp.linalg.norm(cube - same)), 4)
    ((9,), 1.5, 0.0)
    """
    e = encode_harmonics(q, group)
    if group == "432":
        return e  # one degree: nothing to mix
    return jnp.matmul(e, jnp.asarray(mixing(group).T, e.dtype), precision=_PRECISION)


@partial(jax.jit, static_argnames="group")
def sample_rotation(r: Float[ArrayLike, "4"], group: str = "432") -> Float[Array, "h h"]:
    """The orthogonal matrix D of a change of sample frame: `encode(multiply(q, r)) = D @ encode(q)` for every q.

    `r` maps coordinates of the new sample frame to the old one, so `q * r` is the same crystal described from the new
    frame.

    >>> from polymicros_jax.orientation import quaternion
    >>> q, r = quaternion.random(jax.random.key(0), (2,))
    >>> bool(jnp.allclose(encode(quaternion.multiply(q, r)), sample_rotation(r) @ encode(q), atol=1e-5))
    True
    """
    r = jnp.asarray(r)
    rotation = to_matrix(r).T  # crystal directions, rows of to_matrix(q), become to_matrix(r)^T of themselves
    size, start = channels(group), 0
    d = jnp.zeros((size, size), r.dtype)
    for block in blocks(group):
        stop = start + 2 * block.degree + 1
        d = d.at[start:stop, start:stop].set(rotation_block(rotation, block.degree))
        start = stop
    o = jnp.asarray(mixing(group), r.dtype)
    return jnp.matmul(jnp.matmul(o, d, precision=_PRECISION), o.T, precision=_PRECISION)


@cache
def generators(group: str) -> np.ndarray:
    """Antisymmetric float64 `(3, H, H)` matrices L of infinitesimal turns of the sample frame.

    `d/dt encode_harmonics(q * exp(t e_i)) = L_i @ encode_harmonics(q)` at t = 0, before mixing.

    >>> turns = generators("432")
    >>> turns.shape, bool(np.allclose(turns, -turns.swapaxes(1, 2)))
    ((3, 9, 9), True)
    """
    result = np.zeros((3, channels(group), channels(group)))
    small = 0.1  # any angle below pi: the logarithm is exact
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        inverse = np.eye(3)
        inverse[[j, k], [j, k]] = np.cos(small)
        inverse[j, k], inverse[k, j] = np.sin(small), -np.sin(small)
        start = 0
        for block in blocks(group):
            stop = start + 2 * block.degree + 1
            v, pseudo_inverse = fit_directions(block.degree)
            turned = np.stack(components(block.degree, *(inverse @ v.T))) @ pseudo_inverse
            log = np.real(logm(turned)) / small
            result[i, start:stop, start:stop] = 0.5 * (log - log.T)
            start = stop
    result.setflags(write=False)
    return result


GRID_SPACING = {"432": np.radians(9.0), "622": np.radians(8.0)}
"""Spacing of the look-up grids: Gauss-Newton converges from three times as far (measured)."""

_CHUNK = 16384
_STEPS = 6


@cache
def _lookup_table(group: str) -> tuple[np.ndarray, np.ndarray]:
    """Grid quaternions `(n, 4)` and their harmonics before mixing `(n, H)`, float64."""
    grid = fundamental_zone_grid(group, float(GRID_SPACING[group]))
    g = np.stack([_rotate_host(grid, axis) for axis in np.eye(3)], axis=-2)
    parts = [
        block.weight
        * sum(
            np.stack(components(block.degree, *np.moveaxis(np.array(d) @ g, -1, 0)), axis=-1) for d in block.directions
        )
        for block in blocks(group)
    ]
    return grid, np.concatenate(parts, axis=-1)


def _rotate_host(q: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Rows of `to_matrix(q)` in float64 whatever the mode of JAX: `conj(q) axis q`."""
    w, u = q[:, :1], -q[:, 1:]
    t = 2.0 * np.cross(u, axis[None, :])
    return axis[None, :] + w * t + np.cross(u, t)


def _decode_chunk(e: Array, group: str) -> tuple[Array, Array]:
    """Nearest manifold points of `(n, H)` finite embeddings."""
    norm2 = channels(group) * SIGMA_DATA**2
    target = jnp.matmul(e, jnp.asarray(mixing(group), e.dtype), precision=_PRECISION)
    square = jnp.sum(target * target, axis=-1, keepdims=True)
    # Nearest among points of one norm means largest inner product, so only the direction of the target matters.
    unit = target * jnp.sqrt(norm2 / jnp.where(square > 0, square, 1.0))
    grid, table = _lookup_table(group)
    q = jnp.asarray(grid, e.dtype)[nearest(jax.lax.stop_gradient(unit), table)]

    lie = generators(group)
    size = lie.shape[-1]
    stacked = jnp.asarray(lie.transpose(2, 0, 1).reshape(size, 3 * size), e.dtype)
    metric = float(np.sum((lie[0] @ table[0]) ** 2))  # |L_i e|^2, the same for every i and e: local isometry

    def gauss_newton(q: Array, _: None) -> tuple[Array, None]:
        point = encode_harmonics(q, group)
        tangent = jnp.matmul(point, stacked, precision=_PRECISION).reshape(-1, 3, size)
        slope = jnp.sum(tangent * unit[:, None, :], axis=-1)
        # Along a geodesic the inner product curves by -metric times its value over the squared norm.
        alignment = clip(jnp.sum(point * unit, axis=-1, keepdims=True) / norm2, low=0.3)
        step = slope / (metric * alignment)
        length2 = jnp.sum(step * step, axis=-1, keepdims=True)
        step = step * jnp.where(length2 > 0.04, 0.2 / jnp.sqrt(jnp.where(length2 > 0.04, length2, 1.0)), 1.0)
        return normalise(multiply(q, from_rotation_vector(step))), None

    # A scan, since six unrolled steps take long to compile and differentiate.
    q, _ = jax.lax.scan(gauss_newton, q, length=_STEPS)
    residual = target - encode_harmonics(q, group)
    square = jnp.sum(residual * residual, axis=-1)
    positive = square > 0
    return q, jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)


@partial(jax.jit, static_argnames="group")
def decode(
    e: Float[ArrayLike, "*batch h"], group: str = "432"
) -> tuple[Float[Array, "*batch 4"], Float[Array, "*batch"]]:
    """The orientation whose embedding is nearest, and the Euclidean distance to it.

    The distance is zero for a crystal and grows with noise and blur: a confidence, to be read against the norm
    `sqrt(H) / 2`. A look-up in a fixed grid of the fundamental zone is followed by Gauss-Newton steps in the sample
    frame, `q <- q exp(step)`, whose normal matrix is a known multiple of the identity. Quaternions are returned in
    the fundamental zone with `w >= 0`. Chunks of voxels are decoded one after the other, so memory stays bounded.
    Up to noise of 0.2 per channel the result is the global minimum; beyond, a nearly equal one may be returned
    (tested against brute force). Non-finite embeddings give a finite quaternion and an infinite distance. Gradients
    flow through the Gauss-Newton steps.

    Raises:
        ValueError: there is no embedding for this group, or the last axis is not its number of channels.

    >>> from polymicros_jax.orientation import quaternion
    >>> euler = np.radians([10.0, 20.0, 30.0])
    >>> q, distance = decode(encode(quaternion.from_euler(euler)))
    >>> np.degrees(quaternion.to_euler(q)).round(2).tolist(), round(float(distance), 3)
    ([10.0, 20.0, 30.0], 0.0)
    """
    e = jnp.asarray(e)
    size = channels(group)
    if e.shape[-1] != size:
        raise ValueError(f"embedding: found {e.shape[-1]} channels; group {group} has {size}")
    batch = e.shape[:-1]
    flat = e.reshape(-1, size)
    finite = jnp.all(jnp.isfinite(flat), axis=-1)
    flat = jnp.where(finite[:, None], flat, 0.0)
    count = flat.shape[0]
    if count <= _CHUNK:
        q, distance = _decode_chunk(flat, group)
    else:
        padded = jnp.pad(flat, ((0, -count % _CHUNK), (0, 0)))
        q, distance = jax.lax.map(partial(_decode_chunk, group=group), padded.reshape(-1, _CHUNK, size))
        q, distance = q.reshape(-1, 4)[:count], distance.reshape(-1)[:count]
    q = reduce_to_fundamental_zone(q, group)
    return q.reshape(*batch, 4), jnp.where(finite, distance, jnp.inf).reshape(batch)
