"""Two-point statistics against brute force, identities and known traps."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from polymicros_jax.spectral import grid, two_point

_spec = importlib.util.spec_from_file_location(
    "two_point_bruteforce", Path(__file__).parents[1] / "reference" / "two_point_bruteforce.py"
)
bruteforce = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bruteforce)

# Sums of S terms of size one, by FFT in double precision: S eps log S is below 1e-12 for every grid here.
EXACT = 1e-12


def field(shape, channels=3, seed=0):
    """White noise with a mean, so that correlations and covariances differ."""
    return np.random.default_rng(seed).normal(size=(*shape, channels)) + np.arange(channels) - 0.5


def some_mask(shape, seed=1):
    return np.random.default_rng(seed).random(shape) < 0.6


def opposite(f, axes=(0, 1, 2)):
    """f(-r) by explicit indexing, independent of grid.negate."""
    for axis in axes:
        f = np.take(f, (-np.arange(f.shape[axis])) % f.shape[axis], axis=axis)
    return f


@pytest.mark.reference
@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("shape", [(6, 6, 6), (5, 3, 4), (7, 6), (4, 1, 3)])
def test_matches_brute_force(x64, shape, masked, periodic):
    m = field(shape)
    mask = some_mask(shape) if masked else np.ones(shape, bool)
    sums, counts = bruteforce.sums_and_counts(m, mask, periodic)
    with np.errstate(invalid="ignore"):
        expected = np.where(counts[..., None, None] > 0, sums / counts[..., None, None], np.nan)
    got = two_point.correlations(m, periodic, mask if masked else None)
    np.testing.assert_allclose(got, expected, atol=EXACT, rtol=0)
    np.testing.assert_array_equal(two_point.pair_counts(mask, periodic), counts)


def test_a_mask_of_numbers_has_no_pairs(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # a user has no checks of types in signatures
    with pytest.raises(ValueError, match="mask: found int32, accepted is bool"):
        two_point.pair_counts(np.array([2, 0, 1], np.int32))


@pytest.mark.reference
def test_matches_brute_force_at_8_cubed(x64):
    m = field((8, 8, 8), 2)
    sums, counts = bruteforce.sums_and_counts(m, np.ones((8, 8, 8), bool), True)
    np.testing.assert_allclose(two_point.correlations(m), sums / counts[..., None, None], atol=EXACT, rtol=0)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("shape", [(8, 6, 4), (7, 5, 3), (6, 7, 8)])
def test_opposite_lag_swaps_the_pair(x64, shape, periodic):
    f = np.asarray(two_point.correlations(field(shape), periodic, some_mask(shape)))
    np.testing.assert_allclose(f, np.swapaxes(opposite(f), -1, -2), atol=EXACT, rtol=0)
    # Negative control: without the swap the statement is false for white noise.
    assert np.nanmax(np.abs(f - opposite(f))) > 0.01


def test_zero_lag_is_the_second_moment(x64):
    m = field((7, 6, 5))
    second = np.einsum("xyzb,xyzg->bg", m, m) / m[..., 0].size
    np.testing.assert_allclose(two_point.correlations(m)[0, 0, 0], second, atol=EXACT, rtol=0)
    np.testing.assert_allclose(two_point.correlations(m, False)[0, 0, 0], second, atol=EXACT, rtol=0)


@pytest.mark.parametrize("shape", [(8, 6, 4), (7, 5, 3)])
def test_parseval_on_the_half_spectrum(x64, shape):
    m = field(shape)
    spectrum = np.asarray(grid.forward(jnp.asarray(m), (0, 1, 2)))
    weights = grid.half_spectrum_weights(shape[-1])
    power = np.einsum("xyzh,z->h", np.abs(spectrum) ** 2, weights) / np.prod(shape)
    np.testing.assert_allclose(power, (m**2).sum((0, 1, 2)), rtol=EXACT)
    # The amplitude is not the power.
    amplitude = np.einsum("xyzh,z->h", np.abs(spectrum), weights) / np.prod(shape)
    assert np.abs(amplitude - (m**2).sum((0, 1, 2))).max() > 1


def test_shift_of_a_channel_shifts_its_cross_correlations(x64):
    m = field((8, 7, 6), 2)
    shifted = m.copy()
    shifted[..., 1] = np.roll(m[..., 1], (2, 1, 3), (0, 1, 2))
    f, g = two_point.correlations(m), two_point.correlations(shifted)
    np.testing.assert_allclose(g[..., 0, 1], np.roll(f[..., 0, 1], (2, 1, 3), (0, 1, 2)), atol=EXACT, rtol=0)
    np.testing.assert_allclose(g[..., 1, 1], f[..., 1, 1], atol=EXACT, rtol=0)


def test_delta_pair_has_its_peak_at_its_own_lag(x64):
    """Catches off-by-one lags and a conjugate on the wrong factor: m^0 at s, m^1 at s + r peak at lag +r."""
    m = np.zeros((8, 7, 6, 2))
    m[1, 2, 3, 0] = 1
    m[3, 1, 3, 1] = 1
    f = np.asarray(two_point.correlations(m))[..., 0, 1]
    assert np.unravel_index(f.argmax(), f.shape) == (2, 6, 0)
    g = np.asarray(two_point.correlations(m, False))[..., 0, 1]
    assert g[2, 6, 0] == pytest.approx(1 / (6 * 6 * 6), abs=EXACT)


def test_mean_relation(x64):
    """Eq. 12: covariances are correlations less the product of means."""
    m = field((6, 5, 4))
    mu = m.mean((0, 1, 2))
    np.testing.assert_allclose(
        two_point.covariances(m), np.asarray(two_point.correlations(m)) - np.outer(mu, mu), atol=EXACT, rtol=0
    )


def test_covariances_do_not_see_a_constant(x64):
    m = field((6, 5, 4))
    mask = some_mask((6, 5, 4))
    np.testing.assert_allclose(
        two_point.covariances(m, False, mask), two_point.covariances(m + 3.0, False, mask), atol=1e-11, rtol=0
    )


def test_zero_frequency_and_nyquist(x64):
    """A constant has only power at zero; an alternating field has correlation +-1 by the parity of the lag."""
    constant = np.full((6, 4, 4, 1), 2.0)
    np.testing.assert_allclose(two_point.correlations(constant), 4.0, atol=EXACT)
    np.testing.assert_allclose(two_point.covariances(constant), 0.0, atol=EXACT)
    parity = np.indices((6, 4, 4)).sum(0) % 2
    alternating = (1.0 - 2 * parity)[..., None]
    np.testing.assert_allclose(two_point.correlations(alternating)[..., 0, 0], 1 - 2 * parity, atol=EXACT)


def test_unobserved_voxels_may_hold_nan_and_do_not_count(x64):
    m = field((6, 5, 4))
    mask = some_mask((6, 5, 4))
    holed = np.where(mask[..., None], m, np.nan)
    np.testing.assert_array_equal(two_point.correlations(holed, True, mask), two_point.correlations(m, True, mask))
    grad = jax.grad(lambda x: jnp.nansum(two_point.correlations(x, True, mask) ** 2))(jnp.asarray(holed))
    assert np.isfinite(grad).all()
    assert not np.any(np.asarray(grad)[~mask])


def test_lags_without_pairs_are_missing():
    mask = np.zeros((8, 4), bool)
    mask[0] = True
    m = np.ones((8, 4, 1), np.float32)
    f = np.asarray(two_point.correlations(m, False, mask))[..., 0, 0]
    assert np.isfinite(f[0]).all()
    assert np.isnan(f[1:]).all()
    fewer = np.asarray(two_point.correlations(m, False, mask, min_pairs=4))[..., 0, 0]
    # Row lag 0 has 4 pairs, lags of one pixel 3, lag 2 has 2 + 2 pooled.
    np.testing.assert_array_equal(np.isfinite(fewer[0]), [True, False, True, False])


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16])
def test_indicators_of_any_type_count_as_numbers(dtype):
    """0 and 1 where a phase is; of its 36,000 voxels none of these types can count the pairs."""
    m = np.random.default_rng(0).random((40, 30, 30, 1)) < 0.3
    expected = two_point.correlations(m.astype(np.float32), False)
    np.testing.assert_array_equal(two_point.correlations(m.astype(dtype), False), expected)
    assert float(expected[0, 0, 0, 0, 0]) == pytest.approx(m.mean(), rel=1e-5)


def test_orthogonal_planes_are_planes_of_the_full_array(x64):
    m = field((6, 5, 4))
    f = two_point.correlations(m)
    planes = two_point.orthogonal_planes(m)
    np.testing.assert_allclose(planes["x"], f[0], atol=EXACT, rtol=0)
    np.testing.assert_allclose(planes["y"], f[:, 0], atol=EXACT, rtol=0)
    np.testing.assert_allclose(planes["z"], f[:, :, 0], atol=EXACT, rtol=0)


def test_slice_planes_use_their_own_map_alone(x64):
    m = field((6, 5, 4))
    got = two_point.slice_planes({"y": m[:, 2]})
    assert set(got) == {"y"}
    np.testing.assert_allclose(got["y"], two_point.correlations(m[:, 2]), atol=EXACT, rtol=0)
    # A volume of identical slices has the planes of one slice.
    stack = np.repeat(m[:, 2][:, None], 5, axis=1)
    np.testing.assert_allclose(got["y"], two_point.orthogonal_planes(stack)["y"], atol=EXACT, rtol=0)
    with pytest.raises(ValueError, match="unknown axis"):
        two_point.slice_planes({"w": m[:, 2]})


def test_map_pairs_equals_the_full_array(x64):
    m = field((6, 5, 4))
    got = two_point.map_pairs(lambda f: {"zero": f[0, 0, 0], "row": f[:, 0, 0]}, m)
    f = two_point.correlations(m)
    np.testing.assert_allclose(got["zero"], f[0, 0, 0], atol=EXACT, rtol=0)
    np.testing.assert_allclose(got["row"], np.moveaxis(np.asarray(f[:, 0, 0]), 0, -1), atol=EXACT, rtol=0)


def test_gradient_matches_finite_differences(x64):
    m = jnp.asarray(field((4, 3, 4), 2))
    target = {name: 0.5 * plane for name, plane in two_point.orthogonal_planes(m).items()}

    @jax.jit
    def loss(x):
        planes = two_point.orthogonal_planes(x)
        full = two_point.covariances(x, False)
        return sum(jnp.sum((planes[n] - target[n]) ** 2) for n in "xyz") + jnp.sum(full**3)

    direction = jnp.asarray(field((4, 3, 4), 2, seed=3))
    slope = jnp.vdot(jax.grad(loss)(m), direction)
    step = 1e-5
    # Central differences: error step^2 of a third derivative of the same order as the slope.
    numeric = (loss(m + step * direction) - loss(m - step * direction)) / (2 * step)
    assert float(slope) == pytest.approx(float(numeric), rel=1e-7)


def test_jit_and_vmap_agree_with_plain_calls():
    batch = np.stack([field((5, 4, 6), seed=s) for s in range(2)]).astype(np.float32)
    mapped = jax.jit(jax.vmap(two_point.covariances))(batch)
    for m, f in zip(batch, mapped, strict=True):
        np.testing.assert_allclose(f, two_point.covariances(m), atol=2e-6)


def test_float32_stays_near_float64(x64):
    m = field((16, 16, 16))
    single = two_point.correlations(m.astype(np.float32))
    assert single.dtype == jnp.float32
    # Relative to the mean square (about 4): FFT round-off eps log2 S = 6e-8 * 12, a few-fold for three transforms.
    np.testing.assert_allclose(single, two_point.correlations(m), atol=1e-5, rtol=0)


@pytest.mark.parametrize("periodic", [True, False])
def test_nine_channels_at_128_cubed_stay_within_8_gigabytes(periodic):
    """As one program, compiled without running; arguments, result (0.7 GB) and work space together."""
    m = jax.ShapeDtypeStruct((128, 128, 128, 9), jnp.float32)
    mask = None if periodic else jax.ShapeDtypeStruct((128, 128, 128), jnp.bool_)
    program = jax.jit(two_point._correlations, static_argnums=(2, 3))
    analysis = program.lower(m, mask, periodic, 1).compile().memory_analysis()
    assert analysis.output_size_in_bytes == 81 * 4 * 128**3
    total = analysis.argument_size_in_bytes + analysis.output_size_in_bytes + analysis.temp_size_in_bytes
    assert total < 8e9


def test_bad_input_is_named():
    m = field((4, 4, 4)).astype(np.float32)
    holed = np.where(np.arange(192).reshape(4, 4, 4, 3) < 2, np.nan, m).astype(np.float32)
    for function in (two_point.correlations, two_point.covariances, two_point.orthogonal_planes):
        with pytest.raises(ValueError, match="2 values are not finite"):
            function(holed)
    with pytest.raises(ValueError, match="2 values are not finite"):
        two_point.map_pairs(lambda f: f[0, 0, 0], holed)
    with pytest.raises(ValueError, match="1 values are not finite"):
        two_point.slice_planes({"x": np.where(np.arange(48).reshape(4, 4, 3) == 5, np.inf, m[0]).astype(np.float32)})
    with pytest.raises(ValueError, match="keeps no voxel"):
        two_point.correlations(m, True, np.zeros((4, 4, 4), bool))
    with pytest.raises(ValueError, match="mask: found uint8, accepted is bool"):
        two_point._checked(holed, np.ones((4, 4, 4), np.uint8))
    with pytest.raises(ValueError, match="does not match"):
        two_point._checked(m, np.ones((4, 4, 3), bool))
    with pytest.raises(ValueError, match=r"masks: found \['y'\]"):
        two_point.slice_planes({"x": m[0]}, masks={"y": np.ones((4, 4), bool)})
