"""Segmentation and grain statistics on maps whose grains are known, and against flood filling."""

import jax
import numpy as np
import pytest

from polymicros_jax.data import simulated
from polymicros_jax.orientation import grains, quaternion, symmetry


def rotated(degrees, axis=(0.0, 0.0, 1.0)):
    half = np.radians(degrees) / 2
    return np.array([np.cos(half), *(np.sin(half) * np.array(axis))], np.float32)


@pytest.fixture
def stripes():
    """Four stripes along x of 2, 3, 1, 4 columns; the first and last are one orientation."""
    q = np.empty((10, 6, 4), np.float32)
    q[:2] = q[6:] = rotated(0)
    q[2:5] = rotated(20)
    q[5] = rotated(40)
    return q


def test_stripes(stripes):
    labels = grains.segment(stripes)
    np.testing.assert_array_equal(labels, np.repeat([0, 0, 1, 1, 1, 2, 3, 3, 3, 3], 6).reshape(10, 6))
    np.testing.assert_array_equal(grains.sizes(labels), [12, 18, 6, 24])
    pairs, faces = grains.neighbours(labels)
    np.testing.assert_array_equal(pairs, [[0, 1], [1, 2], [2, 3]])
    np.testing.assert_array_equal(faces, [6, 6, 6])
    angles = np.sort(np.degrees(grains.boundary_disorientations(stripes, labels)))
    np.testing.assert_allclose(angles, np.repeat([20, 20, 40], 6), atol=1e-4)


def test_the_share_of_faces_between_grains(stripes):
    labels = grains.segment(stripes)
    # 3 boundaries of 6 faces; 9 * 6 faces across the columns and 10 * 5 along them.
    assert grains.boundary_share(labels) == pytest.approx(18 / 104)
    # The wrapped faces join the first stripe and the last, which are one grain, and add 6 and 10 to the faces.
    assert grains.boundary_share(grains.segment(stripes, periodic=True), periodic=True) == pytest.approx(18 / 120)
    # Without the stripe of one column there are two boundaries less, and its 12 faces across and 5 along.
    labels[5] = grains.UNASSIGNED
    assert grains.boundary_share(labels) == pytest.approx(6 / (104 - 17))
    assert np.isnan(grains.boundary_share(np.zeros((1, 1), np.int32)))


def test_a_section_has_the_boundary_of_its_volume():
    """Over all sections of a volume it is the same share, of which the one map that is measured is a sample."""
    labels = grains.segment(simulated.load("simulated/voronoi?side=16&grains=40").quaternions, periodic=True)
    sections = [grains.boundary_share(labels[:, :, k], periodic=True) for k in range(16)]
    sections += [grains.boundary_share(labels[:, k], periodic=True) for k in range(16)]
    sections += [grains.boundary_share(labels[k], periodic=True) for k in range(16)]
    assert np.mean(sections) == pytest.approx(grains.boundary_share(labels, periodic=True))


def test_periodic_stripes(stripes):
    labels = grains.segment(stripes, periodic=True)
    np.testing.assert_array_equal(np.unique(labels[:2]), np.unique(labels[6:]))
    np.testing.assert_array_equal(grains.sizes(labels), [36, 18, 6])
    pairs, faces = grains.neighbours(labels, periodic=True)
    np.testing.assert_array_equal(pairs, [[0, 1], [0, 2], [1, 2]])
    np.testing.assert_array_equal(faces, [6, 6, 6])


def test_equivalent_orientations_are_one_grain(stripes):
    ops = symmetry.operators("432").astype(np.float32)
    scrambled = np.asarray(quaternion.multiply(ops[np.arange(60).reshape(10, 6) % 24], stripes))
    np.testing.assert_array_equal(grains.segment(scrambled), grains.segment(stripes))
    assert grains.segment(scrambled, group="1").max() > 20  # without symmetry they fall apart


def test_threshold_and_chains():
    """A gradient of 4 degrees a voxel is one grain at 5 degrees, though its ends are 36 apart, and ten at 3."""
    q = np.stack([rotated(4 * i) for i in range(10)])[:, None, :]
    assert grains.segment(q, np.radians(5.0)).max() == 0
    assert grains.segment(q, np.radians(3.0)).max() == 9


def test_mask_and_minimum_size(stripes):
    mask = np.ones((10, 6), bool)
    mask[3] = False  # cuts the second stripe in two
    labels = grains.segment(stripes, mask=mask)
    assert (labels[3] == grains.UNASSIGNED).all()
    np.testing.assert_array_equal(grains.sizes(labels), [12, 6, 6, 6, 24])
    large = grains.segment(stripes, mask=mask, minimum_size=7)
    np.testing.assert_array_equal(grains.sizes(large), [12, 24])
    assert (large[2:6] == grains.UNASSIGNED).all()
    with pytest.raises(ValueError, match=r"mask: found shape \(9, 6\); the map has \(10, 6\)"):
        grains.segment(stripes, mask=mask[1:])


@pytest.mark.reference
@pytest.mark.parametrize("periodic", [False, True])
def test_against_flood_filling(periodic):
    shape = (7, 6, 5)
    rng = np.random.default_rng(0)
    palette = np.asarray(quaternion.random(jax.random.key(0), (3,)))
    kind = rng.integers(0, 3, shape)
    mask = rng.random(shape) > 0.1
    labels = grains.segment(palette[kind], mask=mask, periodic=periodic)
    expected = np.full(shape, -1)
    count = 0
    for start in np.ndindex(shape):
        if not mask[start] or expected[start] >= 0:
            continue
        stack = [start]
        expected[start] = count
        while stack:
            here = stack.pop()
            for axis in range(3):
                for step in (-1, 1):
                    there = list(here)
                    there[axis] += step
                    if periodic:
                        there[axis] %= shape[axis]
                    there = tuple(there)
                    inside = 0 <= there[axis] < shape[axis]
                    if inside and mask[there] and expected[there] < 0 and kind[there] == kind[here]:
                        expected[there] = count
                        stack.append(there)
        count += 1
    np.testing.assert_array_equal(labels, expected)


def test_equivalent_diameters():
    x, y, z = np.meshgrid(*(np.arange(40) - 19.5,) * 3, indexing="ij")
    ball = np.where(x**2 + y**2 + z**2 < 15.0**2, 0, grains.UNASSIGNED)
    # Voxels of a ball of radius 15: volume within the surface error, below 1 %.
    assert grains.equivalent_diameters(ball)[0] == pytest.approx(30, rel=0.005)
    assert grains.equivalent_diameters(ball, 0.5)[0] == pytest.approx(15, rel=0.005)
    assert grains.equivalent_diameters(ball, (1.0, 1.0, 8.0))[0] == pytest.approx(60, rel=0.005)
    disc = ball[:, :, 20:21]
    assert grains.equivalent_diameters(disc)[0] == pytest.approx(30, rel=0.01)
    with pytest.raises(ValueError, match="found 2 numbers; the map has 3 axes"):
        grains.equivalent_diameters(ball, (1.0, 1.0))
    with pytest.raises(ValueError, match="accepted are 2 or 3"):
        grains.equivalent_diameters(ball[:, :1, :1])


def test_a_threshold_in_degrees_is_refused():
    with pytest.raises(ValueError, match=r"radians up to pi; did you mean np.radians\(5\)"):
        grains.segment(np.eye(1, 4)[None].astype(np.float32), 5.0)
