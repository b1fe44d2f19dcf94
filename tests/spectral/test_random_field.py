"""Random fields: the ensemble has the covariances asked for, for all pairs and lags.

Keys are fixed, so these tests do not flicker. What a right sampler may do by chance is derived, not tried out:

- *Largest deviation.* One value exceeds four standard errors with probability 6.3e-5. There are n/2 distinct ones among
  n (pair, lag) values, whatever their dependence, so by the union bound a right sampler passes for a share of all keys
  of at least 1 - 3.2e-5 n: 0.97 for 1080 values, 0.73 for 8640. A wrong one misses by tens of standard errors, as the
  negative controls show.
- *Mean of z^2.* It is 1 for a right sampler; its variance is ``2 / n^2`` times the sum of the squared correlations of
  all pairs of values, as if there were ``n^2 / sum`` independent ones. Lags of one field are so correlated that this
  number is 5 to 50: every lag is a sum over the same few strong wavenumbers. (For 12 x 10 x 8 voxels of a measured
  volume it is 5.3, so 0.67 or 2.1 are ordinary values.)
- *Modes.* The sharp test is therefore made where the values are independent: the power along every eigenvector of
  every wavenumber's spectral matrix.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft

from polymicros_jax.data import samples
from polymicros_jax.orientation import representation
from polymicros_jax.spectral import grid, mosm, mosm_kernel, random_field, two_point


def one(seed=0, index=0, **options):
    return jax.tree.map(lambda leaf: leaf[index], mosm.sample_params(seed, index + 1, **options))


def ensemble(draw, count, seed=0):
    keys = jax.random.split(jax.random.key(seed), count)
    return np.asarray(jax.jit(lambda k: jax.lax.map(draw, k, batch_size=50))(keys))


def lag_deviations(fields, expected):
    """Deviation of the ensemble's correlations (fields have mean zero) in standard errors, and the spread of mean z^2.

    Correlations are Eq. 1 by FFT in NumPy, independent of `two_point`.
    """
    count, axes = len(fields), tuple(range(1, fields.ndim - 1))
    spectra = scipy.fft.fftn(fields, axes=axes)
    products = np.conj(spectra)[..., :, None] * spectra[..., None, :]
    f = scipy.fft.ifftn(products, axes=axes, overwrite_x=True).real / np.prod(fields.shape[1:-1])
    values = f.reshape(count, -1) - np.asarray(expected, np.float32).reshape(1, -1)
    mean, deviation = values.mean(0, dtype=np.float64), values.std(0, ddof=1)
    z = mean / (deviation / np.sqrt(count))
    # Off the diagonal, the squared products of two draws estimate the sum of squared correlations without bias.
    scaled = (values - mean.astype(np.float32)) / deviation
    gram = scaled @ scaled.T
    squared_correlations = (np.sum(gram**2) - np.sum(np.diagonal(gram) ** 2)) / (count * (count - 1))
    return z.reshape(f.shape[1:]), float(np.sqrt(2 * squared_correlations) / z.size)


def mode_deviations(fields, expected):
    """Power along the eigenvectors of the spectral matrices, less what it should be, in exact standard errors.

    For a Gaussian field the share |u^H M|^2 / (S lambda) has mean 1 and variance 1, or 2 where a wavenumber is its own
    conjugate. Directions below 1e-4 of the largest eigenvalue are left out: single precision does not resolve them.
    """
    shape, count = fields.shape[1:-1], len(fields)
    axes = tuple(range(len(shape)))
    matrices = np.conj(np.fft.fftn(np.asarray(expected, np.float64), axes=axes))
    eigenvalues, vectors = np.linalg.eigh(matrices)
    spectra = scipy.fft.fftn(fields, axes=tuple(a + 1 for a in axes))
    along = np.einsum("...bi,n...b->n...i", np.conj(vectors), spectra)
    power = np.mean(np.abs(along) ** 2, axis=0) / np.prod(shape)
    own = np.stack(np.meshgrid(*[2 * np.arange(n) % n == 0 for n in shape], indexing="ij")).all(0)
    variance = np.where(own, 2, 1)[..., None] / count
    kept = eigenvalues > 1e-4 * eigenvalues.max()
    return ((power / np.where(kept, eigenvalues, 1) - 1) / np.sqrt(variance))[kept]


def assert_right(fields, expected):
    z, spread = lag_deviations(fields, expected)
    assert np.abs(z).max() < 4
    assert np.mean(z**2) == pytest.approx(1, abs=4 * spread)
    modes = mode_deviations(fields, expected)
    # k and -k are the same value, so half of them are independent. A mean of squares is skewed: over a few hundred
    # draws a value beyond 5 is some ten times likelier than the normal law's 5.7e-7.
    assert np.mean(modes**2) == pytest.approx(1, abs=4 * np.sqrt(2 / (len(modes) / 2)))
    assert np.abs(modes).max() < 5


def measured_covariances(name, shape, stride):
    """Covariances of a piece of a measured volume, every `stride`-th voxel, taken as periodic."""
    volume = samples.load("in100")
    piece = tuple(slice(0, stride * n, stride) for n in shape)
    encode = representation.get(name).encode
    return two_point.covariances(encode(jnp.asarray(volume.quaternions)[piece]).astype(jnp.float32))


@pytest.mark.parametrize(
    ("bounds", "shape", "count"),
    [
        pytest.param("paper", (12, 10, 8), 2000, marks=pytest.mark.slow),
        pytest.param("gsh4", (6, 5, 4), 1000, marks=pytest.mark.slow),
        ("paper", (6, 5, 4), 400),
        pytest.param("gsh4", (4, 3, 3), 200, marks=pytest.mark.slow),
    ],
)
def test_mosm_ensemble_has_the_kernel_for_all_pairs_and_lags(bounds, shape, count):
    params = one(bounds=bounds, mixtures=2)
    fields = ensemble(lambda key: random_field.sample_mosm(key, params, shape), count)
    assert fields.shape == (count, *shape, params.weight.shape[-1])
    assert_right(fields, mosm.covariance(params, shape))


def test_mosm_in_two_dimensions():
    params = one(dimensions=2)
    shape = (9, 8)
    fields = ensemble(lambda key: random_field.sample_mosm(key, params, shape), 2000)
    assert_right(fields, mosm.covariance(params, shape))


def test_transposed_pairs_are_found_out():
    """Negative control: the opposite sign of delay and phase is the transposed kernel, and it fails."""
    params = one(mixtures=1, dimensions=2)
    shape = (9, 8)
    wrong = dataclasses.replace(params, delay=-params.delay, phase=-params.phase)
    fields = ensemble(lambda key: random_field.sample_mosm(key, wrong, shape), 2000)
    z, _ = lag_deviations(fields, mosm.covariance(params, shape))
    assert np.abs(z).max() > 8
    own, _ = lag_deviations(fields, np.swapaxes(mosm.covariance(params, shape), -1, -2))
    assert np.abs(own).max() < 4


@pytest.mark.parametrize("sign", [-1, 1])
def test_sign_of_the_delay(x64, sign):
    """With an inverse FFT the filter exp(-i (theta.k + phi)) carries Eq. 2, and exp(+i ...) its transposed pairs.

    No ensemble: for white z the field ``m^b = Re IFFT(R_b z)`` has ``E[m^b(s) m^g(s + r)] = Re IFFT(conj(R_b) R_g)``
    exactly. Eq. 2 is summed over images in plain NumPy here; 64 points a side hold all wavenumbers with power.
    """
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), one(dimensions=2))
    n = 64
    k = np.stack(np.meshgrid(*[np.rint(np.fft.fftfreq(n) * n)] * 2, indexing="ij"), -1)
    total = np.zeros((n, n, 3, 3))
    for w, s, A, theta, phi in zip(
        params.weight, params.mean, params.variance, params.delay, params.phase, strict=True
    ):
        R = [
            w[b] * np.exp(-0.25 * ((k - s[b]) ** 2 / A[b]).sum(-1) + sign * 1j * (k @ theta[b] + phi[b]))
            for b in range(3)
        ]
        pairs = np.stack([np.stack([np.conj(R[b]) * R[g] for g in range(3)], -1) for b in range(3)], -2)
        total += n**2 * np.fft.ifft2(pairs, axes=(0, 1)).real
    expected = np.asarray(mosm.covariance(jax.tree.map(jnp.asarray, params), (n, n)))
    transposed = np.swapaxes(expected, -1, -2)
    right, wrong = (expected, transposed) if sign < 0 else (transposed, expected)
    np.testing.assert_allclose(total, right, atol=1e-10 * np.abs(expected).max(), rtol=0)
    assert np.abs(total - wrong).max() > 0.1 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("name", "shape", "stride"),
    [("rogsh3", (12, 10, 8), 1), pytest.param("gsh4", (8, 7, 6), 3, marks=pytest.mark.slow)],
)
def test_spectral_ensemble_of_a_measured_volume(name, shape, stride):
    """The spectral matrices of a single volume have rank one, and five grains put most power into a few of them."""
    expected = measured_covariances(name, shape, stride)
    factor = random_field.factorise(expected)
    assert float(factor.clipped_share) < 1e-5
    fields = ensemble(lambda key: random_field.sample_factor(key, factor), 1000)
    # A piece inside one grain has no variance and would pass for any sampler.
    assert len(mode_deviations(fields, expected)) > 100
    assert_right(fields, expected)
    # Negative control: 2 % too much amplitude moves the mean of z^2 of the modes from 1 to 2.7.
    with pytest.raises(AssertionError):
        assert_right(fields * np.float32(1.02), expected)


def test_reference_row_loses_the_other_channels():
    """Alg. 1 honours row 0 and fails for pairs without channel 0, by 4900 standard errors: the negative control."""
    params, shape = one(mixtures=4), (12, 12, 12)
    expected = np.asarray(mosm.covariance(params, shape))
    # Alg. 1 leaves out the zero frequency: compare with the covariances less theirs.
    expected = expected - expected.mean((0, 1, 2))
    fields = ensemble(lambda key: random_field.sample_reference_row(key, jnp.asarray(expected)), 400)
    z, _ = lag_deviations(fields, expected)
    # 4320 distinct values in row 0: beyond 5 by chance for 0.3 % of the keys (beyond 4 for 27 %, by the union bound).
    assert np.abs(z[..., 0, :]).max() < 5
    assert np.abs(z[..., 1:, 1:]).max() > 1000
    kept = fields.var((0, 1, 2, 3))[1:] / np.diagonal(expected[0, 0, 0])[1:]
    assert ((kept > 0.005) & (kept < 0.35)).all(), kept


def test_reference_row_measured_losses_over_the_design():
    """The share of variance that channels 1 and 2 keep with the paper's bounds: most of it is lost (measured 2 to 30
    %).
    """
    params = mosm.sample_params(1, 8)
    shape = (16, 16, 16)

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


def test_gradient_through_measured_covariances(x64):
    """Covariances about the mean have no power at wavenumber zero: clipped, and without a say in the gradient."""
    fields = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6, 5, 2)))  # several: of one the rank is one
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(6, 5, 2)))

    def loss(scale):
        found = jnp.mean(jax.vmap(lambda each: two_point.covariances(each * scale.reshape(1, 1, 2)))(fields), axis=0)
        factor = random_field.factorise(found)
        return jnp.sum(weights * random_field.sample_factor(jax.random.key(0), factor))

    # The zero eigenvalues are known to 1e-17, their roots to 3e-9: a smaller step would measure that.
    at, step = jnp.array([1.0, 1.3]), 1e-3
    gradient = jax.grad(loss)(at)
    numeric = [(loss(at.at[i].add(step)) - loss(at.at[i].add(-step))) / (2 * step) for i in range(2)]
    np.testing.assert_allclose(gradient, jnp.stack(numeric), rtol=1e-4)


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
    with pytest.raises(ValueError, match="0 infinite values and 1 NaN"):
        random_field.sample_spectral(key, C.at[1, 0, 0, 0, 0].set(jnp.nan))
    with pytest.raises(ValueError, match="1 infinite values"):
        random_field.factorise(C.at[1, 0, 0, 0, 0].set(jnp.inf))
    with pytest.raises(ValueError, match="not Hermitian"):
        random_field.sample_spectral(key, jnp.fft.fftshift(C, (0, 1, 2)))
    with pytest.raises(ValueError, match="not Hermitian"):
        random_field.sample_reference_row(key, C.at[1, 2, 3, 0, 1].add(1.0))
    with pytest.raises(ValueError, match="2 axes"):
        random_field.sample_mosm(key, one(), (6, 5))


def test_a_band_that_would_lose_variance_is_refused():
    zero = jnp.zeros((1, 1, 1))
    sharp = mosm.MosmParams(jnp.ones((1, 1)), zero, zero + 1600.0, zero, jnp.zeros((1, 1)))
    with pytest.raises(ValueError, match="band = 48, but there is power up to wavenumber 298"):
        random_field.sample_mosm(jax.random.key(0), sharp, (512,))
    fields = ensemble(lambda key: random_field.sample_mosm(key, mosm.with_band(sharp), (512,)), 50)
    # 50 fields of some 512 * 0.04 independent patches: the variance is known to 5 %.
    expected = float(mosm.covariance(sharp, (512,))[0, 0, 0])
    assert float(np.square(fields).mean()) == pytest.approx(expected, rel=0.15)
