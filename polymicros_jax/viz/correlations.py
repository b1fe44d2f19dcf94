"""Two-point statistics as pictures.

`central_planes` and `pair_maps` show all channel pairs, `rows_of_pairs` compares sets (Fig. 7), `orthogonal_planes`
the three planes of 2D-to-3D (Figs. 5 and 10), `explained_variance` and `principal_scores` the diversity of data sets
(Fig. 3), `field_cubes` random fields (Fig. 11).
"""

import itertools
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from polymicros_jax.types import ArrayLike
from polymicros_jax.viz import canvas, cubes

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
    label: str = "correlation",
    title: str = "",
) -> Figure:
    """The plane of zero lag along `axis` for every channel pair, as an H x H table of maps with zero lag in the middle.

    Args:
        correlations: Correlations or covariances with zero lag at index 0, as `spectral.two_point` returns them.
        axis: Lag component that is zero.
        spacing: Voxel size along x, y, z in micrometres.
        limit: Colours run from minus to plus this value and saturate beyond, which the bar shows by pointed ends; the
            largest magnitude by default. One for all maps.
        label: What the colours mean.
        title: Heading.

    >>> drawing = central_planes(np.ones((4, 4, 4, 2, 2)), axis=2)
    >>> len([axes for axes in drawing.axes if axes.images])  # every pair of two channels
    4
    """
    plane = np.take(correlations, 0, axis=axis)
    right, up = canvas.in_plane_axes(axis)
    return pair_maps(
        plane,
        spacing=(spacing[right], spacing[up]),
        axes=(canvas.AXES[right], canvas.AXES[up]),
        limit=limit,
        label=label,
        title=title,
    )


def pair_maps(
    plane: Float[np.ndarray, "n m h h"],
    *,
    spacing: tuple[float, float] = (1.0, 1.0),
    axes: tuple[str, str] = ("x", "y"),
    limit: float | None = None,
    label: str = "correlation",
    title: str = "",
) -> Figure:
    """All channel pairs of a plane of lags, row the first channel, column the second; missing lags (NaN) are grey.

    >>> drawing = pair_maps(np.ones((4, 6, 2, 2)), spacing=(0.5, 0.5))
    >>> drawing.axes[0].images[0].get_extent()  # zero lag in the middle
    [-1.25, 0.75, -1.75, 1.25]
    """
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
    _bar(drawing, table, top, [plane], label=label)
    if title:
        drawing.suptitle(title, fontsize=11)
    return drawing


def rows_of_pairs(
    rows: Mapping[str, Float[np.ndarray, "n m h h"]],
    *,
    pairs: list[tuple[int, int]] | None = None,
    spacing: tuple[float, float] = (1.0, 1.0),
    limit: float | None = None,
    label: str = "correlation",
    difference: bool = False,
) -> Figure:
    """Several sets of correlations under each other, one column a channel pair, one colour scale.

    Serves the comparison of a measured covariance with fits of more and more mixtures, and of target planes with
    generated ones.

    Args:
        rows: Name to a plane of lags, zero lag at index 0.
        pairs: Channel pairs to show; by default all auto-correlations and those with channel 0, at most nine.
        spacing: Voxel size along the two lags in micrometres.
        limit: Colours run from minus to plus this value and saturate beyond, which the bar shows by pointed ends; the
            largest magnitude by default.
        label: What the colours mean.
        difference: Adds a row: the last set minus the first, on its own scale, its largest magnitude in the label.

    Raises:
        ValueError: no rows, or rows of different shapes.

    >>> planes = {"target": np.ones((4, 4, 2, 2)), "fit": np.full((4, 4, 2, 2), 0.9)}
    >>> drawing = rows_of_pairs(planes, difference=True)
    >>> len([axes for axes in drawing.axes if axes.images])  # three rows of three pairs
    9
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
    change = planes[-1] - planes[0]
    top, top_change = _limit(planes, limit), _limit([change], None)
    for line, name in enumerate(names):
        is_difference = line == len(rows)
        plane, bound = (change, top_change) if is_difference else (planes[line], top)
        for column, (first, second) in enumerate(pairs):
            cell = table[line, column]
            _lag_map(cell, plane[:, :, first, second], spacing, bound)
            _only_outer_ticks(cell, left=column == 0, bottom=line == len(names) - 1)
            if line == 0:
                cell.set_title(f"({first}, {second})", fontsize=8)
        heading = f"{name}\nmax |Δ| {np.nanmax(np.abs(plane)):.1e}" if is_difference else name
        table[line, 0].set_ylabel(heading, fontsize=8)
    _bar(drawing, table[: len(rows)], top, planes, label=label)
    if difference:
        _bar(drawing, table[len(rows) :], top_change, [change], label="difference")
    for cell in table[-1]:
        cell.set_xlabel("lag (µm)", fontsize=7)
    return drawing


def orthogonal_planes(
    sets: Mapping[str, Mapping[str, Float[ArrayLike, "_ _ h h"]]],
    *,
    pairs: list[tuple[int, int]] | None = None,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    limit: float | None = None,
    label: str = "correlation",
    difference: bool = False,
) -> Figure:
    """The three coordinate planes of correlations: a block of rows a plane, in it a row a set, one column a pair.

    Args:
        sets: Name to planes as `spectral.two_point.orthogonal_planes` returns them: ``"x"``, ``"y"``, ``"z"`` (the lag
            component that is zero) to ``(n, m, h, h)``, zero lag at index 0. Missing planes are left out.
        pairs: Channel pairs to show; by default all with ``b <= g``, at most nine.
        spacing: Voxel size along x, y, z in micrometres.
        limit: As in `rows_of_pairs`; the difference keeps its own scale.
        label: What the colours mean.
        difference: Adds to every plane a row: the last set minus the first, on a scale of its own.

    Raises:
        ValueError: no sets, or sets that differ in planes or shapes.

    >>> planes = {axis: np.ones((4, 4, 1, 1)) for axis in "xyz"}
    >>> drawing = orthogonal_planes({"maps": planes, "volume": planes})
    >>> len([axes for axes in drawing.axes if axes.images])
    6
    """
    if not sets:
        raise ValueError("sets: got none, at least one is needed")
    arrays = {name: {axis: np.asarray(plane) for axis, plane in planes.items()} for name, planes in sets.items()}
    shapes = {name: {axis: plane.shape for axis, plane in planes.items()} for name, planes in arrays.items()}
    first, *others = shapes.values()
    if any(shape != first for shape in others) or not set(first) <= set(canvas.AXES) or not first:
        raise ValueError(f"sets must share planes out of {list(canvas.AXES)} and their shapes, got {shapes}")
    shown = [axis for axis in canvas.AXES if axis in first]
    channels = next(iter(first.values()))[-1]
    if pairs is None:
        pairs = [(b, g) for b in range(channels) for g in range(b, channels)][:9]
    planes = {axis: [members[axis] for members in arrays.values()] for axis in shown}
    everything = [plane for members in planes.values() for plane in members]
    changes = [members[-1] - members[0] for members in planes.values()]
    top, top_change = _limit(everything, limit), _limit(changes, None)
    names = [*sets, "difference"] if difference else list(sets)
    drawing = canvas.figure(_CELL * len(pairs) + 1.7, _CELL * len(names) * len(shown) + 0.5)
    table = drawing.subplots(len(names) * len(shown), len(pairs), squeeze=False)
    for block, axis in enumerate(shown):
        right, up = canvas.in_plane_axes(canvas.AXES.index(axis))
        for row, name in enumerate(names):
            changed = row == len(sets)
            plane = changes[block] if changed else planes[axis][row]
            line = table[block * len(names) + row]
            for column, (one, two) in enumerate(pairs):
                bound = top_change if changed else top
                _lag_map(line[column], plane[:, :, one, two], (spacing[right], spacing[up]), bound)
                _only_outer_ticks(line[column], left=column == 0, bottom=row == len(names) - 1)
                if row == 0 and block == 0:
                    line[column].set_title(f"({one}, {two})", fontsize=8)
                if row == len(names) - 1:
                    line[column].set_xlabel(f"lag {canvas.AXES[right]} (µm)", fontsize=7)
            line[0].set_ylabel(f"{name}\n{axis} = 0, lag {canvas.AXES[up]} (µm)", fontsize=7)
    if not difference:
        _bar(drawing, table, top, everything, label=label)
        return drawing
    # One beside the upper, one beside the lower half: two abreast would take a third of the page.
    middle = len(table) // 2
    _bar(drawing, table[:middle], top, everything, label=label)
    _bar(drawing, table[middle:], top_change, changes, label="difference")
    return drawing


def principal_scores(
    sets: Mapping[str, Float[np.ndarray, "samples k"]],
    *,
    components: int = 5,
    shares: Float[np.ndarray, " k"] | None = None,
    title: str = "",
) -> Figure:
    """Scores on the first components against one another, one panel a pair of components (Fig. 3).

    Args:
        sets: Name to scores of its samples, from `spectral.diversity.scores`. The first is drawn as a cloud of small
            dots, the others, the measured volumes, large on top of it.
        components: How many components to show.
        shares: Share of the variance of each component in [0, 1], named on the axes.
        title: Heading.

    Raises:
        ValueError: fewer than two components, or a set without that many scores.

    >>> rng = np.random.default_rng(0)
    >>> sets = {"dataset": rng.normal(size=(50, 3)), "measured": rng.normal(size=(2, 3))}
    >>> drawing = principal_scores(sets, components=3)
    >>> len(drawing.axes) >= 3
    True
    """
    if components < 2 or any(scores.shape[1] < components for scores in sets.values()):
        widths = {name: scores.shape[1] for name, scores in sets.items()}
        raise ValueError(f"components: found {components} for scores of {widths}; at least 2, and no more than these")
    n = components - 1
    drawing = canvas.figure(1.7 * n + 0.6, 1.7 * n + 0.6)
    table = drawing.subplots(n, n, squeeze=False, sharex="col", sharey="row")
    for row in range(n):
        for column in range(n):
            cell = table[row, column]
            if column > row:
                cell.set_axis_off()
                continue
            for index, (name, scores) in enumerate(sets.items()):
                colour, marker = ("#7F7F7F", "o") if index == 0 else LINES[(index - 1) % len(LINES)]
                size, alpha = (7, 0.6) if index == 0 else (30, 0.9)
                cell.scatter(
                    scores[:, column], scores[:, row + 1], s=size, alpha=alpha, c=colour, marker=marker, label=name,
                    linewidths=0.4, edgecolors="none" if index == 0 else "white",
                )  # fmt: skip
            cell.tick_params(labelsize=6)
            cell.locator_params(nbins=4)
            if row == n - 1:
                cell.set_xlabel(_component(column, shares), fontsize=7)
            if column == 0:
                cell.set_ylabel(_component(row + 1, shares), fontsize=7)
    handles, names = table[0, 0].get_legend_handles_labels()
    drawing.legend(handles, names, loc="upper right", fontsize=8, frameon=False)
    if title:
        drawing.suptitle(title, fontsize=11)
    return drawing


def _component(index: int, shares: np.ndarray | None) -> str:
    return f"PC {index + 1}" + ("" if shares is None else f" ({100 * shares[index]:.0f} %)")


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

    >>> drawing = explained_variance({"dataset": np.array([0.6, 0.9, 1.0])})
    >>> drawing.axes[0].lines[0].get_ydata().tolist()
    [60.0, 90.0, 100.0]
    """
    for name, curve in curves.items():
        if np.any(np.diff(curve) < -1e-6) or np.min(curve) < -1e-6 or np.max(curve) > 1 + 1e-6:
            raise ValueError(f"curve {name!r}: cumulative shares must rise within [0, 1]")
    drawing = canvas.figure(7.0, 3.6)
    axes = drawing.subplots()
    for (name, curve), (colour, marker) in zip(curves.items(), itertools.cycle(LINES), strict=False):
        count = np.arange(1, len(curve) + 1)
        axes.plot(
            count, 100 * curve, color=colour, marker=marker, markevery=0.06, markersize=4, linewidth=1.4, label=name
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel("number of principal components")
    axes.set_ylabel(ylabel)
    axes.set_ylim(0, 102)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    if title:
        axes.set_title(title, fontsize=11)
    return drawing


def field_cubes(
    field: Float[np.ndarray, "nx ny nz h"],
    *,
    spacing: tuple[float, float, float] | None = None,
    limit: float | None = None,
    columns: int = 3,
) -> Figure:
    """Every channel of a random field as a cube, on one colour scale symmetric about zero.

    A drawn field has no length of its own: without `spacing`, in micrometres, its edges are in voxels.

    >>> drawing = field_cubes(np.ones((4, 4, 4, 2)))
    >>> [axes.get_title() for axes in drawing.axes if axes.get_title()]
    ['channel 0', 'channel 1']
    """
    top = _limit([field], limit)
    shown = colormaps[canvas.SIGNED_MAP]((np.clip(field / top, -1, 1) + 1) / 2)[..., :3]
    volumes = {f"channel {h}": shown[..., h, :] for h in range(field.shape[-1])}
    unit = "voxels" if spacing is None else "µm"
    drawing = cubes.cubes(volumes, spacing=spacing or (1.0, 1.0, 1.0), columns=columns, unit=unit)
    _bar(drawing, np.array(drawing.axes), top, [field], label="value")
    return drawing


def _bar(drawing: Figure, table: np.ndarray, bound: float, values: list[np.ndarray], *, label: str) -> None:
    """The colour bar of some axes; its ends are pointed where colours saturate."""
    ends = "both" if _limit(values, None) > bound else "neither"
    scale = canvas.colour_scale(-bound, bound, canvas.SIGNED_MAP)
    bar = drawing.colorbar(scale, ax=table.ravel().tolist(), shrink=0.7, aspect=30, extend=ends)
    bar.ax.tick_params(labelsize=7)
    bar.set_label(label, fontsize=8)


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
