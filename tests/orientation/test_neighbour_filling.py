"""The vote of the neighbours, reckoned by hand on a few voxels."""

import jax
import numpy as np
import pytest

from polymicros_jax.orientation import quaternion
from polymicros_jax.orientation.neighbour_filling import neighbour_vote

CRYSTALS = np.asarray(quaternion.random(jax.random.key(1), (3,)))


def _fill(labels: np.ndarray) -> np.ndarray:
    """Grain numbers after filling; -1 marks the unknown, which hold the third crystal."""
    known = labels >= 0
    filled = neighbour_vote(CRYSTALS[np.where(known, labels, 2)], known)
    return np.square(filled[..., None, :] - CRYSTALS).sum(-1).argmin(-1)


def test_the_majority_wins_and_the_lower_number_among_equals() -> None:
    labels = np.array([[0, 0, 1], [0, -1, 1], [0, 1, 1]])[..., None]
    # Neighbours 0 (left), 0 (above), 1 (right), 1 (below): two each, the grain numbered first is 0.
    assert _fill(labels)[1, 1, 0] == 0
    labels[0, 1, 0] = 1
    assert _fill(labels)[1, 1, 0] == 1


def test_layers_grow_one_at_a_time() -> None:
    line = np.array([0, -1, -1, -1, -1, 1])[:, None, None]
    np.testing.assert_array_equal(_fill(line).ravel(), [0, 0, 0, 1, 1, 1])
    # Nothing is taken from beyond the faces of the volume.
    edge = np.array([-1, -1, 1])[:, None, None]
    np.testing.assert_array_equal(_fill(edge).ravel(), [1, 1, 1])


def test_a_layer_votes_with_what_was_known_before_it() -> None:
    """Corner voxel of a 2 x 2 gap: its filled neighbours vote in the next round, not in the same."""
    labels = np.array([[1, 1, 1], [0, -1, -1], [0, 0, 0]])[..., None]
    # (1, 1): votes 1 (above), 0, 0 -> 0. (1, 2): votes 1 (above), 0 (below) -> equal; of its known voxels grain 0 is
    # the one that comes first in the volume, which is crystal 1.
    np.testing.assert_array_equal(_fill(labels)[1].ravel(), [0, 0, 1])


def test_nothing_known() -> None:
    with pytest.raises(ValueError, match="no voxel is True"):
        neighbour_vote(CRYSTALS[np.zeros((2, 2, 2), int)], np.zeros((2, 2, 2), bool))
