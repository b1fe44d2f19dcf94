"""Preparing a scan: doubtful points out, cubic voxels, holes filled where asked.

Nothing here invents an orientation: a filled voxel takes the orientation of an observed one.
"""

import dataclasses

import numpy as np
from scipy import ndimage

from polymicros_jax.data.errors import DataError
from polymicros_jax.data.volume import OrientationVolume, resample


def reject(volume: OrientationVolume, field: str, minimum: float) -> OrientationVolume:
    """Masks voxels whose `field` (confidence, image quality) is below `minimum` or not a number.

    Raises:
        DataError: the volume has no such field per voxel.

    >>> from polymicros_jax.data.samples import load
    >>> raw = load("in100_raw_slices")
    >>> cleaned = reject(raw, "confidence", 0.1)
    >>> bool(cleaned.mask.sum() < raw.mask.sum()), bool((cleaned.fields["confidence"][cleaned.mask] >= 0.1).all())
    (True, True)
    """
    values = volume.fields.get(field)
    if values is None or values.shape != volume.shape:
        known = [name for name, each in volume.fields.items() if each.shape == volume.shape]
        raise DataError(f"field: found {field!r}, accepted are {known}")
    return dataclasses.replace(volume, mask=volume.mask & (np.nan_to_num(values.astype(float), nan=-np.inf) >= minimum))


def to_cubic(volume: OrientationVolume, spacing: float | None = None) -> OrientationVolume:
    """Nearest orientation on cubic voxels, by default of the smallest edge there is (a map's z-step counts for
    nothing).

    >>> from polymicros_jax.data.samples import load
    >>> thinned = load("in100").crop((0, 0, 0), (8, 8, 8)).resample((0.25, 0.25, 0.5))
    >>> thinned.shape, to_cubic(thinned).shape
    ((8, 8, 4), (8, 8, 8))
    """
    edges = [h for h, n in zip(volume.spacing, volume.shape, strict=True) if n > 1] or list(volume.spacing)
    return resample(volume, min(edges) if spacing is None else spacing)


def fill(volume: OrientationVolume, max_distance: float | None = None) -> OrientationVolume:
    """Gives unobserved voxels the orientation, phase and fields of the nearest observed one.

    Filled voxels count as observed afterwards; the field ``filled`` marks them, and a field of that name that is
    already there is kept and added to. Ties are broken by the distance transform, not by chance.

    Args:
        volume: the volume.
        max_distance: in micrometres, centre to centre; voxels further from any observed one stay unobserved. None fills
            all.

    Raises:
        DataError: nothing was observed, or the distance is negative.

    >>> from polymicros_jax.data.samples import load
    >>> holes = load("in100").crop((0, 0, 0), (40, 40, 8))
    >>> whole = fill(holes)
    >>> int((~holes.mask).sum()), int((~whole.mask).sum()), int(whole.fields["filled"].sum())
    (1, 0, 1)
    """
    if not volume.mask.any():
        raise DataError("mask: found no observed voxel, accepted is at least one")
    if max_distance is not None and not max_distance >= 0:
        raise DataError(f"max_distance: found {max_distance}, accepted is a length in micrometres or None")
    distance, nearest = ndimage.distance_transform_edt(~volume.mask, sampling=volume.spacing, return_indices=True)
    near = np.ones(volume.shape, bool) if max_distance is None else distance <= max_distance * (1 + 1e-6)
    changed = near & ~volume.mask
    source = tuple(np.where(changed, index, own) for index, own in zip(nearest, np.indices(volume.shape), strict=True))
    before = volume.fields.get("filled", np.zeros(volume.shape, bool))
    return dataclasses.replace(
        volume,
        quaternions=volume.quaternions[source],
        phase=volume.phase[source],
        mask=volume.mask | near,
        fields={**{name: values[source] for name, values in volume.fields.items()}, "filled": before | changed},
    )
