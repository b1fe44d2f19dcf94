"""Degrees and voxels from probabilities: closed forms, the draws' own scores, coverage that a level repairs."""

import math

import jax
import numpy as np
import pytest

from polymicros_jax.orientation import posterior_uncertainty as certainty
from polymicros_jax.orientation import quaternion, uncertainty


def spin(degrees: np.ndarray) -> np.ndarray:
    """Rotations about z: disorientations up to 45 degrees are differences of angle."""
    half = np.deg2rad(np.asarray(degrees, np.float64)) / 2
    zero = np.zeros_like(half)
    return np.stack([np.cos(half), zero, zero, np.sin(half)], axis=-1).astype(np.float32)


CHANCE = np.array([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]])
Q = spin(np.array([[0.0, 10.0, 30.0], [0.0, 20.0, 40.0]]))
ATOL = 0.06  # degrees: the arc cosine of single precision near zero


def test_closed_forms() -> None:
    pairs = 2 * (0.5 * 0.3 * 10 + 0.5 * 0.2 * 30 + 0.3 * 0.2 * 20)
    np.testing.assert_allclose(certainty.spread(CHANCE, Q), [pairs, 0.0], atol=ATOL)
    np.testing.assert_allclose(certainty.expected_error(CHANCE, Q, Q[:, 0]), [9.0, 0.0], atol=ATOL)
    # Truth at 10 degrees: 5 + 0 + 4 to it; at 5 in the second voxel.
    score = certainty.energy_score(spin(np.array([10.0, 5.0])), CHANCE, Q)
    np.testing.assert_allclose(score, [9.0 - pairs / 2, 5.0], atol=ATOL)


def test_agrees_with_the_scores_of_draws() -> None:
    """Ten draws in the proportions of the probabilities; fair scores of draws divide by d - 1 where this has d."""
    draws = Q[:, [0, 0, 0, 0, 0, 1, 1, 1, 2, 2]].swapaxes(0, 1)[:, :1]
    spread = np.asarray(uncertainty.spread_map(draws))
    np.testing.assert_allclose(certainty.spread(CHANCE[:1], Q[:1]), spread * 0.9, atol=ATOL)
    truth = spin(np.array([17.0]))
    to_truth = uncertainty.energy_score(truth, draws) + 0.5 * spread
    np.testing.assert_allclose(certainty.energy_score(truth, CHANCE[:1], Q[:1]), to_truth - 0.45 * spread, atol=ATOL)


@pytest.mark.parametrize(
    ("level", "expected"),
    [(0.3, [0.5, 0.5]), (0.5, [0.5, 0.5]), (0.6, [10.0, 0.5]), (0.8, [10, 0.5]), (0.95, [30, 0.5])],
)
def test_radius_is_the_smallest_that_holds_the_level(level: float, expected: list[float]) -> None:
    np.testing.assert_allclose(certainty.radius(CHANCE, Q, Q[:, 0], level), expected, atol=ATOL)


@pytest.mark.parametrize("level", [0.0, 1.0, float("nan")])
def test_levels_that_are_refused(level: float) -> None:
    with pytest.raises(ValueError, match="probability between 0 and 1"):
        certainty.radius(CHANCE, Q, Q[:, 0], level)


def _population(seed: int, count: int = 6000) -> tuple[np.ndarray, ...]:
    """Candidates at 0, 5, ..., 25 degrees, stated probabilities sharper than those the truth is drawn from."""
    rng = np.random.default_rng(seed)
    honest = rng.dirichlet(np.ones(6), count)
    stated = honest**4 / (honest**4).sum(1, keepdims=True)
    q = np.broadcast_to(spin(np.arange(6) * 5.0), (count, 6, 4))
    truth = q[np.arange(count), (honest.cumsum(1) < rng.random((count, 1))).sum(1)]
    best = stated.argmax(1)
    return truth, stated, q, q[np.arange(count), best]


def test_a_level_fitted_on_one_volume_makes_intervals_of_another_cover() -> None:
    truth, stated, q, best = _population(0)
    level = certainty.level_for(truth, stated, q, best, 0.9)
    truth, stated, q, best = _population(1)
    cover = {each: float(certainty.covered(truth, stated, q, best, each).mean()) for each in (level, 0.9)}
    # Two samples of 6000 at 0.9: standard error of the difference 0.0055; a ball may hold a step more than asked for.
    assert 0.9 - 4 * 0.0055 < cover[level] < 0.95
    # Negative control: as stated, overconfident.
    assert cover[0.9] < 0.87
    assert level > 0.9


def test_the_level_of_one_voxel_is_the_least_at_which_its_ball_holds_the_truth() -> None:
    """Whatever is nearer to the estimate than the truth is passed; within the floor, or the rounding, nothing is."""
    chance = np.array([[0.3, 0.25, 0.2, 0.15, 0.1]])
    degrees = [0.0, 0.3, 10.0, 10.03, 30.0]
    q = spin(np.array([degrees]))
    needed = []
    for truth in q[0]:
        voxel = (truth[None], chance, q, q[:, 0])
        level = certainty.level_for(*voxel)
        needed.append(level)
        assert certainty.covered(*voxel, level).all()
        if level > 0.01:
            assert not certainty.covered(*voxel, level - 3e-6).any()
    # A ball must hold more than what is nearer: by a millionth.
    np.testing.assert_allclose(needed, [1e-6, 1e-6, 0.550001, 0.550001, 0.900001], atol=1e-7)


def test_the_group_is_the_one_asked_for() -> None:
    """Sixty degrees about c are nothing to a hexagonal crystal, and thirty degrees to a cubic one."""
    chance, q = np.array([[0.6, 0.1, 0.3]]), spin(np.array([[0.0, 60.0, 20.0]]))
    for group, between in (("622", 0.0), ("432", 30.0)):
        alike = (chance, q, q[:, 0])
        expected = 0.1 * between + 0.3 * 20.0
        np.testing.assert_allclose(certainty.expected_error(*alike, group), expected, atol=ATOL)
        apart = 2 * (0.6 * 0.1 * between + 0.6 * 0.3 * 20.0 + 0.1 * 0.3 * (20.0 if group == "622" else 40.0))
        np.testing.assert_allclose(certainty.spread(chance, q, group), apart, atol=ATOL)
        score = certainty.energy_score(q[:, 1], chance, q, group)
        to_truth = 0.6 * between + 0.3 * (20.0 if group == "622" else 40.0)
        np.testing.assert_allclose(score, to_truth - apart / 2, atol=ATOL)
        np.testing.assert_allclose(certainty.radius(*alike, 0.65, group), max(between and 20.0, 0.5), atol=ATOL)
        assert certainty.covered(q[:, 1], *alike, 0.5, group).tolist() == [group == "622"]
        level = certainty.level_for(q[:, 1], *alike, 0.9, group)
        assert level == pytest.approx(1e-6 if group == "622" else 0.9 + 1e-6, abs=1e-7)


def test_nothing_to_calibrate_on() -> None:
    with pytest.raises(ValueError, match="no voxel"):
        certainty.level_for(np.zeros((0, 4)), np.zeros((0, 3)), np.zeros((0, 3, 4)), np.zeros((0, 4)))


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_displacement_of_a_plane_is_its_mean_deviation(sigma: float) -> None:
    """Boundary at x = 16 with normal uncertainty: E|X| = sigma sqrt(2 / pi); the sum over voxel centres is the midpoint
    rule of a smooth function but for its kink at the boundary, error h^2/24 times the jump 2 pdf(0) of the slope."""
    x = np.arange(32) - 15.5
    wrong = 0.5 * np.array([math.erfc(abs(each) / sigma / math.sqrt(2)) for each in x])
    certain = np.broadcast_to(1 - wrong[:, None, None], (32, 5, 6))
    labels = np.broadcast_to((x > 0).astype(int)[:, None, None], (32, 5, 6))
    expected = sigma * math.sqrt(2 / math.pi)
    kink = 2 / (sigma * math.sqrt(2 * math.pi)) / 24
    found = certainty.boundary_displacement(labels, certain)
    assert found == pytest.approx(expected, abs=1.1 * kink)
    assert found != pytest.approx(expected, abs=0.5 * kink)
    assert math.isnan(certainty.boundary_displacement(np.zeros((3, 3, 3), int), np.ones((3, 3, 3))))


def test_areas_of_tilted_planes_and_of_a_sphere() -> None:
    n = 40
    x, y, z = np.indices((n, n, n)) - n / 2 + 0.5
    # x + y = 0 cuts the cube in a rectangle n by sqrt(2) n.
    assert certainty.boundary_area((x + 0.01 > 0).astype(int)) == n * n
    # Two boundaries, of three grains: their areas add up.
    assert certainty.boundary_area((x > -5).astype(int) + (x > 5)) == 2 * n * n
    assert certainty.boundary_area((x + y > 0.5).astype(int)) == pytest.approx(math.sqrt(2) * n * n, rel=1 / n)
    sphere = certainty.boundary_area((x**2 + y**2 + z**2 < 15.3**2).astype(int))
    assert sphere == pytest.approx(2 * math.sqrt(3) * math.pi * 15.3**2, rel=0.03)


def test_contested() -> None:
    np.testing.assert_array_equal(certainty.contested(CHANCE), [True, False])
    np.testing.assert_array_equal(certainty.contested(CHANCE, 0.4), [False, False])


def test_symmetric_equivalents_change_nothing() -> None:
    turned = np.asarray(quaternion.multiply(spin(np.array(90.0)), Q))
    np.testing.assert_allclose(certainty.spread(CHANCE, turned), certainty.spread(CHANCE, Q), atol=ATOL)
    q = np.asarray(quaternion.random(jax.random.key(0), (2, 3)))
    cubic, none = (np.asarray(certainty.spread(CHANCE, q, group)) for group in ("432", "1"))
    assert cubic[0] < none[0] - 1.0  # without symmetry crystals are further apart
    np.testing.assert_allclose(cubic[1], 0.0, atol=ATOL)  # one candidate alone has no spread
