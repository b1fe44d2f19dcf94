"""Lists of orientations: distances against the per-pair function, means and close pairs against brute force."""

import jax
import numpy as np
import pytest

from polymicros_jax.orientation import matching, quaternion
from polymicros_jax.orientation.groups import operators


def random_orientations(count: int, seed: int = 0) -> np.ndarray:
    return np.asarray(quaternion.random(jax.random.key(seed), (count,)))


@pytest.mark.parametrize("group", ["432", "622", "222"])
def test_pairwise_is_the_disorientation_of_every_pair(group: str) -> None:
    a, b = random_orientations(9), random_orientations(7, 1)
    every = np.asarray(quaternion.disorientation(a[:, None], b[None], group))
    # float32 on the other side, with components rounded to 6e-8 and angles up to 1.6 rad.
    np.testing.assert_allclose(matching.pairwise_disorientation(a, b, group), every, atol=2e-6)


@pytest.mark.parametrize("group", ["432", "622"])
def test_close_pairs_are_those_below_the_threshold(group: str) -> None:
    q = random_orientations(120)
    ops = operators(group)
    # Twenty more lie near the first twenty, described by other equivalents.
    near = np.asarray(quaternion.multiply(q[:20], quaternion.from_rotation_vector(np.full((20, 3), 0.02, np.float32))))
    near = np.asarray(quaternion.multiply(ops[np.arange(20) % len(ops)].astype(np.float32), near))
    q = np.concatenate([q, near])
    threshold = 0.15
    distance = np.triu(matching.pairwise_disorientation(q, q, group) < threshold, k=1)
    np.testing.assert_array_equal(matching.close_pairs(q, threshold, group), np.argwhere(distance))
    assert distance.sum() >= 20


def test_align_finds_the_equivalent_and_the_sign() -> None:
    reference = random_orientations(24)
    turned = np.asarray(quaternion.multiply(-operators("432").astype(np.float32), reference))
    np.testing.assert_allclose(matching.align(turned, reference), reference, atol=1e-6)


def test_group_means_average_a_symmetric_spread_to_its_centre() -> None:
    """Six small turns +-e about x, y, z cancel to first order, the second only shortens the sum."""
    centre = random_orientations(2)
    angle = 0.05
    turns = np.concatenate([np.eye(3), -np.eye(3)]).astype(np.float32) * angle
    q = np.asarray(quaternion.multiply(centre[:, None], quaternion.from_rotation_vector(turns)[None]))
    scrambled = np.asarray(quaternion.multiply(operators("432")[:12].astype(np.float32).reshape(2, 6, 4), q))
    labels = np.array([0] * 6 + [2] * 6)
    means = matching.group_means(scrambled.reshape(-1, 4), labels, 3)
    distance = np.diag(matching.pairwise_disorientation(means[[0, 2]], centre))
    np.testing.assert_allclose(distance, 0.0, atol=1e-6)
    np.testing.assert_array_equal(means[1], [1, 0, 0, 0])


def test_unknown_orientations_are_not_taken_for_the_identity() -> None:
    """NaN stays NaN, in a distance and in the mean of the grain it belongs to; the other grain does not notice."""
    q = np.array([[0.8, 0.6, 0.0, 0.0], [np.nan] * 4, [0.6, 0.0, 0.8, 0.0]])
    distances = matching.pairwise_disorientation(q, q)
    np.testing.assert_array_equal(np.isnan(distances), np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool))
    means = matching.group_means(q, np.array([0, 0, 1]), 2)
    assert np.isnan(means[0]).all()
    np.testing.assert_allclose(means[1], q[2], atol=1e-12)
