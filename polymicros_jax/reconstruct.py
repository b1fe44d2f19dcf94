"""Zero-shot reconstruction with an unconditional prior: filling gaps in 3D, and growing 3D volumes from 2D maps.

`super_resolve` fills the unknown voxels of a field (PolyMicros Sec. 5, App. D.1); `expand` draws volumes with the
two-point statistics of two-dimensional maps (App. D.2). Both start from pure noise as the paper does, or warm: from a
classical guess at a chosen noise level (SDEdit), which leaves the coarse structure to the guess and the boundaries to
the prior. Fields go in as the prior was trained on them: no mean is taken off and no scale applied here.
"""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from polymicros_jax.conditioners.guidance import KnownVoxelsGuide
from polymicros_jax.conditioners.known_voxels import METHODS, KnownVoxels, Method, NoisedKnownVoxels
from polymicros_jax.conditioners.slice_targets import slice_targets
from polymicros_jax.conditioners.two_point import TwoPoint, two_point
from polymicros_jax.diffusion.conditioning import guided
from polymicros_jax.diffusion.preconditioning import Denoiser
from polymicros_jax.diffusion.sampler import EDM_CHURN, Churn, evaluations, sample
from polymicros_jax.diffusion.schedule import karras
from polymicros_jax.diffusion.tiling import tiled
from polymicros_jax.models.layers import Padding
from polymicros_jax.orientation.interpolation import linear
from polymicros_jax.training.prior import Prior
from polymicros_jax.types import ArrayLike, Key

REPEATS = 5  # times the method "replace" takes each step

DEFAULT_START: float | None = None
"""Noise level a draw starts from when the caller names none; None is pure noise, as in the paper."""


def super_resolve(
    key: Key,
    prior: Prior,
    field: Float[ArrayLike, "nx ny nz h"],
    known: Bool[ArrayLike, "nx ny nz"],
    *,
    draws: int = 1,
    steps: int = 100,
    method: Method = "project",
    start: float | None = DEFAULT_START,
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
        field whose channels are not the prior's; a ``known`` of another shape or type; a theta, start or number of
        draws out of range; a guess without start.
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
    _check_numbers(draws, steps, start)
    if method not in METHODS:
        raise ValueError(f"method = {method!r}: accepted are {', '.join(METHODS)}")
    if not 0.0 <= theta <= 1.0:
        raise ValueError(f"theta = {theta}: a share of the steps, accepted is 0 to 1")
    init = _initial(values, mask, start, guess)
    skip = _first_level(steps, start)
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
    return _draws(draw, key, key, draws, progress)[:, : shape[0], : shape[1], : shape[2]]


def expand(
    key: Key,
    prior: Prior,
    slices: Mapping[str, Float[ArrayLike, "_ _ h"]],
    shape: tuple[int, int, int],
    *,
    draws: int = 1,
    steps: int = 25,
    start: float | None = DEFAULT_START,
    periodic_slices: bool = False,
    budget: int = 50,
    churn: Churn | None = EDM_CHURN,
    tile: int | None = None,
    overlap: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Float[Array, "draws nx ny nz h"]:
    """Draws periodic volumes whose orthogonal two-point statistics are those of 2D maps (Alg. 5).

    The targets come from the maps alone (`conditioners.slice_targets`), whose relative position does not matter.

    Args:
      key: PRNG key; draw ``i`` depends on ``fold_in(key, i)`` alone.
      prior: unconditional model.
      slices: ``"x"``, ``"y"`` or ``"z"``, the axis a map is normal to, to its channels ``(n, m, h)`` on the other two
        axes in order. One to three maps, of any size: lags that a map is too small for are left to the prior.
      shape: grid of the volumes, each side a multiple of the network's stride.
      draws: independent draws.
      steps: steps N of the whole schedule.
      start: noise level at which the draw starts from a random field with the targets' statistics; None starts from
        pure noise.
      periodic_slices: whether the maps wrap around; measured maps do not.
      budget: most gradient evaluations per step.
      churn: fresh noise per step; it replaces the noise that matching takes out of the state, so keep it.
      tile: side of the tiles the denoiser is evaluated in; None for the whole volume.
      overlap: voxels shared by neighbouring tiles; default a quarter of the tile.
      progress: called after each draw with the number of draws done.

    Returns:
      ``(draws, nx, ny, nz, h)``.

    Raises:
      ValueError: no maps; an unknown axis; maps that are not finite or whose channels are not the prior's; a shape the
        network cannot take.
      FloatingPointError: a draw that is not finite, with the seed.

    >>> from polymicros_jax.models.unet3d import UNet3DConfig
    >>> prior = Prior({}, UNet3DConfig(channels=9), 0.5, "gsh4")  # in practice `load_prior`; nothing is drawn here
    >>> section = np.zeros((40, 40, 9), np.float32)
    >>> expand(jax.random.key(0), prior, {"z": section}, (30, 30, 30))
    Traceback (most recent call last):
        ...
    ValueError: shape = (30, 30, 30): three multiples of 4, the stride of the network, are needed
    """
    _check_slices(prior, slices, shape)
    _check_numbers(draws, steps, start)
    target_key, draw_key = jax.random.split(key)
    targets = slice_targets(target_key, slices, shape, kind=prior.orientations, periodic=periodic_slices)
    skip = min(_first_level(steps, start), steps - 1)
    condition = two_point(targets.planes, targets.mean, budget=budget)
    draw = functools.partial(
        _grow,
        prior=prior,
        condition=condition,
        shape=shape,
        steps=steps,
        skip=skip,
        churn=churn,
        tile=tile,
        overlap=overlap,
    )
    return _draws(draw, draw_key, key, draws, progress)


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
    denoise = _denoiser(prior, "replicate", tile, overlap)
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


@functools.partial(jax.jit, static_argnames=("shape", "steps", "skip", "churn", "tile", "overlap"))
def _grow(
    key: Key,
    prior: Prior,
    condition: TwoPoint,
    *,
    shape: tuple[int, int, int],
    steps: int,
    skip: int,
    churn: Churn | None,
    tile: int | None,
    overlap: int | None,
) -> Array:
    """A draw of `expand`; compiled once per shape and setting."""
    denoise = _denoiser(prior, "periodic", tile, overlap)
    sigmas = karras(steps)
    start_key, draw_key = jax.random.split(key)
    init = jnp.zeros((*shape, prior.network.channels))
    if skip > 0:
        init = condition.match(jax.random.normal(start_key, init.shape), 0.0).field
    return sample(draw_key, denoise, init, sigmas, skip=skip, condition=condition, churn=churn)


def _denoiser(prior: Prior, padding: Padding, tile: int | None, overlap: int | None) -> Denoiser:
    if tile is None:
        return prior.denoiser(padding)
    # A tile is an open box even where the volume wraps: the wrapping is in which voxels the tile holds.
    return tiled(
        prior.denoiser("replicate"),
        tile,
        tile // 4 if overlap is None else overlap,
        periodic=padding == "periodic",
        multiple=prior.network.stride,
    )


def _draws(
    draw: Callable[[Key], Array], key: Key, given: Key, draws: int, progress: Callable[[int], None] | None
) -> Array:
    """One draw after the other, each found to be finite: a silent NaN would reach every figure."""
    fields = []
    for number in range(draws):
        fields.append(draw(jax.random.fold_in(key, number)))
        if not np.isfinite(np.asarray(fields[-1])).all():
            raise FloatingPointError(f"draw {number} of key {jax.random.key_data(given).tolist()} is not finite")
        if progress is not None:
            progress(number + 1)
    return jnp.stack(fields)


def _first_level(steps: int, start: float | None) -> int:
    """Index of the first level of the schedule at or below ``start``."""
    if start is None:
        return 0
    return int(np.argmax(np.asarray(karras(steps)) <= start))


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
    if (skip := _first_level(steps, start)) == steps:
        return 0
    drawn = evaluations(steps, skip, repeats if method == "replace" else 1)
    free = evaluations(steps, _last_free(steps, _absolute(steps, skip, theta)))
    return drawn + free if method == "renoise" else drawn


def growing_evaluations(steps: int, start: float | None) -> int:
    """The same for `expand`."""
    return evaluations(steps, min(_first_level(steps, start), steps - 1))


def _initial(values: np.ndarray, mask: np.ndarray, start: float | None, guess: ArrayLike | None) -> np.ndarray:
    """The field a draw starts from; at a start from pure noise only its shape and type count."""
    if start is None:
        if guess is not None:
            raise ValueError("guess: needs a start, the noise level at which the draw leaves it")
        return np.where(mask[..., None], values, 0.0).astype(values.dtype)
    if guess is None:
        return linear(values, mask)
    init = np.where(mask[..., None], values, np.asarray(guess)).astype(values.dtype)
    if not np.isfinite(init).all():
        raise ValueError("guess: holds values that are not finite at unknown voxels")
    return init


def _check_numbers(draws: int, steps: int, start: float | None) -> None:
    if draws < 1:
        raise ValueError(f"draws = {draws}: at least 1")
    if steps < 2:
        raise ValueError(f"steps = {steps}: the schedule needs at least 2")
    if start is not None and not start >= 0.0:
        raise ValueError(f"start = {start}: a noise level of at least 0, or None for pure noise")


def _checked_field(prior: Prior, field: ArrayLike, known: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    values, mask = np.asarray(field), np.asarray(known)
    if values.shape[-1] != prior.network.channels:
        raise ValueError(
            f"field has {values.shape[-1]} channels: the prior ({prior.representation}) takes {prior.network.channels}"
        )
    if mask.dtype != bool or mask.shape != values.shape[:-1] or mask.ndim != 3:
        raise ValueError(
            f"known: found {mask.dtype} of shape {mask.shape}; accepted is bool of the field's shape without its "
            f"channels, {values.shape[:-1]}, on three axes"
        )
    if not mask.any():
        raise ValueError("known: no voxel is True, so nothing constrains the draw; sample the prior instead")
    if mask.all():
        raise ValueError("known: every voxel is True, so nothing is missing")
    bad = int((~np.isfinite(values[mask])).any(axis=-1).sum())
    if bad:
        raise ValueError(f"field: {bad} known voxels are not finite; set known to False there")
    return values, mask


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
