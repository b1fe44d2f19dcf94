"""What a conditioner is, and how conditioners compose. No physics here.

A *projection* acts on the state after each sampler step (the F_cond of Alg. 2); a *guide* turns a denoiser into a
denoiser. Both are pytrees that own their observation as leaves, so that five observations of one shape cost one trace.
Both compose by a left fold: ``compose(a, b)`` applies ``a`` first.
"""

import dataclasses
from collections.abc import Sequence
from functools import reduce
from typing import Protocol, runtime_checkable

import flax.struct
import jax
from jaxtyping import Array, Float

from polymicros_jax.diffusion.preconditioning import Denoiser


@flax.struct.dataclass
class Step:
    """Where the sampler is when a projection runs.

    Attributes:
      index: number of the step just taken, from 0.
      count: number of steps N in the whole schedule.
      sigma: noise level of the state, the standard deviation after the step.
      key: PRNG key that no other use shares.
    """

    index: jax.Array
    count: jax.Array
    sigma: jax.Array
    key: jax.Array


@runtime_checkable
class Projection(Protocol):
    """Acts on the state after a step."""

    def __call__(self, x: Float[Array, "*shape"], step: Step) -> Float[Array, "*shape"]:
        """The projected state."""
        ...


@runtime_checkable
class Guide(Protocol):
    """Turns a denoiser into a denoiser that knows more."""

    def __call__(self, denoise: Denoiser) -> Denoiser:
        """The guided denoiser."""
        ...


@flax.struct.dataclass
class Composition:
    """Projections applied in order; itself a projection."""

    parts: tuple[Projection, ...]

    def __call__(self, x: Float[Array, "*shape"], step: Step) -> Float[Array, "*shape"]:
        """Applies the first part, then the second, and so on."""
        for number, part in enumerate(self.parts):
            x = part(x, dataclasses.replace(step, key=jax.random.fold_in(step.key, number)))
        return x


def compose(*projections: Projection) -> Composition:
    """One projection that applies the given ones in order. Projections need not commute: the last one wins.

    >>> import jax.numpy as jnp
    >>> double, shift = (lambda x, step: 2 * x), (lambda x, step: x + 1)
    >>> step = Step(*jnp.zeros(3), jax.random.key(0))
    >>> float(compose(double, shift)(jnp.array(5.0), step)), float(compose(shift, double)(jnp.array(5.0), step))
    (11.0, 12.0)
    """
    return Composition(parts=projections)


def guided(denoise: Denoiser, guides: Sequence[Guide]) -> Denoiser:
    """The denoiser wrapped by each guide in turn; the last guide is outermost.

    >>> half = lambda denoise: lambda x, sigma: denoise(x, sigma) / 2
    >>> guided(lambda x, sigma: x, [half, half])(8.0, 1.0)
    2.0
    """
    return reduce(lambda inner, guide: guide(inner), guides, denoise)
