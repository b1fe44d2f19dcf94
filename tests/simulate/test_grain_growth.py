"""Grain growth against its laws: the sphere, von Neumann and Mullins, R^2 ~ t, and the step without packing."""

import itertools
import math

import numpy as np
import pytest
from scipy import ndimage, optimize, special

from polymicros_jax.orientation import grains
from polymicros_jax.simulate import grain_growth, packing
from polymicros_jax.simulate.voronoi import voronoi


def ball(side: int, radius: float, axes: int) -> np.ndarray:
    centres = [np.arange(side) + 0.5 - side / 2] * axes
    return (sum(x**2 for x in np.meshgrid(*centres, indexing="ij")) < radius**2).astype(np.int32)


def radius_of(volume: float, axes: int) -> float:
    return math.cbrt(3 * volume / (4 * math.pi)) if axes == 3 else math.sqrt(volume / math.pi)


def blurred_ball(r: float, radius: float, width: float) -> float:
    """Indicator of a ball in 3D, convolved with a Gaussian, at the distance r from its centre (closed form)."""
    inside, outside = (radius - r) / (math.sqrt(2) * width), (radius + r) / (math.sqrt(2) * width)
    tails = math.exp(-(inside**2)) - math.exp(-(outside**2))
    return 0.5 * (special.erf(inside) + special.erf(outside)) - width / (r * math.sqrt(2 * math.pi)) * tails


@pytest.mark.parametrize(("axes", "side", "start", "width", "steps"), [(3, 40, 15.0, 3.0, 8), (2, 64, 24.0, 4.0, 12)])
def test_a_sphere_shrinks_at_the_rate_of_its_curvature(
    axes: int, side: int, start: float, width: float, steps: int
) -> None:
    labels, radii, expected = ball(side, start, axes), [], []
    for _ in range(steps + 1):
        radii.append(radius_of(float((labels == 1).sum()), axes))
        if axes == 3:  # what this step does to a sphere in the continuum
            radius = radii[-1]
            root = optimize.brentq(lambda r, radius=radius: blurred_ball(r, radius, width) - 0.5, 1.0, radius)
            expected.append(float(root))
        labels, sets = grain_growth.advance(labels, width)
        assert sets == 2
    times = np.arange(steps + 1) * width**2 / 2
    slope = np.polyfit(times, np.square(radii), 1)[0]
    # R^2 = R_0^2 - 2 (d - 1) t. Measured -3.99 and -2.05: steps of finite length cost (width / R)^2, the grid the rest.
    assert slope == pytest.approx(-2 * (axes - 1), rel=0.04)
    if axes == 3:
        # Beside the exact step only the grid errs: a tenth of a voxel in a radius of 15 to 9.
        np.testing.assert_allclose(radii[1:], expected[:-1], rtol=0, atol=0.1)


def unpacked(labels: np.ndarray, widths: tuple[float, ...]) -> np.ndarray:
    """The step as it is defined: every grain blurred by itself."""
    fields = [
        ndimage.gaussian_filter((labels == grain).astype(float), widths, mode="wrap", truncate=8)
        for grain in range(labels.max() + 1)
    ]
    return np.argmax(fields, axis=0)


@pytest.mark.parametrize(("shape", "aspect"), [((48, 52), None), ((20, 24, 22), (1.0, 1.0, 1.25))])
def test_packed_grains_move_as_if_each_had_its_own_field(
    shape: tuple[int, ...], aspect: tuple[float, ...] | None
) -> None:
    labels = grain_growth.compact(voronoi(0, shape, 40, aspect))
    moved, sets = grain_growth.advance(labels, 2.0, aspect)
    widths = tuple(2.0 * s for s in aspect or (1.0,) * len(shape))
    alone = unpacked(labels, widths)
    assert sets <= 40
    # A sampled Gaussian of width 2 is the continuum's to 1e-8; tails of far grains of a set reach 0.0014, so a voxel
    # changes hands only where two grains tie within that.
    assert np.mean(moved != alone) < 2e-3
    assert np.mean(labels != alone) > 0.02  # else nothing moved
    # Negative control: half the variance.
    assert np.mean(unpacked(labels, tuple(w / math.sqrt(2) for w in widths)) != alone) > 0.01


def test_grains_of_a_set_are_further_apart_than_asked() -> None:
    labels = grain_growth.compact(voronoi(1, (40, 46), 60))
    distance = (5, 7)
    sets, count = packing.pack(labels, distance)
    assert 1 < count < 30
    assert set(sets.tolist()) == set(range(count))
    for number in range(count):
        member = np.where(sets[labels] == number, labels, -1)
        for dx in range(-distance[0], distance[0] + 1):
            for dy in range(-distance[1], distance[1] + 1):
                other = np.roll(member, (dx, dy), (0, 1))
                assert not ((member >= 0) & (other >= 0) & (member != other)).any()


def test_grains_on_both_sides_of_a_block_cut_short_are_apart() -> None:
    """17 voxels: the last block has one, so that two voxels over the wrap are more than a block apart."""
    labels = np.zeros(17, int)
    labels[[15, 0, 7]] = 1, 2, 3
    sets, _ = packing.pack(labels, (4,))
    assert sets[1] != sets[2]


@pytest.mark.parametrize("aspect", [0.36, 0.82, 0.95])
def test_the_least_width_fits_every_aspect(aspect: float) -> None:
    """(2 / a) a is below 2 for these in floating point: no reason to refuse them."""
    assert 2.0 / aspect * aspect < grain_growth.LEAST_WIDTH
    labels = voronoi(0, (16, 16), 8)
    moved, _ = grain_growth.advance(labels, 2.0 / aspect, aspect=(1.0, aspect))
    assert set(np.unique(moved)) <= set(np.unique(labels))


@pytest.mark.parametrize(("shape", "aspect"), [((20, 17), (1.0, 2.0)), ((9, 8, 7), None)])
def test_a_voxel_belongs_to_the_nearest_point_of_the_periodic_box(
    shape: tuple[int, ...], aspect: tuple[float, ...] | None
) -> None:
    """By brute force over all points, from voxel centres, in axes divided by the aspect."""
    stretch = np.array(aspect or (1.0,) * len(shape))
    box = np.array(shape) / stretch
    points = np.random.default_rng(5).random((12, len(shape))) * box
    centres = (np.moveaxis(np.indices(shape), 0, -1) + 0.5) / stretch
    apart = np.abs(centres[..., None, :] - points)
    squares = np.square(np.minimum(apart, box - apart)).sum(-1)
    np.testing.assert_array_equal(voronoi(5, shape, 12, aspect), squares.argmin(-1))


def test_mean_radius_is_that_of_balls_of_equal_volume() -> None:
    labels = np.repeat([0, 1, 1], 9).reshape(3, 3, 3)
    # 4/3 pi r^3 = 9 and 18; in 2D pi r^2 = 3 and 6.
    assert grain_growth.mean_radius(labels) == pytest.approx(np.mean(np.cbrt(np.array([9, 18]) * 3 / 4 / np.pi)))
    assert grain_growth.mean_radius(labels[:, :, 0]) == pytest.approx(np.mean(np.sqrt(np.array([3, 6]) / np.pi)))


@pytest.fixture(scope="module")
def growth() -> list[tuple[np.ndarray, float]]:
    """2D growth from 900 to 80 grains: grain numbers (never renumbered) and the width of the next step."""
    labels, states = grain_growth.compact(voronoi(0, (160, 160), 900)), []
    while len(np.unique(labels)) > 80:
        width = max(grain_growth.WIDTH * grain_growth.mean_radius(labels), grain_growth.LEAST_WIDTH)
        states.append((labels, width))
        labels, _ = grain_growth.advance(labels, width)
    return states


def test_no_grain_invents_itself(growth: list[tuple[np.ndarray, float]]) -> None:
    for (before, width), (after, _) in itertools.pairwise(growth):
        assert set(np.unique(after)) <= set(np.unique(before))
        # A voxel goes to a grain that was near it, so no grain appears somewhere else either.
        reach = 2 * math.ceil(grain_growth.REACH * width) + 1
        for grain in np.unique(after)[::25]:
            near = ndimage.maximum_filter((before == grain).astype(np.int8), reach, mode="wrap")
            assert not ((after == grain) & (near == 0)).any()


def test_grains_grow_by_their_sides(growth: list[tuple[np.ndarray, float]]) -> None:
    sides, rates = [], []
    for (before, width), (after, _) in itertools.pairwise(growth):
        if len(np.unique(before)) > 600:
            continue  # still a tessellation
        size = int(before.max()) + 1
        area, later = (np.bincount(labels.ravel(), minlength=size) for labels in (before, after))
        pairs, _ = grains.neighbours(before, periodic=True)
        # Grains that live through the step: others vanish in a part of it.
        living = area > math.pi * (1.5 * width) ** 2
        sides.append(np.bincount(pairs.ravel(), minlength=size)[living])
        rates.append((later - area)[living] / (width**2 / 2))
    fit, covariance = np.polyfit(np.concatenate(sides) - 6, np.concatenate(rates), 1, cov=True)
    # von Neumann and Mullins: dA/dt = pi/3 (n - 6). Measured 1.07 with a standard error of 0.02.
    assert fit[0] == pytest.approx(math.pi / 3, rel=0.1)
    assert math.sqrt(covariance[0, 0]) < 0.03


def test_all_steps_of_a_growth_are_one_program() -> None:
    before = grain_growth.step._cache_size()
    _, history = grain_growth.grow(0, (40, 44), 20)
    assert len(history.time) > 5
    # Time goes on by half the variance of each step's Gaussian, whose width is a share of the mean radius.
    widths = np.maximum(grain_growth.WIDTH * history.mean_radius[:-1], grain_growth.LEAST_WIDTH)
    np.testing.assert_allclose(np.diff(history.time), widths**2 / 2, rtol=1e-12)
    assert grain_growth.step._cache_size() == before + 1


def test_the_mean_squared_radius_grows_linearly(growth: list[tuple[np.ndarray, float]]) -> None:
    times = np.cumsum([0.0] + [width**2 / 2 for _, width in growth])[:-1]
    late = np.array([len(np.unique(labels)) < 500 for labels, _ in growth])
    squares = np.square([grain_growth.mean_radius(labels) for labels, _ in growth])[late]
    slope, intercept = np.polyfit(times[late], squares, 1)
    assert slope > 0
    # The mean of 500 to 80 radii scatters by 2 to 5 %, twice that in the square.
    np.testing.assert_allclose(squares, intercept + slope * times[late], rtol=0.1)
    assert np.corrcoef(times[late], squares)[0, 1] ** 2 > 0.97


def mean_chord(labels: np.ndarray, axis: int) -> float:
    return labels.size / np.sum(labels != np.roll(labels, 1, axis))


def test_aspect_makes_long_grains() -> None:
    labels, history = grain_growth.grow(3, (96, 192), 60, start=300, aspect=(1.0, 2.0))
    assert history.grains[-1] <= 60
    assert labels.max() + 1 == history.grains[-1] == len(np.unique(labels))
    assert (np.diff(history.grains) <= 0).all()
    # Mean chords of 60 grains scatter by a tenth.
    assert mean_chord(labels, 1) / mean_chord(labels, 0) == pytest.approx(2.0, rel=0.2)


@pytest.mark.slow
def test_growth_in_3d_is_linear_in_the_squared_radius() -> None:
    labels, history = grain_growth.grow(0, (48, 48, 48), 60, start=1000)
    # Grains share sets while the box is many grains wide; below six grains a side nearly all touch.
    assert (history.sets[1:] < 0.8 * history.grains[:-1])[history.grains[:-1] > 6**3].all()
    late = history.grains < 500
    squares = history.mean_radius[late] ** 2
    slope, intercept = np.polyfit(history.time[late], squares, 1)
    np.testing.assert_allclose(squares, intercept + slope * history.time[late], rtol=0.1)
    assert np.corrcoef(history.time[late], squares)[0, 1] ** 2 > 0.97
    # The exponent of a power law through the late times, R^m - R_0^m = k t: 2 to within the scatter.
    best = min(
        np.arange(1.0, 4.0, 0.1),
        key=lambda m: (
            np.polyfit(history.time[late], history.mean_radius[late] ** m, 1, full=True)[1][0]
            / np.var(history.mean_radius[late] ** m)
        ),
    )
    assert 1.3 < best < 2.8
    assert len(np.unique(labels)) == history.grains[-1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grain_growth.grow(0, (16, 16), 20, start=10), "0 < grains <= start"),
        (lambda: grain_growth.grow(0, (16, 16), 4, start=8, aspect=(1.0, 0.0)), "2 positive numbers"),
        (lambda: grain_growth.advance(np.zeros((8, 8), np.int32), 0.5), "at least 2.0 voxels"),
        (lambda: voronoi(0, (8, 8), 0), "at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_growth_that_stands_still_is_reported() -> None:
    with pytest.raises(RuntimeError, match="are left after 1 steps"):
        grain_growth.grow(0, (32, 32), 2, start=16, most_steps=1)
