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
    saturated = correlations.rows_of_pairs({"target": target}, limit=0.3)
    assert saturated.axes[0].images[0].norm.vmax == 0.3
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


def test_edges_of_a_drawn_field_are_in_voxels_unless_it_has_a_spacing() -> None:
    field = np.ones((3, 4, 5, 1))
    voxels, micrometres = {"x 3 voxels", "y 4 voxels", "z 5 voxels"}, {"x 1.5 µm", "y 4 µm", "z 10 µm"}
    for spacing, words in ((None, voxels), ((0.5, 1.0, 2.0), micrometres)):
        drawing = correlations.field_cubes(field, spacing=spacing)
        assert {text.get_text() for text in drawing.axes[0].texts} == words


def test_ends_of_the_bar_are_pointed_where_colours_saturate() -> None:
    plane = peaked()[:, :, 0]
    for limit, pointed in ((None, 0), (1.0, 0), (0.4, 2)):
        for drawing in (
            correlations.pair_maps(plane, limit=limit, label="coefficient"),
            correlations.rows_of_pairs({"a": plane}, limit=limit, label="coefficient"),
            correlations.orthogonal_planes({"a": {"z": plane}}, limit=limit, label="coefficient"),
        ):
            bar = drawing.axes[-1]
            assert len(bar.patches) == pointed
            assert bar.get_ylabel() == "coefficient"


def planes_of(seed: int) -> dict[str, np.ndarray]:
    """Planes of a full lag array, as orthogonal_planes cuts them."""
    full = np.random.default_rng(seed).normal(size=(*SHAPE, 2, 2))
    return {"x": full[0], "y": full[:, 0], "z": full[:, :, 0]}


def test_orthogonal_planes_show_each_plane_with_its_own_lags() -> None:
    target, made = planes_of(0), planes_of(1)
    spacing = (0.5, 1.0, 2.0)
    drawing = correlations.orthogonal_planes({"target": target, "made": made}, spacing=spacing, difference=True)
    maps = [axes for axes in drawing.axes if axes.images and "lag" in axes.get_ylabel()]
    # Three planes of three rows each; first column is the pair (0, 0).
    assert len(maps) == 9
    for block, (axis, right, up) in enumerate([("x", 1, 2), ("y", 0, 2), ("z", 0, 1)]):
        rows = maps[3 * block : 3 * block + 3]
        wanted = [target[axis], made[axis], made[axis] - target[axis]]
        for axes, plane in zip(rows, wanted, strict=True):
            np.testing.assert_array_equal(axes.images[0].get_array(), np.fft.fftshift(plane[..., 0, 0]).T)
            assert f"{axis} = 0" in axes.get_ylabel()
            left, end, bottom, top = axes.images[0].get_extent()
            assert (end - left, top - bottom) == (SHAPE[right] * spacing[right], SHAPE[up] * spacing[up])
        # The difference has its own scale; zero lag of an even axis is drawn right of the middle.
        assert rows[0].images[0].norm.vmax == rows[1].images[0].norm.vmax != rows[2].images[0].norm.vmax
    with pytest.raises(ValueError, match="share planes"):
        correlations.orthogonal_planes({"a": target, "b": {"x": target["x"]}})
    with pytest.raises(ValueError, match="got none"):
        correlations.orthogonal_planes({})


def test_principal_scores_put_every_pair_of_five_components_in_its_panel() -> None:
    random = np.random.default_rng(0)
    cloud, measured = random.normal(size=(30, 6)), random.normal(size=(3, 6))
    shares = np.array([0.5, 0.2, 0.1, 0.05, 0.02, 0.01])
    drawing = correlations.principal_scores({"synthetic": cloud, "measured": measured}, shares=shares)
    panels = [axes for axes in drawing.axes if axes.collections]
    assert len(panels) == 10
    expected = [(column, row) for row in range(1, 5) for column in range(row)]
    for axes, (column, row) in zip(panels, expected, strict=True):
        for drawn, scores in zip(axes.collections, (cloud, measured), strict=True):
            np.testing.assert_array_equal(drawn.get_offsets(), scores[:, [column, row]])
    assert panels[-1].get_xlabel() == "PC 4 (5 %)"
    assert panels[-4].get_ylabel() == "PC 5 (2 %)"
    # Measured volumes lie on top of the cloud and larger.
    assert panels[0].collections[1].get_sizes()[0] > 4 * panels[0].collections[0].get_sizes()[0]
    with pytest.raises(ValueError, match="found 7"):
        correlations.principal_scores({"a": cloud}, components=7)
