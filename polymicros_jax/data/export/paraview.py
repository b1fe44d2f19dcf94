"""A volume as VTK image data to look at: orientations, colours, and whatever was computed per voxel."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from polymicros_jax.data.export.vti import write_vti
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.orientation import ipf, quaternion
from polymicros_jax.types import ArrayLike

COLOURED = ("432", "622")
"""Groups that have an IPF colour key."""


def write_paraview(volume: OrientationVolume, path: str | Path, cells: Mapping[str, ArrayLike] | None = None) -> Path:
    """Writes orientations, IPF colours along x, y and z, phase, mask, the volume's own fields and further cell arrays.

    Orientations are written as quaternions and as Euler angles in degrees, lengths in micrometres.

    Args:
        volume: what to write.
        path: file, `.vti`.
        cells: further arrays per voxel, ``(nx, ny, nz)`` or ``(nx, ny, nz, c)``: errors, spreads. They win over arrays
            of the same name.

    Raises:
        DataError: an array has another grid or a type that VTK does not have.

    >>> from polymicros_jax.data.samples import load
    >>> volume = load("in100").crop((0, 0, 0), (6, 5, 4))
    >>> path = write_paraview(volume, "part.vti", {"error_degrees": np.zeros((6, 5, 4))})
    >>> [name in path.read_text() for name in ("ipf_z", "euler_degrees", "error_degrees")]
    [True, True, True]
    """
    euler = np.asarray(quaternion.to_euler(volume.quaternions))
    arrays: dict[str, ArrayLike] = {
        "quaternion": volume.quaternions,
        "euler_degrees": np.degrees(euler).astype(np.float32),
        **{f"ipf_{axis}": ipf_colours(volume, axis) for axis in "xyz"},
        "phase": volume.phase,
        "observed": volume.mask,
        **volume.fields,
        **(cells or {}),
    }
    comment = "lengths in micrometres; quaternions Bunge passive (w, x, y, z)"
    return write_vti(path, arrays, volume.spacing, comment=comment)


def ipf_colours(volume: OrientationVolume, axis: str | tuple[float | int, float | int, float | int]) -> np.ndarray:
    """IPF colours along a sample direction ("x", "y", "z" or any vector), ``(nx, ny, nz, 3)`` uint8.

    Black where nothing was observed and where no colour key exists for the phase.

    >>> q = np.zeros((1, 1, 1, 4))
    >>> q[..., 0] = 1.0
    >>> one = np.ones((1, 1, 1))
    >>> ipf_colours(OrientationVolume(q, one, one, (1.0, 1.0, 1.0)), "z").ravel().tolist()  # [001] is red
    [255, 0, 0]
    """
    colours = np.zeros((*volume.shape, 3), dtype=np.uint8)
    groups = volume.phase_groups
    for group in sorted(set(groups) & set(COLOURED)):
        numbers = [number for number, each in enumerate(groups, start=1) if each == group]
        chosen = volume.mask & np.isin(np.maximum(volume.phase, 1), numbers)
        if chosen.any():
            values = np.asarray(ipf.colours(volume.quaternions[chosen], axis, group))
            colours[chosen] = np.round(255 * values).astype(np.uint8)
    return colours
