"""Denoising in overlapping tiles, for volumes whose activations do not fit in memory.

The *state* of the sampler stays whole; only the denoiser is evaluated tile by tile, and its outputs are blended at
every call. Tiles therefore agree at their seams throughout the draw, unlike separately drawn tiles pasted together.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from polymicros_jax.diffusion.preconditioning import Denoiser
from polymicros_jax.types import ArrayLike


def tiled(denoise: Denoiser, tile: int, overlap: int, *, periodic: bool = False, multiple: int = 1) -> Denoiser:
    """A denoiser of large fields from one of small fields.

    Neighbouring tiles share ``overlap`` voxels. The outer quarter of the overlap only serves as context and has no
    weight; across the rest the weights cross over smoothly and sum to one everywhere. A denoiser that looks no
    further than ``overlap // 4`` voxels therefore gives exactly the untiled result, away from the faces of the
    volume. Statistics over the whole field (group norm, attention) are those of each tile.

    Args:
      denoise: takes ``(n, n, n, h)`` fields; with ``periodic`` it must still pad tiles as open boxes.
      tile: side of a tile in voxels; an axis shorter than that is taken whole (open) or repeated (periodic).
      overlap: voxels that neighbours share, at least 4 and at most half a tile.
      periodic: whether the large field wraps.
      multiple: tiles start at multiples of it (on an open axis that is itself a multiple of it), so that a strided
        network sees every voxel at the same place of its grid.

    Returns:
      ``denoise(x, sigma)`` for fields ``(nx, ny, nz, h)`` and one noise level.

    Raises:
      ValueError: a tile that is no multiple of ``multiple``, or too small for its overlap; an overlap out of range.

    >>> denoise = tiled(lambda x, sigma: x / (1 + sigma), tile=8, overlap=4)
    >>> x = jnp.arange(20.0)[:, None, None, None] * jnp.ones((20, 8, 8, 1))
    >>> bool(jnp.allclose(denoise(x, 1.0), x / 2, atol=1e-5))
    True
    """
    if tile % multiple or tile < 1:
        raise ValueError(f"tile = {tile}: must be a positive multiple of {multiple}")
    if not 4 <= overlap <= tile // 2:
        raise ValueError(f"tile overlap = {overlap}: accepted is 4 <= overlap <= {tile // 2}, half the tile")
    if tile - overlap < multiple:
        raise ValueError(f"tile = {tile}: accepted is at least {overlap + multiple}, its overlap and {multiple} voxels")

    def whole(x: Float[ArrayLike, "nx ny nz h"], sigma: Float[ArrayLike, ""] | float) -> Float[Array, "nx ny nz h"]:
        x = jnp.asarray(x)
        axes = [_cover(n, tile, overlap, multiple, periodic) for n in x.shape[:3]]
        counts = [range(len(places)) for places, _ in axes]
        choices = jnp.asarray(list(itertools.product(*counts)))
        places = [jnp.asarray(p) for p, _ in axes]
        weights = [jnp.asarray(w, x.dtype) for _, w in axes]

        def add(total: Array, choice: Array) -> tuple[Array, None]:
            ix, iy, iz = (p[choice[axis]] for axis, p in enumerate(places))
            wx, wy, wz = (w[choice[axis]] for axis, w in enumerate(weights))
            at = (ix[:, None, None], iy[None, :, None], iz[None, None, :])
            window = wx[:, None, None] * wy[None, :, None] * wz[None, None, :]
            return total.at[at].add(window[..., None] * denoise(x[at], sigma)), None

        # Rematerialised: the gradient of guidance would otherwise keep the activations of all tiles.
        return jax.lax.scan(jax.checkpoint(add), jnp.zeros_like(x), choices)[0]

    return whole


def tile_count(
    shape: tuple[int, int, int], tile: int, overlap: int, *, periodic: bool = False, multiple: int = 1
) -> int:
    """Number of tiles that `tiled` evaluates at every call on a grid of this shape."""
    return math.prod(len(_cover(n, tile, overlap, multiple, periodic)[0]) for n in shape)


def _cover(n: int, tile: int, overlap: int, multiple: int, periodic: bool) -> tuple[np.ndarray, np.ndarray]:
    """Voxel indices ``(tiles, side)`` of the tiles along an axis of ``n`` voxels, and their weights, summing to one."""
    side = tile if periodic else min(tile, n)
    advance = (tile - overlap) // multiple * multiple
    if periodic:
        starts = advance * np.arange(max(1, math.ceil(n / advance)))
    else:
        starts = np.minimum(advance * np.arange(1 + max(0, math.ceil((n - side) / advance))), n - side)
    context = overlap // 4
    depth = np.arange(side) - context + 0.5
    ramp = np.sin(0.5 * math.pi * np.clip(depth / (overlap - 2 * context), 0.0, 1.0)) ** 2
    weights = np.zeros((len(starts), side))
    totals = np.zeros(n)
    places = (starts[:, None] + np.arange(side)[None, :]) % n
    for row, start in enumerate(starts):
        # At a face of an open volume the tile has no neighbour and its weight stays one up to the face.
        rise = ramp if periodic or start > 0 else np.ones(side)
        fall = ramp[::-1] if periodic or start + side < n else np.ones(side)
        weights[row] = rise * fall
        np.add.at(totals, places[row], weights[row])
    return places, weights / totals[places]
