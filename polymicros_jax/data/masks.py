"""Which voxels of a volume a reconstruction is given."""

import dataclasses

import numpy as np
from jaxtyping import Bool

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
    """
    number, along = _axis(axis), np.arange(shape[_axis(axis)])
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
    """
    if not all(0 <= a < b <= n for a, b, n in zip(start, stop, shape, strict=True)):
        raise DataError(f"box: found {tuple(start)} to {tuple(stop)}, accepted lies inside {shape} and is not empty")
    mask = np.ones(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = False
    return mask


def orthogonal_slices(shape: tuple[int, int, int]) -> Bool[np.ndarray, "nx ny nz"]:
    """The three sections through the middle."""
    mask = np.zeros(shape, bool)
    x, y, z = (n // 2 for n in shape)
    mask[x], mask[:, y], mask[:, :, z] = True, True, True
    return mask


def insert_slices(volume: OrientationVolume, axis: str, factor: int) -> OrientationVolume:
    """A stack of measured sections on a grid with ``factor - 1`` unobserved ones between each two.

    For a serial-section scan whose section distance is ``factor`` times the step that is wanted.

    Raises:
      DataError: a factor below 2, or fewer than two sections.
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
