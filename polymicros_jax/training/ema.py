"""Averages of the parameters over the steps of a training."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from polymicros_jax.types import Params


class EmaLaw(NamedTuple):
    """How fast the average forgets.

    Attributes:
      decay: upper bound of the weight kept per step. The paper's 0.9 is an average over ten steps only.
      power: with ``power > 0`` the weight kept at step t is ``(1 - 1/t)^(power + 1)`` up to ``decay``: the average
        spans a constant share of the training, short at first (Karras et al. 2024, arXiv 2312.02696, Eq. 121).
    """

    decay: float = 0.999
    power: float = 0.0

    def kept(self, step: Int[Array, ""]) -> Float[Array, ""]:
        """Weight of the old average at step ``step``, counted from 1."""
        if self.power <= 0.0:
            return jnp.asarray(self.decay, jnp.float32)
        return jnp.minimum(self.decay, (1.0 - 1.0 / step.astype(jnp.float32)) ** (self.power + 1.0))


SLOW_EMA = EmaLaw()


def update(average: Params, params: Params, kept: Float[Array, ""]) -> Params:
    """``kept * average + (1 - kept) * params``, leaf by leaf.

    >>> average = update({"w": jnp.array(1.0)}, {"w": jnp.array(2.0)}, jnp.array(0.9))
    >>> round(float(average["w"]), 3)
    1.1
    """
    return jax.tree.map(lambda old, new: new + kept * (old - new), average, params)
