"""Grains of a 2D or 3D orientation map: segmentation by disorientation, sizes, diameters, neighbours; on the host."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

from polymicros_jax.orientation.matching import components
from polymicros_jax.orientation.quaternion import disorientation
from polymicros_jax.types import ArrayLike

UNASSIGNED = -1
"""Label of voxels that belong to no grain: unobserved, or in a grain smaller than asked for."""


def faces(shape: tuple[int, ...], periodic: bool) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Pairs of index expressions that line up the two sides of all voxel faces, axis by axis.

    >>> number = np.arange(4)
    >>> [list(zip(number[one].tolist(), number[other].tolist())) for one, other in faces((4,), periodic=True)]
    [[(0, 1), (1, 2), (2, 3)], [(3, 0)]]
    """
    for axis, size in enumerate(shape):
        whole = [slice(None)] * len(shape)

        def at(piece: slice, axis: int = axis, whole: list[slice] = whole) -> tuple[slice, ...]:
            return (*whole[:axis], piece, *whole[axis + 1 :])

        if size > 1:
            yield at(slice(0, size - 1)), at(slice(1, size))
        if periodic and size > 2:  # two voxels across already share their only face
            yield at(slice(size - 1, size)), at(slice(0, 1))


def segment(
    q: Float[ArrayLike, "*grid 4"],
    threshold: float | int = float(np.radians(5.0)),
    group: str = "432",
    *,
    mask: Bool[ArrayLike, "..."] | None = None,
    periodic: bool = False,
    minimum_size: int = 1,
) -> Int[np.ndarray, "*grid"]:
    """Grain number of every voxel: voxels that share a face and differ by less than `threshold` belong together.

    Args:
        q: Orientations of a 2D or 3D map (any number of axes).
        threshold: Radians.
        group: Crystal symmetry.
        mask: Observed voxels; the others are `UNASSIGNED` and separate grains.
        periodic: Whether opposite sides of the map touch.
        minimum_size: Grains of fewer voxels are `UNASSIGNED`.

    Returns:
        int32 labels 0, 1, ... in the order of the first voxel of each grain, and `UNASSIGNED`.

    Raises:
        ValueError: the mask has another shape than the map, or a threshold above half a turn.

    >>> angle = np.array([[0.0, 0.0, 0.2], [0.01, 0.2, 0.2]])  # half of the turn about z, in radians
    >>> q = np.stack([np.cos(angle), 0 * angle, 0 * angle, np.sin(angle)], axis=-1)
    >>> segment(q).tolist()
    [[0, 0, 1], [0, 1, 1]]
    """
    if threshold > np.pi:
        raise ValueError(
            f"threshold: found {threshold}, accepted are radians up to pi; did you mean np.radians({threshold:g})?"
        )
    q = np.asarray(q)
    shape = q.shape[:-1]
    observed = np.ones(shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    if observed.shape != shape:
        raise ValueError(f"mask: found shape {observed.shape}; the map has {shape}")
    number = np.arange(observed.size, dtype=np.int32).reshape(shape)
    starts, stops = [], []
    for one, other in faces(shape, periodic):
        same = np.asarray(disorientation(q[one], q[other], group)) < threshold
        same &= observed[one] & observed[other]
        starts.append(number[one][same])
        stops.append(number[other][same])
    rows, columns = (np.concatenate(part) if part else np.zeros(0, np.int32) for part in (starts, stops))
    component = components(rows, columns, observed.size)
    kept = observed.ravel() & (np.bincount(component)[component] >= minimum_size)
    labels = np.full(observed.size, UNASSIGNED, dtype=np.int32)
    _, first, inverse = np.unique(component[kept], return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    labels[kept] = rank[inverse]
    return labels.reshape(shape)


def sizes(labels: Int[ArrayLike, "*grid"]) -> Int[np.ndarray, "grains"]:
    """Number of voxels of each grain 0, 1, ...

    >>> sizes(np.array([[0, 0, 1], [0, 2, 1]])).tolist()
    [3, 2, 1]
    """
    labels = np.asarray(labels)
    return np.bincount(labels[labels >= 0].ravel())


def equivalent_diameters(
    labels: Int[ArrayLike, "*grid"], spacing: float | int | tuple[float | int, ...] = 1.0
) -> Float[np.ndarray, "grains"]:
    """Diameter of the circle (2D) or sphere (3D) of equal area or volume, in the unit of `spacing`.

    Args:
        labels: Grain numbers; an axis of one voxel does not count, so a slice of a volume is 2D.
        spacing: Edge of a voxel, one number or one per axis.

    Raises:
        ValueError: the map is neither 2D nor 3D, or spacings and axes differ in number.

    >>> square = np.zeros((10, 10), int)
    >>> equivalent_diameters(square, spacing=0.5).round(3).tolist()  # a circle of 25 square micrometres
    [5.642]
    """
    labels = np.asarray(labels)
    edges = (float(spacing),) * labels.ndim if isinstance(spacing, int | float) else tuple(spacing)
    if len(edges) != labels.ndim:
        raise ValueError(f"spacing: found {len(edges)} numbers; the map has {labels.ndim} axes")
    extended = [edge for edge, size in zip(edges, labels.shape, strict=True) if size > 1]
    measure = sizes(labels) * float(np.prod(extended))
    if len(extended) == 2:
        return 2.0 * np.sqrt(measure / np.pi)
    if len(extended) == 3:
        return 2.0 * np.cbrt(3.0 * measure / (4.0 * np.pi))
    raise ValueError(f"labels: found {len(extended)} axes longer than one voxel; accepted are 2 or 3")


def neighbours(
    labels: Int[ArrayLike, "*grid"], *, periodic: bool = False
) -> tuple[Int[np.ndarray, "pairs 2"], Int[np.ndarray, "pairs"]]:
    """Pairs of grains `(i, j)`, i < j, that share voxel faces, sorted, and the number of faces they share.

    >>> pairs, faces = neighbours(np.array([[0, 0, 1], [0, 2, 1]]))
    >>> dict(zip(map(tuple, pairs.tolist()), faces.tolist(), strict=True))
    {(0, 1): 1, (0, 2): 2, (1, 2): 1}
    """
    labels = np.asarray(labels)
    found = []
    for one, other in faces(labels.shape, periodic):
        a, b = labels[one].ravel(), labels[other].ravel()
        differ = (a != b) & (a >= 0) & (b >= 0)
        found.append(np.sort(np.stack([a[differ], b[differ]], axis=1), axis=1))
    stacked = np.concatenate(found) if found else np.zeros((0, 2), labels.dtype)
    pairs, counts = np.unique(stacked, axis=0, return_counts=True)
    return pairs, counts


def boundary_share(labels: Int[ArrayLike, "*grid"], *, periodic: bool = False) -> float:
    """Share of the voxel faces that lie between two grains: boundary area per volume times the side of a voxel.

    On sections it is that of the volume they are cut from, so that single maps tell it. Up to the staircase of the
    voxels: a boundary has as many faces as its projections on the three planes have together. Faces of voxels without a
    grain do not count; NaN where no others are there.

    >>> boundary_share(np.array([[0, 0, 1], [0, 1, 1]]))  # 3 of 7
    0.42857142857142855
    """
    labels = np.asarray(labels)
    between = total = 0
    for one, other in faces(labels.shape, periodic):
        inside = (labels[one] >= 0) & (labels[other] >= 0)
        between += int(np.sum(inside & (labels[one] != labels[other])))
        total += int(np.sum(inside))
    return between / total if total else float("nan")


def boundary_disorientations(
    q: Float[ArrayLike, "*grid 4"],
    labels: Int[ArrayLike, "*grid"],
    group: str = "432",
    *,
    periodic: bool = False,
) -> Float[np.ndarray, "faces"]:
    """Disorientation, in radians, across every voxel face between two different grains: each boundary by its area.

    >>> angle = np.array([[0.0, 0.0, 0.1], [0.0, 0.1, 0.1]])
    >>> q = np.stack([np.cos(angle), 0 * angle, 0 * angle, np.sin(angle)], axis=-1)
    >>> boundary_disorientations(q, segment(q)).round(3).tolist()
    [0.2, 0.2, 0.2]
    """
    q, labels = np.asarray(q), np.asarray(labels)
    found = [np.zeros(0, q.dtype)]
    for one, other in faces(labels.shape, periodic):
        boundary = (labels[one] != labels[other]) & (labels[one] >= 0) & (labels[other] >= 0)
        found.append(np.asarray(disorientation(q[one][boundary], q[other][boundary], group)))
    return np.concatenate(found)
