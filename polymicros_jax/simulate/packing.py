"""Few sets for many grains: grains far apart share a set, so that fields are kept by set and not by grain.

This is a colouring of the graph of near grains. It is found on the host, greedily, largest degree first; "near" is
judged by blocks of voxels, which errs on the safe side.
"""

import numpy as np
from jaxtyping import Int
from scipy.sparse import csr_matrix, identity, kron

BLOCK = 4
"""Side of the blocks of voxels by which distances are judged."""


def pack(labels: Int[np.ndarray, "*shape"], distance: tuple[int, ...]) -> tuple[Int[np.ndarray, " grains"], int]:
    """A set for every grain, such that two grains of one set are further apart than ``distance`` along some axis.

    Args:
      labels: grain number of every voxel of a periodic grid, 0 to the largest that occurs.
      distance: in voxels along each axis: no voxel of one grain has a voxel of another grain of its set within a box of
        this reach.

    Returns:
      The set of each grain number (of those that do not occur, 0), and the number of sets.

    >>> stripes = np.repeat(np.arange(6), 4)  # a period of six grains of four voxels
    >>> sets, count = pack(stripes, (2,))
    >>> sets.tolist(), count  # neighbours differ
    ([0, 1, 0, 1, 0, 1], 2)
    """
    near = _near(labels, distance)
    count = near.shape[0]
    degree = np.diff(near.indptr)
    sets = np.full(count, -1, np.int32)
    for grain in np.argsort(-degree, kind="stable"):
        taken = set(sets[near.indices[near.indptr[grain] : near.indptr[grain + 1]]].tolist())
        sets[grain] = next(colour for colour in range(count + 1) if colour not in taken)
    present = np.zeros(count, bool)
    present[np.unique(labels)] = True
    return np.where(present, sets, 0).astype(np.int32), int(sets[present].max()) + 1


def _near(labels: np.ndarray, distance: tuple[int, ...]) -> csr_matrix:
    """Which pairs of different grains have blocks within reach of each other."""
    blocks = [-(-n // BLOCK) for n in labels.shape]
    block = np.zeros(labels.shape, np.int64)
    for axis, (n, count) in enumerate(zip(labels.shape, blocks, strict=True)):
        along = (np.arange(n) // BLOCK).reshape([-1 if a == axis else 1 for a in range(labels.ndim)])
        block = block * count + along
    pairs = np.unique(np.stack([block.ravel(), labels.ravel().astype(np.int64)], 1), axis=0)
    size = (int(np.prod(blocks)), int(labels.max()) + 1)
    holds = csr_matrix((np.ones(len(pairs), np.float32), (pairs[:, 0], pairs[:, 1])), shape=size)
    reach = identity(1, dtype=np.float32, format="csr")
    for n, count, voxels in zip(labels.shape, blocks, distance, strict=True):
        reach = kron(reach, _circulant(count, _block_reach(n, voxels)), format="csr")
    near = (holds.T @ (reach @ holds)).tocsr()
    near.setdiag(0)
    near.eliminate_zeros()
    return near


def _block_reach(voxels: int, distance: int) -> int:
    """Blocks apart that two voxels within ``distance`` can be; a last block cut short brings its neighbours closer."""
    return -(-distance // BLOCK) + (1 if voxels % BLOCK else 0)


def _circulant(count: int, reach: int) -> csr_matrix:
    """Which of ``count`` blocks on a ring are within ``reach`` of each other."""
    apart = np.abs(np.arange(count)[:, None] - np.arange(count)[None, :])
    return csr_matrix((np.minimum(apart, count - apart) <= reach).astype(np.float32))
