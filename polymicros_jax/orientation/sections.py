"""Masks in which whole sections are missing, and the plainest fill: copying the nearest known voxel."""

import numpy as np
from jaxtyping import Bool, Shaped
from scipy import ndimage

from polymicros_jax.types import ArrayLike


def missing_axis(known: Bool[ArrayLike, "nx ny nz"]) -> int | None:
    """The axis along which whole sections are missing, or None where the gaps have no such direction.

    Sections that hold any known voxel count as measured, so a stack with unindexed points still has its axis.

    Raises:
        ValueError: nothing is known, or nothing is missing.

    >>> known = np.zeros((4, 4, 9), bool)
    >>> known[:, :, ::4] = True
    >>> missing_axis(known)
    2
    """
    mask = np.asarray(known)
    if not mask.any():
        raise ValueError("known: no voxel is True; at least one known voxel is needed to fill the others from")
    if mask.all():
        raise ValueError("known: every voxel is True; there is nothing to fill")
    axes = [axis for axis in range(3) if not sections(mask, axis).all()]
    return axes[0] if len(axes) == 1 else None


def nearest_known(
    values: Shaped[ArrayLike, "nx ny nz c"],
    known: Bool[ArrayLike, "nx ny nz"],
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Shaped[np.ndarray, "nx ny nz c"]:
    """Copies the nearest known voxel: the nearest section where whole sections are missing, else by Euclidean distance.

    A voxel half-way between two sections takes the one with the lower index; ties of the Euclidean search, for which
    voxels have the given spacing, are broken by SciPy's distance transform, the same way every time.

    Raises:
        ValueError: nothing is known, or nothing is missing.

    >>> known = np.array([True, False, False, False, True]).reshape(1, 1, 5)
    >>> nearest_known(np.arange(5.0).reshape(1, 1, 5, 1), known).ravel().tolist()
    [0.0, 0.0, 0.0, 4.0, 4.0]
    """
    filled = np.array(values)
    mask = np.asarray(known)
    axis = missing_axis(mask)
    if axis is not None and whole_sections(mask, axis):
        planes = np.flatnonzero(sections(mask, axis))
        distance = np.abs(np.arange(mask.shape[axis])[:, None] - planes[None, :])
        return np.take(filled, planes[distance.argmin(axis=1)], axis=axis)
    source = ndimage.distance_transform_edt(~mask, sampling=spacing, return_distances=False, return_indices=True)
    return filled[tuple(source)]


def sections(mask: Bool[np.ndarray, "nx ny nz"], axis: int) -> Bool[np.ndarray, " n"]:
    """Which sections normal to `axis` hold a known voxel.

    >>> known = np.zeros((2, 2, 5), bool)
    >>> known[0, 0, ::2] = True
    >>> sections(known, 2).tolist()
    [True, False, True, False, True]
    """
    return np.asarray(mask.any(axis=tuple(a for a in range(3) if a != axis)))


def whole_sections(mask: Bool[np.ndarray, "nx ny nz"], axis: int) -> bool:
    """Whether each section normal to `axis` is known completely or not at all.

    >>> known = np.zeros((2, 2, 5), bool)
    >>> known[:, :, ::2] = True
    >>> whole_sections(known, 2), whole_sections(known, 0)
    (True, False)
    """
    others = tuple(a for a in range(3) if a != axis)
    return bool((mask.any(axis=others) == mask.all(axis=others)).all())


def require_axis(mask: Bool[np.ndarray, "nx ny nz"], method: str) -> int:
    """`missing_axis`, or a ValueError that names the method which cannot do without one.

    >>> known = np.zeros((4, 4, 9), bool)
    >>> known[:, :, ::4] = True
    >>> require_axis(known, "shape-based interpolation")
    2
    """
    axis = missing_axis(mask)
    if axis is None:
        raise ValueError(
            f"{method}: needs whole sections missing along one of x, y, z, got a mask without such an axis; "
            "nearest_known and linear accept any mask"
        )
    return axis
