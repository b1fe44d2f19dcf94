"""The 3D UNet of the local and foundation models (PolyMicros App. C; Ho et al. 2020 in three dimensions)."""

import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from polymicros_jax.models.averaging import Refinement
from polymicros_jax.models.layers import (
    Conv3D,
    Down,
    LinearAttention,
    NoiseEmbedding,
    Padding,
    Pointwise,
    ResidualBlock,
    Up,
    block_means,
    depth_to_space,
    draw_kernels,
    repeat_blocks,
    space_to_depth,
)
from polymicros_jax.types import ArrayLike, Key, Params

COMPUTE_DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class UNet3DConfig:
    """Architecture of a UNet.

    Attributes:
      channels: harmonic channels H of the field.
      width: channels of the stem and of the finest resolution; also the width of the noise sinusoids.
      multipliers: widths after each stage, in units of ``width``: stage i works on a grid ``2**i`` times coarser, and
        all but the last halve it for the next, so n of them halve the grid n - 1 times.
      patch: side of the voxel blocks folded into the stem's channels. 1 is the paper's; 2 moves all the work to the
        half grid, where a CPU convolves several times faster.
      detail: channels of the rounds on the full grid (`models.averaging.Refinement`) at the end of a network with
        ``patch`` > 1; 0 leaves them out. The folded stem has fewer channels than its voxel blocks have values: without
        them the network cannot tell where inside a block a boundary runs.
      rounds: number of these rounds; each sees the noisy field and the output of the one before.
      averaging: steps of averaging within grains in each round.
      coarse: number of rounds before these on the grid of the folded blocks, on means over a block. They have ``width``
        channels and take ``2 averaging`` steps: where noise is high, only a mean over much of a grain tells it from
        its neighbours.
      blocks: residual blocks per resolution and side.
      groups: groups of the norm.
      heads: attention heads.
      head_width: channels per head.
      compute_dtype: "float32" or "bfloat16"; parameters, norms and the noise embedding stay float32.
      remat: recompute each block, attention and change of resolution in the backward pass, not storing their inside.

    Raises:
      ValueError: another ``compute_dtype``.

    >>> paper = UNet3DConfig(channels=3)
    >>> paper.multipliers, paper.stride  # sides of a volume must be multiples of it
    ((4, 8, 16), 4)
    """

    channels: int
    width: int = 32
    multipliers: tuple[int, ...] = (4, 8, 16)
    patch: int = 1
    detail: int = 0
    rounds: int = 1
    averaging: int = 8
    coarse: int = 0
    blocks: int = 2
    groups: int = 4
    heads: int = 4
    head_width: int = 32
    compute_dtype: str = "float32"
    remat: bool = False

    def __post_init__(self) -> None:
        """Refuses a type to compute in that the layers do not know."""
        if self.compute_dtype not in COMPUTE_DTYPES:
            raise ValueError(f"compute_dtype: found {self.compute_dtype!r}, accepted are {', '.join(COMPUTE_DTYPES)}")

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
        refinement = functools.partial(
            Refinement,
            config.channels,
            embedding=4 * config.width,
            groups=config.groups,
            dtype=dtype,
            rngs=rngs,
            remat=config.remat,
        )
        if config.coarse:
            self.coarse = nnx.Dict(
                {
                    str(number): refinement(width=config.width, steps=2 * config.averaging)
                    for number in range(config.coarse)
                }
            )
        if config.detail:
            self.rounds = nnx.Dict(
                {
                    str(number): refinement(width=config.detail, steps=config.averaging)
                    for number in range(config.rounds)
                }
            )

    def __call__(
        self, x: Float[Array, "b nx ny nz h"], c_noise: Float[Array, " b"], padding: Padding
    ) -> Float[Array, "b nx ny nz h"]:
        """Output of the shape of the input."""
        config = self.config

        def through(block: nnx.Module, *arrays: Array) -> Array:
            extra = () if isinstance(block, Down | LinearAttention) else (padding,)
            if not config.remat:
                return block(*arrays, *extra)
            return nnx.remat(lambda inner, *args: inner(*args, *extra))(block, *arrays)

        embedding = self.embedding(c_noise)
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
        if config.coarse:
            means, blocks = block_means(noisy, config.patch), block_means(output, config.patch)
            refined = blocks
            for number in range(config.coarse):
                refined = through(self.coarse[str(number)], means, refined, embedding)
            output = output + repeat_blocks(refined - blocks, config.patch)
        for number in range(config.rounds if config.detail else 0):
            output = through(self.rounds[str(number)], noisy, output, embedding)
        return output


def init(key: Key, config: UNet3DConfig) -> Params:
    """Fresh parameters as a nested dict of float32 arrays.

    Kernels are drawn by `layers.draw_kernels`, but for the last of the network and of each round, which are zero.

    >>> config = UNet3DConfig(channels=9, width=8, multipliers=(1, 2))
    >>> params = jax.eval_shape(lambda key: init(key, config), jax.random.key(0))  # shapes alone, at no cost
    >>> parameter_count(params)
    132809
    """

    def build(key: Key) -> Params:
        return draw_kernels(key, nnx.to_pure_dict(nnx.state(UNet3D(config, rngs=nnx.Rngs(0)), nnx.Param)))

    return jax.jit(build)(key)


def grow(
    key: Key, config: UNet3DConfig, params: Params, *, detail: int, rounds: int, averaging: int, coarse: int = 0
) -> tuple[UNet3DConfig, Params]:
    """Gives a trained network further rounds on the full grid, on the grid of the folded blocks, or on both.

    A new round begins with what the network put out before, averaged where neighbouring outputs are alike.

    Args:
      key: for the new parameters.
      config: architecture of ``params``.
      params: nested dict, as from `init`.
      detail, rounds, averaging, coarse: of the network that is wanted, see `UNet3DConfig`.

    Returns:
      The architecture with these rounds and its parameters.

    Raises:
      ValueError: the network has more rounds than that, or rounds of other channels or steps.
    """
    there = config.rounds if config.detail else 0
    if there and ((config.detail, config.averaging) != (detail, averaging) or there > rounds):
        raise ValueError(
            f"found {rounds} rounds of {detail} channels and {averaging} steps: the network has {there} of "
            f"{config.detail} channels and {config.averaging} steps; accepted are more rounds of the same"
        )
    if config.coarse and config.averaging != averaging:
        raise ValueError(
            f"found averaging of {averaging} steps: the network has coarse rounds trained with {config.averaging}"
        )
    if config.coarse > coarse:
        raise ValueError(f"found {coarse} coarse rounds: the network has {config.coarse}; accepted are as many or more")
    grown = dataclasses.replace(config, detail=detail, rounds=rounds, averaging=averaging, coarse=coarse)
    fresh = init(key, grown)
    more = {name: {**fresh[name], **params.get(name, {})} for name in ("rounds", "coarse") if name in fresh}
    return grown, {**params, **more}


def exchange_channels(key: Key, config: UNet3DConfig, params: Params, channels: int) -> tuple[UNet3DConfig, Params]:
    """The network for fields of another representation: what meets the channels begins anew, the rest is kept.

    Most of a trained network knows shapes of grains and nothing of channels. A parameter is kept where its shape stays
    the same, which leaves out the first and the last layer of the network and of each round.

    Args:
      key: for the new parameters.
      config: architecture of ``params``.
      params: nested dict, as from `init`.
      channels: harmonic channels of the network that is wanted.

    >>> config = UNet3DConfig(channels=9, width=8, multipliers=(1, 2))
    >>> exchanged, params = exchange_channels(jax.random.key(1), config, init(jax.random.key(0), config), 3)
    >>> exchanged.channels, params["stem"]["linear"]["kernel"].shape
    (3, (3, 8))
    """
    exchanged = dataclasses.replace(config, channels=channels)
    kept = jax.tree.map(lambda new, old: old if old.shape == new.shape else new, init(key, exchanged), params)
    return exchanged, kept


@functools.cache
def _skeleton(config: UNet3DConfig) -> tuple[Any, Any, Any]:
    """The network without its arrays: what `nnx.merge` takes, and the shape of the tree as `init` returns it.

    Kept from call to call, so no array may be put into it: one call's would be the next one's.
    """
    graph, state = nnx.split(nnx.eval_shape(lambda: UNet3D(config, rngs=nnx.Rngs(0))), nnx.Param)
    return graph, jax.tree.structure(state), jax.tree.structure(nnx.to_pure_dict(state))


def apply(
    config: UNet3DConfig,
    params: Params,
    x: Float[ArrayLike, "*b nx ny nz h"],
    c_noise: Float[ArrayLike, "..."] | float,
    *,
    padding: Padding = "replicate",
) -> Float[Array, "*b nx ny nz h"]:
    """Evaluates the network; pure in its arguments.

    Args:
      config: architecture the parameters belong to.
      params: nested dict from `init`.
      x: field, with or without a batch axis.
      c_noise: ``ln(sigma) / 4`` of the noise level, see `diffusion.preconditioning.c_noise`; a scalar or one value per
        batch entry.
      padding: "replicate" as in training, or "periodic" for fields on a torus.

    Returns:
      Field of the shape of ``x``, float32.

    Raises:
      ValueError: a channel count, grid size or padding that the network cannot take, or parameters of another one.

    >>> config = UNet3DConfig(channels=9, width=8, multipliers=(1, 2))
    >>> params = jax.eval_shape(lambda key: init(key, config), jax.random.key(0))
    >>> network = lambda params, x: apply(config, params, x, 0.0, padding="periodic")
    >>> jax.eval_shape(network, params, jnp.ones((8, 8, 8, 9))).shape
    (8, 8, 8, 9)
    """
    x = jnp.asarray(x)
    if x.shape[-1] != config.channels:
        raise ValueError(f"field has {x.shape[-1]} channels: the network takes {config.channels}")
    if any(size % config.stride for size in x.shape[-4:-1]):
        raise ValueError(f"grid {x.shape[-4:-1]}: each side must be a multiple of {config.stride}")
    if padding not in ("replicate", "periodic"):
        raise ValueError(f'padding = {padding!r}: accepted are "replicate" and "periodic"')
    batch = x if x.ndim == 5 else x[None]
    level = jnp.broadcast_to(jnp.asarray(c_noise, jnp.float32).reshape(-1), (batch.shape[0],))
    graph, state, tree = _skeleton(config)
    leaves, found = jax.tree.flatten(params)
    if found != tree:
        raise ValueError(f"params: {_difference(found, tree)}; accepted is what `init` makes for this architecture")
    y = nnx.merge(graph, jax.tree.unflatten(state, leaves))(batch, level, padding)
    return y if x.ndim == 5 else y[0]


def _difference(found: Any, wanted: Any) -> str:
    """The first parameter that one tree has and the other has not."""

    def paths(tree: Any) -> set[str]:
        named, _ = jax.tree.flatten_with_path(jax.tree.unflatten(tree, range(tree.num_leaves)))
        return {jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in named}

    lacking, unknown = sorted(paths(wanted) - paths(found)), sorted(paths(found) - paths(wanted))
    return f"{lacking[0]} is missing" if lacking else f"found {unknown[0] if unknown else found}"


def parameter_count(params: Params) -> int:
    """Number of scalars in a tree of parameters.

    >>> parameter_count({"dense": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)}})
    16
    """
    return sum(leaf.size for leaf in jax.tree.leaves(params))
