"""Matching of orthogonal two-point statistics, and targets taken from slices alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from polymicros_jax.conditioners import plane_spectra
from polymicros_jax.conditioners.plane_spectra import plane_roots, recolour
from polymicros_jax.conditioners.slice_targets import _fit, reconciled, slice_covariances, slice_targets
from polymicros_jax.conditioners.two_point import Match, TwoPoint, minimise, plane_covariances, two_point
from polymicros_jax.data import samples
from polymicros_jax.diffusion.conditioning import Step
from polymicros_jax.orientation import representation
from polymicros_jax.spectral.two_point import correlations, covariances, orthogonal_planes

N = 12


def smooth_field(seed, channels=1, n=N):
    noise = np.random.default_rng(seed).normal(size=(n, n, n, channels))
    smooth = ndimage.gaussian_filter(noise, (1, 1, 1, 0), mode="wrap")
    return jnp.asarray(0.5 * smooth / smooth.std() + 0.1, jnp.float32)


REFERENCE = smooth_field(0)
MEAN = jnp.mean(REFERENCE, axis=(0, 1, 2))
CONDITION = two_point(plane_covariances(REFERENCE), MEAN)
NOISE = 0.5 * jax.random.normal(jax.random.key(5), REFERENCE.shape)
match = jax.jit(lambda condition, x, threshold: condition.match(x, threshold))


def largest_error(x, reference):
    found, wanted = orthogonal_planes(x), orthogonal_planes(reference)
    return max(float(jnp.abs(found[name] - wanted[name]).max()) for name in wanted)


def test_matches_to_1e_5_within_the_budget():
    found = match(CONDITION, NOISE, 1e-5)
    assert int(found.evaluations) <= 50
    assert float(found.error) <= 1e-5
    # The correlations, mean included, are those of the reference; restoring the mean has not undone the match. The
    # rounding of correlations of size 0.25 adds 1e-7.
    assert largest_error(found.field, REFERENCE) <= 1.1e-5
    np.testing.assert_allclose(jnp.mean(found.field, axis=(0, 1, 2)), MEAN, atol=1e-6)
    # Not the reference itself: only its statistics were given.
    assert abs(float(jnp.corrcoef(found.field.ravel(), REFERENCE.ravel())[0, 1])) < 0.5


@pytest.mark.parametrize("precision", [jnp.float32, jnp.float64])
def test_single_precision_is_matched_where_double_is_on(x64, precision):
    """Targets of either precision; the field keeps its own."""
    assert REFERENCE.dtype == NOISE.dtype == jnp.float32
    targets = plane_covariances(REFERENCE.astype(precision))
    found = two_point(targets, MEAN.astype(precision), budget=30).match(NOISE, 1e-3)
    assert found.field.dtype == jnp.float32
    assert float(found.error) <= 1e-3


def test_a_budget_without_room_for_a_step_is_refused():
    with pytest.raises(ValueError, match="budget = 6: accepted is at least 7"):
        two_point(plane_covariances(REFERENCE), MEAN, budget=6).match(NOISE, 1e-5)
    least = two_point(plane_covariances(REFERENCE), MEAN, budget=7, sweeps=0).match(NOISE, 1e-5)
    assert int(least.evaluations) > 1
    assert float(jnp.abs(least.field - NOISE).max()) > 1e-2


def test_untouched_noise_is_far_away():
    assert largest_error(NOISE, REFERENCE) > 1e-2


def test_a_match_costs_one_evaluation_and_moves_nothing():
    found = match(CONDITION, REFERENCE, 1e-5)
    assert int(found.evaluations) == 1
    # Recolouring by a transport map that is the identity: a root and an inverse root of single-precision spectra.
    np.testing.assert_allclose(found.field, REFERENCE, atol=2e-3)


def test_lbfgs_alone_lowers_the_error():
    plain = two_point(CONDITION.planes, MEAN, sweeps=0, budget=30)
    found = match(plain, NOISE, 0.0)
    assert int(found.evaluations) <= 30
    assert float(found.error) < 0.3 * largest_error(NOISE, REFERENCE)


def test_rescaled_modes_converge_together():
    """Grains have modes of very different strength; on the field itself the faint ones hardly move.

    Measured: 4e-6 on rescaled modes, 4e-4 on the field.
    """
    crystals = representation.get("gsh4").encode(samples.load("generated_in100").quaternions[:16, :16, :16])[..., :3]
    planes = plane_covariances(crystals)
    noise = 0.5 * jax.random.normal(jax.random.key(5), crystals.shape)
    start = recolour(noise, plane_roots(planes), 2)
    rescaled = minimise(start, planes, 0.0, 100)
    itself = minimise(start, planes, 0.0, 100, field=lambda x: x)
    assert max(int(rescaled.evaluations), int(itself.evaluations)) <= 100
    assert float(rescaled.error) < 1e-5
    assert float(itself.error) > 1e-4


@pytest.mark.parametrize("index", [0, 24])
def test_the_thresholds_are_the_papers_by_default(index, monkeypatch):
    """rho(t) = (N - t) 1e-5 + 1e-7 (Alg. 5)."""
    asked = []

    def match_(self, x, rho):
        asked.append(float(rho))
        return Match(x, jnp.asarray(1), jnp.asarray(0.0))

    monkeypatch.setattr(TwoPoint, "match", match_)
    CONDITION(NOISE, Step(jnp.asarray(index), jnp.asarray(25), jnp.asarray(0.0), jax.random.key(0)))
    assert asked == pytest.approx([(24 - index) * 1e-5 + 1e-7], rel=1e-5)


@pytest.mark.parametrize("index", [0, 7, 24])
def test_the_threshold_falls_with_the_steps(index, monkeypatch):
    """rho = (N - t) slope + floor after t = index + 1 of N steps (Alg. 5), and the match keeps to it."""
    asked = []
    match_ = TwoPoint.match
    monkeypatch.setattr(TwoPoint, "match", lambda self, x, rho: asked.append(float(rho)) or match_(self, x, rho))
    step = Step(index=jnp.asarray(index), count=jnp.asarray(25), sigma=jnp.asarray(0.0), key=jax.random.key(0))
    loose = CONDITION.replace(slope=3e-3, floor=1e-2)
    found = loose(NOISE, step)
    expected = (24 - index) * 3e-3 + 1e-2
    assert asked == pytest.approx([expected])
    assert largest_error(found, REFERENCE) <= expected


def test_lags_that_are_nan_are_left_free():
    """Half a plane unknown: the rest is matched, by recolouring and descent together as by descent alone."""
    planes = plane_covariances(REFERENCE)
    planes["z"] = planes["z"].at[3:10].set(jnp.nan)
    for sweeps in (0, 4):
        found = match(two_point(planes, MEAN, sweeps=sweeps, budget=60), NOISE, 1e-3)
        assert float(found.error) <= 1e-3
        assert np.isfinite(found.field).all()


def test_targets_of_no_variance_make_no_nan():
    nothing = {name: jnp.zeros_like(plane) for name, plane in plane_covariances(REFERENCE).items()}
    found = minimise(NOISE, nothing, 1e-3, 50)
    assert np.isfinite(found.field).all()
    assert largest_error(found.field, 0.0 * NOISE) < largest_error(NOISE, 0.0 * NOISE)


def test_one_sweep_matches_the_last_axis_exactly():
    roots = plane_roots(plane_covariances(REFERENCE))
    out = recolour(NOISE, roots, 1)
    found, wanted = plane_covariances(out), plane_covariances(REFERENCE)
    np.testing.assert_allclose(found["z"], wanted["z"], atol=2e-5)
    assert float(jnp.abs(found["x"] - wanted["x"]).max()) > 1e-4


@pytest.mark.parametrize("name", ["x", "y", "z"])
def test_one_axis_of_any_length_is_matched_exactly_for_all_pairs(name):
    """On a grid of three sides, with channels that lag behind one another on the plane and are else nearly alike."""
    rng = np.random.default_rng(0)
    lag = [0 if axis == name else step for axis, step in zip("xyz", (1, 2, -1), strict=True)]

    def field(shape, share):
        """White noise besides: modes a thousandth of the strongest, well above what single precision cannot tell."""
        one = ndimage.gaussian_filter(rng.normal(size=shape), 0.7, mode="wrap")
        other = np.roll(one, lag, (0, 1, 2))
        noise = share * rng.normal(size=(*shape, 2))
        return jnp.asarray(np.stack([one, other], axis=-1) + noise, jnp.float32)

    shape = (8, 6, 10)
    wanted = {name: plane_covariances(field(shape, 0.1))[name]}
    variance = float(wanted[name][0, 0].max())
    # The order of a pair counts.
    assert float(jnp.abs(wanted[name] - jnp.swapaxes(wanted[name], -1, -2)).max()) > 0.1 * variance
    found = plane_covariances(recolour(field(shape, 0.2), plane_roots(wanted), 1))[name]
    # Roots and inverse roots in single precision, of modes down to a thousandth: 6e-8 / 1e-3 in modes of that size.
    np.testing.assert_allclose(found, wanted[name], atol=1e-5 * variance)


def test_the_map_to_the_target_is_the_one_of_least_change():
    """T S T = R R leaves a unitary free; of all such maps the optimal transport is Hermitian with no negative value."""
    parts = np.random.default_rng(1).normal(size=(2, 2, 3, 2, 4, 4))
    factors = parts[0] + 1j * parts[1]
    density, target = (jnp.asarray(each @ np.conj(each.swapaxes(-1, -2)), jnp.complex64) for each in factors)
    values, vectors = np.linalg.eigh(np.asarray(target, complex))
    root = jnp.asarray((vectors * np.sqrt(values)[..., None, :]) @ np.conj(vectors.swapaxes(-1, -2)), jnp.complex64)
    found = np.asarray(plane_spectra._transport(density, root), complex)
    # Inverse roots of random matrices in single precision, whose values span some thousand.
    np.testing.assert_allclose(found, np.conj(found.swapaxes(-1, -2)), atol=1e-3)
    np.testing.assert_allclose(found @ np.asarray(density) @ found, target, atol=1e-3 * np.abs(target).max())
    assert np.linalg.eigvalsh(found).min() > -1e-3


def test_roots_of_covariances_that_no_field_has_leave_out_what_is_negative():
    """Correlation 0.8 between neighbours on a ring of 4, none beyond: spectrum 1 + 1.6 cos k = 2.6, 1, -0.6, 1."""
    ring = jnp.zeros((4, 4, 1, 1)).at[:, 0, 0, 0].set(jnp.array([1.0, 0.8, 0.0, 0.8]))
    root = plane_roots({"z": ring})["z"][..., 0, 0]
    expected = np.sqrt([2.6, 1.0, 0.0, 1.0])[:, None] * np.ones((4, 4))
    np.testing.assert_allclose(root, expected, atol=1e-6)


def test_roots_square_to_the_spectrum():
    field = smooth_field(3, channels=2)
    for name, plane in plane_covariances(field).items():
        root = plane_roots({name: plane})[name]
        spectrum = jnp.fft.fft2(plane, axes=(0, 1))
        # Root of a Hermitian matrix in single precision, relative to the largest eigenvalue.
        np.testing.assert_allclose(root @ root, spectrum, atol=2e-4 * float(jnp.abs(spectrum).max()))


def test_slices_as_large_as_the_volume_keep_their_own_covariances():
    cut = np.asarray(smooth_field(1, channels=2))[3]
    mean, planes = slice_covariances({"x": cut}, (N, N, N), periodic=True)
    np.testing.assert_allclose(mean, cut.mean((0, 1)), rtol=1e-5)
    # Periodic covariances about the map's own mean, up to rounding.
    np.testing.assert_allclose(planes["x"], covariances(cut), atol=1e-6)


@pytest.mark.parametrize(("map_side", "missing"), [(8, True), (20, False)])
def test_slices_of_other_sizes_give_the_lags_they_have(map_side, missing):
    cut = np.random.default_rng(0).normal(size=(map_side, map_side, 2)).astype(np.float32)
    mean, planes = slice_covariances({"z": cut}, (N, N, N), periodic=False)
    own = np.asarray(correlations(cut - mean, periodic=False))
    plane = planes["z"]
    assert plane.shape == (N, N, 2, 2)
    assert np.isnan(plane).any() == missing
    for lag in (-3, 0, 2):
        np.testing.assert_allclose(plane[lag, 1], own[lag, 1], rtol=1e-6)
    # As of any periodic volume, at half of its even axes too, where a larger map has two values for one lag.
    mirrored = np.roll(plane[::-1, ::-1], (1, 1), axis=(0, 1)).swapaxes(-1, -2)
    np.testing.assert_allclose(plane, mirrored, rtol=1e-5, atol=1e-7)
    if not missing:
        np.testing.assert_allclose(plane[N // 2, 1], 0.5 * (own[N // 2, 1] + own[-N // 2, 1]), rtol=1e-5)
    if missing:
        # Half of 8 is 4: lag 4 pools two directions, lag 5 does not exist in pairs enough.
        assert np.isnan(plane[4, 0]).all()
        assert np.isfinite(plane[3, -3]).all()


def test_the_mean_is_that_of_all_pixels():
    """A map of twice the pixels counts twice; covariances are about the pooled mean."""
    large, small = np.full((6, 4, 1), 1.0, np.float32), np.full((4, 3, 1), 4.0, np.float32)
    mean, planes = slice_covariances({"x": large, "y": small}, (4, 4, 4), periodic=False)
    assert mean == pytest.approx([2.0])
    assert [float(planes[name][0, 0, 0, 0]) for name in "xy"] == pytest.approx([1.0, 4.0])


def test_reconciled_planes_agree_where_they_meet():
    cuts = {name: np.asarray(smooth_field(seed, 2))[seed] for seed, name in enumerate("xyz")}
    planes = reconciled(slice_covariances(cuts, (N, N, N), periodic=False)[1])
    np.testing.assert_array_equal(planes["y"][:, 0], planes["z"][:, 0])
    np.testing.assert_array_equal(planes["x"][:, 0], planes["z"][0])
    np.testing.assert_array_equal(planes["x"][0], planes["y"][0])
    # Lags off the shared lines are the slices' own.
    np.testing.assert_array_equal(
        planes["x"][1:, 1:], slice_covariances(cuts, (N, N, N), periodic=False)[1]["x"][1:, 1:]
    )


def test_targets_are_reachable_and_come_from_the_slices():
    volume = np.asarray(smooth_field(2))
    cuts = {"x": volume[0], "y": volume[:, 0], "z": volume[:, :, 0]}
    targets = slice_targets(jax.random.key(0), cuts, (N, N, N), budget=60)
    pixels = np.concatenate([cut.reshape(-1, 1) for cut in cuts.values()])
    np.testing.assert_allclose(targets.mean, pixels.mean(0), atol=1e-6)
    # Consistent where planes meet, as the planes of one field are.
    np.testing.assert_allclose(targets.planes["y"][:, 0], targets.planes["z"][:, 0], atol=1e-5)
    # A tenth of the variance of 0.25 on average; three single slices of twelve voxels do not fit one volume better.
    assert 0 < float(targets.misfit) < 0.05
    asked = reconciled(slice_covariances(cuts, (N, N, N), periodic=False)[1])
    squares = np.concatenate([np.square(targets.planes[name] - plane).ravel() for name, plane in asked.items()])
    assert float(targets.misfit) == pytest.approx(np.sqrt(np.nanmean(squares)), rel=1e-4)
    found = match(two_point(targets.planes, targets.mean), NOISE, 1e-3)
    assert float(found.error) < 5e-3


def test_other_maps_are_fitted_by_the_same_program():
    programs = []
    for seed in (2, 3):
        slice_targets(jax.random.key(seed), {"z": np.asarray(smooth_field(seed))[:, :, 0]}, (4, 4, 4), budget=7)
        programs.append(_fit._cache_size())
    assert programs[0] == programs[1]


def test_targets_of_orientations_have_the_variance_of_crystals():
    kind = representation.get("gsh4")
    crystals = np.asarray(kind.encode(samples.load("in100").crop((0, 0, 0), (24, 24, 24)).quaternions))
    cuts = {"x": crystals[0], "y": crystals[:, 0], "z": crystals[:, :, 0]}
    pixels = np.concatenate([cut.reshape(-1, 9) for cut in cuts.values()])

    def power(kind):
        """Variance and squared mean of all channels: 9/4 where every voxel is a crystal."""
        targets = slice_targets(jax.random.key(0), cuts, (N, N, N), kind=kind)
        np.testing.assert_allclose(targets.mean, pixels.mean(0), atol=1e-6)
        return float(jnp.trace(targets.planes["x"][0, 0]) + jnp.sum(jnp.square(targets.mean)))

    # The fit may miss the mean a little: by 1e-2 of its length.
    assert power(kind) == pytest.approx(9 / 4, rel=1e-2)
    assert power(None) > 1.2 * 9 / 4  # the field that fits best is no field of crystals


def test_a_periodic_map_of_another_size_is_refused():
    with pytest.raises(ValueError, match="periodic map"):
        slice_covariances({"x": np.zeros((8, 8, 1), np.float32)}, (N, N, N), periodic=True)


def test_five_targets_cost_one_trace():
    traces = []

    @jax.jit
    def run(condition):
        traces.append(1)
        return condition.match(NOISE, 1.0).error

    for seed in range(5):
        field = smooth_field(seed)
        run(two_point(plane_covariances(field), jnp.mean(field, axis=(0, 1, 2))))
    assert len(traces) == 1
