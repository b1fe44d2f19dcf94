"""What docs/conventions.md says of DAMASK (AGPL-3, test only): the same rotations, quaternions conjugated."""

import jax
import numpy as np
import pytest

from polymicros_jax.orientation import quaternion, symmetry

pytestmark = [pytest.mark.reference, pytest.mark.usefixtures("x64")]
damask = pytest.importorskip("damask")
CONJUGATE = np.array([1.0, -1.0, -1.0, -1.0])


@pytest.fixture
def q():
    return np.asarray(quaternion.random(jax.random.key(0), (20,)))


def test_its_quaternion_is_the_conjugate_of_ours(q):
    """Same Euler angles, same matrix, and the vector part of the other sign."""
    theirs = damask.Rotation.from_Euler_angles(np.asarray(quaternion.to_euler(q)))
    np.testing.assert_allclose(theirs.as_matrix(), quaternion.to_matrix(q), atol=1e-12)
    np.testing.assert_allclose(theirs.as_quaternion(), q * CONJUGATE, atol=1e-12)
    # Negative control: as they stand, the components are another rotation.
    assert np.abs(damask.Rotation(q).as_matrix() - quaternion.to_matrix(q)).max() > 0.5


def test_its_rodrigues_vector_has_the_other_sign(q):
    theirs = damask.Rotation(q * CONJUGATE).as_Rodrigues_vector(compact=True)
    np.testing.assert_allclose(theirs, -quaternion.to_rodrigues(q), rtol=1e-10)


def test_products_and_vectors_are_the_same(q):
    one, other = damask.Rotation(q[:10] * CONJUGATE), damask.Rotation(q[10:] * CONJUGATE)
    product = quaternion.multiply(q[:10], q[10:])
    np.testing.assert_allclose((one * other).as_matrix(), quaternion.to_matrix(product), atol=1e-12)
    v = np.broadcast_to([1.0, -2.0, 0.5], (10, 3))
    np.testing.assert_allclose(one @ v, quaternion.rotate_vector(q[:10], v), atol=1e-12)


@pytest.mark.parametrize(("family", "group"), [("cubic", "432"), ("hexagonal", "622")])
def test_crystal_symmetry_acts_from_the_left(q, family, group):
    theirs = damask.Orientation(rotation=q * CONJUGATE, family=family).equivalent.as_quaternion()
    ours = np.asarray(symmetry.equivalents(q, group)) * CONJUGATE
    overlap = np.abs(np.einsum("snk,ntk->nst", theirs, ours))
    np.testing.assert_allclose(overlap.max(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(overlap.max(axis=2), 1, atol=1e-12)
    one, other = (damask.Orientation(rotation=part * CONJUGATE, family=family) for part in (q[:10], q[10:]))
    # Their angle goes through arccos: 1e-8 near zero, far less elsewhere.
    np.testing.assert_allclose(
        one.disorientation_angle(other), quaternion.disorientation(q[:10], q[10:], group), atol=1e-7
    )
