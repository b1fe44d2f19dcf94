"""Averages of the parameters against their closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polymicros_jax.training.ema import SLOW_EMA, EmaLaw, update

STEPS = 40


def weights(law, steps=STEPS):
    """Weight of the start and of the parameters after each step, from averaging unit vectors."""
    one_hot = jnp.eye(steps + 1)
    average = {"a": one_hot[0]}
    for step in range(1, steps + 1):
        average = update(average, {"a": one_hot[step]}, law.kept(jnp.asarray(step)))
    return np.asarray(average["a"])


def test_constant_decay_is_geometric():
    decay, found = 0.9, weights(EmaLaw(decay=0.9))
    expected = [decay**STEPS] + [(1 - decay) * decay ** (STEPS - t) for t in range(1, STEPS + 1)]
    # 40 float32 steps of values up to 1.
    np.testing.assert_allclose(found, expected, atol=STEPS * 6e-8)


@pytest.mark.parametrize("power", [1.0, 2.0, 6.94])
def test_power_law_forgets_the_start_and_weighs_by_a_power(power):
    law = EmaLaw(decay=1.0, power=power)
    assert float(law.kept(jnp.asarray(1))) == 0.0
    found = weights(law)
    # Telescoped: w_t = (1 - (1 - 1/t)^(p+1)) (t / T)^(p+1) = (t^(p+1) - (t-1)^(p+1)) / T^(p+1).
    t = np.arange(STEPS + 1.0)
    expected = np.concatenate([[0.0], np.diff(t ** (power + 1))]) / STEPS ** (power + 1)
    # Each kept weight carries (p + 1) roundings of its base; 40 of them accumulate.
    np.testing.assert_allclose(found, expected, atol=STEPS * (power + 1) * 6e-8)
    assert found[0] == 0.0


@pytest.mark.parametrize("law", [SLOW_EMA, EmaLaw(0.9), EmaLaw(0.999, 6.94), EmaLaw(1.0, 2.0)])
def test_weights_sum_to_one(law):
    assert weights(law).sum() == pytest.approx(1.0, abs=STEPS * 6e-8)


def test_power_law_is_capped_by_the_decay():
    law = EmaLaw(decay=0.9, power=2.0)
    # (1 - 1/t)^3 passes 0.9 between t = 28 (0.8967) and t = 29 (0.9001).
    kept = [float(law.kept(jnp.asarray(t))) for t in (28, 29, 1000)]
    np.testing.assert_allclose(kept, [(27 / 28) ** 3, 0.9, 0.9], rtol=1e-6)
    assert kept[0] < 0.9


def test_update_runs_leaf_by_leaf_under_jit():
    old = {"a": jnp.array([1.0, 2.0]), "b": {"c": jnp.array(4.0)}}
    new = {"a": jnp.array([3.0, 6.0]), "b": {"c": jnp.array(0.0)}}
    mixed = jax.jit(update)(old, new, jnp.asarray(0.25))
    assert jax.tree.structure(mixed) == jax.tree.structure(old)
    np.testing.assert_array_equal(mixed["a"], [2.5, 5.0])
    np.testing.assert_array_equal(mixed["b"]["c"], 1.0)


@pytest.mark.parametrize("law", [EmaLaw(0.9), EmaLaw(0.9, 2.0)])
def test_single_precision_stays_single(x64, law):
    # A kept weight in double precision would turn the average to double, and every step would be compiled again.
    average = update({"a": jnp.zeros(2, jnp.float32)}, {"a": jnp.ones(2, jnp.float32)}, law.kept(jnp.asarray(3)))
    assert average["a"].dtype == jnp.float32
