"""Streaming PCA against one decomposition of all the data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polymicros_jax.spectral import diversity


def data(samples=40, size=60, rank=6, seed=0):
    """Rows of a given rank with falling variances, far from the origin."""
    random = np.random.default_rng(seed)
    directions = np.linalg.qr(random.normal(size=(size, rank)))[0].T
    return (random.normal(size=(samples, rank)) * 2.0 ** -np.arange(rank)) @ directions + random.normal(size=size) * 3


def streamed(rows, rank, batches, dtype=jnp.float64):
    state = diversity.empty(rows.shape[1], rank, dtype)
    for batch in np.array_split(rows, batches):
        state = diversity.update(state, batch)
    return state


@pytest.mark.parametrize("batches", [1, 3, 40])
def test_batches_give_the_decomposition_of_all_data(x64, batches):
    rows = data()
    state = streamed(rows, 8, batches)
    centred = rows - rows.mean(0)
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    assert float(state.count) == 40
    np.testing.assert_allclose(state.mean, rows.mean(0), atol=1e-12)
    np.testing.assert_allclose(state.singular_values, values[:8], atol=1e-10)
    overlap = np.abs(np.sum(np.asarray(state.components)[:6] * directions[:6], axis=1))
    np.testing.assert_allclose(overlap, 1, atol=1e-9)
    np.testing.assert_allclose(diversity.variances(state).sum(), rows.var(0, ddof=1).sum(), rtol=1e-10)
    np.testing.assert_allclose(
        np.abs(diversity.scores(state, rows)[:, :6]), np.abs(centred @ directions[:6].T), atol=1e-8
    )


def test_merging_workers_equals_one_stream(x64):
    rows = data()
    merged = diversity.merge(streamed(rows[:17], 8, 2), streamed(rows[17:], 8, 3))
    whole = streamed(rows, 8, 4)
    np.testing.assert_allclose(merged.singular_values, whole.singular_values, atol=1e-10)
    np.testing.assert_allclose(merged.mean, whole.mean, atol=1e-12)
    np.testing.assert_allclose(merged.squared_sum, whole.squared_sum, rtol=1e-12)


def test_dropped_directions_stay_in_the_total(x64):
    """Rank 2 of 6: the curve ends at the share that is kept, not at 1; the total is exact."""
    rows = data(samples=400)
    state = streamed(rows, 2, 20)
    assert float(state.squared_sum) == pytest.approx(((rows - rows.mean(0)) ** 2).sum(), rel=1e-12)
    values = np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2
    exact = values[:2].sum() / values.sum()
    # Merging never overstates the kept variance, and loses little when the spectrum falls by four each step.
    assert 0.98 * exact < float(diversity.captured(state)) <= exact + 1e-12
    assert float(diversity.captured(state)) < 0.97


def test_explained_variance_and_effective_rank_of_equal_directions(x64):
    """Points at +-e_i: k equal variances, so the curve is linear and the effective rank is k."""
    k = 5
    rows = np.concatenate([np.eye(k, 9), -np.eye(k, 9)])
    state = streamed(rows, 7, 3)
    np.testing.assert_allclose(diversity.explained_variance_curve(state)[:k], np.arange(1, k + 1) / k, atol=1e-12)
    assert float(diversity.effective_rank(state)) == pytest.approx(k, rel=1e-10)
    line = np.linspace(0, 1, 10)[:, None] * np.ones(9)
    assert float(diversity.effective_rank(streamed(line, 7, 2))) == pytest.approx(1, abs=1e-6)


def test_more_diverse_sets_rank_higher():
    narrow, wide = data(rank=2), data(rank=6)
    ranks = [float(diversity.effective_rank(streamed(rows, 10, 4, jnp.float32))) for rows in (narrow, wide)]
    assert ranks[0] < ranks[1]


def test_single_precision_and_memory():
    rows = data().astype(np.float32)
    state = streamed(rows, 8, 5, jnp.float32)
    values = np.linalg.svd((rows - rows.mean(0)).astype(np.float64), compute_uv=False)
    # Round-off of single precision on values of size 3 with 40 samples: 40 x 3 x 6e-8 against the largest, about 6.
    np.testing.assert_allclose(state.singular_values, values[:8], atol=5e-5)
    # The state does not grow with the number of samples.
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 8 * 60 + 60 + 8 + 2


def test_features_flatten_a_tree_with_missing_lags():
    tree = {"x": jnp.ones((2, 3)), "y": jnp.asarray([np.nan, 2.0])}
    np.testing.assert_array_equal(diversity.features(tree), [1, 1, 1, 1, 1, 1, 0, 2])


def test_directions_without_variance_are_none():
    state = diversity.update(diversity.empty(size=3, rank=2), np.array([[1.0, 0.0, 0.0], [3.0, 0.0, 0.0]]))
    np.testing.assert_array_equal(state.components[1], 0.0)
    np.testing.assert_allclose(np.abs(diversity.scores(state, np.array([[2.0, 5.0, 7.0]]))), 0.0, atol=1e-6)


def test_workers_that_saw_nothing_change_nothing():
    nothing = diversity.merge(diversity.empty(size=6, rank=3), diversity.empty(size=6, rank=3))
    rows = np.asarray(data()[:9, :6], np.float32)
    alone = diversity.update(diversity.empty(size=6, rank=3), rows)
    for merged in (diversity.update(nothing, rows), diversity.merge(nothing, alone), diversity.merge(alone, nothing)):
        np.testing.assert_allclose(merged.mean, alone.mean, rtol=1e-6)
        np.testing.assert_allclose(merged.singular_values, alone.singular_values, rtol=1e-5)
