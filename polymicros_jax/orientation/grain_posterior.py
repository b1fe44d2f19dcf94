"""How probable each candidate grain of a missing voxel is: shape, neighbourhood and the prior's opinion in one model.

A conditional logit over the candidates k of a voxel (McFadden 1974),

    ``p_k ~ exp(a s_k + b m_k + c l_k)``,

with ``s`` the shape score (`candidates`), ``m`` its margin over the second best averaged over the neighbourhood, which
straightens boundaries, and ``l`` the log-likelihood of the grain under draws from a prior. Three weights, fitted by
maximum likelihood on a volume whose truth is known: a convex problem with one solution, in which a prior that knows
nothing gets the weight zero. The probabilities are then calibrated as far as one volume is like the other.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.optimize import minimize

from polymicros_jax.orientation import embedding
from polymicros_jax.orientation.candidates import EMPTY, Candidates
from polymicros_jax.orientation.quaternion import disorientation
from polymicros_jax.types import ArrayLike

CLIP = 0.5
"""Largest margin, in gaps: further from a boundary all voxels are equally certain."""

FURTHEST = 4.0
"""Most nats that one draw can speak against a grain: a draw's orientation is not exact, and draws can be wrong."""


LEAST_SCORE = -4.0
"""Shape scores end so many gaps below that of the best candidate: beyond, a grain is out of the question."""


@dataclasses.dataclass(frozen=True)
class Weights:
    """Weights of the three terms: shape score (per gap), averaged margin (per gap), prior (per nat)."""

    shape: float
    neighbourhood: float
    prior: float = 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class GrainPosterior:
    """Probabilities of the candidates of some voxels.

    Attributes:
      probability: ``(n, k)``, summing to one.
      quaternions: ``(n, k, 4)``, the orientation each candidate brings.
      label: ``(n, k)`` grain numbers.
    """

    probability: np.ndarray
    quaternions: np.ndarray
    label: np.ndarray

    def estimate(self) -> Float[np.ndarray, "n 4"]:
        """The most probable candidate's orientation."""
        best = self.probability.argmax(axis=1)
        return np.take_along_axis(self.quaternions, best[:, None, None], axis=1)[:, 0]


def features(
    candidates: Candidates,
    where: Bool[np.ndarray, "nx ny nz"],
    fields: Float[ArrayLike, "d nx ny nz h"] | None = None,
    group: str = "432",
) -> Float[np.ndarray, "3 n k"]:
    """The three terms of the model at the voxels of ``where``; the third is zero without ``fields`` of a prior.

    Unused slots hold minus infinity in the first term.

    >>> from polymicros_jax.orientation.candidates import candidates
    >>> angle = np.repeat([0.0, 0.3], 3).reshape(6, 1, 1) * np.ones((1, 1, 3))  # two grains side by side
    >>> q = np.stack([np.cos(angle), np.sin(angle), 0 * angle, 0 * angle], axis=-1)
    >>> known = np.broadcast_to([True, False, True], (6, 1, 3))
    >>> score, margin, prior = features(candidates(q, known, count=2), ~known)
    >>> score.round(2).tolist()  # of the two grains, along x: the distance to the boundary over the gap
    [[0.0, -2.5], [0.0, -1.5], [0.0, -0.5], [0.0, -0.5], [0.0, -1.5], [0.0, -2.5]]
    """
    margins = averaged_margins(candidates)[where]
    score = candidates.score[where]
    opinion = np.zeros_like(score)
    if fields is not None:
        brought, unused = orientations(candidates, where), candidates.label[where] == EMPTY
        # An unused slot brings the orientation of the first voxel, which must be no draw's favourite.
        brought = np.where(unused[..., None], brought[:, :1], brought)
        opinion = np.where(unused, 0.0, np.asarray(evidence(np.asarray(fields)[:, where], brought, group)))
    relative = np.maximum(score - score[:, :1], LEAST_SCORE)
    return np.stack([np.where(np.isfinite(score), relative, -np.inf), margins, opinion])


def regularised(candidates: Candidates) -> Float[np.ndarray, "nx ny nz 4"]:
    """Every voxel's candidate of largest averaged margin: interpolated shapes with straightened boundaries.

    >>> from polymicros_jax.orientation.candidates import candidates
    >>> angle = np.repeat([0.0, 0.3], 3).reshape(6, 1, 1) * np.ones((1, 1, 3))
    >>> q = np.stack([np.cos(angle), np.sin(angle), 0 * angle, 0 * angle], axis=-1)
    >>> known = np.broadcast_to([True, False, True], (6, 1, 3))
    >>> bool(np.allclose(regularised(candidates(q, known)), q))  # a straight boundary goes on straight
    True
    """
    best = averaged_margins(candidates).argmax(axis=-1)[..., None]
    return candidates.filled.reshape(-1, 4)[np.take_along_axis(candidates.source, best, axis=-1)[..., 0]]


def averaged_margins(candidates: Candidates) -> Float[np.ndarray, "nx ny nz k"]:
    """How far each candidate's score is above the second best of its voxel, averaged over the neighbourhood.

    Before the average the best candidate has its lead, the second best has 0 and all others have less. Margins are
    limited to `CLIP`. The average is over a binomial kernel of three voxels, repeated once per two voxels of gap, so
    that it reaches about a quarter of the gap. Known voxels keep their own margins. A neighbour that has no such
    candidate counts as ``-CLIP``.

    >>> from polymicros_jax.orientation.candidates import candidates
    >>> angle = np.repeat([0.0, 0.3], 3).reshape(6, 1, 1) * np.ones((1, 1, 3))
    >>> q = np.stack([np.cos(angle), np.sin(angle), 0 * angle, 0 * angle], axis=-1)
    >>> found = candidates(q, np.broadcast_to([True, False, True], (6, 1, 3)), count=2)
    >>> averaged_margins(found)[:, 0, 1].T.round(2).tolist()  # the leader's lead is least at the boundary
    [[0.5, 0.5, 0.38, 0.38, 0.5, 0.5], [0.0, 0.0, 0.12, 0.12, 0.0, 0.0]]
    """
    passes = max(1, round(candidates.voxels / 2.0))
    return np.asarray(
        _averaged(
            jnp.asarray(candidates.label),
            jnp.asarray(candidates.score),
            jnp.asarray(candidates.known),
            jnp.asarray(CLIP, jnp.float32),
            passes,
        )
    )


@partial(jax.jit, static_argnames="passes")
def _averaged(
    label: Int[Array, "nx ny nz k"],
    score: Float[Array, "nx ny nz k"],
    known: Bool[Array, "nx ny nz"],
    clip: Float[Array, ""],
    passes: int,
) -> Float[Array, "nx ny nz k"]:
    shape, count = label.shape[:3], label.shape[3]
    used = label != EMPTY
    second = score[..., 1:2] if count > 1 else score[..., :1]
    margins = jnp.where(
        used, jnp.clip(score - jnp.where(jnp.isfinite(second), second, score - clip), -clip, clip), -clip
    )
    side = np.array([0.25, 0.5, 0.25])
    offsets = jnp.asarray(np.array(list(itertools.product(range(3), repeat=3)), np.int32))
    weights = jnp.asarray(np.array([np.prod(side[list(o)]) for o in itertools.product(range(3), repeat=3)], np.float32))
    wide = jnp.pad(label, [(1, 1)] * 3 + [(0, 0)], mode="edge")

    def one_pass(margins: Array, _: None) -> tuple[Array, None]:
        wide_margins = jnp.pad(margins, [(1, 1)] * 3 + [(0, 0)], mode="edge")

        def add(total: Array, item: tuple[Array, Array]) -> tuple[Array, None]:
            offset, weight = item
            there = jax.lax.dynamic_slice(wide, (*offset, 0), (*shape, count))
            value = jax.lax.dynamic_slice(wide_margins, (*offset, 0), (*shape, count))
            same = (label[..., :, None] == there[..., None, :]) & used[..., :, None]
            # A grain fills one slot of a voxel at most: the sum has one term, or none.
            found = jnp.sum(jnp.where(same, value[..., None, :] + clip, 0.0), axis=-1) - clip
            return total + weight * found, None

        mean, _ = jax.lax.scan(add, jnp.zeros_like(margins), (offsets, weights))
        return jnp.where(known[..., None], margins, mean), None

    return jax.lax.scan(one_pass, margins, None, length=passes)[0]


def orientations(candidates: Candidates, where: Bool[np.ndarray, "nx ny nz"]) -> Float[np.ndarray, "n k 4"]:
    """The orientation each candidate brings to the voxels of ``where``.

    >>> from polymicros_jax.orientation.candidates import candidates
    >>> angle = np.repeat([0.0, 0.3], 3).reshape(6, 1, 1) * np.ones((1, 1, 3))
    >>> q = np.stack([np.cos(angle), np.sin(angle), 0 * angle, 0 * angle], axis=-1)
    >>> known = np.broadcast_to([True, False, True], (6, 1, 3))
    >>> brought = orientations(candidates(q, known, count=2), ~known)
    >>> np.arctan2(brought[0, :, 1], brought[0, :, 0]).round(2).tolist()  # at x = 0: its own grain, then the other
    [0.0, 0.3]
    """
    return candidates.filled.reshape(-1, 4)[candidates.source[where]]


@partial(jax.jit, static_argnames="group")
def evidence(
    fields: Float[ArrayLike, "d n h"], q: Float[ArrayLike, "n k 4"], group: str = "432"
) -> Float[Array, "n k"]:
    """Mean over draws of the log-likelihood of each candidate, as far as a draw is believed (`FURTHEST`).

    A draw's channels are the candidate's plus errors of unit precision; the scale is left to the weight. Zero is the
    draw's favourite.

    >>> from polymicros_jax.orientation.embedding import encode
    >>> q = jnp.array([[[1.0, 0.0, 0.0, 0.0], [jnp.cos(0.3), jnp.sin(0.3), 0.0, 0.0]]])
    >>> evidence(encode(q[:, 1])[None], q).round(2).tolist()  # a draw that shows the second candidate
    [[-3.26, 0.0]]
    """
    channels = jnp.moveaxis(embedding.encode(jnp.asarray(q), group=group), 1, 0)

    def of_draw(field: Array) -> Array:
        distance = jax.lax.map(lambda one: jnp.sum(jnp.square(field - one), axis=-1), channels)
        return jnp.minimum(distance - distance.min(axis=0, keepdims=True), FURTHEST)

    return -jax.lax.map(of_draw, jnp.asarray(fields)).mean(axis=0).T


def probabilities(terms: Float[np.ndarray, "3 n k"], weights: Weights) -> Float[np.ndarray, "n k"]:
    """The model above.

    >>> terms = np.array([[[1.0, 0.0]], [[0.0, 0.0]], [[0.0, -1.0]]])  # score, margin, evidence
    >>> probabilities(terms, Weights(shape=1.0, neighbourhood=0.0)).round(3).tolist()
    [[0.731, 0.269]]
    >>> probabilities(terms, Weights(shape=1.0, neighbourhood=0.0, prior=1.0)).round(3).tolist()
    [[0.881, 0.119]]
    """
    used = np.isfinite(terms[0])
    logit = _weighted(np.where(used[None], terms, 0.0), np.array(dataclasses.astuple(weights)))
    logit = np.where(used, logit, -np.inf)
    chance = np.exp(logit - logit.max(axis=1, keepdims=True))
    return chance / chance.sum(axis=1, keepdims=True)


def posterior(
    candidates: Candidates, where: Bool[np.ndarray, "nx ny nz"], terms: Float[np.ndarray, "3 n k"], weights: Weights
) -> GrainPosterior:
    """Probabilities, orientations and labels at the voxels of ``where``, whose `features` are ``terms``.

    >>> from polymicros_jax.orientation.candidates import candidates
    >>> angle = np.repeat([0.0, 0.3], 3).reshape(6, 1, 1) * np.ones((1, 1, 3))
    >>> q = np.stack([np.cos(angle), np.sin(angle), 0 * angle, 0 * angle], axis=-1)
    >>> known = np.broadcast_to([True, False, True], (6, 1, 3))
    >>> found = candidates(q, known, count=2)
    >>> model = posterior(found, ~known, features(found, ~known), Weights(shape=1.0, neighbourhood=0.0))
    >>> model.probability.max(axis=1).round(2).tolist()  # along x: sure inside, less so at the boundary
    [0.92, 0.82, 0.62, 0.62, 0.82, 0.92]
    """
    return GrainPosterior(probabilities(terms, weights), orientations(candidates, where), candidates.label[where])


def fit(
    terms: Sequence[Float[np.ndarray, "3 n k"]],
    targets: Sequence[Float[np.ndarray, "n k"]],
    *,
    with_prior: bool = True,
    ridge: float = 1e-4,
) -> Weights:
    """Weights of largest likelihood on volumes whose truth is known; none is negative.

    Args:
        terms: `features` of each volume.
        targets: `target` of each volume.
        with_prior: False keeps the prior's weight at zero.
        ridge: Strength of the pull towards zero, which decides where the data do not.

    Raises:
        ValueError: no voxel to fit on.

    >>> terms = np.zeros((3, 100, 2))
    >>> terms[0, :, 0] = 1.0  # the first candidate always leads by one, and is right in 80 of 100 voxels
    >>> right = np.where(np.arange(100)[:, None] < 80, [[1.0, 0.0]], [[0.0, 1.0]])
    >>> weights = fit([terms], [right])
    >>> probabilities(terms, weights)[0].round(2).tolist()
    [0.8, 0.2]
    """
    if not sum(each.shape[1] for each in terms):
        raise ValueError("terms: no voxel to fit on")
    used = [np.isfinite(each[0]) for each in terms]
    finite = [np.where(mask[None], each, 0.0) for each, mask in zip(terms, used, strict=True)]
    total = sum(len(mask) for mask in used)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = ridge * float(weights @ weights), 2 * ridge * weights
        for each, mask, target in zip(finite, used, targets, strict=True):
            logit = np.where(mask, _weighted(each, weights), -np.inf)
            logit = logit - logit.max(axis=1, keepdims=True)
            chance = np.exp(logit)
            norm = chance.sum(axis=1, keepdims=True)
            likelihood = np.where(target > 0, target * (np.where(mask, logit, 0.0) - np.log(norm)), 0.0)
            value -= float(likelihood.sum()) / total
            slope = slope + np.einsum("fnk,nk->f", each, chance / norm - target) / total
        return value, slope

    highest = np.array([np.inf, np.inf, np.inf if with_prior else 0.0])
    start = np.minimum(np.array([1.0, 1.0, 0.1]), highest)
    bounds = [(0.0, None if np.isinf(top) else top) for top in highest]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return Weights(*(float(each) for each in found))


def target(
    reference_q: Float[np.ndarray, "n 4"],
    q: Float[np.ndarray, "n k 4"],
    label: Int[np.ndarray, "n k"],
    group: str = "432",
) -> Float[np.ndarray, "n k"]:
    """Which candidate is right: the one nearest to the truth, shared between candidates that are equally near.

    >>> q = np.array([[[1.0, 0.0, 0.0, 0.0], [np.cos(0.3), np.sin(0.3), 0.0, 0.0]]])
    >>> target(q[:, 1], q, np.array([[0, 1]])).tolist()
    [[0.0, 1.0]]
    """
    error = np.asarray(disorientation(jnp.asarray(reference_q)[:, None, :], jnp.asarray(q), group))
    error = np.where(label == EMPTY, np.inf, error)
    nearest = error <= error.min(axis=1, keepdims=True) + 1e-3
    return nearest / nearest.sum(axis=1, keepdims=True)


def _weighted(terms: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.asarray(np.tensordot(weights, terms, axes=1))
