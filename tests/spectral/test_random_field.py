"""Random fields: the ensemble has the covariances asked for, for all pairs and lags.

Keys are fixed, so these tests do not flicker. Four standard errors are exceeded by chance at one in 16,000
statistics: with a few thousand distinct (pair, lag) values a right sampler passes for most keys, and a wrong one
fails by tens of standard errors, as the negative controls show. The mean of z^2 is checked too: it is 1 for a right
sampler whatever the key.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polymicros_jax.data import samples
from polymicros_jax.orientation import quaternion, rogsh
from polymicros_jax.spectral import grid, mosm, mosm_kernel, random_field, two_point


def one(seed=0, index=0, **options):
    return jax.tree.map(lambda leaf: leaf[index], mosm.sample_params(seed, index + 1, **options))


def z_scores(draw, expected, count, seed=0, batch=50):
    """Deviation of the ensemble's correlations (the fields have mean zero) in standard errors, every pair and lag."""

    def step(sums, keys):
        f = jax.vmap(lambda key: two_point.correlations(draw(key)))(keys) - expected[None]
        return (sums[0] + f.sum(0), sums[1] + (f**2).sum(0)), None

    keys = jax.random.split(jax.random.key(seed), count).reshape(count // batch, batch)
    first, second = jax.jit(lambda k: jax.lax.scan(step, (jnp.zeros_like(expected),) * 2, k)[0])(keys)
    mean = np.asarray(first, np.float64) / count
    variance = np.asarray(second, np.float64) / count - mean**2
    return mean / np.sqrt(variance / (count - 1))


def measured_covariances(shape=(12, 10, 8), stride=6):
    """Covariances of a measured volume, taken as periodic; every sixth voxel, so that the piece holds many grains."""
    volume = samples.load("in100")
    piece = tuple(slice(0, stride * n, stride) for n in shape)
    euler = quaternion.to_euler(jnp.asarray(volume.quaternions)[piece])
    return two_point.covariances(rogsh.from_euler(euler).astype(jnp.float32))


@pytest.mark.parametrize(
    ("bounds", "shape", "count"),
    [
        pytest.param("paper", (12, 10, 8), 2000, marks=pytest.mark.slow),
        pytest.param("gsh4", (6, 5, 4), 1000, marks=pytest.mark.slow),
        ("paper", (6, 5, 4), 400),
        ("gsh4", (4, 3, 3), 200),
    ],
)
def test_mosm_ensemble_has_the_kernel_for_all_pairs_and_lags(bounds, shape, count):
    params = one(bounds=bounds, mixtures=2)
    z = z_scores(lambda key: random_field.sample_mosm(key, params, shape), mosm.covariance(params, shape), count)
    assert z.shape == (*shape, *(2 * [params.weight.shape[-1]]))
    assert np.abs(z).max() < 4
    # Lags of one field are correlated: mean z^2 has a wider spread than independent values would give.
    assert np.mean(z**2) == pytest.approx(1, abs=0.2)


def test_mosm_in_two_dimensions():
    params = one(dimensions=2)
    shape = (9, 8)
    z = z_scores(lambda key: random_field.sample_mosm(key, params, shape), mosm.covariance(params, shape), 2000)
    assert np.abs(z).max() < 4


def test_transposed_pairs_are_found_out():
    """Negative control: the opposite sign of delay and phase is the transposed kernel, and it fails."""
    params = one(mixtures=1)
    shape = (6, 5, 4)
    wrong = dataclasses.replace(params, delay=-params.delay, phase=-params.phase)
    z = z_scores(lambda key: random_field.sample_mosm(key, wrong, shape), mosm.covariance(params, shape), 200)
    assert np.abs(z).max() > 8


def test_spectral_ensemble_of_a_measured_volume():
    expected = measured_covariances()
    factor = random_field.factorise(expected)
    assert float(factor.clipped_share) < 1e-5
    z = z_scores(lambda key: random_field.sample_factor(key, factor), expected, 2000)
    # Zero frequency: covariances of one volume have none, so their lags sum to zero and so do the draws'.
    assert np.abs(z).max() < 4
    assert np.mean(z**2) == pytest.approx(1, abs=0.15)


def test_reference_row_loses_the_other_channels():
    """Alg. 1 honours row 0 and fails for every pair without channel 0; negative control with the number."""
    params, shape = one(mixtures=4), (16, 16, 16)
    expected = np.asarray(mosm.covariance(params, shape))
    # Alg. 1 leaves out the zero frequency: compare with the covariances less theirs.
    spectrum_at_zero = expected.mean((0, 1, 2))

    def draw(key):
        return two_point.correlations(random_field.sample_reference_row(key, jnp.asarray(expected)))

    got = np.asarray(jnp.mean(jax.lax.map(draw, jax.random.split(jax.random.key(0), 400), batch_size=20), 0))
    scale = np.sqrt(np.einsum("b,g->bg", *(2 * [np.diagonal(expected[0, 0, 0])])))
    error = np.abs(got - (expected - spectrum_at_zero)) / scale
    # 400 draws of a field with some 100 independent modes: 4 / sqrt(400 * 100) = 0.02 and a little more for cross
    # terms.
    assert error[..., 0, :].max() < 0.05
    kept = np.diagonal(got[0, 0, 0])[1:] / np.diagonal(expected[0, 0, 0])[1:]
    assert ((kept > 0.005) & (kept < 0.35)).all(), kept
    assert error[..., 1:, 1:].max() > 0.6


def test_reference_row_measured_losses_over_the_design():
    """The share of variance that channels 1 and 2 keep with the paper's bounds: most of it is lost (measured 2 to 30
    %).
    """
    params = mosm.sample_params(1, 8)
    shape = (32, 32, 32)

    def kept(p):
        spectrum = jnp.fft.fftn(mosm.covariance(p, shape), axes=(0, 1, 2))
        # Channel g is F^{0g}/F^{00} times channel 0: its power is |F^{0g}|^2 / F^{00}.
        coherent = jnp.abs(spectrum[..., 0, 1:]) ** 2 / (spectrum[..., 0, :1].real + 1e-6)
        own = jnp.diagonal(spectrum, axis1=-2, axis2=-1)[..., 1:].real
        return coherent.sum((0, 1, 2)) / own.sum((0, 1, 2))

    shares = np.asarray(jax.lax.map(kept, params))
    assert 0.01 < np.median(shares) < 0.25
    assert shares.max() < 0.6


@pytest.mark.parametrize("shape", [(6, 5, 4), (5, 7, 3), (8, 6)])
def test_root_squares_to_the_spectrum(x64, shape):
    params = one(dimensions=len(shape))
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)
    C = mosm.covariance(params, shape)
    factor = random_field.factorise(C)
    axes = tuple(range(len(shape)))
    square = np.einsum("...ij,...kj->...ik", factor.root, np.conj(factor.root))
    back = grid.inverse(jnp.conj(jnp.asarray(square)), shape, axes)
    np.testing.assert_allclose(back, C, atol=1e-12 * float(jnp.abs(C).max()), rtol=0)
    assert float(factor.clipped_share) < 1e-14


def test_clipped_share_of_an_indefinite_covariance(x64):
    """Correlation 0.8 between neighbours on a ring of 4, none beyond: spectrum 1 + 1.6 cos k = 2.6, 1, -0.6, 1."""
    C = jnp.asarray([1.0, 0.8, 0.0, 0.8])[:, None, None]
    assert float(random_field.factorise(C).clipped_share) == pytest.approx(0.6 / 5.2, abs=1e-12)


def test_white_noise_has_unit_power_at_zero_nyquist_and_between():
    """Power, not amplitude, and no factor two or one half at the self-conjugate wavenumbers."""
    shape = (6, 4, 8)
    C = jnp.zeros((*shape, 2, 2)).at[0, 0, 0].set(jnp.asarray([[1.0, 0.5], [0.5, 2.0]]))
    factor = random_field.factorise(C)
    m = jax.vmap(lambda key: random_field.sample_factor(key, factor))(jax.random.split(jax.random.key(0), 4000))
    spectra = np.fft.fftn(np.asarray(m), axes=(1, 2, 3))
    power = np.einsum("nxyzb,nxyzg->xyzbg", spectra.conj(), spectra) / (4000 * np.prod(shape))
    # |M|^2 has a relative deviation of at most sqrt(2), at self-conjugate wavenumbers; 192 x 3 values: 4.5 deviations.
    np.testing.assert_allclose(
        power, np.broadcast_to(C[0, 0, 0], power.shape), atol=4.5 * np.sqrt(2) * 2 / np.sqrt(4000)
    )


@pytest.mark.parametrize("name", ["mosm", "spectral", "reference_row"])
def test_all_samplers(name):
    """What every public sampler promises: shape, type, reproducible, maps over keys, exact conditioned mean, finite."""
    params, shape = one(), (8, 6, 4)
    C = mosm.covariance(params, shape)
    draw = {
        "mosm": lambda key, **kw: random_field.sample_mosm(key, params, shape, **kw),
        "spectral": lambda key, **kw: random_field.sample_spectral(key, C, **kw),
        "reference_row": lambda key, **kw: random_field.sample_reference_row(key, C, **kw),
    }[name]
    key = jax.random.key(5)
    m = draw(key)
    assert m.shape == (*shape, 3)
    assert m.dtype == jnp.float32
    assert np.isfinite(m).all()
    np.testing.assert_array_equal(m, draw(key))
    assert not np.allclose(m, draw(jax.random.key(6)))
    np.testing.assert_allclose(
        jax.jit(jax.vmap(draw))(jax.random.split(key, 2))[1], draw(jax.random.split(key, 2)[1]), atol=1e-5
    )
    mean = np.asarray([0.1, -0.2, 0.3], np.float32)
    # Mean of 192 values of size 0.3 in single precision.
    np.testing.assert_allclose(draw(key, mean=mean).mean((0, 1, 2)), mean, atol=1e-6)


def test_conditioning_the_mean_changes_the_zero_frequency_alone():
    params, key = one(), jax.random.key(0)
    free = random_field.sample_mosm(key, params, (8, 6, 4))
    fixed = random_field.sample_mosm(key, params, (8, 6, 4), mean=jnp.zeros(3))
    np.testing.assert_allclose(np.ptp(np.asarray(free - fixed), axis=(0, 1, 2)), 0, atol=1e-6)
    assert np.abs(free.mean((0, 1, 2))).max() > 1e-3


def test_a_wider_band_changes_nothing_that_matters():
    """The band of a preset is wide enough: twice as wide adds below 1e-5 of the variance."""
    params = one(dimensions=2)
    covariance = mosm.covariance(params, (4, 4))
    sums = []
    for band in (params.band, 2 * params.band):
        k = jnp.arange(-band, band + 1.0)
        density = jnp.prod(jnp.sum(jnp.abs(mosm_kernel.amplitude_filters(params, k)) ** 2, -1), -1) * params.weight**2
        sums.append(np.asarray(density.sum(0)))
    np.testing.assert_allclose(sums[0], sums[1], rtol=1e-5)
    # And it is the variance of the kernel at zero lag, by Poisson summation.
    np.testing.assert_allclose(sums[0], np.diagonal(covariance[0, 0]), rtol=1e-4)


def test_gradient_through_the_sampler(x64):
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), one(dimensions=2))

    def loss(p):
        return jnp.sum(random_field.sample_mosm(jax.random.key(1), p, (6, 5)) ** 3)

    gradient = jax.grad(loss)(params)

    def moved(h):
        return dataclasses.replace(params, variance=params.variance + h)

    # Central differences in double precision, A of order 3: step 1e-5 squared, relative.
    numeric = (loss(moved(1e-5)) - loss(moved(-1e-5))) / 2e-5
    assert float(gradient.variance.sum()) == pytest.approx(float(numeric), rel=1e-6)


def test_nine_channels_at_128_cubed_fit_in_memory():
    """Compiles without running: the work space of a draw stays below three copies of its result (75 MB)."""
    params = one(bounds="gsh4")
    compiled = random_field._sample_mosm.lower(jax.random.key(0), params, (128, 128, 128)).compile()
    analysis = compiled.memory_analysis()
    assert analysis.output_size_in_bytes == 9 * 4 * 128**3
    assert analysis.temp_size_in_bytes < 3 * analysis.output_size_in_bytes


def test_parameters_of_one_structure_cost_one_trace():
    params = mosm.sample_params(0, 3)
    before = random_field._sample_mosm._cache_size()
    for i in range(3):
        random_field.sample_mosm(jax.random.key(i), jax.tree.map(lambda leaf, i=i: leaf[i], params), (5, 6, 7))
    assert random_field._sample_mosm._cache_size() == before + 1


def test_bad_covariances_are_named():
    C = mosm.covariance(one(), (6, 5, 4))
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="missing or not finite"):
        random_field.sample_spectral(key, C.at[1, 0, 0].set(jnp.nan))
    with pytest.raises(ValueError, match="not Hermitian"):
        random_field.sample_spectral(key, jnp.fft.fftshift(C, (0, 1, 2)))
    with pytest.raises(ValueError, match="not Hermitian"):
        random_field.sample_reference_row(key, C.at[1, 2, 3, 0, 1].add(1.0))
    with pytest.raises(ValueError, match="2 axes"):
        random_field.sample_mosm(key, one(), (6, 5))
