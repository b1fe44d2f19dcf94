"""Simulated volumes: what their source says, and nothing they are not."""

import re

import numpy as np
import pytest

from polymicros_jax import config as defaults
from polymicros_jax.data import simulated
from polymicros_jax.data.errors import DataError
from polymicros_jax.experiment import inputs
from polymicros_jax.orientation import grains

SOURCE = "simulated/grain_growth?side=20&grains=8&start=40&aspect=1,1,1.25&seed=3"


def test_a_grown_volume_is_one_orientation_a_grain_and_says_that_it_is_simulated() -> None:
    volume = simulated.load(SOURCE)
    assert volume.shape == (20, 20, 20)
    assert volume.provenance["source"] == SOURCE
    assert volume.provenance["simulated"] is True
    labels = volume.fields["grain"]
    assert volume.provenance["grains"] == labels.max() + 1 <= 8
    for grain in range(labels.max() + 1):
        assert len(np.unique(volume.quaternions[labels == grain], axis=0)) == 1
    # Segmentation by disorientation finds the same grains, but for pieces and for neighbours closer than 5 degrees.
    found = grains.segment(volume.quaternions, periodic=True, minimum_size=8)
    assert abs(found.max() - labels.max()) <= 1


def test_a_seed_gives_the_same_volume_and_another_one_another() -> None:
    one, other = (simulated.load(f"simulated/voronoi?side=12&grains=9&seed={seed}") for seed in (1, 2))
    simulated.load.cache_clear()
    again = simulated.load("simulated/voronoi?side=12&grains=9&seed=1")
    np.testing.assert_array_equal(one.quaternions, again.quaternions)
    assert (one.quaternions != other.quaternions).any()


def test_a_simulation_is_a_source_like_any_other() -> None:
    section = defaults.volume("simulated/voronoi?side=12&grains=9")
    section.stop = (12, 6, 0)
    volume = inputs.volume(section, "train.volumes[0]")
    assert volume.shape == (12, 6, 12)
    np.testing.assert_array_equal(
        volume.quaternions, simulated.load("simulated/voronoi?side=12&grains=9").quaternions[:, :6]
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("simulated/foam", "found the kind 'foam', accepted are simulated/grain_growth, simulated/voronoi"),
        ("simulated/voronoi?sides=3", "found ['sides'], accepted are"),
        ("simulated/voronoi?side=ten", "'ten'"),
        ("simulated/voronoi?aspect=1,1", "3 positive numbers"),
        ("simulated/voronoi?seed=4294967296", "0 <= seed < 4294967296"),
        ("simulated/grain_growth?side=8&grains=200", "0 < grains <= start"),
    ],
)
def test_a_source_that_cannot_be_made_is_refused(source: str, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        simulated.load(source)
