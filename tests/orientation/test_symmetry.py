"""The 11 group tables are groups; reduction to the fundamental zone."""

import jax
import numpy as np
import pytest

from polymicros_jax.orientation import quaternion, symmetry

ORDERS = {"1": 1, "2": 2, "222": 4, "3": 3, "32": 6, "4": 4, "422": 8, "6": 6, "622": 12, "23": 12, "432": 24}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("group", ORDERS)
def test_tables_are_groups(group):
    ops = symmetry.operators(group)
    assert len(ops) == ORDERS[group]
    np.testing.assert_array_equal(ops[0], [1, 0, 0, 0])
    # |scalar product| is 1 for the same rotation: every product is in the table exactly once (a Latin square).
    products = np.asarray(quaternion.multiply(ops[:, None, :], ops[None, :, :]))
    index = np.abs(products @ ops.T)
    np.testing.assert_allclose(index.max(axis=-1), 1, atol=1e-15)
    square = index.argmax(axis=-1)
    assert (np.sort(square, axis=0) == np.arange(len(ops))[:, None]).all()
    assert (np.sort(square, axis=1) == np.arange(len(ops))[None, :]).all()
    off = np.abs(ops @ ops.T) - np.eye(len(ops))
    assert off.max() < 1 - 1e-6  # no element twice


def test_tables_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        symmetry.operators("432")[0, 0] = 2.0


def test_unknown_group_is_named():
    with pytest.raises(ValueError, match=r"found 'm-3m'.*432"):
        symmetry.operators("m-3m")


@pytest.mark.parametrize("group", ORDERS)
def test_reduction(group):
    q = quaternion.random(jax.random.key(2), (500,))
    reduced = symmetry.reduce_to_fundamental_zone(q, group)
    assert symmetry.in_fundamental_zone(np.asarray(reduced), group, 1e-6).all()
    # The same crystal: float32 rounding of a quaternion is 1e-7, an angle of 1e-6.
    assert np.asarray(quaternion.disorientation(reduced, q, group)).max() < 2e-6
    again = symmetry.reduce_to_fundamental_zone(reduced, group)
    np.testing.assert_allclose(again, reduced, atol=1e-7)
    equivalent = symmetry.equivalents(q, group)[:, -1]
    np.testing.assert_allclose(symmetry.reduce_to_fundamental_zone(equivalent, group), reduced, atol=1e-6)


@pytest.mark.parametrize("group", ["432", "622", "222"])
def test_share_of_the_zone(group):
    # The zone holds 1/order of all rotations: 4 standard errors of a binomial.
    q = np.asarray(quaternion.random(jax.random.key(0), (40_000,)))
    p = 1 / ORDERS[group]
    assert abs(symmetry.in_fundamental_zone(q, group).mean() - p) < 4 * np.sqrt(p / 40_000)
