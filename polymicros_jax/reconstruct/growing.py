"""Growing 3D volumes from 2D maps."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from polymicros_jax.conditioners.crystals import CrystalGuide
from polymicros_jax.conditioners.slice_targets import SliceTargets, slice_targets
from polymicros_jax.conditioners.two_point import TwoPoint, TwoPointGuide, two_point
from polymicros_jax.diffusion.conditioning import Guide, guided
from polymicros_jax.diffusion.sampler import EDM_CHURN, evaluations, sample
from polymicros_jax.diffusion.schedule import karras
from polymicros_jax.reconstruct.drawing import check_numbers, check_prior, finite_draws, first_level, tiled_denoiser
from polymicros_jax.training.prior import Prior
from polymicros_jax.types import ArrayLike, Key


def expand(
    key: Key,
    prior: Prior,
    slices: Mapping[str, Float[ArrayLike, "_ _ h"]],
    shape: tuple[int, int, int],
    *,
    draws: int = 1,
    first: int = 0,
    steps: int = 25,
    start: float | None = None,
    periodic_slices: bool = False,
    until: float | None = 1.0,
    budget: int = 20,
    tile: int | None = None,
    overlap: int | None = None,
    targets: SliceTargets | None = None,
    progress: Callable[[int], None] | None = None,
) -> Float[Array, "draws nx ny nz h"]:
    """Draws periodic volumes with the orthogonal two-point statistics of 2D maps (after Alg. 5).

    The targets come from the maps alone (`conditioners.slice_targets`), whose relative position does not matter.

    By default the *denoised* field is matched while the noise is high. Below ``until`` the prior is free and draws
    towards orientations (`conditioners.crystals`), without fresh noise: the result consists of crystals and has the
    statistics about as well as a volume of crystals has those of a few sections. With ``until=None`` the *state* is
    matched after each step to the end, as in the paper, with fresh noise in place of what matching takes out of it:
    statistics are met to the last digits, and hardly a voxel is a crystal.

    Args:
      key: PRNG key, of the targets and of the draws; draw ``i`` is the same whatever the number of draws.
      prior: unconditional model.
      slices: ``"x"``, ``"y"`` or ``"z"``, the axis a map is normal to, to its channels ``(n, m, h)`` on the other two
        axes in order. One to three maps, of any size: lags that a map is too small for are left to the prior.
      shape: grid of the volumes, each side a multiple of the network's stride.
      draws: independent draws.
      first: number of the first of them, to go on with draws made before.
      steps: steps N of the whole schedule.
      start: noise level at which the draw starts from a random field with the targets' statistics; None starts from
        pure noise.
      periodic_slices: whether the maps wrap around; measured maps do not.
      until: noise level down to which the denoised field is matched; None matches the state at every level.
      budget: most gradient evaluations per match: two matches a step above ``until``; or one of the state a step, and
        a last one with as many evaluations as all steps may have, which is two budgets a step. A start takes one more.
      tile: side of the tiles the denoiser is evaluated in; None for the whole volume.
      overlap: voxels shared by neighbouring tiles; default a quarter of the tile.
      targets: what is matched, where it was made of these maps for this shape before; None makes it.
      progress: called after each draw with the number of draws done.

    Returns:
      ``(draws, nx, ny, nz, h)``.

    Raises:
      ValueError: no maps; an unknown axis; maps that are not finite or whose channels are not the prior's; a shape the
        network cannot take; a level ``until`` below zero; a start or a number of draws or steps out of range; a first
        draw below zero.
      TypeError: what stands in the place of the prior is none.
      FloatingPointError: a draw that is not finite, with the seed.

    >>> from polymicros_jax.models.unet3d import UNet3DConfig
    >>> prior = Prior({}, UNet3DConfig(channels=9), 0.5, "gsh4")  # in practice `load_prior`; nothing is drawn here
    >>> section = np.zeros((40, 40, 9), np.float32)
    >>> expand(jax.random.key(0), prior, {"z": section}, (30, 30, 30))
    Traceback (most recent call last):
        ...
    ValueError: shape = (30, 30, 30): three multiples of 4, the stride of the network, are needed
    """
    check_prior(prior)
    _check_slices(prior, slices, shape)
    check_numbers(draws, steps, start)
    if until is not None and not until >= 0.0:
        raise ValueError(f"until = {until}: a noise level of at least 0, or None to match the state to the end")
    if first < 0:
        raise ValueError(f"first = {first}: accepted is at least 0")
    target_key, draw_key = jax.random.split(key)
    if targets is None:
        targets = slice_targets(target_key, slices, shape, kind=prior.kind, periodic=periodic_slices)
    skip = min(first_level(steps, start), steps - 1)
    condition = two_point(targets.planes, targets.mean, budget=budget, sweeps=4 if until is None else 1)
    draw = functools.partial(
        _grow,
        prior=prior,
        condition=condition,
        until=until,
        shape=shape,
        steps=steps,
        skip=skip,
        tile=tile,
        overlap=overlap,
    )
    return finite_draws(draw, draw_key, key, draws, progress, first)


@functools.partial(jax.jit, static_argnames=("shape", "steps", "skip", "tile", "overlap"))
def _grow(
    key: Key,
    prior: Prior,
    condition: TwoPoint,
    until: Float[ArrayLike, ""] | float | None,
    *,
    shape: tuple[int, int, int],
    steps: int,
    skip: int,
    tile: int | None,
    overlap: int | None,
) -> Array:
    """A draw of `expand`; compiled once per shape and setting."""
    denoise = tiled_denoiser(prior, "periodic", tile, overlap)
    sigmas = karras(steps)
    start_key, draw_key = jax.random.split(key)
    init = jnp.zeros((*shape, prior.network.channels))
    if skip > 0:
        init = condition.match(jax.random.normal(start_key, init.shape), 0.0).field
    if until is None:
        drawn = sample(draw_key, denoise, init, sigmas, skip=skip, condition=condition, churn=EDM_CHURN)
        # Every step undoes part of the match before it. Nothing follows this one, which has as many budgets as steps.
        last = dataclasses.replace(condition, sweeps=0, budget=(steps - skip) * condition.budget)
        return last.match(drawn, condition.floor).field
    guides: list[Guide] = [TwoPointGuide(condition, until)]
    if prior.kind is not None and prior.kind.invertible:
        guides.insert(0, CrystalGuide(prior.representation))
    return sample(draw_key, guided(denoise, guides), init, sigmas, skip=skip, churn=None)


def growing_evaluations(steps: int, start: float | None) -> int:
    """Evaluations of the denoiser in one draw of `expand`."""
    return evaluations(steps, min(first_level(steps, start), steps - 1))


def growing_budgets(steps: int, start: float | None, until: float | None) -> int:
    """Budgets of gradient evaluations that one draw of `expand` may spend."""
    skip = min(first_level(steps, start), steps - 1)
    first = int(skip > 0)  # of the random field that the draw starts from
    if until is None:
        return first + 2 * (steps - skip)
    # Both evaluations of a step from `now` to `after`: where it begins and where it ends.
    now, after = np.asarray(karras(steps))[skip:-1], np.asarray(karras(steps))[skip + 1 : -1]
    return first + int(np.sum(now > until) + np.sum(after > until))


def _check_slices(prior: Prior, slices: Mapping[str, ArrayLike], shape: tuple[int, int, int]) -> None:
    if not slices:
        raise ValueError("slices: none given; at least one of x, y, z is needed")
    unknown = sorted(set(slices) - set("xyz"))
    if unknown:
        raise ValueError(f"slices: unknown axis {unknown[0]!r}; accepted are x, y, z, the axis a map is normal to")
    for name, values in slices.items():
        if values.ndim != 3 or values.shape[-1] != prior.network.channels:
            raise ValueError(
                f"slices[{name!r}]: shape {values.shape}; accepted is (n, m, {prior.network.channels}): "
                "the last axis holds the prior's channels"
            )
        if not np.isfinite(np.asarray(values)).all():
            raise ValueError(f"slices[{name!r}]: holds values that are not finite; fill or crop them first")
    stride = prior.network.stride
    if len(shape) != 3 or any(side < 1 or side % stride for side in shape):
        raise ValueError(f"shape = {shape}: three multiples of {stride}, the stride of the network, are needed")
