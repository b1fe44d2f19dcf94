"""Symmetrised GSH: Bunge's printed functions, invariance, normalisation, counts, stability at high degree."""

from math import factorial, sqrt

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial import Polynomial

from polymicros_jax.orientation import harmonics, quaternion, symmetry

GROUPS = list(symmetry.LAUE_GROUPS)


def bunge(degree, m, n, Phi):
    """P_l^{mn}(cos Phi) as printed by Bunge (1982), eq. 14.2: Rodrigues form, exact only at low degree."""
    x = np.cos(Phi)
    product = Polynomial([1, -1]) ** (degree - m) * Polynomial([1, 1]) ** (degree + m)
    derivative = product.deriv(degree - n) if degree > n else product
    factor = (-1) ** (degree - m) * 1j ** (n - m) / (2**degree * factorial(degree - m))
    factor *= sqrt(factorial(degree - m) * factorial(degree + n) / (factorial(degree + m) * factorial(degree - n)))
    return factor * (1 - x) ** (-(n - m) / 2) * (1 + x) ** (-(n + m) / 2) * derivative(x)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("degree", [1, 2, 4])
def test_wigner_is_bunges(degree):
    phi1, Phi, phi2 = 0.4, 1.2, 2.1  # away from the poles, where the Rodrigues form divides by zero
    t = harmonics.wigner(quaternion.from_euler(np.array([phi1, Phi, phi2])), degree)
    orders = range(-degree, degree + 1)
    expected = [[np.exp(1j * (m * phi2 + n * phi1)) * bunge(degree, m, n, Phi) for n in orders] for m in orders]
    np.testing.assert_allclose(t, expected, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("degree", [8, 16, 32])
def test_wigner_stays_unitary_and_a_homomorphism(degree):
    a, b = quaternion.random(jax.random.key(0), (2, 3))
    ta, tb = harmonics.wigner(a, degree), harmonics.wigner(b, degree)
    identity = np.tile(np.eye(2 * degree + 1), (3, 1, 1))
    np.testing.assert_allclose(ta @ jnp.conj(jnp.swapaxes(ta, -1, -2)), identity, atol=1e-12)
    np.testing.assert_allclose(harmonics.wigner(quaternion.multiply(a, b), degree), ta @ tb, atol=1e-12)


@pytest.mark.parametrize("group", GROUPS)
def test_number_of_functions_is_the_character_average(group):
    # M = mean over the group of the character sin((l + 1/2) t) / sin(t / 2).
    t = np.asarray(quaternion.angle(symmetry.operators(group).astype(np.float32)), np.float64)
    for degree in range(17):
        orders = np.arange(-degree, degree + 1)
        expected = np.cos(np.outer(t, orders)).sum(axis=1).mean()
        assert harmonics.multiplicity(degree, group) == round(expected)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("degree", [4, 9, 16])
def test_invariance_and_norm(group, degree):
    # Poles of the Euler angles included: the identity and its equivalents.
    q = jnp.concatenate([quaternion.random(jax.random.key(1), (4,)), jnp.eye(1, 4)])
    t = np.asarray(harmonics.symmetrised(symmetry.equivalents(q, group), degree, group))
    np.testing.assert_allclose(t, np.broadcast_to(t[:, :1], t.shape), atol=1e-12)
    np.testing.assert_allclose((np.abs(t) ** 2).sum(axis=-2), 1, atol=1e-12)


def test_symmetrised_is_the_group_average():
    # 432, degree 4: the average of Wigner-D over the group, projected on the basis, gives the function itself.
    q = quaternion.random(jax.random.key(1), (3,))
    average = np.asarray(harmonics.wigner(symmetry.equivalents(q, "432"), 4)).mean(axis=1)
    projected = np.einsum("um,qmn->qnu", np.conj(harmonics.symmetric_basis(4, "432")), average)
    np.testing.assert_allclose(harmonics.symmetrised(q, 4, "432"), projected, atol=2e-6)


@pytest.mark.parametrize(("degree", "group"), [(4, "432"), (12, "432"), (6, "622")])
def test_orthonormal_under_uniform_texture(degree, group):
    q = quaternion.random(jax.random.key(0), (20_000,))
    t = np.asarray(harmonics.symmetrised(q, degree, group)).reshape(len(q), -1)
    gram = (2 * degree + 1) * (np.conj(t).T @ t) / len(q)
    # An entry is a mean of 20,000 products of functions of unit variance, kurtosis below 4: 5 standard errors.
    assert np.abs(gram - np.eye(len(gram))).max() < 5 * sqrt(4 / 20_000)


def test_single_precision_at_degree_16():
    q = quaternion.random(jax.random.key(0), (50,))
    single = np.asarray(harmonics.symmetrised(q, 16, "432"))
    assert single.dtype == np.complex64
    with jax.enable_x64(True):
        double = np.asarray(harmonics.symmetrised(np.asarray(q, np.float64), 16, "432"))
    # An angle rounded at 4e-7 times the order 16, twice.
    np.testing.assert_allclose(single, double, atol=2e-5)


def test_degrees_without_functions_are_empty():
    """Of degree 2 cubic symmetry leaves nothing: the average of Wigner-D over the group vanishes."""
    q = quaternion.random(jax.random.key(0), (3,))
    assert np.abs(harmonics.wigner(symmetry.equivalents(q, "432"), 2).mean(axis=1)).max() < 1e-6
    assert harmonics.symmetrised(q, 2, "432").shape == (3, 5, 0)


@pytest.mark.parametrize("pole", [[1.0, 0, 0, 0], [0.0, 1, 0, 0]])
def test_gradients_at_the_poles(pole):
    """A turn of the sample about z multiplies T^n by exp(i n t), also where the Euler angles have no derivative."""
    q = jnp.array(pole)
    turn = quaternion.multiply(q, jnp.array([0.0, 0.0, 0.0, -0.5]))
    t, slope = jax.jvp(lambda x: harmonics.symmetrised(x, 4), (q,), (turn,))
    np.testing.assert_allclose(slope, 1j * np.arange(-4, 5)[:, None] * t, atol=1e-5)
    assert np.abs(slope).max() > 1  # the cubic harmonic has n = 0 and 4
    gradient = jax.jacobian(lambda x: jnp.real(harmonics.symmetrised(x, 4)).sum())(q)
    assert np.isfinite(gradient).all()
