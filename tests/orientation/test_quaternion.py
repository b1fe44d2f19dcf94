"""Group laws, cycles through all representations, disorientation against brute force, delicate gradients."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from polymicros_jax.orientation import embedding, matching, quaternion, symmetry

F32 = 1e-6  # products of a few unit-size float32 numbers: about ten roundings of 6e-8


@pytest.fixture
def q():
    return quaternion.random(jax.random.key(3), (200,))


def same_rotation(a, b, atol):
    np.testing.assert_allclose(quaternion.canonical(a), quaternion.canonical(b), atol=atol)


def test_cycle_through_all_representations(q):
    step = quaternion.from_euler(quaternion.to_euler(q))
    step = quaternion.from_matrix(quaternion.to_matrix(step))
    step = quaternion.from_rodrigues(quaternion.to_rodrigues(step))
    half = quaternion.angle(step)
    axis = step[:, 1:] / jnp.linalg.norm(step[:, 1:], axis=-1, keepdims=True)
    step = quaternion.from_axis_angle(axis, half)
    step = quaternion.from_rotation_vector(axis * quaternion.angle(step)[:, None])
    same_rotation(step, q, 20 * F32)  # Rodrigues vectors of half turns are long: tan(angle/2) up to a few hundred


@pytest.mark.usefixtures("x64")
def test_cycle_in_double_precision():
    q = quaternion.random(jax.random.key(3), (200,))
    assert q.dtype == jnp.float64
    same_rotation(quaternion.from_matrix(quaternion.to_matrix(quaternion.from_euler(quaternion.to_euler(q)))), q, 1e-14)


@pytest.mark.usefixtures("x64")
def test_against_scipy():
    # SciPy: scalar last, active; its matrix of (x, y, z, w) is to_matrix(q), its intrinsic ZXZ is that of the inverse.
    q = quaternion.random(jax.random.key(5), (100,))
    theirs = Rotation.from_quat(np.asarray(q)[:, [1, 2, 3, 0]])
    np.testing.assert_allclose(quaternion.to_matrix(q), theirs.as_matrix(), atol=1e-14)
    euler = np.asarray(quaternion.to_euler(q))
    inverse = Rotation.from_euler("ZXZ", euler).inv()
    np.testing.assert_allclose(quaternion.to_matrix(q), inverse.as_matrix(), atol=1e-14)
    np.testing.assert_allclose(
        quaternion.to_rodrigues(q),
        np.tan(theirs.magnitude() / 2)[:, None] * (theirs.as_rotvec() / theirs.magnitude()[:, None]),
        rtol=1e-9,
    )
    np.testing.assert_allclose(quaternion.from_rotation_vector(theirs.as_rotvec()), quaternion.canonical(q), atol=1e-14)


def test_group_laws(q):
    a, b, c = q[:60], q[60:120], q[120:180]
    left = quaternion.multiply(quaternion.multiply(a, b), c)
    np.testing.assert_allclose(left, quaternion.multiply(a, quaternion.multiply(b, c)), atol=F32)
    one = np.tile(np.array([1.0, 0, 0, 0], np.float32), (60, 1))
    np.testing.assert_allclose(quaternion.multiply(a, quaternion.conjugate(a)), one, atol=F32)
    np.testing.assert_allclose(
        quaternion.multiply(quaternion.conjugate(b), quaternion.conjugate(a)),
        quaternion.conjugate(quaternion.multiply(a, b)),
        atol=F32,
    )
    assert jnp.abs(quaternion.multiply(a, b) - quaternion.multiply(b, a)).max() > 0.1  # and they do not commute


@pytest.mark.parametrize("t", [np.pi, np.pi - 1e-4, 1e-4, 0.0])
def test_from_matrix_at_all_angles(t):
    for axis in (*np.eye(3), np.array([2.0, -1, 2]) / 3):
        q = quaternion.from_axis_angle(axis.astype(np.float32), t)
        recovered = quaternion.from_matrix(quaternion.to_matrix(q))
        assert quaternion.angle(quaternion.multiply(recovered, quaternion.conjugate(q))) < 2e-6


@pytest.mark.parametrize("group", list(symmetry.LAUE_GROUPS))
def test_disorientation_equals_the_minimum_over_the_group(group, q):
    a, b = q[:100], q[100:]
    m = quaternion.multiply(a, quaternion.conjugate(b))
    brute = np.asarray(quaternion.angle(symmetry.equivalents(m, group))).min(axis=-1)
    np.testing.assert_allclose(quaternion.disorientation(a, b, group), brute, atol=5 * F32)


@pytest.mark.parametrize(("group", "largest"), [("432", 62.7994), ("622", 93.8409), ("222", 120.0), ("23", 90.0)])
def test_largest_disorientation(group, largest):
    # Known vertices of the fundamental zones: 62.80 and 93.84 degrees, 120 for the cube of 222, 90 for 23.
    q = quaternion.random(jax.random.key(0), (100_000,))
    angles = np.degrees(quaternion.disorientation(q, jnp.eye(1, 4)[0], group))
    assert angles.max() <= largest + 1e-3
    assert angles.max() > largest - 3


def test_disorientation_is_a_metric_on_crystals(q):
    a, b, c = q[:60], q[60:120], q[120:180]
    for group in ("432", "622"):
        ab, bc, ac = (quaternion.disorientation(*pair, group) for pair in ((a, b), (b, c), (a, c)))
        np.testing.assert_allclose(quaternion.disorientation(b, a, group), ab, atol=F32)
        assert (ac <= ab + bc + F32).all()


def test_small_angles_are_exact_in_single_precision(q):
    # arccos of a float32 cannot resolve angles below 5e-4 rad; these are 1e-4 to 1e-2 rad.
    t = np.logspace(-4, -2, 200, dtype=np.float32)
    axis = np.tile(np.array([[0.6, 0.0, 0.8]], np.float32), (200, 1))
    turned = quaternion.multiply(quaternion.from_axis_angle(axis, t), q)
    for group in ("432", "622", "32"):
        np.testing.assert_allclose(quaternion.disorientation(turned, q, group), t, atol=5e-7)
    w = jnp.abs(jnp.sum(turned * q, axis=-1))
    by_arccos = 2 * jnp.arccos(jnp.minimum(w, 1.0))
    assert jnp.abs(by_arccos - t).max() > 5e-5  # the formula that was avoided


def test_leading_axes_broadcast(q):
    reference = q[7]
    one_by_one = jnp.stack([quaternion.disorientation(p, reference) for p in q[:5]])
    np.testing.assert_allclose(quaternion.disorientation(q[:5], reference), one_by_one, atol=F32)
    np.testing.assert_allclose(jax.vmap(quaternion.disorientation, (0, None))(q[:5], reference), one_by_one, atol=F32)


SPECIAL = {
    "identity": [1.0, 0, 0, 0],
    "half turn about x, Phi = pi": [0.0, 1, 0, 0],
    "turn about z, Phi = 0": [np.cos(0.4), 0, 0, np.sin(0.4)],
    "four-fold, equivalent to the identity": [np.sqrt(0.5), 0, 0, np.sqrt(0.5)],
    "zero, unobserved": [0.0, 0, 0, 0],
}


@jax.jit
def delicate(q):
    """Values and gradients of everything that has a kink or a pole, in one compilation per dtype."""
    functions = [
        quaternion.angle,
        lambda x: quaternion.angle(quaternion.normalise(x)),
        lambda x: quaternion.disorientation(x, q, "432"),
        lambda x: quaternion.disorientation(x, q, "622"),
        lambda x: quaternion.disorientation(x, q, "32"),
        lambda x: quaternion.to_euler(x).sum(),
        lambda x: quaternion.from_matrix(quaternion.to_matrix(x)).sum(),
        lambda x: quaternion.from_rotation_vector(x[1:]).sum(),
        lambda x: quaternion.from_euler(x[1:]).sum(),
        lambda x: symmetry.reduce_to_fundamental_zone(x, "622").sum(),
    ]
    return [jax.value_and_grad(function)(q) for function in functions]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("special", SPECIAL.values(), ids=SPECIAL.keys())
def test_no_nan_values_or_gradients(special, dtype, x64):
    for value, gradient in delicate(jnp.asarray(special, dtype)):
        assert value.dtype == dtype
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


def test_derivative_of_rodrigues_vectors_where_components_are_zero():
    # (x, y, z) / w: the unit matrix at w = 1, and 0 + 1 / w for the components that are zero elsewhere.
    np.testing.assert_array_equal(jax.jacobian(quaternion.to_rodrigues)(jnp.array([1.0, 0, 0, 0]))[:, 1:], np.eye(3))
    about_z = jax.jacobian(quaternion.to_rodrigues)(jnp.array([0.8, 0.0, 0.0, 0.6]))
    np.testing.assert_allclose(about_z[:, 1:], np.eye(3) / 0.8, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_gradient_of_disorientation_is_one_per_radian():
    # Along a geodesic through b the disorientation grows by one radian a radian.
    b = quaternion.random(jax.random.key(1))
    axis = np.array([0.6, 0.0, 0.8])

    def along(t):
        return quaternion.disorientation(quaternion.multiply(quaternion.from_rotation_vector(t * axis), b), b)

    np.testing.assert_allclose(jax.grad(along)(0.3), 1.0, atol=1e-12)
    np.testing.assert_allclose(jax.grad(along)(-0.3), -1.0, atol=1e-12)


def test_random_orientations_are_uniform():
    # Under the Haar measure every entry of the matrix has mean 0 and variance 1/3: 4 standard errors of 40,000 draws.
    g = np.asarray(quaternion.to_matrix(quaternion.random(jax.random.key(0), (40_000,))))
    assert np.abs(g.mean(axis=0)).max() < 4 * np.sqrt(1 / 3 / 40_000)
    assert np.abs((g**2).mean(axis=0) - 1 / 3).max() < 4 * np.sqrt(4 / 45 / 40_000)


def test_zero_quaternion_becomes_the_identity():
    np.testing.assert_array_equal(quaternion.normalise(np.zeros((2, 4), np.float32)), np.eye(1, 4).repeat(2, axis=0))


def test_zero_quaternions_are_the_identity_to_both_disorientations(q):
    """The host's and the compiled one agree on unobserved voxels; unknown is not the same crystal."""
    zero, identity = np.zeros((1, 4), np.float32), np.array([[1.0, 0.0, 0.0, 0.0]], np.float32)
    to_identity = quaternion.disorientation(identity, q[:5])
    np.testing.assert_array_equal(quaternion.disorientation(zero, q[:5]), to_identity)
    paired = matching.pairwise_disorientation(zero.astype(float), np.asarray(q[:5], float))[0]
    np.testing.assert_allclose(paired, to_identity, atol=F32)
    assert float(jnp.min(to_identity)) > 0.1


def test_axes_and_angles_broadcast():
    quarter = quaternion.from_axis_angle(np.eye(3, dtype=np.float32), np.pi / 2)
    np.testing.assert_allclose(quarter, np.sqrt(0.5) * np.concatenate([np.ones((3, 1)), np.eye(3)], axis=1), atol=F32)
    about_z = quaternion.from_axis_angle(np.array([0.0, 0.0, 1.0], np.float32), np.array([0.0, np.pi], np.float32))
    np.testing.assert_allclose(about_z, [[1, 0, 0, 0], [0, 0, 0, 1]], atol=F32)


@pytest.mark.parametrize("axis", np.eye(3))
def test_rodrigues_vectors_of_half_turns(axis):
    half_turn = np.concatenate([[0.0], axis]).astype(np.float32)
    rho = np.asarray(quaternion.to_rodrigues(half_turn))
    np.testing.assert_array_equal(rho, np.where(axis > 0, np.inf, 0.0))
    np.testing.assert_allclose(quaternion.from_rodrigues(rho), half_turn, atol=F32)
    # Squares of such a length are beyond single precision.
    np.testing.assert_allclose(quaternion.from_rodrigues((1e20 * axis).astype(np.float32)), half_turn, atol=F32)


WRONG = {
    "encode": lambda: embedding.encode(np.ones((5, 3), np.float32)),
    "to_euler": lambda: quaternion.to_euler(np.ones((5, 3), np.float32)),
    "multiply": lambda: quaternion.multiply(np.ones((5, 3), np.float32), np.ones((5, 3), np.float32)),
    "canonical": lambda: quaternion.canonical(np.ones((5, 3), np.float32)),
    "to_rodrigues": lambda: quaternion.to_rodrigues(np.ones((5, 3), np.float32)),
    "disorientation": lambda: quaternion.disorientation(np.ones((5, 3), np.float32), np.ones((5, 3), np.float32)),
    "from_euler": lambda: quaternion.from_euler(np.ones((5, 4), np.float32)),
    "from_rodrigues": lambda: quaternion.from_rodrigues(np.ones((5, 4), np.float32)),
    "from_rotation_vector": lambda: quaternion.from_rotation_vector(np.ones((5, 4), np.float32)),
}


@pytest.mark.parametrize("name", WRONG)
def test_angles_are_not_taken_for_quaternions_nor_the_reverse(name, monkeypatch):
    """By the functions themselves: a user has no checks of shapes in signatures."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    count = 3 if name.startswith("from") else 4
    with pytest.raises(
        ValueError, match=rf"found an array of shape \(5, .\), accepted are {count} along the last axis"
    ):
        WRONG[name]()
