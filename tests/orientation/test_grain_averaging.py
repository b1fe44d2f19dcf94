"""Grain averaging: planted grains found again, energy that no merge can lower, and what the cost means."""

import numpy as np
import pytest
from scipy import ndimage

from polymicros_jax.data import samples, simulated
from polymicros_jax.orientation import grain_averaging, grains, quaternion, representation
from polymicros_jax.orientation.grain_averaging import grain_averaged, merge

KIND = representation.get("gsh4")


def energy(field: np.ndarray, labels: np.ndarray, cost: float, periodic: bool) -> float:
    """The energy by its definition, from nothing but the field and the labels."""
    total = sum(np.sum(np.square(field[labels == i] - field[labels == i].mean(0))) for i in np.unique(labels))
    between = 0
    for axis, size in enumerate(labels.shape):
        differ = labels != np.roll(labels, -1, axis)
        between += differ.sum() if periodic else np.take(differ, range(size - 1), axis).sum()
    return float(total + cost * between)


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, np.ndarray]:
    """A periodic Voronoi volume of 40 grains with noise of a fifth of the standard deviation, and its grains."""
    volume = simulated.load("simulated/voronoi?side=24&grains=40&seed=3")
    labels = grains.segment(volume.quaternions, periodic=True)
    noise = np.random.default_rng(0).normal(scale=0.1, size=(*volume.shape, KIND.channels))
    return np.asarray(KIND.encode(volume.quaternions)) + noise, labels


def test_planted_grains_come_back(planted: tuple[np.ndarray, np.ndarray]) -> None:
    field, truth = planted
    flat, labels = grain_averaged(field, KIND, periodic=True)
    # Voxels are 0.3 of noise (nine channels of 0.1) away from their value, neighbouring grains about a norm, 1.5: even
    # the three grains of one voxel each come back.
    np.testing.assert_array_equal(labels, truth)
    assert (grains.sizes(truth) == 1).sum() == 3
    # Every grain has the orientation of its mean.
    q = np.asarray(KIND.decode(flat)[0])
    means = np.stack([field[truth == number].mean(0) for number in range(truth.max() + 1)]).astype(np.float32)
    angle = np.degrees(np.asarray(quaternion.disorientation(q, np.asarray(KIND.decode(means)[0])[truth], "432")))
    assert angle.max() < 0.1  # the arc cosine of float32: sqrt(2 * 6e-8) rad, twice
    assert np.allclose(np.linalg.norm(flat, axis=-1), KIND.norm, atol=1e-4)


def test_a_rising_cost_finds_a_lower_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Than merging at the full cost at once, which joins what is small before what is alike."""
    rng = np.random.default_rng(1)
    field = ndimage.gaussian_filter(rng.normal(size=(20, 20, 20, 3)), (1, 1, 1, 0), mode="wrap")
    found = {}
    for halvings in (grain_averaging.HALVINGS, 0):
        monkeypatch.setattr(grain_averaging, "HALVINGS", halvings)
        found[halvings] = [energy(field, merge(field, cost, periodic=True)[0], cost, True) for cost in (0.02, 0.03)]
    assert np.all(np.array(found[5]) < found[0]), found


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("cost", [pytest.param(0.2, marks=pytest.mark.slow), 0.3])
def test_no_merging_of_neighbours_would_lower_the_energy(cost: float, periodic: bool) -> None:
    # Smooth noise: no grains of its own, so that every boundary is one that the cost alone decides.
    rng = np.random.default_rng(1)
    field = rng.normal(size=(10, 9, 8, 3))
    for axis in range(3):
        field = (field + np.roll(field, 1, axis) + np.roll(field, -1, axis)) / 2
    labels, means = merge(field, cost, periodic=periodic)
    assert 3 < len(means) < 350
    for number, mean in enumerate(means):
        np.testing.assert_allclose(mean, field[labels == number].mean(0), atol=1e-12)
    found = energy(field, labels, cost, periodic)
    assert found < energy(field, np.arange(labels.size).reshape(labels.shape), cost, periodic)
    assert found < energy(field, np.zeros_like(labels), cost, periodic)
    pairs, _ = grains.neighbours(labels, periodic=periodic)
    for one, other in pairs:
        assert energy(field, np.where(labels == other, one, labels), cost, periodic) >= found - 1e-9


def test_grains_are_connected_and_numbered_in_the_order_of_their_first_voxels(
    planted: tuple[np.ndarray, np.ndarray],
) -> None:
    labels, _ = merge(planted[0][:12], 0.5, periodic=False)
    first = [int(np.flatnonzero(labels.ravel() == number)[0]) for number in range(labels.max() + 1)]
    assert first == sorted(first)
    angle = 0.01 * labels  # one orientation a grain: pieces of a grain would be grains of their own
    q = np.stack([np.cos(angle), np.sin(angle), 0 * angle, 0 * angle], axis=-1)
    apart = grains.segment(q, threshold=1e-4, group="1")
    assert apart.max() == labels.max()


def test_grains_that_change_gradually_are_told_apart() -> None:
    # Two grains 20 degrees apart with a seam 8 voxels wide: a threshold of 5 degrees between neighbours sees one.
    # By the energy: a boundary costs 36 faces of 1.1, two grains instead of one save 432 / 2 voxels of 1.35 squared.
    angle = np.radians(np.interp(np.arange(24), [7.5, 15.5], [0.0, 20.0]))[:, None, None] * np.ones((24, 6, 6)) / 2
    q = np.stack([np.cos(angle), 0 * angle, 0 * angle, np.sin(angle)], axis=-1)
    assert grains.segment(q).max() == 0
    flat, labels = grain_averaged(KIND.encode(q.astype(np.float32)), KIND)
    assert labels.max() == 1
    # Merging is greedy: the boundary is flat and within a voxel of the middle of the seam.
    first = int(labels[:, 0, 0].argmax())
    assert abs(first - 12) <= 1
    np.testing.assert_array_equal(labels, (np.arange(24) >= first)[:, None, None] * np.ones((24, 6, 6), int))
    assert len(np.unique(flat.reshape(-1, 9), axis=0)) == 2


def test_cost_of_nothing_merges_what_is_equal_and_a_large_one_everything() -> None:
    volume = samples.load("in100").crop((0, 0, 0), (20, 20, 20))
    field = np.asarray(KIND.encode(volume.quaternions))
    exact, _ = merge(field, 0.0)
    np.testing.assert_array_equal(exact, grains.segment(volume.quaternions, threshold=1e-3))
    whole, means = merge(field, 1e9)
    assert whole.max() == 0
    np.testing.assert_allclose(means[0], field.reshape(-1, 9).astype(float).mean(0), atol=1e-9)


def test_a_measured_volume_keeps_its_grains() -> None:
    volume = samples.load("in100").crop((0, 0, 0), (40, 40, 40))
    field = np.asarray(KIND.encode(volume.quaternions))
    flat, labels = grain_averaged(field, KIND)
    assert labels.max() < grains.segment(volume.quaternions).max()  # specks are taken up by what surrounds them
    q = np.asarray(KIND.decode(flat)[0])
    moved = np.degrees(np.asarray(quaternion.disorientation(volume.quaternions, q, "432"))) > 5
    # Grains of a few voxels across cost more faces than they are worth: those below 64 voxels hold 0.8 %.
    assert moved.mean() < 0.01


def test_what_means_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="found rogsh3, accepted is one that can be turned back"):
        grain_averaged(np.zeros((4, 4, 4, 3)), representation.get("rogsh3"))
    for cost in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="cost: found"):
            merge(np.zeros((4, 4, 1)), cost)
