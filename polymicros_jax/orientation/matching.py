"""Which orientations belong together: grain means, distances, close pairs and the groups that pairs join.

Host-side and in float64: these serve the labelling steps of metrics and interpolation, whose sizes depend on the data.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from polymicros_jax.orientation.groups import operators


def pairwise_disorientation(
    a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "m 4"], group: str = "432"
) -> Float[np.ndarray, "n m"]:
    """Disorientation in radians of every pair of two lists of quaternions.

    The scalar part of `s a conj(b)` is the inner product of `s a` with `b`, so each symmetry operation costs one matrix
    product. Reads to 2e-8 rad: the arc cosine squares the rounding of float64.

    >>> cube, twin = np.array([[1.0, 0.0, 0.0, 0.0], [np.sqrt(3) / 2, *([0.5 / np.sqrt(3)] * 3)]])
    >>> np.degrees(pairwise_disorientation(np.stack([cube, twin]), np.stack([cube, twin]))).round(2).tolist()
    [[0.0, 60.0], [60.0, 0.0]]
    """
    a, b = _unit(a), _unit(b)
    best = np.zeros((len(a), len(b)))
    for turned in _equivalents(a, group):
        np.maximum(best, np.abs(turned @ b.T), out=best)
    return 2.0 * np.arccos(np.minimum(best, 1.0))


def close_pairs(q: Float[np.ndarray, "n 4"], threshold: float, group: str = "432") -> Int[np.ndarray, "pairs 2"]:
    """Pairs (i, j), i < j, of a list that lie closer than `threshold` radians, without forming all n^2 distances.

    A disorientation of t is an angle t/2 between unit quaternions, a chord of 2 sin(t/4): a k-d tree over all
    equivalent quaternions finds the neighbours.

    >>> about_z = np.radians([0.0, 3.0, 45.0, 88.0])
    >>> q = np.stack([np.cos(about_z / 2), 0 * about_z, 0 * about_z, np.sin(about_z / 2)], axis=-1)
    >>> close_pairs(q, np.radians(5.0)).tolist()  # 0 and 88 degrees about z are 2 degrees apart for a cube
    [[0, 1], [0, 3]]
    """
    q = _unit(q)
    turned = np.concatenate(list(_equivalents(q, group)))
    everything = np.concatenate([turned, -turned])
    radius = 2.0 * np.sin(threshold / 4.0)
    found = cKDTree(everything).query_ball_point(q, radius)
    pairs = [(i, j % len(q)) for i, near in enumerate(found) for j in near]
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return np.unique(table[table[:, 0] < table[:, 1]], axis=0)


def components(start: Int[np.ndarray, " e"], stop: Int[np.ndarray, " e"], count: int) -> Int[np.ndarray, " n"]:
    """Component number of each of `count` nodes joined by edges from `start` to `stop`.

    >>> components(np.array([0, 3]), np.array([2, 1]), 5).tolist()
    [0, 1, 0, 1, 2]
    """
    graph = sparse.coo_matrix((np.ones(len(start), dtype=bool), (start, stop)), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def align(
    q: Float[np.ndarray, "n 4"], reference: Float[np.ndarray, "n 4"], group: str = "432"
) -> Float[np.ndarray, "n 4"]:
    """The symmetrically equivalent quaternion (sign included) of each `q` that lies nearest to its `reference`.

    >>> quarter = np.sqrt([[0.5, 0.0, 0.0, 0.5]])
    >>> align(quarter, np.array([[1.0, 0.0, 0.0, 0.0]])).round(3).tolist()
    [[1.0, 0.0, 0.0, 0.0]]
    """
    q, reference = _unit(q), _unit(reference)
    best, score = q.copy(), np.einsum("nc,nc->n", q, reference)
    # No rotation of any group is smaller than 60 degrees: what lies within 30 degrees already is the nearest.
    far = np.flatnonzero(np.abs(score) < np.cos(np.pi / 12))
    for turned in _equivalents(q[far], group):
        product = np.einsum("nc,nc->n", turned, reference[far])
        nearer = np.abs(product) > np.abs(score[far])
        best[far[nearer]], score[far[nearer]] = turned[nearer], product[nearer]
    return np.where(score[:, None] < 0, -best, best)


def group_means(
    q: Float[np.ndarray, "n 4"], labels: Int[np.ndarray, " n"], count: int, group: str = "432"
) -> Float[np.ndarray, "count 4"]:
    """Mean orientation of each label 0 .. count-1.

    All members are brought next to the first member of their label, then averaged and normalised: right for spreads
    well below the distance between equivalent orientations, that is for grains. Labels without members get the
    identity.

    >>> about_z = np.radians([4.0, 86.0 + 90.0, 60.0])
    >>> q = np.stack([np.cos(about_z / 2), 0 * about_z, 0 * about_z, np.sin(about_z / 2)], axis=-1)
    >>> mean = group_means(q, np.array([0, 0, 1]), 2)
    >>> np.degrees(2 * np.arctan2(mean[:, 3], mean[:, 0])).round(2).tolist()  # 4 and -4 degrees; 60 alone
    [0.0, 60.0]
    """
    members, first = np.unique(labels, return_index=True)
    seed = np.tile(np.array([1.0, 0.0, 0.0, 0.0]), (count, 1))
    seed[members] = _unit(q[first])
    near = align(q, seed[labels], group)
    total = np.stack([np.bincount(labels, weights=near[:, i], minlength=count) for i in range(4)], axis=-1)
    empty = np.bincount(labels, minlength=count) == 0
    total[empty] = seed[empty]
    return _unit(total)


def _equivalents(q: Float[np.ndarray, "n 4"], group: str) -> Iterator[Float[np.ndarray, "n 4"]]:
    """`s q` for every operation `s` of the group, one at a time so that memory stays that of the list."""
    for w, x, y, z in operators(group).tolist():
        # Left multiplication by (w, x, y, z) as a matrix.
        left = np.array([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]])
        yield q @ left.T


def _unit(q: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 4"]:
    """Unit length in float64; a zero quaternion (an unobserved voxel) becomes the identity, NaN stays NaN."""
    q = np.asarray(q, dtype=np.float64)
    length = np.linalg.norm(q, axis=-1, keepdims=True)
    zero = length == 0
    return np.where(zero, np.array([[1.0, 0.0, 0.0, 0.0]]), q / np.where(zero, 1.0, length))
