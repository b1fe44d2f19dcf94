"""ROGSH equals the symmetrised harmonics it stands for; and its failure as a representation, shown."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polymicros_jax.orientation import embedding, harmonics, quaternion, rogsh


@pytest.mark.usefixtures("x64")
def test_closed_forms_equal_the_group_averages():
    q = quaternion.random(jax.random.key(0), (200,))
    t4, t12 = harmonics.symmetrised(q, 4, "432"), harmonics.symmetrised(q, 12, "432")
    expected = np.stack([t4[:, 0, 0].real, t4[:, 4, 0].real, t12[:, 12, 1].real], axis=-1)
    # Eq. 10 sums terms of 1e6 with factor 3e-4: cancellation costs three digits.
    np.testing.assert_allclose(rogsh.encode(q), expected, atol=1e-11)
    np.testing.assert_allclose(rogsh.from_euler(quaternion.to_euler(q)), expected, atol=1e-11)


def test_printed_eq_8_is_wrong():
    euler = np.asarray(quaternion.to_euler(quaternion.random(jax.random.key(0), (20_000,))), np.float64)
    phi1, c, phi2 = euler[:, 0], np.cos(euler[:, 1]), euler[:, 2]
    first = 14 * (c - 1) ** 2 * np.cos(4 * phi1) + (c + 1) ** 2 * np.cos(4 * phi1 + 4 * phi2)
    printed = np.sqrt(30) / 192 * first * (c + 1) ** 2 + (c - 1) ** 4 * np.cos(4 * phi1 - 4 * phi2)
    error = np.abs(printed - np.asarray(rogsh.from_euler(euler.astype(np.float32)))[:, 0])
    assert 12 < error.max() < 15.6


def test_ranges_and_deviations_under_uniform_texture():
    values = np.asarray(rogsh.encode(quaternion.random(jax.random.key(1), (100_000,))))
    np.testing.assert_allclose(values.min(axis=0), [-0.456, -0.509, -0.456], atol=0.01)
    np.testing.assert_allclose(values.max(axis=0), [0.456, 0.764, 0.655], atol=0.02)
    assert (np.abs(values) <= np.array([[0.4565, 0.7639, 0.6551]])).all()
    # 4 standard errors of a standard deviation of 100,000 draws
    np.testing.assert_allclose(values.std(axis=0), rogsh.STANDARD_DEVIATIONS, rtol=4 / np.sqrt(200_000) * 1.5)
    np.testing.assert_allclose(rogsh.STANDARD_DEVIATIONS, [0.236, 0.333, 0.200], atol=5e-4)


@pytest.mark.usefixtures("x64")
def test_sixteen_crystals_share_a_triple():
    """Quarter turns of phi1, (-phi1, Phi, -phi2), and the other phi1 at which the wave of Eq. 8 has the same value."""
    phi1, Phi, phi2 = 0.3, 0.8, 0.5
    c = np.cos(Phi)
    # Eq. 8 is |wave| cos(4 phi1 + arg wave), up to its factor.
    wave = 14 * (1 - c**2) ** 2 + (1 + c) ** 4 * np.exp(4j * phi2) + (1 - c) ** 4 * np.exp(-4j * phi2)
    angles = np.add.outer([phi1, -phi1 - np.angle(wave) / 2], np.arange(4) * np.pi / 2).ravel()
    euler = np.array([[sign * angle, Phi, sign * phi2] for angle in angles for sign in (1, -1)])
    triples = rogsh.from_euler(euler)
    np.testing.assert_allclose(triples, np.tile(triples[:1], (16, 1)), atol=1e-14)
    q = quaternion.from_euler(euler)
    apart = np.degrees(quaternion.disorientation(q[:, None], q[None]))[np.triu_indices(16, 1)]
    assert apart.min() > 6
    # Those that the paper's symmetries alone make: far from the first, and GSH-4 tells them apart.
    for other in (2, 1):
        assert np.degrees(quaternion.disorientation(q[0], q[other])) > 20
        assert np.linalg.norm(embedding.encode(q[0]) - embedding.encode(q[other])) > 1


def test_round_trip_fails():
    """Negative control of the embeddings' round trip: 35 degrees in the median, 9 % within 5 degrees."""
    q = quaternion.random(jax.random.key(2), (3000,))
    recovered, distance = rogsh.lookup(rogsh.encode(q))
    error = np.degrees(quaternion.disorientation(recovered, q))
    assert 33 < np.median(error) < 37
    assert 0.07 < (error < 5).mean() < 0.11
    assert np.median(distance) < 0.02  # and nothing in the distance warns of it


def test_lookup_finds_the_nearest_triple():
    field = rogsh.encode(quaternion.random(jax.random.key(3), (4, 5)))
    spacing = float(np.radians(10.0))
    q, distance = rogsh.lookup(field, spacing=spacing)
    grid = np.asarray(rogsh.encode(rogsh.fundamental_zone_grid("432", spacing).astype(np.float32)))
    brute = np.linalg.norm(np.asarray(field)[:, :, None, :] - grid[None, None], axis=-1).min(axis=-1)
    assert q.shape == (4, 5, 4)
    np.testing.assert_allclose(distance, brute, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(rogsh.encode(q) - field, axis=-1), brute, atol=1e-5)


def test_gradient_of_the_distance_at_a_triple_of_the_grid():
    spacing = float(np.radians(20.0))
    _, table = rogsh._table(spacing)
    gradient = jax.grad(lambda field: rogsh.lookup(field, spacing)[1])
    np.testing.assert_array_equal(gradient(jnp.asarray(table[3])), np.zeros(3))
    # Beside it: the direction away from it, as far as the rounding of triples, 6e-8, leaves it in a step of 1e-3.
    np.testing.assert_allclose(gradient(jnp.asarray(table[3]) + jnp.array([0.0, 1e-3, 0.0])), [0, 1, 0], atol=1e-3)
