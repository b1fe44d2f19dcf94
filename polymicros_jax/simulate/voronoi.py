"""Periodic Voronoi tessellations: a start for grain growth, and the plainest synthetic polycrystal to compare with."""

import numpy as np
from jaxtyping import Int
from scipy.spatial import cKDTree


def voronoi(
    seed: int, shape: tuple[int, ...], grains: int, aspect: tuple[float, ...] | None = None
) -> Int[np.ndarray, "*shape"]:
    """Grain number of every voxel: the nearest of ``grains`` points that lie at random in the periodic box.

    Args:
      seed: of the points; the result is a function of the arguments alone.
      shape: grid, 2D or 3D.
      grains: number of points; grains that hold the centre of no voxel do not occur.
      aspect: relative length of a grain along each axis; 1 by default. Distances are measured in axes divided by it.

    Raises:
      ValueError: fewer than one grain, or an aspect that does not fit.

    >>> labels = voronoi(0, (32, 32), 20)
    >>> labels.shape, len(np.unique(labels))
    ((32, 32), 20)
    """
    stretch = checked_aspect(aspect, len(shape))
    if grains < 1:
        raise ValueError(f"grains: found {grains}, accepted is at least 1")
    box = np.array(shape) / stretch
    points = np.random.default_rng(seed).random((grains, len(shape))) * box
    centres = np.stack(np.meshgrid(*[np.arange(n) + 0.5 for n in shape], indexing="ij"), -1) / stretch
    _, nearest = cKDTree(points, boxsize=box).query(centres.reshape(-1, len(shape)))
    return np.asarray(nearest, np.int32).reshape(shape)


def checked_aspect(aspect: tuple[float, ...] | None, axes: int) -> np.ndarray:
    """Relative lengths of grains as an array with one positive number an axis.

    Raises:
      ValueError: another number of entries, or one that is not positive.

    >>> checked_aspect(None, 3).tolist(), checked_aspect((1.0, 1.0, 2.0), 3).tolist()
    ([1.0, 1.0, 1.0], [1.0, 1.0, 2.0])
    """
    stretch = np.ones(axes) if aspect is None else np.asarray(aspect, float)
    if stretch.shape != (axes,) or not (stretch > 0).all():
        raise ValueError(f"aspect: found {aspect}, accepted are {axes} positive numbers")
    return stretch
