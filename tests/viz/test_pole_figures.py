"""Pole densities in multiples of uniform, at the right place of an equal-area disc."""

import jax
import numpy as np
import pytest

from polymicros_jax.orientation import quaternion, texture
from polymicros_jax.viz import pole_figures


def test_projection_is_equal_area_and_treats_opposites_alike() -> None:
    """Uniform directions fill the disc uniformly: r^2 is uniform.

    The largest deviation of n draws (Kolmogorov) stays below 1.95 / sqrt(n) with probability 0.999.
    """
    v = np.random.default_rng(0).normal(size=(100_000, 3))
    v /= np.linalg.norm(v, axis=-1, keepdims=True)
    points = pole_figures.equal_area(v)
    square = np.sort((points**2).sum(axis=-1))
    assert np.abs(square - (np.arange(len(v)) + 0.5) / len(v)).max() < 1.95 / np.sqrt(len(v))
    np.testing.assert_allclose(points, pole_figures.equal_area(-v), atol=1e-12)
    axes = pole_figures.equal_area(np.eye(3))
    np.testing.assert_allclose(axes, [[1, 0], [0, 1], [0, 0]], atol=1e-12)


def test_uniform_texture_is_one_everywhere() -> None:
    """Poisson noise of 2e6 poles in 25,730 bins under a Gaussian of 5.6 bins is 1 / sqrt(78 * 4 pi 5.6^2) = 0.6 %.

    Allowed is 8 %: the largest of 25,000 places, a one-sided kernel at the rim, and bins which the rim cuts.
    """
    v = np.random.default_rng(1).normal(size=(2_000_000, 3))
    values = pole_figures.density(v / np.linalg.norm(v, axis=-1, keepdims=True))
    inside = np.isfinite(values)
    assert inside.mean() == pytest.approx(np.pi / 4, abs=0.005)
    assert values[inside].mean() == pytest.approx(1.0, abs=0.01)
    assert np.abs(values[inside] - 1).max() < 0.08


def test_a_single_crystal_peaks_where_its_axes_point() -> None:
    """Turned by 30 degrees about z, passive: the crystal x-axis points 30 degrees from sample X, z to the middle."""
    q = np.asarray(quaternion.from_euler(np.array([[np.pi / 6, 0.0, 0.0]], dtype=np.float32)))
    axis = np.asarray(quaternion.to_matrix(q))[0, 0]
    np.testing.assert_allclose(axis, [np.cos(np.pi / 6), np.sin(np.pi / 6), 0], atol=1e-6)
    drawing = pole_figures.pole_figures({"{100}": texture.pole_directions(q, (1.0, 0.0, 0.0))})
    values = np.ma.filled(np.asarray(drawing.axes[0].images[0].get_array(), dtype=float), 0.0)
    values = np.nan_to_num(values)
    centre = (np.arange(len(values)) + 0.5) * 2 / len(values) - 1

    def at(x: float, y: float) -> float:
        return float(values[np.abs(centre - y).argmin(), np.abs(centre - x).argmin()])

    assert at(0, 0) > 20
    assert at(0.97 * np.cos(np.pi / 6), 0.97 * np.sin(np.pi / 6)) > 20
    assert at(-0.97 * np.sin(np.pi / 6), 0.97 * np.cos(np.pi / 6)) > 20
    assert at(0.97, 0) < 1
    assert at(0.5, 0.5) < 0.01


@pytest.mark.reference
def test_density_agrees_with_the_exact_kernel() -> None:
    """A smooth texture, so that the two kernels' shapes do not matter: within 15 % of the range in the inner disc."""
    q = quaternion.random(jax.random.key(0), (20_000,))
    near = np.asarray(quaternion.angle(q)) < 0.9
    chosen = np.asarray(q)[near]
    values = pole_figures.density(np.asarray(texture.pole_directions(chosen, (1.0, 1.0, 1.0))).reshape(-1, 3))
    radius = np.array([0.0, 0.2, 0.4, 0.6])
    angle = 2 * np.arcsin(radius / np.sqrt(2))
    directions = np.stack([np.sin(angle), 0 * angle, np.cos(angle)], axis=-1).astype(np.float32)
    exact = np.asarray(texture.pole_figure(chosen, (1.0, 1.0, 1.0), directions, halfwidth=np.radians(6.0)))
    column = ((radius + 1) * len(values) / 2).astype(int)
    shown = values[len(values) // 2, column]
    assert np.ptp(exact) > 0.3
    np.testing.assert_allclose(shown, exact, atol=0.15 * np.ptp(exact))


def test_no_poles_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        pole_figures.pole_figures({})
