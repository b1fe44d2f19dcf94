"""The colour key of IPF pictures: the fundamental sector in stereographic projection, corners named."""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from polymicros_jax.orientation import ipf
from polymicros_jax.viz import canvas

_PIXELS = 400

_CORNERS = {
    "432": (("001", (0.0, 0.0, 1.0)), ("101", (1.0, 0.0, 1.0)), ("111", (1.0, 1.0, 1.0))),
    "622": (
        ("0001", (0.0, 0.0, 1.0)),
        (r"2\bar{1}\bar{1}0", (1.0, 0.0, 0.0)),
        (r"10\bar{1}0", (np.sqrt(3.0), 1.0, 0.0)),
    ),
}


def ipf_key(group: str = "432") -> Figure:
    """The colour key of `orientation.ipf` for one crystal symmetry.

    Raises:
        ValueError: there is no colour key for this group.

    >>> drawing = ipf_key("622")
    >>> len(drawing.axes)
    1
    """
    normals = ipf.sector(group).normals
    corners = {name: project(np.asarray(vector)[None])[0] for name, vector in _CORNERS[group]}
    places = np.stack(list(corners.values()))
    low, high = places.min(axis=0), places.max(axis=0)
    if group == "432":  # the side from 101 to 111 bulges beyond both corners
        high[0] = np.sqrt(2.0) - 1.0
    step = (high - low).max() / _PIXELS
    across, up = np.meshgrid(np.arange(low[0], high[0] + step, step), np.arange(low[1], high[1] + step, step))
    square = across**2 + up**2
    # Inverse of the stereographic projection from the south pole onto the equatorial plane.
    directions = np.stack([2 * across, 2 * up, 1 - square], axis=-1) / (1 + square)[..., None]
    inside = (np.einsum("rci,ni->rcn", directions, normals) >= -1e-9).all(axis=-1)
    rgb = np.asarray(ipf.direction_colours(directions.astype(np.float32), group))
    image = np.concatenate([rgb, inside[..., None]], axis=-1)
    drawing = canvas.figure(2.6, 2.2)
    axes = drawing.subplots()
    canvas.show_plane(axes, np.clip(image, 0, 1), (low[0], across[0, -1], low[1], up[-1, 0]))
    middle = places.mean(axis=0)
    for name, place in corners.items():
        outward = (place - middle) / np.linalg.norm(place - middle)
        spot = place + 0.10 * (high - low).max() * outward
        axes.text(spot[0], spot[1], f"$[{name}]$", ha="center", va="center", fontsize=9)
    reach = 0.20 * (high - low).max()
    axes.set_xlim(low[0] - reach, high[0] + reach)
    axes.set_ylim(low[1] - reach, high[1] + reach)
    axes.set_axis_off()
    return drawing


def project(directions: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 2"]:
    """Stereographic projection of directions of any length: the equator goes to the unit circle.

    >>> project(np.array([[0.0, 0.0, 2.0], [1.0, 0.0, 0.0], [1.0, 0.0, 1.0]])).round(3).tolist()  # tan(angle / 2)
    [[0.0, 0.0], [1.0, 0.0], [0.414, 0.0]]
    """
    unit = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    return unit[:, :2] / (1.0 + unit[:, 2:])
