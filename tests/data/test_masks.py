"""Known-voxel masks: which voxels, how many, and what is refused."""

import numpy as np
import pytest
from scipy import optimize, stats

from polymicros_jax.data import masks
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.volume import OrientationVolume

SHAPE = (6, 7, 9)


@pytest.mark.parametrize(
    ("axis", "every", "offset", "sections"),
    [("x", 2, 0, [0, 2, 4]), ("y", 3, 1, [1, 4]), ("z", 4, 0, [0, 4, 8]), ("z", 4, 8, [8]), ("x", 100, 5, [5])],
)
def test_every_slice(axis, every, offset, sections):
    mask = masks.every_slice(SHAPE, axis, every, offset)
    number = "xyz".index(axis)
    assert mask.dtype == bool
    along = np.moveaxis(mask, number, 0)
    assert np.flatnonzero(along.all(axis=(1, 2))).tolist() == sections
    assert mask.sum() == len(sections) * mask.size // SHAPE[number]


@pytest.mark.parametrize(
    ("axis", "every", "offset", "reason"),
    [
        ("w", 2, 0, "axis: found 'w', accepted are x, y, z"),
        ("xy", 2, 0, "axis: found 'xy'"),
        ("", 2, 0, "axis: found ''"),
        ("x", 1, 0, "every: found 1, accepted is at least 2"),
        ("y", 2, 7, "offset: found 7, accepted is 0 to 6"),
        ("y", 2, -1, "offset: found -1, accepted is 0 to 6"),
    ],
)
def test_sections_that_are_refused(axis, every, offset, reason):
    with pytest.raises(DataError, match=reason):
        masks.every_slice(SHAPE, axis, every, offset)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_random_voxels(share):
    shape = (30, 31, 32)
    mask = masks.random_voxels(shape, share, seed=4)
    n = mask.size
    # Binomial: five standard deviations.
    assert abs(mask.sum() - share * n) < 5 * np.sqrt(n * share * (1 - share))
    np.testing.assert_array_equal(mask, masks.random_voxels(shape, share, seed=4))
    other = masks.random_voxels(shape, share, seed=5)
    # Independent draws agree in a share p^2 + (1-p)^2 of the voxels.
    same = share**2 + (1 - share) ** 2
    assert abs((mask == other).sum() - same * n) < 5 * np.sqrt(n * same * (1 - same))


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 25.0, float("nan")])
def test_shares_that_are_refused(share):
    with pytest.raises(DataError, match=r"share: found .*, accepted is between 0 and 1"):
        masks.random_voxels(SHAPE, share, seed=0)


def test_without_box():
    mask = masks.without_box(SHAPE, (1, 0, 4), (3, 7, 5))
    holes = set(map(tuple, np.argwhere(~mask).tolist()))
    assert holes == {(x, y, 4) for x in (1, 2) for y in range(7)}


@pytest.mark.parametrize(
    ("start", "stop", "reason"),
    [
        ((1, 1, 1), (1, 3, 3), "accepted lies inside .* and is not empty"),
        ((3, 1, 1), (2, 3, 3), "not empty"),
        ((-1, 0, 0), (2, 2, 2), "box: found \\(-1, 0, 0\\) to"),
        ((0, 0, 0), (6, 7, 10), "lies inside \\(6, 7, 9\\)"),
    ],
)
def test_boxes_that_are_refused(start, stop, reason):
    with pytest.raises(DataError, match=reason):
        masks.without_box(SHAPE, start, stop)


def test_orthogonal_slices():
    mask = masks.orthogonal_slices(SHAPE)
    x, y, z = np.indices(SHAPE)
    np.testing.assert_array_equal(mask, (x == 3) | (y == 3) | (z == 4))
    # Inclusion and exclusion of three sections, three lines and a point.
    assert mask.sum() == 7 * 9 + 6 * 9 + 6 * 7 - (6 + 7 + 9) + 1


def test_sections_at_stated_positions():
    mask = masks.sections_at(SHAPE, "y", (0, 2, 6))
    assert np.flatnonzero(mask.all(axis=(0, 2))).tolist() == [0, 2, 6]
    assert mask.sum() == 3 * 6 * 9


@pytest.mark.parametrize(
    ("positions", "reason"),
    [((), r"found \(\), accepted are numbers from 0 to 6"), ((0, 7), "0 to 6"), ((-1, 2), "0 to 6"), ((2, 2), "rise")],
)
def test_positions_that_are_refused(positions, reason):
    with pytest.raises(DataError, match=reason):
        masks.sections_at(SHAPE, "y", positions)


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_gaps_cluster_at_boundaries(share):
    shape = (30, 31, 32)
    observed = np.random.default_rng(0).random(shape) < 0.95
    boundaries = np.zeros(shape, bool)
    boundaries[14:16] = True
    known = masks.scattered_gaps(observed, boundaries, share, seed=3)
    assert not (known & ~observed).any()
    lost = observed & ~known
    # A quantile: exact but for one voxel.
    assert abs(int(lost.sum()) - share * observed.sum()) <= 1
    np.testing.assert_array_equal(known, masks.scattered_gaps(observed, boundaries, share, seed=3))
    # Gaussian noise raised by a standard deviation: at 5 % lost, 26 % of the boundary is; fields of few independent
    # clusters scatter, so a factor of two is asked for, and of a neighbour's fate a factor of three.
    assert lost[boundaries].mean() > 2 * lost[~boundaries].mean()
    beside = (lost[1:] & lost[:-1]).mean()
    assert beside > (3 if share < 0.1 else 1.5) * lost.mean() ** 2
    # The law: beyond q - 1 of a normal variable at boundaries, beyond q elsewhere. Of the 1984 voxels at boundaries,
    # clusters of a correlation area of 4 pi 1.5^2 = 28 make 70 independent ones: four standard deviations.
    b = boundaries.mean()
    q = optimize.brentq(lambda q: (1 - b) * stats.norm.sf(q) + b * stats.norm.sf(q - 1) - share, -5, 5)
    at_boundaries = stats.norm.sf(q - 1)
    scatter = np.sqrt(at_boundaries * (1 - at_boundaries) / 70)
    assert lost[boundaries].mean() / observed[boundaries].mean() == pytest.approx(at_boundaries, abs=4 * scatter)
    flat = masks.scattered_gaps(observed, np.zeros(shape, bool), share, seed=3)
    assert (observed & ~flat)[boundaries].mean() < 2 * share + 0.05


@pytest.mark.parametrize(("share", "size", "reason"), [(0.0, 1.5, "share"), (1.0, 1.5, "share"), (0.1, 0.0, "size")])
def test_gaps_that_are_refused(share, size, reason):
    with pytest.raises(DataError, match=f"{reason}: found"):
        masks.scattered_gaps(np.ones(SHAPE, bool), np.zeros(SHAPE, bool), share, 0, size)


def test_tasks_without_meaning_are_refused_with_the_reason():
    everything, nothing = np.ones(SHAPE, bool), np.zeros(SHAPE, bool)
    half = masks.every_slice(SHAPE, "x", 2)
    with pytest.raises(DataError, match="keeps no observed voxel"):
        masks.require_meaning(half, ~half)
    with pytest.raises(DataError, match="keeps no observed voxel"):
        masks.require_meaning(nothing, everything)
    with pytest.raises(DataError, match="keeps every voxel"):
        masks.require_meaning(everything, everything)
    np.testing.assert_array_equal(masks.require_meaning(everything, half), half)
    np.testing.assert_array_equal(masks.require_meaning(half, everything), half)


def test_sections_of_different_distance_must_be_meant():
    observed = np.ones(SHAPE, bool)
    uneven = masks.sections_at(SHAPE, "z", (0, 2, 6))
    with pytest.raises(DataError, match="sections along z lie 2, 4 voxels apart"):
        masks.require_meaning(uneven, observed)
    np.testing.assert_array_equal(masks.require_meaning(uneven, observed, unequal=True), uneven)
    # Sections in two directions, a box and scattered voxels have no such distance.
    scattered = masks.random_voxels(SHAPE, 0.5, 0) | masks.orthogonal_slices(SHAPE)
    np.testing.assert_array_equal(masks.require_meaning(scattered, observed), scattered)


@pytest.fixture
def stack():
    rng = np.random.default_rng(0)
    q = rng.normal(size=(3, 4, 5, 4))
    return OrientationVolume(
        quaternions=q / np.linalg.norm(q, axis=-1, keepdims=True),
        phase=np.ones((3, 4, 5), int),
        mask=rng.random((3, 4, 5)) < 0.8,
        spacing=(1.0, 2.0, 6.0),
        provenance={"source": "made up"},
        fields={"confidence": rng.random((3, 4, 5)), "vector": rng.random((3, 4, 5, 2))},
    )


@pytest.mark.parametrize(("axis", "factor"), [("x", 2), ("y", 3), ("z", 4)])
def test_insert_slices(stack, axis, factor):
    wide = masks.insert_slices(stack, axis, factor)
    a = "xyz".index(axis)
    assert wide.shape[a] == (stack.shape[a] - 1) * factor + 1
    assert wide.spacing == tuple(h / factor if b == a else h for b, h in enumerate(stack.spacing))
    measured = (slice(None),) * a + (slice(None, None, factor),)
    for name in ("quaternions", "phase", "mask"):
        np.testing.assert_array_equal(getattr(wide, name)[measured], getattr(stack, name))
    for name, values in stack.fields.items():
        np.testing.assert_array_equal(wide.fields[name][measured], values)
    # Nothing is observed in between, and measured sections stay as far from each other as they were.
    assert wide.mask.sum() == stack.mask.sum()
    assert factor * wide.spacing[a] == pytest.approx(stack.spacing[a], rel=1e-15)
    assert wide.provenance["source"] == "made up"
    assert wide.provenance["inserted"] == f"{factor - 1} unobserved sections between each two along {axis}"
    assert "inserted" not in stack.provenance


def test_stacks_that_are_refused(stack):
    with pytest.raises(DataError, match="found 1, accepted is at least 2"):
        masks.insert_slices(stack, "z", 1)
    with pytest.raises(DataError, match="1 section along y: at least 2"):
        masks.insert_slices(stack.crop((0, 0, 0), (3, 1, 5)), "y", 2)
    with pytest.raises(DataError, match="axis: found 'q'"):
        masks.insert_slices(stack, "q", 2)
