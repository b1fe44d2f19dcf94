"""Second-order stochastic sampler with conditioning after each step (Karras et al. 2022, Alg. 2; PolyMicros Alg. 2)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from polymicros_jax.diffusion.conditioning import Projection, Step
from polymicros_jax.diffusion.preconditioning import Denoiser
from polymicros_jax.types import ArrayLike, Key


class Churn(NamedTuple):
    """Fresh noise added before each step (Karras et al. 2022, Alg. 2). The defaults are the reference values of EDM.

    Attributes:
      amount: S_churn; over N steps the level rises by ``amount / N`` of itself each, but by no more than sqrt(2) - 1.
      sigma_min: S_tmin, level below which no noise is added.
      sigma_max: S_tmax, level above which none is.
      noise: S_noise, standard deviation of the added noise in units of what the rise asks for.
    """

    amount: float = 40.0
    sigma_min: float = 0.05
    sigma_max: float = 50.0
    noise: float = 1.003

    def gamma(self, sigma: Float[Array, ""], steps: int) -> Float[Array, ""]:
        """Relative rise of the noise level before a step at ``sigma``."""
        inside = (sigma >= self.sigma_min) & (sigma <= self.sigma_max)
        return jnp.where(inside, min(self.amount / steps, 2.0**0.5 - 1.0), 0.0)


EDM_CHURN = Churn()

_Three = tuple[Array, Array, Array]  # what the scan over evaluations carries, and what it is told of each


def evaluations(steps: int, skip: int = 0, repeats: int = 1) -> int:
    """Calls of the denoiser in one draw of `sample`: two a step, one in the last."""
    return 2 * (steps - 1 - skip) * repeats + 1


def sample(
    key: Key,
    denoise: Denoiser,
    init: Float[ArrayLike, "*shape"],
    sigmas: Float[ArrayLike, " levels"],
    *,
    skip: int = 0,
    condition: Projection | None = None,
    churn: Churn | None = EDM_CHURN,
    repeats: int = 1,
) -> Float[Array, "*shape"]:
    """Draws a field from the prior that ``denoise`` represents, optionally conditioned.

    Args:
      key: PRNG key. The draw is a function of the key and the other arguments alone; map over keys for several draws.
      denoise: ``denoise(x, sigma)``, estimate of the clean field.
      init: at ``skip = 0`` only its shape and dtype are used; at ``skip > 0`` the field to start from (SDEdit).
      sigmas: ``(N + 1,)`` noise levels falling to exactly 0, e.g. from `schedule.karras`.
      skip: number of steps left out at the noisy end; the draw starts from ``init`` plus noise of standard deviation
        ``sigmas[skip]``.
      condition: projection applied to the state **after** each step, as in Alg. 2.
      churn: fresh noise per step; None gives the deterministic solver.
      repeats: times each step but the last is taken, going back by fresh noise in between: the resampling of RePaint
        (Lugmayr et al. 2022), which lets the rest of the field agree with what ``condition`` imposed. Costs as many
        times the evaluations.

    Returns:
      The draw, of the shape of ``init``.

    Raises:
      ValueError: ``skip`` outside ``0 <= skip < N``, ``repeats`` below 1, or levels that do not fall to 0 (checked
        where they are concrete).

    >>> from polymicros_jax.diffusion.schedule import karras
    >>> denoise = lambda x, sigma: x / (1 + sigma**2)  # exact for white data of variance 1
    >>> draw = sample(jax.random.key(0), denoise, jnp.zeros((64, 64)), karras(40))
    >>> round(float(draw.mean()), 1), round(float(draw.std()), 1)
    (0.0, 1.0)
    """
    init, sigmas = jnp.asarray(init), jnp.asarray(sigmas)
    steps = sigmas.shape[0] - 1
    if not 0 <= skip < steps:
        raise ValueError(f"skip = {skip}: accepted is 0 <= skip < {steps}, the number of steps")
    if repeats < 1:
        raise ValueError(f"repeats = {repeats}: each step is taken at least once")
    if not isinstance(sigmas, jax.core.Tracer):
        levels = np.asarray(sigmas)
        if levels[-1] != 0 or not np.all(np.diff(levels) < 0):
            raise ValueError(f"sigmas: found {levels.round(4).tolist()}, accepted are levels that fall to exactly 0")
    sigmas = sigmas.astype(init.dtype)
    init_key, loop_key = jax.random.split(key)
    start = sigmas[skip] * jax.random.normal(init_key, init.shape, init.dtype)
    x = start if skip == 0 else init + start

    def raised(sigma: Array) -> Array:
        return sigma if churn is None else sigma * (1.0 + churn.gamma(sigma, steps))

    def keys(index: Array, number: Array) -> tuple[Key, Key, Key]:
        """Of the way back, the churn and the projection of one pass."""
        step_key = jax.random.fold_in(loop_key, index)
        if repeats == 1:
            return step_key, *jax.random.split(step_key)
        # The first pass has a key of its own too: `split` and `fold_in` give the same keys, so that from `step_key`
        # itself the key of its projection would be the one of the first way back.
        pass_key = jax.random.fold_in(step_key, number)
        back_key, again_key = jax.random.split(pass_key)
        first_key = jnp.where(index < steps - 1, pass_key, step_key)
        return back_key, *jax.random.split(jnp.where(number > 0, again_key, first_key))

    def started(x: Array, index: Array, number: Array) -> Array:
        """The state with the noise a pass starts with: the way back to the level of the step, and the churn."""
        (back_key, noise_key, _), sigma = keys(index, number), sigmas[index]
        if repeats > 1:
            rise = jnp.where(number > 0, jnp.sqrt(sigma**2 - sigmas[index + 1] ** 2), 0.0)
            x = x + rise * jax.random.normal(back_key, x.shape, x.dtype)
        if churn is None:
            return x
        square = raised(sigma) ** 2 - sigma**2
        above = square > 0  # where no noise is added, the root would make the gradient of the levels NaN
        extra = jnp.where(above, jnp.sqrt(jnp.where(above, square, 1.0)), 0.0) * churn.noise
        return x + extra * jax.random.normal(noise_key, x.shape, x.dtype)

    def conditioned(x: Array, index: Array, number: Array) -> Array:
        if condition is None:
            return x
        *_, key = keys(index, number)
        return condition(x, Step(index=index, count=jnp.asarray(steps), sigma=sigmas[index + 1], key=key))

    def evaluation(carry: _Three, at: _Three) -> tuple[_Three, None]:
        """Asks the denoiser once, and goes from the start of the step along the mean of the slopes found in it."""
        (x, start, slope), (index, number, second) = carry, at
        now, after = raised(sigmas[index]), sigmas[index + 1]
        x, start = lax.cond(second, lambda: (x, start), lambda: (started(x, index, number),) * 2)
        level = jnp.where(second, after, now)
        here = (x - denoise(x, level)) / level
        slope = jnp.where(second, 0.5 * (slope + here), here)
        x = start + (after - now) * slope
        done = second | (index == steps - 1)
        return (lax.cond(done, lambda: conditioned(x, index, number), lambda: x), start, slope), None

    # One scan over all evaluations has one place where the denoiser is called: compiling a network takes longer than
    # all the rest, and every further place adds as much. The step to sigma = 0 has one evaluation, whose slope leads to
    # the estimate itself; a second would divide by zero.
    passes = [(index, number) for index in range(skip, steps - 1) for number in range(repeats)]
    order = [(*each, second) for each in passes for second in (False, True)] + [(steps - 1, 0, False)]
    index, number, second = (jnp.asarray(each) for each in zip(*order, strict=True))
    return lax.scan(evaluation, (x, x, jnp.zeros_like(x)), (index, number, second))[0][0]
