"""Local structure of a polycrystal as distributions: what a local model must reproduce of its source."""

import numpy as np
from jaxtyping import Float
from scipy.stats import wasserstein_distance

from polymicros_jax.orientation import grains
from polymicros_jax.spectral.descriptors import chord_length_counts

MINIMUM_GRAIN = 8
"""Voxels below which a segment is noise, not a grain."""

WINDOW = 4
"""Faces along a line over which the sharpness of a boundary is judged."""

LEAST_CHANGE = 0.5
"""Change along the window, in units of the norm of the representation, from which on there is a boundary in it: about
20 degrees for GSH-4."""


def distributions(
    q: Float[np.ndarray, "nx ny nz 4"],
    field: Float[np.ndarray, "nx ny nz h"],
    norm: float,
    *,
    group: str,
    periodic: bool,
) -> dict[str, Float[np.ndarray, " _"]]:
    """Samples of the four distributions of a volume.

    Args:
      q: orientations.
      field: the channels they were decoded from, or encode to.
      norm: of the channels of any one orientation.
      group: crystal symmetry.
      periodic: whether opposite sides touch. Otherwise grains and chords that the sides cut are counted (grains) or
        left out (chords), which makes a cropped volume look a little finer than it is.

    Returns:
      ``diameter``: of grains of at least `MINIMUM_GRAIN` voxels, as the sphere of equal volume, in voxels; ``chord``:
      lengths of grains along the three axes, in voxels; ``disorientation``: across boundary faces, in degrees;
      ``sharpness``: see `sharpness`. Empty where a volume has none.

    >>> angle = np.repeat([0.0, 0.3], 4).reshape(8, 1, 1) * np.ones((8, 8, 8))  # two slabs, 0.6 rad apart
    >>> q = np.stack([np.cos(angle), np.sin(angle), 0 * angle, 0 * angle], axis=-1)
    >>> found = distributions(q, q, 1.0, group="432", periodic=False)
    >>> {name: round(float(np.median(found[name])), 2) for name in ("diameter", "disorientation")}
    {'diameter': 7.88, 'disorientation': 34.38}
    """
    labels = grains.segment(q, group=group, periodic=periodic, minimum_size=MINIMUM_GRAIN)
    counts = [chord_length_counts(labels, axis, periodic=periodic, mask=labels >= 0) for axis in range(3)]
    angles = grains.boundary_disorientations(q, labels, group, periodic=periodic)
    return {
        "diameter": grains.equivalent_diameters(labels).astype(float),
        "chord": np.concatenate([np.repeat(np.arange(len(each)), each) for each in counts]).astype(float),
        "disorientation": np.degrees(angles).astype(float),
        "sharpness": sharpness(field, norm, periodic=periodic),
    }


def sharpness(field: Float[np.ndarray, "nx ny nz h"], norm: float, *, periodic: bool) -> Float[np.ndarray, " _"]:
    """How much of the change across a boundary happens on a single face.

    Along every line of voxels and in every window of `WINDOW` faces: the largest change on a face over the sum of the
    changes. 1 is a boundary between two voxels, ``1 / WINDOW`` a ramp as long as the window. Windows with less change
    than `LEAST_CHANGE` have no boundary in them and are left out.

    >>> step = np.repeat([0.0, 1.0], 8).reshape(16, 1, 1, 1) * np.ones((16, 16, 16, 1))
    >>> float(sharpness(step, 1.0, periodic=False).min())  # the whole change on one face
    1.0
    """
    found = []
    for axis in range(3):
        lines = np.moveaxis(np.asarray(field, np.float32), axis, 0)
        if periodic:
            lines = np.concatenate([lines, lines[:WINDOW]])
        if len(lines) <= WINDOW:
            continue
        change = np.linalg.norm(np.diff(lines, axis=0), axis=-1)
        windows = np.lib.stride_tricks.sliding_window_view(change, WINDOW, axis=0)
        total = windows.sum(-1)
        found.append((windows.max(-1) / np.maximum(total, 1e-12))[total >= LEAST_CHANGE * norm])
    return np.concatenate(found).astype(float) if found else np.zeros(0)


def compare(
    sample: dict[str, Float[np.ndarray, " _"]], source: dict[str, Float[np.ndarray, " _"]]
) -> dict[str, float | None]:
    """Median of each distribution, and its distance from the source's.

    Returns:
      ``NAME_median``, and ``NAME_distance``: the Wasserstein distance in units of the source's standard deviation (of
      1 where that is zero). None where a distribution is empty.

    >>> small, large = ({"diameter": np.array([1.0, 2.0, 3.0]) * scale} for scale in (1, 2))
    >>> {name: round(value, 2) for name, value in compare(small, large).items()}
    {'diameter_median': 2.0, 'diameter_distance': 1.22}
    """
    row: dict[str, float | None] = {}
    for name, values in sample.items():
        there = source[name]
        row[f"{name}_median"] = float(np.median(values)) if len(values) else None
        scale = float(np.std(there)) if len(there) else 0.0
        row[f"{name}_distance"] = (
            float(wasserstein_distance(values, there)) / (scale or 1.0) if len(values) and len(there) else None
        )
    return row
