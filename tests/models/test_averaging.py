"""Averaging within grains: what it keeps, how far it reaches, and that boundaries hold it back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from polymicros_jax.models import averaging
from polymicros_jax.models.layers import draw_kernels
from polymicros_jax.orientation import representation

GRID = (6, 5, 4)
FIELD = jax.random.normal(jax.random.key(0), (2, *GRID, 3))
FEATURES = 0.7 * jax.random.normal(jax.random.key(1), (2, *GRID, 4))


def by_loops(field: np.ndarray, features: np.ndarray, steps: int, periodic: bool) -> np.ndarray:
    """The same for one volume in float64, written voxel by voxel and pair by pair."""
    y, shape = field.astype(np.float64), field.shape[:3]
    for _ in range(steps):
        new = y.copy()
        for voxel in np.ndindex(*shape):
            for axis in range(3):
                for way in (-1, 1):
                    other = list(voxel)
                    other[axis] += way
                    if not periodic and not 0 <= other[axis] < shape[axis]:
                        continue
                    other[axis] %= shape[axis]
                    distance = np.sum((features[voxel].astype(np.float64) - features[tuple(other)]) ** 2)
                    new[voxel] += np.exp(-distance) * (y[tuple(other)] - y[voxel]) / 7.0
        y = new
    return y


@pytest.mark.parametrize("padding", ["replicate", "periodic"])
def test_equals_the_sum_over_neighbours(padding: str) -> None:
    ours = averaging.average_within(FIELD, FEATURES, 3, padding)
    for one, field, features in zip(ours, np.asarray(FIELD), np.asarray(FEATURES), strict=True):
        expected = by_loops(field, features, 3, padding == "periodic")
        # Three steps of about twenty roundings of values near 1 in float32.
        np.testing.assert_allclose(one, expected, atol=3 * 20 * 6e-8)


@pytest.mark.parametrize("padding", ["replicate", "periodic"])
def test_the_sum_over_the_volume_stays(padding: str) -> None:
    after = averaging.average_within(FIELD, FEATURES, 8, padding)
    total, scale = jnp.sum(FIELD, axis=(1, 2, 3)), float(jnp.sum(jnp.abs(FIELD[0])))
    np.testing.assert_allclose(jnp.sum(after, axis=(1, 2, 3)), total, atol=8 * 1e-7 * scale)


def test_two_grains_keep_their_values_and_lose_their_noise() -> None:
    grain = (jnp.arange(24) >= 11).astype(jnp.float32).reshape(1, 24, 1, 1, 1) * jnp.ones((1, 24, 24, 24, 1))
    noise = jax.random.normal(jax.random.key(2), (1, 24, 24, 24, 1))
    # Features 10 apart: a conductance of exp(-100) is none.
    after = averaging.average_within(5.0 * grain + noise, 10.0 * grain, 8, "periodic")
    left, right = after[:, :11], after[:, 11:]
    assert float(jnp.mean(right) - jnp.mean(left)) == pytest.approx(5.0, abs=5 * np.sqrt(2 / 6336))
    # Without boundaries the variance left is the sum of squares of the kernel, the mean over wave vectors of
    # (1 - (2/7) sum_axis (1 - cos k))^16. The faces of the grains keep some more.
    wave = 2 * np.pi * np.arange(24) / 24
    gain = 1 - (2 / 7) * sum(np.meshgrid(*[1 - np.cos(wave)] * 3, indexing="ij"))
    inside = np.mean(gain**16)
    middle = after[:, 15:20] - jnp.mean(right)
    # About 5 x 24 x 24 / 154 independent values: the estimate of a variance scatters by sqrt(2 / 19).
    assert float(jnp.var(middle)) == pytest.approx(inside, rel=4 * np.sqrt(2 / 19))
    mixed = averaging.average_within(5.0 * grain + noise, 0.0 * grain, 8, "periodic")
    assert float(mixed[:, 11].mean() - mixed[:, 10].mean()) < 2.0, "without features the boundary must blur"


def test_no_wave_grows_even_at_full_conductance() -> None:
    checkerboard = jnp.asarray((-1.0) ** np.sum(np.indices((4, 4, 4)), axis=0))[None, ..., None]
    after = averaging.average_within(checkerboard, jnp.zeros((1, 4, 4, 4, 1)), 1, "periodic")
    np.testing.assert_allclose(after, -5.0 / 7.0 * checkerboard, rtol=1e-6)


def test_products_are_all_of_them_over_the_norm() -> None:
    voxel = np.array([1.0, -2.0, 0.5])
    pairs = [voxel[i] * voxel[j] for i in range(3) for j in range(i, 3)]
    expected = np.array(pairs) / np.sqrt(1 + np.sum(voxel**2))
    np.testing.assert_allclose(averaging.products(jnp.asarray(voxel)), expected, rtol=1e-6)


def test_products_tell_where_the_orientations_lie() -> None:
    # The product (f f)_4 of a cubic f is a multiple of f: one linear map of the products gives every orientation back.
    quaternions = np.random.default_rng(3).normal(size=(500, 4))
    quaternions /= np.linalg.norm(quaternions, axis=-1, keepdims=True)
    f = np.asarray(representation.get("gsh4").encode(jnp.asarray(quaternions, jnp.float32)), np.float64)

    def products(vectors: np.ndarray) -> np.ndarray:
        return np.asarray(averaging.products(jnp.asarray(vectors)), np.float64)

    seen, held_out = f[:300], f[300:]
    turn = np.linalg.lstsq(products(seen), seen, rcond=None)[0]
    np.testing.assert_allclose(products(held_out) @ turn, held_out, atol=1e-4)
    # Vectors of the same norm that belong to no orientation are turned away.
    strange = np.random.default_rng(4).normal(size=(200, 9))
    strange *= np.linalg.norm(f[0]) / np.linalg.norm(strange, axis=-1, keepdims=True)
    change = products(strange) @ turn - strange
    assert np.median(np.linalg.norm(change, axis=-1)) > 0.3 * np.linalg.norm(f[0])


def test_a_fresh_round_averages_the_estimate_with_one_part_in_150_of_the_noisy_field() -> None:
    layer = averaging.Refinement(3, 4, 3, 8, 2, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
    nnx.update(layer, draw_kernels(jax.random.key(5), nnx.to_pure_dict(nnx.state(layer, nnx.Param))))
    layer.boundary.linear.kernel[...] = jnp.zeros_like(layer.boundary.linear.kernel[...])  # no boundaries
    estimate = 2.0 * jax.random.normal(jax.random.key(7), FIELD.shape)
    out = layer(FIELD, estimate, jax.random.normal(jax.random.key(8), (FIELD.shape[0], 8)), "replicate")
    share = 1.0 / (1.0 + np.exp(5.0))
    mixed = share * FIELD + (1.0 - share) * estimate
    assert 1.0 / share == pytest.approx(150, abs=1)
    # Three steps of about twenty roundings of values below 8 in float32.
    np.testing.assert_allclose(out, averaging.average_within(mixed, 0.0 * FEATURES, 3, "replicate"), atol=3e-5)


def test_what_a_round_averages_lies_between_the_noisy_field_and_the_estimate() -> None:
    layer = averaging.Refinement(3, 4, 3, 8, 2, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
    params = draw_kernels(jax.random.key(5), nnx.to_pure_dict(nnx.state(layer, nnx.Param)))
    nnx.update(layer, params)
    layer.share.linear.kernel[...] = 5.0 * jax.random.normal(jax.random.key(6), (4, 1))
    noisy, estimate = FIELD, 2.0 * jax.random.normal(jax.random.key(7), FIELD.shape)
    out = layer(noisy, estimate, jnp.zeros((FIELD.shape[0], 8)), "replicate")
    limits = jnp.stack([noisy, estimate])
    assert float(out.max()) <= float(limits.max()) + 1e-5
    assert float(out.min()) >= float(limits.min()) - 1e-5
    # The gain multiplies the noisy field alone: ln 2 doubles it.
    layer.gain.bias[...] = jnp.log(2.0) * jnp.ones(1)
    layer.boundary.linear.kernel[...] = jnp.zeros_like(layer.boundary.linear.kernel[...])
    doubled = layer(noisy, jnp.zeros_like(noisy), jnp.zeros((FIELD.shape[0], 8)), "replicate")
    layer.gain.bias[...] = jnp.zeros(1)
    single = layer(noisy, jnp.zeros_like(noisy), jnp.zeros((FIELD.shape[0], 8)), "replicate")
    np.testing.assert_allclose(doubled, 2.0 * single, atol=1e-5)
