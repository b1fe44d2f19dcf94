"""The Fourier conventions, each numbered line of grid's page."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from polymicros_jax.spectral import grid


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_lags_are_fft_ordered_with_negative_nyquist(n):
    np.testing.assert_array_equal(grid.integer_lags(n), np.rint(np.fft.fftfreq(n) * n))


@pytest.mark.parametrize("n", [5, 8])
def test_domain_is_half_open_with_zero_on_the_grid(n):
    r = grid.lag_coordinates(n)
    assert r[0] == 0
    assert r.min() >= -math.pi
    assert r.max() < math.pi
    # Uniform, and the next point to the right would be the left end again.
    np.testing.assert_allclose(np.diff(np.sort(r)), 2 * math.pi / n, rtol=1e-14)
    assert np.isclose(r.min(), -math.pi) == (n % 2 == 0)


@pytest.mark.parametrize("shape", [(5, 4, 6), (4, 6, 5), (3, 5)])
def test_forward_matches_the_defining_sum_and_inverse_undoes_it(x64, shape):
    m = np.random.default_rng(0).normal(size=shape)
    axes = tuple(range(len(shape)))
    spectrum = np.asarray(grid.forward(m, axes))
    k = (1, 2, 1)[: len(shape)]
    phase = sum(np.arange(n).reshape([-1 if a == i else 1 for a in axes]) * k[i] / n for i, n in enumerate(shape))
    np.testing.assert_allclose(spectrum[k], (m * np.exp(-2j * np.pi * phase)).sum(), atol=1e-12)
    np.testing.assert_allclose(grid.inverse(spectrum, shape, axes), m, atol=1e-14)


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_half_spectrum_weights_count_every_wavenumber_once(n):
    assert grid.half_spectrum_weights(n).sum() == n


@pytest.mark.parametrize("n", [4, 7])
def test_negate_is_an_involution_that_fixes_zero_and_nyquist(n):
    f = jnp.arange(n * 3.0).reshape(n, 3)
    g = grid.negate(f, (0,))
    np.testing.assert_array_equal(g, np.asarray(f)[-np.arange(n) % n])
    np.testing.assert_array_equal(grid.negate(g, (0,)), f)


@pytest.mark.parametrize("n", [1, 4, 7, 32])
def test_padding_keeps_the_lags_apart(n):
    """Marks every lag of zero-padded data with itself; a lag that wrapped would add to another."""
    padded = grid.padded_length(n)
    marks = np.zeros(padded)
    for lag in range(-(n - 1), n):
        marks[lag % padded] += lag
    kept = np.asarray(grid.crop_lags(jnp.asarray(marks), n, 0))
    expected = grid.integer_lags(n).astype(float)
    if n % 2 == 0:
        expected[n // 2] = 0  # -n/2 and +n/2 pooled
    np.testing.assert_array_equal(kept, expected)
