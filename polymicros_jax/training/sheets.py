"""Sample sheets: what a prior makes of nothing, beside real patches. A score per noise level does not show this."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from polymicros_jax.diffusion.sampler import sample
from polymicros_jax.diffusion.schedule import karras
from polymicros_jax.orientation import ipf, representation
from polymicros_jax.orientation.representation import Representation
from polymicros_jax.training.prior import Prior
from polymicros_jax.types import Key
from polymicros_jax.viz import canvas

STEPS = 32
"""Sampler steps of a draw: enough to look at. Statistics need 64 and more (`diffusion.sampler`)."""

_PANEL = 1.45  # inches


@functools.partial(jax.jit, static_argnames=("count", "size", "steps"))
def draws(key: Key, prior: Prior, *, count: int, size: int, steps: int = STEPS) -> Float[Array, "count s s s h"]:
    """Unconditional draws of a prior: cubes of side ``size``, which must be a multiple of the network's stride.

    Without fresh noise, which makes more of what a denoiser falls short of (docs/errata.md).
    """
    init = jnp.zeros((count, size, size, size, prior.network.channels))
    return sample(key, prior.denoiser(), init, karras(steps), churn=None)


def distance_to_orientations(fields: Float[np.ndarray, "n nx ny nz h"], kind: Representation) -> list[float]:
    """Mean distance of each field to the manifold of orientations, over the root mean square norm on the manifold.

    0 for a polycrystal; 0.67 for a Gaussian field of the same variance in GSH-4.
    """
    _, distance = kind.decode(jnp.asarray(fields))
    return [float(each) for each in np.mean(np.asarray(distance), axis=(1, 2, 3)) / kind.norm]


def sample_sheet(
    drawn: Float[np.ndarray, "n nx ny nz h"],
    real: Float[np.ndarray, "m nx ny nz h"],
    name: str,
    title: str = "",
) -> Figure:
    """The three middle planes of each draw, one draw a row, beside those of real patches.

    IPF colours (z) where the representation can be decoded; else the first three channels as red, green and blue.
    Above each draw stands its mean distance to the manifold of orientations, see `distance_to_orientations`.

    Args:
      drawn: draws of a prior, channels last.
      real: patches of the data.
      name: of the representation; channels of the user's own have no distance.
      title: heading.
    """
    kind = representation.get(name) if name in representation.names() else None
    rows = max(len(drawn), len(real))
    figure = canvas.figure(6 * _PANEL + 0.3, rows * (_PANEL + 0.25) + 0.45)
    halves = figure.subfigures(1, 2, wspace=0.04, squeeze=False)[0]
    for half, fields, heading in zip(halves, (drawn, real), ("drawn", "real patches"), strict=True):
        half.suptitle(heading, fontsize=9)
        panels = half.subplots(rows, 3, squeeze=False)
        far = None if kind is None else distance_to_orientations(fields, kind)
        for row, line in enumerate(panels):
            if row >= len(fields):
                for axes in line:
                    axes.remove()
                continue
            colours = _colours(fields[row], real, kind)
            for axis, axes in enumerate(line):
                image = canvas.plane(colours, axis)
                canvas.show_plane(axes, image, canvas.extent(colours.shape, axis, (1.0, 1.0, 1.0)))
                axes.set_xticks([])
                axes.set_yticks([])
                right, up = ("xyz"[each] for each in canvas.in_plane_axes(axis))
                axes.set_xlabel(f"{right}, {up} up", fontsize=6, labelpad=1)
            if far is not None:
                line[1].set_title(f"distance to orientations {far[row]:.3f}", fontsize=7)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def _colours(
    field: Float[np.ndarray, "nx ny nz h"], real: Float[np.ndarray, "m nx ny nz h"], kind: Representation | None
) -> Float[np.ndarray, "nx ny nz 3"]:
    if kind is not None and kind.invertible:
        return np.asarray(ipf.colours(kind.decode(jnp.asarray(field))[0], "z", kind.group))
    first = real[..., :3].reshape(-1, 3)
    low, high = first.min(axis=0).reshape(1, 1, 1, 3), first.max(axis=0).reshape(1, 1, 1, 3)
    return np.clip((field[..., :3] - low) / np.maximum(high - low, 1e-6), 0.0, 1.0)
