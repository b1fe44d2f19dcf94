"""Figures without global state: creation, axes in micrometres, atomic saving.

Everything here draws on `matplotlib.figure.Figure` objects with the Agg renderer. `pyplot` is never imported, so a
figure belongs to whoever holds it and is freed with it.
"""

import base64
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from polymicros_jax.data.atomic import replacing

ERROR_MAP = "cividis"
"""Sequential colours for errors and spreads: lightness rises with the value, no red against green."""

SIGNED_MAP = "PuOr"
"""Diverging colours for correlations and differences: orange and purple stay apart in every common colour blindness."""

MISSING_GREY = (0.80, 0.80, 0.80)
"""Where nothing was measured. Lies on no IPF key, whose colours all have one channel at 1."""

DPI = 130
"""Sharp on a phone at full width, still under half a megabyte a figure."""

AXES = "xyz"


class _Shown(Figure):
    """A figure that a notebook shows by itself, without `pyplot` or a magic command."""

    def _repr_png_(self) -> bytes:
        return to_png(self)


def figure(width: float, height: float) -> Figure:
    """An empty figure of `width` x `height` inches with the Agg canvas; its parts are laid out without overlap.

    It shows itself as the last value of a notebook cell.

    >>> drawing = figure(4.0, 2.0)
    >>> drawing.get_size_inches().tolist(), len(drawing.axes)
    ([4.0, 2.0], 0)
    """
    canvas = FigureCanvasAgg(_Shown(figsize=(width, height), dpi=DPI, layout="constrained"))
    return canvas.figure


def plane(
    volume: Shaped[np.ndarray, "nx ny nz ..."], axis: int, index: int | None = None
) -> Shaped[np.ndarray, "rows columns ..."]:
    """One plane of a volume as an image whose rows go up.

    Args:
        volume: Voxel values, spatial axes first.
        axis: Normal of the plane: 0, 1 or 2.
        index: Position along the normal; the middle plane by default.

    Returns:
        Image with the later of the two remaining axes upwards and the earlier to the right: (y up, x right) for
        `axis` 2, (z up, x right) for 1, (z up, y right) for 0.

    Raises:
        ValueError: `axis` is not 0, 1 or 2, or `index` lies outside the volume.

    >>> image = plane(np.arange(24).reshape(4, 3, 2), axis=2, index=0)
    >>> image.shape, image[0].tolist()  # x to the right, y up
    ((3, 4), [0, 6, 12, 18])
    """
    in_plane_axes(axis)
    size = volume.shape[axis]
    position = size // 2 if index is None else index
    if not 0 <= position < size:
        raise ValueError(f"index along {AXES[axis]}: got {position}, the volume has {size} planes there")
    return np.swapaxes(np.take(volume, position, axis=axis), 0, 1)


def in_plane_axes(axis: int) -> tuple[int, int]:
    """The axes to the right and upwards in a plane normal to `axis`.

    Raises:
        ValueError: `axis` is not 0, 1 or 2.

    >>> [in_plane_axes(axis) for axis in range(3)]
    [(1, 2), (0, 2), (0, 1)]
    """
    if axis not in (0, 1, 2):
        raise ValueError(f"axis: got {axis}, accepted are 0, 1 and 2 for x, y and z")
    right, up = (a for a in range(3) if a != axis)
    return right, up


def extent(shape: tuple[int, ...], axis: int, spacing: tuple[float, float, float]) -> tuple[float, float, float, float]:
    """Edges (left, right, bottom, top) in micrometres of a plane of a volume of `shape`.

    >>> extent((10, 20, 30), 2, (0.5, 0.5, 1.0))
    (0.0, 5.0, 0.0, 10.0)
    """
    right, up = in_plane_axes(axis)
    return 0.0, shape[right] * spacing[right], 0.0, shape[up] * spacing[up]


def label_micrometres(axes: Axes, axis: int) -> None:
    """Names the axes of a plane normal to `axis`, in micrometres.

    In a plane normal to z, a map, y is turned to run downwards, as the microscope shows it (docs/conventions.md).

    >>> axes = figure(2.0, 2.0).subplots()
    >>> label_micrometres(axes, 1)
    >>> axes.get_xlabel(), axes.get_ylabel()
    ('x (µm)', 'z (µm)')
    """
    right, up = in_plane_axes(axis)
    if axis == 2:
        bottom, top = sorted(axes.get_ylim(), reverse=True)
        axes.set_ylim(bottom, top)
    axes.set_xlabel(f"{AXES[right]} (µm)", fontsize=8)
    axes.set_ylabel(f"{AXES[up]} (µm)", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.locator_params(nbins=4)


def show_plane(
    axes: Axes, image: Shaped[np.ndarray, "rows columns ..."], bounds: tuple[float, ...], **kwargs: Any
) -> Any:
    """Draws an image whose rows go up, one voxel one rectangle without blending, true to scale.

    >>> axes = figure(2.0, 2.0).subplots()
    >>> shown = show_plane(axes, np.eye(4), (0.0, 2.0, 0.0, 2.0))
    >>> shown.get_extent()
    [0.0, 2.0, 0.0, 2.0]
    """
    return axes.imshow(
        image, origin="lower", extent=(bounds[0], bounds[1], bounds[2], bounds[3]), interpolation="nearest", **kwargs
    )


def colour_scale(low: float, high: float, name: str) -> ScalarMappable:
    """A colour scale without an image, for the bar beside pictures that are coloured already.

    >>> float(colour_scale(0.0, 10.0, ERROR_MAP).norm(5.0))
    0.5
    """
    return ScalarMappable(norm=Normalize(low, high), cmap=name)


def pixels(drawing: Figure) -> Shaped[np.ndarray, "rows columns 4"]:
    """The rendered figure as RGBA bytes, first row on top.

    >>> pixels(figure(2.0, 1.0)).shape  # 130 dots an inch
    (130, 260, 4)
    """
    canvas = FigureCanvasAgg(drawing)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).copy()


def to_png(drawing: Figure) -> bytes:
    """The figure as PNG. Holds no time and no version, so the same figure gives the same bytes.

    >>> to_png(figure(1.0, 1.0))[1:4], to_png(figure(1.0, 1.0)) == to_png(figure(1.0, 1.0))
    (b'PNG', True)
    """
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def to_data_uri(drawing: Figure) -> str:
    """The figure as a `data:` address, to stand inside an HTML page.

    >>> to_data_uri(figure(1.0, 1.0))[:26]
    'data:image/png;base64,iVBO'
    """
    return "data:image/png;base64," + base64.b64encode(to_png(drawing)).decode("ascii")


def save(drawing: Figure, path: str | os.PathLike[str]) -> Path:
    """Writes a figure as PNG; the file appears whole or not at all.

    >>> save(figure(1.0, 1.0), "empty.png").name
    'empty.png'
    >>> save(figure(1.0, 1.0), "empty.jpg")
    Traceback (most recent call last):
        ...
    ValueError: empty.jpg: figures are written as .png, got the ending '.jpg'
    """
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise ValueError(f"{target}: figures are written as .png, got the ending {target.suffix!r}")
    with replacing(target) as temporary:
        temporary.write_bytes(to_png(drawing))
    return target
