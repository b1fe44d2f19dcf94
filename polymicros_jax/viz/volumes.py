"""Orientations to a picture in one call: IPF-coloured planes through a volume or a map."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool
from matplotlib.figure import Figure

from polymicros_jax.data.export.paraview import COLOURED, ipf_colours
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.types import ArrayLike
from polymicros_jax.viz import slices


def plot(
    volume: OrientationVolume | ArrayLike,
    *,
    direction: str | tuple[float | int, float | int, float | int] = "z",
    known: Bool[ArrayLike, "nx ny nz"] | None = None,
    spacing: Sequence[float] | None = None,
    group: str | None = None,
    indices: tuple[int | None, int | None, int | None] = (None, None, None),
    title: str = "",
) -> Figure:
    """The planes normal to x, y and z in IPF colours; one plane of a map.

    Unobserved voxels are grey, whole missing rows hatched; a phase that has no colour key beside one that has is black.
    Nothing global is touched: the figure is the caller's, shows itself in a notebook, and `viz.canvas.save` writes it.

    Args:
        volume: a volume, or unit quaternions `(nx, ny, nz, 4)` (a map has `nz = 1`), Bunge passive.
        direction: sample direction that is coloured: "x", "y", "z" or any vector.
        known: `(nx, ny, nz)`, False where the voxel shall be grey; by default the mask of the volume.
        spacing: voxel size along x, y, z in micrometres; by default the volume's, 1 for quaternions.
        group: symmetry of quaternions, "432" (the default) or "622"; a volume has its own.
        indices: plane numbers along x, y, z; the middle ones by default.
        title: heading of the figure.

    Returns:
        A matplotlib figure of one panel for each plane.

    Raises:
        ValueError: quaternions or `known` of another shape, a `group` for a volume, an unknown direction, a group
            without a colour key, an index outside the volume.
        DataError: quaternions that are not unit, or an unknown group.

    >>> from polymicros_jax.data.samples import load
    >>> figure = plot(load("in100").crop((0, 0, 0), (8, 8, 8)), direction="x")
    >>> [axes.get_title() for axes in figure.axes]
    ['x = 1.125 µm', 'y = 1.125 µm', 'z = 1.125 µm']
    """
    shown = _as_volume(volume, group)
    seen = shown.mask if known is None else np.asarray(known)
    if seen.shape != shown.shape:
        raise ValueError(f"known: found shape {seen.shape}, accepted is {shown.shape}, that of the volume")
    groups = {shown.symmetry} if isinstance(shown.symmetry, str) else set(shown.symmetry)
    if not groups & set(COLOURED):
        raise ValueError(f"group: found {', '.join(sorted(groups))}; colour keys exist for {', '.join(COLOURED)}")
    x, y, z = shown.spacing if spacing is None else spacing
    rgb = ipf_colours(shown, direction) / 255.0
    if shown.shape[2] == 1:
        panel = slices.Panel(title, rgb, seen)
        return slices.comparison([panel], axis=2, index=indices[2], spacing=(x, y, z))
    return slices.orthogonal(rgb, spacing=(x, y, z), known=seen, indices=indices, title=title)


def _as_volume(volume: OrientationVolume | ArrayLike, group: str | None) -> OrientationVolume:
    if isinstance(volume, OrientationVolume):
        if group is not None:
            raise ValueError(f"group: found {group!r} beside a volume, which has its own: {volume.symmetry}")
        return volume
    q = np.asarray(volume)
    if q.ndim != 4 or q.shape[-1] != 4:
        raise ValueError(f"volume: found shape {q.shape}, accepted are quaternions (nx, ny, nz, 4)")
    grid = q.shape[:3]
    return OrientationVolume(q, np.ones(grid, int), np.ones(grid, bool), (1.0, 1.0, 1.0), group or "432")
