"""Filling unindexed points by the vote of their neighbours, as the clean-up of EBSD software does."""

import numpy as np
from jaxtyping import Bool, Float, Int

from polymicros_jax.orientation import grains
from polymicros_jax.types import ArrayLike


def neighbour_vote(
    q: Float[ArrayLike, "nx ny nz 4"],
    known: Bool[ArrayLike, "nx ny nz"],
    group: str = "432",
    threshold: float = float(np.deg2rad(5.0)),
) -> Float[np.ndarray, "nx ny nz 4"]:
    """Grows the known grains into the gaps, layer by layer: a point joins the grain most of its six neighbours are in.

    It takes the orientation of one of them; of grains with equally many neighbours that of the lowest number. Points no
    grain reaches keep what they had.

    Raises:
        ValueError: nothing is known.

    >>> q = np.zeros((4, 1, 1, 4))
    >>> q[:2, ..., 0], q[2:, ..., 0], q[2:, ..., 1] = 1.0, np.cos(0.3), np.sin(0.3)
    >>> known = np.array([True, False, True, True]).reshape(4, 1, 1)
    >>> neighbour_vote(q, known)[1, 0, 0].round(3).tolist()  # one neighbour each: the grain of the lower number
    [1.0, 0.0, 0.0, 0.0]
    """
    mask = np.asarray(known)
    if not mask.any():
        raise ValueError("known: no voxel is True; at least one known voxel is needed to fill the others from")
    labels = grains.segment(q, threshold, group, mask=mask)
    source = np.where(mask, np.arange(mask.size).reshape(mask.shape), -1)
    while True:
        empty = np.argwhere(labels < 0)
        near, origin = _neighbours(labels, source, empty)
        votes = (near[:, :, None] == near[:, None, :]).sum(axis=2) * (near >= 0)
        # The most votes first, the lowest grain number among equals.
        best = np.lexsort((np.where(near >= 0, near, np.iinfo(near.dtype).max), -votes), axis=1)[:, 0]
        rows = np.arange(len(empty))
        reached = votes[rows, best] > 0
        if not reached.any():
            return np.asarray(q).reshape(-1, 4)[np.where(source >= 0, source, np.arange(mask.size).reshape(mask.shape))]
        at = tuple(empty[reached].T)
        labels[at], source[at] = near[rows, best][reached], origin[rows, best][reached]


def _neighbours(
    labels: Int[np.ndarray, "nx ny nz"], source: Int[np.ndarray, "nx ny nz"], places: Int[np.ndarray, "n 3"]
) -> tuple[Int[np.ndarray, "n 6"], Int[np.ndarray, "n 6"]]:
    """Grain and source of the six neighbours of some voxels, -1 beyond the faces of the volume."""
    wide = [np.pad(each, 1, constant_values=-1) for each in (labels, source)]
    steps = np.concatenate([np.eye(3, dtype=int), -np.eye(3, dtype=int)])
    at = tuple(np.moveaxis(places[:, None] + 1 + steps[None], -1, 0))
    return wide[0][at], wide[1][at]
