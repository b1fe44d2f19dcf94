"""Candidate grains: the shape interpolation's own choice first, distances as brute force finds them."""

import jax
import numpy as np
import pytest
from scipy import ndimage

from polymicros_jax.orientation import quaternion
from polymicros_jax.orientation.candidates import EMPTY, Candidates, candidates
from polymicros_jax.orientation.interpolation import shape_based

CRYSTALS = np.asarray(quaternion.random(jax.random.key(5), (6,)))


def _tilted(shape: tuple[int, int, int], axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Two grains that meet in a tilted plane, every fourth section along `axis` known."""
    along, other = np.indices(shape)[axis], np.indices(shape)[(axis + 1) % 3]
    labels = (other + 0.6 * along > 0.7 * shape[(axis + 1) % 3]).astype(int)
    known = np.zeros(shape, bool)
    np.moveaxis(known, axis, 0)[::4] = True
    return labels, known


def _brought(found: Candidates) -> np.ndarray:
    return found.filled.reshape(-1, 4)[found.source]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_best_candidate_is_the_shape_interpolation(axis: int) -> None:
    labels, known = _tilted((13, 12, 13) if axis != 1 else (12, 13, 12), axis)
    q = CRYSTALS[labels]
    found = candidates(q, known)
    assert found.gap == 4.0
    hidden = np.where(known[..., None], q, CRYSTALS[5])
    np.testing.assert_array_equal(candidates(hidden, known).label, found.label)
    # Equal scores of two grains go to one in one code and to the other in the other: leave ties out.
    clear = found.score[..., 0] - found.score[..., 1] > 1e-6
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(_brought(found)[..., 0, :][clear], shape_based(q, known)[clear])
    # Two grains, two candidates, in every voxel; the others are empty.
    assert (np.sort(found.label[..., :2], axis=-1) == [0, 1]).all()
    assert (found.label[..., 2:] == EMPTY).all()
    assert np.isneginf(found.score[..., 2:]).all()
    # Each brings its own grain's orientation.
    own = np.array([CRYSTALS[labels[known & (found.label[..., 0] == number)][0]] for number in (0, 1)])
    np.testing.assert_array_equal(_brought(found)[..., :2, :], own[found.label[..., :2]])


def test_scores_shrink_with_the_gap() -> None:
    """The plane x = 8 between sections: signed distances differ by twice the distance to it, counted in gaps."""
    q = CRYSTALS[(np.indices((16, 4, 9))[0] >= 8).astype(int)]
    for step in (2, 4, 8):
        known = np.zeros(q.shape[:3], bool)
        known[..., ::step] = True
        found = candidates(q, known, count=2)
        lead = (found.score[..., 0] - found.score[..., 1]) * step
        np.testing.assert_allclose(lead, np.broadcast_to(np.abs(np.arange(16) - 7.5)[:, None, None] * 2, lead.shape))


@pytest.mark.parametrize(("depth", "gap"), [(1.0, 4.0), (4.0, 16.0), (0.25, 1.0)])
def test_a_gap_is_as_wide_as_its_voxels_are_deep(depth: float, gap: float) -> None:
    """Four sections apart: in units of the voxels of a section the gap is four times their depth."""
    q = CRYSTALS[(np.indices((16, 4, 9))[0] >= 8).astype(int)]
    known = np.broadcast_to(np.arange(9) % 4 == 0, q.shape[:3])
    found = candidates(q, known, count=2, spacing=(0.5, 0.5, 0.5 * depth))
    assert (found.gap, found.voxels) == (gap, 4.0)
    cubic = candidates(q, known, count=2)
    np.testing.assert_allclose(found.score * gap, cubic.score * 4.0, atol=1e-5)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 2.0, 3.0)])
def test_around_gaps_the_score_is_the_distance_to_the_grain(spacing: tuple[float, float, float]) -> None:
    shape = (9, 8, 7)
    rng = np.random.default_rng(0)
    centres = rng.random((5, 3)) * shape
    grid = np.moveaxis(np.indices(shape), 0, -1)
    labels = np.square(grid[..., None, :] - centres).sum(-1).argmin(-1)
    known = rng.random(shape) < 0.4
    q = CRYSTALS[labels]
    found = candidates(q, known, count=4, spacing=spacing)
    assert (np.diff(found.score[..., :2], axis=-1) <= 0).all()
    step = np.array(spacing) / min(spacing)
    places = grid[known]
    # Twice the mean distance of a missing voxel from a known one.
    apart = np.sqrt(np.square((grid[~known][:, None] - places[None]) * step).sum(-1)).min(axis=1)
    assert found.gap == pytest.approx(2.0 * apart.mean(), rel=1e-6)
    checked = 0
    for index in np.ndindex(shape):
        distance = np.sqrt(np.square((places - index) * step).sum(-1))
        for slot in range(4):
            if found.label[index][slot] == EMPTY:
                continue
            source = np.unravel_index(found.source[index][slot], shape)
            apart = np.sqrt(np.square((np.array(source) - index) * step).sum())
            assert found.score[index][slot] * found.gap == pytest.approx(-apart, abs=1e-5)
            # The nearest of all known voxels leads, and no voxel of the grain is nearer than the one it brings.
            same = (found.filled[known] == found.filled[source]).all(-1)
            assert known[source]
            assert slot > 0 or apart == pytest.approx(distance.min())
            checked += int(apart <= distance[same].min() + 1e-9)
    # Pieces of one crystal that are not connected are different grains: a few voxels name the further piece as well.
    assert checked > 0.8 * (found.label != EMPTY).sum()


def test_before_the_first_and_beyond_the_last_section_all_is_as_in_them() -> None:
    labels, _ = _tilted((12, 6, 12), 2)
    known = np.zeros(labels.shape, bool)
    known[..., [2, 5, 8]] = True
    found = candidates(CRYSTALS[labels], known, count=2)
    for section, outside in ((2, [0, 1]), (8, [9, 10, 11])):
        for name in ("label", "score", "source"):
            values = getattr(found, name)
            np.testing.assert_array_equal(values[:, :, outside], values[:, :, [section] * len(outside)])
    assert (found.label[:, :, 2] != found.label[:, :, 8]).any()


def test_the_gap_is_the_median_distance_of_sections() -> None:
    q = CRYSTALS[(np.indices((16, 4, 11))[0] >= 8).astype(int)]
    known = np.zeros(q.shape[:3], bool)
    known[..., [0, 2, 4, 10]] = True
    assert candidates(q, known).voxels == candidates(q, known).gap == 2.0


def test_a_candidate_brings_the_orientation_of_the_nearer_section_and_half_way_of_the_lower() -> None:
    """One grain that turns by a degree from section to section."""
    angle = np.radians(np.arange(5.0)) / 2
    crystal = np.stack([np.cos(angle), 0 * angle, 0 * angle, np.sin(angle)], axis=-1)
    q = np.broadcast_to(crystal, (3, 3, 5, 4))
    known = np.broadcast_to(np.arange(5) % 4 == 0, (3, 3, 5))
    found = candidates(q, known, count=1)
    np.testing.assert_array_equal(_brought(found)[..., 0, :], q[:, :, [0, 0, 0, 4, 4]])


def test_crystals_alike_in_sections_that_are_not_adjacent_are_two_grains() -> None:
    labels = np.ones((8, 4, 9), int)
    labels[:, :, 3:6] = 0
    for empty, alike in ((0, False), (1, True)):
        q = CRYSTALS[np.where(labels == 0, empty, 1)]
        found = candidates(q, np.broadcast_to(np.arange(9) % 4 == 0, labels.shape), count=2)
        assert (found.label[0, 0, 0, 0] == found.label[0, 0, 8, 0]) == alike


@pytest.mark.parametrize("sections", [True, False])
def test_the_group_is_the_one_asked_for(sections: bool) -> None:
    """Two parts a turn of sixty degrees about c apart, side by side and above one another: one hexagonal grain, two
    cubic ones."""
    place = np.indices((8, 5, 9))
    angle = np.where((place[0] >= 4) | (place[2] >= 2), np.pi / 6, 0.0)
    q = np.stack([np.cos(angle), 0 * angle, 0 * angle, np.sin(angle)], axis=-1)
    known = np.broadcast_to(np.arange(9) % 4 == 0, angle.shape) if sections else np.ones(angle.shape, bool)
    known = known.copy()
    known[3:5, 2, 3] = False
    for group, count in (("622", 1), ("432", 2)):
        found = candidates(q, known, group, count=2)
        assert len(np.unique(found.label[found.label != EMPTY])) == count


def test_every_grain_within_twice_the_distance_of_the_nearest_known_voxel_is_a_candidate() -> None:
    """A hole four voxels deep and fifteen long, between two grains that meet in a plane."""
    labels = (np.indices((17, 9, 9))[0] >= 12).astype(int)
    known = np.ones(labels.shape, bool)
    known[1:16, 1:8, 1:8] = False
    found = candidates(CRYSTALS[labels], known, count=2)
    apart = np.sort([ndimage.distance_transform_edt(~(known & (labels == each))) for each in (0, 1)], axis=0)
    within = ~known & (apart[1] <= 2 * apart[0])
    assert (apart[0].max(), within.sum() > 200) == (4.0, True)
    np.testing.assert_allclose(-found.score[within] * found.gap, apart[:, within].T, rtol=1e-5)


def test_pieces_of_one_crystal_across_a_gap_are_one_grain() -> None:
    """A bar cut by a gap that is filled from its sides: both halves of the bar are one candidate."""
    labels = np.zeros((11, 5, 5), int)
    labels[:, 2, 2] = 1
    known = np.ones(labels.shape, bool)
    known[4:7, 1:4, 1:4] = False
    found = candidates(CRYSTALS[labels], known)
    halves = found.label[0, 2, 2, 0], found.label[10, 2, 2, 0]
    assert halves[0] == halves[1]
    # Further apart than gaps are wide they stay two.
    labels[3:8] = 0
    labels[3:8, :, :] = 2
    apart = candidates(CRYSTALS[labels], np.random.default_rng(0).random(labels.shape) < 0.9)
    assert apart.label[0, 2, 2, 0] != apart.label[10, 2, 2, 0]


def test_labels_of_a_voxel_are_different() -> None:
    labels, known = _tilted((12, 12, 13), 2)
    rng = np.random.default_rng(2)
    found = candidates(CRYSTALS[(labels + rng.integers(0, 3, labels.shape)) % 6], known)
    ordered = np.sort(found.label, axis=-1)
    assert not ((ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] != EMPTY)).any()
    used = np.where(np.isfinite(found.score), found.score, -1e9)
    assert (np.diff(used, axis=-1) <= 0).all()


@pytest.mark.parametrize(("value", "reason"), [(False, "no voxel is True"), (True, "every voxel is True")])
def test_meaningless_masks(value: bool, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        candidates(CRYSTALS[np.zeros((4, 4, 4), int)], np.full((4, 4, 4), value))
