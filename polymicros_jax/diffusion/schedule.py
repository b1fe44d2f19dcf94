"""Noise levels visited by the sampler."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def karras(
    steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> Float[Array, " steps_plus_one"]:
    """Noise levels spaced evenly in ``sigma^(1/rho)``, then exactly zero (Karras et al. 2022, Eq. 5).

    Args:
      steps: number of steps N, at least 2.
      sigma_min: last level before zero, a standard deviation in units of the data.
      sigma_max: first level.
      rho: warping exponent; larger puts more steps at low noise.

    Returns:
      ``(steps + 1,)`` falling from ``sigma_max`` to 0.

    Raises:
      ValueError: fewer than two steps, or levels that do not fall.

    >>> karras(4).round(3).tolist()
    [80.0, 9.723001, 0.47, 0.002, 0.0]
    """
    if steps < 2:
        raise ValueError(f"steps = {steps}: the schedule needs at least 2")
    if not 0.0 < sigma_min < sigma_max:
        raise ValueError(f"sigma_min = {sigma_min}, sigma_max = {sigma_max}: accepted is 0 < sigma_min < sigma_max")
    ramp = jnp.linspace(0.0, 1.0, steps)
    levels = (sigma_max ** (1 / rho) + ramp * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho
    return jnp.concatenate([levels, jnp.zeros(1, levels.dtype)])
