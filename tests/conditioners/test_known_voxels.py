"""Known voxels, channel means and posterior-score guidance."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polymicros_jax.conditioners.channel_means import ChannelMeans
from polymicros_jax.conditioners.guidance import KnownVoxelsGuide
from polymicros_jax.conditioners.known_voxels import KnownVoxels, NoisedKnownVoxels
from polymicros_jax.diffusion.conditioning import Projection, Step

SHAPE = (6, 5, 4, 2)
KNOWN = jax.random.bernoulli(jax.random.key(0), 0.3, SHAPE[:3])
VALUES = jnp.where(KNOWN[..., None], jax.random.normal(jax.random.key(1), SHAPE), jnp.nan)
STATE = jax.random.normal(jax.random.key(2), SHAPE)


def step(index, count=8, sigma=0.0, seed=0):
    return Step(index=jnp.asarray(index), count=jnp.asarray(count), sigma=jnp.asarray(sigma), key=jax.random.key(seed))


def test_known_voxels_are_set_and_others_kept():
    out = KnownVoxels(values=VALUES, known=KNOWN)(STATE, step(0))
    np.testing.assert_array_equal(out[KNOWN], VALUES[KNOWN])
    np.testing.assert_array_equal(out[~KNOWN], STATE[~KNOWN])


@pytest.mark.parametrize(("index", "set_"), [(5, True), (6, False)])
def test_theta_ends_the_projection(index, set_):
    out = KnownVoxels(values=VALUES, known=KNOWN)(STATE, step(index))
    # Alg. 4: i < theta N with the paper's theta of three quarters, and theta N = 6 here.
    np.testing.assert_array_equal(out[KNOWN], (VALUES if set_ else STATE)[KNOWN])


def test_a_share_of_the_steps_is_that_number_of_them():
    """The first theta N steps, a part of a step counted whole, in exact arithmetic."""
    for hundredths, count in itertools.product(range(0, 101, 5), (16, 25, 46, 50, 100)):
        condition = KnownVoxels(jnp.ones((1, 1, 1, 1)), jnp.ones((1, 1, 1), bool), jnp.float32(hundredths / 100))
        states = jax.vmap(lambda i, n=count, c=condition: c(jnp.zeros((1, 1, 1, 1)), step(i, n)))(jnp.arange(count))
        assert int(states.sum()) == -(-hundredths * count // 100)


def test_noised_replacement_carries_the_level_of_the_state():
    values = jnp.ones((20, 20, 20, 3))
    known = jnp.ones((20, 20, 20), bool)
    noise = NoisedKnownVoxels(values=values, known=known)(jnp.zeros_like(values), step(0, sigma=2.5)) - 1.0
    count = noise.size
    assert abs(float(jnp.std(noise)) / 2.5 - 1) < 5 / np.sqrt(2 * count)
    assert abs(float(jnp.mean(noise))) < 5 * 2.5 / np.sqrt(count)
    other = NoisedKnownVoxels(values=values, known=known)(jnp.zeros_like(values), step(0, sigma=2.5, seed=1)) - 1.0
    assert abs(float(jnp.mean(noise * other))) < 5 * 2.5**2 / np.sqrt(count)


def test_noised_replacement_is_exact_at_zero_noise():
    out = NoisedKnownVoxels(values=VALUES, known=KNOWN)(STATE, step(7))
    np.testing.assert_array_equal(out[KNOWN], VALUES[KNOWN])
    np.testing.assert_array_equal(out[~KNOWN], STATE[~KNOWN])


def test_channel_means_are_restored_by_a_shift():
    target = jnp.array([0.7, -0.2])
    out = ChannelMeans(mean=target)(STATE, step(0))
    np.testing.assert_allclose(jnp.mean(out, axis=(0, 1, 2)), target, atol=1e-6)
    np.testing.assert_allclose(jnp.std(out - STATE, axis=(0, 1, 2)), 0.0, atol=1e-6)


@pytest.mark.parametrize("kind", [KnownVoxels, NoisedKnownVoxels])
def test_five_observations_cost_one_trace(kind):
    traces = []

    @jax.jit
    def run(condition, x):
        traces.append(1)
        return condition(x, step(0))

    for value in range(5):
        condition = kind(values=jnp.full(SHAPE, float(value)), known=KNOWN)
        assert isinstance(condition, Projection)
        np.testing.assert_array_equal(run(condition, STATE)[KNOWN], np.full((int(KNOWN.sum()), 2), float(value)))
    assert len(traces) == 1


def wiener(x, sigma):
    return jnp.asarray(x) * (0.25 / (0.25 + jnp.asarray(sigma) ** 2))


@pytest.mark.parametrize("sigma", [0.05, 1.0, 30.0])
def test_guidance_is_the_exact_posterior_of_white_data(sigma):
    guided = KnownVoxelsGuide(values=VALUES, known=KNOWN)(wiener)(STATE, sigma)
    # The estimate at known voxels is a sum of terms as large as the state; single precision.
    np.testing.assert_allclose(guided[KNOWN], VALUES[KNOWN], atol=3e-6)
    np.testing.assert_allclose(guided[~KNOWN], wiener(STATE, sigma)[~KNOWN], atol=1e-6)


def test_guidance_weighs_noisy_observations():
    noise, sigma = 0.3, 0.8
    guided = KnownVoxelsGuide(values=VALUES, known=KNOWN, noise=noise)(wiener)(STATE, sigma)
    # Posterior mean of three independent pieces: prior (variance d^2), state (sigma^2), observation (noise^2).
    precision = 1 / 0.25 + 1 / sigma**2 + 1 / noise**2
    expected = (STATE / sigma**2 + VALUES / noise**2) / precision
    np.testing.assert_allclose(guided[KNOWN], expected[KNOWN], atol=2e-6)


def test_guidance_spreads_to_neighbours_through_the_denoiser():
    def smoothing(x, sigma):
        return 0.5 * (jnp.asarray(x) + jnp.roll(jnp.asarray(x), 1, axis=0))

    known = jnp.zeros(SHAPE[:3], bool).at[2, 2, 2].set(True)
    guide = KnownVoxelsGuide(values=jnp.full(SHAPE, 9.0), known=known, iterations=1)
    change = guide(smoothing)(STATE, 1.0) - smoothing(STATE, 1.0)
    touched = np.argwhere(np.abs(np.asarray(change)).sum(-1) > 1e-6)
    np.testing.assert_array_equal(touched, [[1, 2, 2], [2, 2, 2]])


def test_guidance_solves_a_correlated_posterior():
    # A circulant prior along x; the exact conditional mean by dense linear algebra.
    n, sigma = SHAPE[0], 0.7
    apart = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    covariance = 0.25 * np.exp(-np.minimum(apart, n - apart))
    wiener_matrix = covariance @ np.linalg.inv(covariance + sigma**2 * np.eye(n))
    known = np.zeros(SHAPE[:3], bool)
    known[[0, 1, 3]] = True
    values = jnp.zeros(SHAPE) + 0.4

    def denoise(x, level):
        return jnp.einsum("ij,j...->i...", jnp.asarray(wiener_matrix, jnp.float32), x)

    guide = KnownVoxelsGuide(values=values, known=jnp.asarray(known))
    found = np.asarray(guide(denoise)(STATE, sigma))
    posterior = sigma**2 * wiener_matrix
    seen = known[:, 0, 0]
    prior_mean = np.tensordot(wiener_matrix, np.asarray(STATE), 1)
    gain = posterior[:, seen] @ np.linalg.inv(posterior[np.ix_(seen, seen)])
    expected = prior_mean + np.tensordot(gain, 0.4 - prior_mean[seen], 1)
    # Conjugate gradients end after as many steps as there are different eigenvalues: the three of three unknowns a
    # column, and three is the default. Single precision, and values below 4.
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_guidance_follows_no_direction_of_negative_curvature():
    """Where the Jacobian of a denoiser is negative, as no covariance is, the guide leaves its answer alone."""

    def wrong(x, sigma):
        return -0.5 * jnp.asarray(x)

    guided = KnownVoxelsGuide(values=VALUES, known=KNOWN)(wrong)(STATE, 1.0)
    np.testing.assert_array_equal(guided, wrong(STATE, 1.0))


def test_zero_strength_switches_guidance_off():
    off = KnownVoxelsGuide(values=VALUES, known=KNOWN, strength=0.0)(wiener)
    np.testing.assert_array_equal(off(STATE, 1.0), wiener(STATE, 1.0))
