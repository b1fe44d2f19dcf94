"""Second-order stochastic sampler with conditioning after each step (Karras et al. 2022, Alg. 2; PolyMicros Alg. 2)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
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
      ValueError: ``skip`` outside ``0 <= skip < N``, or ``repeats`` below 1.

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
    sigmas = sigmas.astype(init.dtype)
    init_key, loop_key = jax.random.split(key)
    start = sigmas[skip] * jax.random.normal(init_key, init.shape, init.dtype)
    x = start if skip == 0 else init + start

    def churned(x: Array, step_key: Key, sigma: Array) -> tuple[Array, Array, Key]:
        noise_key, condition_key = jax.random.split(step_key)
        if churn is None:
            return x, sigma, condition_key
        raised = sigma * (1.0 + churn.gamma(sigma, steps))
        square = raised**2 - sigma**2
        above = square > 0  # where no noise is added, the root would make the gradient of the levels NaN
        extra = jnp.where(above, jnp.sqrt(jnp.where(above, square, 1.0)), 0.0) * churn.noise
        return x + extra * jax.random.normal(noise_key, x.shape, x.dtype), raised, condition_key

    def conditioned(x: Array, index: Array, sigma: Array, condition_key: Key) -> Array:
        if condition is None:
            return x
        return condition(x, Step(index=index, count=jnp.asarray(steps), sigma=sigma, key=condition_key))

    def heun_step(x: Array, index: Array, step_key: Key) -> Array:
        now, after = sigmas[index], sigmas[index + 1]
        x_hat, raised, condition_key = churned(x, step_key, now)

        def stage(carry: tuple[Array, Array], at: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
            (point, slopes), (sigma, count) = carry, at
            # At sigma = 0 there is no slope, and the first stands for it: the step to zero is the denoiser itself. The
            # level is replaced there because a division by zero, though not taken, leaves NaN in the gradient.
            level = jnp.where(sigma > 0, sigma, 1.0)
            slope = lax.cond(sigma > 0, lambda: (point - denoise(point, level)) / level, lambda: slopes)
            slopes = slopes + slope
            return (x_hat + (after - raised) * slopes / count, slopes), None

        stages = jnp.stack([raised, after]), jnp.array([1.0, 2.0], x.dtype)
        (x, _), _ = lax.scan(stage, (x_hat, jnp.zeros_like(x_hat)), stages)
        return conditioned(x, index, after, condition_key)

    def one_pass(x: Array, at: tuple[Array, Array]) -> tuple[Array, None]:
        index, number = at
        step_key = jax.random.fold_in(loop_key, index)
        if repeats == 1:
            return heun_step(x, index, step_key), None
        # The first pass has a key of its own too: `split` and `fold_in` give the same keys, so that from `step_key`
        # itself the key of its projection would be the one of the first way back.
        pass_key = jax.random.fold_in(step_key, number)
        back_key, again_key = jax.random.split(pass_key)
        rise = jnp.where(number > 0, jnp.sqrt(sigmas[index] ** 2 - sigmas[index + 1] ** 2), 0.0)
        x = x + rise * jax.random.normal(back_key, x.shape, x.dtype)
        first_key = jnp.where(index < steps - 1, pass_key, step_key)
        return heun_step(x, index, jnp.where(number > 0, again_key, first_key)), None

    # One scan over all passes with one place where the denoiser is called: compiling a network takes longer than all
    # the rest, and each place takes as long again.
    indices = jnp.append(jnp.repeat(jnp.arange(skip, steps - 1), repeats), steps - 1)
    numbers = jnp.append(jnp.tile(jnp.arange(repeats), steps - 1 - skip), 0)
    return lax.scan(one_pass, x, (indices, numbers))[0]
