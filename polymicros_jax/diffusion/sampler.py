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
        slope = (x_hat - denoise(x_hat, raised)) / raised
        euler = x_hat + (after - raised) * slope
        end_slope = (euler - denoise(euler, after)) / after
        x = x_hat + (after - raised) * 0.5 * (slope + end_slope)
        return conditioned(x, index, after, condition_key)

    def repeated_step(x: Array, index: Array) -> tuple[Array, None]:
        step_key = jax.random.fold_in(loop_key, index)
        if repeats == 1:
            return heun_step(x, index, step_key), None

        def again(x: Array, number: Array) -> tuple[Array, None]:
            back_key, repeat_key = jax.random.split(jax.random.fold_in(step_key, number))
            rise = jnp.sqrt(sigmas[index] ** 2 - sigmas[index + 1] ** 2)
            return heun_step(x + rise * jax.random.normal(back_key, x.shape, x.dtype), index, repeat_key), None

        # The first pass has a key of its own too: `split` and `fold_in` give the same keys, so that from `step_key`
        # itself the key of its projection would be the one of the first way back.
        x = heun_step(x, index, jax.random.fold_in(step_key, 0))
        return lax.scan(again, x, jnp.arange(1, repeats))[0], None

    x, _ = lax.scan(repeated_step, x, jnp.arange(skip, steps - 1))
    # The step to sigma = 0 is the denoiser itself. It stands outside the scan because the second slope divides by the
    # noise level: a `where` inside would leave NaN in the gradient.
    last = jnp.asarray(steps - 1)
    x_hat, raised, condition_key = churned(x, jax.random.fold_in(loop_key, last), sigmas[steps - 1])
    return conditioned(denoise(x_hat, raised), last, sigmas[steps], condition_key)
