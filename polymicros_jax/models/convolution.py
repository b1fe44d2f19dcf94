"""Lowerings of the 3x3x3 convolution of channel-last fields, chosen by platform.

GPUs and TPUs have a native operation (`convolve_volumes`). XLA's CPU backend has one too, but it runs at 25 to 120
GFLOP/s where the matrix product of the same backend runs at 400 on two cores; the gradient of the kernel is slower
still, above all in loops. On CPU the convolution is therefore written as matrix products (`convolve_tiles`), with fewer
multiplications: see there, and benchmarks/convolution.py for the figures. Few channels keep XLA's own convolution, as
a sum of 2D ones (`convolve_planes`).

The tiles have their own reverse-mode derivative, the transposed products. It can be differentiated again, mapped,
put in loops and partitioned over batch and x, but not differentiated in forward mode (`jax.jvp`).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import lax
from jaxtyping import Array, Float

SCRATCH_BYTES = 12 * 2**20
"""Larger convolutions are taken in portions along y, so that the transformed portion stays in the last cache.

Measured, two cores, gradients of 64 channels on 8 x 12^3: 36 ms of processor time at 12 MiB, 63 ms at 32 MiB.
"""


NARROWEST_TILES = 16
"""Channels, in and out, from which a CPU convolves by tiles."""


def convolve(x: Float[Array, "b nx ny nz c"], kernel: Float[Array, "3 3 3 c d"]) -> Float[Array, "b mx my mz d"]:
    """3D convolution without padding, lowered as suits the platform it is compiled for.

    >>> centre = jnp.zeros((3, 3, 3, 1, 1)).at[1, 1, 1].set(2.0)
    >>> convolve(jnp.ones((1, 4, 4, 4, 1)), centre).shape, float(convolve(jnp.ones((1, 4, 4, 4, 1)), centre).max())
    ((1, 2, 2, 2, 1), 2.0)
    """
    # With few channels the products are too narrow to pay for the transforms (and for compiling them).
    wide = min(kernel.shape[3:]) >= NARROWEST_TILES
    return lax.platform_dependent(x, kernel, cpu=convolve_tiles if wide else convolve_planes, default=convolve_volumes)


def convolve_volumes(
    x: Float[Array, "b nx ny nz c"], kernel: Float[Array, "3 3 3 c d"]
) -> Float[Array, "b mx my mz d"]:
    """The native operation: the fast lowering on GPU and TPU.

    >>> mean = jnp.full((3, 3, 3, 1, 1), 1 / 27)
    >>> ramp = jnp.arange(5.0)[None, :, None, None, None] * jnp.ones((1, 5, 3, 3, 1))
    >>> convolve_volumes(ramp, mean).ravel().round(3).tolist()  # the mean of three
    [1.0, 2.0, 3.0]
    """
    return lax.conv_general_dilated(x, kernel, (1, 1, 1), "VALID", dimension_numbers=("NDHWC", "DHWIO", "NDHWC"))


def convolve_planes(x: Float[Array, "b nx ny nz c"], kernel: Float[Array, "3 3 3 c d"]) -> Float[Array, "b mx my mz d"]:
    """The same convolution as a sum of three 2D ones, shifted along x: for few channels on CPU.

    >>> mean = jnp.full((3, 3, 3, 1, 1), 1 / 27)
    >>> ramp = jnp.arange(5.0)[None, :, None, None, None] * jnp.ones((1, 5, 3, 3, 1))
    >>> convolve_planes(ramp, mean).ravel().round(3).tolist()  # the mean of three
    [1.0, 2.0, 3.0]
    """
    depth = x.shape[1] - 2

    def plane(tap: int) -> Array:
        slab = rearrange(lax.slice_in_dim(x, tap, tap + depth, axis=1), "b x y z c -> (b x) y z c")
        return lax.conv_general_dilated(slab, kernel[tap], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    return rearrange(plane(0) + plane(1) + plane(2), "(b x) y z d -> b x y z d", b=x.shape[0])


def convolve_tiles(x: Float[Array, "b nx ny nz c"], kernel: Float[Array, "3 3 3 c d"]) -> Float[Array, "b mx my mz d"]:
    """The same convolution as 16 matrix products of tiles: the fast lowering on CPU.

    Along y and z two outputs of a three-tap filter take four products instead of six (Winograd 1980; Lavin & Gray 2016,
    arXiv 1509.09308, F(2, 3)): 4x4 points of a tile of 4x4 inputs give 2x2 outputs. The transforms only add, subtract
    and halve, so rounding errors stay within a small factor of those of the direct sum. The three taps along x are
    three column blocks of one product, shifted and added afterwards.

    Computes in float32 at least. Odd sides are extended to even ones and cut again.

    >>> mean = jnp.full((3, 3, 3, 1, 1), 1 / 27)
    >>> ramp = jnp.arange(5.0)[None, :, None, None, None] * jnp.ones((1, 5, 3, 3, 1))
    >>> convolve_tiles(ramp, mean).ravel().round(3).tolist()  # the mean of three
    [1.0, 2.0, 3.0]
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    my, mz = x.shape[2] - 2, x.shape[3] - 2
    even = jnp.pad(x.astype(wide), ((0, 0), (0, 0), (0, my % 2), (0, mz % 2), (0, 0)))
    return _tiled(even, kernel.astype(wide))[:, :, :my, :mz].astype(x.dtype)


@jax.custom_vjp
def _tiled(x: Array, kernel: Array) -> Array:
    rows = _portion(x, kernel)
    batch, nx, ny, nz, _ = x.shape
    points = _kernel_points(kernel)

    def convolved(portion: Array) -> Array:
        shifted = lax.dot_general(_at_points(_input_points, portion), points, (((5,), (1,)), ((0,), (0,))))
        taps = [lax.slice_in_dim(tap, i, i + nx - 2, axis=2) for i, tap in enumerate(jnp.split(shifted, 3, axis=-1))]
        return _from_points(_output, taps[0] + taps[1] + taps[2])

    if rows == ny - 2:
        return convolved(x)

    def step(number: Array | int, y: Array) -> Array:
        part = convolved(lax.dynamic_slice_in_dim(x, number * rows, rows + 2, axis=2))
        return lax.dynamic_update_slice_in_dim(y, part, number * rows, axis=2)

    y = jnp.zeros((batch, nx - 2, ny - 2, nz - 2, kernel.shape[-1]), x.dtype)
    return lax.fori_loop(0, (ny - 2) // rows, step, y)


def _tiled_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _tiled(x, kernel), (x, kernel)


def _tiled_backward(residuals: tuple[Array, Array], y_bar: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    rows = _portion(x, kernel)
    nx, ny = x.shape[1], x.shape[2]
    points = _kernel_points(kernel)
    extended = jnp.pad(y_bar, ((0, 0), (2, 2), (0, 0), (0, 0), (0, 0)))
    columns = jnp.concatenate([lax.slice_in_dim(extended, 2 - i, 2 - i + nx, axis=1) for i in range(3)], axis=-1)

    def transposed(portion: Array, bar: Array) -> tuple[Array, Array]:
        shifted_bar = _at_points(_output_transposed, bar)
        over_space = (1, 2, 3, 4)
        points_bar = lax.dot_general(
            _at_points(_input_points, portion), shifted_bar, ((over_space, over_space), ((0,), (0,)))
        )
        x_bar = lax.dot_general(shifted_bar, points, (((5,), (2,)), ((0,), (0,))))
        return _from_points(_input_points_transposed, x_bar), points_bar

    if rows == ny - 2:
        x_bar, points_bar = transposed(x, columns)
        return x_bar, _kernel_points_transposed(points_bar)

    def step(number: Array | int, total: tuple[Array, Array]) -> tuple[Array, Array]:
        x_bar, points_bar = total
        first = number * rows
        part, part_points = transposed(
            lax.dynamic_slice_in_dim(x, first, rows + 2, axis=2), lax.dynamic_slice_in_dim(columns, first, rows, axis=2)
        )
        # Portions of the input overlap by the two rows that a kernel reaches beyond its own.
        part = part + lax.dynamic_slice_in_dim(x_bar, first, rows + 2, axis=2)
        return lax.dynamic_update_slice_in_dim(x_bar, part, first, axis=2), points_bar + part_points

    x_bar, points_bar = lax.fori_loop(0, (ny - 2) // rows, step, (jnp.zeros_like(x), jnp.zeros_like(points)))
    return x_bar, _kernel_points_transposed(points_bar)


_tiled.defvjp(_tiled_forward, _tiled_backward)


def _portion(x: Array, kernel: Array) -> int:
    """Largest number of output rows along y, even and dividing all, whose tiles fit the scratch; 2 at least."""
    batch, nx, ny, nz, into = x.shape
    row_of_tiles = 16 * batch * nx * (nz // 2 - 1) * (into + 3 * kernel.shape[-1]) * x.dtype.itemsize
    tiles = ny // 2 - 1
    return 2 * max(n for n in range(1, tiles + 1) if tiles % n == 0 and (n == 1 or n * row_of_tiles <= SCRATCH_BYTES))


# --- The transforms of F(2, 3) along one axis, and their transposes. ---


def _every_second(x: Array, axis: int, start: int, count: int) -> Array:
    return lax.slice_in_dim(x, start, start + 2 * count - 1, stride=2, axis=axis)


def _interleaved(even: Array, odd: Array, axis: int) -> Array:
    shape = list(even.shape)
    shape[axis] *= 2
    return jnp.stack([even, odd], axis=axis + 1).reshape(shape)


def _input_points(x: Array, axis: int) -> list[Array]:
    """Four points of each tile of four inputs; neighbouring tiles share two."""
    a, b, c, d = (_every_second(x, axis, start, x.shape[axis] // 2 - 1) for start in range(4))
    return [a - c, b + c, c - b, b - d]


def _input_points_transposed(points: list[Array], axis: int) -> Array:
    p, q, r, s = points
    before, after = ([(0, 0)] * p.ndim for _ in range(2))
    before[axis], after[axis] = (1, 0), (0, 1)
    even = jnp.pad(p, after) + jnp.pad(q + r - p, before)
    odd = jnp.pad(q - r + s, after) + jnp.pad(-s, before)
    return _interleaved(even, odd, axis)


def _output(points: list[Array], axis: int) -> Array:
    """Two outputs of each tile."""
    p, q, r, s = points
    return _interleaved(p + q + r, q - r - s, axis)


def _output_transposed(y: Array, axis: int) -> list[Array]:
    even, odd = (_every_second(y, axis, start, y.shape[axis] // 2) for start in range(2))
    return [even, even + odd, even - odd, -odd]


def _filter_points(taps: Array) -> list[Array]:
    """Four points of filters of three taps, the leading axis."""
    first, middle, last = taps
    return [first, 0.5 * (first + middle + last), 0.5 * (first - middle + last), last]


def _filter_points_transposed(points: list[Array]) -> Array:
    p, q, r, s = points
    return jnp.stack([p + 0.5 * (q + r), 0.5 * (q - r), 0.5 * (q + r) + s])


# --- Both axes at once: point 4 j + k is point j along y and point k along z. ---


def _at_points(transform: Callable[[Array, int], list[Array]], x: Array) -> Array:
    """``(16, b, nx, tiles along y, tiles along z, channel)`` from ``(b, nx, ny, nz, channel)``."""
    return jnp.stack([point for along_y in transform(x, 2) for point in transform(along_y, 3)])


def _from_points(transform: Callable[[list[Array], int], Array], points: Array) -> Array:
    return transform([transform([points[4 * j + k] for k in range(4)], 3) for j in range(4)], 2)


def _kernel_points(kernel: Array) -> Array:
    """``(16, c, 3 d)``: points of the filters in the (y, z) plane, with the taps along x side by side."""
    into, out = kernel.shape[3:]
    planes = jnp.moveaxis(kernel, 0, 3).reshape(3, 3, into, 3 * out)
    return jnp.stack([point for along_y in _filter_points(planes) for point in _filter_points(along_y)])


def _kernel_points_transposed(points: Array) -> Array:
    into, out = points.shape[1], points.shape[2] // 3
    along_z = [_filter_points_transposed([points[4 * j + k] for k in range(4)]) for j in range(4)]
    return jnp.moveaxis(_filter_points_transposed(along_z).reshape(3, 3, into, 3, out), 3, 0)
