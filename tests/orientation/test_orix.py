"""Comparison with orix (GPL-3, test only) for all cases both define."""

import jax
import numpy as np
import pytest

from polymicros_jax.orientation import ipf, quaternion, symmetry

pytestmark = [pytest.mark.reference, pytest.mark.usefixtures("x64")]
orix_symmetry = pytest.importorskip("orix.quaternion.symmetry")
orix = pytest.importorskip("orix.quaternion")

# Laue symmetry of orix by our name of its proper rotation group.
NAMES = {
    "1": "Ci", "2": "C2h", "222": "D2h", "3": "S6", "32": "D3d", "4": "C4h", "422": "D4h",
    "6": "C6h", "622": "D6h", "23": "Th", "432": "Oh",
}  # fmt: skip


@pytest.fixture
def q():
    return np.asarray(quaternion.random(jax.random.key(0), (400,)))


def test_conversions(q):
    """The same components, not conjugated: `from_euler` of both agree with sign, and the conjugate does not."""
    theirs = orix.Orientation(q)
    np.testing.assert_allclose(quaternion.to_matrix(q), theirs.to_matrix(), atol=1e-12)
    np.testing.assert_allclose(quaternion.to_euler(q), theirs.to_euler(), atol=1e-7)
    euler = theirs.to_euler()
    np.testing.assert_allclose(quaternion.from_euler(euler), orix.Orientation.from_euler(euler).data, atol=1e-12)
    assert (
        np.abs(quaternion.conjugate(quaternion.from_euler(euler)) - orix.Orientation.from_euler(euler).data).max() > 1
    )
    np.testing.assert_allclose(quaternion.to_rodrigues(q), theirs.to_rodrigues().data, rtol=1e-8)
    from_matrix = orix.Orientation.from_matrix(theirs.to_matrix()).data
    np.testing.assert_allclose(quaternion.from_matrix(theirs.to_matrix()), from_matrix, atol=1e-7)
    product = (orix.Rotation(q[:200]) * orix.Rotation(q[200:])).data
    np.testing.assert_allclose(quaternion.multiply(q[:200], q[200:]), product, atol=1e-12)


@pytest.mark.parametrize("group", NAMES)
def test_groups(group):
    theirs = getattr(orix_symmetry, NAMES[group]).proper_subgroup.data
    overlap = np.abs(symmetry.operators(group) @ theirs.T)
    assert len(theirs) == len(symmetry.operators(group))
    np.testing.assert_allclose(overlap.max(axis=0), 1, atol=1e-7)
    np.testing.assert_allclose(overlap.max(axis=1), 1, atol=1e-7)


@pytest.mark.parametrize("group", NAMES)
def test_disorientations(q, group):
    a, b = q[:200], q[200:]
    laue = getattr(orix_symmetry, NAMES[group])
    theirs = orix.Orientation(a, symmetry=laue).angle_with(orix.Orientation(b, symmetry=laue))
    np.testing.assert_allclose(quaternion.disorientation(a, b, group), theirs, atol=1e-6)


@pytest.mark.parametrize("group", ["432", "622"])
@pytest.mark.parametrize("direction", ["x", "y", "z"])
def test_ipf_colours(q, group, direction):
    """Within 1 % everywhere: orix rounds the corners to a table of 1000 azimuths, so its own hues are off by 1/2 %."""
    plot = pytest.importorskip("orix.plot")
    vector = pytest.importorskip("orix.vector").Vector3d(ipf.SAMPLE_DIRECTIONS[direction])
    laue = getattr(orix_symmetry, NAMES[group])
    key = plot.IPFColorKeyTSL(laue, direction=vector)
    theirs = key.orientation2color(orix.Orientation(q, symmetry=laue))
    error = np.abs(np.asarray(ipf.colours(q, direction, group)) - theirs)
    assert error.max() < 0.01
    assert error.mean() < 0.001
