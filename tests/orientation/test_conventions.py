"""Pins every numbered line of docs/conventions.md (rotations), with hand-made numbers where possible."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polymicros_jax.orientation import embedding, harmonics, ipf, quaternion, symmetry

pytestmark = pytest.mark.usefixtures("x64")
QUARTER = np.pi / 2


@pytest.fixture
def q():
    return quaternion.random(jax.random.key(0), (50,))


def frame_turn(axis, t):
    """Coordinates after turning the frame by t about z (axis 2) or x (axis 0)."""
    cos, sin = np.cos(t), np.sin(t)
    if axis == 2:
        return np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    return np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])


def test_every_line_has_a_test():
    page = (Path(__file__).parents[2] / "docs" / "conventions.md").read_text()
    section = page.split("## Rotations")[1].split("\n## ")[0]
    lines = {int(n) for n in re.findall(r"^(\d+)\. ", section, re.MULTILINE)}
    tests = {int(m.group(1)) for name in globals() if (m := re.match(r"test_line_(\d+)_", name))}
    assert lines == tests


def test_line_01_scalar_first_and_sign(q):
    np.testing.assert_array_equal(quaternion.from_euler(np.zeros(3)), [1, 0, 0, 0])
    np.testing.assert_array_equal(quaternion.to_matrix(-q), quaternion.to_matrix(q))
    assert (quaternion.from_euler(quaternion.to_euler(-q))[:, 0] >= 0).all()
    assert (quaternion.from_matrix(quaternion.to_matrix(q))[:, 0] >= 0).all()


def test_line_02_passive():
    # The frame turned by +90 degrees about z sees the sample x-axis along its own -y.
    g = quaternion.to_matrix(quaternion.from_euler(np.array([QUARTER, 0.0, 0.0])))
    np.testing.assert_allclose(g @ np.array([1.0, 0, 0]), [0, -1, 0], atol=1e-15)


def test_line_03_rows_are_crystal_axes(q):
    g = np.asarray(quaternion.to_matrix(q))
    for i, axis in enumerate(np.eye(3)):
        in_sample = quaternion.rotate_vector(quaternion.conjugate(q), axis)
        np.testing.assert_allclose(g[:, i, :], in_sample, atol=1e-15)


def test_line_04_hamilton_product(q):
    i, j, k = np.eye(4)[1:]
    np.testing.assert_array_equal(quaternion.multiply(i, j), k)
    a, b = q[:25], q[25:]
    product = quaternion.to_matrix(a) @ quaternion.to_matrix(b)
    np.testing.assert_allclose(quaternion.to_matrix(quaternion.multiply(a, b)), product, atol=1e-15)


def test_line_05_axis_angle_is_right_handed():
    q = quaternion.from_axis_angle(np.array([0.0, 0.0, 1.0]), np.array(QUARTER))
    np.testing.assert_allclose(q, [np.sqrt(0.5), 0, 0, np.sqrt(0.5)], atol=1e-15)
    np.testing.assert_allclose(quaternion.to_matrix(q) @ np.array([1.0, 0, 0]), [0, 1, 0], atol=1e-15)


def test_line_06_bunge_euler():
    phi1, Phi, phi2 = 0.3, 0.7, 1.1
    expected = frame_turn(2, phi2) @ frame_turn(0, Phi) @ frame_turn(2, phi1)
    q = quaternion.from_euler(np.array([phi1, Phi, phi2]))
    np.testing.assert_allclose(quaternion.to_matrix(q), expected, atol=1e-15)


def test_line_07_euler_ranges(q):
    euler = np.asarray(quaternion.to_euler(q))
    assert (euler >= 0).all()
    assert (euler[:, [0, 2]] < 2 * np.pi).all()
    assert (euler[:, 1] <= np.pi).all()
    flat = quaternion.from_euler(np.array([[0.4, 0.0, 0.5], [0.4, np.pi, 0.1]]))
    np.testing.assert_allclose(quaternion.to_euler(flat), [[0.9, 0, 0], [0.3, np.pi, 0]], atol=1e-15)


def test_line_08_rodrigues():
    axis = np.array([2.0, -1.0, 2.0]) / 3
    rho = quaternion.to_rodrigues(quaternion.from_axis_angle(axis, np.array(0.8)))
    np.testing.assert_allclose(rho, axis * np.tan(0.4), atol=1e-15)


def test_line_09_crystal_symmetry_from_the_left(q):
    s = symmetry.operators("432")[5]
    np.testing.assert_allclose(quaternion.disorientation(quaternion.multiply(s, q), q, "432"), 0, atol=1e-7)
    wrong = quaternion.disorientation(quaternion.multiply(q, s), q, "432")
    assert np.median(wrong) > np.radians(10)  # from the right it is another crystal


def test_line_10_sample_frame_from_the_right(q):
    r = quaternion.random(jax.random.key(9))
    v_new = np.array([0.2, -0.5, 0.8])
    v_old = quaternion.to_matrix(r) @ v_new
    seen = quaternion.rotate_sample(q, r)
    np.testing.assert_allclose(
        quaternion.rotate_vector(seen, v_new), quaternion.rotate_vector(q, v_old), atol=1e-15
    )  # the crystal coordinates of a vector do not depend on the sample frame


@pytest.mark.parametrize("group", ["432", "622", "32"])
def test_line_11_disorientation_is_the_double_minimum(group, q):
    a, b = np.asarray(q[:6]), np.asarray(q[6:12])
    ops = symmetry.operators(group)
    m = quaternion.multiply(a, quaternion.conjugate(b))
    both = quaternion.multiply(quaternion.multiply(ops[:, None, None], m[None, None]), ops[None, :, None])
    smallest = np.asarray(quaternion.angle(both)).min(axis=(0, 1))
    np.testing.assert_allclose(quaternion.disorientation(a, b, group), smallest, atol=1e-12)


def test_line_12_groups_and_axes():
    assert tuple(symmetry.LAUE_GROUPS) == ("1", "2", "222", "3", "32", "4", "422", "6", "622", "23", "432")
    for group, order in {"2": 2, "3": 3, "4": 4, "6": 6, "32": 3, "422": 4, "622": 6, "432": 4}.items():
        turn = np.array([np.cos(np.pi / order), 0, 0, np.sin(np.pi / order)])
        assert np.abs(symmetry.operators(group) @ turn).max() == pytest.approx(1, abs=1e-15)
    for group in ("222", "32", "422", "622", "23", "432"):
        assert np.abs(symmetry.operators(group)[:, 1]).max() == 1  # the two-fold about x


def test_line_13_hexagonal_x_is_a():
    # The embedding and the colours agree that the a-axes are at 0, 60, 120 degrees: a 30-degree error changes both.
    turned = quaternion.from_euler(np.array([[0.0, 0, 0], [0, 0, np.pi / 3], [0, 0, np.pi / 6]]))
    e = embedding.encode(turned, "622")
    np.testing.assert_allclose(e[1], e[0], atol=1e-14)
    assert jnp.linalg.norm(e[2] - e[0]) > 0.5
    np.testing.assert_allclose(ipf.colours(turned[0], "x", "622"), [0, 1, 0], atol=1e-4)


@pytest.mark.parametrize("group", ["432", "622", "23"])
def test_line_14_fundamental_zone(group, q):
    reduced = symmetry.reduce_to_fundamental_zone(q, group)
    angles = quaternion.angle(symmetry.equivalents(q, group))
    np.testing.assert_allclose(quaternion.angle(reduced), np.asarray(angles).min(axis=1), atol=1e-12)


def test_line_15_harmonics(q):
    a, b = q[:5], q[5:10]
    product = harmonics.wigner(a, 4) @ harmonics.wigner(b, 4)
    np.testing.assert_allclose(harmonics.wigner(quaternion.multiply(a, b), 4), product, atol=1e-13)
    t = harmonics.symmetrised(q, 4, "432")
    assert t.shape == (50, 9, 1)
    # phi1 multiplies the sample index: a frame turned by t about sample z gives exp(i n t).
    n, t_angle = np.arange(-4, 5), 0.37
    later = quaternion.from_euler(quaternion.to_euler(q) + np.array([[t_angle, 0, 0]]))
    expected = t * np.exp(1j * n * t_angle)[None, :, None]
    np.testing.assert_allclose(harmonics.symmetrised(later, 4, "432"), expected, atol=1e-13)
    np.testing.assert_allclose(jnp.sum(jnp.abs(t) ** 2, axis=(1, 2)), 1, atol=1e-13)  # over 9 channels: mean square 1/9


def test_line_16_gsh4_channels(q):
    t = np.asarray(harmonics.symmetrised(q, 4, "432"))[:, :, 0]
    parts = [t[:, 4].real] + [np.sqrt(2) * f(t[:, 4 + n]) for n in range(1, 5) for f in (np.real, np.imag)]
    np.testing.assert_allclose(embedding.encode(q, "432"), 1.5 * np.stack(parts, axis=-1), atol=1e-13)


def test_line_17_ipf_colours():
    def with_z_along(v, group):
        v = np.array(v) / np.linalg.norm(v)
        half = np.array([1 + v[2], -v[1], v[0], 0.0])  # the shortest turn that takes sample z to crystal v
        return np.asarray(ipf.colours(half / np.linalg.norm(half), "z", group))

    for v, colour in (([0, 0, 1], [1, 0, 0]), ([1, 0, 1], [0, 1, 0]), ([1, 1, 1], [0, 0, 1])):
        np.testing.assert_allclose(with_z_along(v, "432"), colour, atol=1e-3)
    for v, colour in (([0, 0, 1], [1, 0, 0]), ([1, 0, 0], [0, 1, 0]), ([np.sqrt(3), 1, 0], [0, 0, 1])):
        np.testing.assert_allclose(with_z_along(v, "622"), colour, atol=1e-3)
