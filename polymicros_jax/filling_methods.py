"""Every way to fill the missing voxels of a volume, prior and baselines alike, with one kind of result.

What is compared here is compared on equal terms: each method gets the same voxels, and `scoring.score` treats what it
returns in the same way.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from polymicros_jax.orientation import grain_posterior, interpolation, uncertainty
from polymicros_jax.orientation.candidates import Candidates
from polymicros_jax.orientation.grain_posterior import GrainPosterior
from polymicros_jax.orientation.neighbour_filling import neighbour_vote
from polymicros_jax.orientation.representation import Representation
from polymicros_jax.orientation.snapping import snap
from polymicros_jax.reconstruct import super_resolve
from polymicros_jax.training.calibration import Calibrated, Entry
from polymicros_jax.training.prior import Prior

PRIOR = "diffusion prior"
SHAPES = "shapes, regularised"
FUSED = "prior and shapes"

LEVEL = 0.9
"""What intervals are stated at."""


@dataclasses.dataclass(frozen=True, eq=False)
class Filled:
    """A volume whose missing voxels were filled.

    Attributes:
      quaternions: ``(nx, ny, nz, 4)``, known voxels as given.
      seconds: wall-clock time, compilation included.
      draws: ``(d, nx, ny, nz, 4)``, where the method gives several.
      distance: ``(nx, ny, nz)``, mean distance of the draws' channels to the orientation manifold, before snapping.
      fields: ``(d, nx, ny, nz, h)``, channels of the draws before snapping.
      posterior: probabilities of the candidate grains of the missing voxels, where the method gives them.
      level: what `posterior_uncertainty.radius` is to be asked for, so that intervals stated at `LEVEL` cover it.
      labels: ``(nx, ny, nz)``, grain numbers, with ``posterior``.
    """

    quaternions: np.ndarray
    seconds: float
    draws: np.ndarray | None = None
    distance: np.ndarray | None = None
    fields: np.ndarray | None = None
    posterior: GrainPosterior | None = None
    level: float = LEVEL
    labels: np.ndarray | None = None


def baselines(
    q: Float[np.ndarray, "nx ny nz 4"],
    known: Bool[np.ndarray, "nx ny nz"],
    kind: Representation,
    reach: int = 0,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> dict[str, Filled]:
    """The classical methods: nearest known voxel, linear interpolation of the channels, and what suits the mask.

    Where whole sections are missing: great circles between sections that show the same grain, and shape-based
    interpolation (signed distance to each grain, interpolated between sections), the strong one. Elsewhere: the vote of
    the neighbours, as EBSD software fills unindexed points. With ``reach > 0`` linear interpolation is also shown
    snapped to measured crystals: what the prior is given to start from, treated as its draws are. Distances are those
    of voxels of the given ``spacing``.
    """
    group = kind.group
    methods: dict[str, Callable[[], np.ndarray]] = {
        "nearest slice": lambda: interpolation.nearest_known(q, known, spacing),
        "linear": lambda: interpolation.linear_orientations(q, known, group),
    }
    if reach > 0:
        methods["linear, snapped"] = lambda: _snapped_linear(q, known, kind, reach)
    if interpolation.missing_axis(known) is not None:
        methods["spherical"] = lambda: interpolation.spherical(q, known, group)
        methods["shape-based"] = lambda: interpolation.shape_based(q, known, group, spacing=spacing)
    else:
        methods["neighbour vote"] = lambda: neighbour_vote(q, known, group)
    filled = {}
    for name, method in methods.items():
        began = time.perf_counter()
        result = np.asarray(method())
        filled[name] = Filled(np.where(known[..., None], q, result), time.perf_counter() - began)
    return filled


def _snapped_linear(q: np.ndarray, known: np.ndarray, kind: Representation, reach: int) -> np.ndarray:
    values = np.asarray(kind.encode(q))
    return np.asarray(kind.decode(snap(interpolation.linear(values, known), values, known, reach))[0])


def fill_with_prior(
    key: jax.Array,
    prior: Prior,
    kind: Representation,
    q: Float[np.ndarray, "nx ny nz 4"],
    known: Bool[np.ndarray, "nx ny nz"],
    *,
    reach: int = 0,
    found: Candidates | None = None,
    **settings: Any,
) -> Filled:
    """Draws from the prior given the known voxels; the estimate is the draw nearest to the others in each voxel.

    With ``reach > 0`` every draw is snapped to the measured crystals within ``reach`` voxels (`orientation.snapping`).
    With ``found`` a warm start begins at the regularised shapes (`grain_posterior.regularised`), which gaps of any form
    have, and not at the linear interpolation.
    """
    began = time.perf_counter()
    values = np.asarray(kind.encode(q))
    guess = None
    if found is not None and settings.get("start") is not None:
        guess = np.asarray(kind.encode(grain_posterior.regularised(found)))
    fields = super_resolve(key, prior, values, known, guess=guess, **settings)
    distance = np.mean([np.asarray(kind.decode(field)[1]) for field in fields], axis=0)
    snapped = jnp.stack([snap(field, values, known, reach) for field in fields]) if reach > 0 else fields
    draws = np.stack([np.where(known[..., None], q, np.asarray(kind.decode(field)[0])) for field in snapped])
    estimate = np.asarray(uncertainty.medoid(draws, kind.group)[0])
    return Filled(estimate, time.perf_counter() - began, draws, distance, np.asarray(fields))


def fuse(
    found: Candidates, terms: Float[np.ndarray, "3 n k"], known: Bool[np.ndarray, "nx ny nz"], model: Calibrated
) -> Filled:
    """The most probable measured grain of every missing voxel, with the probabilities.

    ``terms`` are `grain_posterior.features` at all missing voxels, with the draws of a prior or without.
    """
    began = time.perf_counter()
    posterior = grain_posterior.posterior(found, ~known, terms, model.weights)
    quaternions, labels = found.filled.copy(), found.label[..., 0].copy()
    quaternions[~known] = posterior.estimate()
    labels[~known] = np.take_along_axis(posterior.label, posterior.probability.argmax(axis=1)[:, None], axis=1)[:, 0]
    return Filled(quaternions, time.perf_counter() - began, posterior=posterior, level=model.level, labels=labels)


def fuse_both(
    found: Candidates, terms: Float[np.ndarray, "3 n k"], known: Bool[np.ndarray, "nx ny nz"], entry: Entry
) -> dict[str, Filled]:
    """`fuse` from shapes alone, and with the prior: the difference is what the prior contributes."""
    alone = np.stack([*terms[:2], np.zeros_like(terms[2])])
    return {SHAPES: fuse(found, alone, known, entry.shapes_alone), FUSED: fuse(found, terms, known, entry.with_prior)}
