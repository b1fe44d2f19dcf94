"""The 3D UNet of the local and foundation models (PolyMicros App. C; Ho et al. 2020 in three dimensions)."""

import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from polymicros_jax.models.layers import (
    Conv3D,
    Down,
    LinearAttention,
    NoiseEmbedding,
    Padding,
    Pointwise,
    ResidualBlock,
    Up,
    depth_to_space,
    space_to_depth,
)
from polymicros_jax.types import ArrayLike, Key, Params


@dataclasses.dataclass(frozen=True)
class UNet3DConfig:
    """Architecture of a UNet.

    Attributes:
      channels: harmonic channels H of the field.
      width: channels of the stem and of the finest resolution; also the width of the noise sinusoids.
      multipliers: width at each coarser stage, in units of ``width``.
      patch: side of the voxel blocks folded into the stem's channels. 1 is the paper's; 2 moves all the work to the
        half grid, where a CPU convolves several times faster.
      detail: channels of a residual block on the full grid that corrects the output of a network with ``patch`` > 1
        from the noisy field; 0 leaves it out. The folded stem has fewer channels than its voxel blocks have values:
        without it the network cannot tell where inside a block a boundary runs.
      blocks: residual blocks per resolution and side.
      groups: groups of the norm.
      heads: attention heads.
      head_width: channels per head.
      compute_dtype: "float32" or "bfloat16"; parameters, norms and the noise embedding stay float32.
      remat: recompute each block, attention and change of resolution in the backward pass, not storing their inside.
    """

    channels: int
    width: int = 32
    multipliers: tuple[int, ...] = (4, 8, 16)
    patch: int = 1
    detail: int = 0
    blocks: int = 2
    groups: int = 4
    heads: int = 4
    head_width: int = 32
    compute_dtype: str = "float32"
    remat: bool = False

    @property
    def stride(self) -> int:
        """Voxels per side that one voxel of the coarsest grid spans; grid sizes must be multiples of it."""
        return self.patch * 2 ** (len(self.multipliers) - 1)


class Stage(nnx.Module):
    """Residual blocks and one attention at one resolution."""

    def __init__(self, config: UNet3DConfig, into: int, out: int, extra: int, *, rngs: nnx.Rngs):
        dtype = jnp.dtype(config.compute_dtype)
        embedding = 4 * config.width
        self.blocks = nnx.Dict(
            {
                str(number): ResidualBlock(
                    (into if number == 0 else out) + extra,
                    out,
                    embedding,
                    config.groups,
                    dtype=dtype,
                    rngs=rngs,
                    remat=config.remat,
                )
                for number in range(config.blocks)
            }
        )
        self.attention = LinearAttention(out, config.heads, config.head_width, dtype=dtype, rngs=rngs)


class UNet3D(nnx.Module):
    """Raw network F of the preconditioned denoiser."""

    def __init__(self, config: UNet3DConfig, *, rngs: nnx.Rngs):
        dtype = jnp.dtype(config.compute_dtype)
        widths = (config.width, *(config.width * m for m in config.multipliers))
        last = len(config.multipliers) - 1
        folded = config.channels * config.patch**3
        make = functools.partial(Stage, config, rngs=rngs)
        conv = functools.partial(Conv3D, standardise=False, dtype=dtype, rngs=rngs)
        self.config = config
        self.embedding = NoiseEmbedding(config.width, rngs=rngs)
        self.stem = Pointwise(folded, config.width, dtype=dtype, rngs=rngs)
        down, up = {}, {}
        narrow: dict[str, nnx.Module] = {}
        widen: dict[str, nnx.Module] = {}
        for level, (fine, coarse) in enumerate(itertools.pairwise(widths)):
            name = str(level)
            down[name] = make(fine, fine, 0)
            narrow[name] = Down(fine, coarse, dtype=dtype, rngs=rngs) if level < last else conv(fine, coarse)
            up[name] = make(coarse, coarse, fine)
            widen[name] = Up(coarse, fine, dtype=dtype, rngs=rngs) if level > 0 else conv(coarse, fine)
        self.down, self.narrow = nnx.Dict(down), nnx.Dict(narrow)
        self.up, self.widen = nnx.Dict(up), nnx.Dict(widen)
        block = functools.partial(
            ResidualBlock,
            embedding=4 * config.width,
            groups=config.groups,
            dtype=dtype,
            rngs=rngs,
            remat=config.remat,
        )
        self.middle_first = block(widths[-1], widths[-1])
        self.middle_second = block(widths[-1], widths[-1])
        self.head_block = block(2 * config.width, config.width)
        # Zero output at the start: the denoiser begins as c_skip x, whose weighted loss is 1 at every noise level.
        self.head = Pointwise(config.width, folded, dtype=jnp.dtype("float32"), rngs=rngs, zero=True)
        if config.detail:
            self.detail_stem = Pointwise(2 * config.channels, config.detail, dtype=dtype, rngs=rngs)
            self.detail_block = block(config.detail, config.detail)
            # Zero again: a network that gains its detail starts as the same function.
            self.detail_head = Pointwise(
                config.detail, config.channels, dtype=jnp.dtype("float32"), rngs=rngs, zero=True
            )

    def __call__(
        self, x: Float[Array, "b nx ny nz h"], noise_level: Float[Array, " b"], padding: Padding
    ) -> Float[Array, "b nx ny nz h"]:
        """Output of the shape of the input."""
        config = self.config

        def through(block: nnx.Module, *arrays: Array) -> Array:
            extra = () if isinstance(block, Down | LinearAttention) else (padding,)
            if not config.remat:
                return block(*arrays, *extra)
            return nnx.remat(lambda inner, *args: inner(*args, *extra))(block, *arrays)

        embedding = self.embedding(noise_level)
        noisy = x
        x = self.stem(space_to_depth(x, config.patch))
        stem, skips = x, []
        levels = range(len(config.multipliers))
        for level in levels:
            stage = self.down[str(level)]
            for number in range(config.blocks):
                x = through(stage.blocks[str(number)], x, embedding)
                if number == config.blocks - 1:
                    x = through(stage.attention, x)
                skips.append(x)
            x = through(self.narrow[str(level)], x)
        x = through(self.middle_first, x, embedding)
        x = through(self.middle_second, x, embedding)
        for level in reversed(levels):
            stage = self.up[str(level)]
            for number in range(config.blocks):
                x = through(stage.blocks[str(number)], jnp.concatenate([x, skips.pop()], axis=-1), embedding)
            x = through(self.widen[str(level)], through(stage.attention, x))
        x = through(self.head_block, jnp.concatenate([x, stem], axis=-1), embedding)
        output = depth_to_space(self.head(x).astype(jnp.float32), config.patch)
        if not config.detail:
            return output
        x = self.detail_stem(jnp.concatenate([noisy, output], axis=-1))
        x = through(self.detail_block, x, embedding)
        return output + self.detail_head(x).astype(jnp.float32)


def init(key: Key, config: UNet3DConfig) -> Params:
    """Fresh parameters as a nested dict of float32 arrays."""

    def build(key: Key) -> Params:
        return nnx.to_pure_dict(nnx.state(UNet3D(config, rngs=nnx.Rngs(params=key)), nnx.Param))

    return jax.jit(build)(key)


def add_detail(key: Key, config: UNet3DConfig, params: Params, detail: int) -> tuple[UNet3DConfig, Params]:
    """Gives a trained network a full-grid block; the function it computes stays the same until it is trained further.

    Args:
      key: for the new parameters.
      config: architecture of ``params``, without detail.
      params: nested dict, as from `init`.
      detail: channels of the new block.

    Returns:
      The architecture with ``detail`` and its parameters.

    Raises:
      ValueError: the network has its detail already.
    """
    if config.detail:
        raise ValueError(f"the network already has a full-grid block of {config.detail} channels")
    grown = dataclasses.replace(config, detail=detail)
    return grown, {**init(key, grown), **params}


@functools.cache
def _skeleton(config: UNet3DConfig) -> tuple[Any, Any]:
    return nnx.split(nnx.eval_shape(lambda: UNet3D(config, rngs=nnx.Rngs(0))), nnx.Param)


def apply(
    config: UNet3DConfig,
    params: Params,
    x: Float[ArrayLike, "*b nx ny nz h"],
    noise_level: Float[ArrayLike, "..."] | float,
    *,
    padding: Padding = "replicate",
) -> Float[Array, "*b nx ny nz h"]:
    """Evaluates the network; pure in its arguments.

    Args:
      config: architecture the parameters belong to.
      params: nested dict from `init`.
      x: field, with or without a batch axis.
      noise_level: ``c_noise``, a scalar or one value per batch entry.
      padding: "replicate" as in training, or "periodic" for fields on a torus.

    Returns:
      Field of the shape of ``x``, float32.

    Raises:
      ValueError: a channel count, grid size or padding that the network cannot take.
    """
    x = jnp.asarray(x)
    if x.shape[-1] != config.channels:
        raise ValueError(f"field has {x.shape[-1]} channels: the network takes {config.channels}")
    if any(size % config.stride for size in x.shape[-4:-1]):
        raise ValueError(f"grid {x.shape[-4:-1]}: each side must be a multiple of {config.stride}")
    if padding not in ("replicate", "periodic"):
        raise ValueError(f'padding = {padding!r}: accepted are "replicate" and "periodic"')
    batch = x if x.ndim == 5 else x[None]
    level = jnp.broadcast_to(jnp.asarray(noise_level, jnp.float32).reshape(-1), (batch.shape[0],))
    graph, state = _skeleton(config)
    nnx.replace_by_pure_dict(state, params)
    y = nnx.merge(graph, state)(batch, level, padding)
    return y if x.ndim == 5 else y[0]


def parameter_count(params: Params) -> int:
    """Number of scalars in a tree of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
