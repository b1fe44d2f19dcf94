"""Pole figures: where a family of crystal directions points in the sample, as multiples of a uniform texture.

Directions come from `orientation.texture.pole_directions`. Densities here are smoothed histograms, made for pictures
of millions of poles; `orientation.texture.pole_figure` evaluates a kernel exactly at chosen directions.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy import ndimage

from polymicros_jax.types import ArrayLike
from polymicros_jax.viz import canvas

_BINS = 181


def equal_area(directions: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 2"]:
    """Lambert's equal-area projection of axes (a direction and its opposite are one) onto the unit disc.

    >>> equal_area(np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [np.sqrt(0.75), 0.0, 0.5]])).round(3).tolist()
    [[0.0, 0.0], [1.0, 0.0], [0.707, 0.0]]
    """
    up = np.where(directions[:, 2:] < 0, -directions, directions)
    return up[:, :2] / np.sqrt(1.0 + up[:, 2:])


def density(directions: Float[np.ndarray, "n 3"], *, halfwidth_deg: float = 5.0) -> Float[np.ndarray, "rows columns"]:
    """Pole density over the unit disc in multiples of uniform, NaN outside. Rows run up (Y), columns right (X).

    Bins have equal area, so a uniform texture is 1 everywhere. Smoothed by a Gaussian of standard deviation
    `halfwidth_deg` (exact in the middle of the disc; the projection stretches it near the rim), normalised by its part
    inside the disc.

    >>> v = np.random.default_rng(0).normal(size=(200_000, 3))
    >>> found = density(v / np.linalg.norm(v, axis=1, keepdims=True))
    >>> round(float(np.nanmean(found)), 1)  # uniform
    1.0
    """
    points = equal_area(directions)
    counts, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins=_BINS, range=[[-1, 1], [-1, 1]])
    centre = (np.arange(_BINS) + 0.5) * 2 / _BINS - 1
    disc = centre[:, None] ** 2 + centre[None, :] ** 2 <= 1.0
    # In the projection r = sqrt2 sin(angle/2): one radian is 1/sqrt2 of the radius in the middle.
    sigma = np.deg2rad(halfwidth_deg) / np.sqrt(2) * _BINS / 2
    inside = ndimage.gaussian_filter(disc.astype(float), sigma, mode="constant")
    # Bins cut by the rim hold points whose centre lies outside; they are smoothed in, and only `disc` is shown.
    smooth = ndimage.gaussian_filter(counts, sigma, mode="constant")
    expected = len(directions) / (np.pi / 4 * _BINS**2)
    return np.where(disc, smooth / np.where(disc, inside, 1.0) / expected, np.nan)


def pole_figures(
    poles: Mapping[str, Float[ArrayLike, "..."]],
    *,
    halfwidth_deg: float = 5.0,
    limit: float | None = None,
    title: str = "",
) -> Figure:
    """Equal-area pole figures side by side on one scale of multiples of random (m.r.d.), X to the right, Y up.

    Args:
        poles: Name to sample directions (..., 3).
        halfwidth_deg: Smoothing.
        limit: Top of the scale; the largest density shown by default.
        title: Heading.

    Raises:
        ValueError: no poles.

    >>> v = np.random.default_rng(0).normal(size=(1000, 3))
    >>> drawing = pole_figures({"100": v / np.linalg.norm(v, axis=1, keepdims=True)})
    >>> drawing.axes[0].get_title()
    '100'
    """
    if not poles:
        raise ValueError("poles: got none, at least one is needed")
    maps = {
        name: density(np.asarray(directions).reshape(-1, 3), halfwidth_deg=halfwidth_deg)
        for name, directions in poles.items()
    }
    top = limit if limit is not None else max(float(np.nanmax(values)) for values in maps.values())
    drawing = canvas.figure(2.3 * len(maps) + 0.9, 2.6)
    all_axes = drawing.subplots(1, len(maps), squeeze=False)[0]
    angle = np.linspace(0, 2 * np.pi, 181)
    for axes, (name, values) in zip(all_axes, maps.items(), strict=True):
        canvas.show_plane(
            axes, np.ma.masked_invalid(values), (-1.0, 1.0, -1.0, 1.0), cmap=canvas.ERROR_MAP, vmin=0, vmax=top
        )
        axes.plot(np.cos(angle), np.sin(angle), color="black", linewidth=0.8)
        axes.text(1.06, 0, "X", ha="left", va="center", fontsize=8)
        axes.text(0, 1.04, "Y", ha="center", va="bottom", fontsize=8)
        axes.set_xlim(-1.15, 1.2)
        axes.set_ylim(-1.1, 1.2)
        axes.set_axis_off()
        axes.set_title(name, fontsize=9)
    bar = drawing.colorbar(canvas.colour_scale(0.0, top, canvas.ERROR_MAP), ax=all_axes.tolist(), shrink=0.8, aspect=25)
    bar.set_label("m.r.d.", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    if title:
        drawing.suptitle(title, fontsize=11)
    return drawing
