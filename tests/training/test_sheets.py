"""Sample sheets: the right draws, the right colours, and distances that tell crystals from noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polymicros_jax.orientation import ipf, quaternion, representation
from polymicros_jax.training.sheets import distance_to_orientations, draws, sample_sheet
from polymicros_jax.viz import canvas

KIND = representation.get("gsh4")


@pytest.fixture(scope="module")
def crystals():
    """Two polycrystals of two grains each."""
    q = np.asarray(quaternion.random(jax.random.key(0), (2, 2)))
    grain = (np.arange(8).reshape(1, 8, 1, 1) + np.zeros((2, 8, 8, 8), int)) // 4
    return q[np.arange(2).reshape(2, 1, 1, 1), grain]


@pytest.fixture(scope="module")
def fields(crystals):
    return np.asarray(KIND.encode(crystals))


def test_distances_tell_crystals_from_noise(fields):
    # Decoding ends within 0.05 degrees: 1e-3 of sqrt(20 / 3) * 3 / 2 a radian, over a norm of 3 / 2.
    np.testing.assert_allclose(distance_to_orientations(fields, KIND), 0.0, atol=3e-3)
    noise = 0.5 * np.random.default_rng(0).normal(size=(2, 8, 8, 8, 9)).astype(np.float32)
    for far in distance_to_orientations(noise, KIND):
        assert 0.6 < far < 0.75
    # A step along the field's own direction leaves the sphere the manifold lies on: 10 % of the norm.
    np.testing.assert_allclose(distance_to_orientations(1.1 * fields, KIND), 0.1, rtol=1e-2)


def test_a_sheet_shows_the_middle_planes_of_draws_and_patches(crystals, fields):
    figure = sample_sheet(fields[:1], fields, "gsh4", "step 7")
    drawn, real = figure.subfigs
    assert [half.get_suptitle() for half in (drawn, real)] == ["drawn", "real patches"]
    assert figure.get_suptitle() == "step 7"
    # One draw beside two patches; the rest of the grid is taken out.
    assert (len(drawn.axes), len(real.axes)) == (3, 6)
    assert drawn.axes[1].get_title() == "distance to orientations 0.000"
    expected = np.asarray(ipf.colours(crystals[1], "z", "432"))
    for axis, axes in enumerate(real.axes[3:]):
        shown = axes.images[0].get_array()
        # A two-millionth turn of a colour circle, and decoding to 0.05 degrees in float32.
        np.testing.assert_allclose(shown, canvas.plane(expected, axis), atol=5e-3)
    assert len(canvas.to_png(figure)) > 10_000


def test_a_representation_that_cannot_be_decoded_is_shown_by_its_channels():
    field = np.random.default_rng(0).uniform(-0.4, 0.4, (1, 4, 4, 4, 3)).astype(np.float32)
    figure = sample_sheet(2 * field, field, "rogsh3")
    shown = figure.subfigs[1].axes[0].images[0].get_array()
    low, high = field.min((0, 1, 2, 3)), field.max((0, 1, 2, 3))
    expected = (field[0] - low.reshape(1, 1, 1, 3)) / (high - low).reshape(1, 1, 1, 3)
    np.testing.assert_allclose(shown, canvas.plane(expected, 0), atol=1e-6)
    # What lies beyond the range of the data is cut off.
    assert figure.subfigs[0].axes[0].images[0].get_array().max() <= 1.0


def test_draws_have_the_spread_of_what_the_network_knows(silent_network):
    found = draws(jax.random.key(3), silent_network, count=2, size=6, steps=18)
    assert found.shape == (2, 6, 6, 6, 2)
    # A silent network is the exact denoiser of white data of standard deviation 1/2, which 18 steps draw 5.5 % too
    # wide; 864 values scatter by 1 / sqrt(2 * 864).
    assert float(jnp.std(found)) == pytest.approx(0.5 * 1.055, rel=5 / np.sqrt(2 * 864))
    assert float(jnp.abs(found[0] - found[1]).max()) > 0.1
