"""A volume as VTK image data to look at: orientations, colours, and whatever was computed per voxel."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from polymicros_jax.data.export.vti import write_vti
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.orientation import quaternion
from polymicros_jax.types import ArrayLike


def write_paraview(volume: OrientationVolume, path: str | Path, cells: Mapping[str, ArrayLike] | None = None) -> Path:
    """Writes quaternions, Euler angles in degrees, phase, mask, the volume's own fields and further cell arrays;
    lengths in micrometres.

    Args:
        volume: what to write.
        path: file, `.vti`.
        cells: further arrays per voxel, ``(nx, ny, nz)`` or ``(nx, ny, nz, c)``: IPF colours (uint8), errors, spreads.
            They win over arrays of the same name.

    Raises:
        DataError: an array has another grid or a type that VTK does not have.
    """
    euler = np.asarray(quaternion.to_euler(volume.quaternions))
    arrays: dict[str, ArrayLike] = {
        "quaternion": volume.quaternions,
        "euler_degrees": np.degrees(euler).astype(np.float32),
        "phase": volume.phase,
        "observed": volume.mask,
        **volume.fields,
        **(cells or {}),
    }
    return write_vti(
        path, arrays, volume.spacing, comment="lengths in micrometres; quaternions Bunge passive (w, x, y, z)"
    )
