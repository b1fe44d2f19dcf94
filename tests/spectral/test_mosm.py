"""The MOSM kernel, its positive definiteness, and the design of experiments."""

import dataclasses
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from polymicros_jax.spectral import grid, mosm, mosm_design, mosm_fit, mosm_kernel

_spec = importlib.util.spec_from_file_location(
    "mosm_oracle", Path(__file__).parents[1] / "reference" / "mosm_oracle.py"
)
oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(oracle)


def one(seed=0, index=0, dtype=jnp.float32, **options):
    params = mosm.sample_params(seed, index + 1, **options)
    return jax.tree.map(lambda leaf: leaf[index].astype(dtype), params)


@pytest.mark.reference
@pytest.mark.parametrize("bounds", ["paper", "paper_squared", "gsh4"])
@pytest.mark.parametrize("shape", [(6, 5, 4), (7, 8, 3)])
def test_matches_the_plain_formula(x64, bounds, shape):
    params = one(bounds=bounds, dtype=jnp.float64, mixtures=2)
    expected = oracle.periodic_covariance(params, shape)
    got = mosm.covariance(params, shape)
    # Two images in the oracle leave exp(-1.5 (4 pi - pi - 1)^2 / 2) = 1e-23.
    np.testing.assert_allclose(got, expected, atol=1e-12 * np.abs(expected).max(), rtol=0)


def test_delays_of_whole_periods_change_nothing(x64):
    """Wavenumbers are integers. Delays that differ by several periods would leave the images that are summed."""
    params = one(bounds="paper", dtype=jnp.float64, mixtures=2)
    periods = 2 * np.pi * jnp.arange(params.delay.shape[1])[None, :, None] * jnp.array([[[4, -3, 2]]])
    moved = dataclasses.replace(params, delay=params.delay + periods)
    expected = mosm.covariance(params, (6, 5, 4))
    # Roundings of a delay of 25 radians.
    np.testing.assert_allclose(mosm.covariance(moved, (6, 5, 4)), expected, atol=1e-13 * jnp.abs(expected).max())


def test_two_dimensions_match_the_plain_formula(x64):
    params = one(dimensions=2, dtype=jnp.float64)
    expected = oracle.periodic_covariance(params, (6, 5))
    np.testing.assert_allclose(mosm.covariance(params, (6, 5)), expected, atol=1e-12 * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize("bounds", ["paper", "paper_squared"])
def test_image_sum_equals_the_density_at_integer_wavenumbers(x64, bounds):
    """Poisson summation: what the sampler filters with, squared and summed over wavenumbers, is the covariance."""
    params, shape = one(bounds=bounds, dtype=jnp.float64), (9, 8, 5)
    k = grid.band_wavenumbers(params.band)
    filters = np.asarray(mosm_kernel.amplitude_filters(params, k.astype(float)))
    gains = np.asarray(params.weight * jnp.exp(-1j * params.phase))
    total = 0
    for q in range(4):
        product = gains[q].conj()[:, None] * gains[q][None, :]
        for axis, n in enumerate(shape):
            wave = np.exp(1j * np.outer(grid.lag_coordinates(n), k))
            along = np.einsum("nk,bk,gk->nbg", wave, filters[q, :, axis].conj(), filters[q, :, axis])
            product = product[..., None, :, :] * along if axis else product[None] * along
        total = total + product.real
    expected = mosm.covariance(params, shape)
    # The band leaves out densities below 1e-12 of the peak, summed over a few wavenumbers.
    np.testing.assert_allclose(total, expected, atol=1e-11 * float(jnp.abs(expected).max()), rtol=0)


def test_the_widest_kernel_of_a_fit_is_summed_over_images_enough(x64):
    """A = 0.2, the least variance of a fit: a kernel that fills the domain, against its density (Poisson summation)."""
    s, A, n = 0.7, mosm_fit.LEAST_VARIANCE, 8
    flat = jnp.ones((1, 1, 1))
    params = mosm.MosmParams(flat[0], s * flat, A * flat, 0.0 * flat, jnp.zeros((1, 1)))
    k = np.arange(-12, 13)
    density = np.exp(-((k - s) ** 2) / (2 * A))  # below 1e-138 at the ends
    expected = (density[None] * np.cos(np.outer(grid.lag_coordinates(n), k))).sum(1)
    # The first image left out is exp(-A (7 pi)^2 / 2) = 1e-21.
    np.testing.assert_allclose(mosm.covariance(params, (n,))[:, 0, 0], expected, atol=1e-12)


def test_every_design_draw_is_positive_semi_definite_and_the_printed_kernel_is_not():
    params = mosm.sample_params(0, 1000)
    covariance = jax.jit(lambda p: mosm.covariance(p, (12, 12, 12)))

    def take(i):
        return jax.tree.map(lambda leaf: leaf[i], params)

    ratios = [oracle.smallest_eigenvalue_ratio(covariance(take(i))) for i in range(1000)]
    assert min(ratios) > -1e-6
    # Negative control: Eq. 14 as printed, same parameters.
    printed = [
        oracle.smallest_eigenvalue_ratio(oracle.periodic_covariance(take(i), (12,) * 3, True, 1)) for i in range(3)
    ]
    assert min(printed) < -0.01


@pytest.mark.parametrize(
    ("bounds", "shape"), [("gsh4", (8, 7, 6)), pytest.param("hex27", (6, 5, 4), marks=pytest.mark.slow)]
)
def test_many_channels_are_positive_semi_definite_too(bounds, shape):
    params = mosm.sample_params(3, 20, bounds=bounds)
    covariances = np.asarray(jax.lax.map(lambda p: mosm.covariance(p, shape), params))
    assert min(oracle.smallest_eigenvalue_ratio(each) for each in covariances) > -1e-6


def test_cut_off_kernel_is_not_quite_positive_semi_definite():
    """Why images are summed: the infinite-space kernel on one period has negative eigenvalues (measured: -5e-5)."""
    params = one()
    axes = [grid.lag_coordinates(16)] * 3
    lags = np.stack(np.meshgrid(*axes, indexing="ij"), -1).astype(np.float32)
    cut = oracle.smallest_eigenvalue_ratio(mosm.kernel(params, lags))
    assert -1e-3 < cut < -1e-6
    assert oracle.smallest_eigenvalue_ratio(mosm.covariance(params, (16, 16, 16))) > -1e-6


def test_opposite_lag_swaps_the_pair(x64):
    for shape in [(6, 5, 4), (7, 4, 3)]:
        C = mosm.covariance(one(dtype=jnp.float64), shape)
        mirrored = jnp.swapaxes(grid.negate(C, (0, 1, 2)), -1, -2)
        np.testing.assert_allclose(C, mirrored, atol=1e-14)


def test_delay_moves_the_cross_correlation_peak(x64):
    """k_bg peaks at r = theta_g - theta_b: the sign of Eq. 2 and the order of the pair."""
    shape = (16, 8, 8)
    delay = np.zeros((1, 2, 3))
    delay[0, 1, 0] = 2 * np.pi / 16 * 3

    def flat(value):
        return jnp.full((1, 2, 3), value)

    params = mosm.MosmParams(jnp.ones((1, 2)), flat(0.0), flat(4.0), jnp.asarray(delay), jnp.zeros((1, 2)))
    C = np.asarray(mosm.covariance(params, shape))
    assert np.unravel_index(C[..., 0, 1].argmax(), shape) == (3, 0, 0)
    assert np.unravel_index(C[..., 1, 0].argmax(), shape) == (13, 0, 0)


def test_covariance_is_differentiable_and_maps(x64):
    params = one(dtype=jnp.float64)

    def loss(p):
        return jnp.sum(mosm.covariance(p, (5, 4, 3)) ** 2)

    gradient = jax.grad(loss)(params)
    direction = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape), params)

    def moved(h):
        return jax.tree.map(lambda a, d: a + h * d, params, direction)

    slope = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True))
    # Weights are 0.02, so a step of 1e-6 is 5e-5 of them: an error of its square, 3e-9, and round-off of 1e-10.
    numeric = (loss(moved(1e-6)) - loss(moved(-1e-6))) / 2e-6
    assert float(slope) == pytest.approx(float(numeric), rel=1e-6)


def test_params_survive_flattening_jit_and_vmap():
    params = mosm.sample_params(0, 3)
    leaves, treedef = jax.tree.flatten(params)
    assert jax.tree.unflatten(treedef, leaves).band == params.band
    mapped = jax.vmap(lambda p: mosm.covariance(p, (4, 3, 5)))(jax.jit(lambda p: p)(params))
    for i in range(3):
        single = mosm.covariance(jax.tree.map(lambda leaf, i=i: leaf[i], params), (4, 3, 5))
        np.testing.assert_allclose(mapped[i], single, atol=1e-7)


def test_wrong_number_of_axes_is_named():
    with pytest.raises(ValueError, match="2 axes"):
        mosm.covariance(one(), (4, 4))


# Design of experiments


def test_default_design_is_the_papers():
    params = mosm.sample_params(0, 2)
    assert params.weight.shape == (2, 4, 3)
    assert sum(leaf[0].size for leaf in jax.tree.leaves(params)) == 132
    for values, (low, high) in [
        (params.weight, (-0.02, 0.02)),
        (params.mean, (-5, 5)),
        (params.variance, (1.5, 5)),
        (params.delay, (-0.5, 0.5)),
        (params.phase, (0, 2 * np.pi)),
    ]:
        assert low <= values.min() < values.max() <= high


def test_design_depends_on_the_seed_alone():
    few, many, other = mosm.sample_params(3, 5), mosm.sample_params(3, 600), mosm.sample_params(4, 5)
    for a, b, c in zip(*map(jax.tree.leaves, (few, many, other)), strict=True):
        np.testing.assert_array_equal(a, b[:5])
        assert not np.array_equal(a, c)
    assert many.weight.shape[0] == 600  # more than one block of proposals


def test_block_is_a_latin_hypercube():
    block = mosm_design._block(0, 0, 4, 3, 3, mosm.PRESETS["paper"])
    values = np.asarray(block.mean).reshape(mosm_design.BLOCK, -1)
    strata = np.floor((values + 5) / 10 * mosm_design.BLOCK).clip(0, mosm_design.BLOCK - 1)
    # One proposal in every stratum of every dimension; single precision may push a value over a stratum's edge.
    distinct = [len(np.unique(column)) for column in strata.T]
    assert min(distinct) > 0.98 * mosm_design.BLOCK


@pytest.mark.parametrize(
    ("bounds", "deviation"),
    [("paper", 0.21), ("paper_squared", 0.51), ("gsh4", 0.5), pytest.param("hex27", 0.5, marks=pytest.mark.slow)],
)
def test_presets_give_the_deviation_of_their_representation(bounds, deviation):
    params, report = mosm.design(1, 100, bounds=bounds)
    assert report.rejection_rate < 0.25
    zero = jax.vmap(lambda p: jnp.diagonal(mosm.kernel(p, jnp.zeros(3))))(params)
    # The mean variance over 100 sets of 3 or 9 channels scatters by 3 % of itself; rejection takes off a little more.
    assert float(jnp.sqrt(zero.mean())) == pytest.approx(deviation, rel=0.06)


def test_report_counts_the_rejected():
    params, report = mosm.design(0, 400)
    assert report.accepted == 400 == len(params.weight)
    assert report.proposed > 400
    assert report.failed_decay > 0
    assert report.failed_feasibility > 0
    # The paper rejects about 8 %.
    assert 0.02 < report.rejection_rate < 0.15
    assert report.rejection_rate == 1 - 400 / report.proposed
    ratios = jax.lax.map(mosm_design.edge_ratio, params)
    assert float(ratios.max()) <= mosm_design.EDGE_TOLERANCE
    # Every channel of an accepted set is within the limit in the share asked for; of the rejected not every one is.
    bounds = mosm.PRESETS["paper"]
    block = mosm_design._block(0, 0, 4, 3, 3, bounds)
    for sets, all_feasible in ((params, True), (block, False)):
        variances = jax.vmap(lambda each: jnp.diagonal(mosm.kernel(each, jnp.zeros(3))))(sets)
        shares = stats.norm.cdf(bounds.limit, scale=np.sqrt(variances)) * 2 - 1
        assert (shares.min() >= bounds.feasible_share - 1e-6) == all_feasible


def test_slowly_decaying_sets_are_rejected():
    params = one()
    slow = dataclasses.replace(params, variance=params.variance / 10)
    assert float(mosm_design.edge_ratio(slow)) > mosm_design.EDGE_TOLERANCE > float(mosm_design.edge_ratio(params))


def test_impossible_bounds_end_with_an_error(monkeypatch):
    monkeypatch.setattr(mosm_design, "BLOCK", mosm_design.CHUNK)
    with pytest.raises(ValueError, match="0 of"):
        mosm.sample_params(0, 2, bounds=mosm.Bounds(weight=(5.0, 6.0)))
    with pytest.raises(ValueError, match="unknown preset 'rogsh'"):
        mosm.sample_params(0, 2, bounds="rogsh")
    with pytest.raises(ValueError, match="count"):
        mosm.sample_params(0, 0)


def test_band_holds_all_power(x64):
    params = mosm.with_band(one(bounds="paper_squared", dtype=jnp.float64))
    assert params.band <= mosm.PRESETS["paper_squared"].band
    k = np.arange(-300, 301.0)
    density = np.abs(np.asarray(mosm_kernel.amplitude_filters(params, k))) ** 2
    outside = density[..., np.abs(k) > params.band].sum(-1) / density.sum(-1)
    assert outside.max() < 1e-11
