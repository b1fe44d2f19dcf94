"""Correlation maps: zero lag in the middle, lags on the right side, one honest scale."""

import numpy as np
import pytest

from polymicros_jax.viz import canvas, correlations

SHAPE = (8, 9, 6)


def peaked() -> np.ndarray:
    """Auto-correlations 1 at zero lag; channel 1 follows channel 0 at lag (+2, +1, 0), so (1, 0) peaks opposite."""
    field = np.zeros((*SHAPE, 2, 2))
    field[0, 0, 0, 0, 0] = field[0, 0, 0, 1, 1] = 1.0
    field[2, 1, 0, 0, 1] = field[-2, -1, 0, 1, 0] = 0.5
    return field


def lag_of_peak(axes) -> tuple[float, float]:
    """Where the largest value is drawn, in data coordinates."""
    image = axes.images[0]
    values = np.asarray(image.get_array())
    row, column = np.unravel_index(values.argmax(), values.shape)
    left, right, bottom, top = image.get_extent()
    step_x, step_y = (right - left) / values.shape[1], (top - bottom) / values.shape[0]
    return left + (column + 0.5) * step_x, bottom + (row + 0.5) * step_y


def test_peaks_stand_at_their_lags_in_micrometres() -> None:
    drawing = correlations.central_planes(peaked(), axis=2, spacing=(0.5, 2.0, 1.0))
    maps = [axes for axes in drawing.axes if axes.images and axes.images[0].get_array().shape == (9, 8)]
    assert len(maps) == 4
    assert lag_of_peak(maps[0]) == pytest.approx((0, 0))
    assert lag_of_peak(maps[1]) == pytest.approx((2 * 0.5, 1 * 2.0))
    assert lag_of_peak(maps[2]) == pytest.approx((-2 * 0.5, -1 * 2.0))
    assert {(axes.images[0].norm.vmin, axes.images[0].norm.vmax) for axes in maps} == {(-1.0, 1.0)}


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_plane_of_zero_lag_is_the_one_shown(axis: int) -> None:
    values = np.random.default_rng(0).normal(size=(*SHAPE, 1, 1))
    drawing = correlations.central_planes(values, axis=axis)
    expected = np.take(values, 0, axis=axis)[..., 0, 0]
    np.testing.assert_array_equal(drawing.axes[0].images[0].get_array(), np.fft.fftshift(expected).T)


def test_missing_lags_are_grey_not_zero() -> None:
    values = np.ones((4, 4, 4, 1, 1))
    values[1, 0, 0] = np.nan
    drawing = correlations.central_planes(values)
    axes = drawing.axes[0]
    assert np.ma.getmaskarray(axes.images[0].get_array()).sum() == 1
    assert axes.get_facecolor()[:3] == canvas.MISSING_GREY


def test_rows_share_a_scale_and_the_difference_has_its_own() -> None:
    target = peaked()[:, :, 0]
    made = target.copy()
    made[1, 0, 0, 0] += 1e-3
    drawing = correlations.rows_of_pairs({"target": target, "made": made}, pairs=[(0, 0), (0, 1)], difference=True)
    maps = [axes for axes in drawing.axes if axes.images and axes.images[0].get_array().shape == (9, 8)]
    assert len(maps) == 6
    limits = [axes.images[0].norm.vmax for axes in maps]
    np.testing.assert_allclose(limits, [1, 1, 1, 1, 1e-3, 1e-3], rtol=1e-9)
    assert "max |Δ| 1.0e-03" in maps[4].get_ylabel()
    with pytest.raises(ValueError, match="share one shape"):
        correlations.rows_of_pairs({"a": target, "b": target[:4]})


def test_explained_variance_draws_what_it_is_given_and_refuses_shares_that_are_not_cumulative() -> None:
    curve = np.array([0.5, 0.8, 1.0])
    axes = correlations.explained_variance({"measured": curve}).axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [1, 2, 3])
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [50, 80, 100])
    assert "%" in axes.get_ylabel()
    with pytest.raises(ValueError, match="curve 'measured'"):
        correlations.explained_variance({"measured": curve[::-1]})


def test_field_cubes_are_coloured_symmetrically_about_zero() -> None:
    field = np.zeros((3, 3, 3, 2))
    field[..., 1] = 2.0
    drawing = correlations.field_cubes(field, limit=2.0)
    zero, top = (np.asarray(axes.images[0].get_array())[0, 0] for axes in drawing.axes[:2])
    # The middle of the map is a light neutral, its end a dark purple.
    assert np.ptp(zero) < 0.02
    assert zero.min() > 0.9
    assert top.max() < 0.35
