"""Identities of the EDM preconditioning."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polymicros_jax.diffusion.loss import NoiseLaw, denoising_error, edm_loss
from polymicros_jax.diffusion.preconditioning import coefficients, denoiser, loss_weight, within
from polymicros_jax.diffusion.sampler import sample
from polymicros_jax.diffusion.schedule import karras

LEVELS = np.geomspace(0.002, 80.0, 23)


@pytest.mark.parametrize("sigma_data", [0.5, 0.21])
def test_identities(x64, sigma_data):
    c = coefficients(LEVELS, sigma_data)
    # Ratios of a few double operations.
    np.testing.assert_allclose(loss_weight(LEVELS, sigma_data) * c.out**2, 1.0, rtol=1e-14)
    # Unit variance into the network, and into its target: c_skip and c_out solve Karras et al. 2022, App. B.6.
    np.testing.assert_allclose(c.into**2 * (LEVELS**2 + sigma_data**2), 1.0, rtol=1e-14)
    target = (1 - c.skip) ** 2 * sigma_data**2 + c.skip**2 * LEVELS**2
    np.testing.assert_allclose(target / c.out**2, 1.0, rtol=1e-12)
    # The closed forms of EDM's Table 1.
    np.testing.assert_allclose(c.skip, sigma_data**2 / (LEVELS**2 + sigma_data**2), rtol=1e-14)
    np.testing.assert_allclose(c.out, LEVELS * sigma_data / np.sqrt(LEVELS**2 + sigma_data**2), rtol=1e-12)
    np.testing.assert_allclose(c.noise, np.log(LEVELS) / 4)


def test_skip_scale_of_its_own(x64):
    c = coefficients(np.array([0.05, 0.5]), 0.5, 0.05)
    # At the scale itself half of x is kept, at ten times the scale a hundredth.
    np.testing.assert_allclose(c.skip, [0.5, 1 / 101], rtol=1e-14)
    # The target of the network, (x0 - c_skip x) / c_out, has unit variance: 4e5 draws, standard error 0.0022.
    data, noise = np.random.default_rng(0).normal(size=(2, 400_000))
    for level, skip, out in zip((0.05, 0.5), c.skip, c.out, strict=True):
        target = (0.5 * data - skip * (0.5 * data + level * noise)) / out
        assert np.var(target) == pytest.approx(1.0, abs=4 * 0.0022)
    # A denoiser with a silent network keeps c_skip of x.
    silent = denoiser(lambda x, level: jnp.zeros_like(x), 0.5, 0.05)
    np.testing.assert_allclose(silent(jnp.ones((2, 2, 2, 1)), 0.05), 0.5, rtol=1e-12)


def test_skip_keeps_x_that_the_paper_prints_without():
    silent = denoiser(lambda x, level: jnp.zeros_like(x), 0.5)
    x = jax.random.normal(jax.random.key(0), (3, 4, 5, 2))
    # A silent network leaves the Wiener filter of white data: x d^2 / (s^2 + d^2).
    np.testing.assert_allclose(silent(x, 0.5), 0.5 * x, rtol=1e-6)


def test_one_level_per_batch_entry():
    denoise = denoiser(lambda x, level: jnp.tanh(x) + level.reshape(-1, 1, 1), 0.5)
    single = denoiser(lambda x, level: jnp.tanh(x) + level, 0.5)
    x = jax.random.normal(jax.random.key(0), (4, 4, 4))
    sigma = jnp.array([0.1, 1.0, 3.0, 50.0])
    expected = jnp.stack([single(x[i], sigma[i]) for i in range(4)])
    np.testing.assert_allclose(denoise(x, sigma), expected, rtol=1e-6)


def test_a_smaller_skip_would_weigh_low_noise_a_seventeenth():
    small = 1.0 / jnp.square(coefficients(jnp.array(0.1), 0.5, 0.05).out)
    assert float(loss_weight(jnp.array(0.1), 0.5) / small) == pytest.approx(17, abs=0.5)


def test_loss_of_a_silent_network_on_white_data_is_one():
    d, count = 0.5, 200_000
    x = d * jax.random.normal(jax.random.key(1), (count, 1))
    silent = denoiser(lambda x, level: jnp.zeros_like(x), d)
    loss = edm_loss(jax.random.key(2), silent, x, NoiseLaw(), d)
    # The weighted error of the exact posterior is chi-squared with one degree: standard error sqrt(2 / count).
    assert abs(float(loss) - 1.0) < 5 * np.sqrt(2 / count)


def test_denoising_error_is_the_noise_of_the_identity():
    x = jnp.zeros((2, 50_000))
    error = denoising_error(jax.random.key(0), lambda x, sigma: x, x, jnp.array([0.1, 2.0]))
    np.testing.assert_allclose(error, [0.01, 4.0], rtol=5 * np.sqrt(2 / 50_000))


def test_noise_law_is_log_normal():
    draws = jnp.log(NoiseLaw(0.3, 1.3).sample(jax.random.key(0), (100_000,)))
    assert abs(float(draws.mean()) - 0.3) < 5 * 1.3 / np.sqrt(1e5)
    assert abs(float(draws.std()) - 1.3) < 5 * 1.3 / np.sqrt(2e5)


def test_a_limited_answer_is_nearer_to_data_in_the_ball():
    key = jax.random.split(jax.random.key(0), 3)
    truth = jax.random.normal(key[0], (500, 9))
    truth = 1.5 * truth / jnp.linalg.norm(truth, axis=-1, keepdims=True)  # as fields of GSH-4
    answer = truth + jax.random.normal(key[1], truth.shape)
    limited = within(lambda x, sigma: x, 1.5)(answer, 0.1)
    before, after = (jnp.linalg.norm(each - truth, axis=-1) for each in (answer, limited))
    outside = jnp.linalg.norm(answer, axis=-1) > 1.5
    assert bool(jnp.all(after[outside] < before[outside]))
    np.testing.assert_array_equal(limited[~outside], answer[~outside])
    assert int(outside.sum()) > 400
    assert float(jnp.linalg.norm(limited, axis=-1).max()) <= 1.5 * (1 + 1e-6)
    gradient = jax.grad(lambda x: jnp.sum(within(lambda x, sigma: x, 1.5)(x, 0.1)))(jnp.zeros((2, 9)))
    np.testing.assert_allclose(gradient, 1.0)


def test_a_network_that_amplifies_cannot_run_away():
    def amplifies(x, sigma):
        return x * (1.0 + 5.0 * jnp.linalg.norm(x, axis=-1, keepdims=True))

    def largest(denoise):
        return float(jnp.abs(sample(jax.random.key(0), denoise, jnp.ones((4, 4, 4, 9)), karras(32), skip=20)).max())

    assert not largest(amplifies) < 1e6
    assert largest(within(amplifies, 1.5)) <= 1.5 * (1 + 1e-6)
