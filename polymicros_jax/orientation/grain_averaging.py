"""Grains out of a field that changes gradually: the nearest field of constant grains, at a price for boundaries.

Orientations inside a measured grain hardly vary. In what a small prior draws they do, from one grain into the next, so
that a threshold of disorientation between neighbours finds one grain where the eye sees hundreds. `merge` looks for the
piecewise constant field of lowest energy (Mumford & Shah, Commun. Pure Appl. Math. 42, 577 (1989))

    E = sum over voxels |f - mean of its grain|^2 + cost * number of voxel faces between grains.

It begins with every voxel a grain and merges neighbours while that lowers E, those first that save most by face
(Koepfler, Lopez & Morel, SIAM J. Numer. Anal. 31, 282 (1994)). Grains of n and m voxels that share s faces merge where

    n m / (n + m) |mean_n - mean_m|^2 < cost * s.

On the host: the sizes depend on the data.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from polymicros_jax.orientation.grains import faces
from polymicros_jax.orientation.matching import components
from polymicros_jax.orientation.representation import Representation
from polymicros_jax.types import ArrayLike

HALVINGS = 5
"""The cost rises to its value in so many doublings, so that what is alike merges before what is merely small."""


def grain_averaged(
    field: Float[ArrayLike, "*grid h"], kind: Representation, boundary_cost: float = 0.5, *, periodic: bool = False
) -> tuple[Float[np.ndarray, "*grid h"], Int[np.ndarray, "*grid"]]:
    """The field with every voxel at the orientation of its grain's mean.

    Args:
      field: channels of orientations, or near them.
      kind: their representation, an invertible one.
      boundary_cost: what a voxel face between two grains costs, in units of the squared norm of an orientation. The
        larger, the fewer grains: a cube of L voxels that differs from all around by the norm stays a grain where
        L > 6 boundary_cost. The default hardly changes measured grains (1 % of Inconel 100); draws of small priors
        come nearer to their source with 1 (docs/design.md).
      periodic: whether opposite sides touch.

    Returns:
      The channels, and the number of the grain of each voxel.

    Raises:
      ValueError: the representation cannot be turned back into orientations, or the cost is negative.

    >>> from polymicros_jax.data.samples import load
    >>> from polymicros_jax.orientation import representation
    >>> kind = representation.get("gsh4")
    >>> part = kind.encode(load("generated_in100").quaternions[:16, :16, :16])
    >>> flat, labels = grain_averaged(part, kind)
    >>> int(labels.max()) + 1, len(np.unique(flat.reshape(-1, 9), axis=0))  # in 4096 voxels
    (31, 31)
    """
    if not kind.invertible:
        raise ValueError(f"representation: found {kind.name}, accepted is one that can be turned back: gsh4, hex27")
    labels, means = merge(field, boundary_cost * kind.norm**2, periodic=periodic)
    constant = np.asarray(kind.encode(kind.decode(means.astype(np.float32))[0]))
    return constant[labels], labels


def merge(
    field: Float[ArrayLike, "*grid h"], cost: float, *, periodic: bool = False
) -> tuple[Int[np.ndarray, "*grid"], Float[np.ndarray, "grains h"]]:
    """Grains of the energy above, and their means.

    Args:
      field: values of voxels on a grid of any number of axes.
      cost: of a voxel face between two grains, in squared units of the field. At 0 only equal values merge.
      periodic: whether opposite sides touch.

    Returns:
      int32 labels 0, 1, ... in the order of the first voxel of each grain, and the mean of each, float64. No two
      neighbouring grains are left whose merging would lower the energy.

    Raises:
      ValueError: the cost is negative or not finite.

    >>> merge(np.array([[0.0], [0.1], [0.2], [5.0], [5.1]]), 1.0)[0].tolist()
    [0, 0, 0, 1, 1]
    """
    if not 0 <= cost < np.inf:
        raise ValueError(f"cost: found {cost}, accepted is a finite number of at least 0")
    values = np.asarray(field, np.float64)
    shape, values = values.shape[:-1], values.reshape(-1, values.shape[-1])
    number = np.arange(len(values)).reshape(shape)
    sides = [np.stack([number[one].ravel(), number[other].ravel()], axis=1) for one, other in faces(shape, periodic)]
    pairs = np.concatenate([np.zeros((0, 2), int), *sides])
    # Equal values first: merged pair by pair, a row of them would take as many rounds as it has voxels.
    equal = pairs[np.all(values[pairs[:, 0]] == values[pairs[:, 1]], axis=1)]
    into = components(equal[:, 0], equal[:, 1], len(values))
    labels = into
    counts, sums, pairs, shared = _merged(into, np.ones(len(values)), values, pairs, np.ones(len(pairs)))
    for level in cost * 0.5 ** np.arange(HALVINGS, -1, -1):
        while (joined := _next_merges(level, counts, sums, pairs, shared)) is not None:
            labels = joined[labels]
            counts, sums, pairs, shared = _merged(joined, counts, sums, pairs, shared)
    return labels.reshape(shape).astype(np.int32), sums / counts[:, None]


def _merged(
    into: np.ndarray, counts: np.ndarray, sums: np.ndarray, pairs: np.ndarray, shared: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sizes, sums, neighbouring pairs and their faces once each region i has become part of region ``into[i]``."""
    regions = int(into.max()) + 1
    gather = sparse.csr_matrix((np.ones(len(into)), (into, np.arange(len(into)))), shape=(regions, len(into)))
    between = np.sort(into[pairs], axis=1)
    apart = between[:, 0] != between[:, 1]
    keys, position = np.unique(between[apart, 0] * regions + between[apart, 1], return_inverse=True)
    faces_between = np.bincount(position, shared[apart], minlength=len(keys))
    return gather @ counts, gather @ sums, np.stack([keys // regions, keys % regions], axis=1), faces_between


def _next_merges(
    cost: float, counts: np.ndarray, sums: np.ndarray, pairs: np.ndarray, shared: np.ndarray
) -> np.ndarray | None:
    """The region each becomes part of when all that are each other's best choice merge; None when nothing would."""
    means = sums / counts[:, None]
    one, other = pairs.T
    loss = counts[one] * counts[other] / (counts[one] + counts[other])
    loss = loss * np.sum(np.square(means[one] - means[other]), axis=1) / shared
    worth = loss < cost
    if not worth.any():
        return None
    one, other, loss = one[worth], other[worth], loss[worth]
    start, stop, price = np.concatenate([one, other]), np.concatenate([other, one]), np.concatenate([loss, loss])
    order = np.lexsort((stop, price, start))
    regions, first = np.unique(start[order], return_index=True)
    best = np.full(len(counts), -1)
    best[regions] = stop[order][first]
    mutual = regions[best[best[regions]] == regions]
    target = np.arange(len(counts))
    target[np.maximum(mutual, best[mutual])] = np.minimum(mutual, best[mutual])
    return np.unique(target, return_inverse=True)[1]
