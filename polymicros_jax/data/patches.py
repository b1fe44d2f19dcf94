"""Random patches of orientation fields, for training.

The batch of a step is a pure function of (seed, step): a resumed run sees the patches an unbroken one would have seen,
and a process of a larger run can make its share alone. No JAX in here but for a small table made once.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float

from polymicros_jax.data.errors import DataError
from polymicros_jax.orientation import quaternion


@runtime_checkable
class FieldSource(Protocol):
    """Fields that patches are cut from: in memory, or in a store on disk."""

    @property
    def shapes(self) -> Sequence[tuple[int, int, int]]:
        """Grid of each field."""
        ...

    @property
    def channels(self) -> int:
        """Channels of every field."""
        ...

    def read_patch(self, index: int, origin: tuple[int, int, int], size: int) -> Float[np.ndarray, "s s s h"]:
        """The cube of side ``size`` that starts at ``origin`` in field ``index``."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class MemoryFields:
    """Fields held in memory, each ``(nx, ny, nz, h)``."""

    fields: tuple[np.ndarray, ...]

    @property
    def shapes(self) -> Sequence[tuple[int, int, int]]:
        """Grid of each field."""
        return tuple(field.shape[:3] for field in self.fields)

    @property
    def channels(self) -> int:
        """Channels of every field."""
        return self.fields[0].shape[-1]

    def read_patch(self, index: int, origin: tuple[int, int, int], size: int) -> Float[np.ndarray, "s s s h"]:
        """The cube of side ``size`` that starts at ``origin`` in field ``index``."""
        x, y, z = origin
        return self.fields[index][x : x + size, y : y + size, z : z + size]


@dataclasses.dataclass(frozen=True, eq=False)
class JoinedFields:
    """Fields of several sources, one after the other.

    Raises:
      DataError: the sources disagree on the number of channels.

    >>> joined = JoinedFields((MemoryFields((np.zeros((4, 4, 4, 1)),)), MemoryFields((np.ones((6, 6, 6, 1)),))))
    >>> joined.shapes, float(joined.read_patch(1, (0, 0, 0), 2).mean())
    (((4, 4, 4), (6, 6, 6)), 1.0)
    """

    sources: tuple[FieldSource, ...]

    def __post_init__(self) -> None:
        """Checks the channels."""
        found = [source.channels for source in self.sources]
        if len(set(found)) != 1:
            raise DataError(f"fields: found {found} channels, accepted is one number for all")

    @property
    def shapes(self) -> Sequence[tuple[int, int, int]]:
        """Grid of each field."""
        return tuple(shape for source in self.sources for shape in source.shapes)

    @property
    def channels(self) -> int:
        """Channels of every field."""
        return self.sources[0].channels

    def read_patch(self, index: int, origin: tuple[int, int, int], size: int) -> Float[np.ndarray, "s s s h"]:
        """The cube of side ``size`` that starts at ``origin`` in field ``index``."""
        for source in self.sources:
            if index < len(source.shapes):
                break
            index -= len(source.shapes)
        return source.read_patch(index, origin, size)


@dataclasses.dataclass(frozen=True, eq=False)
class CubeSymmetries:
    """The 48 rotations and reflections of the grid, as they act on positions and on channels.

    Turning a piece of material turns its crystals too: voxel values change by the matrix that represents the turn on
    the channels. A reflection acts on the channels as the rotation it contains, because the harmonics of a
    centrosymmetric Laue group are even.

    Attributes:
      permutations: ``(48, 3)``, axis of the old grid that becomes each axis of the new one.
      flips: ``(48, 3)``, whether the new axis runs backwards.
      channel_matrices: ``(48, H, H)``.
    """

    permutations: np.ndarray
    flips: np.ndarray
    channel_matrices: np.ndarray

    def apply(self, number: int, patch: Float[np.ndarray, "n n n h"]) -> Float[np.ndarray, "n n n h"]:
        """The patch turned by operation ``number``."""
        turned = np.transpose(patch, (*self.permutations[number], 3))
        turned = np.flip(turned, axis=tuple(np.flatnonzero(self.flips[number])))
        return turned @ self.channel_matrices[number].T


def cube_symmetries(sample_rotation: Callable[[np.ndarray], Float[Array, "h h"]]) -> CubeSymmetries:
    """Table of the grid's 48 symmetries for one representation.

    Args:
      sample_rotation: matrix on the channels of a change of sample frame, e.g. `orientation.embedding.sample_rotation`.

    >>> from polymicros_jax.orientation.embedding import sample_rotation
    >>> symmetries = cube_symmetries(sample_rotation)
    >>> [np.shape(table)[0] for table in vars(symmetries).values()]
    [48, 48, 48]
    """
    permutations, flips, matrices = [], [], []
    for axes in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            turn = np.zeros((3, 3))
            turn[range(3), axes] = signs
            proper = turn * np.linalg.det(turn)
            # New coordinates are turn @ old ones; the quaternion maps new to old.
            new_to_old = quaternion.from_matrix(proper.T.astype(np.float32))
            permutations.append(axes)
            flips.append([sign < 0 for sign in signs])
            matrices.append(np.asarray(sample_rotation(np.asarray(new_to_old))))
    return CubeSymmetries(np.array(permutations), np.array(flips), np.stack(matrices).astype(np.float32))


def check_sizes(source: FieldSource, size: int) -> None:
    """Refuses patches larger than a field.

    Raises:
      DataError: naming the field and its grid.

    >>> check_sizes(MemoryFields((np.zeros((8, 8, 4, 1)),)), 6)
    Traceback (most recent call last):
        ...
    polymicros_jax.data.errors.DataError: field 0 has the grid (8, 8, 4): smaller than a patch of 6^3
    """
    for index, shape in enumerate(source.shapes):
        if min(shape) < size:
            raise DataError(f"field {index} has the grid {shape}: smaller than a patch of {size}^3")


def batch(
    source: FieldSource,
    *,
    seed: int,
    step: int,
    count: int,
    size: int,
    symmetries: CubeSymmetries | None = None,
    weights: Sequence[float] | None = None,
    first: int = 0,
) -> Float[np.ndarray, "count size size size h"]:
    """Patches of training step ``step``, uniform over the positions within a field.

    Args:
      source: where the patches come from.
      seed: of the run.
      step: of the run.
      count: number of patches to return.
      size: side of a patch in voxels.
      symmetries: turns each patch by a random symmetry of the grid.
      weights: share of the patches cut from each field; by default uniform over the positions of all fields.
      first: number of the first patch within the step; a process that makes patches ``first .. first + count`` of a
        larger batch gets exactly those.

    Raises:
      DataError: the weights are not one for each field, or are not shares.

    >>> ramp = MemoryFields((np.arange(16.0).reshape(16, 1, 1, 1) * np.ones((16, 4, 4, 1)),))
    >>> patches = batch(ramp, seed=0, step=7, count=3, size=4)
    >>> patches.shape, bool((batch(ramp, seed=0, step=7, count=1, size=4, first=2) == patches[2:]).all())
    ((3, 4, 4, 4, 1), True)
    """
    if weights is None:
        weights = [float(np.prod([n - size + 1 for n in shape])) for shape in source.shapes]
    if len(weights) != len(source.shapes) or min(weights) < 0 or not 0 < sum(weights) < np.inf:
        raise DataError(
            f"weights: found {tuple(weights)}, accepted is a finite weight of at least zero for each of the "
            f"{len(source.shapes)} fields, not all zero"
        )
    shares = np.asarray(weights) / np.sum(weights)
    patches = []
    for number in range(first, first + count):
        rng = np.random.default_rng((seed, step, number))
        index = int(rng.choice(len(shares), p=shares))
        x, y, z = (int(rng.integers(n - size + 1)) for n in source.shapes[index])
        patch = source.read_patch(index, (x, y, z), size)
        patches.append(symmetries.apply(int(rng.integers(48)), patch) if symmetries is not None else patch)
    return np.ascontiguousarray(np.stack(patches), dtype=np.float32)


def grid_of_patches(source: FieldSource, *, size: int, stride: int) -> Float[np.ndarray, "count size size size h"]:
    """All patches at multiples of ``stride``, for validation.

    >>> grid_of_patches(MemoryFields((np.zeros((16, 16, 8, 9)),)), size=8, stride=8).shape
    (4, 8, 8, 8, 9)
    """
    patches = []
    for index, shape in enumerate(source.shapes):
        starts = [range(0, n - size + 1, stride) for n in shape]
        for x, y, z in itertools.product(*starts):
            patches.append(source.read_patch(index, (x, y, z), size))
    return np.stack(patches).astype(np.float32)
