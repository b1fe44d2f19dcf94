"""Which voxels of a volume a reconstruction is given."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from polymicros_jax.data.errors import DataError
from polymicros_jax.data.volume import OrientationVolume

AXES = "xyz"


def _axis(name: str) -> int:
    if name not in AXES or len(name) != 1:
        raise DataError(f"axis: found {name!r}, accepted are x, y, z")
    return AXES.index(name)


def every_slice(shape: tuple[int, int, int], axis: str, every: int, offset: int = 0) -> Bool[np.ndarray, "nx ny nz"]:
    """Sections ``offset, offset + every, ...`` along an axis.

    Raises:
      DataError: a step below 2 (everything is known), or an offset outside the volume.

    >>> every_slice((2, 2, 9), "z", 4)[0, 0].astype(int).tolist()
    [1, 0, 0, 0, 1, 0, 0, 0, 1]
    """
    number = _axis(axis)
    along = np.arange(shape[number])
    if every < 2:
        raise DataError(f"every: found {every}, accepted is at least 2")
    if not 0 <= offset < shape[number]:
        raise DataError(f"offset: found {offset}, accepted is 0 to {shape[number] - 1}")
    kept = (along >= offset) & ((along - offset) % every == 0)
    mask = np.zeros(shape, bool)
    mask[(slice(None),) * number + (kept,)] = True
    return mask


def random_voxels(shape: tuple[int, int, int], share: float, seed: int) -> Bool[np.ndarray, "nx ny nz"]:
    """Voxels kept independently with probability ``share``.

    Raises:
      DataError: a share outside 0 to 1, ends excluded.

    >>> known = random_voxels((32, 32, 32), 0.25, seed=0)
    >>> round(float(known.mean()), 2)
    0.25
    """
    if not 0.0 < share < 1.0:
        raise DataError(f"share: found {share}, accepted is between 0 and 1")
    return np.random.default_rng(seed).random(shape) < share


def without_box(
    shape: tuple[int, int, int], start: tuple[int, int, int], stop: tuple[int, int, int]
) -> Bool[np.ndarray, "nx ny nz"]:
    """Everything but the box ``start <= index < stop``.

    Raises:
      DataError: an empty box, or one that is not inside the volume.

    >>> known = without_box((8, 8, 8), (2, 2, 2), (6, 6, 6))
    >>> int((~known).sum())
    64
    """
    if not all(0 <= a < b <= n for a, b, n in zip(start, stop, shape, strict=True)):
        raise DataError(f"box: found {tuple(start)} to {tuple(stop)}, accepted lies inside {shape} and is not empty")
    mask = np.ones(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = False
    return mask


def sections_at(shape: tuple[int, int, int], axis: str, positions: Sequence[int]) -> Bool[np.ndarray, "nx ny nz"]:
    """Sections at stated positions along an axis, whatever their distances.

    Raises:
      DataError: none, or one outside the volume, or positions that do not rise.

    >>> sections_at((2, 2, 6), "z", [0, 1, 5])[0, 0].astype(int).tolist()
    [1, 1, 0, 0, 0, 1]
    """
    number = _axis(axis)
    if not positions or not all(0 <= each < shape[number] for each in positions):
        raise DataError(f"positions: found {tuple(positions)}, accepted are numbers from 0 to {shape[number] - 1}")
    if any(b <= a for a, b in itertools.pairwise(positions)):
        raise DataError(f"positions: found {tuple(positions)}, accepted are numbers that rise")
    mask = np.zeros(shape, bool)
    mask[(slice(None),) * number + (list(positions),)] = True
    return mask


def scattered_gaps(
    observed: Bool[np.ndarray, "nx ny nz"],
    boundaries: Bool[np.ndarray, "nx ny nz"],
    share: float,
    seed: int,
    size: float = 1.5,
) -> Bool[np.ndarray, "nx ny nz"]:
    """Everything but a share of the observed voxels, lost as indexing loses points: in clusters, most at boundaries.

    White noise smoothed over ``size`` voxels, raised by one standard deviation at ``boundaries``, loses its highest
    values. To measure on a complete scan how well gaps are repaired.

    Raises:
      DataError: a share outside 0 to 1, ends excluded, or a size that is not above zero.

    >>> everything = np.ones((20, 20, 20), bool)
    >>> known = scattered_gaps(everything, ~everything, 0.1, seed=0)
    >>> round(float(1 - known.mean()), 2)
    0.1
    """
    if not 0.0 < share < 1.0:
        raise DataError(f"share: found {share}, accepted is between 0 and 1")
    if not size > 0.0:
        raise DataError(f"size: found {size}, accepted is a number of voxels above 0")
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=observed.shape), size, mode="wrap")
    height = noise / noise.std() + boundaries
    lost = height > np.quantile(height[observed], 1.0 - share)
    return observed & ~lost


def require_meaning(
    known: Bool[np.ndarray, "nx ny nz"], observed: Bool[np.ndarray, "nx ny nz"], *, unequal: bool = False
) -> Bool[np.ndarray, "nx ny nz"]:
    """The voxels that are both selected and observed, if filling the others is a task at all.

    Args:
      known: selected voxels.
      observed: voxels the scan holds.
      unequal: whether sections of different distance are meant.

    Raises:
      DataError: no voxel is known; every voxel is; whole sections are missing and the known ones lie at different
        distances, which nobody said.

    >>> known = every_slice((4, 4, 9), "z", 4)
    >>> bool((require_meaning(known, np.ones((4, 4, 9), bool)) == known).all())
    True
    """
    both = known & observed
    if not both.any():
        raise DataError("mask: keeps no observed voxel, so there is nothing to fill the others from")
    if both.all():
        raise DataError("mask: keeps every voxel, nothing is missing")
    for axis in range(3):
        planes = np.flatnonzero(known.any(axis=tuple(a for a in range(3) if a != axis)))
        steps = np.unique(np.diff(planes))
        if len(planes) < known.shape[axis] and len(steps) > 1 and not unequal:
            raise DataError(
                f"mask: known sections along {AXES[axis]} lie {', '.join(map(str, steps.tolist()))} voxels apart; "
                "accepted are sections of one distance, or positions that say so"
            )
    return both


def orthogonal_slices(shape: tuple[int, int, int]) -> Bool[np.ndarray, "nx ny nz"]:
    """The three sections through the middle.

    >>> int(orthogonal_slices((5, 5, 5)).sum())  # three planes of 25, less the lines they share
    61
    """
    mask = np.zeros(shape, bool)
    x, y, z = (n // 2 for n in shape)
    mask[x], mask[:, y], mask[:, :, z] = True, True, True
    return mask


def insert_slices(volume: OrientationVolume, axis: str, factor: int) -> OrientationVolume:
    """A stack of measured sections on a grid with ``factor - 1`` unobserved ones between each two.

    For a serial-section scan whose section distance is ``factor`` times the step that is wanted.

    Raises:
      DataError: a factor below 2, or fewer than two sections.

    >>> from polymicros_jax.data.samples import load
    >>> stack = load("in100").crop((0, 0, 0), (4, 4, 3))
    >>> spread = insert_slices(stack, "z", 4)
    >>> spread.shape, spread.mask[0, 0].astype(int).tolist(), spread.spacing
    ((4, 4, 9), [1, 0, 0, 0, 1, 0, 0, 0, 1], (0.25, 0.25, 0.0625))
    """
    number = _axis(axis)
    if factor < 2:
        raise DataError(f"every: found {factor}, accepted is at least 2")
    if volume.shape[number] < 2:
        raise DataError(f"volume has {volume.shape[number]} section along {axis}: at least 2 are needed")

    def spread(values: np.ndarray) -> np.ndarray:
        shape = list(values.shape)
        shape[number] = (shape[number] - 1) * factor + 1
        wide = np.zeros(shape, values.dtype)
        wide[(slice(None),) * number + (slice(None, None, factor),)] = values
        return wide

    x, y, z = (h / factor if a == number else h for a, h in enumerate(volume.spacing))
    return dataclasses.replace(
        volume,
        quaternions=spread(volume.quaternions),
        phase=spread(volume.phase),
        mask=spread(volume.mask),
        spacing=(x, y, z),
        fields={name: spread(values) for name, values in volume.fields.items()},
        provenance={**volume.provenance, "inserted": f"{factor - 1} unobserved sections between each two along {axis}"},
    )
