"""The model of candidate grains: terms by hand, weights recovered from data drawn from the model itself."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from scipy import optimize

from polymicros_jax.orientation import embedding, quaternion
from polymicros_jax.orientation import grain_posterior as model
from polymicros_jax.orientation.candidates import EMPTY, Candidates
from polymicros_jax.orientation.grain_posterior import Weights

CRYSTALS = np.asarray(quaternion.random(jax.random.key(8), (5,)))


def _made_up(shape: tuple[int, int, int] = (4, 5, 3), voxels: float = 4.0) -> Candidates:
    """Three different grains of five in each voxel, some slots empty; source: any voxel of that grain."""
    rng = np.random.default_rng(0)
    label = np.argsort(rng.random((*shape, 5)), axis=-1)[..., :3].astype(np.int32)
    score = -np.sort(-rng.normal(size=label.shape), axis=-1).astype(np.float32)
    empty = rng.random(shape) < 0.3
    label[..., 2][empty], score[..., 2][empty] = EMPTY, -np.inf
    filled = CRYSTALS[np.arange(np.prod(shape)).reshape(shape) % 5]
    return Candidates(label, np.maximum(label, 0), score, rng.random(shape) < 0.2, filled, 9.0, voxels)


@pytest.mark.parametrize(("voxels", "passes"), [(2.0, 1), (4.0, 2)])
def test_averaged_margins_by_brute_force(voxels: float, passes: int) -> None:
    found = _made_up(voxels=voxels)  # whatever the gap in units of the finest edge
    shape, clip = found.label.shape[:3], model.CLIP
    margins = np.clip(found.score - found.score[..., 1:2], -clip, clip)
    side = (0.25, 0.5, 0.25)
    for _ in range(passes):
        before = margins.copy()
        for index in np.ndindex(*found.label.shape):
            if found.label[index] == EMPTY or found.known[index[:3]]:
                continue
            total = 0.0
            for offset in itertools.product(range(3), repeat=3):
                there = tuple(np.clip(np.array(index[:3]) + offset - 1, 0, np.array(shape) - 1))
                slot = np.flatnonzero(found.label[there] == found.label[index])
                total += np.prod([side[o] for o in offset]) * (before[there][slot[0]] if len(slot) else -clip)
            margins[index] = total
    used = found.label != EMPTY
    # Sums of 27 terms of at most 0.5 in single precision.
    np.testing.assert_allclose(model.averaged_margins(found)[used], margins[used], atol=2e-6)


def test_evidence_is_the_distance_to_the_candidate_beyond_the_best_as_far_as_believed() -> None:
    q = CRYSTALS[[[0, 1, 2], [3, 4, 0]]]
    channels = np.asarray(embedding.encode(q))
    fields = np.stack([channels[:, 0], 0.7 * channels[:, 0] + 0.3 * channels[:, 1]])
    expected = np.zeros((2, 3))
    for field in fields:
        squares = np.square(channels - field[:, None]).sum(-1)
        expected -= 0.5 * np.minimum(squares - squares.min(1, keepdims=True), model.FURTHEST)
    np.testing.assert_allclose(model.evidence(fields, q), expected, atol=1e-5)
    assert expected[:, 0].tolist() == [0.0, 0.0]


def test_probabilities_are_the_logit_s() -> None:
    terms = np.array([[[0.0, -1.0, -np.inf]], [[0.5, -0.5, 0.0]], [[0.0, -2.0, 0.0]]])
    chance = model.probabilities(terms, Weights(1.0, 2.0, 0.5))
    odds = np.exp(1.0 * 1.0 + 2.0 * 1.0 + 0.5 * 2.0)
    np.testing.assert_allclose(chance, [[odds / (1 + odds), 1 / (1 + odds), 0.0]], rtol=1e-12)
    np.testing.assert_allclose(model.probabilities(terms, Weights(0.0, 0.0)), [[0.5, 0.5, 0.0]])


def _simulated(weights: Weights, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Terms at random, and which candidate is right drawn from the model."""
    rng = np.random.default_rng(seed)
    terms = rng.normal(size=(3, count, 4))
    terms[0, rng.random(count) < 0.3, 3] = -np.inf
    chance = model.probabilities(terms, weights)
    right = (chance.cumsum(1) < rng.random((count, 1))).sum(1)
    return terms, np.eye(4)[right]


def test_fit_recovers_the_weights_of_the_model() -> None:
    truth = Weights(1.0, 2.0, 0.5)
    pieces = [_simulated(truth, 4000, seed) for seed in (0, 1)]
    found = model.fit([terms for terms, _ in pieces], [target for _, target in pieces])
    # Fisher information per voxel of a term of unit variance is at least 0.15 here: five standard errors of 0.03.
    np.testing.assert_allclose([found.shape, found.neighbourhood, found.prior], [1.0, 2.0, 0.5], atol=0.15)
    # Negative control: a likelihood maximum is no maximum of another data set.
    other = model.fit(*([each] for each in _simulated(Weights(1.0, 0.2, 2.0), 4000, 2)))
    assert abs(other.neighbourhood - 2.0) > 1.0
    assert other.prior > 1.5


def test_unused_slots_have_no_say() -> None:
    """They name the first voxel of the volume. A draw that shows its crystal speaks for the nearest candidate still."""
    found = _made_up()
    where = (found.label == EMPTY).any(axis=-1)
    first = np.asarray(embedding.encode(found.filled.reshape(-1, 4)[0]))
    fields = np.broadcast_to(first, (1, *where.shape, 9)).astype(np.float32)
    opinion = model.features(found, where, fields)[2]
    alone = np.asarray(model.evidence(fields[:, where], model.orientations(found, where)[:, :2]))
    np.testing.assert_allclose(opinion, np.pad(alone, ((0, 0), (0, 1))), atol=1e-5)
    np.testing.assert_array_equal(opinion[:, :2].max(axis=1), 0.0)


def test_the_ridge_pulls_as_hard_as_it_says() -> None:
    """Two candidates, the first ahead by one and right in a share p: 2 ridge w = p - 1 / (1 + exp(-w))."""
    terms, ridge, share = np.zeros((3, 10, 2)), 0.5, 0.8
    terms[0, :, 0] = 1.0
    right = np.where(np.arange(10)[:, None] < 10 * share, [[1.0, 0.0]], [[0.0, 1.0]])
    expected = optimize.brentq(lambda w: 2 * ridge * w - share + 1 / (1 + np.exp(-w)), 0.0, 5.0)
    # L-BFGS-B ends at a gradient of 1e-5; the curvature is above one.
    assert model.fit([terms], [right], ridge=ridge).shape == pytest.approx(expected, abs=2e-5)


def test_a_prior_that_knows_nothing_or_lies_gets_no_weight() -> None:
    terms, target = _simulated(Weights(1.0, 2.0, 0.0), 6000, 3)
    assert model.fit([terms], [target]).prior < 0.15
    terms[2] = -3.0 * target  # speaks against the truth, always
    assert model.fit([terms], [target]).prior == 0.0
    terms[2] = 3.0 * target
    assert model.fit([terms], [target]).prior > 1.0
    assert model.fit([terms], [target], with_prior=False).prior == 0.0


def test_target_is_the_nearest_candidate() -> None:
    q = CRYSTALS[[[0, 1, 1], [2, 3, 4]]]
    label = np.array([[0, 1, 5], [2, 3, EMPTY]])
    np.testing.assert_array_equal(model.target(CRYSTALS[[1, 3]], q, label), [[0, 0.5, 0.5], [0, 1, 0]])
    # The right one is an empty slot's: the next best is taken.
    assert model.target(CRYSTALS[[4]], q[1:], label[1:])[0, 2] == 0.0


def test_a_bump_on_a_boundary_is_straightened_and_a_plane_is_left_alone() -> None:
    """Two grains meet at x = 4; one voxel of the first sits a voxel too far, by a lead of 0.01 gaps."""
    shape = (8, 7, 7)
    plane = (np.indices(shape)[0] - 3.5) / 4.0
    bumped = plane.copy()
    bumped[4, 3, 3] = -0.01
    results = []
    for field in (plane, bumped):
        score = np.stack([-np.abs(field) * 0, -2 * np.abs(field)], axis=-1).astype(np.float32)
        label = np.where((field > 0)[..., None], [1, 0], [0, 1]).astype(np.int32)
        filled = CRYSTALS[(field > 0).astype(int)]
        source = np.where(label == 0, 0, np.ravel_multi_index((7, 0, 0), shape)).astype(np.int32)
        results.append(model.regularised(Candidates(label, source, score, np.zeros(shape, bool), filled, 4.0, 4.0)))
    np.testing.assert_array_equal(results[0], CRYSTALS[(plane > 0).astype(int)])
    np.testing.assert_array_equal(results[1], results[0])


def test_features_of_a_voxel_that_the_prior_and_the_shapes_agree_on() -> None:
    found = _made_up()
    where = np.random.default_rng(1).random(found.label.shape[:3]) < 0.5
    brought = model.orientations(found, where)
    fields = np.zeros((1, *found.label.shape[:3], 9), np.float32)
    fields[0][where] = embedding.encode(brought[:, 0])
    terms = model.features(found, where, fields)
    assert terms.shape == (3, int(where.sum()), 3)
    assert (terms[0, :, 0] == 0).all()
    np.testing.assert_allclose(terms[2, :, 0], 0.0, atol=1e-5)
    used = found.label[where] != EMPTY
    assert (terms[2, :, 1:][used[:, 1:]] < -0.1).all()
    assert (np.isneginf(terms[0]) == ~used).all()
    posterior = model.posterior(found, where, terms, Weights(1.0, 1.0, 50.0))
    np.testing.assert_array_equal(posterior.estimate(), brought[:, 0])
    assert (model.features(found, where)[2] == 0).all()


def test_a_grain_far_out_of_the_question_counts_no_less_than_four_gaps() -> None:
    found = _made_up()
    found = dataclasses.replace(found, score=10.0 * found.score)
    where = np.ones(found.label.shape[:3], bool)
    score = model.features(found, where)[0]
    behind = found.score[where] - found.score[where][:, :1]
    used = np.isfinite(behind)
    assert (behind[used] < -4.0).any()
    np.testing.assert_allclose(score[used], np.maximum(behind[used], -4.0), atol=1e-6)


def test_the_group_is_the_one_asked_for() -> None:
    """A hexagonal crystal turned by sixty degrees about c is the same candidate; its channels are other ones."""
    turn = np.array([np.cos(np.pi / 6), 0.0, 0.0, np.sin(np.pi / 6)], np.float32)
    q = CRYSTALS[[[0, 1], [2, 3]]]
    same = np.asarray(quaternion.multiply(turn[None], q[:, 1]))
    label = np.array([[0, 1], [2, 3]])
    # Beside a candidate twenty degrees away, where the one turned would be thirty to a cubic crystal.
    aside = np.array([np.cos(np.pi / 18), np.sin(np.pi / 18), 0.0, 0.0], np.float32)
    beside = np.stack([np.asarray(quaternion.multiply(aside[None], same)), q[:, 1]], axis=1)
    for group, right in (("622", [0, 1]), ("432", [1, 0])):
        np.testing.assert_array_equal(model.target(same, beside, label, group), [right, right])
    channels = np.asarray(embedding.encode(q, group="622"))
    fields = np.asarray(embedding.encode(same, group="622"))[None]
    squares = np.square(channels - fields[0][:, None]).sum(-1)
    expected = -np.minimum(squares - squares.min(1, keepdims=True), model.FURTHEST)
    np.testing.assert_allclose(model.evidence(fields, q, "622"), expected, atol=1e-5)
    found = Candidates(
        label.reshape(2, 1, 1, 2).astype(np.int32),
        np.arange(4, dtype=np.int32).reshape(2, 1, 1, 2),
        np.zeros((2, 1, 1, 2), np.float32),
        np.zeros((2, 1, 1), bool),
        q.reshape(2, 2, 1, 4),
        4.0,
        4.0,
    )
    terms = model.features(found, np.ones((2, 1, 1), bool), fields.reshape(1, 2, 1, 1, -1), "622")
    np.testing.assert_allclose(terms[2], expected, atol=1e-5)


def test_nothing_to_fit_on() -> None:
    with pytest.raises(ValueError, match="no voxel to fit on"):
        model.fit([np.zeros((3, 0, 4))], [np.zeros((0, 4))])
