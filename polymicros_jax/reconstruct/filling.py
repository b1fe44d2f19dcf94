"""Filling the unknown voxels of a field."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from polymicros_jax.conditioners.guidance import KnownVoxelsGuide
from polymicros_jax.conditioners.known_voxels import METHODS, KnownVoxels, Method, NoisedKnownVoxels
from polymicros_jax.diffusion.conditioning import guided
from polymicros_jax.diffusion.sampler import EDM_CHURN, Churn, evaluations, sample
from polymicros_jax.diffusion.schedule import karras
from polymicros_jax.orientation.interpolation import linear
from polymicros_jax.reconstruct.drawing import check_numbers, check_prior, finite_draws, first_level, tiled_denoiser
from polymicros_jax.training.prior import Prior
from polymicros_jax.types import ArrayLike, Key

REPEATS = 5  # times the method "replace" takes each step


def super_resolve(
    key: Key,
    prior: Prior,
    field: Float[ArrayLike, "nx ny nz h"],
    known: Bool[ArrayLike, "nx ny nz"],
    *,
    draws: int = 1,
    steps: int = 100,
    method: Method = "project",
    start: float | None = None,
    theta: float = 0.75,
    repeats: int = REPEATS,
    strength: float = 1.0,
    churn: Churn | None = EDM_CHURN,
    tile: int | None = None,
    overlap: int | None = None,
    guess: Float[ArrayLike, "nx ny nz h"] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Float[Array, "draws nx ny nz h"]:
    """Draws fields that agree with the known voxels.

    Methods:
      - ``"project"``: known voxels are set to their values after each of the first ``theta`` of the steps, then the
        prior runs free (Alg. 4). Known voxels are close to their values, not equal.
      - ``"renoise"``: all steps are projected; then the result is noised to the level at ``theta`` and the prior
        finishes it free.
      - ``"replace"``: known voxels carry the noise of the state, every step is taken ``repeats`` times (RePaint). Known
        voxels are exact at the end.
      - ``"guide"``: posterior-score guidance of weight ``strength``; four backward passes per evaluation.

    Args:
      key: PRNG key; draw ``i`` depends on ``fold_in(key, i)`` alone, not on the number of draws.
      prior: unconditional model.
      field: channels as the prior knows them; unknown voxels may hold anything, NaN included.
      known: True where ``field`` is measured.
      draws: independent draws, one after the other in memory.
      steps: steps N of the whole schedule; a warm start takes only those from its level on.
      start: noise level, in units of the channels, at which the draw starts from ``guess`` (first level of the schedule
        at or below). None starts from pure noise. Below the last level above zero nothing is left to refine and the
        guess itself comes back.
      theta: share of the steps taken that are conditioned, for ``"project"`` and ``"renoise"``.
      repeats: for ``"replace"``.
      strength: for ``"guide"``.
      churn: see `diffusion.sampler.sample`.
      tile: side of the tiles the denoiser is evaluated in, a multiple of the network's stride; None for the whole
        field.
      overlap: voxels shared by neighbouring tiles; default a quarter of the tile.
      guess: what a warm start refines, read at unknown voxels; by default the linear interpolation of the known ones.
      progress: called after each draw with the number of draws done.

    Returns:
      ``(draws, nx, ny, nz, h)``. Grids that are no multiple of the network's stride are padded and cropped again.

    Raises:
      ValueError: an unknown method; nothing known; everything known; known voxels or a guess that are not finite; a
        guess of another shape or without start; a field whose channels are not the prior's; a ``known`` of another
        shape or type; a theta, a start or a number of draws or steps out of range.
      TypeError: what stands in the place of the prior is none.
      FloatingPointError: a draw that is not finite, with the seed.

    >>> from polymicros_jax.data.samples import load
    >>> from polymicros_jax.models.unet3d import UNet3DConfig
    >>> from polymicros_jax.orientation.representation import get
    >>> prior = Prior({}, UNet3DConfig(channels=9), 0.5, "gsh4")  # in practice `load_prior`; it is not asked here
    >>> volume, kind = load("in100", "evaluate").crop((0, 0, 0), (8, 8, 9)), get("gsh4")
    >>> known = np.broadcast_to(np.arange(9) % 4 == 0, (8, 8, 9))  # every fourth section
    >>> field = kind.encode(volume.quaternions)
    >>> draws = super_resolve(jax.random.key(0), prior, field, known, draws=2, start=0.0)
    >>> draws.shape, bool(jnp.allclose(draws[0], linear(field, known)))  # from 0.5 on the prior would refine it
    ((2, 8, 8, 9, 9), True)
    """
    values, mask = _checked_field(prior, field, known)
    check_numbers(draws, steps, start)
    if method not in METHODS:
        raise ValueError(f"method = {method!r}: accepted are {', '.join(METHODS)}")
    if not 0.0 <= theta <= 1.0:
        raise ValueError(f"theta = {theta}: a share of the steps, accepted is 0 to 1")
    init = _initial(values, mask, start, guess)
    skip = first_level(steps, start)
    if skip == steps:
        return jnp.broadcast_to(jnp.asarray(init)[None], (draws, *init.shape))
    shape, multiple = mask.shape, prior.network.stride
    margins = [(0, -n % multiple) for n in shape]
    absolute = _absolute(steps, skip, theta)
    draw = functools.partial(
        _fill,
        prior=prior,
        init=jnp.pad(jnp.asarray(init, jnp.float32), [*margins, (0, 0)], mode="edge"),
        values=jnp.pad(jnp.asarray(np.where(mask[..., None], values, 0.0), jnp.float32), [*margins, (0, 0)]),
        known=jnp.pad(jnp.asarray(mask), margins),
        theta=jnp.asarray(absolute, jnp.float32),
        strength=jnp.asarray(strength, jnp.float32),
        steps=steps,
        skip=skip,
        # Static, so that only the method that needs it is compiled anew for another theta.
        last_free=_last_free(steps, absolute) if method == "renoise" else 1,
        method=method,
        repeats=repeats if method == "replace" else 1,
        churn=churn,
        tile=tile,
        overlap=overlap,
    )
    return finite_draws(draw, key, key, draws, progress)[:, : shape[0], : shape[1], : shape[2]]


@functools.partial(
    jax.jit, static_argnames=("steps", "skip", "last_free", "method", "repeats", "churn", "tile", "overlap")
)
def _fill(
    key: Key,
    prior: Prior,
    init: Array,
    values: Array,
    known: Array,
    theta: Array,
    strength: Array,
    *,
    steps: int,
    skip: int,
    last_free: int,
    method: Method,
    repeats: int,
    churn: Churn | None,
    tile: int | None,
    overlap: int | None,
) -> Array:
    """A draw of `super_resolve` on a padded grid; compiled once per shape and setting."""
    denoise = tiled_denoiser(prior, "replicate", tile, overlap)
    sigmas = karras(steps)
    condition: KnownVoxels | NoisedKnownVoxels | None = None
    if method == "project":
        condition = KnownVoxels(values=values, known=known, theta=theta)
    elif method == "renoise":
        condition = KnownVoxels(values=values, known=known, theta=1.0)
    elif method == "replace":
        condition = NoisedKnownVoxels(values=values, known=known)
    else:
        guide = KnownVoxelsGuide(values=values, known=known, strength=strength)
        denoise = guided(denoise, [guide])

    first_key, second_key = jax.random.split(key)
    x = sample(first_key, denoise, init, sigmas, skip=skip, condition=condition, churn=churn, repeats=repeats)
    if method != "renoise":
        return x
    return sample(second_key, denoise, x, sigmas, skip=last_free, churn=churn)


def _absolute(steps: int, skip: int, theta: float) -> float:
    """Theta as a share of the whole schedule."""
    # It counts the steps that are taken: a warm start below the 75 % mark would otherwise not be conditioned at all.
    return (skip + theta * (steps - skip)) / steps


def _last_free(steps: int, absolute: float) -> int:
    """The step from which "renoise" runs free."""
    return min(max(round(absolute * steps), 1), steps - 1)


def filling_evaluations(
    steps: int, start: float | None, method: str = "project", theta: float = 0.75, repeats: int = REPEATS
) -> int:
    """Evaluations of the (guided) denoiser in one draw of `super_resolve`, as its arguments say."""
    if (skip := first_level(steps, start)) == steps:
        return 0
    drawn = evaluations(steps, skip, repeats if method == "replace" else 1)
    free = evaluations(steps, _last_free(steps, _absolute(steps, skip, theta)))
    return drawn + free if method == "renoise" else drawn


def _initial(values: np.ndarray, mask: np.ndarray, start: float | None, guess: ArrayLike | None) -> np.ndarray:
    """The field a draw starts from; at a start from pure noise only its shape and type count."""
    if start is None:
        if guess is not None:
            raise ValueError("guess: needs a start, the noise level at which the draw leaves it")
        return np.where(mask[..., None], values, 0.0).astype(values.dtype)
    if guess is None:
        return linear(values, mask)
    if np.shape(guess) != values.shape:
        raise ValueError(f"guess: found shape {np.shape(guess)}, accepted is the field's, {values.shape}")
    init = np.where(mask[..., None], values, np.asarray(guess)).astype(values.dtype)
    if not np.isfinite(init).all():
        raise ValueError("guess: holds values that are not finite at unknown voxels")
    return init


def _checked_field(prior: Prior, field: ArrayLike, known: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    check_prior(prior)
    values, mask = np.asarray(field), np.asarray(known)
    values = values.astype(np.result_type(values.dtype, np.float32))
    if values.ndim != 4:
        raise ValueError(
            f"field: found a {type(field).__name__} of shape {values.shape}, accepted are channels (nx, ny, nz, "
            f"{prior.network.channels}): representation({prior.representation!r}).encode(volume.quaternions)"
        )
    if values.shape[-1] != prior.network.channels:
        raise ValueError(
            f"field has {values.shape[-1]} channels: the prior ({prior.representation}) takes {prior.network.channels}"
        )
    if mask.dtype != bool or mask.shape != values.shape[:-1]:
        raise ValueError(
            f"known: found {mask.dtype} of shape {mask.shape}; accepted is bool of the field's shape without its "
            f"channels, {values.shape[:-1]}"
        )
    if not mask.any():
        raise ValueError("known: no voxel is True, so nothing constrains the draw; sample the prior instead")
    if mask.all():
        raise ValueError("known: every voxel is True, so nothing is missing")
    bad = int((~np.isfinite(values[mask])).any(axis=-1).sum())
    if bad:
        raise ValueError(f"field: {bad} known voxels are not finite; set known to False there")
    return values, mask
