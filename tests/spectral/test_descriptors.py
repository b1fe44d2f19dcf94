"""Chord lengths, lineal path and three-point correlations against counting by hand and identities."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polymicros_jax.spectral import descriptors


def chords_by_hand(line, seen, periodic):
    """Maximal runs of one label, by walking; None for a run whose length is cut."""
    n = len(line)
    lengths = []
    if periodic and all(seen) and len(set(line)) == 1:
        return [n]
    for start in range(n):
        before = start - 1
        if before < 0 and not periodic:
            continue
        if not seen[start] or not seen[before] or line[before] == line[start]:
            continue
        length = 1
        while (
            (periodic or start + length < n)
            and seen[(start + length) % n]
            and line[(start + length) % n] == line[start]
        ):
            length += 1
        stop = start + length
        if (stop < n or periodic) and seen[stop % n]:
            lengths.append(length)
    return lengths


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_chords_match_walking(axis, masked, periodic):
    random = np.random.default_rng(axis)
    labels = random.integers(0, 2, (7, 6, 5))
    mask = random.random(labels.shape) < 0.8 if masked else np.ones(labels.shape, bool)
    expected = np.zeros(labels.shape[axis] + 1, int)
    other = [range(n) for a, n in enumerate(labels.shape) if a != axis]
    for index in itertools.product(*other):
        at = list(index)
        at.insert(axis, slice(None))
        for length in chords_by_hand(labels[tuple(at)], mask[tuple(at)], periodic):
            expected[length] += 1
    got = descriptors.chord_length_counts(labels, axis, periodic=periodic, mask=mask if masked else None)
    np.testing.assert_array_equal(got, expected)


def test_chords_of_layers():
    """Layers of 2 and 3 voxels along z: a periodic line of 10 has two of each; lines along x stay in their grain."""
    labels = np.broadcast_to(np.asarray([0, 0, 1, 1, 1, 2, 2, 3, 3, 3]), (4, 5, 10))
    along_z = descriptors.chord_length_counts(labels, 2, periodic=True)
    np.testing.assert_array_equal(np.flatnonzero(along_z), [2, 3])
    np.testing.assert_array_equal(along_z[[2, 3]], [40, 40])
    np.testing.assert_array_equal(descriptors.chord_length_counts(labels, 0, periodic=True), [0, 0, 0, 0, 50])
    # Not periodic: the first and the last layer are cut by the ends.
    np.testing.assert_array_equal(descriptors.chord_length_counts(labels, 2)[[2, 3]], [20, 20])
    assert descriptors.chord_length_counts(labels, 0).sum() == 0


def test_lineal_path_follows_from_the_chords():
    """On a periodic line L(r) = sum over chords of (length - r)+ / S: two independent counts of one thing."""
    labels = np.random.default_rng(0).integers(0, 3, (12, 11, 10)).repeat(2, axis=0)
    chords = descriptors.chord_length_counts(labels, 0, periodic=True)
    path = descriptors.lineal_path(labels, 0, periodic=True)
    lengths = np.arange(len(chords))
    expected = [(chords * np.maximum(lengths - r, 0)).sum() / labels.size for r in range(len(path))]
    np.testing.assert_allclose(path, expected, atol=1e-12)
    assert path[0] == 1


def test_lineal_path_by_counting():
    labels = np.asarray([[0, 0, 0, 1, 1, 0]])
    np.testing.assert_allclose(descriptors.lineal_path(labels, 1), [1, 3 / 5, 1 / 4, 0])
    mask = np.asarray([[True, True, True, True, False, True]])
    # Segments of one step between observed voxels: 0-1, 1-2, 2-3.
    np.testing.assert_allclose(descriptors.lineal_path(labels, 1, mask=mask), [1, 2 / 3, 1 / 2, 0])
    # Same label, another grain in between: voxels 0-2 and 5 are no segment.
    assert descriptors.lineal_path(labels, 1, periodic=True)[3] == pytest.approx(1 / 6)


@pytest.mark.parametrize("periodic", [True, False])
def test_three_point_matches_a_loop(x64, periodic):
    shape = (5, 4, 6)
    m = np.random.default_rng(0).normal(size=(*shape, 2))
    path = [((0, 0, 0), (0, 0, 0)), ((1, 0, -2), (2, -1, 0)), ((-1, 1, 1), (0, 2, -1))]
    got = descriptors.three_point(m, path, periodic)
    for (first, second), value in zip(path, got, strict=True):
        terms = []
        for s in itertools.product(*map(range, shape)):
            corners = [tuple(np.add(s, lag)) for lag in ((0, 0, 0), first, second)]
            if periodic:
                corners = [tuple(np.mod(c, shape)) for c in corners]
            elif any(min(c) < 0 or any(np.greater_equal(c, shape)) for c in corners):
                continue
            terms.append(np.einsum("b,g,d->bgd", *(m[c] for c in corners)))
        np.testing.assert_allclose(value, np.mean(terms, axis=0), atol=1e-12)


@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_three_points_of_an_indicator_are_counted_as_numbers(dtype):
    """Of 640 voxels more than 256 are 1, so that sums of these types would wrap."""
    m = np.random.default_rng(0).random((10, 8, 8, 1)) < 0.8
    path = descriptors.straight_path((1, 0, 0), 2)
    got = descriptors.three_point(m.astype(dtype), path)
    inside = m & np.roll(m, -1, 0) & np.roll(m, -2, 0)
    np.testing.assert_allclose(got[:, 0, 0, 0], [m.mean(), inside.mean()], rtol=1e-6)


def test_three_point_is_compiled_once_for_a_path():
    m = np.random.default_rng(0).normal(size=(6, 6, 6, 2)).astype(np.float32)
    descriptors.three_point(m, descriptors.straight_path((1, 0, 0), 1))
    programs = descriptors._moments._cache_size()
    descriptors.three_point(m, descriptors.straight_path((1, 0, 0), 3))
    assert descriptors._moments._cache_size() == programs


def test_three_point_tells_a_skewed_field_from_its_mirror(x64):
    """Third moments change sign with the field, two-point ones do not."""
    m = np.random.default_rng(0).exponential(size=(8, 8, 8, 1)) - 1
    path = descriptors.straight_path((1, 0, 0), 3)
    assert path == [((0, 0, 0), (0, 0, 0)), ((1, 0, 0), (2, 0, 0)), ((2, 0, 0), (4, 0, 0))]
    f = descriptors.three_point(m, path)
    np.testing.assert_allclose(descriptors.three_point(-m, path), -f, atol=1e-14)
    assert float(f[0, 0, 0, 0]) > 1  # an exponential has third moment 2


def test_three_point_is_differentiable_and_names_bad_paths():
    m = jnp.ones((4, 4, 4, 2))
    gradient = jax.grad(lambda x: descriptors.three_point(x, [((1, 0, 0), (0, 1, 0))])[0, 0, 0, 0])(m)
    # d/dm of the mean of a product of three ones: 3 / 64 in every voxel of channel 0.
    np.testing.assert_allclose(gradient[..., 0], 3 / 64, rtol=1e-5)
    with pytest.raises(ValueError, match="3 integers"):
        descriptors.three_point(m, [((1, 0), (0, 1))])
    with pytest.raises(ValueError, match="no voxel"):
        descriptors.three_point(m, [((3, 0, 0), (-3, 0, 0))], periodic=False)


def test_what_belongs_to_no_grain_is_unobserved():
    labels = np.asarray([0, 0, -1, -1, -1, 1, 1, 2])
    for function in (descriptors.chord_length_counts, descriptors.lineal_path):
        np.testing.assert_array_equal(function(labels, 0), function(labels, 0, mask=labels >= 0))
    assert descriptors.chord_length_counts(labels, 0).sum() == 0
    np.testing.assert_allclose(descriptors.lineal_path(labels, 0)[1], 2 / 3)
