"""Classical interpolation of missing voxels: the baselines every reconstruction is shown beside.

Host-side (NumPy, SciPy). Each function takes the values and `known`, True where a voxel is measured, and returns a copy
in which known voxels are untouched and all others are filled. Nothing reads the values of unknown voxels.
"""

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy import sparse
from scipy.sparse.linalg import cg

from polymicros_jax.orientation import embedding
from polymicros_jax.orientation.matching import align
from polymicros_jax.orientation.quaternion import disorientation
from polymicros_jax.orientation.sections import missing_axis, nearest_known, require_axis
from polymicros_jax.orientation.shape_interpolation import shape_based
from polymicros_jax.types import ArrayLike

__all__ = ["harmonic", "linear", "linear_orientations", "missing_axis", "nearest_known", "shape_based", "spherical"]


def linear(
    field: Float[ArrayLike, "nx ny nz h"], known: Bool[ArrayLike, "nx ny nz"]
) -> Float[np.ndarray, "nx ny nz h"]:
    """Linear interpolation of channels between the two neighbouring known sections; a harmonic fill for other masks.

    Beyond the first and the last section the nearest one is copied. A column with no known voxel at all (unindexed
    points) takes its nearest known voxel.

    Raises:
        ValueError: nothing is known, or nothing is missing.

    >>> known = np.array([True, False, False, False, True, False]).reshape(1, 1, 6)
    >>> linear(np.arange(6.0).reshape(1, 1, 6, 1) ** 2, known).ravel().tolist()
    [0.0, 4.0, 8.0, 12.0, 16.0, 16.0]
    """
    mask = np.asarray(known)
    axis = missing_axis(mask)
    if axis is None:
        return harmonic(field, mask)
    field = _floating(field)
    filled = np.array(nearest_known(field, mask))
    lower, upper, weight = _brackets(mask, axis)
    inside = (lower >= 0) & (upper < mask.shape[axis]) & ~mask
    before, after = _gather(field, lower, axis, inside), _gather(field, upper, axis, inside)
    share = weight[inside][:, None].astype(before.dtype)
    filled[inside] = (1 - share) * before + share * after
    return filled


def linear_orientations(
    q: Float[ArrayLike, "nx ny nz 4"], known: Bool[ArrayLike, "nx ny nz"], group: str = "432"
) -> Float[np.ndarray, "nx ny nz 4"]:
    """`linear` on the embedding of orientations, decoded to the nearest orientation; known voxels keep theirs.

    >>> q = np.zeros((1, 1, 3, 4))
    >>> q[0, 0, :, 0], q[0, 0, :, 3] = np.cos([0.0, 0.0, 0.1]), np.sin([0.0, 0.0, 0.1])
    >>> filled = linear_orientations(q, np.array([True, False, True]).reshape(1, 1, 3))
    >>> (2 * np.arctan2(filled[0, 0, :, 3], filled[0, 0, :, 0])).round(3).tolist()  # half-way between 0 and 0.2 rad
    [0.0, 0.1, 0.2]
    """
    field = np.asarray(embedding.encode(q, group=group))
    decoded, _ = embedding.decode(linear(field, known), group=group)
    return np.where(np.asarray(known)[..., None], np.asarray(q), np.asarray(decoded))


def spherical(
    q: Float[ArrayLike, "nx ny nz 4"],
    known: Bool[ArrayLike, "nx ny nz"],
    group: str = "432",
    threshold: float = np.deg2rad(5.0),
) -> Float[np.ndarray, "nx ny nz 4"]:
    """Great-circle interpolation along each column between sections that show the same grain there, else the nearest.

    Two voxels show the same grain when their disorientation is below `threshold` radians.

    Raises:
        ValueError: no axis along which whole sections are missing.

    >>> q = np.zeros((1, 2, 3, 4))
    >>> angle = np.array([[0.0, 0.0, 0.04], [0.0, 0.0, 0.4]])  # the same grain, another grain
    >>> q[0, ..., 0], q[0, ..., 3] = np.cos(angle / 2), np.sin(angle / 2)
    >>> filled = spherical(q, np.array([[[True, False, True]] * 2]))
    >>> (2 * np.arctan2(filled[0, ..., 3], filled[0, ..., 0])).round(3).tolist()
    [[0.0, 0.02, 0.04], [0.0, 0.0, 0.4]]
    """
    mask = np.asarray(known)
    axis = require_axis(mask, "spherical")
    filled = nearest_known(q, mask)
    lower, upper, weight = _brackets(mask, axis)
    inside = (lower >= 0) & (upper < mask.shape[axis]) & ~mask
    before, after = _gather(q, lower, axis, inside), _gather(q, upper, axis, inside)
    same = np.asarray(disorientation(before, after, group)) < threshold
    start = np.asarray(before[same], dtype=np.float64)
    stop = align(after[same], start, group)
    angle = np.arccos(np.clip(np.sum(start * stop, axis=-1, keepdims=True), -1.0, 1.0))
    share = weight[inside][same][:, None]
    small = angle < 1e-6  # sin(t a)/sin(a) tends to t; the error there is below a^2/6
    sine = np.where(small, 1.0, np.sin(angle))
    mixed = np.where(small, 1 - share, np.sin((1 - share) * angle) / sine) * start
    mixed = mixed + np.where(small, share, np.sin(share * angle) / sine) * stop
    columns = filled[inside]
    columns[same] = (mixed / np.linalg.norm(mixed, axis=-1, keepdims=True)).astype(columns.dtype)
    filled[inside] = columns
    return filled


def harmonic(
    field: Float[ArrayLike, "nx ny nz h"], known: Bool[ArrayLike, "nx ny nz"], tolerance: float = 1e-4
) -> Float[np.ndarray, "nx ny nz h"]:
    """Fills gaps of any shape by the discrete Laplace equation, channel by channel.

    Known voxels are fixed and nothing flows through the faces of the volume. Solved by conjugate gradients from the
    nearest-voxel fill to the relative residual `tolerance`.

    Raises:
        ValueError: nothing is known, or nothing is missing.
        RuntimeError: a channel did not converge.

    >>> known = np.array([True, False, False, True]).reshape(4, 1, 1)
    >>> harmonic(np.array([0.0, np.nan, np.nan, 3.0]).reshape(4, 1, 1, 1), known).ravel().round(3).tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    mask = np.asarray(known)
    filled = np.array(nearest_known(_floating(field), mask))
    unknown = np.full(mask.shape, -1, dtype=np.int64)
    unknown[~mask] = np.arange(int((~mask).sum()))
    matrix, sources = _laplacian(mask, unknown)
    flat = filled.reshape(-1, filled.shape[-1])
    rows, columns = sources
    for channel in range(flat.shape[1]):
        right = np.bincount(rows, weights=flat[columns, channel], minlength=matrix.shape[0])
        start = flat[~mask.ravel(), channel].astype(np.float64)
        solution, failed = cg(matrix, right, x0=start, rtol=tolerance, atol=1e-12)
        if failed:
            raise RuntimeError(f"harmonic: channel {channel} did not converge in {failed} iterations")
        flat[~mask.ravel(), channel] = solution
    return flat.reshape(filled.shape)


def _floating(field: ArrayLike) -> np.ndarray:
    """The values as floating-point numbers: between integers lie none."""
    values = np.asarray(field)
    return values.astype(np.result_type(values.dtype, np.float32))


def _laplacian(
    mask: Bool[np.ndarray, "nx ny nz"], unknown: Int[np.ndarray, "nx ny nz"]
) -> tuple[sparse.csr_matrix, tuple[np.ndarray, np.ndarray]]:
    """Graph Laplacian among unknown voxels, and (unknown number, flat index of known voxel) of every mixed face."""
    count = int((~mask).sum())
    flat = np.arange(mask.size).reshape(mask.shape)
    ones, pairs, rows, columns = np.zeros(count), [], [], []
    for axis in range(3):
        low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        for here, there in ((low, high), (high, low)):
            face = ~mask[here]
            np.add.at(ones, unknown[here][face], 1.0)
            both = face & ~mask[there]
            pairs.append(np.stack([unknown[here][both], unknown[there][both]]))
            mixed = face & mask[there]
            rows.append(unknown[here][mixed])
            columns.append(flat[there][mixed])
    links = np.concatenate(pairs, axis=1)
    off = sparse.coo_matrix((-np.ones(links.shape[1]), (links[0], links[1])), shape=(count, count))
    return (off + sparse.diags(ones)).tocsr(), (np.concatenate(rows), np.concatenate(columns))


def _brackets(
    mask: Bool[np.ndarray, "nx ny nz"], axis: int
) -> tuple[Int[np.ndarray, "nx ny nz"], Int[np.ndarray, "nx ny nz"], Float[np.ndarray, "nx ny nz"]]:
    """Index along `axis` of the last known voxel at or before and of the first at or after, and the position between.

    The index is -1 or the length of the axis where there is none.
    """
    length = mask.shape[axis]
    position = np.arange(length).reshape([-1 if a == axis else 1 for a in range(3)])
    lower = np.maximum.accumulate(np.where(mask, position, -1), axis=axis)
    reverse = np.flip(np.where(mask, position, length), axis=axis)
    upper = np.flip(np.minimum.accumulate(reverse, axis=axis), axis=axis)
    weight = (position - lower) / np.maximum(upper - lower, 1)
    return lower, upper, weight


def _gather(
    values: Shaped[ArrayLike, "nx ny nz c"],
    index: Int[np.ndarray, "nx ny nz"],
    axis: int,
    where: Bool[np.ndarray, "nx ny nz"],
) -> Shaped[np.ndarray, "n c"]:
    """Values at the voxels of `where`, taken from position `index` along `axis` of their own column."""
    place = list(np.nonzero(where))
    place[axis] = index[where]
    return np.asarray(values)[tuple(place)]
