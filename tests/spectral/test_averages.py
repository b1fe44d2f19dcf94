"""Radial and directional averages and the coherence length against functions whose averages are known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polymicros_jax.spectral import averages, grid


def distances(shape, spacing):
    axes = [grid.integer_lags(n) * edge for n, edge in zip(shape, spacing, strict=True)]
    return np.sqrt(sum(x**2 for x in np.meshgrid(*axes, indexing="ij")))


def as_pairs(f):
    return jnp.asarray(f, jnp.float32)[..., None, None]


@pytest.mark.parametrize("shape", [(9, 8, 7), (12, 9)])
def test_radial_average_matches_a_loop(shape):
    f = np.random.default_rng(0).normal(size=(*shape, 2, 2)).astype(np.float32)
    radii, got = averages.radial_average(f)
    distance = distances(shape, [1] * len(shape))
    assert len(radii) == min(shape) // 2 + 1
    for radius, value in zip(radii, got, strict=True):
        shell = np.rint(distance) == radius
        np.testing.assert_allclose(value, f[shell].mean(0), atol=1e-6)
    np.testing.assert_array_equal(got[0], f[(0,) * len(shape)])


def test_missing_lags_and_weights():
    f = np.ones((8, 8), np.float32)
    f[1, 0], f[0, 1] = np.nan, 3.0
    # Shell 1 holds (+-1, 0), (0, +-1) and (+-1, +-1), eight lags; one is missing, one is 3.
    _, got = averages.radial_average(as_pairs(f))
    assert float(got[1, 0, 0]) == pytest.approx((6 + 3) / 7)
    weights = np.ones((8, 8), np.float32)
    weights[0, 1] = 6
    _, got = averages.radial_average(as_pairs(f), weights=weights)
    assert float(got[1, 0, 0]) == pytest.approx((6 + 3 * 6) / 12)


def test_spacing_is_a_unit_of_length():
    spacing = (0.5, 1.0, 0.5)
    distance = distances((16, 8, 16), spacing)
    radii, got = averages.radial_average(as_pairs(distance), spacing=spacing, width=0.5)
    # A shell of width 0.5 averages distances that are within 0.25 of its radius.
    np.testing.assert_allclose(got[:, 0, 0], radii, atol=0.25)
    # By default shells are as thick as the largest voxel edge: with thinner ones some would hold no lag.
    np.testing.assert_array_equal(averages.radial_average(as_pairs(distance), spacing=spacing)[0], np.arange(5.0))
    # An axis of one voxel has no lags, so it does not end the shells.
    assert len(averages.radial_average(as_pairs(distance[:, :, :1]), spacing=spacing)[0]) == 5
    with pytest.raises(ValueError, match="spacing"):
        averages.radial_average(as_pairs(distance), spacing=(1.0, 1.0))


def test_directional_average_is_one_sided():
    """A function odd along x and flat along y: +x and -x see opposite signs, y sees none."""
    x = np.broadcast_to(grid.integer_lags(15)[:, None, None].astype(float), (15, 15, 15))
    for direction, sign in [((1, 0, 0), 1), ((-2, 0, 0), -1), ((0, 1, 0), 0)]:
        radii, got = averages.directional_average(as_pairs(x), direction, half_angle=math.radians(5))
        np.testing.assert_allclose(got[:, 0, 0], sign * radii, atol=1e-6)
    with pytest.raises(ValueError, match="direction"):
        averages.directional_average(as_pairs(x), (0, 0, 0))
    with pytest.raises(ValueError, match=r"did you mean np.radians\(15\)"):
        averages.directional_average(as_pairs(x), (1, 0, 0), half_angle=15)


def test_coherence_length_of_known_decays():
    """exp(-r / L) falls to 1/e at L; anisotropic decay has its own length along each axis."""
    distance = distances((48, 48, 48), (1, 1, 1))
    two = np.zeros((48, 48, 48, 2, 2))
    for b, length in enumerate([4.0, 9.0]):
        two[..., b, b] = np.exp(-distance / length)
    got = averages.coherence_length(jnp.asarray(two, jnp.float32))
    # Shells are one voxel thick and interpolated linearly: error below a tenth of a voxel for these curvatures.
    np.testing.assert_allclose(got, [4.0, 9.0], atol=0.1)
    axes = np.meshgrid(*[np.abs(grid.integer_lags(n)) for n in (48, 32, 24)], indexing="ij")
    f = as_pairs(np.exp(-(axes[0] / 8 + axes[1] / 4 + axes[2] / 2)))
    lengths = [
        float(averages.coherence_length(f, direction=d, half_angle=0.01)[0]) for d in [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    ]
    np.testing.assert_allclose(lengths, [8, 4, 2], atol=1e-3)
    # The edges of voxels count along a direction too: half as long along x, twice along z.
    lengths = [
        float(averages.coherence_length(f, direction=d, half_angle=0.01, spacing=(0.5, 1, 2), width=w)[0])
        for d, w in [((1, 0, 0), 0.5), ((0, 1, 0), 1.0), ((0, 0, 1), 2.0)]
    ]
    np.testing.assert_allclose(lengths, [4, 4, 4], atol=1e-3)


def test_a_cone_is_one_of_lengths_not_of_voxels():
    """Voxels twice as long along y: the direction (1, 2) is their diagonal."""
    y = grid.integer_lags(16)[None, :] + np.zeros((16, 1))
    radii, got = averages.directional_average(as_pairs(y), (1, 2), half_angle=0.01, spacing=(1, 2), width=math.sqrt(5))
    np.testing.assert_allclose(radii, math.sqrt(5) * np.arange(4))
    np.testing.assert_allclose(got[:, 0, 0], np.arange(4))


def test_the_first_shell_is_zero_lag_alone():
    """Lags along short edges round to it, but are not the variance that lengths of coherence refer to."""
    spacing, length = (0.25, 0.25, 1.0), 1.5
    f = as_pairs(np.exp(-distances((48, 48, 24), spacing) / length))
    assert float(averages.radial_average(f, spacing=spacing)[1][0, 0, 0]) == pytest.approx(1.0, abs=1e-6)
    # The profile is that of means over shells, not of their radii: a convex one is read off low. Within a shell of
    # width w, volume centred, by about w^2 / (6 L) = 0.1 at most.
    assert float(averages.coherence_length(f, spacing=spacing)[0]) == pytest.approx(length, abs=0.1)


def test_coherence_that_never_decays_is_infinite():
    assert np.isinf(averages.coherence_length(jnp.ones((8, 8, 8, 1, 1)))).all()


def test_shells_thicker_than_the_domain_are_refused():
    """Plates: the largest edge, the thickness of a shell by default, is more than half the shortest axis."""
    spacing = (0.05, 0.05, 1.0)
    f = as_pairs(np.exp(-distances((32, 32, 16), spacing) / 0.2))
    with pytest.raises(ValueError, match="width: found none, the largest voxel edge, which leaves no shell"):
        averages.coherence_length(f, spacing=spacing)
    # Shells of one small edge, interpolated linearly: the curvature is 1 / 0.2^2 / e, 0.05^2 / 8 of it is 0.003.
    found = averages.coherence_length(f, spacing=spacing, width=0.05)
    np.testing.assert_allclose(found, 0.2, atol=0.01)


def test_empty_shells_are_bridged():
    """Along a diagonal of whole voxels some shells hold no lag; the crossing does not see NaN."""
    profile = jnp.asarray([1.0, np.nan, 0.6, 0.2])[:, None]
    got = averages.crossing(np.arange(4.0), profile, 0.4)
    np.testing.assert_allclose(got, [2.5], rtol=1e-6)


@pytest.mark.parametrize("shape", [(12, 12, 12), (12, 9, 10)])
@pytest.mark.parametrize("direction", [(1, 0, 0), (-1, 0, 0), (0, 0, 1), (0, 0, -1)])
@pytest.mark.parametrize("edge", [1.0, 0.5])
def test_half_of_an_even_axis_lies_in_both_directions(shape, direction, edge):
    """The lag -n/2 is n/2 as well: an even function has the same profile, and the same length, either way."""
    x, _, z = np.meshgrid(*[np.abs(grid.integer_lags(n)) for n in shape], indexing="ij")
    f = as_pairs(np.exp(-(x if direction[0] else z) / 4.9))
    radii, got = averages.directional_average(f, direction, half_angle=0.01, spacing=(edge,) * 3)
    radii = radii / edge
    reach = min(shape) // 2
    np.testing.assert_allclose(got[: reach + 1, 0, 0], np.exp(-radii[: reach + 1] / 4.9), rtol=1e-5)
    if reach > 5:
        # Linear between 4 and 5 voxels, where the curvature is 0.37 / 4.9^2: off by at most 0.02 voxels... in length.
        found = float(averages.coherence_length(f, direction=direction, half_angle=0.01)[0])
        assert found == pytest.approx(4.9, abs=0.02)


def test_the_gradient_over_empty_shells_is_that_of_finite_differences():
    """Along the diagonal the first shell holds no lag: its value is carried, and so must be its derivative."""
    with jax.enable_x64(True):
        r = np.linalg.norm(averages._lag_vectors((12, 12, 12), None), axis=-1)
        f = jnp.asarray(np.exp(-r / 3.0))[..., None, None]
        direction = jnp.asarray(np.random.default_rng(0).normal(size=f.shape))

        def length(f):
            return averages.coherence_length(f, direction=(1, 1, 1)).sum()

        step = 1e-6
        difference = (length(f + step * direction) - length(f - step * direction)) / (2 * step)
        # Truncation goes with the step squared, rounding with 1e-16 of the length over it.
        assert float(jnp.vdot(jax.grad(length)(f), direction)) == pytest.approx(float(difference), rel=1e-7)


def test_shells_take_halves_alike():
    """Two lags a side and shell, but zero lag alone in the first: halves rounded to even would give 1 and 3."""
    f = jnp.asarray(np.where(np.arange(32) % 2, 1.0, 0.0), jnp.float32)[:, None, None]  # 1 at lags of halves
    radii, average = averages.radial_average(f, spacing=(0.5,), width=1.0)
    np.testing.assert_array_equal(radii, np.arange(9))
    # Shell j holds the distances j - 0.5 and j; of the last, 8, half an axis of 16 voxels comes once.
    np.testing.assert_allclose(average[:, 0, 0], [0.0, *[0.5] * 7, 2 / 3], rtol=1e-6)


def test_a_single_voxel_has_zero_lag_alone():
    radii, average = averages.radial_average(np.full((1, 1, 1, 1, 1), 2.0))
    assert (radii.tolist(), average.ravel().tolist()) == ([0.0], [2.0])
    with pytest.raises(ValueError, match="no shell beyond zero lag"):
        averages.coherence_length(np.ones((1, 1, 1, 1, 1)))
