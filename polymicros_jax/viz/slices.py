"""Planes through volumes: IPF colours side by side, error and spread maps in degrees.

Colours arrive as RGB volumes (from `orientation.ipf`), so this module knows nothing of crystal symmetry.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from polymicros_jax.viz import canvas

_PANEL = 2.6  # inches; four panels abreast fill a page


class Panel(NamedTuple):
    """One volume of a comparison.

    Attributes:
        title: Name above the panel.
        rgb: (nx, ny, nz, 3) colours in [0, 1].
        known: (nx, ny, nz) True where the volume holds something; the rest is drawn grey, whole missing rows hatched.
    """

    title: str
    rgb: np.ndarray
    known: np.ndarray | None = None


def orthogonal(
    rgb: Float[np.ndarray, "nx ny nz 3"],
    *,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    known: Bool[np.ndarray, "nx ny nz"] | None = None,
    indices: tuple[int | None, int | None, int | None] = (None, None, None),
    title: str = "",
) -> Figure:
    """The planes normal to x, y and z (the middle ones by default) of one coloured volume.

    Args:
        rgb: Colours in [0, 1].
        spacing: Voxel size along x, y, z in micrometres.
        known: True where there is data; the rest is grey, whole missing rows hatched.
        indices: Plane numbers along x, y, z.
        title: Heading of the figure.

    >>> drawing = orthogonal(np.ones((4, 6, 8, 3)), spacing=(0.5, 0.5, 1.0))
    >>> [axes.get_title() for axes in drawing.axes]
    ['x = 1.25 µm', 'y = 1.75 µm', 'z = 4.5 µm']
    """
    drawing = canvas.figure(3 * _PANEL, _PANEL + 0.5)
    for column, axes in enumerate(drawing.subplots(1, 3, squeeze=False)[0]):
        chosen = indices[column]
        index = rgb.shape[column] // 2 if chosen is None else chosen
        _draw_rgb(axes, rgb, known, column, index, spacing)
        axes.set_title(f"{canvas.AXES[column]} = {(index + 0.5) * spacing[column]:.4g} µm", fontsize=9)
    if title:
        drawing.suptitle(title, fontsize=11)
    return drawing


def comparison(
    panels: list[Panel],
    *,
    axis: int = 0,
    index: int | None = None,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    columns: int = 3,
) -> Figure:
    """The same plane of several volumes side by side: reference, input, baselines, reconstruction.

    Args:
        panels: What to show, in reading order; all of one grid.
        axis: Normal of the plane.
        index: Plane number; the middle by default.
        spacing: Voxel size along x, y, z in micrometres.
        columns: Panels abreast; three stay legible on a phone.

    Raises:
        ValueError: No panels, or panels of different grids.

    >>> grey, white = np.full((4, 4, 4, 3), 0.5), np.ones((4, 4, 4, 3))
    >>> drawing = comparison([Panel("input", grey), Panel("reconstruction", white)], axis=2)
    >>> [axes.get_title() for axes in drawing.axes]
    ['input', 'reconstruction']
    """
    if not panels:
        raise ValueError("panels: got none, at least one is needed")
    grids = {panel.title: panel.rgb.shape[:3] for panel in panels}
    if len(set(grids.values())) > 1:
        raise ValueError(f"panels must share one grid, got {grids}")
    drawing, all_axes = _grid(len(panels), columns, next(iter(grids.values())), axis, spacing)
    for axes, panel in zip(all_axes, panels, strict=True):
        _draw_rgb(axes, panel.rgb, panel.known, axis, index, spacing)
        axes.set_title(panel.title, fontsize=9)
    return drawing


def degree_maps(
    maps: Mapping[str, Float[np.ndarray, "nx ny nz"]],
    *,
    label: str = "disorientation (°)",
    limit: float | None = None,
    axis: int = 0,
    index: int | None = None,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    known: Bool[np.ndarray, "nx ny nz"] | None = None,
    columns: int = 3,
) -> Figure:
    """Error or spread maps in degrees with one shared colour bar, so that panels compare.

    Args:
        maps: Name to values in degrees; all of one grid. Not-a-number is drawn grey.
        label: Text of the colour bar.
        limit: Value at the top of the bar, larger ones share its colour. By default the 99th percentile of the shown
            planes over all maps, and at least 1 degree so that noise does not look like error.
        axis: Normal of the plane.
        index: Plane number; the middle by default.
        spacing: Voxel size along x, y, z in micrometres.
        known: If given, voxels where it is True (the observed ones) are drawn grey: they carry no error.
        columns: Panels abreast.

    Raises:
        ValueError: No maps, or maps of different grids.

    >>> drawing = degree_maps({"nearest": np.full((4, 4, 4), 8.0), "prior": np.full((4, 4, 4), 2.0)})
    >>> drawing.axes[-1].get_ylabel(), drawing.axes[0].images[0].get_clim()
    ('disorientation (°)', (0.0, 8.0))
    """
    if not maps:
        raise ValueError("maps: got none, at least one is needed")
    grids = {name: values.shape for name, values in maps.items()}
    if len(set(grids.values())) > 1:
        raise ValueError(f"maps must share one grid, got {grids}")
    planes = {}
    for name, values in maps.items():
        image = canvas.plane(values, axis, index)
        planes[name] = image if known is None else np.where(canvas.plane(known, axis, index), np.nan, image)
    finite = np.concatenate([image[np.isfinite(image)] for image in planes.values()])
    top = limit if limit is not None else max(1.0, float(np.percentile(finite, 99))) if finite.size else 1.0
    shape = next(iter(grids.values()))
    drawing, all_axes = _grid(len(maps), columns, shape, axis, spacing)
    for axes, (name, image) in zip(all_axes, planes.items(), strict=True):
        axes.set_facecolor(canvas.MISSING_GREY)
        canvas.show_plane(
            axes,
            np.ma.masked_invalid(image),
            canvas.extent(shape, axis, spacing),
            cmap=canvas.ERROR_MAP,
            vmin=0.0,
            vmax=top,
        )
        canvas.label_micrometres(axes, axis)
        axes.set_title(name, fontsize=9)
    beyond = finite.size and float(finite.max()) > top
    bar = drawing.colorbar(
        canvas.colour_scale(0.0, top, canvas.ERROR_MAP),
        ax=all_axes,
        extend="max" if beyond else "neither",
        shrink=0.85,
        pad=0.02,
        aspect=30,
    )
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return drawing


def _grid(
    count: int, columns: int, shape: tuple[int, ...], axis: int, spacing: tuple[float, float, float]
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` equal panels whose height follows the aspect of the plane."""
    wide = min(columns, count)
    rows = -(-count // wide)
    _, width, _, height = canvas.extent(shape, axis, spacing)
    aspect = float(np.clip(height / width, 0.3, 2.0))
    drawing = canvas.figure(_PANEL * wide + 0.6, (_PANEL * aspect + 0.5) * rows + 0.1)
    all_axes = list(drawing.subplots(rows, wide, squeeze=False).flat)
    for empty in all_axes[count:]:
        empty.remove()
    return drawing, all_axes[:count]


def _draw_rgb(
    axes: Axes,
    rgb: Float[np.ndarray, "nx ny nz 3"],
    known: Bool[np.ndarray, "nx ny nz"] | None,
    axis: int,
    index: int | None,
    spacing: tuple[float, float, float],
) -> None:
    image = np.asarray(canvas.plane(rgb, axis, index), dtype=float)
    bounds = canvas.extent(rgb.shape, axis, spacing)
    if known is not None:
        present = canvas.plane(known, axis, index)
        image = np.where(present[..., None], image, np.asarray(canvas.MISSING_GREY)[None, None, :])
        _hatch_missing(axes, present, bounds)
    canvas.show_plane(axes, np.clip(image, 0.0, 1.0), bounds)
    canvas.label_micrometres(axes, axis)


def _hatch_missing(
    axes: Axes, present: Bool[np.ndarray, "rows columns"], bounds: tuple[float, float, float, float]
) -> None:
    """Hatches runs of rows or columns without any data; scattered missing voxels stay plain grey."""
    _, right, _, top = bounds
    row, column = top / present.shape[0], right / present.shape[1]
    style: dict[str, Any] = {
        "facecolor": "none",
        "edgecolor": (0.5, 0.5, 0.5),
        "hatch": "////",
        "linewidth": 0.0,
        "zorder": 3,
    }
    for start, stop in _runs(~present.any(axis=1)):
        axes.add_patch(Rectangle((0.0, start * row), right, (stop - start) * row, **style))
    for start, stop in _runs(~present.any(axis=0)):
        axes.add_patch(Rectangle((start * column, 0.0), (stop - start) * column, top, **style))


def _runs(flags: Any) -> list[tuple[int, int]]:
    """Half-open ranges of consecutive True entries of a vector."""
    steps = np.diff(np.concatenate([[0], np.asarray(flags, dtype=int), [0]]))
    starts, stops = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    return [(int(a), int(b)) for a, b in zip(starts, stops, strict=True)]
