"""Two-point statistics on orthogonal planes as a condition: dimensionality expansion (Alg. 5).

The paper descends the gradient several thousand times between two diffusion steps. Here a few recolouring sweeps
(`plane_spectra`) bring the state near and L-BFGS finishes, within a fixed budget of gradient evaluations.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from polymicros_jax.conditioners.channel_means import with_mean
from polymicros_jax.conditioners.plane_spectra import plane_roots, recolour
from polymicros_jax.diffusion.conditioning import Step
from polymicros_jax.diffusion.preconditioning import Denoiser
from polymicros_jax.spectral.two_point import orthogonal_planes
from polymicros_jax.types import ArrayLike

# Evaluations one line search may take. The first guess is accepted nearly always once L-BFGS has a history.
_LINE_SEARCH = 6
LEAST_BUDGET = 1 + _LINE_SEARCH
_MEMORY = 10
# Share of the largest stiffness that no mode is taken to be below. Smaller ones change little (32^3 of Inconel 100: 150
# evaluations to 1e-5 with 1e-3, 140 with 1e-4, 202 with 1e-2).
_LEAST_STIFFNESS = 1e-3
# The same where lags are missing. Covariances with gaps have no spectrum, and with noughts in them one whose weak modes
# are those of the gaps.
_LEAST_STIFFNESS_OF_GAPS = 1e-2


class Match(NamedTuple):
    """Outcome of an optimisation.

    Attributes:
      field: the optimised field, or what it is made of.
      evaluations: evaluations of the objective with its gradient.
      error: largest absolute difference of a covariance on the planes.
    """

    field: jax.Array
    evaluations: jax.Array
    error: jax.Array


@flax.struct.dataclass
class TwoPoint:
    """Optimises the state after each step until its orthogonal two-point statistics match targets (Alg. 5).

    The threshold on the largest absolute difference falls as ``rho(t) = (N - t) slope + floor``, ``t`` the number of
    steps taken. The paper thresholds an average; the largest difference is the stricter reading. Covariances about
    the mean and the mean are held separately, which is the same as matching correlations, and lets the mean be
    restored exactly without undoing the match. As in the paper the *state* is matched, its noise included: with churn
    the next step adds fresh noise. Not reverse-differentiable (a while loop).

    Attributes:
      planes: for each matched normal ``"x"``, ``"y"``, ``"z"`` the target covariances ``(n, m, h, h)``.
      roots: `plane_roots` of the same.
      mean: ``(h,)`` target of the channel means.
      slope: ``1e-5`` in the paper.
      floor: ``1e-7`` in the paper.
      budget: most gradient evaluations per step.
      sweeps: recolouring sweeps before the optimisation.
    """

    planes: dict[str, jax.Array]
    roots: dict[str, jax.Array]
    mean: jax.Array
    slope: jax.Array | float = 1e-5
    floor: jax.Array | float = 1e-7
    budget: int = flax.struct.field(pytree_node=False, default=50)
    sweeps: int = flax.struct.field(pytree_node=False, default=4)

    def __call__(self, x: Float[Array, "nx ny nz h"], step: Step) -> Float[Array, "nx ny nz h"]:
        """The matched state with its mean restored."""
        return self.match(x, self.slope * (step.count - step.index - 1) + self.floor).field

    def match(self, x: Float[Array, "nx ny nz h"], threshold: Float[Array, ""] | float) -> Match:
        """Matches a field to the given largest absolute difference, or until the budget is spent."""
        start = recolour(x, self.roots, self.sweeps) if self.sweeps else x
        found = minimise(start, self.planes, threshold, self.budget)
        return found._replace(field=with_mean(found.field, self.mean))


@flax.struct.dataclass
class TwoPointGuide:
    """Matches the denoised field down to a noise level and then leaves it to the prior: a guide.

    `TwoPoint` forces the statistics of a few maps on a volume to the last digit. They are those of a small sample, and
    between crystals and their exact values a volume can seldom have both: the planes of a 32^3 field of GSH-4 hold more
    numbers than its orientations. Matched while the noise is high, the statistics lay out grains and texture; the
    prior, free below ``until``, makes grains of it.

    Attributes:
      condition: what is matched; its ``budget`` holds for each match.
      until: noise level at and below which nothing is matched.
      threshold: largest difference of a covariance that ends a match.

    >>> wanted = jax.random.normal(jax.random.key(0), (4, 4, 4, 1))
    >>> guide = TwoPointGuide(two_point(plane_covariances(2.0 * wanted), jnp.zeros(1)), until=1.0)
    >>> matched = guide(lambda x, sigma: x)
    >>> [round(float(jnp.var(matched(wanted, sigma)) / jnp.var(wanted)), 2) for sigma in (2.0, 1.0)]
    [4.0, 1.0]
    """

    condition: TwoPoint
    until: ArrayLike | float = 1.0
    threshold: jax.Array | float = 1e-3

    def __call__(self, denoise: Denoiser) -> Denoiser:
        """The guided denoiser; takes one field and one noise level. Not reverse-differentiable."""

        def guided(
            x: Float[ArrayLike, "nx ny nz h"], sigma: Float[ArrayLike, ""] | float
        ) -> Float[Array, "nx ny nz h"]:
            estimate = denoise(x, sigma)
            return jax.lax.cond(
                jnp.asarray(sigma) > self.until,
                lambda field: self.condition.match(field, self.threshold).field,
                lambda field: field,
                estimate,
            )

        return guided


def two_point(
    planes: Mapping[str, Float[Array, "_ _ h h"]], mean: Float[Array, " h"], *, budget: int = 50, sweeps: int = 4
) -> TwoPoint:
    """Condition on given plane covariances, which some volume must be able to have: see `slice_targets`.

    Lags that are NaN are not matched; the recolouring, which needs all, takes them for zero.
    """
    filled = {name: jnp.where(jnp.isnan(plane), 0.0, plane) for name, plane in planes.items()}
    return TwoPoint(planes=dict(planes), roots=plane_roots(filled), mean=mean, budget=budget, sweeps=sweeps)


def plane_covariances(x: Float[ArrayLike, "nx ny nz h"]) -> dict[str, Float[Array, "_ _ h h"]]:
    """Two-point covariances on the three planes through zero lag; periodic.

    >>> x = jnp.arange(2.0)[:, None, None, None] * jnp.ones((2, 2, 2, 1))
    >>> planes = plane_covariances(x)
    >>> planes["z"][..., 0, 0].round(3).tolist(), planes["x"][..., 0, 0].round(3).tolist()
    ([[0.25, 0.25], [-0.25, -0.25]], [[0.25, 0.25], [0.25, 0.25]])
    """
    x = jnp.asarray(x)
    return orthogonal_planes(x - jnp.mean(x, axis=(0, 1, 2), keepdims=True))


def minimise(
    x: Float[Array, "nx ny nz c"],
    planes: Mapping[str, Float[Array, "_ _ h h"]],
    threshold: Float[Array, ""] | float,
    budget: int,
    *,
    field: Callable[[Array], Array] | None = None,
    mean: Float[Array, " h"] | None = None,
) -> Match:
    """L-BFGS on the squared differences of plane covariances. Targets that are NaN (missing lags) are not matched.

    A mode of the field moves the covariances of a plane in proportion to what the plane's spectrum holds at its
    wavenumber: the Gauss-Newton Hessian of the summed squares, per voxel, is at most 8 times the sum over planes of the
    traces of their spectra there. In measured fields that sum spans three orders of magnitude, and so would the rates
    at which modes converge. Where ``x`` is the field, L-BFGS therefore works on modes multiplied by its root.

    Args:
      x: field to start from, or what the field is made of.
      planes: targets.
      threshold: stops once the largest absolute difference is at most this.
      budget: most evaluations of the objective with its gradient; never exceeded.
      field: ``x`` to the field ``(nx, ny, nz, h)``; by default ``x`` is the field.
      mean: what the mean of the field is drawn to besides; by default it is free.

    Returns:
      The last ``x``: the line search never lets the objective rise.

    Raises:
      ValueError: a budget that has no room for a step.
    """
    if budget < LEAST_BUDGET:
        raise ValueError(f"budget = {budget}: accepted is at least {LEAST_BUDGET}, the start and one line search")
    # In the precision of the field, whatever that of the targets.
    planes = {name: jnp.asarray(plane, x.dtype) for name, plane in planes.items()}
    size = float(x[..., 0].size) ** 0.5
    # The Hessian of the summed squares is at most 8 stiffnesses per voxel. In these units it is at most one, so that
    # the first step of L-BFGS, along the gradient, has about the right length.
    grid = (x.shape[0], x.shape[1], x.shape[2])
    stiffness = _stiffness(planes, grid)
    if field is None:
        # A start with more in a mode than the targets is the stiffer for it.
        found = plane_covariances(x)
        stiffness = jnp.maximum(stiffness, _stiffness({name: found[name] for name in planes}, grid))
    scale = 1.0 / (8.0 * jnp.max(stiffness))
    softness = jnp.sqrt(jnp.max(stiffness) / stiffness)

    def unscaled(y: Array) -> Array:
        return size * (_filtered(y, softness) if field is None else y)

    def made(y: Array) -> Array:
        return unscaled(y) if field is None else field(unscaled(y))

    def differences(y: Array) -> list[Array]:
        found = plane_covariances(made(y))
        return [jnp.where(jnp.isnan(plane), 0.0, found[name] - plane) for name, plane in planes.items()]

    def objective(y: Array) -> Array:
        squares = sum((jnp.sum(jnp.square(d)) for d in differences(y)), start=jnp.zeros((), y.dtype))
        astray = 0.0 if mean is None else jnp.sum(jnp.square(jnp.mean(made(y), axis=(0, 1, 2)) - mean))
        return scale * squares + astray

    def largest(y: Array) -> Array:
        return jnp.max(jnp.stack([jnp.max(jnp.abs(d)) for d in differences(y)]))

    search = optax.scale_by_zoom_linesearch(max_linesearch_steps=_LINE_SEARCH, initial_guess_strategy="one")
    solver = optax.lbfgs(memory_size=_MEMORY, linesearch=search)
    value_and_grad = optax.value_and_grad_from_state(objective)

    def unfinished(carry: tuple[Any, ...]) -> Array:
        return (carry[3] > threshold) & (carry[2] + _LINE_SEARCH <= budget)

    def iterate(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        y, state, evaluations, _ = carry
        value, gradient = value_and_grad(y, state=state)
        updates, state = solver.update(gradient, state, y, value=value, grad=gradient, value_fn=objective)
        y = optax.apply_updates(y, updates)
        return y, state, evaluations + state[-1].info.num_linesearch_steps, largest(y)

    y = x / size if field is not None else _filtered(x / size, 1.0 / softness)
    # The first evaluation, at the start, is not one of a line search.
    carry = (y, solver.init(y), jnp.asarray(1), largest(y))
    y, _, evaluations, error = jax.lax.while_loop(unfinished, iterate, carry)
    return Match(field=unscaled(y), evaluations=evaluations, error=error)


def _stiffness(
    planes: Mapping[str, Float[Array, "_ _ h h"]], grid: tuple[int, int, int]
) -> Float[Array, "nx ny half 1"]:
    """How fast the covariances change with each mode of a field that has them: the trace of the summed spectra."""
    total, gaps = jnp.zeros(grid, jnp.result_type(*planes.values())), jnp.asarray(False)
    for axis, name in enumerate("xyz"):
        if name in planes:
            missing = jnp.isnan(planes[name])
            gaps = gaps | jnp.any(missing)
            variances = jnp.trace(jnp.where(missing, 0.0, planes[name]), axis1=-2, axis2=-1)
            spectrum = jnp.maximum(jnp.real(jnp.fft.fft2(variances)), 0.0)
            total = total + jnp.expand_dims(spectrum, axis)
    largest = jnp.maximum(jnp.max(total), jnp.finfo(total.dtype).tiny ** 0.5)
    # No plane knows of the mean, which is not to be softer than anything else for that.
    least = jnp.where(gaps, _LEAST_STIFFNESS_OF_GAPS, _LEAST_STIFFNESS)
    floored = jnp.maximum(total, least * largest).at[0, 0, 0].set(largest)
    return floored[:, :, : grid[2] // 2 + 1, None]


def _filtered(x: Float[Array, "nx ny nz c"], gains: Float[Array, "nx ny half 1"]) -> Float[Array, "nx ny nz c"]:
    modes = gains * jnp.fft.rfftn(x, axes=(0, 1, 2))
    return jnp.fft.irfftn(modes, s=x.shape[:3], axes=(0, 1, 2)).astype(x.dtype)
