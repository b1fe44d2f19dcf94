"""Two-point statistics as pictures: planes of all channel pairs, rows to compare, explained variance, random fields."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from polymicros_jax.viz import canvas, cubes

_AXES = "xyz"
_CELL = 1.25  # inches

# Dark, distinguishable without red-green vision (Okabe & Ito), each with its own marker for print in grey.
LINES = (
    ("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"),
    ("#E69F00", "v"), ("#56B4E9", "P"), ("#000000", "X"), ("#7F7F7F", "*"),
)  # fmt: skip


def central_planes(
    correlations: Float[np.ndarray, "nx ny nz h h"],
    *,
    axis: int = 2,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    limit: float | None = None,
    title: str = "",
) -> Figure:
    """The plane of zero lag along `axis` for every channel pair, as an H x H table of maps with zero lag in the middle.

    Args:
        correlations: Correlations or covariances with zero lag at index 0, as `spectral.two_point` returns them.
        axis: Lag component that is zero.
        spacing: Voxel size along x, y, z in micrometres.
        limit: Colours run from minus to plus this value; the largest magnitude by default. One for all maps.
        title: Heading.
    """
    plane = np.take(correlations, 0, axis=axis)
    right, up = canvas.in_plane_axes(axis)
    return pair_maps(
        plane, spacing=(spacing[right], spacing[up]), axes=(_AXES[right], _AXES[up]), limit=limit, title=title
    )


def pair_maps(
    plane: Float[np.ndarray, "n m h h"],
    *,
    spacing: tuple[float, float] = (1.0, 1.0),
    axes: tuple[str, str] = ("x", "y"),
    limit: float | None = None,
    title: str = "",
) -> Figure:
    """All channel pairs of a plane of lags, row the first channel, column the second; missing lags (NaN) are grey."""
    channels = plane.shape[-1]
    top = _limit([plane], limit)
    drawing = canvas.figure(_CELL * channels + 1.4, _CELL * channels + 0.9)
    table = drawing.subplots(channels, channels, squeeze=False)
    for first in range(channels):
        for second in range(channels):
            cell = table[first, second]
            _lag_map(cell, plane[:, :, first, second], spacing, top)
            _only_outer_ticks(cell, left=second == 0, bottom=first == channels - 1)
            if first == 0:
                cell.set_title(f"γ = {second}", fontsize=8)
            if second == 0:
                cell.set_ylabel(f"β = {first}\nlag {axes[1]} (µm)", fontsize=7)
            if first == channels - 1:
                cell.set_xlabel(f"lag {axes[0]} (µm)", fontsize=7)
    bar = drawing.colorbar(
        canvas.colour_scale(-top, top, canvas.SIGNED_MAP), ax=table.ravel().tolist(), shrink=0.7, aspect=30
    )
    bar.ax.tick_params(labelsize=7)
    if title:
        drawing.suptitle(title, fontsize=11)
    return drawing


def rows_of_pairs(
    rows: Mapping[str, Float[np.ndarray, "n m h h"]],
    *,
    pairs: list[tuple[int, int]] | None = None,
    spacing: tuple[float, float] = (1.0, 1.0),
    difference: bool = False,
) -> Figure:
    """Several sets of correlations under each other, one column a channel pair, one colour scale.

    Serves the comparison of a measured covariance with fits of more and more mixtures, and of target planes with
    generated ones.

    Args:
        rows: Name to a plane of lags, zero lag at index 0.
        pairs: Channel pairs to show; by default all auto-correlations and those with channel 0, at most nine.
        spacing: Voxel size along the two lags in micrometres.
        difference: Adds a row: the last set minus the first, on its own scale, its largest magnitude in the label.

    Raises:
        ValueError: no rows, or rows of different shapes.
    """
    if not rows:
        raise ValueError("rows: got none, at least one is needed")
    shapes = {name: plane.shape for name, plane in rows.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"rows must share one shape, got {shapes}")
    planes = list(rows.values())
    channels = planes[0].shape[-1]
    if pairs is None:
        pairs = ([(b, b) for b in range(channels)] + [(0, g) for g in range(1, channels)])[:9]
    names = [*rows, "difference"] if difference else list(rows)
    drawing = canvas.figure(_CELL * len(pairs) + 1.6, _CELL * len(names) + 0.5)
    table = drawing.subplots(len(names), len(pairs), squeeze=False)
    top = _limit(planes, None)
    for line, name in enumerate(names):
        is_difference = line == len(rows)
        plane = planes[-1] - planes[0] if is_difference else planes[line]
        bound = _limit([plane], None) if is_difference else top
        for column, (first, second) in enumerate(pairs):
            cell = table[line, column]
            _lag_map(cell, plane[:, :, first, second], spacing, bound)
            _only_outer_ticks(cell, left=column == 0, bottom=line == len(names) - 1)
            if line == 0:
                cell.set_title(f"({first}, {second})", fontsize=8)
        label = f"{name}\nmax |Δ| {np.nanmax(np.abs(plane)):.1e}" if is_difference else name
        table[line, 0].set_ylabel(label, fontsize=8)
        if line == 0 or is_difference:
            covered = table[: len(rows)] if not is_difference else table[line:]
            scale = canvas.colour_scale(-bound, bound, canvas.SIGNED_MAP)
            bar = drawing.colorbar(scale, ax=covered.ravel().tolist(), shrink=0.8, aspect=25)
            bar.ax.tick_params(labelsize=6)
    for cell in table[-1]:
        cell.set_xlabel("lag (µm)", fontsize=7)
    return drawing


def explained_variance(
    curves: Mapping[str, Float[np.ndarray, " k"]], *, title: str = "", ylabel: str = "explained variance (%)"
) -> Figure:
    """Cumulative explained variance against the number of principal components, one curve a dataset.

    Args:
        curves: Name to cumulative shares in [0, 1], first entry for one component.
        title: Heading.
        ylabel: Text of the vertical axis.

    Raises:
        ValueError: a curve falls or leaves [0, 1]: it is not cumulative.
    """
    for name, curve in curves.items():
        if np.any(np.diff(curve) < -1e-6) or np.min(curve) < -1e-6 or np.max(curve) > 1 + 1e-6:
            raise ValueError(f"curve {name!r}: cumulative shares must rise within [0, 1]")
    drawing = canvas.figure(5.2, 3.6)
    axes = drawing.subplots()
    for (name, curve), (colour, marker) in zip(curves.items(), LINES * (1 + len(curves) // len(LINES)), strict=False):
        count = np.arange(1, len(curve) + 1)
        axes.plot(
            count, 100 * curve, color=colour, marker=marker, markevery=0.06, markersize=4, linewidth=1.4, label=name
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlabel("number of principal components")
    axes.set_ylabel(ylabel)
    axes.set_ylim(0, 102)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
    if title:
        axes.set_title(title, fontsize=11)
    return drawing


def field_cubes(
    field: Float[np.ndarray, "nx ny nz h"],
    *,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    limit: float | None = None,
    columns: int = 3,
) -> Figure:
    """Every channel of a random field as a cube, on one colour scale symmetric about zero."""
    top = _limit([field], limit)
    shown = colormaps[canvas.SIGNED_MAP]((np.clip(field / top, -1, 1) + 1) / 2)[..., :3]
    volumes = {f"channel {h}": shown[..., h, :] for h in range(field.shape[-1])}
    drawing = cubes.cubes(volumes, spacing=spacing, columns=columns)
    bar = drawing.colorbar(canvas.colour_scale(-top, top, canvas.SIGNED_MAP), ax=drawing.axes, shrink=0.7, aspect=30)
    bar.ax.tick_params(labelsize=7)
    return drawing


def _lag_map(axes: Axes, values: Float[np.ndarray, "n m"], spacing: tuple[float, float], top: float) -> None:
    """One map with zero lag in the middle of its own voxel; the first lag runs to the right, the second up."""
    n, m = values.shape
    left, bottom = -(n // 2) - 0.5, -(m // 2) - 0.5
    bounds = (left * spacing[0], (left + n) * spacing[0], bottom * spacing[1], (bottom + m) * spacing[1])
    axes.set_facecolor(canvas.MISSING_GREY)
    image = np.ma.masked_invalid(np.fft.fftshift(values).T)
    canvas.show_plane(axes, image, bounds, cmap=canvas.SIGNED_MAP, vmin=-top, vmax=top)


def _only_outer_ticks(axes: Axes, *, left: bool, bottom: bool) -> None:
    axes.tick_params(labelsize=6, labelleft=left, labelbottom=bottom)
    axes.locator_params(nbins=3)


def _limit(planes: list[np.ndarray], given: float | None) -> float:
    """The largest finite magnitude, and 1 for fields of zeros."""
    if given is not None:
        return given
    largest = max(float(np.nanmax(np.abs(plane))) if np.isfinite(plane).any() else 0.0 for plane in planes)
    return largest or 1.0
