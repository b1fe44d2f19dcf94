"""Representations by name keep what they promise."""

import dataclasses

import jax
import numpy as np
import pytest

from polymicros_jax.orientation import quaternion, representation


@pytest.mark.parametrize("name", representation.names())
def test_promises(name):
    r = representation.get(name)
    q = quaternion.random(jax.random.key(0), (2000,))
    e = np.asarray(r.encode(q))
    assert e.shape == (2000, r.channels)
    # Root mean square of the channels' deviations; a few per cent from 2,000 draws.
    assert np.sqrt(np.mean(e.std(axis=0) ** 2)) == pytest.approx(r.sigma_data, rel=0.05)
    recovered, distance = r.decode(e)
    assert distance.shape == (2000,)
    error = np.degrees(quaternion.disorientation(recovered, q, r.group))
    assert (np.median(error) < 0.05) == r.invertible
    if r.sample_rotation is not None:
        turn = quaternion.random(jax.random.key(1))
        turned = r.encode(quaternion.rotate_sample(q, turn))
        np.testing.assert_allclose(turned, e @ np.asarray(r.sample_rotation(turn)).T, atol=1e-5)


def test_frozen_and_named():
    r = representation.get("gsh4")
    assert (r.group, r.channels, r.sigma_data) == ("432", 9, 0.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        r.channels = 3
    with pytest.raises(ValueError, match=r"found 'gsh5'; accepted are gsh4, hex27, rogsh3"):
        representation.get("gsh5")
