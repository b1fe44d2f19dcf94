"""A volume as a cube of which three faces show, in isometric projection.

Each face is an image under an affine map: exact colours, no seams, no 3D engine.
"""

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Affine2D

from polymicros_jax.viz import canvas

# Columns: where the unit vectors x, y, z go on the page (right, up). The viewer looks from (+x, -y, +z), so that
# x runs right and down, y right and up, z up, and the faces x = end, y = start, z = end are the visible ones.
_PROJECTION = np.array([[1 / np.sqrt(2), 1 / np.sqrt(2), 0.0], [-1 / np.sqrt(6), 1 / np.sqrt(6), 2 / np.sqrt(6)]])


def cube(
    rgb: Float[np.ndarray, "nx ny nz 3"],
    *,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    known: Bool[np.ndarray, "nx ny nz"] | None = None,
    title: str = "",
) -> Figure:
    """One coloured volume as a cube with its edge lengths in micrometres.

    Args:
        rgb: Colours in [0, 1].
        spacing: Voxel size along x, y, z in micrometres.
        known: True where there is data; the rest is grey.
        title: Heading.

    >>> drawing = cube(np.ones((4, 4, 8, 3)), spacing=(0.5, 0.5, 0.5), title="a column")
    >>> [text.get_text() for text in drawing.axes[0].texts]
    ['x 2 µm', 'y 2 µm', 'z 4 µm']
    """
    return cubes({title: rgb}, spacing=spacing, known={title: known} if known is not None else None)


def cubes(
    volumes: dict[str, Float[np.ndarray, "nx ny nz 3"]],
    *,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    known: dict[str, Bool[np.ndarray, "nx ny nz"]] | None = None,
    columns: int = 3,
    unit: str = "µm",
) -> Figure:
    """Several coloured volumes as cubes side by side.

    Args:
        volumes: Title to colours in [0, 1]; grids may differ.
        spacing: Voxel size along x, y, z in `unit`, the same for all.
        known: Title to mask of the voxels that hold data, for those volumes that have gaps.
        columns: Cubes abreast.
        unit: Of the edge lengths that are written.

    Raises:
        ValueError: No volumes.

    >>> drawing = cubes({"a": np.ones((4, 4, 4, 3)), "b": np.zeros((4, 4, 4, 3))})
    >>> [axes.get_title() for axes in drawing.axes]
    ['a', 'b']
    """
    if not volumes:
        raise ValueError("volumes: got none, at least one is needed")
    wide = min(columns, len(volumes))
    rows = -(-len(volumes) // wide)
    drawing = canvas.figure(2.6 * wide, 2.8 * rows)
    all_axes = list(drawing.subplots(rows, wide, squeeze=False).flat)
    for axes in all_axes[len(volumes) :]:
        axes.remove()
    for axes, (title, rgb) in zip(all_axes, volumes.items(), strict=False):
        mask = None if known is None else known.get(title)
        draw_cube(axes, rgb if mask is None else grey_out(rgb, mask), spacing, unit)
        if title:
            axes.set_title(title, fontsize=9)
    return drawing


def grey_out(
    rgb: Float[np.ndarray, "nx ny nz 3"], known: Bool[np.ndarray, "nx ny nz"]
) -> Float[np.ndarray, "nx ny nz 3"]:
    """Colours with the grey of missing data wherever `known` is False.

    >>> known = np.array([True, False]).reshape(2, 1, 1)
    >>> grey_out(np.zeros((2, 1, 1, 3)), known)[:, 0, 0, 0].tolist()
    [0.0, 0.8]
    """
    return np.where(known[..., None], rgb, np.asarray(canvas.MISSING_GREY, dtype=rgb.dtype)[None, None, None, :])


def draw_cube(
    axes: Axes, rgb: Float[np.ndarray, "nx ny nz 3"], spacing: tuple[float, float, float], unit: str = "µm"
) -> None:
    """Draws the three visible faces, the edges and their lengths into `axes`.

    >>> axes = canvas.figure(2.0, 2.0).subplots()
    >>> draw_cube(axes, np.ones((2, 2, 2, 3)), (1.0, 1.0, 1.0), unit="voxels")
    >>> [text.get_text() for text in axes.texts]
    ['x 2 voxels', 'y 2 voxels', 'z 2 voxels']
    """
    size = np.asarray(rgb.shape[:3]) * np.asarray(spacing)
    x, y, z = np.diag(size)
    origin = np.zeros(3)
    # Face: image (rows along the second vector), corner, the two vectors spanning it.
    faces = [
        (np.swapaxes(rgb[-1], 0, 1), x, y, z),
        (np.swapaxes(rgb[:, 0], 0, 1), origin, x, z),
        (np.swapaxes(rgb[:, :, -1], 0, 1), z, x, y),
    ]
    axes.set_aspect("equal")
    axes.set_axis_off()
    for image, corner, along_columns, along_rows in faces:
        columns, rows = _PROJECTION @ along_columns, _PROJECTION @ along_rows
        shift = _PROJECTION @ corner
        to_page = Affine2D(
            np.array([[columns[0], rows[0], shift[0]], [columns[1], rows[1], shift[1]], [0.0, 0.0, 1.0]])
        )
        drawn = axes.imshow(
            np.clip(image, 0.0, 1.0),
            origin="lower",
            extent=(0.0, 1.0, 0.0, 1.0),
            interpolation="nearest",
            aspect="equal",
        )
        drawn.set_transform(to_page + axes.transData)
        outline = np.stack(
            [corner, corner + along_columns, corner + along_columns + along_rows, corner + along_rows, corner]
        )
        page = outline @ _PROJECTION.T
        axes.plot(page[:, 0], page[:, 1], color="black", linewidth=0.7, solid_joinstyle="round")
    _label_edges(axes, size, unit)
    corners = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)]) * size[None, :] @ _PROJECTION.T
    low, high = corners.min(axis=0), corners.max(axis=0)
    margin = 0.10 * (high - low)
    axes.set_xlim(low[0] - margin[0], high[0] + margin[0])
    axes.set_ylim(low[1] - margin[1], high[1] + margin[1])


def _label_edges(axes: Axes, size: Float[np.ndarray, "3"], unit: str) -> None:
    """Writes name and length at the three lower outer edges."""
    x, y, z = np.diag(size)
    reach = 0.07 * float(size.max())
    for middle, offset, text in (
        (x / 2, (-0.6, -0.8), f"x {size[0]:.4g} {unit}"),
        (x + y / 2, (0.6, -0.8), f"y {size[1]:.4g} {unit}"),
        (z / 2, (-1.0, 0.0), f"z {size[2]:.4g} {unit}"),
    ):
        place = _PROJECTION @ middle + reach * np.asarray(offset)
        angle = {"x": -30.0, "y": 30.0, "z": 90.0}[text[0]]
        axes.text(place[0], place[1], text, ha="center", va="center", rotation=angle, fontsize=7)
