"""Real spherical harmonics: addition theorem, SciPy, rotation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import eval_legendre, sph_harm_y

from polymicros_jax.orientation import quaternion, spherical

pytestmark = pytest.mark.usefixtures("x64")


def directions(count, seed=0):
    v = np.random.default_rng(seed).normal(size=(count, 3))
    return v / np.linalg.norm(v, axis=1, keepdims=True)


@pytest.mark.parametrize("degree", [0, 1, 2, 4, 6, 12, 20])
def test_addition_theorem(degree):
    a, b = directions(40), directions(30, 1)
    inner = spherical.harmonics(a, degree) @ spherical.harmonics(b, degree).T
    np.testing.assert_allclose(inner, eval_legendre(degree, a @ b.T), atol=1e-10)


@pytest.mark.parametrize("degree", [1, 4, 6])
def test_against_scipy(degree):
    v = directions(20)
    polar, azimuth = np.arccos(v[:, 2]), np.arctan2(v[:, 1], v[:, 0])
    racah = np.sqrt(4 * np.pi / (2 * degree + 1))
    expected = [racah * sph_harm_y(degree, 0, polar, azimuth).real]
    for m in range(1, degree + 1):
        y = racah * np.sqrt(2) * (-1) ** m * sph_harm_y(degree, m, polar, azimuth)  # without Condon-Shortley
        expected += [y.real, y.imag]
    np.testing.assert_allclose(spherical.harmonics(v, degree), np.stack(expected, axis=-1), atol=1e-13)


@pytest.mark.parametrize("degree", [1, 4, 6])
def test_rotation_block(degree):
    v = directions(20)
    g = quaternion.to_matrix(quaternion.random(jax.random.key(0)))
    d = spherical.rotation_block(g, degree)
    np.testing.assert_allclose(d @ d.T, np.eye(2 * degree + 1), atol=1e-13)
    turned = spherical.harmonics(v @ g.T, degree)
    np.testing.assert_allclose(turned, spherical.harmonics(v, degree) @ d.T, atol=1e-13)
    assert jnp.abs(turned - spherical.harmonics(v, degree) @ d).max() > 0.1  # the inverse rotation is not it
