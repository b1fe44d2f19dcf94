"""Design of experiments over MOSM parameters (Sec. 3.1, App. B.1).

Bounds belong to the representation of orientations, because the variance of the drawn field must match that of its
channels.

A proposed set is **accepted** when both hold:

- *decay*: on every face of the domain, ``|k_bg(r)|`` of the infinite-space kernel (Eq. 2, no images) stays below
  `EDGE_TOLERANCE` of the largest variance, for all pairs: the field then looks the same on the periodic and on the
  infinite domain;
- *feasibility*: in every channel, the expected share of voxels with ``|m| <= bounds.limit`` is at least
  ``bounds.feasible_share``. The field is Gaussian of variance ``k_bb(0)``, so the share is
  ``erf(limit / sqrt(2 k_bb(0)))`` and needs no draw. A hard limit on every one of two million voxels would reject a
  third of the sets for a handful of voxels.

Proposals come in Latin hypercubes of fixed size `BLOCK`, each seeded by ``(seed, block)``, and go on until enough are
accepted: the accepted sets are a function of the seed alone, and fewer sets are the beginning of more.
"""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from scipy import special
from scipy.stats import qmc

from polymicros_jax.spectral.mosm_kernel import MosmParams, kernel, required_band

BLOCK = 500
"""Proposals in a Latin hypercube; another number would be another design."""

CHUNK = 20
"""Proposals tested at a time; divides `BLOCK`."""

EDGE_TOLERANCE = 5e-4
"""Largest covariance on the faces of the domain, relative to the largest variance."""

EDGE_POINTS = 9
"""Points along an edge of a face at which that is looked at."""

MOST_BLOCKS_REJECTED = 20
"""Blocks after which a design ends that has accepted fewer than one set a block."""


@dataclasses.dataclass(frozen=True)
class Bounds:
    """A box of MOSM parameters and the range of the channels it is made for.

    Attributes:
        variance: range of A before `squared`.
        squared: whether the drawn A is squared, as the paper's released code does.
        mean: range of s.
        weight: range of w.
        delay: range of theta.
        limit: largest ``|m|`` of a feasible voxel, in any one channel.
        feasible_share: least share of feasible voxels of an accepted set.
        channels: number of channels of the representation.
    """

    variance: tuple[float, float] = (1.5, 5.0)
    squared: bool = False
    mean: tuple[float, float] = (-5.0, 5.0)
    weight: tuple[float, float] = (-0.02, 0.02)
    delay: tuple[float, float] = (-0.5, 0.5)
    limit: float = 1.0
    feasible_share: float = 0.9985
    channels: int = 3

    @property
    def band(self) -> int:
        """Largest wavenumber with any power for parameters within the bounds."""
        largest = self.variance[1] ** 2 if self.squared else self.variance[1]
        return required_band(max(abs(edge) for edge in self.mean), largest)


PRESETS: Mapping[str, Bounds] = {
    # App. B.1 as printed. Standard deviation of a channel about 0.21, near that of ROGSH under uniform texture.
    "paper": Bounds(),
    # The released code squares A. Standard deviation about 0.5, so a typical set leaves |m| <= 1 in one voxel of ten.
    "paper_squared": Bounds(squared=True, feasible_share=0.75),
    # GSH-4: standard deviation 1/2 in each of nine channels, and no channel exceeds the norm, 3/2. The mean variance of
    # a channel is Q E[w^2] (2 pi)^{3/2} E[sqrt|A|], which is 119 w_max^2 for Q = 4, so w_max = 0.0459 makes it 1/4.
    "gsh4": Bounds(weight=(-0.0459, 0.0459), limit=1.5, feasible_share=0.95, channels=9),
    # The hexagonal embedding has the same variance a channel and reaches 1.494. Of 27 channels the worst is worse: at
    # a share of 0.95 a third of the sets would be turned down, at 0.9 a sixth.
    "hex27": Bounds(weight=(-0.0459, 0.0459), limit=1.5, feasible_share=0.9, channels=27),
}
"""The paper's bounds as printed and as released, and those of the representations "gsh4" and "hex27"."""


@dataclasses.dataclass(frozen=True)
class DesignReport:
    """How a design was reached: proposals looked at, and how many failed each test (a set may fail both)."""

    proposed: int
    accepted: int
    failed_decay: int
    failed_feasibility: int

    @property
    def rejection_rate(self) -> float:
        """Share of the proposals that were turned down."""
        return 1 - self.accepted / self.proposed


def design(
    seed: int,
    count: int,
    *,
    mixtures: int = 4,
    channels: int | None = None,
    bounds: str | Bounds = "paper",
    dimensions: int = 3,
) -> tuple[MosmParams, DesignReport]:
    """Draws `count` accepted parameter sets and reports on the rejected ones.

    Args:
        seed: the accepted sets are a function of it (and of the arguments below) alone; `count` only says how many of
            them.
        count: number of sets.
        mixtures: Q; the paper uses 4.
        channels: h; None takes it from the bounds.
        bounds: name of a preset, or a box of one's own.
        dimensions: 3, or 2 for maps. The weights of the presets are made for 3: in 2 the same sets have about half the
            standard deviation, 0.24 instead of 0.49 for "gsh4"; `Bounds` with weights twice as wide make up for it.

    Returns:
        Parameters with a leading axis of length `count`, and the report over the proposals up to the last accepted set.

    Raises:
        ValueError: for an unknown preset, a count below 1, or bounds of which nearly nothing is accepted.

    >>> params, report = design(0, 2)
    >>> params.mean.shape, report.accepted
    ((2, 4, 3, 3), 2)
    """
    box = PRESETS.get(bounds) if isinstance(bounds, str) else bounds
    if box is None:
        raise ValueError(f"bounds: unknown preset {bounds!r}; accepted are {sorted(PRESETS)} or a Bounds")
    if count < 1:
        raise ValueError(f"count: found {count}; at least one set must be asked for")
    channels = box.channels if channels is None else channels
    accepted: list[MosmParams] = []
    proposed = kept = failed_decay = failed_feasibility = 0
    while kept < count:
        if proposed % BLOCK == 0:
            if proposed >= MOST_BLOCKS_REJECTED * BLOCK and kept < proposed // BLOCK:
                raise ValueError(
                    f"bounds: {kept} of {proposed} sets accepted; covariances must decay within the domain "
                    f"(A well above 1, small delays) and weights fit |m| <= {box.limit}"
                )
            block = _block(seed, proposed // BLOCK, mixtures, channels, dimensions, box)
            feasible_block = _feasible_share(block, box) >= box.feasible_share
        start = proposed % BLOCK
        chunk = jax.tree.map(lambda leaf, block_start=start: leaf[block_start : block_start + CHUNK], block)
        decayed, feasible = np.asarray(_decayed(chunk)), feasible_block[start : start + CHUNK]
        chosen = np.flatnonzero(decayed & feasible)[: count - kept]
        kept += len(chosen)
        # Proposals after the last accepted set were not needed and are not counted.
        seen = int(chosen[-1]) + 1 if kept == count else len(decayed)
        proposed += seen
        failed_decay += int((~decayed[:seen]).sum())
        failed_feasibility += int((~feasible[:seen]).sum())
        accepted.append(jax.tree.map(lambda leaf, rows=chosen: leaf[rows], chunk))
    report = DesignReport(proposed, kept, failed_decay, failed_feasibility)
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *accepted), report


def sample_params(
    seed: int,
    count: int,
    *,
    mixtures: int = 4,
    channels: int | None = None,
    bounds: str | Bounds = "paper",
    dimensions: int = 3,
) -> MosmParams:
    """The parameters of `design` without its report; by default the paper's 4 mixtures, 3 channels, printed bounds.

    >>> params = sample_params(seed=0, count=2)
    >>> params.weight.shape, params.mean.shape
    ((2, 4, 3), (2, 4, 3, 3))
    """
    return design(seed, count, mixtures=mixtures, channels=channels, bounds=bounds, dimensions=dimensions)[0]


def _block(seed: int, block: int, mixtures: int, channels: int, dimensions: int, bounds: Bounds) -> MosmParams:
    """One Latin hypercube of `BLOCK` proposals, uniform in the box."""
    vector = (mixtures, channels, dimensions)
    scalar = (mixtures, channels)
    sizes = [math.prod(scalar), math.prod(vector), math.prod(vector), math.prod(vector), math.prod(scalar)]
    random = np.random.default_rng([seed, block])
    unit = qmc.LatinHypercube(d=sum(sizes), rng=random).random(BLOCK)
    w, s, A, theta, phi = np.split(unit, np.cumsum(sizes)[:-1], axis=1)

    def scaled(values: np.ndarray, limits: tuple[float, float], shape: tuple[int, ...]) -> np.ndarray:
        return (limits[0] + (limits[1] - limits[0]) * values).reshape(BLOCK, *shape)

    variance = scaled(A, bounds.variance, vector)
    return MosmParams(
        weight=jnp.asarray(scaled(w, bounds.weight, scalar), jnp.float32),
        mean=jnp.asarray(scaled(s, bounds.mean, vector), jnp.float32),
        variance=jnp.asarray(variance**2 if bounds.squared else variance, jnp.float32),
        delay=jnp.asarray(scaled(theta, bounds.delay, vector), jnp.float32),
        phase=jnp.asarray(scaled(phi, (0.0, 2 * math.pi), scalar), jnp.float32),
        band=bounds.band,
    )


def edge_ratio(params: MosmParams) -> Float[Array, ""]:
    """Largest ``|k_bg(r)|`` on the faces of the domain over the largest variance, on a coarse grid of each face.

    >>> zero = jnp.zeros((1, 1, 1))
    >>> one = MosmParams(jnp.ones((1, 1)), zero, zero + 1.0, zero, jnp.zeros((1, 1)))
    >>> round(float(edge_ratio(one)), 4)
    0.0072
    """
    dimensions = params.mean.shape[-1]
    along = np.linspace(-math.pi, math.pi, EDGE_POINTS)
    cube = np.stack(np.meshgrid(*[along] * dimensions, indexing="ij"), -1).reshape(-1, dimensions)
    faces = cube[np.abs(cube).max(-1) >= math.pi * (1 - 1e-9)]
    # Faces in pairs r, -r: k_bg(-r) = k_gb(r), so half of them covers all pairs.
    faces = faces[: len(faces) // 2]
    variance = jnp.diagonal(kernel(params, jnp.zeros((dimensions,), params.weight.dtype)))
    return jnp.abs(kernel(params, jnp.asarray(faces, params.weight.dtype))).max() / variance.max()


@jax.jit
def _decayed(proposals: MosmParams) -> Bool[Array, " count"]:
    return jax.lax.map(edge_ratio, proposals, batch_size=16) <= EDGE_TOLERANCE


def _feasible_share(proposals: MosmParams, bounds: Bounds) -> np.ndarray:
    """Expected share of voxels within the limit, of the worst channel of each proposal."""
    gaussians = (2 * math.pi) ** (proposals.mean.shape[-1] / 2) * np.sqrt(np.prod(np.asarray(proposals.variance), -1))
    variances = (np.asarray(proposals.weight) ** 2 * gaussians).sum(axis=1)
    return special.erf(bounds.limit / np.sqrt(2 * variances)).min(axis=1)
