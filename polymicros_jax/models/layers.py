"""Layers of the 3D UNet. Fields are channel last, ``(b, nx, ny, nz, channel)``; padding is an argument of the call."""

import itertools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from einops import rearrange, reduce, repeat
from flax import nnx
from jaxtyping import Array, Float

from polymicros_jax.models.convolution import convolve
from polymicros_jax.types import Key, Params

Padding = Literal["replicate", "periodic"]

# Standard deviation of a standard normal number cut at -2 and 2: sqrt(1 - 4 phi(2) / (2 Phi(2) - 1)).
_CUT = 0.87962566

_PAD_MODE = {"replicate": "edge", "periodic": "wrap"}


def pad(x: Float[Array, "b nx ny nz c"], width: int, padding: Padding) -> Float[Array, "b mx my mz c"]:
    """Extends the three spatial axes by ``width`` voxels at both ends.

    >>> x = jnp.arange(3.0).reshape(1, 3, 1, 1, 1)
    >>> [pad(x, 1, padding)[0, :, 0, 0, 0].tolist() for padding in ("replicate", "periodic")]
    [[0.0, 0.0, 1.0, 2.0, 2.0], [2.0, 0.0, 1.0, 2.0, 0.0]]
    """
    return jnp.pad(x, ((0, 0), *[(width, width)] * 3, (0, 0)), mode=_PAD_MODE[padding])


def space_to_depth(x: Float[Array, "b nx ny nz c"], factor: int) -> Float[Array, "b mx my mz d"]:
    """Folds blocks of ``factor^3`` voxels into the channel axis.

    >>> space_to_depth(jnp.arange(8.0).reshape(1, 2, 2, 2, 1), 2).tolist()
    [[[[[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]]]]]
    """
    return rearrange(x, "b (x i) (y j) (z k) c -> b x y z (i j k c)", i=factor, j=factor, k=factor)


def depth_to_space(x: Float[Array, "b nx ny nz c"], factor: int) -> Float[Array, "b mx my mz d"]:
    """Inverse of `space_to_depth`.

    >>> x = jnp.arange(64.0).reshape(1, 4, 4, 4, 1)
    >>> bool((depth_to_space(space_to_depth(x, 2), 2) == x).all())
    True
    """
    return rearrange(x, "b x y z (i j k c) -> b (x i) (y j) (z k) c", i=factor, j=factor, k=factor)


def block_means(x: Float[Array, "b nx ny nz c"], side: int) -> Float[Array, "b mx my mz c"]:
    """Means over blocks of ``side^3`` voxels.

    >>> block_means(jnp.arange(8.0).reshape(1, 2, 2, 2, 1), 2).ravel().tolist()
    [3.5]
    """
    return reduce(x, "b (x i) (y j) (z k) c -> b x y z c", "mean", i=side, j=side, k=side)


def repeat_blocks(x: Float[Array, "b mx my mz c"], side: int) -> Float[Array, "b nx ny nz c"]:
    """Each voxel repeated to a block of ``side^3``: the inverse of `block_means` on what is constant in each block.

    >>> repeat_blocks(jnp.arange(2.0).reshape(1, 1, 1, 2, 1), 2).ravel().tolist()[:4]
    [0.0, 0.0, 1.0, 1.0]
    """
    return repeat(x, "b x y z c -> b (x i) (y j) (z k) c", i=side, j=side, k=side)


def standardised(kernel: Float[Array, "*taps c d"]) -> Float[Array, "*taps c d"]:
    """Kernel with zero mean and unit variance per output channel (Qiao et al. 2019, arXiv 1903.10520).

    Divided by the standard deviation alone: a factor 1/sqrt(fan-in) would be undone by the norm after it.

    >>> standardised(jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1)).ravel().round(3).tolist()
    [-1.225, 0.0, 1.225]
    """
    axes = tuple(range(kernel.ndim - 1))
    mean = jnp.mean(kernel, axis=axes, keepdims=True)
    variance = jnp.var(kernel, axis=axes, keepdims=True)
    return (kernel - mean) / jnp.sqrt(variance + 1e-5)


def kernel_spread(key: Key, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """A kernel that holds the standard deviation of what `draw_kernels` puts in its place.

    It is 1/sqrt(fan-in) (LeCun et al. 1998).

    Args:
      key: not used; an initialiser of Flax gets one.
      shape: the last axis holds the outputs.
      dtype: of the kernel.

    >>> kernel_spread(jax.random.key(0), (16, 2))[0].tolist()
    [0.25, 0.25]
    """
    return jnp.full(shape, math.prod(shape[:-1]) ** -0.5, dtype)


def draw_kernels(key: Key, params: Params) -> Params:
    """Replaces each kernel by normal numbers, cut at two standard deviations, with the spread that it holds.

    All are drawn at once: a program of random numbers for each kernel of a network takes ten times as long to compile.

    >>> params = {"linear": {"kernel": kernel_spread(jax.random.key(0), (900, 4)), "bias": jnp.zeros(4)}}
    >>> drawn = draw_kernels(jax.random.key(0), params)["linear"]
    >>> round(30 * float(jnp.std(drawn["kernel"])), 1), float(jnp.abs(drawn["bias"]).max())
    (1.0, 0.0)
    """
    paths, tree = jax.tree.flatten_with_path(params)
    kernels = [path[-1].key == "kernel" for path, _ in paths]
    ends = list(itertools.accumulate(leaf.size * kernel for (_, leaf), kernel in zip(paths, kernels, strict=True)))
    numbers = jax.random.truncated_normal(key, -2.0, 2.0, (ends[-1],)) / _CUT
    leaves = [
        leaf * numbers[end - leaf.size : end].reshape(leaf.shape) if kernel else leaf
        for (_, leaf), kernel, end in zip(paths, kernels, ends, strict=True)
    ]
    return jax.tree.unflatten(tree, leaves)


class Conv3D(nnx.Module):
    """3x3x3 convolution with padding chosen at the call, optionally weight-standardised."""

    def __init__(self, into: int, out: int, *, standardise: bool, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.kernel = nnx.Param(kernel_spread(rngs.params(), (3, 3, 3, into, out)))
        self.bias = nnx.Param(jnp.zeros(out))
        self.standardise = standardise
        self.dtype = dtype

    def __call__(self, x: Float[Array, "b nx ny nz c"], padding: Padding) -> Float[Array, "b nx ny nz d"]:
        """Field of the same grid."""
        kernel = self.kernel[...]
        if self.standardise:
            kernel = standardised(kernel)
        y = convolve(pad(x.astype(self.dtype), 1, padding), kernel.astype(self.dtype))
        return y + self.bias[...].astype(self.dtype).reshape(1, 1, 1, 1, -1)


class Pointwise(nnx.Module):
    """1x1x1 convolution."""

    def __init__(
        self, into: int, out: int, *, dtype: jnp.dtype, rngs: nnx.Rngs, use_bias: bool = True, zero: bool = False
    ):
        init = nnx.initializers.zeros if zero else kernel_spread
        self.linear = nnx.Linear(into, out, use_bias=use_bias, dtype=dtype, kernel_init=init, rngs=rngs)

    def __call__(self, x: Float[Array, "b nx ny nz c"]) -> Float[Array, "b nx ny nz d"]:
        """Linear map of the channels of each voxel."""
        return self.linear(x)


class GroupNorm(nnx.Module):
    """Group normalisation over the whole volume, computed in float32 whatever the compute type."""

    def __init__(self, channels: int, groups: int, *, rngs: nnx.Rngs):
        self.norm = nnx.GroupNorm(channels, num_groups=groups, dtype=jnp.float32, rngs=rngs)

    def __call__(self, x: Float[Array, "b nx ny nz c"]) -> Float[Array, "b nx ny nz c"]:
        """Field of zero mean and unit variance per group, then scale and shift."""
        return self.norm(x.astype(jnp.float32))


class NoiseEmbedding(nnx.Module):
    """Sinusoids of the noise level and a two-layer perceptron."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.width = width
        self.hidden = nnx.Linear(width, 4 * width, kernel_init=kernel_spread, rngs=rngs)
        self.out = nnx.Linear(4 * width, 4 * width, kernel_init=kernel_spread, rngs=rngs)

    def __call__(self, c_noise: Float[Array, " b"]) -> Float[Array, "b e"]:
        """Embedding of ``c_noise = ln(sigma) / 4``; float32 always."""
        half = self.width // 2
        # c_noise spans about (-1.6, 1.1): angular frequencies from 1 to 1000 resolve it as DDPM's resolve 0..1000.
        frequencies = jnp.exp(jnp.linspace(0.0, math.log(1000.0), half))
        angles = c_noise[:, None] * frequencies[None, :]
        return self.out(nnx.gelu(self.hidden(jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1))))


class ConvBlock(nnx.Module):
    """Weight-standardised convolution, group norm, optional FiLM, SiLU.

    With ``remat`` only the output of the convolution is stored for the backward pass: what follows is cheap, and made
    of four arrays of that size in float32.
    """

    def __init__(self, into: int, out: int, groups: int, *, dtype: jnp.dtype, rngs: nnx.Rngs, remat: bool = False):
        self.conv = Conv3D(into, out, standardise=True, dtype=dtype, rngs=rngs)
        self.norm = GroupNorm(out, groups, rngs=rngs)
        self.dtype = dtype
        self.remat = remat

    def __call__(
        self, x: Float[Array, "b nx ny nz c"], padding: Padding, film: tuple[Array, Array] | None = None
    ) -> Float[Array, "b nx ny nz d"]:
        """Field of the same grid."""

        def activated(norm: GroupNorm, x: Array, film: tuple[Array, Array] | None) -> Array:
            x = norm(x)
            if film is not None:
                scale, shift = film
                x = x * (scale + 1.0) + shift
            return nnx.silu(x).astype(self.dtype)

        return (nnx.remat(activated) if self.remat else activated)(self.norm, self.conv(x, padding), film)


class ResidualBlock(nnx.Module):
    """Two convolution blocks and a skip; the noise embedding modulates the first."""

    def __init__(
        self,
        into: int,
        out: int,
        embedding: int,
        groups: int,
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
        remat: bool = False,
    ):
        self.film = nnx.Linear(embedding, 2 * out, kernel_init=kernel_spread, rngs=rngs)
        self.first = ConvBlock(into, out, groups, dtype=dtype, rngs=rngs, remat=remat)
        self.second = ConvBlock(out, out, groups, dtype=dtype, rngs=rngs, remat=remat)
        self.skip = Pointwise(into, out, dtype=dtype, rngs=rngs) if into != out else None

    def __call__(
        self, x: Float[Array, "b nx ny nz c"], embedding: Float[Array, "b e"], padding: Padding
    ) -> Float[Array, "b nx ny nz d"]:
        """Field of the same grid."""
        scale, shift = jnp.split(self.film(nnx.silu(embedding))[:, None, None, None, :], 2, axis=-1)
        y = self.second(self.first(x, padding, (scale, shift)), padding)
        return y + (x if self.skip is None else self.skip(x)).astype(y.dtype)


class LinearAttention(nnx.Module):
    """Pre-normed residual linear attention over all voxels (Shen et al. 2021, arXiv 1812.01243)."""

    def __init__(self, channels: int, heads: int, head_width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.heads, self.head_width = heads, head_width
        self.dtype = dtype
        self.norm_in = GroupNorm(channels, 1, rngs=rngs)
        self.to_qkv = Pointwise(channels, 3 * heads * head_width, use_bias=False, dtype=dtype, rngs=rngs)
        self.to_out = Pointwise(heads * head_width, channels, dtype=dtype, rngs=rngs)
        self.norm_out = GroupNorm(channels, 1, rngs=rngs)

    def __call__(self, x: Float[Array, "b nx ny nz c"]) -> Float[Array, "b nx ny nz c"]:
        """``x`` plus what each voxel reads from the context of the whole volume; linear in the number of voxels."""
        qkv = self.to_qkv(self.norm_in(x).astype(self.dtype)).astype(jnp.float32)
        q, k, v = (
            rearrange(part, "b x y z (head w) -> b (x y z) head w", head=self.heads)
            for part in jnp.split(qkv, 3, axis=-1)
        )
        q = jax.nn.softmax(q, axis=-1) / math.sqrt(self.head_width)
        k = jax.nn.softmax(k, axis=1)
        context = jnp.einsum("bshw,bshv->bhwv", k, v)
        read = jnp.einsum("bhwv,bshw->bshv", context, q)
        read = read.reshape(*x.shape[:-1], self.heads * self.head_width)
        return x + self.norm_out(self.to_out(read.astype(self.dtype))).astype(x.dtype)


class Down(nnx.Module):
    """Halves the grid: 2x2x2 space-to-depth and a 1x1x1 convolution."""

    def __init__(self, into: int, out: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.mix = Pointwise(8 * into, out, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b nx ny nz c"]) -> Float[Array, "b mx my mz d"]:
        """Field on the grid of half the points per side."""
        return self.mix(space_to_depth(x, 2))


class Up(nnx.Module):
    """Doubles the grid: nearest neighbour, then a 3x3x3 convolution.

    Not a transposed convolution: its 3D gradient is about 30 times slower on GPU (jax issue 31662).
    """

    def __init__(self, into: int, out: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.conv = Conv3D(into, out, standardise=False, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b nx ny nz c"], padding: Padding) -> Float[Array, "b mx my mz d"]:
        """Field on the grid of twice the points per side."""
        return self.conv(repeat_blocks(x, 2), padding)
