"""What filling and growing share: the denoiser in tiles, the first level of a warm start, draws found to be finite."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from polymicros_jax.diffusion.preconditioning import Denoiser
from polymicros_jax.diffusion.schedule import karras
from polymicros_jax.diffusion.tiling import tiled
from polymicros_jax.models.layers import Padding
from polymicros_jax.training.prior import Prior
from polymicros_jax.types import Key


def tiled_denoiser(prior: Prior, padding: Padding, tile: int | None, overlap: int | None) -> Denoiser:
    """The prior's denoiser, evaluated in overlapping tiles of that side if there is one."""
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


def finite_draws(
    draw: Callable[[Key], Array],
    key: Key,
    given: Key,
    draws: int,
    progress: Callable[[int], None] | None,
    first: int = 0,
) -> Array:
    """One draw after the other, each found to be finite: a silent NaN would reach every figure.

    ``given`` is the caller's key, for the message; ``first`` the number of the first draw.
    """
    fields = []
    for number in range(first, first + draws):
        fields.append(draw(jax.random.fold_in(key, number)))
        if not np.isfinite(np.asarray(fields[-1])).all():
            raise FloatingPointError(f"draw {number} of key {jax.random.key_data(given).tolist()} is not finite")
        if progress is not None:
            progress(number + 1 - first)
    return jnp.stack(fields)


def first_level(steps: int, start: float | None) -> int:
    """Index of the first level of the schedule at or below ``start``."""
    if start is None:
        return 0
    return int(np.argmax(np.asarray(karras(steps)) <= start))


def check_prior(prior: object) -> None:
    """Raises TypeError where something else stands in the place of a prior."""
    if not isinstance(prior, Prior):
        hint = f": load_prior({prior!r})" if isinstance(prior, str) else ""
        raise TypeError(f"prior: found a {type(prior).__name__}, accepted is a Prior{hint}")


def check_numbers(draws: int, steps: int, start: float | None) -> None:
    """Raises ValueError where a number of draws or steps, or a start, makes no sense."""
    if draws < 1:
        raise ValueError(f"draws = {draws}: at least 1")
    if steps < 2:
        raise ValueError(f"steps = {steps}: the schedule needs at least 2")
    highest = float(karras(steps)[0])
    if start is not None and not 0.0 <= start < highest:
        raise ValueError(f"start = {start}: a noise level from 0 to below {highest:g}, or None for pure noise")
